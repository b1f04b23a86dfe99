//! A caller that stops calling a callee that fails: nothing that it is rolled back for, unless the callee is well.

use plimsoll_model::signal::{CalleeTime, ExceptionCount, Fingerprint, OperationCell};
use plimsoll_model::{Bucket, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::simulation::{START, Scenario, of_bank, party, simulate};

/// A service that calls a bank once a request, and does so seldom for a while.
#[derive(Clone)]
struct Case {
    /// Buckets since the start in which it does.
    seldom: std::ops::Range<u64>,
    /// It calls in one of so many of these buckets, and so much of what it would.
    every: u64,
    calls: f64,
    /// Requests that make no call fail, or are answered well.
    fails: bool,
    /// An exception goes with each of them.
    throws: bool,
    /// Buckets since the start in which the bank fails, and the share of requests that it fails then and at all other times.
    broken: std::ops::Range<u64>,
    failing: [f64; 2],
    /// It does not answer at all in place of failing.
    down: bool,
}

const OPEN: Case = Case {
    seldom: 18..42,
    every: 1,
    calls: 0.05,
    fails: true,
    throws: false,
    broken: 18..42,
    failing: [1.0, 0.0],
    down: false,
};

/// Requests of others to the bank in a bucket.
const OTHERS: u64 = 40;

fn input(case: &Case) -> JudgeInput {
    let scenario =
        Scenario { share: 1.0, rate: 20.0, errors: 0.0, before_s: 3_600, after_s: 600, ..Scenario::default() };
    let mut input = simulate(&scenario, 23);
    let is_in = |bucket: u64, within: &std::ops::Range<u64>| bucket >= START && within.contains(&(bucket - START));
    let share = |bucket: u64| case.failing[usize::from(!is_in(bucket, &case.broken))];
    // Calls that reach the bank, and those of them that it fails.
    let mut reached: std::collections::BTreeMap<Bucket, [u64; 2]> = Default::default();
    for series in &mut input.series {
        let own = party("payment", &series.key.version, &series.key.operation);
        for (bucket, cell) in &mut series.cells {
            let seldom = is_in(bucket.0, &case.seldom);
            let calls = match seldom {
                true if !(bucket.0 - START - case.seldom.start).is_multiple_of(case.every) => 0,
                true => (case.calls * cell.requests as f64).round() as u64,
                false => cell.requests,
            };
            let failed = (share(bucket.0) * calls as f64).round() as u64;
            let gone = cell.requests - calls;
            cell.assembled = cell.requests;
            cell.self_time_ns = cell.requests * 30_000_000;
            let bad = if case.fails { failed + gone } else { 0 };
            (cell.errors, cell.blame, cell.callees) = (bad, Default::default(), Default::default());
            let answered = if case.down { calls - failed } else { calls };
            let time = |calls: u64| CalleeTime { calls, critical_ns: calls * 10_000_000 };
            cell.callees.insert(party("bank", "7", "POST /charge"), time(answered));
            if case.fails {
                let passed_on = if case.down { own.clone() } else { party("bank", "7", "POST /charge") };
                *cell.blame.entry(passed_on).or_default() += failed;
                *cell.blame.entry(own.clone()).or_default() += gone;
                if case.down {
                    cell.callees.insert(party("bank", "", ""), time(failed));
                }
            }
            cell.blame.retain(|_, count| *count > 0);
            cell.callees.retain(|_, time| time.calls > 0);
            if case.throws && gone > 0 {
                let thrown = ExceptionCount {
                    exception_type: "com.shop.CallNotPermittedException".to_owned(),
                    message: "breaker `bank` is open".to_owned(),
                    count: gone,
                };
                cell.exceptions.insert(Fingerprint(78), thrown);
            }
            let [all, bad] = reached.entry(*bucket).or_default();
            (*all, *bad) = (*all + answered, *bad + calls.min(failed));
        }
    }
    let cells = reached.into_iter().map(|(bucket, [answered, bad])| {
        let others = (share(bucket.0) * OTHERS as f64).round() as u64;
        let (requests, errors) = match case.down {
            true => (answered + OTHERS - others, 0),
            false => (answered + OTHERS, bad + others),
        };
        (bucket, OperationCell { requests, errors, assembled: requests, ..OperationCell::default() })
    });
    input.related = vec![of_bank(cells)];
    input
}

/// Looks at it every ten seconds; returns the first look that calls it regressed, else the last.
fn told(case: &Case) -> Verdict {
    let all = input(case);
    let looks = (case.seldom.start..54).step_by(2).map(|since| {
        let now = Bucket(START + since + 1).start();
        judge(&JudgeInput { now, ..all.clone() })
    });
    let mut last = None;
    for verdict in looks {
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
    let words = &verdict.data_quality;
    assert!(words.iter().any(|word| word == quality::CALLEE_FAILING), "{what}: {words:?} {}", verdict.summary);
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
fn an_open_breaker_is_the_doing_of_whom_it_keeps_from_being_called() {
    for down in [false, true] {
        let what = if down { "it is down" } else { "it fails" };
        assert_symptom(&Case { down, ..OPEN }, what);
        assert_symptom(&Case { down, every: 6, ..OPEN }, &format!("{what}, and is called once a minute"));
        assert_symptom(&Case { down, seldom: 18..46, ..OPEN }, &format!("{what}, and is called again after a while"));
        assert_symptom(&Case { down, failing: [0.6, 0.0], calls: 0.3, ..OPEN }, &format!("{what} in part"));
    }
}

#[test]
fn calls_that_a_fallback_makes_up_for_are_missing_for_whom_they_would_go_to() {
    let fallback = Case { fails: false, ..OPEN };
    assert_symptom(&fallback, "requests go well");
    assert_symptom(&Case { every: 6, ..fallback.clone() }, "it is called once a minute");
    assert_symptom(&Case { throws: true, ..fallback }, "each throws and catches an exception");
    assert_symptom(&Case { throws: true, ..OPEN }, "each throws one and fails");
}

#[test]
fn who_does_not_call_a_callee_that_is_well_is_to_blame() {
    let own = Case { seldom: 18..54, failing: [0.0, 0.0], calls: 0.3, ..OPEN };
    assert_own(&own, "it fails before it calls");
    assert_own(&Case { failing: [0.03, 0.03], ..own.clone() }, "a few fail at any time");
    assert_own(&Case { broken: 18..20, failing: [1.0, 0.0], seldom: 18..54, ..own.clone() }, "it was over minutes ago");
    assert_own(&Case { fails: false, ..own }, "it answers without what it should call for");
}
