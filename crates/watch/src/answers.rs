//! What is asked of the watcher: verdicts, gates, events, counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_catalog::{CatalogError, DeployFilter};
use plimsoll_model::{Deploy, DeployId, RegressionEvent, UnixNanos, Verdict, VerdictKind};
use plimsoll_verdict::unseen;
use tokio::sync::{broadcast, watch};

use crate::open::Open;
use crate::watcher::{WatchCounters, Watcher};

impl Watcher {
    /// Returns the latest verdict on a deploy; one that says "not judged yet" where there is none. `None`: no such deploy.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn verdict(&self, id: &DeployId) -> Result<Option<Verdict>, CatalogError> {
        // What is decided is shown as it is stored, so that it can be judged again; its numbers lag behind by up to
        // ten minutes.
        let kept = self.options.keep_evidence.is_some();
        let shown = |open: &Open| match (&open.verdict, &open.stored) {
            (Some(verdict), Some(stored)) if kept && verdict.decided && stored.decided => Some(stored.clone()),
            (verdict, _) => verdict.clone(),
        };
        let known = self.open.lock().get(id).map(|open| (open.deploy.clone(), shown(open)));
        let deploy = match known {
            Some((_, Some(verdict))) => return Ok(Some(verdict)),
            Some((deploy, None)) => deploy,
            None => match self.catalog.deploy(id).await? {
                Some(deploy) => deploy,
                None => return Ok(None),
            },
        };
        let stored = self.catalog.verdict(id).await?;
        Ok(Some(stored.unwrap_or_else(|| unseen(&deploy, (self.clock)()))))
    }

    /// Returns the verdict once it is decided, or as it is when `wait` is over.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn wait_decided(&self, id: &DeployId, wait: Duration) -> Result<Option<Verdict>, CatalogError> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let verdict = self.verdict(id).await?;
            if verdict.as_ref().is_none_or(|verdict| verdict.decided) {
                return Ok(verdict);
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Ok(verdict),
                told = changed.changed() => if told.is_err() { return Ok(verdict) },
            }
        }
    }

    /// Returns the newest deploy that fits, with its verdict.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn gate(&self, filter: &DeployFilter) -> Result<Option<(Deploy, Verdict)>, CatalogError> {
        let filter = DeployFilter { limit: 1, ..filter.clone() };
        let Some(deploy) = self.catalog.deploys(&filter).await?.into_iter().next() else { return Ok(None) };
        let verdict = self.verdict(&deploy.id).await?;
        Ok(verdict.map(|verdict| (deploy, verdict)))
    }

    /// Returns what is said of a watched deploy at the moment, and whether nothing more is expected of it; `None` where
    /// it has not been judged, or is watched no longer.
    pub fn standing(&self, id: &DeployId) -> Option<(VerdictKind, bool)> {
        let open = self.open.lock();
        let open = open.get(id)?;
        open.verdict.as_ref().map(|verdict| (verdict.verdict, open.closed))
    }

    /// Stops judging a deploy: what was said of it last stands.
    pub fn release(&self, id: &DeployId) {
        self.open.lock().close(id, true);
    }

    /// Returns the time by the watcher's clock.
    pub fn now(&self) -> UnixNanos {
        (self.clock)()
    }

    /// Returns regression events from now on; a receiver that lags too far misses some and is told so.
    pub fn events(&self) -> broadcast::Receiver<RegressionEvent> {
        self.events.subscribe()
    }

    /// Returns a channel whose value changes whenever a verdict does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Returns what has been done so far.
    pub fn counters(&self) -> WatchCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchCounters {
            ticks: read(&self.counts.ticks),
            judged: read(&self.counts.judged),
            judge_ns: read(&self.counts.judge_ns),
            failures: read(&self.counts.failures),
            registered: read(&self.counts.registered),
            inferred: read(&self.counts.inferred),
            churned_versions: read(&self.counts.churned_versions),
            events: read(&self.counts.events),
            open: self.open.lock().len() as u64,
            sessions_bytes: self.sessions.bytes() as u64,
            sessions_without_room: self.sessions.without_room(),
        }
    }
}
