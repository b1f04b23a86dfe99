//! The queries that reproduce a finding's numbers from the tables `operations` and `signals`.
//!
//! *Invariants.* What a query counts is what [`crate::totals`] counts: rows of the same versions, times and names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use plimsoll_model::presence::Distinct;
use plimsoll_model::signal::{Fingerprint, Histogram, OperationKind, WEIGHT_UNIT};
use plimsoll_model::{Interval, ServiceKey};

use crate::measured::{self, Source};

mod level;
mod place;
mod zones;

pub(crate) use level::metric;
pub(crate) use place::place;
pub(crate) use zones::errors_by_zone;

/// Which rows belong to which arm.
#[derive(Debug, Clone)]
pub(crate) struct Scope<'a> {
    pub(crate) service: &'a ServiceKey,
    /// Names of the operation, now and where it was renamed before; empty means all operations.
    pub(crate) operations: Vec<&'a str>,
    /// `None` means all kinds.
    pub(crate) kind: Option<OperationKind>,
    /// The flag whose variants are compared, instead of versions.
    pub(crate) flag: Option<&'a str>,
    /// True where requests are counted by the weights of sampled spans.
    pub(crate) weighted: bool,
    /// True where log records are counted in place of requests.
    pub(crate) records: bool,
    /// The metric that counts requests, where spans do not.
    pub(crate) metric: Option<&'a Source>,
    /// Attributes by version, where points and not their resource name versions.
    pub(crate) named: Option<&'a BTreeMap<String, BTreeSet<String>>>,
    /// Versions of the candidate; empty means all.
    pub(crate) candidate: BTreeSet<&'a str>,
    pub(crate) candidate_span: Interval,
    /// Versions of the control; empty means all.
    pub(crate) control: BTreeSet<&'a str>,
    pub(crate) control_span: Interval,
    /// Times within that which are left out.
    pub(crate) without: Vec<Interval>,
}

/// What tells the versions of rows apart.
#[derive(Debug, Clone, Copy)]
enum By<'a> {
    Version,
    Variant,
    /// Attributes of points, of which those in the second part matter.
    Detail(&'a BTreeMap<String, BTreeSet<String>>, Option<&'a BTreeSet<String>>),
}

/// Failed and all requests of both arms.
pub(crate) fn errors(scope: &Scope<'_>) -> String {
    let errors = if scope.weighted { by_weight("weighted_errors") } else { "sum(errors)".to_owned() };
    format!(
        "SELECT {arm} AS arm, {errors} AS errors, {requests} AS requests, {rate} AS error_rate \
         FROM {table} WHERE {rows} GROUP BY 1 ORDER BY 1",
        arm = arm(scope, by(scope)),
        requests = requests_of(scope),
        rate = if scope.weighted {
            format!("CAST(sum(weighted_errors) AS DOUBLE) / sum({})", weighted_requests(scope))
        } else {
            format!("CAST({errors} AS DOUBLE) / {}", requests_of(scope))
        },
        table = table(scope),
        rows = rows(scope)
    )
}

/// The p95 latency of both arms, in milliseconds: the geometric middle of the histogram bucket that holds it.
pub(crate) fn latency(scope: &Scope<'_>) -> String {
    let entries = format!(
        "SELECT {arm} AS arm, unnest({histogram}_buckets) AS bucket, unnest({histogram}_counts) AS n FROM {table} WHERE {rows}",
        histogram = if scope.flag.is_some() { "value" } else { "latency" },
        table = table(scope),
        arm = arm(scope, by(scope)),
        rows = rows(scope)
    );
    p95(&entries, 0)
}

/// The same out of the buckets of a histogram and how often each was met, so many buckets below those of nanoseconds.
fn p95(entries: &str, shift: i16) -> String {
    let index = if shift == 0 { "min(bucket)".to_owned() } else { format!("(min(bucket) + {shift})") };
    format!(
        "WITH counts AS (SELECT arm, bucket, sum(n) AS n FROM ({entries}) AS entries GROUP BY arm, bucket), \
         ranked AS (SELECT arm, bucket, sum(n) OVER (PARTITION BY arm ORDER BY bucket) AS seen, \
         sum(n) OVER (PARTITION BY arm) AS total FROM counts) \
         SELECT arm, max(total) AS requests, power(2.0, ({index} + 0.5) / 16.0) / 1000000.0 AS p95_ms \
         FROM ranked WHERE seen >= 0.95 * total GROUP BY arm ORDER BY arm"
    )
}

/// Occurrences of one exception in both arms, and requests.
pub(crate) fn exception(scope: &Scope<'_>, fingerprint: Fingerprint) -> String {
    let thrown = format!(
        "SELECT arm, sum(exception['count']) AS occurrences FROM (SELECT {arm} AS arm, unnest(exceptions) AS exception \
         FROM operations WHERE {rows}) AS entries WHERE exception['fingerprint'] = {number} GROUP BY arm",
        arm = arm(scope, by(scope)),
        rows = rows(scope),
        number = fingerprint.0
    );
    a_request(scope, &thrown, "occurrences")
}

/// Divides what is counted by the requests of both arms.
fn a_request(scope: &Scope<'_>, counted: &str, what: &str) -> String {
    format!(
        "WITH counted AS ({counted}), served AS ({served}) \
         SELECT served.arm, CAST(coalesce({what}, 0) AS BIGINT) AS {what}, requests, \
         CAST(coalesce({what}, 0) AS DOUBLE) / requests AS {what}_per_request \
         FROM served LEFT JOIN counted ON served.arm = counted.arm ORDER BY 1",
        served = served(scope)
    )
}

/// Requests of both arms, of the whole service.
fn served(scope: &Scope<'_>) -> String {
    format!(
        "SELECT {arm} AS arm, {requests} AS requests FROM {table} WHERE {own} AND {sides} GROUP BY 1",
        arm = arm(scope, by_requests(scope)),
        requests = requests_of(scope),
        table = table(scope),
        own = of_requests(scope),
        sides = sides(scope, by_requests(scope))
    )
}

/// Seconds that requests are divided by.
pub(crate) fn seconds(span: Interval) -> f64 {
    span.to.since(span.from).as_secs().max(10) as f64
}

/// Requests of both arms a second; an arm without any has a row, too.
pub(crate) fn requests(scope: &Scope<'_>) -> String {
    let select = |name: &str, versions: &BTreeSet<&str>, span: Interval| {
        format!(
            "SELECT '{name}' AS arm, CAST(coalesce({n}, 0) AS BIGINT) AS requests, {seconds:.1} AS seconds, \
             CAST(coalesce({n}, 0) AS DOUBLE) / {seconds:.1} AS requests_per_second FROM {table} WHERE {own} AND {side}",
            n = requests_of(scope),
            seconds = seconds(span),
            table = table(scope),
            own = of_requests(scope),
            side = side(by_requests(scope), versions, span)
        )
    };
    format!(
        "{} UNION ALL {} ORDER BY arm",
        select("baseline", &scope.control, scope.control_span),
        select("candidate", &scope.candidate, scope.candidate_span)
    )
}

/// Starts of instances of both arms, and how often an instance started again.
pub(crate) fn restarts(scope: &Scope<'_>) -> String {
    // Of many distinct ones a bucket keeps the smallest hashes, which tell about how many there are.
    let distinct = |column: &str, name: &str| {
        format!(
            "{name}_kept AS (SELECT arm, service_version, bucket_start, hash, \
             row_number() OVER (PARTITION BY arm, service_version, bucket_start ORDER BY hash) AS nth \
             FROM (SELECT DISTINCT arm, service_version, bucket_start, hash FROM (SELECT arm, service_version, bucket_start, \
             unnest({column}) AS hash FROM cells) AS entries) AS hashes), \
             {name} AS (SELECT arm, CASE WHEN count(*) < {max} THEN CAST(count(*) AS DOUBLE) \
             ELSE round({most} * (18446744073709551616.0 / CAST(max(hash) AS DOUBLE))) END AS n \
             FROM {name}_kept WHERE nth <= {max} GROUP BY arm, service_version, bucket_start)",
            max = Distinct::MAX,
            most = Distinct::MAX - 1
        )
    };
    format!(
        "WITH cells AS (SELECT {arm} AS arm, service_version, bucket_start, instances, starts FROM signals \
         WHERE kind = 'presence' AND {rows}), {begun}, {there}, \
         began AS (SELECT arm, sum(n) AS starts FROM begun GROUP BY arm), \
         served AS (SELECT arm, max(n) AS instances, sum(n) AS buckets FROM there GROUP BY arm) \
         SELECT served.arm, coalesce(starts, 0.0) AS starts, instances, 360.0 * CASE WHEN coalesce(starts, 0.0) > instances \
         THEN starts - instances ELSE 0.0 END / buckets AS restarts_per_hour \
         FROM served LEFT JOIN began ON served.arm = began.arm ORDER BY 1",
        arm = arm(scope, By::Version),
        rows = rows(scope),
        begun = distinct("starts", "begun"),
        there = distinct("instances", "there")
    )
}

/// Calls to one callee a request, in both arms.
pub(crate) fn calls(scope: &Scope<'_>, service: &str, operation: &str) -> String {
    format!(
        "WITH cells AS (SELECT {arm} AS arm, assembled, callees FROM operations WHERE {rows}), \
         calls AS (SELECT arm, sum(callee['calls']) AS calls FROM (SELECT arm, unnest(callees) AS callee FROM cells) AS entries \
         WHERE callee['service'] = {service} AND callee['operation'] = {operation} GROUP BY arm), \
         requests AS (SELECT arm, sum(assembled) AS requests FROM cells GROUP BY arm) \
         SELECT requests.arm, coalesce(calls, 0) AS calls, requests, \
         CAST(coalesce(calls, 0) AS DOUBLE) / requests AS calls_per_request \
         FROM requests LEFT JOIN calls ON requests.arm = calls.arm ORDER BY 1",
        arm = arm(scope, by(scope)),
        rows = rows(scope),
        service = quoted(service),
        operation = quoted(operation)
    )
}

/// Requests at the top of traces, by the version of the deployed service that took part in them.
///
/// Traces in which two versions of it took part belong to neither arm.
pub(crate) fn paths(scope: &Scope<'_>, entry: &ServiceKey, operation: &str) -> String {
    let side = |versions: &BTreeSet<&str>, span: Interval| {
        format!("{} AND {}", among("version", versions.iter().copied()), times(span))
    };
    let (candidate, control) = (side(&scope.candidate, scope.candidate_span), side(&scope.control, scope.control_span));
    format!(
        "WITH traces AS (SELECT row_number() OVER (ORDER BY bucket_start) AS id, bucket_start, errors, count AS requests, path \
         FROM signals WHERE kind = 'path' AND service_name = {entry} AND service_namespace = {namespace} \
         AND environment = {environment} AND name = {operation}), \
         parties AS (SELECT id, bucket_start, errors, requests, unnest(path) AS party FROM traces), \
         own AS (SELECT bucket_start, errors, requests, party['version'] AS version, \
         count(*) OVER (PARTITION BY id) AS versions FROM parties WHERE party['service'] = {service} \
         AND party['namespace'] = {own}) \
         SELECT CASE WHEN {candidate} THEN 'candidate' ELSE 'baseline' END AS arm, sum(errors) AS errors, \
         sum(requests) AS requests, CAST(sum(errors) AS DOUBLE) / sum(requests) AS error_rate \
         FROM own WHERE versions = 1 AND (({candidate}) OR ({control})) GROUP BY 1 ORDER BY 1",
        entry = quoted(&entry.service),
        namespace = quoted(&entry.namespace),
        environment = quoted(&entry.environment),
        operation = quoted(operation),
        service = quoted(&scope.service.service),
        own = quoted(&scope.service.namespace),
    )
}

/// Error messages of both arms, of one template or all, and requests.
pub(crate) fn logs(scope: &Scope<'_>, template: Option<&str>) -> String {
    let which = template.map_or_else(String::new, |template| format!(" AND name = {}", quoted(template)));
    messages_where(scope, &format!("role IN ('error', 'fatal'){which}"))
}

/// Messages of one template and level in both arms, and requests.
pub(crate) fn messages(scope: &Scope<'_>, level: &str, template: &str) -> String {
    messages_where(scope, &format!("role = {} AND name = {}", quoted(level), quoted(template)))
}

/// User actions of one name in both arms, and requests.
pub(crate) fn actions(scope: &Scope<'_>, action: &str) -> String {
    let done = format!(
        "SELECT {arm} AS arm, sum(count) AS actions FROM signals WHERE kind = 'action' AND name = {action} AND {rows} GROUP BY 1",
        arm = arm(scope, by(scope)),
        action = quoted(action),
        rows = rows(scope)
    );
    a_request(scope, &done, "actions")
}

fn messages_where(scope: &Scope<'_>, which: &str) -> String {
    let logged = format!(
        "SELECT {arm} AS arm, sum(count) AS messages FROM signals WHERE kind = 'log' AND {which} AND {rows} GROUP BY 1",
        arm = arm(scope, by(scope)),
        rows = rows(scope)
    );
    a_request(scope, &logged, "messages")
}

/// Failed and all requests, or the p95 latency in milliseconds, as a metric counted them.
pub(crate) fn measured(scope: &Scope<'_>, source: &Source, slow: bool) -> String {
    let details: BTreeSet<String> = source.all.union(&source.failures).cloned().collect();
    let by = by_detail(scope, &details);
    let counted = format!(
        "name = {} AND role = '{}' AND {}",
        quoted(&source.name),
        shape(source),
        among("detail", source.all.iter().map(String::as_str))
    );
    let arm = arm(scope, by);
    let rows = |which: &str| format!("{} AND kind = 'metric' AND {which} AND {}", own(scope), sides(scope, by));
    if slow {
        let (shift, rows) = (measured::shift(source.unit_ns), rows(&counted));
        // Observations of nothing stand in no bucket; they count as the shortest time there is.
        let zero = Histogram::index_of(1).saturating_sub(shift);
        let entries = format!(
            "SELECT {arm} AS arm, unnest(value_buckets) AS bucket, unnest(value_counts) AS n FROM signals WHERE {rows} \
             UNION ALL SELECT {arm} AS arm, CAST({zero} AS SMALLINT) AS bucket, zeros AS n FROM signals \
             WHERE {rows} AND zeros > 0"
        );
        return p95(&entries, shift);
    }
    let failed =
        format!("name = {} AND {}", quoted(&source.name), among("detail", source.failed.iter().map(String::as_str)));
    let failures = format!(
        "name = {} AND role = 'counter' AND {}",
        quoted(&source.failures_name),
        among("detail", source.failures.iter().map(String::as_str))
    );
    let (failed, all) = if source.failures.is_empty() {
        (failed, counted)
    } else {
        (format!("({failed}) OR ({failures})"), format!("(({counted}) OR ({failures}))"))
    };
    // Where failures are counted apart, there are no more of them than requests.
    let errors = "sum(CASE WHEN errors > requests THEN requests ELSE errors END)";
    format!(
        "WITH cells AS (SELECT {arm} AS arm, service_version, instance_age, bucket_start, \
         sum(CASE WHEN {failed} THEN {n} ELSE 0.0 END) AS errors, \
         sum(CASE WHEN name = {name} THEN {n} ELSE 0.0 END) AS requests \
         FROM signals WHERE {rows} GROUP BY 1, 2, 3, 4) \
         SELECT arm, {errors} AS errors, sum(requests) AS requests, {errors} / sum(requests) AS error_rate \
         FROM cells GROUP BY arm ORDER BY arm",
        n = if source.counter { "CAST(sum AS DOUBLE)" } else { "CAST(count AS DOUBLE)" },
        name = quoted(&source.name),
        rows = rows(&all)
    )
}

fn table(scope: &Scope<'_>) -> &'static str {
    let told_beside = scope.flag.is_some() || scope.metric.is_some() || scope.records;
    if told_beside { "signals" } else { "operations" }
}

fn shape(source: &Source) -> &'static str {
    if source.counter { "counter" } else { "histogram" }
}

/// Sums weights, as so many requests.
fn by_weight(column: &str) -> String {
    format!("round(sum({column}) / {WEIGHT_UNIT}.0)")
}

fn weighted_requests(scope: &Scope<'_>) -> &'static str {
    if scope.flag.is_some() { "weighted_count" } else { "weighted_requests" }
}

/// What the requests of rows are summed by.
fn requests_of(scope: &Scope<'_>) -> String {
    match scope.metric {
        Some(source) if source.counter => "round(sum(sum))".to_owned(),
        Some(_) => "sum(count)".to_owned(),
        None if scope.records => "sum(logs)".to_owned(),
        None if scope.weighted => by_weight(weighted_requests(scope)),
        None if scope.flag.is_some() => "sum(count)".to_owned(),
        None => "sum(requests)".to_owned(),
    }
}

fn by(scope: &Scope<'_>) -> By<'static> {
    if scope.flag.is_some() { By::Variant } else { By::Version }
}

fn by_requests<'a>(scope: &Scope<'a>) -> By<'a> {
    match (scope.metric, scope.named) {
        (Some(_), Some(named)) => By::Detail(named, None),
        _ => by(scope),
    }
}

fn by_detail<'a>(scope: &Scope<'a>, details: &'a BTreeSet<String>) -> By<'a> {
    scope.named.map_or(By::Version, |named| By::Detail(named, Some(details)))
}

fn arm(scope: &Scope<'_>, by: By<'_>) -> String {
    format!("CASE WHEN {} THEN 'candidate' ELSE 'baseline' END", side(by, &scope.candidate, scope.candidate_span))
}

/// Rows of the service.
fn own(scope: &Scope<'_>) -> String {
    format!(
        "service_name = {} AND service_namespace = {} AND environment = {}",
        quoted(&scope.service.service),
        quoted(&scope.service.namespace),
        quoted(&scope.service.environment)
    )
}

/// Rows of the service that count requests.
fn of_requests(scope: &Scope<'_>) -> String {
    match (scope.metric, scope.flag) {
        (Some(source), _) => {
            format!(
                "{} AND kind = 'metric' AND name = {} AND role = '{}'",
                own(scope),
                quoted(&source.name),
                shape(source)
            )
        }
        (None, Some(flag)) => format!("{} AND kind = 'arm' AND detail = {}", own(scope), quoted(flag)),
        (None, None) if scope.records => format!("{} AND kind = 'presence'", own(scope)),
        (None, None) => own(scope),
    }
}

/// Rows of either arm that tell of requests by spans.
fn rows(scope: &Scope<'_>) -> String {
    let mut sql = own(scope);
    let (name, kind) = if scope.flag.is_some() { ("name", "role") } else { ("operation", "kind") };
    if let Some(flag) = scope.flag {
        let _ = write!(sql, " AND kind = 'arm' AND detail = {}", quoted(flag));
    }
    match scope.operations.as_slice() {
        [] => {}
        [one] => drop(write!(sql, " AND {name} = {}", quoted(one))),
        more => drop(write!(sql, " AND {}", among(name, more.iter().copied()))),
    }
    if let Some(role) = scope.kind {
        let _ = write!(sql, " AND {kind} = '{}'", role.as_str());
    }
    let _ = write!(sql, " AND {}", sides(scope, by(scope)));
    sql
}

fn sides(scope: &Scope<'_>, by: By<'_>) -> String {
    format!(
        "(({}) OR ({}))",
        side(by, &scope.candidate, scope.candidate_span),
        scope.without.iter().fold(side(by, &scope.control, scope.control_span), |side, out| {
            format!("{side} AND NOT ({})", times(*out))
        })
    )
}

fn side(by: By<'_>, versions: &BTreeSet<&str>, span: Interval) -> String {
    if versions.is_empty() {
        return times(span);
    }
    let told = match by {
        By::Version => among("service_version", versions.iter().copied()),
        By::Variant => among("variant", versions.iter().copied()),
        By::Detail(named, wanted) => {
            let details = versions.iter().filter_map(|version| named.get(*version)).flatten();
            let wanted = details.filter(|detail| wanted.is_none_or(|wanted| wanted.contains(*detail)));
            among("detail", wanted.map(String::as_str))
        }
    };
    format!("{told} AND {}", times(span))
}

fn times(span: Interval) -> String {
    format!("bucket_start >= TIMESTAMP '{}' AND bucket_start < TIMESTAMP '{}'", span.from, span.to)
}

fn among<'a>(column: &str, values: impl Iterator<Item = &'a str>) -> String {
    let list: Vec<String> = values.map(quoted).collect();
    if list.is_empty() { "false".to_owned() } else { format!("{column} IN ({})", list.join(", ")) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_model::UnixNanos;

    #[test]
    fn names_with_quotes_stay_names() {
        let service = ServiceKey::new("prod", "o'brien");
        let span = Interval { from: UnixNanos::from_secs(0), to: UnixNanos::from_secs(10) };
        let scope = Scope {
            service: &service,
            operations: vec!["GET /'--"],
            kind: Some(OperationKind::Server),
            flag: None,
            weighted: false,
            records: false,
            metric: None,
            named: None,
            candidate: BTreeSet::from(["2"]),
            candidate_span: span,
            control: BTreeSet::new(),
            control_span: span,
            without: Vec::new(),
        };
        let sql = errors(&scope);
        assert!(sql.contains("service_name = 'o''brien'") && sql.contains("operation = 'GET /''--'"), "{sql}");
        assert!(sql.contains("TIMESTAMP '1970-01-01T00:00:10Z'"), "{sql}");
    }
}
