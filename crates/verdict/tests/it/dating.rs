//! Starts that a marker tells otherwise than the version came, and those that it tells as they were.

use std::time::Duration;

use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::{Bucket, DeployStatus};
use plimsoll_verdict::{JudgeInput, judge, quality};

use crate::rollouts::served_by;
use crate::simulation::{START, Scenario, simulate};

/// Buckets by which a start is told wrongly.
const OFF: u64 = 18;

/// What is said of the start, at any of the looks.
fn said(input: &JudgeInput) -> Vec<String> {
    let end = input.now.bucket().0;
    let start = input.deploy.started_at.bucket().0;
    let mut said: Vec<String> = (start + 1..end)
        .step_by(7)
        .flat_map(|bucket| judge(&JudgeInput { now: Bucket(bucket).start(), ..input.clone() }).data_quality)
        .filter(|word| word == quality::MARKED_LATE || word == quality::MARKED_EARLY)
        .collect();
    said.sort();
    said.dedup();
    said
}

/// A version that comes at [`START`] and is said to start at `told`.
fn told(rate: f64, share: f64, told: u64, seed: u64) -> JudgeInput {
    let scenario =
        Scenario { rate, share, errors: 0.0, before_s: 3_600, after_s: 900, operations: 2, ..Scenario::default() };
    let mut input = simulate(&scenario, seed);
    (input.deploy.started_at, input.deploy.created_at) = (Bucket(told).start(), Bucket(told).start());
    input
}

#[test]
fn a_start_told_minutes_after_its_version_came_is_late_and_one_told_minutes_before_is_early() {
    for (rate, share) in [(20.0, 0.5), (20.0, 1.0), (20.0, 0.05), (0.5, 1.0)] {
        assert_eq!(said(&told(rate, share, START + OFF, 1)), [quality::MARKED_LATE], "{rate}, {share}");
        assert_eq!(said(&told(rate, share, START - OFF, 1)), [quality::MARKED_EARLY], "{rate}, {share}");
    }
}

#[test]
fn nothing_is_said_of_a_start_that_is_told_as_it_was_however_little_comes() {
    for seed in 0..4 {
        for (rate, share) in [(20.0, 0.5), (1.0, 1.0), (0.17, 1.0), (0.17, 0.5), (0.17, 0.05), (2.0, 0.02)] {
            for near in [START - 2, START, START + 3] {
                assert_eq!(said(&told(rate, share, near, seed)), [""; 0], "{rate}, {share}, {near}, {seed}");
            }
        }
    }
    // Three minutes are no more than ten requests a minute explain where a twentieth of them is the candidate's.
    for seed in 0..20 {
        assert_eq!(said(&told(0.17, 0.05, START - OFF, seed)), [""; 0], "{seed}");
        assert_eq!(said(&told(0.17, 0.05, START + OFF, seed)), [""; 0], "{seed}");
    }
}

#[test]
fn a_version_that_was_there_before_is_not_late_when_its_start_changes_who_serves() {
    let promoted = |seed: u64| {
        let mut input = told(20.0, 0.05, START + 60, seed);
        served_by(&mut input, |version, bucket| Some(if bucket >= START + 60 || version == "2" { "2" } else { "1" }));
        input
    };
    assert_eq!(said(&promoted(1)), [""; 0], "a canary that is promoted");
    // What served half an hour ago and more, and comes back, or is shipped again, was known.
    let again = |shipped_before: bool| JudgeInput { shipped_before, ..told(20.0, 0.5, START + OFF, 2) };
    assert_eq!(said(&again(true)), [""; 0]);
    assert_eq!(said(&again(false)), [quality::MARKED_LATE]);
    let back = |since: u64, seed: u64| {
        let mut input = told(20.0, 1.0, START, seed);
        served_by(&mut input, move |_, bucket| Some(if bucket >= START || bucket < START - since { "2" } else { "1" }));
        input
    };
    assert_eq!(said(&back(30, 3)), [""; 0], "a rollback after five minutes");
    assert_eq!(said(&back(240, 3)), [""; 0]);
    // Of a service of which nobody knows what was before it is not known either.
    let mut new = told(20.0, 0.5, START + OFF, 4);
    new.series.iter_mut().for_each(|series| series.cells.retain(|(bucket, _)| bucket.0 >= START));
    assert_eq!(said(&new), [""; 0]);
}

#[test]
fn a_rollout_that_takes_as_long_as_others_did_or_is_on_its_way_is_not_early() {
    let early = |change: &dyn Fn(&mut JudgeInput)| {
        let mut input = told(20.0, 0.5, START - OFF, 5);
        change(&mut input);
        said(&input)
    };
    assert_eq!(early(&|_| {}), [quality::MARKED_EARLY]);
    assert_eq!(early(&|input| input.first_request = Some(Duration::from_secs(60))), [quality::MARKED_EARLY]);
    assert_eq!(early(&|input| input.first_request = Some(Duration::from_secs(200))), [""; 0]);
    assert_eq!(early(&|input| input.deploy.status = DeployStatus::Failed), [""; 0]);
    assert_eq!(early(&|input| input.deploy.inferred = true), [""; 0]);
    // By the version's clock, and that is another.
    assert_eq!(early(&|input| input.data_quality = vec!["clock_skew".to_owned()]), [""; 0]);
    // It logs as it boots.
    let boots = |input: &mut JudgeInput| {
        let cell = PresenceCell { logs: 1, ..PresenceCell::default() };
        let cells = (START - OFF + 3..START).map(|bucket| (Bucket(bucket), cell.clone())).collect();
        input.aggregates.presence = vec![PresenceSeries { version: "2".to_owned(), cells }];
    };
    assert_eq!(early(&boots), [""; 0]);
    // While it was waited for the control did not serve as ever: something came that tells no version of its own.
    let fell = |input: &mut JudgeInput| {
        for series in &mut input.series {
            series.cells.retain(|(bucket, _)| !(START - OFF..START).contains(&bucket.0) || bucket.0 % 3 == 0);
        }
    };
    assert_eq!(early(&fell), [""; 0]);
}
