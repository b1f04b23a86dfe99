//! The loop: what is due now, what do the aggregates say, what is stored and who is told.
//!
//! *Cost.* A tick judges at most [`WatchOptions::judged_per_tick`] deploys, on threads that may take their time, and stores a verdict
//! when its answer changed, and its numbers once the whole was looked at; readers get the latest from memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, CatalogError, DeployFilter};
use plimsoll_model::{DeployId, Feedback, RegressionEvent, ServiceKey, UnixNanos};
use plimsoll_verdict::TolerancePolicy;
use tokio::sync::{broadcast, watch};

use crate::announce::announced;
use crate::closing::{RECOVERY_WATCH, is_closed};
use crate::judging::TOUCHED_WITHIN;
use crate::markers::Known;
use crate::open::{OpenDeploys, Starts};
use crate::sessions::Sessions;
use crate::source::{SignalSource, VersionObservation};

/// Events that a slow stream may lag behind before it misses some.
const STREAM_DEPTH: usize = 256;

/// How often what was kept long enough is removed.
const TIDY_EVERY: Duration = Duration::from_secs(3_600);
/// So many verdicts' at a look.
const TIDIED_AT_ONCE: u32 = 64;

/// Tells the time; given, so that tests own it.
pub type Clock = Arc<dyn Fn() -> UnixNanos + Send + Sync>;
/// Gives entropy for ids; given, so that tests own it.
pub type Entropy = Arc<dyn Fn() -> u128 + Send + Sync>;

/// Names the sinks that events about a service go to.
pub type Audience = Arc<dyn Fn(&ServiceKey) -> Vec<String> + Send + Sync>;

/// How the watcher works.
#[derive(Clone)]
pub struct WatchOptions {
    /// Time between two looks.
    pub interval: Duration,
    /// Whether a first-seen version counts as a deploy.
    pub infer_deploys: bool,
    /// What counts as worse.
    pub tolerances: TolerancePolicy,
    /// Who hears of regressions of a service; `None` where the past is judged, of which nobody is told.
    pub audience: Option<Audience>,
    /// Address of the web pages, for links; without a trailing slash.
    pub ui_base: String,
    /// Deploys judged per look at most.
    pub judged_per_tick: usize,
    /// Bytes that may be kept between looks, of all deploys together: some 18 kB an operation of a service that is being judged. What finds no
    /// room is judged from the whole each time.
    pub sessions_bytes_max: usize,
    /// How long after the start of a deploy what its stored verdict was judged from is kept, to judge again; `None`: not at
    /// all.
    pub keep_evidence: Option<Duration>,
}

/// What the watcher has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchCounters {
    /// Looks.
    pub ticks: u64,
    /// Judgements.
    pub judged: u64,
    /// Nanoseconds spent judging.
    pub judge_ns: u64,
    /// Looks or judgements that failed and are tried again.
    pub failures: u64,
    /// Deploys announced.
    pub registered: u64,
    /// Deploys inferred.
    pub inferred: u64,
    /// First-seen versions of services that show too many: not taken for deploys.
    pub churned_versions: u64,
    /// Events queued.
    pub events: u64,
    /// Deploys still being judged.
    pub open: u64,
    /// Bytes that are kept of them between looks.
    pub sessions_bytes: u64,
    /// Looks after which nothing was kept for lack of room.
    pub sessions_without_room: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ticks: AtomicU64,
    pub(crate) judged: AtomicU64,
    pub(crate) judge_ns: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) registered: AtomicU64,
    pub(crate) inferred: AtomicU64,
    pub(crate) churned_versions: AtomicU64,
    pub(crate) events: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, by: u64) {
    // Relaxed: numbers for display; nothing is ordered by them.
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What was said of verdicts on each service, with when it was read.
pub(crate) type KnownFeedback = BTreeMap<ServiceKey, (UnixNanos, Arc<[Feedback]>)>;

/// Registers deploys, judges them until they are decided, and announces what is confirmed.
pub struct Watcher {
    pub(crate) options: WatchOptions,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) signals: Arc<dyn SignalSource>,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) open: Mutex<OpenDeploys>,
    /// What is kept of them between looks.
    pub(crate) sessions: Arc<Sessions>,
    /// When deploys started, as of the look at hand.
    pub(crate) starts: Mutex<Arc<Starts>>,
    /// Services known to show too many versions; told once.
    pub(crate) churning: Mutex<BTreeMap<ServiceKey, UnixNanos>>,
    /// Versions that the source told of and that are not settled yet.
    pub(crate) arrivals: Mutex<VecDeque<VersionObservation>>,
    /// Deploys whose closed verdicts are to say that telemetry came since.
    pub(crate) belated: Mutex<BTreeSet<DeployId>>,
    /// Versions of services as last read.
    pub(crate) versions: Mutex<BTreeMap<ServiceKey, (UnixNanos, Known)>>,
    /// Feedback on services as last read.
    pub(crate) feedback: Mutex<KnownFeedback>,
    /// When what was kept long enough was last removed, all of it.
    pub(crate) tidied_at: Mutex<Option<UnixNanos>>,
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) events: broadcast::Sender<RegressionEvent>,
    pub(crate) counts: Counts,
}

impl Watcher {
    /// Makes a watcher and takes up the deploys that were open when the last one stopped.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn start(
        options: WatchOptions,
        catalog: Arc<dyn Catalog>,
        signals: Arc<dyn SignalSource>,
        clock: Clock,
        entropy: Entropy,
    ) -> Result<Self, CatalogError> {
        let since = clock() - (options.tolerances.watch_max() + RECOVERY_WATCH);
        let filter = DeployFilter { since: Some(since), limit: 100_000, ..DeployFilter::default() };
        let sessions = Sessions::new(options.sessions_bytes_max);
        let mut open = OpenDeploys::new(Arc::clone(&sessions));
        for deploy in catalog.deploys(&filter).await? {
            let verdict = catalog.verdict(&deploy.id).await?;
            let tolerances = options.tolerances.of(&deploy.service);
            let closed = verdict.as_ref().is_some_and(|v| is_closed(v, v.evaluated_at, &tolerances));
            let announced = announced(catalog.as_ref(), verdict.as_ref()).await?;
            open.take_up(deploy, verdict, closed, announced);
        }
        Ok(Self {
            options,
            catalog,
            signals,
            clock,
            entropy,
            open: Mutex::new(open),
            sessions,
            starts: Mutex::default(),
            churning: Mutex::default(),
            arrivals: Mutex::default(),
            belated: Mutex::default(),
            versions: Mutex::default(),
            feedback: Mutex::default(),
            tidied_at: Mutex::default(),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(STREAM_DEPTH),
            counts: Counts::default(),
        })
    }

    /// Looks every interval until `stop` is done, and then judges no deploy but the one at hand.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(self.options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stop);
        let stopping = AtomicBool::new(false);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = ticks.tick() => {}
            }
            let look = self.look(&stopping);
            tokio::pin!(look);
            tokio::select! {
                () = &mut look => {}
                () = &mut stop => {
                    stopping.store(true, Ordering::Relaxed);
                    return look.await;
                }
            }
        }
    }

    /// Removes what verdicts were judged from once it was kept long enough: once an hour all there is, a few at a look, so that
    /// nobody who writes waits long.
    async fn tidy(&self) -> Result<(), CatalogError> {
        let Some(keep) = self.options.keep_evidence else { return Ok(()) };
        let now = (self.clock)();
        if self.tidied_at.lock().is_some_and(|at| now.since(at) < TIDY_EVERY) {
            return Ok(());
        }
        let removed = self.catalog.remove_evidence(now - keep, TIDIED_AT_ONCE).await?;
        if removed < u64::from(TIDIED_AT_ONCE) {
            *self.tidied_at.lock() = Some(now);
        }
        Ok(())
    }

    /// Looks once: infers deploys, judges what is due, stores what changed.
    pub async fn tick(&self) {
        self.look(&AtomicBool::new(false)).await;
    }

    /// The same, and leaves the rest of the deploys to the next start once it is `stopping`.
    async fn look(&self, stopping: &AtomicBool) {
        count(&self.counts.ticks, 1);
        if let Err(error) = self.infer_deploys().await {
            count(&self.counts.failures, 1);
            tracing::warn!(%error, "new versions could not be looked up; they are tried again at the next look");
        }
        if let Err(error) = self.say_belated().await {
            count(&self.counts.failures, 1);
            tracing::warn!(%error, "what came late could not be said of closed verdicts; it is tried again at the next look");
        }
        let due = {
            let open = self.open.lock();
            let knows = |service: &ServiceKey| self.signals.knows(service);
            self.signals.keep(&open.needed((self.clock)(), &self.options.tolerances));
            let due = open.due((self.clock)(), self.options.judged_per_tick, &self.options.tolerances, knows);
            let oldest = due.iter().filter_map(|id| open.get(id)).map(|open| open.deploy.started_at).min();
            *self.starts.lock() = Arc::new(oldest.map(|at| open.starts(at - TOUCHED_WITHIN)).unwrap_or_default());
            due
        };
        for id in due {
            if stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.judge_one(&id).await {
                count(&self.counts.failures, 1);
                tracing::warn!(deploy = %id, %error, "verdict could not be stored; it is judged again at the next look");
            }
        }
        if let Err(error) = self.tidy().await {
            count(&self.counts.failures, 1);
            tracing::warn!(%error, "what old verdicts were judged from could not be removed; it is tried again at the next look");
        }
        let forget = (self.clock)() - (self.options.tolerances.watch_max() + RECOVERY_WATCH);
        self.open.lock().forget(forget);
    }
}
