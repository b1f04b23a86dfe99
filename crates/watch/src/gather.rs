//! What bears on a deploy, read from the aggregates.

use std::collections::BTreeMap;

use plimsoll_model::{Interval, ServiceKey, UnixNanos};
use plimsoll_verdict::JudgeInput;

use crate::source::SignalSource;

/// Fills in the aggregates: those of the service, of its callers and callees, and of services that are neither connected
/// with it nor `touched` by then.
///
/// The latter are asked for whatever else serves by now: buckets in which the time before is the control may lie behind.
pub fn gather(signals: &dyn SignalSource, touched: &BTreeMap<ServiceKey, UnixNanos>, input: &mut JudgeInput) {
    let from = input.deploy.started_at - input.tolerances.lookback();
    let within = Interval { from, to: input.now.bucket().end() };
    let service = &input.deploy.service;
    input.series = signals.series(service, within);
    input.aggregates = signals.aggregates(service, within);
    input.untouched = signals.unrelated(service, touched, within);
    input.related = signals.related(service).iter().flat_map(|other| signals.series(other, within)).collect();
    input.known_fingerprints = signals.known_fingerprints(service, input.deploy.started_at);
}
