//! Operations that the control never had, or hardly ever.

use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries};
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
