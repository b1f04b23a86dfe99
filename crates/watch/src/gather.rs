//! What bears on a deploy, read from the aggregates.

use std::collections::BTreeMap;

use plimsoll_model::signal::{OperationSeries, Party};
use plimsoll_model::{Bucket, Interval, ServiceAggregates, ServiceKey, UnixNanos};
use plimsoll_signals::Excerpt;
use plimsoll_verdict::{JudgeInput, taken_back};

use crate::gathered::Question;
use crate::source::SignalSource;

/// What was read beside the judgement's input, for whoever keeps what it was judged from.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Services that call the deployed one or that it calls.
    pub neighbours: Vec<ServiceKey>,
    /// Rows from the bucket that was asked for on; none where none was.
    pub excerpt: Excerpt,
}

/// Fills in the aggregates: those of the service, of its callers and callees, and of services that are neither connected
/// with it nor touched by then, which `touched` says. Rows from `keep_from` on come back as they are.
///
/// `versions` are those that were seen, each with when it was first: what one brought that was taken back is not known by it.
///
/// Untouched services are asked for whatever else serves by now: buckets in which the time before is the control may lie
/// behind.
pub fn gather(
    signals: &dyn SignalSource,
    touched: &dyn Fn(&ServiceKey) -> Option<UnixNanos>,
    versions: &BTreeMap<String, UnixNanos>,
    input: &mut JudgeInput,
    keep_from: Option<Bucket>,
) -> Beside {
    let from = input.deploy.started_at - input.tolerances.lookback();
    let within = Interval { from, to: input.now.bucket().end() };
    let service = input.deploy.service.clone();
    let started_at = input.deploy.started_at;
    let tried = |series: &[OperationSeries]| taken_back(input, series, versions);
    let read =
        signals.gather(&Question { service: service.clone(), within, started_at, keep_from, taken_back: &tried });
    input.series = read.series;
    input.aggregates = read.aggregates;
    input.related = read.related;
    input.known_fingerprints = read.known_fingerprints;
    input.taken_back = read.taken_back;
    // Who served where there are no requests is known by what was logged.
    let by_records = taken_back(input, &input.series, versions);
    if by_records != input.taken_back {
        input.aggregates = signals.aggregates(&service, within, &by_records);
        input.known_fingerprints = signals.known_fingerprints(&service, started_at, &by_records);
        input.taken_back = by_records;
    }
    // Of a service that nothing is known of nothing can be said against any other, and there may be thousands of those.
    if !(input.series.is_empty() && input.aggregates == ServiceAggregates::default()) {
        input.untouched = signals.unrelated(&input.deploy.service, touched, within);
    }
    let since = started_at.bucket();
    let cells = input.series.iter().flat_map(|series| &series.cells).filter(|(bucket, _)| *bucket >= since);
    // Nobody asks whether others reach whom it calls while it does.
    if cells.flat_map(|(_, cell)| cell.callees.keys()).any(Party::is_unanswered) {
        input.witnesses = signals.witnesses(&service, within);
    }
    Beside { neighbours: read.neighbours, excerpt: read.excerpt }
}
