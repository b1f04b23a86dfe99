//! The aggregates as the watcher reads them: those in memory, and what had to go there, from the store.
//!
//! *Cost.* What was forgotten of one service is read at most once in [`EVERY`] of the time that passes in telemetry, all
//! services together, so that many deploys at once do not keep the watcher reading; whose turn has not come is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_model::aggregates::{ServedSeries, VitalsSeries};
use plimsoll_model::signal::{Fingerprint, OperationSeries};
use plimsoll_model::{Interval, ServiceAggregates, ServiceKey, UnixNanos};
use plimsoll_signals::{Belated, SignalState};
use plimsoll_store::Store;
use plimsoll_watch::{Gathered, Question, SignalSource, VersionObservation};

use crate::stored::operations_of;

/// Time between two readings.
const EVERY: Duration = Duration::from_secs(2);
/// Time until a service is read again that had to be forgotten again.
const AGAIN: Duration = Duration::from_secs(120);

/// The state, and the store that its rows went to.
pub(super) struct Recalling {
    state: Arc<Mutex<SignalState>>,
    store: Store,
    /// When each service was read last.
    read_at: Mutex<BTreeMap<ServiceKey, UnixNanos>>,
}

impl Recalling {
    pub(super) fn new(state: Arc<Mutex<SignalState>>, store: Store) -> Self {
        Self { state, store, read_at: Mutex::default() }
    }

    /// Says whether it is a service's turn, and that it was taken.
    fn takes_turn(&self, service: &ServiceKey, now: UnixNanos) -> bool {
        let mut read_at = self.read_at.lock();
        read_at.retain(|_, at| now.since(*at) < AGAIN);
        let waits = read_at.contains_key(service) || read_at.values().any(|at| now.since(*at) < EVERY);
        if !waits {
            read_at.insert(service.clone(), now);
        }
        !waits
    }
}

impl SignalSource for Recalling {
    fn recall(&self, service: &ServiceKey, from: UnixNanos) {
        let (until, now) = {
            let state = self.state.lock();
            (state.forgotten(service), state.watermark())
        };
        if until <= from || !self.takes_turn(service, now) {
            return;
        }
        let within = Interval { from: from.bucket().start(), to: until };
        let recalled = operations_of(&self.store, service, within)
            .and_then(|rows| self.state.lock().recall(service, from, &rows).map_err(|error| error.to_string()));
        match recalled {
            Ok(()) => tracing::debug!(%service, "what had to be forgotten was read again"),
            Err(error) => tracing::warn!(
                %service, %error,
                "what had to be forgotten cannot be read again: its deploys are held against what is left"
            ),
        }
    }

    fn series(&self, service: &ServiceKey, within: Interval) -> Vec<OperationSeries> {
        self.state.series(service, within)
    }

    fn aggregates(&self, service: &ServiceKey, within: Interval, taken_back: &BTreeSet<String>) -> ServiceAggregates {
        self.state.aggregates(service, within, taken_back)
    }

    fn related(&self, service: &ServiceKey) -> Vec<ServiceKey> {
        self.state.related(service)
    }

    fn unrelated(
        &self,
        service: &ServiceKey,
        touched: &dyn Fn(&ServiceKey) -> Option<UnixNanos>,
        within: Interval,
    ) -> Vec<VitalsSeries> {
        self.state.unrelated(service, touched, within)
    }

    fn witnesses(&self, service: &ServiceKey, within: Interval) -> Vec<ServedSeries> {
        self.state.witnesses(service, within)
    }

    fn known_fingerprints(
        &self,
        service: &ServiceKey,
        before: UnixNanos,
        taken_back: &BTreeSet<String>,
    ) -> BTreeSet<Fingerprint> {
        self.state.known_fingerprints(service, before, taken_back)
    }

    fn gather(&self, asked: &Question<'_>) -> Gathered {
        self.state.gather(asked)
    }

    fn take_new_versions(&self) -> Vec<VersionObservation> {
        SignalSource::take_new_versions(self.state.as_ref())
    }

    fn take_belated(&self) -> Vec<Belated> {
        self.state.take_belated()
    }

    fn behind(&self, service: &ServiceKey, version: &str) -> Duration {
        self.state.behind(service, version)
    }

    fn piled_up(&self, service: &ServiceKey, version: &str) -> Duration {
        self.state.piled_up(service, version)
    }

    fn gaps(&self, within: Interval) -> Vec<Interval> {
        self.state.gaps(within)
    }

    fn keep(&self, needed: &BTreeMap<ServiceKey, UnixNanos>) {
        self.state.keep(needed);
    }

    fn forgotten(&self, service: &ServiceKey) -> UnixNanos {
        self.state.forgotten(service)
    }

    fn data_quality(&self, service: &ServiceKey, since: UnixNanos) -> Vec<String> {
        SignalSource::data_quality(self.state.as_ref(), service, since)
    }

    fn knows(&self, service: &ServiceKey) -> bool {
        SignalSource::knows(self.state.as_ref(), service)
    }
}
