//! The stages of a running server, and what they say about themselves: what is degraded, and what is in the way of readiness.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_alert::{Deliverer, SinkCounters};
use plimsoll_ingest::{Fingerprints, Ingest, Readiness, ReplaySummary};
use plimsoll_journal::{Journal, LocalJournal};
use plimsoll_signals::SignalState;
use plimsoll_store::Store;
use plimsoll_watch::Watcher;

use super::Resident;
use crate::api::{Health, Reason};
use crate::faces::Faces;

/// The stages, for whoever reads their counters.
pub struct Stages {
    pub(super) ingest: OnceLock<Arc<Ingest>>,
    pub(super) alerts: Arc<Deliverer>,
    /// The requests that are stored already.
    pub fingerprints: Arc<Fingerprints>,
    /// What the faces count about their clients.
    pub faces: Faces,
    /// The journal.
    pub journal: Arc<LocalJournal>,
    /// The store.
    pub store: Store,
    /// The watcher.
    pub watcher: Arc<Watcher>,
    /// The aggregates.
    pub aggregates: Arc<Mutex<SignalState>>,
    /// What the process takes.
    pub resident: Arc<Resident>,
    /// What the last replay met.
    pub replayed: OnceLock<ReplaySummary>,
}

impl Stages {
    /// Returns the receivers, once they are started.
    pub fn ingest(&self) -> Option<&Arc<Ingest>> {
        self.ingest.get()
    }

    /// Returns what became of the events of each sink.
    pub fn sinks(&self) -> Vec<(String, SinkCounters)> {
        self.alerts.counters()
    }

    /// Returns what is wrong without being in the way of taking telemetry.
    pub fn degraded(&self) -> Vec<String> {
        let store = self.store.status();
        let mut degraded = Vec::new();
        if self.ingest().is_some_and(|ingest| ingest.status().connections_short) {
            degraded.push(
                "as many OTLP connections are open, or requests under way, as may be: those whose clients say nothing are closed for new ones, and where there are none new ones are turned away; close idle ones or set `ingest.connections_max` higher".to_owned(),
            );
        }
        if self.ingest().is_some_and(|ingest| ingest.counters().journal_unavailable.get() > 0) {
            degraded.push(
                "the journal could begin no new log file, and requests are refused until it can: the log says what helps".to_owned(),
            );
        }
        let pace = self.ingest().map_or(Duration::ZERO, |ingest| ingest.status().pace);
        degraded.extend(behind(store.fold_lag, pace));
        if store.missing_segments > 0 {
            degraded.push(format!(
                "{} segments with {} rows are missing or damaged: queries that need them fail unless they set `allow_missing_segments`",
                store.missing_segments, store.missing_rows
            ));
        }
        if store.clock_doubted {
            degraded.push(
                "the clock went ahead, or all rows are older than `store.retention`: rows are removed for their age once the clock has stayed there for six hours".to_owned(),
            );
        }
        if store.fold_failures > 0 {
            degraded.push(format!(
                "{} batches could not be folded into aggregates: verdicts do without them",
                store.fold_failures
            ));
        }
        if store.merge_failures > 0 {
            degraded.push(format!(
                "{} merges of segments failed by a defect, see the log: those segments stay as they are until the next start",
                store.merge_failures
            ));
        }
        if let Some(replayed) = self.replayed.get().filter(|r| r.journal.quarantined > 0 || r.undecodable > 0) {
            degraded.push(format!(
                "{} stretches of the journal are damaged or missing, and what is left of them is in `journal/quarantine`; {} frames could not be decoded",
                replayed.journal.quarantined, replayed.undecodable
            ));
        }
        degraded
    }

    /// Takes over what the stages know about themselves.
    pub fn refresh_health(&self, health: &Health) {
        let store = self.store.status();
        health.set(
            Reason::DiskFull,
            store.disk_full.then(|| "the disk is full: free space or lower `store.retention`".to_owned()),
        );
        health.set(
            Reason::FlushFailing,
            (!store.last_flush_error.is_empty())
                .then(|| format!("segments cannot be written: {}", store.last_flush_error)),
        );
        let journal = match () {
            () if self.journal.status().poisoned => Some("the journal failed and takes no more writes: restart"),
            () if !self.journal.is_intact() => Some("the journal was removed from under the process: restart"),
            () => None,
        };
        health.set(Reason::JournalPoisoned, journal.map(str::to_owned));
        let ended = self.store.ended_threads();
        let stopping = self.ingest().is_some_and(|ingest| ingest.status().readiness == Readiness::Draining);
        health.set(
            Reason::ThreadEnded,
            (!ended.is_empty() && !stopping).then(|| format!("{} ended unexpectedly: restart", ended.join(" and "))),
        );
    }
}

/// What aggregates may lag behind what is stored, and requests be held up, without a word: a bucket, and what passes.
const LAG_UNSAID: Duration = Duration::from_secs(10);
const PACE_UNSAID: Duration = Duration::from_millis(10);

/// Says what work off the ack path has fallen behind, if any has.
fn behind(fold_lag: Duration, pace: Duration) -> Vec<String> {
    let mut behind = Vec::new();
    if fold_lag > LAG_UNSAID {
        behind.push(format!(
            "aggregates are {} s behind what is stored, and verdicts with them: give the process more processor time or send less",
            fold_lag.as_secs()
        ));
    }
    if pace > PACE_UNSAID {
        behind.push(format!(
            "rows come in faster than segments are written: requests are held up by {} ms each; give the process more processor time or send less",
            pace.as_millis()
        ));
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_behind_says_so_and_what_passes_does_not() {
        let [short, long] = [3, 42].map(Duration::from_secs);
        assert!(behind(Duration::ZERO, Duration::ZERO).is_empty());
        assert!(behind(short, Duration::from_millis(4)).is_empty());
        let [fold] = &behind(long, Duration::ZERO)[..] else { panic!("one") };
        assert!(fold.contains("aggregates are 42 s behind"), "{fold}");
        let [pace] = &behind(short, Duration::from_millis(80))[..] else { panic!("one") };
        assert!(pace.contains("held up by 80 ms"), "{pace}");
    }
}
