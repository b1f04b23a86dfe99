//! Services that emit no spans: their request metrics read as operations.
//!
//! A histogram of request durations, or counters of requests, says per version and bucket how many requests there were, how
//! many failed and, as far as its buckets are fine, how long they took. That is what an operation is made of; so designs,
//! tests and bounds are those of operations, and findings name the metric. Where a service has spans that were sampled, its
//! request metrics are preferred too: they counted every request.
//!
//! Where the resource names no version, an attribute of the points may: `service.version`, `version`, or the pod, if pods
//! appear with the deploy and others were there before.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::metric::{MetricCell, MetricKey, MetricSeries, MetricShape};
use plimsoll_model::signal::{
    HISTOGRAM_SCALE, Histogram, LOG_UNIT, OperationCell, OperationKey, OperationKind, OperationSeries, WEIGHT_UNIT,
};
use plimsoll_model::{Bucket, DeployKind};

use crate::input::JudgeInput;
use crate::quality;

/// Which metrics operations were read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    pub(crate) sources: Sources,
    /// Attributes of each series of metrics, in their order, as the table `signals` names them.
    details: Vec<String>,
    /// The same by version, where versions were read from them; else empty.
    named: BTreeMap<String, BTreeSet<String>>,
    /// What spans tell of the operations.
    spans: Vec<OperationSeries>,
}

impl Measured {
    /// Returns the metric that counts requests, by one of the operations read from it.
    pub(crate) fn source(&self) -> Option<&Source> {
        self.sources.values().find(|source| !source.name.is_empty())
    }

    /// Returns the attributes that stand for each version; `None` where the resource tells the version.
    pub(crate) fn named(&self) -> Option<&BTreeMap<String, BTreeSet<String>>> {
        Some(&self.named).filter(|named| !named.is_empty())
    }
}

/// Returns what spans tell of operations, wherever requests are counted.
pub(crate) fn spans(input: &JudgeInput) -> &[OperationSeries] {
    input.measured.as_ref().map_or(input.series.as_slice(), |measured| measured.spans.as_slice())
}

/// Returns the attributes of a series of metrics, told by its place among them, as the table `signals` names them.
pub(crate) fn detail(input: &JudgeInput, place: usize) -> String {
    let known = input.measured.as_ref().and_then(|measured| measured.details.get(place));
    known.cloned().or_else(|| input.aggregates.metrics.get(place).map(|s| json(&s.key.attributes))).unwrap_or_default()
}

/// Series of metrics behind one operation, as the table `signals` names them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) counter: bool,
    /// Nanoseconds that one unit of the metric is.
    pub(crate) unit_ns: u64,
    /// Attributes of all series, and of those that count failures, as JSON.
    pub(crate) all: BTreeSet<String>,
    pub(crate) failed: BTreeSet<String>,
    /// The counter of failures, where they are counted apart, and the attributes of its series; else empty.
    pub(crate) failures_name: String,
    pub(crate) failures: BTreeSet<String>,
}

impl Source {
    /// Adds the series of the same operation under another name.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.all.extend(other.all.iter().cloned());
        self.failed.extend(other.failed.iter().cloned());
        self.failures.extend(other.failures.iter().cloned());
        if self.failures_name.is_empty() {
            self.failures_name.clone_from(&other.failures_name);
        }
    }
}

/// Sources by operation.
pub(crate) type Sources = BTreeMap<String, Source>;

/// What is written for the version of pods that were there before, where nobody says which it is.
pub(crate) const FORMER: &str = "before";

pub(crate) const VERSION_ATTRIBUTES: [&str; 3] = ["service.version", "version", "app.version"];
pub(crate) const POD_ATTRIBUTES: [&str; 3] = ["k8s.pod.name", "pod", "pod_name"];
/// Mean weight of spans from which request metrics are preferred.
const SAMPLED: u64 = 2;

/// Returns the same question with versions told by attributes where the resource tells none, and with operations read from
/// request metrics where spans tell nothing, or were sampled; `None` where neither changes anything.
pub(crate) fn by_metrics(input: &JudgeInput) -> Option<JudgeInput> {
    if input.measured.is_some() || input.flag.is_some() || input.aggregates.metrics.is_empty() {
        return None;
    }
    let own = || input.series.iter().filter(|s| s.key.service == input.deploy.service).flat_map(|s| &s.cells);
    let requests: u64 = own().map(|(_, cell)| cell.requests).sum();
    let weighted: u64 = own().map(|(_, cell)| cell.weighted_requests / WEIGHT_UNIT).sum();
    let sampled = requests > 0 && weighted >= SAMPLED * requests;
    if requests > 0 && !sampled {
        return None;
    }
    let mut asked = input.clone();
    let details: Vec<String> = input.aggregates.metrics.iter().map(|series| json(&series.key.attributes)).collect();
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if requests == 0 && name_versions(&mut asked) {
        for (series, detail) in asked.aggregates.metrics.iter().zip(&details) {
            named.entry(series.key.version.clone()).or_default().insert(detail.clone());
        }
    }
    let (series, sources) = operations(&asked.aggregates.metrics, &details);
    let serves = |candidate: bool| {
        series.iter().any(|s| {
            let of = s.key.version == input.deploy.version || s.key.version.is_empty();
            s.cells.iter().any(|(bucket, _)| (of && bucket.start() >= input.deploy.started_at) == candidate)
        })
    };
    let counted = !series.is_empty() && serves(true) && serves(false);
    if counted {
        asked.series = joined(series, &input.series);
        asked.data_quality.push(quality::RATES_FROM_METRICS.to_owned());
    } else if requests > 0 {
        return None;
    } else {
        asked.series = silent(&asked.aggregates.metrics);
    }
    let sources = if counted { sources } else { Sources::new() };
    asked.measured = Some(Measured { sources, details, named, spans: input.series.clone() });
    Some(asked)
}

/// Reads versions from attributes of points; says whether there were any to read.
fn name_versions(input: &mut JudgeInput) -> bool {
    let metrics = &mut input.aggregates.metrics;
    if metrics.iter().any(|series| !series.key.version.is_empty()) {
        return false;
    }
    let told = VERSION_ATTRIBUTES.iter().find(|key| metrics.iter().any(|s| s.key.attributes.contains_key(**key)));
    if let Some(key) = told {
        for series in metrics.iter_mut() {
            series.key.version = series.key.attributes.remove(*key).unwrap_or_default();
        }
        return true;
    }
    let keeps_version = matches!(input.deploy.kind, DeployKind::Config | DeployKind::Flag | DeployKind::Infra);
    let pods = POD_ATTRIBUTES.iter().find(|key| metrics.iter().any(|s| s.key.attributes.contains_key(**key)));
    let Some(pod) = pods.filter(|_| !keeps_version) else { return false };
    let start = input.deploy.started_at.bucket();
    let mut first: BTreeMap<String, Bucket> = BTreeMap::new();
    for series in metrics.iter() {
        if let (Some(name), Some((bucket, _))) = (series.key.attributes.get(*pod), series.cells.first()) {
            let seen = first.entry(name.clone()).or_insert(*bucket);
            *seen = (*seen).min(*bucket);
        }
    }
    // Pods that came with the deploy run what it brought.
    let came = |name: &String| first.get(name).is_some_and(|bucket| bucket.0 + 6 >= start.0);
    if first.keys().all(came) || !first.keys().any(came) {
        return false;
    }
    let former = input.deploy.previous_version.clone().filter(|v| *v != input.deploy.version);
    let former = former.unwrap_or_else(|| FORMER.to_owned());
    for series in metrics.iter_mut() {
        let new = series.key.attributes.remove(*pod).is_some_and(|name| came(&name));
        series.key.version = if new { input.deploy.version.clone() } else { former.clone() };
    }
    true
}

/// Versions and when they emitted anything, as operations without requests: they tell who is compared with whom.
fn silent(metrics: &[MetricSeries]) -> Vec<OperationSeries> {
    let mut versions: BTreeMap<&str, (&MetricKey, BTreeSet<Bucket>)> = BTreeMap::new();
    for series in metrics {
        let (_, buckets) = versions.entry(&series.key.version).or_insert((&series.key, BTreeSet::new()));
        buckets.extend(series.cells.iter().map(|(bucket, _)| *bucket));
    }
    let silent = versions.into_iter().map(|(version, (key, buckets))| OperationSeries {
        key: OperationKey {
            service: key.service.clone(),
            version: version.to_owned(),
            operation: String::new(),
            kind: OperationKind::Internal,
            age: key.age,
        },
        cells: buckets.into_iter().map(|bucket| (bucket, OperationCell::default())).collect(),
    });
    silent.collect()
}

/// What a metric counts of requests.
enum Counts {
    /// Durations, one unit being so many nanoseconds.
    Durations(u64),
    Requests,
    Failures,
}

fn counts(key: &MetricKey) -> Option<Counts> {
    let name = key.name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let served = has(&["request", "server.duration", "server.call.duration", "process.duration"])
        && !has(&["client", "size", "active", "in_flight", "inflight", "body"]);
    if !served {
        return None;
    }
    match key.shape {
        MetricShape::Histogram if has(&["duration", "latency", "seconds", "time", "_ms", "millis"]) => {
            Some(Counts::Durations(unit(&key.unit, &name)))
        }
        MetricShape::Counter if has(&["error", "fail", "exception", "5xx"]) => Some(Counts::Failures),
        MetricShape::Counter if !has(&["duration", "seconds", "time", "bytes"]) => Some(Counts::Requests),
        _ => None,
    }
}

/// Says whether a metric tells how long requests of the service take.
pub(crate) fn is_served_time(key: &MetricKey) -> bool {
    matches!(counts(key), Some(Counts::Durations(_)))
}

/// Says whether a metric tells how long its calls to other services take.
pub(crate) fn is_waited_time(key: &MetricKey) -> bool {
    let name = key.name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
    key.shape == MetricShape::Histogram
        && words.windows(2).any(|pair| matches!(pair, ["http" | "rpc" | "grpc", "client"]))
        && words.iter().any(|word| matches!(*word, "duration" | "latency"))
}

fn unit(unit: &str, name: &str) -> u64 {
    match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ if name.contains("ms") || name.contains("milli") => 1_000_000,
        _ if name.contains("seconds") || !name.contains("http.server.duration") => 1_000_000_000,
        _ => 1_000_000,
    }
}

/// Says whether points with these attributes count requests that failed.
fn failed(attributes: &BTreeMap<String, String>) -> bool {
    attributes.iter().any(|(key, value)| match key.as_str() {
        "http.response.status_code" | "http.status_code" | "status_code" | "code" => {
            value.len() == 3 && value.starts_with('5')
        }
        "rpc.grpc.status_code" => matches!(value.as_str(), "2" | "4" | "12" | "13" | "14" | "15"),
        // A status below 500 is the caller's fault, whatever type it is given.
        "error.type" => !(value.is_empty() || value.len() == 3 && value.starts_with('4')),
        "outcome" | "status" => {
            let value = value.to_ascii_lowercase();
            value.contains("error") || value.contains("fail")
        }
        _ => false,
    })
}

fn operation(key: &MetricKey) -> String {
    let of = |names: &[&str]| names.iter().find_map(|name| key.attributes.get(*name)).cloned();
    let method = of(&["http.request.method", "http.method"]);
    let route = of(&["http.route", "rpc.method", "messaging.destination.name"]);
    match (method, route) {
        (Some(method), Some(route)) => format!("{method} {route}"),
        (None, Some(one)) | (Some(one), None) => one,
        (None, None) => "all requests".to_owned(),
    }
}

/// Chooses the metric that counts requests, and the one that counts failures among them: several of them count the same.
///
/// The first tells most of what requests are: attributes that say how they went, and a name of what serves them. The second
/// is named like it, or there is none.
fn chosen(metrics: &[MetricSeries], timed: bool) -> [Option<&str>; 2] {
    let mut offered: [BTreeMap<&str, bool>; 2] = Default::default();
    for MetricSeries { key, .. } in metrics {
        let Some(what) = counts(key).filter(|what| matches!(what, Counts::Durations(_)) == timed) else { continue };
        let tells = key.attributes.keys().any(|name| {
            ["status", "code", "outcome", "method", "route", "error.type"].iter().any(|word| name.contains(word))
        });
        let of = offered[usize::from(matches!(what, Counts::Failures))].entry(&key.name).or_default();
        *of |= tells;
    }
    let served = |name: &str| ["http", "rpc", "server"].iter().any(|word| name.to_ascii_lowercase().contains(word));
    let counted =
        offered[0].iter().min_by_key(|(name, tells)| (!**tells, !served(name), **name)).map(|(name, _)| *name);
    let family = |name: &str| name.split(['_', '.', '-', '/']).next().unwrap_or_default().to_ascii_lowercase();
    // Where requests are counted under a name that nothing else shares, failures may be under another.
    let alone = offered[0].len() == 1 && offered[1].len() == 1;
    let failed = counted.and_then(|counted| {
        let like = |name: &str| alone || family(name) == family(counted);
        let shared = |name: &str| name.bytes().zip(counted.bytes()).take_while(|(one, other)| one == other).count();
        let all = offered[1].keys().filter(|name| like(name));
        all.max_by_key(|name| (shared(name), std::cmp::Reverse(**name))).copied()
    });
    [counted, failed]
}

/// Reads operations out of request metrics: out of histograms, and only where there are none out of counters.
///
/// The attributes of each series, as the table `signals` names them, are `details`.
fn operations(metrics: &[MetricSeries], details: &[String]) -> (Vec<OperationSeries>, Sources) {
    let timed = metrics.iter().any(|series| matches!(counts(&series.key), Some(Counts::Durations(_))));
    let mut cells: BTreeMap<OperationKey, BTreeMap<Bucket, OperationCell>> = BTreeMap::new();
    let mut sources = Sources::new();
    let chosen = chosen(metrics, timed);
    for (series, detail) in metrics.iter().zip(details) {
        let key = &series.key;
        let Some(what) = counts(key).filter(|what| matches!(what, Counts::Durations(_)) == timed) else { continue };
        let place = usize::from(matches!(what, Counts::Failures));
        if chosen[place] != Some(key.name.as_str()) {
            continue;
        }
        let name = operation(key);
        let bad = matches!(what, Counts::Failures) || failed(&key.attributes);
        let source = sources.entry(name.clone()).or_default();
        if place == 0 {
            source.name.clone_from(&key.name);
            source.counter = key.shape == MetricShape::Counter;
            source.all.insert(detail.clone());
            if bad {
                source.failed.insert(detail.clone());
            }
        } else {
            source.failures_name.clone_from(&key.name);
            source.failures.insert(detail.clone());
        }
        let into = cells
            .entry(OperationKey {
                service: key.service.clone(),
                version: key.version.clone(),
                operation: name,
                kind: OperationKind::Server,
                age: key.age,
            })
            .or_default();
        for (bucket, cell) in &series.cells {
            let sum = into.entry(*bucket).or_default();
            match what {
                Counts::Durations(unit_ns) => {
                    source.unit_ns = unit_ns;
                    sum.merge(&durations(cell, unit_ns, bad));
                }
                Counts::Requests => sum.merge(&requests(cell.sum.value(), bad)),
                Counts::Failures => {
                    sum.errors = sum.errors.saturating_add(cell.sum.value().max(0.0).round() as u64);
                }
            }
        }
    }
    let series = cells.into_iter().map(|(key, mut cells)| {
        cells.retain(|_, cell| cell.requests > 0);
        cells.values_mut().for_each(|cell| cell.errors = cell.errors.min(cell.requests));
        OperationSeries { key, cells: cells.into_iter().collect() }
    });
    (series.filter(|series| !series.cells.is_empty()).collect(), sources)
}

fn requests(n: f64, bad: bool) -> OperationCell {
    let n = n.max(0.0).round() as u64;
    OperationCell {
        requests: n,
        errors: if bad { n } else { 0 },
        weighted_requests: n.saturating_mul(WEIGHT_UNIT),
        ..OperationCell::default()
    }
}

/// Returns by how many buckets of a histogram such a unit lies above nanoseconds.
pub(crate) fn shift(unit_ns: u64) -> i16 {
    ((unit_ns as f64).log2() * f64::from(1_u32 << HISTOGRAM_SCALE)).round() as i16
}

fn durations(cell: &MetricCell, unit_ns: u64, bad: bool) -> OperationCell {
    let mut counted = requests(cell.count as f64, bad);
    let shift = shift(unit_ns);
    for (index, count) in &cell.values.0 {
        let sum = counted.latency.0.entry(index.saturating_add(shift)).or_default();
        *sum = sum.saturating_add(*count);
    }
    if cell.zeros > 0 {
        let sum = counted.latency.0.entry(Histogram::index_of(1)).or_default();
        *sum = sum.saturating_add(cell.zeros);
    }
    // The buckets of a metric are coarse and their sum is exact: growth is taken from the mean.
    let mean_ns = cell.sum.value() / cell.count.max(1) as f64 * unit_ns as f64;
    if mean_ns > 1.0 {
        let log = mean_ns.ln();
        counted.log_latency_sum = (log * counted.requests as f64 * LOG_UNIT) as i64;
        counted.log_latency_sum_sq = (log * log * counted.requests as f64 * LOG_UNIT) as i64;
    }
    counted
}

/// Adds what only spans know, where they count the same operation: exceptions, blame, callees, examples.
fn joined(mut measured: Vec<OperationSeries>, spans: &[OperationSeries]) -> Vec<OperationSeries> {
    for series in &mut measured {
        for of in spans.iter().filter(|s| s.key == series.key) {
            for (bucket, cell) in &of.cells {
                let Ok(at) = series.cells.binary_search_by_key(bucket, |(b, _)| *b) else { continue };
                let mine = &mut series.cells[at].1;
                let (requests, errors, weighted) = (mine.requests, mine.errors, mine.weighted_requests);
                let known = OperationCell {
                    requests: 0,
                    errors: 0,
                    weighted_requests: 0,
                    weighted_errors: 0,
                    log_latency_sum: 0,
                    log_latency_sum_sq: 0,
                    latency: Histogram::default(),
                    ..cell.clone()
                };
                mine.merge(&known);
                (mine.requests, mine.errors, mine.weighted_requests) = (requests, errors, weighted);
            }
        }
    }
    measured
}

/// Writes attributes as the table `signals` does.
fn json(attributes: &BTreeMap<String, String>) -> String {
    let quoted = |text: &str| {
        let mut out = String::from("\"");
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        out.push('"');
        out
    };
    let entries: Vec<String> =
        attributes.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    format!("{{{}}}", entries.join(","))
}
