//! Metrics of a service that suffers from others: what they tell of that is nothing that the service is rolled back for.

use std::collections::BTreeMap;
use std::ops::Range;

use plimsoll_model::aggregates::{ActionCell, ActionSeries};
use plimsoll_model::metric::MetricShape::{Counter, Gauge, Histogram as Times};
use plimsoll_model::metric::{ExactSum, MetricCell, MetricKey, MetricSeries, MetricShape};
use plimsoll_model::signal::{AgeClass, CalleeTime, Histogram, OperationCell, Party};
use plimsoll_model::{Bucket, Finding, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::aggregates::wandering;
use crate::drift::untouched;
use crate::simulation::{START, Scenario, of_bank, service, simulate};

/// The minute of the start, and of the last look.
const M: u64 = START / 6;
const END: u64 = M + 29;
/// Minutes since the start in which the bank is not well.
const OUTAGE: Range<u64> = 5..13;

/// What the bank does to the service that calls it once a request.
#[derive(Clone)]
struct Bank {
    when: Range<u64>,
    /// Share of its requests that fail, and whether the service fails with them.
    failing: f64,
    passed_on: bool,
    /// Share of the calls that are made at all.
    made: f64,
    /// Times as long as ever.
    slower: u64,
    /// The candidate's share of the traffic.
    share: f64,
}

const WELL: Bank = Bank { when: OUTAGE, failing: 0.0, passed_on: true, made: 1.0, slower: 1, share: 1.0 };
const FAILS: Bank = Bank { failing: 0.9, ..WELL };
const SLOW: Bank = Bank { slower: 6, ..WELL };

fn input(bank: &Bank) -> JudgeInput {
    let scenario = Scenario {
        share: bank.share,
        rate: 20.0,
        errors: 0.002,
        before_s: 3_600,
        after_s: 60 * (END - M),
        ..Scenario::default()
    };
    let mut input = simulate(&scenario, 23);
    let is_ill = |bucket: Bucket| (bucket.0 / 6).checked_sub(M).is_some_and(|minute| bank.when.contains(&minute));
    let party = Party {
        namespace: String::new(),
        service: "bank".to_owned(),
        version: "7".to_owned(),
        operation: "POST /charge".to_owned(),
    };
    let mut served: BTreeMap<Bucket, u64> = BTreeMap::new();
    for series in &mut input.series {
        for (bucket, cell) in &mut series.cells {
            let (failing, slower) = if is_ill(*bucket) { (bank.failing, bank.slower) } else { (0.0, 1) };
            let made = if is_ill(*bucket) { bank.made } else { 1.0 };
            let calls = (made * cell.requests as f64).round() as u64;
            cell.self_time_ns = cell.requests * 15_000_000;
            // No two minutes are quite the same.
            let critical_ns = calls * slower * (15_000_000 + bucket.0 % 7 * 300_000);
            cell.callees = [(party.clone(), CalleeTime { calls, critical_ns })].into();
            let failed = (failing * calls as f64).round() as u64;
            if bank.passed_on && failed > 0 {
                (cell.errors, cell.blame) = (failed, [(party.clone(), failed)].into());
            }
            if slower > 1 {
                let all = cell.latency.count();
                cell.latency = Histogram::default();
                (0..all).for_each(|_| cell.latency.record((15 + 15 * slower) * 1_000_000));
            }
            *served.entry(*bucket).or_default() += calls;
        }
    }
    let cells = served.into_iter().map(|(bucket, requests)| {
        let errors = if is_ill(bucket) { (bank.failing * requests as f64).round() as u64 } else { 0 };
        (bucket, OperationCell { requests, errors, assembled: requests, ..OperationCell::default() })
    });
    input.related = vec![of_bank(cells)];
    input
}

/// A metric of both versions, one after the other: what it is in each minute since the start, with a little noise.
fn metric(name: &str, shape: MetricShape, value: impl Fn(i64) -> f64) -> Vec<MetricSeries> {
    let series = |version: &str, minutes: Range<u64>| MetricSeries {
        key: MetricKey {
            service: service(),
            version: version.to_owned(),
            age: AgeClass::Warm,
            name: name.to_owned(),
            unit: "1".to_owned(),
            shape,
            attributes: BTreeMap::new(),
        },
        cells: minutes
            .map(|minute| {
                let level = value(minute as i64 - M as i64) * wandering(minute) / 306e6;
                // As many observations as the service has requests.
                let n = if shape == Times { 1_200 } else { 1 };
                let sum = ExactSum::of(level * n as f64);
                (Bucket(minute * 6 + 5), MetricCell { points: 1, count: n, sum, ..MetricCell::default() })
            })
            .collect(),
    };
    vec![series("1", M - 60..M), series("2", M..END)]
}

/// A metric of which `usual` is usual, and which becomes `then` in some minutes.
fn becomes(name: &str, shape: MetricShape, usual: f64, then: f64, when: Range<i64>) -> Vec<MetricSeries> {
    metric(name, shape, move |minute| if when.contains(&minute) { then } else { usual })
}

fn judged(bank: &Bank, metrics: Vec<MetricSeries>) -> Verdict {
    let mut input = input(bank);
    input.aggregates.metrics = metrics;
    judge(&input)
}

fn of_metrics(verdict: &Verdict) -> Vec<&Finding> {
    verdict.findings.iter().filter(|finding| finding.signal == SignalKind::Metric).collect()
}

#[track_caller]
fn assert_own(verdict: &Verdict, what: &str) {
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{what}: {}", verdict.summary);
    assert!(of_metrics(verdict).iter().any(|finding| !finding.symptom), "{what}: {}", verdict.summary);
}

#[track_caller]
fn assert_theirs(verdict: &Verdict, what: &str) {
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{what}: {}", verdict.summary);
    assert!(of_metrics(verdict).iter().all(|finding| finding.symptom), "{what}: {}", verdict.summary);
}

#[test]
fn what_a_metric_tells_of_a_callees_failures_is_the_callees() {
    let during = OUTAGE.start as i64..OUTAGE.end as i64;
    let each = [
        ("checkout.success_ratio", Gauge, 0.99, 0.1),
        ("checkout.failure_ratio", Gauge, 0.002, 0.9),
        ("orders.placed", Counter, 600.0, 30.0),
        ("orders.failed", Counter, 2.0, 1_080.0),
        ("order.queue.size", Gauge, 10.0, 900.0),
    ];
    for (name, shape, usual, then) in each {
        let metrics = becomes(name, shape, usual, then, during.clone());
        for passed_on in [true, false] {
            let verdict = judged(&Bank { passed_on, ..FAILS }, metrics.clone());
            assert_theirs(&verdict, &format!("{name}, passed on: {passed_on}"));
        }
        assert_own(&judged(&WELL, metrics), &format!("{name} while the bank is well"));
    }
    // A breaker lets a tenth of the calls through.
    let orders = becomes("orders.placed", Counter, 600.0, 30.0, during.clone());
    let verdict = judged(&Bank { passed_on: false, made: 0.1, ..FAILS }, orders);
    assert!(of_metrics(&verdict).iter().all(|finding| finding.symptom), "{}", verdict.summary);

    // A minute's points come in the next.
    let late = becomes("orders.failed", Counter, 2.0, 1_080.0, during.start + 1..during.end + 1);
    assert_theirs(&judged(&FAILS, late), "points that tell of the minute before");
}

#[test]
fn while_a_callee_fails_a_metric_is_shown_as_its_symptom() {
    let mut input = input(&FAILS);
    input.aggregates.metrics = becomes("checkout.success_ratio", Gauge, 0.99, 0.1, 5..13);
    input.now = Bucket(6 * (M + 11)).start();
    let verdict = judge(&input);
    let found = of_metrics(&verdict);
    assert!(found.len() == 1 && found[0].symptom && found[0].culprit.service == "bank", "{found:?}");
    assert_eq!(found[0].culprit.operation, "POST /charge");
    assert!(verdict.data_quality.iter().any(|word| word == quality::CALLEE_FAILING), "{:?}", verdict.data_quality);
}

#[test]
fn what_a_callees_failures_do_not_explain_is_the_deploys() {
    let fewer = |when: Range<i64>| becomes("orders.placed", Counter, 600.0, 60.0, when);
    assert_own(&judged(&FAILS, fewer(14..29)), "fewer once the bank is well again");
    assert_own(&judged(&FAILS, fewer(0..29)), "fewer before it fails, and after");
    let long = Bank { when: 8..29, ..FAILS };
    assert_own(&judged(&long, fewer(0..29)), "fewer before it fails, until it is well no more");
    let some = Bank { failing: 0.03, when: 5..29, ..WELL };
    assert_own(&judged(&some, fewer(5..29)), "far fewer than fail of it");
    let leak = metric("process.memory.usage", Gauge, |minute| 100.0 * (1.0 + 0.08 * minute.max(0) as f64));
    assert_own(&judged(&FAILS, leak.clone()), "a leak");
    assert_own(&judged(&SLOW, leak), "a leak while the bank is slow for a while");
    let queue = metric("order.queue.size", Gauge, |minute| 10.0 * (1.0 + 0.3 * minute.max(0) as f64));
    assert_own(&judged(&some, queue), "a queue that fills while a few fail");

    // Side by side the control suffers as well.
    let both = Bank { share: 0.5, failing: 0.5, when: 5..29, ..FAILS };
    let mut metrics = becomes("checkout.success_ratio", Gauge, 0.99, 0.05, 5..29);
    let control = becomes("checkout.success_ratio", Gauge, 0.99, 0.5, 5..29).remove(1);
    metrics[0].cells.extend(control.cells);
    assert_own(&judged(&both, metrics), "worse than the control at the same time");
}

#[test]
fn a_callee_that_is_slow_is_told_by_no_metric_of_its_caller() {
    for (name, shape, usual, then) in [
        ("http.client.request.duration", Times, 0.016, 0.091),
        ("http.server.request.duration", Times, 0.032, 0.107),
        ("checkout.latency", Gauge, 32.0, 107.0),
        ("checkout.apdex", Gauge, 0.95, 0.3),
    ] {
        let metrics = becomes(name, shape, usual, then, 5..13);
        assert_theirs(&judged(&SLOW, metrics), name);
    }
    assert_own(&judged(&WELL, becomes("checkout.latency", Gauge, 32.0, 107.0, 5..29)), "nobody else is slow");
    let fewer = becomes("checkout.apdex", Gauge, 0.95, 0.3, 5..29);
    assert_own(&judged(&Bank { slower: 2, when: 5..29, ..WELL }, fewer), "half as slow again drives nobody away");
}

#[test]
fn times_of_requests_that_spans_tell_are_no_levels_and_those_that_nobody_tells_are() {
    let times = |name: &str| becomes(name, Times, 0.016, 0.091, 5..29);
    for name in ["http.client.request.duration", "http_client_request_duration_seconds", "http.server.request.duration"]
    {
        let verdict = judged(&WELL, times(name));
        assert!(of_metrics(&verdict).is_empty(), "{name}: {}", verdict.summary);
    }
    for name in ["db.client.operation.duration", "client.onboarding.duration", "reservation.duration"] {
        assert_own(&judged(&WELL, times(name)), name);
    }
    // Of a tenth of these requests there are spans.
    let mut input = input(&WELL);
    input.aggregates.metrics = times("http.server.request.duration");
    for (_, cell) in input.aggregates.metrics.iter_mut().flat_map(|series| &mut series.cells) {
        cell.count *= 10;
        cell.sum = ExactSum(10 * cell.sum.0);
    }
    assert_own(&judge(&input), "requests without spans");
    // Of none.
    let mut input = simulate(&Scenario { share: 1.0, after_s: 1_500, ..Scenario::default() }, 23);
    input.series.clear();
    input.aggregates.metrics = times("http.client.request.duration");
    assert_own(&judge(&input), "a service without requests");
}

#[test]
fn what_all_share_is_told_by_no_metric() {
    let judged = |then: f64| {
        let mut input = input(&WELL);
        input.aggregates.metrics = becomes("checkout.success_ratio", Gauge, 0.99, 0.5, 5..11);
        input.untouched = untouched(4, (0.01, 50.0, 1.0), (0.01, 50.0, 1.0));
        for (bucket, vitals) in input.untouched.iter_mut().flat_map(|series| &mut series.cells) {
            if (START + 30..START + 66).contains(&bucket.0) {
                vitals.errors = (then * vitals.requests as f64) as u64;
            }
        }
        judge(&input)
    };
    assert_theirs(&judged(0.5), "all fail");
    assert_own(&judged(0.01), "nobody else fails");
}

#[test]
fn what_users_do_less_while_a_callee_fails_them_is_the_callees() {
    let judged = |bank: &Bank, when: Range<u64>| {
        let mut input = input(bank);
        let placed = |version: &str| {
            let own = input.series.iter().filter(|series| series.key.version == version);
            let mut done: BTreeMap<Bucket, f64> = BTreeMap::new();
            for (bucket, cell) in own.flat_map(|series| &series.cells) {
                let less = (bucket.0 / 6).checked_sub(M).is_some_and(|minute| when.contains(&minute));
                *done.entry(*bucket).or_default() += if less { 0.1 } else { 0.5 } * cell.requests as f64;
            }
            let cells = done.into_iter().map(|(bucket, n)| (bucket, ActionCell { count: n.round() as u64, failed: 0 }));
            ActionSeries { version: version.to_owned(), action: "order.placed".to_owned(), cells: cells.collect() }
        };
        input.aggregates.actions = vec![placed("1"), placed("2")];
        judge(&input)
    };
    let ill = |when: Range<u64>| Bank { failing: 0.8, when, ..FAILS };
    for passed_on in [true, false] {
        let verdict = judged(&Bank { passed_on, ..ill(2..14) }, 2..14);
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "passed on: {passed_on}: {}", verdict.summary);
    }
    for (bank, when) in [(WELL, 2..14), (ill(6..9), 0..29), (ill(2..5), 6..29)] {
        let verdict = judged(&bank, when.clone());
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{when:?}: {}", verdict.summary);
        assert!(verdict.summary.contains("order.placed"), "{}", verdict.summary);
    }
}

/// Requests grow to so many times as many from the fifth minute on, and a level to so many times what it was.
fn rush(name: &str, requests: u64, level: f64) -> Verdict {
    let mut input = input(&WELL);
    for (_, cell) in input.series.iter_mut().flat_map(|series| &mut series.cells).filter(|(b, _)| b.0 >= 6 * (M + 5)) {
        let one = cell.clone();
        (1..requests).for_each(|_| cell.merge(&one));
    }
    input.aggregates.metrics = becomes(name, Gauge, 0.2, 0.2 * level, 5..29);
    judge(&input)
}

#[test]
fn what_a_rush_uses_up_is_nobodys_deploy() {
    for name in ["process.cpu.utilization", "executor.queued"] {
        let verdict = rush(name, 2, 2.0);
        assert!(of_metrics(&verdict).is_empty(), "{name}: {}", verdict.summary);
        assert_own(&rush(name, 2, 4.0), "twice as much for each request");
        assert_own(&rush(name, 1, 2.0), "no more requests than ever");
    }
    assert_own(&rush("process.memory.usage", 2, 2.0), "what is kept does not go with what comes in");
}

#[test]
fn what_a_callees_outage_left_behind_is_worked_off_in_peace() {
    // From ten up to two hundred while the bank fails, and down again in ten minutes, or not at all.
    let queue = |drains: f64| {
        metric("outbox.queue.depth", Gauge, move |minute| match minute {
            5..13 => 10.0 + 25.0 * (minute - 4) as f64,
            13.. => (210.0 - drains * (minute - 12) as f64).max(10.0),
            _ => 10.0,
        })
    };
    assert_theirs(&judged(&FAILS, queue(20.0)), "it drains");
    assert_own(&judged(&FAILS, queue(-10.0)), "it goes on rising");
    assert_own(&judged(&WELL, queue(20.0)), "the bank was well");
}
