//! What bears on one deploy, read in one go.

use std::collections::BTreeSet;

use plimsoll_model::signal::{Fingerprint, OperationSeries};
use plimsoll_model::{Bucket, Interval, ServiceAggregates, ServiceKey, UnixNanos};
use plimsoll_signals::Excerpt;

use crate::source::SignalSource;

/// What is asked for.
#[derive(Clone)]
pub struct Question<'a> {
    /// The service deployed.
    pub service: ServiceKey,
    /// From the lookback before the start until now.
    pub within: Interval,
    /// The start of the deploy.
    pub started_at: UnixNanos,
    /// Rows from this bucket on may still change: they are kept as they are, where something is to be kept.
    pub keep_from: Option<Bucket>,
    /// Of the service's operations, tells the versions that were tried and taken back: what they showed is not known by them.
    pub taken_back: &'a dyn Fn(&[OperationSeries]) -> BTreeSet<String>,
}

/// The answer. Nothing was folded while it was read.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The service's operations.
    pub series: Vec<OperationSeries>,
    /// What else is known of it.
    pub aggregates: ServiceAggregates,
    /// Services that call it or that it calls.
    pub neighbours: Vec<ServiceKey>,
    /// Their operations.
    pub related: Vec<OperationSeries>,
    /// Exceptions of the service that were seen before the start, in versions that were not taken back.
    pub known_fingerprints: BTreeSet<Fingerprint>,
    /// Versions that were tried and taken back.
    pub taken_back: BTreeSet<String>,
    /// The rows that may still change; none where none were asked for.
    pub excerpt: Excerpt,
}

/// Answers by asking for one thing after the other.
pub(crate) fn one_by_one(source: &(impl SignalSource + ?Sized), asked: &Question<'_>) -> Gathered {
    let Question { service, within, started_at, taken_back, .. } = asked;
    let neighbours = source.related(service);
    let series = source.series(service, *within);
    let taken_back = taken_back(&series);
    Gathered {
        series,
        aggregates: source.aggregates(service, *within, &taken_back),
        related: neighbours.iter().flat_map(|other| source.series(other, *within)).collect(),
        known_fingerprints: source.known_fingerprints(service, *started_at, &taken_back),
        taken_back,
        neighbours,
        excerpt: Excerpt::default(),
    }
}
