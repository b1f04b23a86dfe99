//! A callee that does not answer, or not in time: it is down or slow, or the candidate does not reach it or does not wait for it.

use plimsoll_model::aggregates::{Served, ServedSeries};
use plimsoll_model::signal::{CalleeTime, LOG_UNIT, OperationCell};
use plimsoll_model::{Bucket, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::simulation::{START, Scenario, looked_at, of_bank, party, simulate};

/// A service that calls a bank once a request, and what becomes of that.
#[derive(Clone)]
struct Case {
    /// The candidate's share of traffic.
    share: f64,
    /// First bucket since the start, and last, in which calls go wrong.
    wrong: std::ops::Range<u64>,
    /// Share of the calls that do, of the candidate and of the control.
    failing: [f64; 2],
    /// Whom the caller says that they were meant for; nothing where it fails by itself, before it calls.
    target: &'static str,
    /// Requests of others to the bank in each bucket, before and while calls go wrong.
    others: [u64; 2],
    /// Share of the others' calls that nobody answers meanwhile, where that is known.
    others_in_vain: Option<f64>,
    /// Milliseconds that a call waits in vain.
    waits_ms: u64,
    /// Milliseconds after which the bank is done with what waited in vain, where it serves that, and with what others ask meanwhile.
    late_ms: Option<u64>,
    others_ms: u64,
}

const DOWN: Case = Case {
    share: 1.0,
    wrong: 18..48,
    failing: [1.0, 1.0],
    target: "bank",
    others: [0, 0],
    others_in_vain: None,
    waits_ms: 0,
    late_ms: None,
    others_ms: BANK_MS,
};

/// Milliseconds in which the bank serves a request as a rule.
const BANK_MS: u64 = 15;

/// All wait for the bank for a second, which serves each of them in five.
const SLOW: Case = Case { waits_ms: 1_000, late_ms: Some(5_000), others: [20, 20], others_ms: 5_000, ..DOWN };

/// The candidate gives up sooner than the bank answers.
const SHORT: Case = Case { waits_ms: 10, late_ms: Some(BANK_MS), others_ms: BANK_MS, ..SLOW };

fn input(case: &Case) -> JudgeInput {
    let scenario =
        Scenario { share: case.share, rate: 20.0, errors: 0.004, before_s: 3_600, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 17);
    let is_wrong = |bucket: u64| bucket >= START && case.wrong.contains(&(bucket - START));
    // Calls that the bank answered, and those that it did not in time.
    let mut served: std::collections::BTreeMap<Bucket, [u64; 2]> = Default::default();
    for series in &mut input.series {
        let version = series.key.version.clone();
        for (bucket, cell) in &mut series.cells {
            let failing = case.failing[usize::from(version != "2")];
            let wrong =
                if is_wrong(bucket.0) { (failing * (cell.requests - cell.errors) as f64).round() as u64 } else { 0 };
            let own = party("payment", &version, &series.key.operation);
            cell.assembled = cell.requests;
            cell.self_time_ns = cell.requests * 30_000_000;
            cell.errors += wrong;
            cell.blame = [(own, cell.errors)].into();
            cell.blame.retain(|_, count| *count > 0);
            let calls = cell.requests - wrong;
            cell.callees =
                [(party("bank", "7", "POST /charge"), CalleeTime { calls, critical_ns: calls * 10_000_000 })].into();
            cell.callees.retain(|_, time| time.calls > 0);
            let [answered, late] = served.entry(*bucket).or_default();
            (*answered, *late) = (*answered + calls, *late + if case.target.is_empty() { 0 } else { wrong });
            if wrong > 0 && !case.target.is_empty() {
                let critical_ns = wrong * case.waits_ms * 1_000_000;
                cell.callees.insert(party(case.target, "", ""), CalleeTime { calls: wrong, critical_ns });
                cell.self_time_ns += critical_ns;
            }
            if wrong > 0 && case.waits_ms > 0 {
                let log = ((case.waits_ms as f64 * 1e6).ln() * LOG_UNIT) as i64;
                let taken: u64 = cell.latency.count();
                cell.latency = Default::default();
                (0..taken)
                    .for_each(|n| cell.latency.record(if n < wrong { case.waits_ms } else { 40 + n % 30 } * 1_000_000));
                cell.log_latency_sum += wrong as i64 * (log - ((50e6_f64).ln() * LOG_UNIT) as i64);
            }
        }
    }
    let cells = served.into_iter().map(|(bucket, [answered, late])| {
        let wrong = is_wrong(bucket.0);
        let others = case.others[usize::from(wrong)];
        let mut cell = OperationCell::default();
        let others_ms = if wrong { case.others_ms } else { BANK_MS };
        let of =
            [(answered, BANK_MS), (others, others_ms), (case.late_ms.map_or(0, |_| late), case.late_ms.unwrap_or(0))];
        for (requests, ms) in of {
            cell.requests += requests;
            (0..requests).for_each(|_| cell.latency.record(ms * 1_000_000));
        }
        cell.assembled = cell.requests;
        (bucket, cell)
    });
    input.related = vec![of_bank(cells)];
    if let Some(in_vain) = case.others_in_vain {
        let cells = (START - 360..START + 60).map(|bucket| {
            let calls = case.others[0];
            let unanswered = if is_wrong(bucket) { (in_vain * calls as f64).round() as u64 } else { 0 };
            (Bucket(bucket), Served { answered: calls - unanswered, unanswered })
        });
        let (cells, operation) = (cells.collect(), "POST /charge".to_owned());
        input.witnesses = vec![ServedSeries { target: "bank".to_owned(), operation, cells }];
    }
    input
}

/// Looks at it soon, later and at the end; returns the first look that calls it regressed, else the last.
fn told(case: &Case) -> Verdict {
    let all = input(case);
    let mut last = None;
    for bucket in [case.wrong.start + 2, case.wrong.start + 6, 54].map(|since| START + since) {
        let verdict = judge(&JudgeInput { now: Bucket(bucket + 1).start(), ..all.clone() });
        let regressed = verdict.verdict == VerdictKind::Regressed;
        last = Some(verdict);
        if regressed {
            break;
        }
    }
    last.expect("looked at")
}

fn assert_symptom(case: &Case, what: &str) {
    let verdict = told(case);
    assert_eq!(verdict.verdict, VerdictKind::Inconclusive, "{what}: {}", verdict.summary);
    assert!(
        verdict.data_quality.iter().any(|word| word == quality::CALLEE_FAILING),
        "{what}: {:?}",
        verdict.data_quality
    );
    assert!(!verdict.findings.is_empty(), "{what}");
    for finding in &verdict.findings {
        let culprit = (finding.culprit.service.as_str(), finding.culprit.version.as_str());
        assert!(finding.symptom && culprit == ("bank", "7"), "{what}: {}", finding.summary);
    }
}

fn assert_own(case: &Case, what: &str) {
    let verdict = told(case);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{what}: {}", verdict.summary);
    assert_eq!(verdict.findings[0].culprit.service, "payment", "{what}: {}", verdict.summary);
}

#[test]
fn a_callee_that_is_down_rolls_back_nobody_who_was_deployed_before() {
    for target in ["bank", "Bank", "bank.prod.svc.cluster.local", "10.0.0.7"] {
        for (failing, wrong) in [(1.0, 18..48), (1.0, 18..24), (0.3, 18..48)] {
            let case = Case { failing: [failing; 2], wrong, target, ..DOWN };
            assert_symptom(&case, &format!("{target}, {failing} of the calls in {:?}", case.wrong));
        }
    }
}

#[test]
fn calls_that_wait_in_vain_make_nobody_slow() {
    assert_symptom(&Case { waits_ms: 5_000, ..DOWN }, "all wait for five seconds");
    assert_symptom(&Case { waits_ms: 5_000, failing: [0.3; 2], ..DOWN }, "three in ten do");
}

#[test]
fn a_candidate_that_does_not_reach_its_callee_is_to_blame() {
    assert_own(&Case { wrong: 0..60, ..DOWN }, "it never reached it: another port");
    assert_own(&Case { wrong: 0..60, target: "bnak", ..DOWN }, "another name");
    assert_own(&Case { target: "vault", ..DOWN }, "somebody else who emits no spans is called before the bank is");
    assert_own(&Case { target: "", ..DOWN }, "it fails before it calls");
    assert_own(&Case { target: "", failing: [0.3; 2], ..DOWN }, "it fails three in ten before it calls");
}

#[test]
fn side_by_side_the_control_tells_whether_the_callee_is_down() {
    for wrong in [0..60, 18..48] {
        let canary = Case { share: 0.5, failing: [1.0, 0.0], wrong, ..DOWN };
        assert_own(&canary, "the canary alone does not reach it");
        assert_own(
            &Case { failing: [0.3, 0.0], ..canary.clone() },
            "the canary alone does not reach it three in ten times",
        );
        let down = told(&Case { failing: [1.0, 1.0], ..canary });
        assert_ne!(down.verdict, VerdictKind::Regressed, "nobody reaches it: {}", down.summary);
    }
}

#[test]
fn one_after_the_other_those_who_call_it_as_well_tell() {
    // Twenty a bucket come from elsewhere.
    let leak = Case { others: [20, 20], ..DOWN };
    assert_own(&leak, "others reach it as ever");
    assert_own(&Case { failing: [0.3; 2], ..leak }, "others reach it as ever, and it does not three in ten times");
    assert_symptom(&Case { others: [20, 0], ..DOWN }, "nobody reaches it");
    assert_symptom(&Case { others: [20, 13], failing: [0.3; 2], ..DOWN }, "nobody reaches it three in ten times");
    assert_symptom(&Case { others: [20, 0], wrong: 0..30, ..DOWN }, "nobody reaches it from the start on");
}

#[test]
fn calls_of_others_tell_where_their_number_does_not() {
    // A twentieth is less than their traffic varies by.
    let some = Case { failing: [0.05; 2], wrong: 0..60, others: [20, 20], ..DOWN };
    assert_own(&Case { others_in_vain: Some(0.0), ..some.clone() }, "all of theirs are answered");
    assert_symptom(&Case { others_in_vain: Some(0.05), ..some.clone() }, "as many of theirs are not");
    assert_symptom(&some, "nobody knows of theirs");
    // What the candidate does not call is as fast, and reached, as ever.
    let mut input = input(&Case { others_in_vain: Some(0.0), others: [20, 20], failing: [0.3; 2], ..DOWN });
    input.witnesses[0].operation = "GET /status".to_owned();
    for (_, cell) in input.related.iter_mut().flat_map(|series| &mut series.cells) {
        cell.requests -= 20;
    }
    let mut status = input.related[0].clone();
    status.key.operation = "GET /status".to_owned();
    for (_, cell) in &mut status.cells {
        *cell = OperationCell { requests: 20, assembled: 20, ..OperationCell::default() };
    }
    input.related.push(status);
    let told = looked_at(&mut input, 6);
    let regressed = told.iter().find(|verdict| verdict.verdict == VerdictKind::Regressed);
    assert!(regressed.is_none(), "{:?}", regressed.map(|verdict| &verdict.summary));
}

#[test]
fn a_callee_that_is_too_slow_rolls_back_nobody_who_was_deployed_before() {
    for (failing, wrong) in [(1.0, 18..48), (1.0, 18..24), (0.3, 18..48)] {
        let case = Case { failing: [failing; 2], wrong, ..SLOW };
        assert_symptom(&case, &format!("{failing} of the calls in {:?}", case.wrong));
        assert_symptom(&Case { others: [0, 0], ..case }, &format!("{failing} of the calls, and nobody else calls it"));
    }
    let some = Case { failing: [0.3; 2], others: [20, 6], others_ms: BANK_MS, ..SLOW };
    assert_symptom(&some, "of others no more are served than three in ten");
    assert_symptom(&Case { late_ms: None, ..SLOW }, "what it serves of the candidate's calls is not known yet");
}

#[test]
fn a_candidate_that_does_not_wait_for_its_callee_is_to_blame() {
    for (failing, wrong) in [(1.0, 0..60), (1.0, 18..48), (0.3, 0..60), (0.3, 18..48)] {
        let case = Case { failing: [failing; 2], wrong, ..SHORT };
        assert_own(&case, &format!("{failing} of the calls in {:?} are given up too soon", case.wrong));
        assert_own(&Case { others: [0, 0], ..case }, &format!("{failing} of the calls, and nobody else calls it"));
    }
}

#[test]
fn a_candidate_that_makes_its_callee_slow_for_itself_alone_is_to_blame() {
    for failing in [1.0, 0.3] {
        let case = Case { failing: [failing; 2], others_ms: BANK_MS, ..SLOW };
        assert_own(&case, &format!("the bank serves others as fast as ever, {failing} of its own calls not"));
    }
    let canary = Case { share: 0.5, failing: [1.0, 0.0], ..SLOW };
    assert_own(&canary, "the control gets its answers");
}

#[test]
fn a_timeout_in_the_tail_of_a_callee_that_is_no_slower_than_ever_is_too_short() {
    // One call in forty takes longer than the bank's p95 at any time, and is given up since the start.
    let mut input = input(&Case { failing: [0.025; 2], wrong: 0..60, waits_ms: 60, late_ms: Some(90), ..SHORT });
    for (bucket, cell) in input.related.iter_mut().flat_map(|series| &mut series.cells) {
        if bucket.0 < START {
            let tail = (bucket.0 + 1) * cell.requests / 40 - bucket.0 * cell.requests / 40;
            cell.latency = Default::default();
            (0..cell.requests).for_each(|n| cell.latency.record(if n < tail { 90 } else { BANK_MS } * 1_000_000));
        }
    }
    let verdict = looked_at(&mut input, 6).pop().expect("looked at");
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert_eq!(verdict.findings[0].culprit.service, "payment", "{}", verdict.summary);
}
