//! The engine at some moment of the past: the fold and the watcher that serve live traffic, with event time as their clock.
//!
//! *Invariants.* Nothing waits and nothing listens. What is looked at, and when, follows from the deploys and the rows alone,
//! so that the same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, SqliteCatalog, SqliteOptions};
use plimsoll_model::{Bucket, Deploy, DeployId, DeployStatus, UnixNanos, Verdict, VerdictKind};
use plimsoll_otlp::Table;
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_verdict::TolerancePolicy;
use plimsoll_watch::{WatchOptions, Watcher};
use serde::Serialize;

use super::clock::EventClock;
use super::deploys::Past;

/// What was said of one deploy.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Judged {
    /// The verdict in the end.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// When it was called regressed for the first time.
    pub(crate) first_regressed_at: Option<UnixNanos>,
}

/// The engine, and how far its time has come.
pub(crate) struct Timeline {
    clock: Arc<EventClock>,
    state: Arc<Mutex<SignalState>>,
    catalog: Arc<SqliteCatalog>,
    watcher: Watcher,
    /// How long each deploy is judged at most.
    watched: Option<Duration>,
    deploys: std::iter::Peekable<std::vec::IntoIter<(UnixNanos, Past)>>,
    /// How recorded deploys end, by when they do.
    ends: BTreeSet<(UnixNanos, DeployId, bool)>,
    begun: Vec<Begun>,
    next_look: Option<Bucket>,
    settled_at: Bucket,
    // Removed once nothing uses it any more: fields go in the order in which they stand.
    _scratch: Scratch,
}

/// How long after its start a deploy may be announced and still find what it is compared with.
const ANNOUNCED_LATE: Duration = Duration::from_secs(3_600);

/// Returns how long what deploys are compared with is kept, whether or not one is open.
pub(crate) fn kept_for(limits: &SignalLimits, tolerances: &TolerancePolicy) -> Duration {
    limits.retention.max(tolerances.lookback_max() + ANNOUNCED_LATE)
}

/// A deploy that has started.
struct Begun {
    id: DeployId,
    at: UnixNanos,
    first_regressed_at: Option<UnixNanos>,
    /// Whether another look may still find it regressed.
    watched: bool,
}

impl Timeline {
    /// Begins before the first of `deploys`, which come in the order of their start.
    pub(crate) async fn start(
        deploys: Vec<(UnixNanos, Past)>,
        tolerances: TolerancePolicy,
        limits: SignalLimits,
    ) -> Result<Self, String> {
        let scratch = Scratch::new()?;
        let options = SqliteOptions { durable: false, ..SqliteOptions::default() };
        let catalog = SqliteCatalog::open_with(scratch.0.join("catalog.db"), options).await;
        let catalog = Arc::new(catalog.map_err(|error| error.to_string())?);
        let clock = Arc::new(EventClock::default());
        let limits = SignalLimits { retention: kept_for(&limits, &tolerances), ..limits };
        let state = Arc::new(Mutex::new(SignalState::new(limits)));
        let (told, counted) = (clock.clone(), AtomicU64::new(0));
        let options = WatchOptions {
            interval: Bucket::WIDTH,
            infer_deploys: false,
            tolerances,
            audience: None,
            ui_base: String::new(),
            judged_per_tick: usize::MAX,
            sessions_bytes_max: usize::MAX,
            keep_evidence: None,
        };
        let watcher = Watcher::start(
            options,
            catalog.clone(),
            state.clone(),
            Arc::new(move || told.now()),
            // Ids follow from the order of the deploys alone. Relaxed: one thread asks.
            Arc::new(move || u128::from(counted.fetch_add(1, Ordering::Relaxed))),
        );
        let watcher = watcher.await.map_err(|error| error.to_string())?;
        let deploys = deploys.into_iter().peekable();
        Ok(Self {
            clock,
            state,
            catalog,
            watcher,
            watched: None,
            deploys,
            ends: BTreeSet::new(),
            begun: Vec::new(),
            next_look: None,
            settled_at: Bucket(0),
            _scratch: scratch,
        })
    }

    /// Has each deploy judged for so long at most.
    pub(crate) fn watching(self, at_most: Duration) -> Self {
        Self { watched: Some(at_most), ..self }
    }

    /// Returns the state that rows are folded into or loaded into.
    pub(crate) fn state(&self) -> &Arc<Mutex<SignalState>> {
        &self.state
    }

    /// Returns the catalog that the watcher reads.
    pub(crate) fn catalog(&self) -> &dyn Catalog {
        self.catalog.as_ref()
    }

    /// Lets time pass until `to`: deploys start, and every 10 s of it the open ones are judged.
    pub(crate) async fn advance(&mut self, to: UnixNanos) -> Result<(), String> {
        if to.bucket() > self.settled_at {
            // What live traffic would write to segments is not needed here, whether or not anything is being judged.
            self.settled_at = to.bucket();
            self.state.lock().settle();
        }
        let mut look = self.next_look.unwrap_or_else(|| to.bucket());
        while look.start() <= to {
            self.begin(look.start()).await?;
            self.end(look.start()).await?;
            if self.watcher.counters().open == 0 {
                // Nothing is being judged: the next deploy, or the present, is the next moment of interest.
                let next = self.deploys.peek().map_or(to, |(at, _)| (*at).min(to));
                look = Bucket(look.0.max(next.bucket().0) + 1);
                continue;
            }
            self.look(look.start()).await?;
            look = Bucket(look.0 + 1);
        }
        self.next_look = Some(look);
        self.clock.advance(to);
        Ok(())
    }

    /// Folds rows as they were received.
    pub(crate) fn fold(&self, table: Table, batch: &RecordBatch) -> Result<(), String> {
        self.state.lock().fold(table, batch).map_err(|error| error.to_string())
    }

    /// Judges once more when everything is in and every trace is whole: at `until`, or at the end of the last bucket.
    pub(crate) async fn finish(&mut self, until: Option<UnixNanos>) -> Result<Vec<Judged>, String> {
        self.state.lock().close_traces();
        match until {
            Some(until) => {
                self.advance(until).await?;
                self.begin(until).await?;
                self.end(until).await?;
                self.look(until).await?;
            }
            None => {
                self.begin(UnixNanos::MAX).await?;
                let last = Bucket(self.clock.now().bucket().0 + 1).start();
                self.end(last).await?;
                self.look(last).await?;
            }
        }
        let mut all = Vec::new();
        for begun in &self.begun {
            let verdict = self.watcher.verdict(&begun.id).await.map_err(|error| error.to_string())?;
            let first_regressed_at = begun.first_regressed_at;
            all.extend(verdict.map(|verdict| Judged { verdict, first_regressed_at }));
        }
        Ok(all)
    }

    /// Registers the deploys that have started by `now`.
    async fn begin(&mut self, now: UnixNanos) -> Result<(), String> {
        while let Some((at, past)) = self.deploys.next_if(|(at, _)| *at <= now) {
            self.clock.advance(at);
            let id = match past {
                Past::Announced(marker) => {
                    let registered = self.watcher.register(*marker, None).await;
                    registered.map_err(|error| error.to_string())?.0.id
                }
                Past::Recorded(deploy) => {
                    let id = deploy.id.clone();
                    if deploy.status != DeployStatus::Running {
                        let failed = deploy.status == DeployStatus::Failed;
                        self.ends.insert((deploy.finished_at.unwrap_or(at), id.clone(), failed));
                    }
                    // How it ends is not known before it does.
                    let begun = Deploy { status: DeployStatus::Running, finished_at: None, ..*deploy };
                    self.watcher.admit(begun).await.map_err(|error| error.to_string())?;
                    id
                }
            };
            if self.begun.iter().all(|begun| begun.id != id) {
                self.begun.push(Begun { id, at, first_regressed_at: None, watched: true });
            }
        }
        Ok(())
    }

    /// Ends the deploys whose end has come by `now`.
    async fn end(&mut self, now: UnixNanos) -> Result<(), String> {
        while let Some((at, id, failed)) = self.ends.pop_first() {
            if at > now {
                self.ends.insert((at, id, failed));
                break;
            }
            let status = if failed { DeployStatus::Failed } else { DeployStatus::Succeeded };
            self.watcher.finish(&id, status, Some(at)).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn look(&mut self, now: UnixNanos) -> Result<(), String> {
        self.clock.advance(now);
        self.watcher.tick().await;
        if self.watcher.counters().open == 0 {
            // Nobody looks until the next deploy starts, and nothing is needed until then.
            self.state.lock().keep(&BTreeMap::new());
        }
        for begun in self.begun.iter_mut().filter(|begun| begun.watched) {
            let Some((verdict, closed)) = self.watcher.standing(&begun.id) else { continue };
            if verdict == VerdictKind::Regressed && begun.first_regressed_at.is_none() {
                begun.first_regressed_at = Some(now);
            }
            let over = self.watched.is_some_and(|watched| now >= begun.at + watched);
            if over && !closed {
                self.watcher.release(&begun.id);
            }
            begun.watched = !closed && !over && (begun.first_regressed_at.is_none() || self.watched.is_some());
        }
        Ok(())
    }
}

/// A directory for the catalog, removed at the end: a backtest keeps nothing.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Relaxed: all that counts is that no two get the same.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("plimsoll-backtest-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
