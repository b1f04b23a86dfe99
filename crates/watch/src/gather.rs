//! What bears on a deploy, read from the aggregates.

use std::collections::BTreeSet;

use plimsoll_model::signal::OperationSeries;
use plimsoll_model::{Bucket, Deploy, Interval, ServiceKey, UnixNanos};
use plimsoll_verdict::JudgeInput;

use crate::source::SignalSource;

/// Buckets without any request of another version after which the time before is the control: no more than one, or a
/// replacement would be judged by it before anybody asked what else happened.
const ALONE_BUCKETS: u64 = 1;

/// Fills in the aggregates: those of the service, of its callers and callees, and, where the time before is the control, of
/// services that are neither connected with it nor among `touched`.
pub fn gather(signals: &dyn SignalSource, touched: &BTreeSet<ServiceKey>, input: &mut JudgeInput) {
    let from = input.deploy.started_at - input.tolerances.lookback();
    let within = Interval { from, to: input.now.bucket().end() };
    let service = &input.deploy.service;
    input.series = signals.series(service, within);
    input.aggregates = signals.aggregates(service, within);
    if serves_alone(&input.series, &input.deploy, input.now) {
        input.untouched = signals.unrelated(service, touched, within);
    }
    input.related = signals.related(service).iter().flat_map(|other| signals.series(other, within)).collect();
    input.known_fingerprints = signals.known_fingerprints(service, input.deploy.started_at);
}

/// Says whether no other version served of late: then the time before stands for the control, and services that were not
/// touched tell what time alone does.
fn serves_alone(series: &[OperationSeries], deploy: &Deploy, now: UnixNanos) -> bool {
    let since = Bucket(now.bucket().0.saturating_sub(ALONE_BUCKETS));
    !series
        .iter()
        .filter(|series| series.key.version != deploy.version && series.key.service == deploy.service)
        .any(|series| series.cells.last().is_some_and(|(bucket, _)| *bucket >= since))
}
