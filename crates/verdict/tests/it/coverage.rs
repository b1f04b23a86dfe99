//! Intervals of effects hold the true ratio at every look, and narrow as evidence comes.

use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::presence::{Distinct, PresenceCell, PresenceSeries};
use plimsoll_model::signal::{AgeClass, CalleeTime, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, DeployKind, Finding, SignalKind};
use plimsoll_verdict::{JudgeInput, judge};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Normal, Poisson};

use crate::simulation::{START, deploy, party, service};

/// Buckets before the start, and from the start on until the last look.
const BEFORE: u64 = 180;
const AFTER: u64 = 120;
/// Buckets between looks.
const EVERY: u64 = 6;
const RUNS: u64 = 150;

/// Cells of one version.
type CellsOf = Vec<(Bucket, OperationCell)>;

fn poisson(rng: &mut ChaCha8Rng, mean: f64) -> u64 {
    if mean > 0.0 { Poisson::new(mean).expect("positive").sample(rng) as u64 } else { 0 }
}

/// So many calls a request on average, three at a time.
fn clumps(rng: &mut ChaCha8Rng, requests: u64, each: f64) -> u64 {
    3 * Binomial::new(requests, each / 3.0).expect("a share").sample(rng)
}

/// A cell of requests whose traces were whole.
fn cell(requests: u64) -> OperationCell {
    OperationCell { requests, assembled: requests, ..OperationCell::default() }
}

/// What is judged of a service whose versions served so.
fn input(versions: [(&str, CellsOf); 2]) -> JudgeInput {
    let series = versions.map(|(version, cells)| OperationSeries {
        key: OperationKey {
            service: service(),
            version: version.to_owned(),
            operation: "GET /".to_owned(),
            kind: OperationKind::Server,
            age: AgeClass::Warm,
        },
        cells: cells.into_iter().filter(|(_, cell)| cell.requests > 0).collect(),
    });
    JudgeInput::new(deploy(Bucket(START).start()), Bucket(START).start(), series.into())
}

/// Buckets of the time before and of the time since.
fn past() -> std::ops::Range<u64> {
    START - BEFORE..START
}

fn since() -> std::ops::Range<u64> {
    START..START + AFTER
}

/// Looks again and again at many runs, and checks how often the interval of the finding that `is` picks misses the `truth` of the
/// moment at any look, and, where it `narrows`, that it does.
fn check(
    simulated: impl Fn(&mut ChaCha8Rng) -> JudgeInput,
    is: impl Fn(&Finding) -> bool,
    truth: impl Fn(u64) -> f64,
    narrows: bool,
) {
    let (mut shown, mut missed, mut widths) = (0_u32, 0_u32, (0.0, 0.0));
    for seed in 0..RUNS {
        let mut input = simulated(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut told: Vec<(f64, [f64; 2])> = Vec::new();
        for buckets in (EVERY..=AFTER).step_by(EVERY as usize) {
            input.now = Bucket(START + buckets).start();
            let verdict = judge(&input);
            let finding = verdict.findings.iter().find(|finding| is(finding));
            told.extend(finding.map(|finding| (truth(buckets), finding.interval)));
            input.previous = Some(verdict);
        }
        let width = |[low, high]: [f64; 2]| (high / low.max(1e-4)).ln();
        if let [(_, first), .., (_, last)] = told.as_slice() {
            shown += 1;
            missed += u32::from(told.iter().any(|(truth, [low, high])| !(low..=high).contains(&truth)));
            widths = (widths.0 + width(*first), widths.1 + width(*last));
        }
    }
    let n = f64::from(shown);
    let (first, last) = (widths.0 / n, widths.1 / n);
    assert!(n >= 0.9 * RUNS as f64, "it was found {shown} times");
    let chance = 3.0 * (0.05 * 0.95 * n).sqrt();
    assert!(f64::from(missed) <= 0.05 * n + chance, "{missed} of {shown} missed the truth");
    assert!(!narrows || last < 0.8 * first, "from {first} to {last}");
}

#[test]
fn calls_a_request_three_at_a_time() {
    let simulated = |rng: &mut ChaCha8Rng| {
        let bank = party("bank", "7", "POST /charge");
        let mut arm = |buckets: std::ops::Range<u64>, each: f64| -> CellsOf {
            let cells = buckets.map(|bucket| {
                let mut cell = cell(poisson(rng, 50.0));
                let calls = clumps(rng, cell.requests, each);
                cell.callees = [(bank.clone(), CalleeTime { calls, critical_ns: 1 })].into();
                (Bucket(bucket), cell)
            });
            cells.collect()
        };
        let (old, new) = (arm(START - BEFORE..START + AFTER, 0.4), arm(since(), 1.6));
        input([("1", old), ("2", new)])
    };
    check(simulated, |finding| finding.unit == "calls/request", |_| 4.0, true);
}

#[test]
fn messages_a_request_three_at_a_time() {
    let simulated = |rng: &mut ChaCha8Rng| {
        let served: CellsOf =
            (START - BEFORE..START + AFTER).map(|bucket| (Bucket(bucket), cell(poisson(rng, 50.0)))).collect();
        let messages = served.iter().map(|(bucket, cell)| {
            let each = if bucket.0 < START { 0.3 } else { 1.2 };
            (*bucket, LogCell { count: clumps(rng, cell.requests, each), ..LogCell::default() })
        });
        let messages = LogSeries {
            version: "1".to_owned(),
            template: "routes found for <*>".to_owned(),
            level: Level::Info,
            first_seen: Bucket(START - BEFORE).start(),
            cells: messages.filter(|(_, cell)| cell.count > 0).collect(),
        };
        let mut input = input([("1", served), ("2", Vec::new())]);
        (input.deploy.kind, input.deploy.version) = (DeployKind::Config, "1".to_owned());
        input.aggregates.logs = vec![messages];
        input
    };
    check(simulated, |finding| finding.unit == "messages/request", |_| 4.0, true);
}

#[test]
fn restarts_where_the_control_has_some_too() {
    const INSTANCES: u64 = 4;
    let simulated = |rng: &mut ChaCha8Rng| {
        let mut hash = 1_u64;
        let mut next = || {
            hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            hash
        };
        let mut arm = |version: &str, buckets: std::ops::Range<u64>, begins: bool, each: f64| {
            let known: Vec<u64> = (0..INSTANCES).map(|_| next()).collect();
            let first = buckets.start;
            let cells = buckets.map(|bucket| {
                let mut cell = PresenceCell { spans: 50, ..PresenceCell::default() };
                known.iter().for_each(|instance| cell.instances.offer(*instance));
                let begun = if begins && bucket == first { INSTANCES } else { 0 };
                let starts = begun + poisson(rng, INSTANCES as f64 * each);
                cell.starts = Distinct::default();
                (0..starts).for_each(|_| cell.starts.offer(next()));
                (Bucket(bucket), cell)
            });
            PresenceSeries { version: version.to_owned(), cells: cells.collect() }
        };
        // What starts as the control's began was before all that is known.
        let presence = vec![arm("1", START - BEFORE..START + AFTER, false, 0.02), arm("2", since(), true, 0.2)];
        let served = |buckets: std::ops::Range<u64>| buckets.map(|bucket| (Bucket(bucket), cell(50))).collect();
        let mut input = input([("1", served(START - BEFORE..START + AFTER)), ("2", served(since()))]);
        input.aggregates.presence = presence;
        input
    };
    check(simulated, |finding| finding.unit == "restarts/h", |_| 10.0, true);
}

/// Traffic of one version and then the next, which gets so much of it; minutes wander by so much.
fn fallen(rng: &mut ChaCha8Rng, left: f64, wanders: f64) -> JudgeInput {
    let step = Normal::new(0.0, wanders).expect("a deviation");
    let mut level = 0.0;
    let mut arm = |buckets: std::ops::Range<u64>, mean: f64| -> CellsOf {
        let cells = buckets.map(|bucket| {
            if bucket.is_multiple_of(6) {
                level = 0.7 * level + step.sample(rng);
            }
            (Bucket(bucket), cell(poisson(rng, mean * f64::exp(level))))
        });
        cells.collect()
    };
    let (old, new) = (arm(past(), 20.0), arm(since(), 20.0 * left));
    input([("1", old), ("2", new)])
}

#[test]
fn requests_that_no_longer_come() {
    let is = |finding: &Finding| finding.signal == SignalKind::Throughput;
    check(|rng| fallen(rng, 0.3, 0.0), is, |_| 0.3, true);
}

#[test]
fn requests_that_no_longer_come_where_traffic_wanders_by_itself() {
    let is = |finding: &Finding| finding.signal == SignalKind::Throughput;
    check(|rng| fallen(rng, 0.15, 0.1), is, |_| 0.15, false);
}

#[test]
fn a_version_that_served_a_few_and_then_none() {
    // It had a fifth of the traffic for three minutes.
    let simulated = |rng: &mut ChaCha8Rng| {
        let mut arm = |buckets: std::ops::Range<u64>, mean: f64| -> CellsOf {
            buckets.map(|bucket| (Bucket(bucket), cell(poisson(rng, mean)))).collect()
        };
        let (old, new) = (arm(past(), 10.0), arm(START..START + 18, 2.0));
        input([("1", old), ("2", new)])
    };
    let is = |finding: &Finding| finding.signal == SignalKind::Silence && finding.unit == "requests/s";
    // Of all its time that is less and less.
    check(simulated, is, |buckets| 0.2 * 18.0 / buckets as f64, false);
}
