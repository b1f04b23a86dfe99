//! Calls that nobody answers and that requests get over: they call again or do without, and none of them fails.

use std::collections::BTreeMap;
use std::ops::Range;

use plimsoll_model::signal::{CalleeTime, ExceptionCount, Fingerprint, LOG_UNIT, OperationCell, Party};
use plimsoll_model::{Bucket, SignalKind, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::simulation::{START, Scenario, of_bank, party, simulate};

/// A service that calls a bank once a request, all of it replaced at once.
#[derive(Clone)]
struct Case {
    /// Buckets since the start in which calls find nobody, and the share of requests that meet one.
    wrong: Range<u64>,
    in_vain: f64,
    /// Calls that reach the bank nevertheless, of as many as usual.
    reach: f64,
    /// Milliseconds that such a request waits.
    waits_ms: u64,
    /// Each call in vain throws.
    throws: bool,
    /// Share of the requests that fail by themselves meanwhile.
    fails: f64,
    /// Requests of others that reach the bank in a bucket, as a rule and meanwhile.
    others: [u64; 2],
}

/// Half of the bank is down, and who finds nobody calls again.
const HALF: Case =
    Case { wrong: 18..48, in_vain: 0.5, reach: 1.0, waits_ms: 400, throws: false, fails: 0.0, others: [40, 20] };
/// All of it is down, and requests do without.
const NONE: Case = Case { in_vain: 1.0, reach: 0.0, waits_ms: 0, throws: true, others: [40, 0], ..HALF };

fn input(case: &Case) -> JudgeInput {
    let scenario =
        Scenario { share: 1.0, rate: 20.0, errors: 0.004, before_s: 3_600, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 17);
    let is_wrong = |bucket: u64| bucket >= START && case.wrong.contains(&(bucket - START));
    let mut reached: BTreeMap<Bucket, u64> = BTreeMap::new();
    for series in &mut input.series {
        let own = party("payment", &series.key.version, &series.key.operation);
        for (bucket, cell) in &mut series.cells {
            let wrong = is_wrong(bucket.0);
            let part = |share: f64| if wrong { (share * cell.requests as f64).round() as u64 } else { 0 };
            let (in_vain, failed) = (part(case.in_vain), part(case.fails));
            let calls = if wrong { part(case.reach) } else { cell.requests };
            cell.assembled = cell.requests;
            cell.self_time_ns = cell.requests * 30_000_000;
            cell.errors += failed;
            cell.blame = [(own.clone(), cell.errors)].into();
            cell.blame.retain(|_, count| *count > 0);
            let time = CalleeTime { calls, critical_ns: calls * 10_000_000 };
            cell.callees = [(party("bank", "7", "POST /charge"), time)].into();
            cell.callees.retain(|_, time| time.calls > 0);
            *reached.entry(*bucket).or_default() += calls;
            if in_vain == 0 {
                continue;
            }
            let critical_ns = in_vain * case.waits_ms * 1_000_000;
            cell.callees.insert(party("bank", "", Party::OVERCOME), CalleeTime { calls: in_vain, critical_ns });
            cell.self_time_ns += critical_ns;
            if case.waits_ms > 0 {
                let all = cell.latency.count();
                cell.latency = Default::default();
                let ms = |n: u64| if n < in_vain { case.waits_ms } else { 40 + n % 30 };
                (0..all).for_each(|n| cell.latency.record(ms(n) * 1_000_000));
                let logs = ((case.waits_ms as f64 / 50.0).ln() * LOG_UNIT) as i64;
                cell.log_latency_sum += in_vain as i64 * logs;
            }
            if case.throws {
                let thrown = ExceptionCount {
                    exception_type: "java.net.ConnectException".to_owned(),
                    message: "Connection refused: bank".to_owned(),
                    count: in_vain,
                };
                cell.exceptions.insert(Fingerprint(79), thrown);
            }
        }
    }
    let cells = reached.into_iter().map(|(bucket, calls)| {
        let requests = calls + case.others[usize::from(is_wrong(bucket.0))];
        let mut cell = OperationCell { requests, assembled: requests, ..OperationCell::default() };
        (0..requests).for_each(|_| cell.latency.record(15_000_000));
        (bucket, cell)
    });
    input.related = vec![of_bank(cells)];
    input
}

/// Looks at it every twenty seconds; returns the first look that calls it regressed, else the last in the midst of it.
fn told(case: &Case) -> Verdict {
    let all = input(case);
    let mut last = None;
    for since in (case.wrong.start + 1..case.wrong.end).step_by(2) {
        let verdict = judge(&JudgeInput { now: Bucket(START + since + 1).start(), ..all.clone() });
        let regressed = verdict.verdict == VerdictKind::Regressed;
        last = Some(verdict);
        if regressed {
            break;
        }
    }
    last.expect("looked at")
}

fn assert_symptom(case: &Case, signal: SignalKind, what: &str) {
    let verdict = told(case);
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{what}: {}", verdict.summary);
    let words = &verdict.data_quality;
    assert!(words.iter().any(|word| word == quality::CALLEE_FAILING), "{what}: {words:?} {}", verdict.summary);
    assert!(verdict.findings.iter().any(|finding| finding.signal == signal), "{what}: {:?}", verdict.findings);
    for finding in &verdict.findings {
        assert!(finding.symptom && finding.culprit.service == "bank", "{what}: {}", finding.summary);
    }
}

fn assert_own(case: &Case, what: &str) {
    let verdict = told(case);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{what}: {}", verdict.summary);
    assert_eq!(verdict.findings[0].culprit.service, "payment", "{what}: {}", verdict.summary);
}

#[test]
fn time_that_passes_before_a_callee_that_is_half_down_answers_is_the_callees() {
    assert_symptom(&HALF, SignalKind::Latency, "others reach it half as often");
    assert_symptom(&Case { others: [0, 0], ..HALF }, SignalKind::Latency, "nobody else calls it");
}

#[test]
fn what_a_service_throws_while_it_does_without_a_callee_that_is_down_is_the_callees() {
    assert_symptom(&NONE, SignalKind::NewException, "it throws for each call");
    assert_symptom(&Case { throws: false, ..NONE }, SignalKind::Throughput, "it makes no call that arrives");
}

#[test]
fn who_does_not_reach_a_callee_that_others_reach_is_to_blame() {
    assert_own(&Case { others: [40, 40], ..HALF }, "it waits, and others do not");
    assert_own(&Case { others: [40, 40], ..NONE }, "it does without, and others do not");
}

#[test]
fn what_fails_by_itself_while_calls_are_got_over_is_the_deploys() {
    assert_own(&Case { fails: 0.1, ..NONE }, "a tenth fails besides");
    assert_own(&Case { fails: 0.1, ..HALF }, "a tenth fails besides, and calls reach it in the end");
}
