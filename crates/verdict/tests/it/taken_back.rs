//! Which versions were tried and taken back, by who served and when each was first seen.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, UnixNanos};
use plimsoll_verdict::{JudgeInput, taken_back};

use crate::simulation::{START, Scenario, service, simulate};

/// Ten requests a bucket of each version, from and to by buckets before the start.
fn served(versions: &[(&str, u64, u64)]) -> Vec<OperationSeries> {
    let one = |(version, from, to): &(&str, u64, u64)| OperationSeries {
        key: OperationKey {
            service: service(),
            version: (*version).to_owned(),
            operation: "GET /".to_owned(),
            kind: OperationKind::Server,
            age: AgeClass::Warm,
        },
        cells: (START - from..START - to)
            .map(|bucket| (Bucket(bucket), OperationCell { requests: 10, ..OperationCell::default() }))
            .collect(),
    };
    versions.iter().map(one).collect()
}

/// When versions were first seen, in seconds before the start.
fn seen(versions: &[(&str, u64)]) -> BTreeMap<String, UnixNanos> {
    versions.iter().map(|(version, s)| ((*version).to_owned(), UnixNanos::from_secs(START * 10 - s))).collect()
}

fn deploy(version: &str) -> JudgeInput {
    let mut input = simulate(&Scenario::default(), 1);
    input.series.clear();
    input.deploy.version = version.to_owned();
    input.deploy.previous_version = None;
    input
}

fn names(of: &BTreeSet<String>) -> Vec<&str> {
    of.iter().map(String::as_str).collect()
}

#[test]
fn what_came_after_the_version_that_serves_and_serves_no_more_was_taken_back() {
    let series = served(&[("1", 360, 200), ("2", 200, 100), ("1", 100, 0)]);
    let versions = seen(&[("0", 900_000), ("1", 90_000), ("2", 2_000), ("3", 0)]);
    assert_eq!(names(&taken_back(&deploy("3"), &series, &versions)), ["2", "3"]);
    // Days later, and shipped once more under its own name.
    let series = served(&[("1", 360, 0)]);
    assert_eq!(names(&taken_back(&deploy("2"), &series, &versions)), ["2", "3"]);
    // Back to what was older than all: it was established once.
    let series = served(&[("2", 360, 0)]);
    assert_eq!(names(&taken_back(&deploy("1"), &series, &versions)), ["3"]);
}

#[test]
fn a_version_that_was_let_stay_beside_the_one_replaced_was_not_taken_back() {
    let mut input = deploy("3");
    input.deploy.previous_version = Some("1".to_owned());
    let series = served(&[("1", 360, 0), ("2", 100, 0)]);
    assert_eq!(names(&taken_back(&input, &series, &seen(&[("1", 90_000), ("2", 1_000), ("3", 0)]))), ["2", "3"]);
    assert_eq!(names(&taken_back(&input, &series, &seen(&[("1", 90_000), ("2", 80_000), ("3", 0)]))), ["3"]);
}

#[test]
fn of_what_is_not_known_nothing_is_taken_back() {
    assert!(taken_back(&deploy("3"), &[], &seen(&[("1", 90_000), ("2", 1_000)])).is_empty());
    let series = served(&[("1", 360, 0)]);
    assert!(taken_back(&deploy("3"), &series, &seen(&[("2", 1_000)])).is_empty());
}

#[test]
fn who_serves_no_requests_is_known_by_its_records() {
    let mut input = deploy("3");
    let cells = |from: u64, to: u64| {
        (START - from..START - to).map(|bucket| (Bucket(bucket), PresenceCell { logs: 9, ..PresenceCell::default() }))
    };
    input.aggregates.presence = [("1", cells(100, 0)), ("2", cells(200, 100))]
        .map(|(version, cells)| PresenceSeries { version: version.to_owned(), cells: cells.collect() })
        .to_vec();
    assert_eq!(names(&taken_back(&input, &[], &seen(&[("1", 90_000), ("2", 2_000)]))), ["2"]);
}
