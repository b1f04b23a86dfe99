//! The fold's own state as a source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_model::aggregates::{ServedSeries, VitalsSeries};
use plimsoll_model::signal::{Fingerprint, OperationSeries};
use plimsoll_model::{Interval, ServiceAggregates, ServiceKey, UnixNanos};
use plimsoll_signals::{Belated, SignalState};

use crate::gathered::{Gathered, Question};
use crate::source::{SignalSource, VersionObservation};

/// The state behind a lock that its fold shares; each question holds the lock for one walk over the series.
impl SignalSource for Mutex<SignalState> {
    fn series(&self, service: &ServiceKey, within: Interval) -> Vec<OperationSeries> {
        self.lock().series(service, within)
    }

    fn aggregates(&self, service: &ServiceKey, within: Interval, taken_back: &BTreeSet<String>) -> ServiceAggregates {
        self.lock().aggregates_without(service, within, taken_back)
    }

    fn related(&self, service: &ServiceKey) -> Vec<ServiceKey> {
        self.lock().related(service)
    }

    fn unrelated(
        &self,
        service: &ServiceKey,
        touched: &dyn Fn(&ServiceKey) -> Option<UnixNanos>,
        within: Interval,
    ) -> Vec<VitalsSeries> {
        self.lock().unrelated(service, touched, within)
    }

    fn witnesses(&self, service: &ServiceKey, within: Interval) -> Vec<ServedSeries> {
        self.lock().witnesses(service, within)
    }

    fn known_fingerprints(
        &self,
        service: &ServiceKey,
        before: UnixNanos,
        taken_back: &BTreeSet<String>,
    ) -> BTreeSet<Fingerprint> {
        self.lock().known_fingerprints(service, before, taken_back)
    }

    fn gather(&self, asked: &Question<'_>) -> Gathered {
        // One lock for all of it: nothing is folded in between.
        let state = self.lock();
        let Question { service, within, started_at, keep_from, taken_back } = asked;
        let neighbours = state.related(service);
        let excerpt = keep_from.map(|from| state.excerpt(service, &neighbours, from));
        let series = state.series(service, *within);
        let taken_back = taken_back(&series);
        Gathered {
            series,
            aggregates: state.aggregates_without(service, *within, &taken_back),
            related: neighbours.iter().flat_map(|other| state.series(other, *within)).collect(),
            known_fingerprints: state.known_fingerprints(service, *started_at, &taken_back),
            taken_back,
            excerpt: excerpt.unwrap_or_default(),
            neighbours,
        }
    }

    fn take_new_versions(&self) -> Vec<VersionObservation> {
        let seen = self.lock().take_new_versions();
        seen.into_iter()
            .map(|seen| VersionObservation {
                service: seen.service,
                version: seen.version,
                first_seen: seen.first_seen,
            })
            .collect()
    }

    fn behind(&self, service: &ServiceKey, version: &str) -> Duration {
        self.lock().behind(service, version)
    }

    fn take_belated(&self) -> Vec<Belated> {
        self.lock().take_belated()
    }

    fn piled_up(&self, service: &ServiceKey, version: &str) -> Duration {
        self.lock().piled_up(service, version)
    }

    fn gaps(&self, within: Interval) -> Vec<Interval> {
        self.lock().gaps(within)
    }

    fn keep(&self, needed: &BTreeMap<ServiceKey, UnixNanos>) {
        self.lock().keep(needed);
    }

    fn forgotten(&self, service: &ServiceKey) -> UnixNanos {
        self.lock().forgotten(service)
    }

    fn data_quality(&self, service: &ServiceKey, since: UnixNanos) -> Vec<String> {
        self.lock().data_quality_since(service, since)
    }

    fn knows(&self, service: &ServiceKey) -> bool {
        self.lock().knows(service)
    }
}
