//! Requests that come at other moments after the start than before it: batches at the full hour, and traffic that paused.

use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, VerdictKind};
use plimsoll_verdict::{JudgeInput, judge};

use crate::simulation::{START, Scenario, service, simulate};

/// A replacement in steady traffic, judged so many seconds after the start.
fn replaced(after_s: u64) -> JudgeInput {
    let base = Scenario { rate: 10.0, errors: 0.002, share: 1.0, instances: false, ..Scenario::default() };
    let mut input = simulate(&Scenario { before_s: 3_600, after_s, ..base }, 9);
    input.deploy.previous_version = Some("1".to_owned());
    input
}

/// A minute of `invoice process` from a bucket on, counted from the start: 330 requests in each, of which so many fail.
fn batch(version: &str, from: i64, errors: u64) -> OperationSeries {
    let cells = (from..from + 6).map(|bucket| {
        let mut cell = OperationCell { requests: 330, assembled: 330, errors, ..OperationCell::default() };
        (0..330).for_each(|n| cell.latency.record(20_000_000 + n % 50 * 1_000_000));
        (Bucket(START.checked_add_signed(bucket).expect("in range")), cell)
    });
    let key = OperationKey {
        service: service(),
        version: version.to_owned(),
        operation: "invoice process".to_owned(),
        kind: OperationKind::Consumer,
        age: AgeClass::Warm,
    };
    OperationSeries { key, cells: cells.collect() }
}

#[test]
fn a_batch_at_the_full_hour_is_held_against_the_one_before_at_once() {
    // Deployed at a quarter to, and two minutes to the full hour; looked at two minutes after it.
    for (before, after) in [(-270, 90), (-348, 12)] {
        for (errors, expected) in [(330, true), (66, true), (0, false)] {
            let mut input = replaced((after as u64 + 12) * 10);
            input.series.extend([batch("1", before, 0), batch("2", after, errors)]);
            let verdict = judge(&input);
            let bad = verdict.verdict == VerdictKind::Regressed;
            assert_eq!(bad, expected, "{after} {errors}: {}", verdict.summary);
            assert!(!bad || verdict.summary.contains("invoice process"), "{}", verdict.summary);
        }
    }
}

#[test]
fn a_pause_before_the_start_leaves_enough_of_the_time_before_for_the_end_of_the_watch() {
    let mut input = replaced(1_800);
    for series in &mut input.series {
        series.cells.retain(|(bucket, _)| !(START - 60..START).contains(&bucket.0));
        for (_, cell) in series.cells.iter_mut().filter(|(bucket, _)| bucket.0 >= START + 160) {
            cell.errors = cell.requests / 5;
        }
    }
    let verdict = judge(&input);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}
