//! The aggregates that verdicts are computed from, as a port.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plimsoll_model::aggregates::{ServedSeries, VitalsSeries};
use plimsoll_model::signal::{Fingerprint, OperationSeries};
use plimsoll_model::{Interval, ServiceAggregates, ServiceKey, UnixNanos};
use plimsoll_signals::Belated;

use crate::gathered::{Gathered, Question, one_by_one};

/// Where the watcher reads aggregates. Calls are short and do not block on I/O.
pub trait SignalSource: Send + Sync + 'static {
    /// Returns the operations of a service, all versions, within a stretch of event time.
    fn series(&self, service: &ServiceKey, within: Interval) -> Vec<OperationSeries>;

    /// Returns what else is known of a service within a stretch of event time: presence, logs, metrics, flag arms, actions,
    /// version paths, and the weeks before it. When a template was first seen, versions `taken_back` do not tell.
    fn aggregates(&self, service: &ServiceKey, within: Interval, taken_back: &BTreeSet<String>) -> ServiceAggregates {
        let _ = (service, within, taken_back);
        ServiceAggregates::default()
    }

    /// Returns the services that call it or that it calls.
    fn related(&self, service: &ServiceKey) -> Vec<ServiceKey>;

    /// Returns how services of the same environment fared that are not connected with it by calls; those that were touched,
    /// which `touched` says, up to then.
    fn unrelated(
        &self,
        service: &ServiceKey,
        touched: &dyn Fn(&ServiceKey) -> Option<UnixNanos>,
        within: Interval,
    ) -> Vec<VitalsSeries> {
        let _ = (service, touched(service), within);
        Vec::new()
    }

    /// Returns how calls of others to the callees of a service fared, in its own environment.
    fn witnesses(&self, service: &ServiceKey, within: Interval) -> Vec<ServedSeries> {
        let _ = (service, within);
        Vec::new()
    }

    /// Returns the exceptions of a service that any version but those `taken_back` threw before `before`, as far back as is known.
    fn known_fingerprints(
        &self,
        service: &ServiceKey,
        before: UnixNanos,
        taken_back: &BTreeSet<String>,
    ) -> BTreeSet<Fingerprint>;

    /// Returns all that bears on a deploy, as it was at one moment.
    fn gather(&self, asked: &Question<'_>) -> Gathered {
        one_by_one(self, asked)
    }

    /// Returns versions that were seen for the first time since the last call, each once.
    fn take_new_versions(&self) -> Vec<VersionObservation>;

    /// Returns what came minutes after it happened since the last call, each once.
    fn take_belated(&self) -> Vec<Belated> {
        Vec::new()
    }

    /// Returns how far what a service sends is behind the present, or what its `version` sends, whichever is further.
    fn behind(&self, service: &ServiceKey, version: &str) -> Duration {
        let _ = (service, version);
        Duration::ZERO
    }

    /// Returns how far what had piled up of a version is behind the present while it is being delivered.
    fn piled_up(&self, service: &ServiceKey, version: &str) -> Duration {
        let _ = (service, version);
        Duration::ZERO
    }

    /// Lists the stretches of event time in which nothing at all came, of whichever service, though it was to; in order. Of those
    /// that end with `within` the rest may be still to come.
    fn gaps(&self, within: Interval) -> Vec<Interval> {
        let _ = within;
        Vec::new()
    }

    /// Says what open deploys need: services, each with the start of what its deploys are judged by. Where room is short, what
    /// nobody needs goes first.
    fn keep(&self, needed: &BTreeMap<ServiceKey, UnixNanos>) {
        let _ = needed;
    }

    /// Fetches what is known of a service from `from` on and had to go for lack of room, where it can be had again.
    fn recall(&self, service: &ServiceKey, from: UnixNanos) {
        let _ = (service, from);
    }

    /// Returns up to when what was known of a service is gone for lack of room, in part or as a whole.
    fn forgotten(&self, service: &ServiceKey) -> UnixNanos {
        let _ = service;
        UnixNanos(0)
    }

    /// Returns what is to be said about the telemetry of a service that was received since `since`, as stable words; for
    /// instance `late_spans`.
    fn data_quality(&self, service: &ServiceKey, since: UnixNanos) -> Vec<String>;

    /// Says whether anything was ever received of a service: where not, nobody needs to look again soon.
    fn knows(&self, service: &ServiceKey) -> bool {
        let _ = service;
        true
    }
}

/// A version that was seen for the first time since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionObservation {
    /// Who emitted it.
    pub service: ServiceKey,
    /// The version; empty where the service tells none.
    pub version: String,
    /// Event time of the first span.
    pub first_seen: UnixNanos,
}
