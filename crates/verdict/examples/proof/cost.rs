//! What it costs to judge live operations every 10 s.

use plimsoll_model::aggregates::{Participant, PathCell, PathSeries};
use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::{Bucket, ServiceAggregates, ServiceKey};
use plimsoll_verdict::{JudgeInput, Session, judge};

use super::fleet::{Fleet, Latencies, START, simulate};

/// Operations of one service.
const OPERATIONS: usize = 200;
/// Templates that each version logs, and paths that it stands in.
const TEMPLATES: usize = 100;
const PATHS: usize = 20;

/// Seconds of processor time that this thread has had.
fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps it");
    let nanos: f64 = text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("its first number is nanoseconds");
    nanos / 1e9
}

/// Judges 200 operations at 100 requests a second afresh at the end of their watch, and every 10 s throughout it as the watcher does.
pub(crate) fn run() {
    let fleet = Fleet { operations: OPERATIONS, share: 0.5, before_s: 3_600, ..Fleet::default() };
    let mut input = simulate(&fleet, &Latencies::new(), 1);
    let began = cpu_s();
    let runs = 10;
    for _ in 0..runs {
        std::hint::black_box(judge(&input));
    }
    let afresh = (cpu_s() - began) / f64::from(runs) / OPERATIONS as f64;
    println!("afresh: {:.1} us an operation", afresh * 1e6);
    for told in ["requests alone", "requests, logs and paths"] {
        if told != "requests alone" {
            input.aggregates = beside(&input);
        }
        let watch = watch(&input);
        let each = watch.latest_s / watch.looks as f64 / OPERATIONS as f64;
        // Operations of as many services as make 10,000, each looked at every 10 s: shares of a core.
        let share = |seconds: f64| 100.0 * seconds / watch.looks as f64 * 10_000.0 / OPERATIONS as f64 / 10.0;
        println!(
            "{told}: carried on {:.2} us an operation and look; of {} looks {} at the whole",
            each * 1e6,
            watch.looks,
            watch.wholes
        );
        println!(
            "  10,000 operations every 10 s: {:.2} % of a core carried on, {:.2} % with the looks at the whole",
            share(watch.latest_s),
            share(watch.latest_s + watch.wholes_s)
        );
        println!("  memory: {} bytes an operation", watch.bytes / OPERATIONS);
    }
}

/// One watch, from its first look to its last.
struct Watch {
    looks: u64,
    wholes: u64,
    /// Processor time of looks that carry on, those included that decline, and of looks at the whole.
    latest_s: f64,
    wholes_s: f64,
    bytes: usize,
}

/// Looks every 10 s; making what a source would return is not measured.
fn watch(all: &JudgeInput) -> Watch {
    let mut session = Session::default();
    let mut watch = Watch { looks: 0, wholes: 0, latest_s: 0.0, wholes_s: 0.0, bytes: 0 };
    let mut previous = None;
    for bucket in START + 1..all.now.bucket().0 {
        let now = Bucket(bucket).start();
        let of = |from: u64, aggregates: ServiceAggregates| {
            let mut input = JudgeInput { now, previous: previous.clone(), aggregates, ..all.clone() };
            for series in &mut input.series {
                series.cells.retain(|(b, _)| b.0 >= from && b.0 < bucket);
            }
            input
        };
        watch.looks += 1;
        let latest = session.since().and_then(|since| {
            let input = of(since.bucket().0, ServiceAggregates::default());
            let beside = session.asks_beside(now).then(|| all.aggregates.clone());
            let began = cpu_s();
            let verdict = session.judge_latest(&input, beside);
            watch.latest_s += cpu_s() - began;
            verdict
        });
        previous = Some(latest.unwrap_or_else(|| {
            let input = of(0, all.aggregates.clone());
            let began = cpu_s();
            let verdict = session.judge_all(&input);
            watch.wholes_s += cpu_s() - began;
            watch.wholes += 1;
            verdict
        }));
        watch.bytes = watch.bytes.max(session.bytes());
    }
    watch
}

/// Messages and paths that are as they ever were, in every bucket of the requests.
fn beside(input: &JudgeInput) -> ServiceAggregates {
    let service = &input.deploy.service;
    let mut found = ServiceAggregates::default();
    let versions: std::collections::BTreeSet<&str> = input.series.iter().map(|s| s.key.version.as_str()).collect();
    for version in versions {
        let cells = input.series.iter().filter(|s| s.key.version == version).flat_map(|s| &s.cells);
        let buckets: std::collections::BTreeSet<Bucket> = cells.map(|(bucket, _)| *bucket).collect();
        let Some(first) = buckets.first() else { continue };
        found.logs.extend((0..TEMPLATES).map(|n| LogSeries {
            version: version.to_owned(),
            template: format!("step {n} of <*> done"),
            level: if n % 10 == 0 { Level::Error } else { Level::Info },
            // Known for as long as there are rows.
            first_seen: first.start().min(input.deploy.started_at - input.tolerances.lookback()),
            cells: buckets.iter().map(|b| (*b, LogCell { count: 1, ..LogCell::default() })).collect(),
        }));
        found.paths.extend((0..PATHS).map(|n| {
            let party = |service: &str, version: &str| Participant {
                namespace: String::new(),
                service: service.to_owned(),
                version: version.to_owned(),
            };
            PathSeries {
                entry: ServiceKey::new(&service.environment, "gateway"),
                operation: format!("GET /{}", n % 8),
                path: vec![party("gateway", &n.to_string()), party(&service.service, version)],
                cells: buckets.iter().map(|b| (*b, PathCell { traces: 20, ..PathCell::default() })).collect(),
            }
        }));
    }
    found
}
