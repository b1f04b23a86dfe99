//! Operations that the control never had, or hardly ever.

use plimsoll_model::signal::{
    AgeClass, CalleeTime, OperationCell, OperationKey, OperationKind, OperationSeries, Party,
};
use plimsoll_model::{Bucket, Verdict, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::simulation::{START, Scenario, service, simulate};

/// `POST /wallet` of a version: so many requests in each bucket, of which every so many fail.
fn wallet(version: &str, buckets: impl Iterator<Item = u64>, requests: u64, failing: u64) -> OperationSeries {
    let cells = buckets.map(|bucket| {
        let mut cell = OperationCell { requests, assembled: requests, ..OperationCell::default() };
        cell.errors = requests.checked_div(failing).unwrap_or(0);
        (0..requests).for_each(|n| cell.latency.record(20_000_000 + n % 50 * 1_000_000));
        (Bucket(bucket), cell)
    });
    let key = OperationKey {
        service: service(),
        version: version.to_owned(),
        operation: "POST /wallet".to_owned(),
        kind: OperationKind::Server,
        age: AgeClass::Warm,
    };
    OperationSeries { key, cells: cells.collect() }
}

/// A harmless deploy but for an operation that the control had in the buckets said, counted from the start, and that the candidate
/// has forty times in each.
fn judged(share: f64, control: &[i64], had: u64, failing: [u64; 2], after_s: u64) -> Verdict {
    let scenario = Scenario { share, rate: 20.0, errors: 0.002, before_s: 900, after_s, ..Scenario::default() };
    let mut input: JudgeInput = simulate(&scenario, 23);
    let at = control.iter().map(|bucket| START.checked_add_signed(*bucket).expect("in range"));
    input.series.push(wallet("1", at, had, failing[0]));
    input.series.push(wallet("2", START..START + after_s / 10, 40, failing[1]));
    judge(&input)
}

#[test]
fn what_the_control_was_once_asked_for_is_watched_all_the_same() {
    // Ten minutes before, one or ten times; and of a canary beside it three times.
    for (share, control, had) in [(1.0, &[-60][..], 1), (1.0, &[-60], 10), (0.3, &[-60, 10, 40], 1)] {
        let broken = judged(share, control, had, [0, 1], 600);
        assert_eq!(broken.verdict, VerdictKind::Regressed, "{control:?} {had}: {}", broken.summary);
        assert!(broken.summary.contains("POST /wallet"), "{}", broken.summary);
        assert!(broken.data_quality.iter().any(|word| word == quality::NEW_OPERATION), "{:?}", broken.data_quality);
        let soon = judged(share, control, had, [0, 1], 60);
        assert_eq!(soon.verdict, VerdictKind::Regressed, "{control:?} {had}: {}", soon.summary);
        let well = judged(share, control, had, [0, 0], 600);
        assert_eq!(well.verdict, VerdictKind::Pass, "{control:?} {had}: {}", well.summary);
    }
}

#[test]
fn what_it_failed_then_is_not_promoted_and_what_the_control_failed_too_is_no_regression() {
    // What is tolerated of what has no control is still no ground to promote: one in twenty, after almost half an hour.
    let some = judged(1.0, &[-60], 1, [0, 20], 1_500);
    assert_ne!(some.verdict, VerdictKind::Regressed, "{}", some.summary);
    assert_ne!(some.verdict, VerdictKind::Pass, "{}", some.summary);
    // Four of ten failed then, and half of them fail now.
    let always = judged(1.0, &[-60, -59], 5, [2, 2], 600);
    assert_ne!(always.verdict, VerdictKind::Regressed, "{}", always.summary);
    // Where all of them fail, what is said to be tolerated is twice what failed then.
    let worse = judged(1.0, &[-60, -59], 5, [2, 1], 600);
    let found = worse.findings.iter().find(|found| found.operation == "POST /wallet").expect("it fails altogether");
    assert!(found.baseline.value > 0.5, "{}", found.summary);
}

#[test]
fn what_the_control_has_as_well_is_not_held_against_an_objective() {
    // One in ten fails for either: more than is tolerated of what has no control.
    for share in [0.5, 1.0] {
        let control: Vec<i64> = if share < 1.0 { (-90..60).collect() } else { (-90..0).collect() };
        let verdict = judged(share, &control, 40, [10, 10], 600);
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
        assert!(!verdict.data_quality.iter().any(|word| word == quality::NEW_OPERATION));
    }
}

/// Who calls the bank, and how much of that fails because the bank does, for two minutes five minutes after the start.
#[derive(Clone, Copy)]
struct Outage {
    share: f64,
    /// Of what the new operation calls, of what the candidate's others do, and of what the control's do.
    failing: [f64; 3],
    /// False where only the new operation calls it.
    others_call: bool,
    /// True where it goes on from the start to the end.
    always: bool,
}

fn with_bank(outage: Outage) -> Verdict {
    let scenario = Scenario {
        share: outage.share,
        rate: 20.0,
        errors: 0.002,
        before_s: 2_400,
        after_s: 600,
        ..Scenario::default()
    };
    let mut input: JudgeInput = simulate(&scenario, 29);
    input.series.push(wallet("2", START..START + 60, 40, 0));
    let bank = Party {
        namespace: String::new(),
        service: "bank".to_owned(),
        version: "7".to_owned(),
        operation: "POST /charge".to_owned(),
    };
    for series in &mut input.series {
        let new = series.key.operation == "POST /wallet";
        let failing = outage.failing[if new { 0 } else { 1 + usize::from(series.key.version != "2") }];
        for (bucket, cell) in series.cells.iter_mut().filter(|_| new || outage.others_call) {
            let out = bucket.0 >= START && (outage.always || (30..42).contains(&(bucket.0 - START)));
            let failed = if out { (failing * cell.requests as f64) as u64 } else { 0 };
            cell.assembled = cell.requests;
            cell.errors = cell.errors.max(failed);
            cell.callees = [(bank.clone(), CalleeTime { calls: cell.requests, critical_ns: 1 })].into();
            let own = Party { service: "payment".to_owned(), operation: series.key.operation.clone(), ..bank.clone() };
            cell.blame = [(bank.clone(), failed), (own, cell.errors - failed)].into();
            cell.blame.retain(|_, count| *count > 0);
        }
    }
    let mut told = None;
    for bucket in [START + 32, START + 40, START + 59] {
        let verdict = judge(&JudgeInput { now: Bucket(bucket + 1).start(), ..input.clone() });
        let regressed = verdict.verdict == VerdictKind::Regressed;
        told = Some(verdict);
        if regressed {
            break;
        }
    }
    told.expect("looked at")
}

#[test]
fn a_callee_that_fails_others_as_well_is_no_fault_of_a_new_operation() {
    for share in [1.0, 0.5] {
        let all = Outage { share, failing: [1.0; 3], others_call: true, always: false };
        let verdict = with_bank(all);
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "{share}: {}", verdict.summary);
        let told = verdict.findings.iter().find(|finding| finding.operation == "POST /wallet").expect("it is told");
        assert!(told.symptom && told.culprit.service == "bank", "{share}: {}", told.summary);
        let alone = with_bank(Outage { failing: [1.0, 0.0, 0.0], ..all });
        assert_eq!(alone.verdict, VerdictKind::Regressed, "{share}: {}", alone.summary);
        assert_eq!(
            (alone.findings[0].operation.as_str(), alone.findings[0].culprit.service.as_str()),
            ("POST /wallet", "payment")
        );
    }
}

#[test]
fn a_callee_of_a_new_operation_alone_is_told_by_what_it_answered_and_by_nothing_side_by_side() {
    let outage = Outage { share: 1.0, failing: [1.0; 3], others_call: false, always: false };
    assert_ne!(with_bank(outage).verdict, VerdictKind::Regressed, "it answered well for five minutes");
    assert_eq!(with_bank(Outage { always: true, ..outage }).verdict, VerdictKind::Regressed, "it never answered well");
    assert_eq!(
        with_bank(Outage { share: 0.5, ..outage }).verdict,
        VerdictKind::Regressed,
        "the control calls it never"
    );
}
