//! Error messages, metrics and attribute values: what is known of a service beside its requests.

use std::collections::BTreeMap;

use plimsoll_model::aggregates::{ActionCell, ActionSeries};
use plimsoll_model::drill::{AttributeValue, Outcome};
use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::metric::{ExactSum, MetricCell, MetricKey, MetricSeries, MetricShape};
use plimsoll_model::signal::{AgeClass, Party};
use plimsoll_model::{Bucket, SignalKind, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::simulation::{START, Scenario, looked_at, service, simulate};

pub(crate) fn logs(
    version: &str,
    template: &str,
    level: Level,
    buckets: std::ops::Range<u64>,
    count: u64,
) -> LogSeries {
    LogSeries {
        version: version.to_owned(),
        template: template.to_owned(),
        level,
        first_seen: Bucket(buckets.start).start(),
        cells: buckets.map(|bucket| (Bucket(bucket), LogCell { count, ..LogCell::default() })).collect(),
    }
}

#[test]
fn errors_logged_in_another_format_as_often_as_before_have_moved() {
    let was = "payment <*> failed: timeout after <*> ms";
    let judged = |template: &str, count: u64, level: Level| {
        let mut input = simulate(&Scenario { share: 1.0, errors: 0.002, before_s: 1_200, ..Scenario::default() }, 12);
        let end = input.now.bucket().0;
        input.aggregates.logs =
            vec![logs("1", was, Level::Error, START - 120..START, 6), logs("2", template, level, START..end, count)];
        looked_at(&mut input, 1).iter().any(|verdict| verdict.verdict == VerdictKind::Regressed)
    };
    let json = r#"{"level":"error","logger":"<*>","msg":"payment failed","id":<*>,"cause":"timeout","ms":<*>}"#;
    let framed = "[pay-worker-<*>] com.shop.pay.PayService: payment <*> failed: timeout after <*> ms";
    for template in [json, framed, "could not charge order <*> (timed out)"] {
        assert!(!judged(template, 6, Level::Error), "{template}");
        assert!(judged(template, 30, Level::Error), "five times as often: {template}");
    }
    assert!(judged("could not charge order <*> (timed out)", 6, Level::Fatal), "none is tolerated of what is fatal");
}

fn harmless() -> JudgeInput {
    simulate(&Scenario { share: 0.5, errors: 0.002, before_s: 1_200, after_s: 600, ..Scenario::default() }, 11)
}

#[test]
fn an_error_swallowed_into_a_log_is_found_and_one_reworded_is_not() {
    let mut input = harmless();
    let swallowed = "could not reserve seat <*> for order <*>: inventory answered nothing";
    input.aggregates.logs = vec![logs("2", swallowed, Level::Error, START..START + 60, 12)];
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let finding = verdict.findings.iter().find(|f| f.signal == SignalKind::NewLog).expect("it is new");
    assert!(finding.summary.contains("logs the error `could not reserve seat"), "{}", finding.summary);
    assert!(finding.sql.contains("kind = 'log'"), "{}", finding.sql);

    // The same at another level is nobody's error.
    input.aggregates.logs = vec![logs("2", swallowed, Level::Info, START..START + 60, 12)];
    assert_ne!(judge(&input).verdict, VerdictKind::Regressed);

    // What the control said in other words has moved.
    let before = "could not reserve seat <*> for order <*>: inventory said nothing";
    input.aggregates.logs = vec![
        logs("1", before, Level::Error, START - 120..START + 60, 12),
        logs("2", swallowed, Level::Error, START..START + 60, 12),
    ];
    let verdict = judge(&input);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[test]
fn many_more_error_messages_a_request_are_a_regression() {
    let mut input = harmless();
    let text = "retrying payment of <*>";
    input.aggregates.logs = vec![
        logs("1", text, Level::Error, START - 120..START + 60, 5),
        logs("2", text, Level::Error, START..START + 60, 120),
    ];
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert!(verdict.summary.contains("errors a request against"), "{}", verdict.summary);
}

#[test]
fn a_message_that_is_no_longer_logged_tells_of_another_path_unless_the_code_is_new() {
    use plimsoll_model::DeployKind;
    let judged = |kind: DeployKind, after: u64| {
        let scenario = Scenario { share: 1.0, errors: 0.002, before_s: 1_800, after_s: 600, ..Scenario::default() };
        let mut input = simulate(&scenario, 15);
        let version = if kind == DeployKind::Config { "1" } else { "2" };
        input.series.iter_mut().for_each(|series| {
            if series.key.version == "2" {
                series.key.version = version.to_owned();
            }
        });
        input.deploy.kind = kind;
        input.deploy.version = version.to_owned();
        let text = "routes found for <*>";
        input.aggregates.logs = vec![logs("1", text, Level::Info, START - 180..START, 400)];
        input.aggregates.logs.push(logs(version, text, Level::Info, START..START + 60, after));
        judge(&input)
    };
    let gone = judged(DeployKind::Config, 0);
    assert_eq!(gone.verdict, VerdictKind::Regressed, "{}", gone.summary);
    assert!(gone.summary.contains("logs `routes found for <*>` 0 times a request against 0.4"), "{}", gone.summary);
    assert_ne!(judged(DeployKind::Config, 400).verdict, VerdictKind::Regressed);
    assert_ne!(judged(DeployKind::Release, 0).verdict, VerdictKind::Regressed);
}

pub(crate) fn gauge(
    version: &str,
    name: &str,
    value: impl Fn(u64) -> f64,
    minutes: std::ops::Range<u64>,
) -> MetricSeries {
    MetricSeries {
        key: MetricKey {
            service: service(),
            version: version.to_owned(),
            age: AgeClass::Warm,
            name: name.to_owned(),
            unit: "By".to_owned(),
            shape: MetricShape::Gauge,
            attributes: BTreeMap::new(),
        },
        cells: minutes
            .map(|minute| {
                let sum = ExactSum::of(value(minute));
                (Bucket(minute * 6), MetricCell { points: 1, count: 1, sum, ..MetricCell::default() })
            })
            .collect(),
    }
}

/// A level that wanders by a few per cent, the same way each time.
pub(crate) fn wandering(minute: u64) -> f64 {
    let noise = (minute.wrapping_mul(2_654_435_761) >> 7) % 1_000;
    300e6 * (1.0 + 0.04 * (noise as f64 / 1_000.0 - 0.5))
}

#[test]
fn memory_that_leaks_is_found_and_memory_that_wanders_is_not() {
    let scenario = Scenario { share: 0.5, errors: 0.002, before_s: 3_600, after_s: 1_500, ..Scenario::default() };
    let mut input = simulate(&scenario, 12);
    let start = START / 6;
    let control = gauge("1", "process.memory.usage", wandering, start - 60..start + 25);
    input.aggregates.metrics = vec![
        control.clone(),
        gauge("2", "process.memory.usage", |m| wandering(m) * (1.0 + 0.06 * (m - start) as f64), start..start + 25),
    ];
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let finding = verdict.findings.iter().find(|f| f.signal == SignalKind::Metric).expect("it leaks");
    assert!(finding.summary.contains("`process.memory.usage` at "), "{}", finding.summary);

    input.aggregates.metrics =
        vec![control.clone(), gauge("2", "process.memory.usage", |m| wandering(m + 9), start..start + 25)];
    assert_ne!(judge(&input).verdict, VerdictKind::Regressed);

    // Of a metric that nobody can call better or worse nothing is said.
    input.aggregates.metrics = vec![
        gauge("1", "build.info", wandering, start - 60..start + 25),
        gauge("2", "build.info", |m| 9.0 * wandering(m), start..start + 25),
    ];
    assert_ne!(judge(&input).verdict, VerdictKind::Regressed);
}

/// Orders of a minute that follow requests, from so many instances.
fn orders(version: &str, a_minute: f64, instances: u64, minutes: std::ops::Range<u64>) -> MetricSeries {
    let mut series = gauge(version, "shop.orders.placed", |m| a_minute * wandering(m) / 300e6, minutes);
    series.key.shape = MetricShape::Counter;
    series.key.unit = "{order}".to_owned();
    series.cells.iter_mut().for_each(|(_, cell)| (cell.points, cell.count) = (instances, instances));
    series
}

#[test]
fn a_canary_that_counts_less_because_it_gets_less_is_not_held_to_the_rest() {
    let start = START / 6;
    let judged = |share: f64, kept: f64, instances: [u64; 2]| {
        let scenario = Scenario { share, errors: 0.002, before_s: 3_600, after_s: 1_500, ..Scenario::default() };
        let mut input = simulate(&scenario, 15);
        // One request in five places an order; there were as many instances before as there are of both versions.
        let all = 0.2 * 60.0 * scenario.rate;
        let [candidate, control] = instances;
        input.aggregates.metrics = vec![
            orders("1", all, candidate + control, start - 60..start),
            orders("1", all * (1.0 - share), control, start..start + 25),
            orders("2", all * share * kept, candidate, start..start + 25),
        ];
        judge(&input)
    };
    // A tenth of the requests, on a tenth of the instances and on as many as serve all the rest.
    for instances in [[1, 9], [5, 5]] {
        let fine = judged(0.1, 1.0, instances);
        assert_ne!(fine.verdict, VerdictKind::Regressed, "{instances:?}: {}", fine.summary);
        let lossy = judged(0.1, 0.2, instances);
        assert_eq!(lossy.verdict, VerdictKind::Regressed, "{instances:?}: {}", lossy.summary);
        let finding = lossy.findings.iter().find(|f| f.signal == SignalKind::Metric).expect("orders are lost");
        assert!(finding.summary.contains("`shop.orders.placed` a request at "), "{}", finding.summary);
        assert!((finding.baseline.value - 0.2).abs() < 0.03 && finding.candidate.value < 0.06, "{finding:?}");
        assert!(finding.sql.contains("FROM operations") && finding.sql.contains("JOIN served"), "{}", finding.sql);
    }
}

#[test]
fn what_runs_by_the_clock_is_not_worse_because_fewer_requests_share_it() {
    let start = START / 6;
    let collections = |version: &str, a_minute: f64, minutes: std::ops::Range<u64>| {
        let mut series = orders(version, a_minute, 2, minutes);
        series.key.name = "jvm.gc.collections".to_owned();
        series
    };
    let judged = |times: f64| {
        let scenario = Scenario { share: 1.0, errors: 0.002, before_s: 3_600, after_s: 1_500, ..Scenario::default() };
        let mut input = simulate(&scenario, 16);
        // Traffic falls to a third with the deploy.
        for (bucket, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells) {
            if bucket.0 >= START {
                (cell.requests, cell.errors) = (cell.requests / 3, cell.errors / 3);
                cell.latency.0.values_mut().for_each(|n| *n = n.div_ceil(3));
            }
        }
        input.aggregates.metrics =
            vec![collections("1", 60.0, start - 60..start), collections("2", 60.0 * times, start..start + 25)];
        judge(&input)
    };
    let of_metric = |verdict: &plimsoll_model::Verdict| verdict.findings.iter().any(|f| f.signal == SignalKind::Metric);
    assert!(!of_metric(&judged(1.0)), "three times as many a request, and as many a minute");
    assert!(of_metric(&judged(3.0)), "three times as many a minute");
}

#[test]
fn a_finding_names_the_region_that_its_failures_share() {
    let mut input = simulate(&Scenario { share: 0.5, error_effect: 6.0, after_s: 400, ..Scenario::default() }, 13);
    for series in &mut input.series {
        let candidate = series.key.version == "2";
        for (_, cell) in &mut series.cells {
            let at = |value: &str| AttributeValue { attribute: "cloud.region".to_owned(), value: value.to_owned() };
            let eu = if candidate { cell.errors } else { cell.errors / 2 };
            let half = cell.requests / 2;
            cell.values.insert(at("eu"), Outcome { requests: half, errors: eu.min(half), log_latency_sum: 0 });
            let rest = Outcome { requests: cell.requests - half, errors: cell.errors - eu, log_latency_sum: 0 };
            cell.values.insert(at("us"), rest);
        }
    }
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed);
    assert!(verdict.summary.contains("when `cloud.region=eu`"), "{}", verdict.summary);
}

#[test]
fn a_flag_that_breaks_one_arm_is_judged_by_its_arms() {
    use plimsoll_model::aggregates::ArmSeries;
    use plimsoll_model::{DeployKind, Design};
    let judged = |effect: f64| {
        let scenario =
            Scenario { share: 0.5, error_effect: effect, before_s: 900, after_s: 400, ..Scenario::default() };
        let mut input = simulate(&scenario, 14);
        // The service runs one version; what differs is the variant that a request was given.
        for series in std::mem::take(&mut input.series) {
            let variant = if series.key.version == "2" { "on" } else { "off" };
            let mut own = series;
            own.key.version = "7".to_owned();
            input.aggregates.arms.push(ArmSeries {
                flag: "new-cart".to_owned(),
                variant: variant.to_owned(),
                series: own,
            });
        }
        input.deploy.kind = DeployKind::Flag;
        input.deploy.version = "7".to_owned();
        input.deploy.attributes = [("feature_flag.key", "new-cart"), ("feature_flag.result.variant", "on")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        judge(&input)
    };
    let bad = judged(6.0);
    assert_eq!((bad.verdict, bad.design), (VerdictKind::Regressed, Design::Concurrent), "{}", bad.summary);
    assert!(bad.findings.iter().all(|finding| finding.culprit.version == "new-cart=on"), "{:?}", bad.findings);
    let sql = &bad.findings[0].sql;
    assert!(
        sql.contains("FROM signals") && sql.contains("detail = 'new-cart'") && sql.contains("variant IN ('on')"),
        "{sql}"
    );
    assert_ne!(judged(1.0).verdict, VerdictKind::Regressed);
}

#[test]
fn what_is_logged_of_failures_passed_on_is_told_of_the_callee_whose_new_version_fails() {
    let scenario = Scenario { share: 0.5, error_effect: 6.0, after_s: 600, ..Scenario::default() };
    let judged = |passed_on: bool, messages: u64| {
        let mut input = simulate(&scenario, 1);
        let party = |version: &str| Party {
            namespace: String::new(),
            service: "bank".to_owned(),
            version: version.to_owned(),
            operation: "POST /charge".to_owned(),
        };
        for series in input.series.iter_mut().filter(|_| passed_on) {
            for (_, cell) in &mut series.cells {
                // The former version of the callee always failed now and then, and still does.
                let newer = if series.key.version == "2" { cell.errors * 5 / 6 } else { 0 };
                cell.assembled = cell.requests;
                cell.blame = [(party("7"), cell.errors - newer), (party("8"), newer)].into();
                cell.blame.retain(|_, count| *count > 0);
            }
        }
        let text = "upstream failed: issuer timed out";
        input.aggregates.logs = vec![logs("2", text, Level::Error, START..START + 60, messages)];
        judge(&input)
    };
    let verdict = judged(true, 3);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert!(verdict.findings.iter().all(|finding| finding.culprit.version == "8"), "{:?}", verdict.findings);
    assert_eq!(judged(false, 3).verdict, VerdictKind::Regressed);
    // So many messages are of more than those failures.
    assert_eq!(judged(true, 120).verdict, VerdictKind::Regressed);
}

#[test]
fn a_fatal_error_never_logged_before_forbids_a_pass_at_once_and_several_are_a_regression() {
    let scenario = Scenario { share: 0.5, errors: 0.002, before_s: 1_800, after_s: 600, ..Scenario::default() };
    let judged = |level: Level, buckets: std::ops::Range<u64>, every: usize| {
        let mut input = simulate(&scenario, 12);
        let mut said = logs("2", "disk <*> is gone, giving up", level, buckets, 1);
        said.first_seen = Bucket(START).start();
        said.cells = said.cells.into_iter().step_by(every).collect();
        input.aggregates.logs = vec![logs("1", "served <*>", Level::Info, START - 180..START + 60, 100), said];
        judge(&input)
    };
    // Two in ten minutes of fifty requests a second.
    assert_eq!(
        judged(Level::Error, START + 10..START + 40, 15).verdict,
        VerdictKind::Pass,
        "as few errors are tolerated"
    );
    let few = judged(Level::Fatal, START + 10..START + 40, 15);
    assert_eq!(few.verdict, VerdictKind::Inconclusive, "{}", few.summary);
    // One every ten seconds, which is one in five hundred requests and none in ninety thousand before.
    let many = judged(Level::Fatal, START + 3..START + 60, 1);
    assert_eq!(many.verdict, VerdictKind::Regressed, "{}", many.summary);
    assert!(many.findings.iter().any(|f| f.signal == SignalKind::NewLog), "{}", many.summary);
}

#[test]
fn one_fatal_error_forbids_a_pass_however_short_or_restless_the_time_before() {
    // Eight quiet minutes before, side by side and one after the other; half an hour with bursts of errors.
    for (share, before_s, dispersion) in [(0.5, 480, 1.0), (1.0, 480, 1.0), (0.5, 1_800, 4.0)] {
        let scenario = Scenario { share, errors: 0.002, dispersion, before_s, after_s: 900, ..Scenario::default() };
        let judged = |level: Level| {
            let mut input = simulate(&scenario, 12);
            let said = logs("2", "disk <*> is gone, giving up", level, START + 6..START + 7, 1);
            input.aggregates.logs = vec![logs("1", "served <*>", Level::Info, START - 48..START + 60, 100), said];
            judge(&input)
        };
        let says = |verdict: &plimsoll_model::Verdict| verdict.data_quality.iter().any(|w| w == quality::NEW_FATAL);
        let (fatal, error) = (judged(Level::Fatal), judged(Level::Error));
        assert_eq!(fatal.verdict, VerdictKind::Inconclusive, "{share} {before_s} {dispersion}: {}", fatal.summary);
        assert!(says(&fatal), "{:?}", fatal.data_quality);
        let held =
            "it logged the fatal error `disk <*> is gone, giving up` once, never seen before, which forbids a pass";
        assert_eq!(fatal.summary, format!("payment 2: {held}"));
        assert_eq!(fatal.time_to_decide_s, None, "no traffic changes it");
        assert_eq!(error.verdict, VerdictKind::Pass, "{share} {before_s} {dispersion}: {}", error.summary);
        assert!(!says(&error));
    }
}

#[test]
fn a_fatal_error_before_the_first_request_forbids_a_pass_as_one_after_it_does() {
    let scenario = Scenario { share: 0.5, errors: 0.002, before_s: 1_800, after_s: 900, ..Scenario::default() };
    let judged = |level: Level, serves_from: u64, now: u64, known: bool| {
        let mut input = simulate(&scenario, 12);
        input.now = Bucket(now).start();
        // The marker came amid its bucket, and so did what was said.
        input.deploy.started_at = Bucket(START).start() + std::time::Duration::from_secs(4);
        for series in input.series.iter_mut().filter(|series| series.key.version == "2") {
            series.cells.retain(|(bucket, _)| bucket.0 >= serves_from);
        }
        input.aggregates.logs = vec![
            logs("1", "served <*>", Level::Info, START - 180..START + 60, 100),
            logs("2", "no key found in <*>", level, START..START + 2, 1),
        ];
        if known {
            let before = logs("1", "no key found in <*>", level, START - 20..START - 19, 1);
            input.aggregates.logs[1].first_seen = before.first_seen;
            input.aggregates.logs.push(before);
        }
        judge(&input)
    };
    let held = "it logged the fatal error `no key found in <*>` 2 times, never seen before, which forbids a pass";
    let early = judged(Level::Fatal, START + 6, START + 90, false);
    assert_eq!((early.verdict, early.summary.as_str()), (VerdictKind::Inconclusive, &*format!("payment 2: {held}")));
    let unserved = judged(Level::Fatal, START + 90, START + 20, false);
    assert_eq!(unserved.summary, format!("payment 2: no traffic has reached it yet, and {held}"));
    assert!(unserved.data_quality.iter().any(|word| word == quality::NEW_FATAL), "{:?}", unserved.data_quality);
    let silent = judged(Level::Fatal, START + 90, START + 90, false);
    let both = "has not served a single request since it was deployed; besides it logged the fatal error `no key found in <*>` 2 times";
    assert!(silent.summary.contains(both), "{}", silent.summary);
    for (level, known) in [(Level::Error, false), (Level::Fatal, true)] {
        let well = judged(level, START + 6, START + 90, known);
        assert_eq!(well.verdict, VerdictKind::Pass, "{}", well.summary);
    }
}

#[test]
fn a_pass_says_which_fatal_error_came_after_it() {
    let scenario = Scenario { share: 0.5, errors: 0.002, before_s: 1_800, after_s: 900, ..Scenario::default() };
    let mut input = simulate(&scenario, 12);
    input.aggregates.logs = vec![logs("1", "served <*>", Level::Info, START - 180..START + 60, 100)];
    let passed = judge(&input);
    assert_eq!(passed.verdict, VerdictKind::Pass, "{}", passed.summary);
    for (text, count) in [("disk <*> is gone", 1), ("no key found in <*>", 3)] {
        input.aggregates.logs.push(logs("2", text, Level::Fatal, START + 80..START + 81, count));
    }
    input.previous = Some(passed);
    let later = judge(&input);
    let said = "; since then it logged the fatal error `no key found in <*>` 3 times and one other, never seen before";
    assert!(later.verdict == VerdictKind::Pass && later.summary.ends_with(said), "{}", later.summary);
}

#[test]
fn users_who_no_longer_get_through_are_missed_though_nothing_fails() {
    let judged = |share: f64, times: f64| {
        let scenario = Scenario { share, errors: 0.002, before_s: 1_800, after_s: 900, ..Scenario::default() };
        let mut input = simulate(&scenario, 13);
        let placed = |version: &str, times: f64| {
            let mut done: BTreeMap<Bucket, f64> = BTreeMap::new();
            for series in input.series.iter().filter(|series| series.key.version == version) {
                for (bucket, cell) in &series.cells {
                    *done.entry(*bucket).or_default() += 0.05 * times * cell.requests as f64;
                }
            }
            let cells = done.into_iter().map(|(bucket, n)| (bucket, ActionCell { count: n.round() as u64, failed: 0 }));
            ActionSeries { version: version.to_owned(), action: "order.placed".to_owned(), cells: cells.collect() }
        };
        input.aggregates.actions = vec![placed("1", 1.0), placed("2", times)];
        judge(&input)
    };
    for share in [0.5, 1.0] {
        let fewer = judged(share, 0.3);
        assert_eq!(fewer.verdict, VerdictKind::Regressed, "{}", fewer.summary);
        let found = &fewer.findings[0];
        assert_eq!((found.signal, found.unit.as_str()), (SignalKind::Throughput, "actions/request"));
        assert!(found.summary.contains("counts `order.placed`"), "{}", found.summary);
        assert!(found.sql.contains("kind = 'action' AND name = 'order.placed'"), "{}", found.sql);
        assert!((found.effect - 0.3).abs() < 0.03 && found.interval[1] < 0.67, "{found:?}");
        for times in [0.9, 1.0, 3.0] {
            let verdict = judged(share, times);
            assert_ne!(verdict.verdict, VerdictKind::Regressed, "{share} {times}: {}", verdict.summary);
        }
    }
}
