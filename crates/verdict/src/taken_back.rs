//! Versions that were tried and taken back: what they brought is no news of theirs alone, and is not known by them.
//!
//! The version that serves as a deploy starts is the established one. What was first seen later than it and serves no more was
//! rolled back, or was a canary that was taken back. So is taken what still serves beside it and is younger than a deploy is
//! watched for. What is older than the established one was established before it.
//!
//! *Invariants.* What is decided here depends on names, times and numbers of requests only, never on outcomes.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::UnixNanos;
use plimsoll_model::signal::OperationSeries;

use crate::design::{control_versions, label_of, serves_to_the_last};
use crate::input::JudgeInput;
use crate::records;

/// Lists them for the deploy of `input`, by its service's operations and by when each of its `versions` was first seen. Where the
/// service serves no requests, its records in `input` stand for them.
pub fn taken_back(
    input: &JudgeInput,
    series: &[OperationSeries],
    versions: &BTreeMap<String, UnixNanos>,
) -> BTreeSet<String> {
    let by_records = records::by_records(input);
    let series = by_records.as_ref().map_or(series, |asked| &asked.series);
    let deploy = &input.deploy;
    let start = deploy.started_at.bucket();
    let own: Vec<&OperationSeries> = series.iter().filter(|s| s.key.service == deploy.service).collect();
    let version = label_of(input, &own, start).unwrap_or(&deploy.version);
    let control = control_versions(deploy, version, start, input, &own);
    let Some(established) = control.iter().filter_map(|control| versions.get(*control)).max() else {
        return BTreeSet::new();
    };
    let stays = |version: &str, first: UnixNanos| {
        first + input.tolerances.watch_max() <= deploy.started_at
            && own.iter().any(|s| s.key.version == version && serves_to_the_last(s, start))
    };
    let later = versions.iter().filter(|(version, first)| {
        *first > established && !control.contains(version.as_str()) && !stays(version, **first)
    });
    later.map(|(version, _)| version.clone()).collect()
}
