//! What bears on one deploy, read in one go.

use std::collections::BTreeSet;

use plimsoll_model::signal::{Fingerprint, OperationSeries};
use plimsoll_model::{Bucket, Interval, ServiceAggregates, ServiceKey, UnixNanos};
use plimsoll_signals::Excerpt;

use crate::source::SignalSource;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The service deployed.
    pub service: ServiceKey,
    /// From the lookback before the start until now.
    pub within: Interval,
    /// The start of the deploy.
    pub started_at: UnixNanos,
    /// Rows from this bucket on may still change: they are kept as they are, where something is to be kept.
    pub keep_from: Option<Bucket>,
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
    /// Exceptions of the service that were seen before the start.
    pub known_fingerprints: BTreeSet<Fingerprint>,
    /// The rows that may still change; none where none were asked for.
    pub excerpt: Excerpt,
}

/// Answers by asking for one thing after the other.
pub(crate) fn one_by_one(source: &(impl SignalSource + ?Sized), asked: &Question) -> Gathered {
    let Question { service, within, started_at, .. } = asked;
    let neighbours = source.related(service);
    Gathered {
        series: source.series(service, *within),
        aggregates: source.aggregates(service, *within),
        related: neighbours.iter().flat_map(|other| source.series(other, *within)).collect(),
        known_fingerprints: source.known_fingerprints(service, *started_at),
        neighbours,
        excerpt: Excerpt::default(),
    }
}
