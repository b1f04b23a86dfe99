//! The queries that reproduce a finding's numbers from the table `operations`.

use std::collections::BTreeSet;
use std::fmt::Write;

use plimsoll_model::metric::MetricShape;
use plimsoll_model::signal::{Fingerprint, OperationKind};
use plimsoll_model::{Interval, ServiceKey};

use crate::measured::Source;

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
    /// Versions of the candidate; empty means all.
    pub(crate) candidate: BTreeSet<&'a str>,
    pub(crate) candidate_span: Interval,
    /// Versions of the control; empty means all.
    pub(crate) control: BTreeSet<&'a str>,
    pub(crate) control_span: Interval,
}

/// Failed and all requests of both arms.
pub(crate) fn errors(scope: &Scope<'_>) -> String {
    format!(
        "SELECT {arm} AS arm, sum(errors) AS errors, sum({requests}) AS requests, \
         CAST(sum(errors) AS DOUBLE) / sum({requests}) AS error_rate FROM {table} WHERE {rows} GROUP BY 1 ORDER BY 1",
        arm = arm(scope),
        requests = if scope.flag.is_some() { "count" } else { "requests" },
        table = table(scope),
        rows = rows(scope)
    )
}

/// The p95 latency of both arms, in milliseconds: the geometric middle of the histogram bucket that holds it.
pub(crate) fn latency(scope: &Scope<'_>) -> String {
    format!(
        "WITH counts AS (SELECT arm, bucket, sum(n) AS n FROM (SELECT {arm} AS arm, unnest({histogram}_buckets) AS bucket, \
         unnest({histogram}_counts) AS n FROM {table} WHERE {rows}) AS entries GROUP BY arm, bucket), \
         ranked AS (SELECT arm, bucket, sum(n) OVER (PARTITION BY arm ORDER BY bucket) AS seen, \
         sum(n) OVER (PARTITION BY arm) AS total FROM counts) \
         SELECT arm, max(total) AS requests, power(2.0, (min(bucket) + 0.5) / 16.0) / 1000000.0 AS p95_ms \
         FROM ranked WHERE seen >= 0.95 * total GROUP BY arm ORDER BY arm",
        histogram = if scope.flag.is_some() { "value" } else { "latency" },
        table = table(scope),
        arm = arm(scope),
        rows = rows(scope)
    )
}

/// Occurrences of one exception in both arms.
pub(crate) fn exception(scope: &Scope<'_>, fingerprint: Fingerprint) -> String {
    format!(
        "SELECT arm, sum(exception['count']) AS occurrences FROM (SELECT {arm} AS arm, unnest(exceptions) AS exception \
         FROM operations WHERE {rows}) AS entries WHERE exception['fingerprint'] = {number} GROUP BY arm ORDER BY arm",
        arm = arm(scope),
        rows = rows(scope),
        number = fingerprint.0
    )
}

/// Requests of both arms, and over how many seconds.
pub(crate) fn requests(scope: &Scope<'_>) -> String {
    format!(
        "SELECT {arm} AS arm, sum(requests) AS requests, 10 * count(DISTINCT bucket_start) AS seconds \
         FROM operations WHERE {rows} GROUP BY 1 ORDER BY 1",
        arm = arm(scope),
        rows = rows(scope)
    )
}

/// Starts of instances of both arms, and how often an instance started again.
pub(crate) fn restarts(scope: &Scope<'_>) -> String {
    format!(
        "WITH cells AS (SELECT {arm} AS arm, bucket_start, instances, starts FROM signals WHERE kind = 'presence' AND {rows}), \
         began AS (SELECT arm, count(DISTINCT start) AS starts FROM (SELECT arm, unnest(starts) AS start FROM cells) AS entries \
         GROUP BY arm), \
         there AS (SELECT arm, bucket_start, count(DISTINCT instance) AS n FROM (SELECT arm, bucket_start, \
         unnest(instances) AS instance FROM cells) AS entries GROUP BY arm, bucket_start), \
         served AS (SELECT arm, max(n) AS instances, sum(n) AS served FROM there GROUP BY arm) \
         SELECT served.arm, coalesce(starts, 0) AS starts, instances, 360.0 * CASE WHEN coalesce(starts, 0) > instances \
         THEN starts - instances ELSE 0 END / served AS restarts_per_hour \
         FROM served LEFT JOIN began ON served.arm = began.arm ORDER BY 1",
        arm = arm(scope),
        rows = rows(scope)
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
        arm = arm(scope),
        rows = rows(scope),
        service = quoted(service),
        operation = quoted(operation)
    )
}

/// Requests at the top of traces, by the version of the deployed service that took part in them.
pub(crate) fn paths(scope: &Scope<'_>, entry: &ServiceKey, operation: &str) -> String {
    let side = |versions: &BTreeSet<&str>, span: Interval| {
        let list: Vec<String> = versions.iter().map(|version| quoted(version)).collect();
        format!(
            "party['version'] IN ({}) AND bucket_start >= TIMESTAMP '{}' AND bucket_start < TIMESTAMP '{}'",
            list.join(", "),
            span.from,
            span.to
        )
    };
    let (candidate, control) = (side(&scope.candidate, scope.candidate_span), side(&scope.control, scope.control_span));
    format!(
        "SELECT CASE WHEN {candidate} THEN 'candidate' ELSE 'baseline' END AS arm, sum(errors) AS errors, \
         sum(count) AS requests, CAST(sum(errors) AS DOUBLE) / sum(count) AS error_rate \
         FROM (SELECT bucket_start, errors, count, unnest(path) AS party FROM signals WHERE kind = 'path' \
         AND service_name = {entry} AND service_namespace = {namespace} AND environment = {environment} \
         AND name = {operation}) AS parties WHERE party['service'] = {service} AND party['namespace'] = {own} \
         AND (({candidate}) OR ({control})) GROUP BY 1 ORDER BY 1",
        entry = quoted(&entry.service),
        namespace = quoted(&entry.namespace),
        environment = quoted(&entry.environment),
        operation = quoted(operation),
        service = quoted(&scope.service.service),
        own = quoted(&scope.service.namespace),
    )
}

/// Error messages of both arms: of one template, or all.
pub(crate) fn logs(scope: &Scope<'_>, template: Option<&str>) -> String {
    let which = template.map_or_else(String::new, |template| format!(" AND name = {}", quoted(template)));
    format!(
        "SELECT {arm} AS arm, sum(count) AS messages FROM signals WHERE kind = 'log' AND role IN ('error', 'fatal'){which} \
         AND {rows} GROUP BY 1 ORDER BY 1",
        arm = arm(scope),
        rows = rows(scope)
    )
}

/// Messages of one template in both arms, whatever their level.
pub(crate) fn messages(scope: &Scope<'_>, template: &str) -> String {
    format!(
        "SELECT {arm} AS arm, sum(count) AS messages FROM signals WHERE kind = 'log' AND name = {name} AND {rows} \
         GROUP BY 1 ORDER BY 1",
        arm = arm(scope),
        name = quoted(template),
        rows = rows(scope)
    )
}

/// Failed and all requests, or the p95 latency in milliseconds, as a metric counted them.
pub(crate) fn measured(scope: &Scope<'_>, source: &Source, slow: bool) -> String {
    let among = |details: &BTreeSet<String>| {
        let list: Vec<String> = details.iter().map(|detail| quoted(detail)).collect();
        if list.is_empty() { "false".to_owned() } else { format!("detail IN ({})", list.join(", ")) }
    };
    let shape = if source.counter { "counter" } else { "histogram" };
    let series = format!(
        "kind = 'metric' AND name = {name} AND role = '{shape}' AND {all} AND {rows}",
        name = quoted(&source.name),
        all = among(&source.all),
        rows = rows(scope)
    );
    if slow {
        return format!(
            "WITH counts AS (SELECT arm, bucket, sum(n) AS n FROM (SELECT {arm} AS arm, unnest(value_buckets) AS bucket, \
             unnest(value_counts) AS n FROM signals WHERE {series}) AS entries GROUP BY arm, bucket), \
             ranked AS (SELECT arm, bucket, sum(n) OVER (PARTITION BY arm ORDER BY bucket) AS seen, \
             sum(n) OVER (PARTITION BY arm) AS total FROM counts) \
             SELECT arm, max(total) AS requests, power(2.0, (min(bucket) + 0.5) / 16.0) * {unit} AS p95_ms \
             FROM ranked WHERE seen >= 0.95 * total GROUP BY arm ORDER BY arm",
            arm = arm(scope),
            unit = source.unit_ns as f64 / 1e6
        );
    }
    let n = if source.counter { "sum" } else { "count" };
    format!(
        "SELECT {arm} AS arm, sum(CASE WHEN {failed} THEN {n} ELSE 0 END) AS errors, sum({n}) AS requests \
         FROM signals WHERE {series} GROUP BY 1 ORDER BY 1",
        arm = arm(scope),
        failed = among(&source.failed)
    )
}

/// A metric of both arms, minute by minute.
pub(crate) fn metric(scope: &Scope<'_>, name: &str, shape: MetricShape) -> String {
    let value = if shape == MetricShape::Counter { "sum(sum)" } else { "sum(sum) / sum(count)" };
    format!(
        "SELECT {arm} AS arm, date_trunc('minute', bucket_start) AS minute, {value} AS value FROM signals \
         WHERE kind = 'metric' AND name = {name} AND role = '{shape}' AND {rows} GROUP BY 1, 2 ORDER BY 1, 2",
        arm = arm(scope),
        name = quoted(name),
        shape = shape.as_str(),
        rows = rows(scope)
    )
}

fn table(scope: &Scope<'_>) -> &'static str {
    if scope.flag.is_some() { "signals" } else { "operations" }
}

fn arm(scope: &Scope<'_>) -> String {
    format!(
        "CASE WHEN {} THEN 'candidate' ELSE 'baseline' END",
        side(scope.flag, &scope.candidate, scope.candidate_span)
    )
}

fn rows(scope: &Scope<'_>) -> String {
    let mut sql = format!(
        "service_name = {} AND service_namespace = {} AND environment = {}",
        quoted(&scope.service.service),
        quoted(&scope.service.namespace),
        quoted(&scope.service.environment)
    );
    let (name, kind) = if scope.flag.is_some() { ("name", "role") } else { ("operation", "kind") };
    if let Some(flag) = scope.flag {
        let _ = write!(sql, " AND kind = 'arm' AND detail = {}", quoted(flag));
    }
    match scope.operations.as_slice() {
        [] => {}
        [one] => drop(write!(sql, " AND {name} = {}", quoted(one))),
        more => {
            let names: Vec<String> = more.iter().map(|name| quoted(name)).collect();
            let _ = write!(sql, " AND {name} IN ({})", names.join(", "));
        }
    }
    if let Some(role) = scope.kind {
        let _ = write!(sql, " AND {kind} = '{}'", role.as_str());
    }
    let _ = write!(
        sql,
        " AND (({}) OR ({}))",
        side(scope.flag, &scope.candidate, scope.candidate_span),
        side(scope.flag, &scope.control, scope.control_span)
    );
    sql
}

fn side(flag: Option<&str>, versions: &BTreeSet<&str>, span: Interval) -> String {
    let times = format!("bucket_start >= TIMESTAMP '{}' AND bucket_start < TIMESTAMP '{}'", span.from, span.to);
    if versions.is_empty() {
        return times;
    }
    let list: Vec<String> = versions.iter().map(|version| quoted(version)).collect();
    let column = if flag.is_some() { "variant" } else { "service_version" };
    format!("{column} IN ({}) AND {times}", list.join(", "))
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
            candidate: BTreeSet::from(["2"]),
            candidate_span: span,
            control: BTreeSet::new(),
            control_span: span,
        };
        let sql = errors(&scope);
        assert!(sql.contains("service_name = 'o''brien'") && sql.contains("operation = 'GET /''--'"), "{sql}");
        assert!(sql.contains("TIMESTAMP '1970-01-01T00:00:10Z'"), "{sql}");
    }
}
