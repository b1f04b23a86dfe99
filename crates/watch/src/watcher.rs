//! The loop: what is due now, what do the aggregates say, what is stored and who is told.
//!
//! *Cost.* A tick judges at most [`WatchOptions::judged_per_tick`] deploys, on threads that may take their time, and stores a verdict
//! when its answer changed or [`STORE_EVERY`] has passed; readers get the latest from memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, CatalogError, DeployFilter, Inserted, VersionRecord};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{
    Decision, DecisionKind, Deploy, DeployId, DeployKind, DeployStatus, Interval, RegressionEvent, ServiceKey,
    UnixNanos, Verdict, VerdictKind,
};
use plimsoll_verdict::{JudgeInput, Tolerances};
use tokio::sync::{broadcast, watch};

use crate::announce::event_for;
use crate::feedback::{FEEDBACK_MAX, suppressed};
use crate::infer::MARKER_WITHIN;
use crate::open::{Open, OpenDeploys};
use crate::placeholder::{announced_elsewhere, not_judged_yet};
use crate::register::{FinishError, NewDeploy, RegisterError};
use crate::source::{SignalSource, VersionObservation};

/// How often the numbers of an unchanged answer are stored.
const STORE_EVERY: Duration = Duration::from_secs(30);
/// Events that a slow stream may lag behind before it misses some.
const STREAM_DEPTH: usize = 256;
/// How long after its watch time a confirmed regression is still watched for its end.
const RECOVERY_WATCH: Duration = Duration::from_secs(24 * 3_600);

/// So many open deploys double the time between two stores of unchanged answers.
const STORED_EACH: u32 = 256;
/// How long the versions of a service, once read, are taken for what they are.
const VERSIONS_KEPT: Duration = Duration::from_secs(30);
/// Services whose versions are kept.
const SERVICES_KEPT: usize = 4_096;

/// How long too many versions are held against a service.
const CHURN_REMEMBERED: Duration = Duration::from_secs(600);

/// Tells the time; given, so that tests own it.
pub type Clock = Arc<dyn Fn() -> UnixNanos + Send + Sync>;
/// Gives entropy for ids; given, so that tests own it.
pub type Entropy = Arc<dyn Fn() -> u128 + Send + Sync>;

/// How the watcher works.
#[derive(Clone)]
pub struct WatchOptions {
    /// Time between two looks.
    pub interval: Duration,
    /// Whether a first-seen version counts as a deploy.
    pub infer_deploys: bool,
    /// What counts as worse.
    pub tolerances: Tolerances,
    /// Names of the sinks that events go to.
    pub sinks: Vec<String>,
    /// Address of the web pages, for links; without a trailing slash.
    pub ui_base: String,
    /// Deploys judged per look at most.
    pub judged_per_tick: usize,
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
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    ticks: AtomicU64,
    judged: AtomicU64,
    judge_ns: AtomicU64,
    failures: AtomicU64,
    registered: AtomicU64,
    pub(crate) inferred: AtomicU64,
    pub(crate) churned_versions: AtomicU64,
    events: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, by: u64) {
    // Relaxed: numbers for display; nothing is ordered by them.
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Registers deploys, judges them until they are decided, and announces what is confirmed.
pub struct Watcher {
    pub(crate) options: WatchOptions,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) signals: Arc<dyn SignalSource>,
    pub(crate) clock: Clock,
    entropy: Entropy,
    pub(crate) open: Mutex<OpenDeploys>,
    /// Services known to show too many versions; told once.
    pub(crate) churning: Mutex<BTreeMap<ServiceKey, UnixNanos>>,
    /// Versions that the source told of and that are not settled yet.
    pub(crate) arrivals: Mutex<VecDeque<VersionObservation>>,
    /// Versions of services as last read.
    pub(crate) versions: Mutex<BTreeMap<ServiceKey, (UnixNanos, Vec<VersionRecord>)>>,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<RegressionEvent>,
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
        let mut open = OpenDeploys::default();
        for deploy in catalog.deploys(&filter).await? {
            let verdict = catalog.verdict(&deploy.id).await?;
            let closed = verdict.as_ref().is_some_and(|verdict| is_closed(verdict, &options.tolerances));
            open.insert(deploy, verdict, closed);
        }
        Ok(Self {
            options,
            catalog,
            signals,
            clock,
            entropy,
            open: Mutex::new(open),
            churning: Mutex::default(),
            arrivals: Mutex::default(),
            versions: Mutex::default(),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(STREAM_DEPTH),
            counts: Counts::default(),
        })
    }

    /// Looks every interval until `stop` is done.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(self.options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    /// Looks once: infers deploys, judges what is due, stores what changed.
    pub async fn tick(&self) {
        count(&self.counts.ticks, 1);
        if let Err(error) = self.infer_deploys().await {
            count(&self.counts.failures, 1);
            tracing::warn!(%error, "new versions could not be looked up; they are tried again at the next look");
        }
        let due = self.open.lock().due((self.clock)(), self.options.judged_per_tick);
        for id in due {
            if let Err(error) = self.judge_one(&id).await {
                count(&self.counts.failures, 1);
                tracing::warn!(deploy = %id, %error, "verdict could not be stored; it is judged again at the next look");
            }
        }
        let forget = (self.clock)() - (self.options.tolerances.watch_max() + RECOVERY_WATCH);
        self.open.lock().forget(forget);
    }

    /// Records a deploy. Returns it, and whether it is new.
    ///
    /// # Errors
    /// The marker makes no sense, or the catalog cannot be written.
    pub async fn register(
        &self,
        marker: NewDeploy,
        idempotency_key: Option<&str>,
    ) -> Result<(Deploy, bool), RegisterError> {
        if idempotency_key.is_some_and(|key| key.is_empty() || key.len() > 255) {
            return Err(RegisterError::Invalid(vec!["`Idempotency-Key` must be 1 to 255 bytes long".to_owned()]));
        }
        let (now, told) = ((self.clock)(), marker.started_at.is_some());
        let mut deploy = marker.check(now, (self.entropy)())?;
        let known = self.catalog.versions(&deploy.service).await?;
        if !told && deploy.kind == DeployKind::Release {
            // Marked after the fact: it began when its version was first seen, not when somebody came to say so.
            let seen = known.iter().find(|known| known.version == deploy.version).map(|known| known.first_seen);
            if let Some(seen) = seen.filter(|seen| *seen <= now && now.since(*seen) <= MARKER_WITHIN) {
                deploy.started_at = seen;
            }
        }
        if deploy.previous_version.is_none() {
            deploy.previous_version = running_before(&deploy, known);
        }
        let same = self.open.lock().same_shipment(&deploy);
        if let Some(same) = same {
            return self.join(deploy, same, idempotency_key).await;
        }
        match self.catalog.insert_deploy(&deploy, idempotency_key).await? {
            Inserted::Existing(existing) => {
                self.take_up(&existing).await?;
                Ok((*existing, false))
            }
            Inserted::Created => {
                count(&self.counts.registered, 1);
                self.open.lock().insert(deploy.clone(), None, false);
                Ok((deploy, true))
            }
        }
    }

    /// Watches a recorded deploy that nobody watches: whoever recorded it went away before it was taken up.
    async fn take_up(&self, deploy: &Deploy) -> Result<(), CatalogError> {
        if self.open.lock().get(&deploy.id).is_none() {
            let verdict = self.catalog.verdict(&deploy.id).await?;
            let closed = verdict.as_ref().is_some_and(|verdict| is_closed(verdict, &self.options.tolerances));
            self.open.lock().insert(deploy.clone(), verdict, closed);
        }
        Ok(())
    }

    /// Lets a marker take over the inferred deploy of its shipment; one that was announced before is the deploy.
    async fn join(
        &self,
        marker: Deploy,
        same: Deploy,
        idempotency_key: Option<&str>,
    ) -> Result<(Deploy, bool), RegisterError> {
        if !same.inferred {
            return Ok((same, false));
        }
        let deploy = Deploy {
            id: same.id,
            previous_version: marker.previous_version.clone().or(same.previous_version),
            started_at: marker.started_at.min(same.started_at),
            ..marker
        };
        match self.catalog.adopt_deploy(&deploy, idempotency_key).await? {
            Inserted::Existing(existing) => {
                self.take_up(&existing).await?;
                Ok((*existing, false))
            }
            Inserted::Created => {
                count(&self.counts.registered, 1);
                self.open.lock().adopt(deploy.clone());
                Ok((deploy, true))
            }
        }
    }

    /// Returns the versions of a service, which change rarely: read again after a while, and when a new one is seen.
    async fn known_versions(&self, service: &ServiceKey, now: UnixNanos) -> Result<Vec<VersionRecord>, CatalogError> {
        let fresh = |at: UnixNanos| now.since(at) < VERSIONS_KEPT;
        if let Some((at, known)) = self.versions.lock().get(service)
            && fresh(*at)
        {
            return Ok(known.clone());
        }
        let known = self.catalog.versions(service).await?;
        let mut kept = self.versions.lock();
        if kept.len() >= SERVICES_KEPT {
            kept.retain(|_, (at, _)| fresh(*at));
        }
        if kept.len() < SERVICES_KEPT {
            kept.insert(service.clone(), (now, known.clone()));
        }
        Ok(known)
    }

    /// Records how a deploy's pipeline ended; now, where `at` is not given.
    ///
    /// # Errors
    /// There is no such deploy, the status is `running`, or the catalog cannot be written.
    pub async fn finish(
        &self,
        id: &DeployId,
        status: DeployStatus,
        at: Option<UnixNanos>,
    ) -> Result<Deploy, FinishError> {
        if status == DeployStatus::Running {
            return Err(FinishError::Invalid(vec!["`status` must be `succeeded` or `failed`".to_owned()]));
        }
        let at = at.unwrap_or_else(|| (self.clock)());
        let deploy =
            self.catalog.finish_deploy(id, status, at).await?.ok_or_else(|| FinishError::Unknown(id.clone()))?;
        if let Some(open) = self.open.lock().get_mut(id) {
            open.deploy = deploy.clone();
        }
        Ok(deploy)
    }

    /// Records what was decided about a deploy.
    ///
    /// # Errors
    /// There is no such deploy, nobody decided, or the catalog cannot be written.
    pub async fn decide(
        &self,
        id: &DeployId,
        decision: DecisionKind,
        actor: &str,
        reason: &str,
    ) -> Result<Decision, FinishError> {
        let mut problems = Vec::new();
        if actor.trim().is_empty() {
            problems.push("`actor` is required: say who decided".to_owned());
        }
        for (name, text, most) in [("actor", actor, 1_024), ("reason", reason, 16_384)] {
            if text.len() > most {
                problems.push(format!("`{name}` is {} bytes long, at most {most} are kept", text.len()));
            }
        }
        if !problems.is_empty() {
            return Err(FinishError::Invalid(problems));
        }
        if self.catalog.deploy(id).await?.is_none() {
            return Err(FinishError::Unknown(id.clone()));
        }
        let decision = Decision {
            deploy_id: id.clone(),
            decision,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            decided_at: (self.clock)(),
        };
        self.catalog.insert_decision(&decision).await?;
        Ok(decision)
    }

    /// Returns the latest verdict on a deploy; one that says "not judged yet" where there is none. `None`: no such deploy.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn verdict(&self, id: &DeployId) -> Result<Option<Verdict>, CatalogError> {
        let known = self.open.lock().get(id).map(|open| (open.deploy.clone(), open.verdict.clone()));
        let deploy = match known {
            Some((_, Some(verdict))) => return Ok(Some(verdict)),
            Some((deploy, None)) => deploy,
            None => match self.catalog.deploy(id).await? {
                Some(deploy) => deploy,
                None => return Ok(None),
            },
        };
        let stored = self.catalog.verdict(id).await?;
        Ok(Some(stored.unwrap_or_else(|| not_judged_yet(&deploy, (self.clock)()))))
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
        }
    }

    #[tracing::instrument(name = "judge", skip_all, fields(deploy = %id))]
    async fn judge_one(&self, id: &DeployId) -> Result<(), CatalogError> {
        let (open, superseded_at, marked, beside) = {
            let deploys = self.open.lock();
            let Some(open) = deploys.get(id).cloned() else { return Ok(()) };
            let superseded_at = deploys.superseded_at(&open.deploy);
            let marked = deploys.marked(&open.deploy);
            let beside = open.announced.is_none() && deploys.announced_beside(&open.deploy);
            (open, superseded_at, marked, beside)
        };
        let now = (self.clock)();
        let verdict =
            // What was told of the inferred deploy is also ended there.
            if marked && open.announced.is_none() { announced_elsewhere(&open, now) } else { self.judge(&open, superseded_at, now).await };
        // One shipment, one page: whoever announced it also tells its end.
        let (event, announced) = if beside { (None, None) } else { event_for(open.announced.as_ref(), &verdict) };
        let event = event
            .map(|kind| RegressionEvent::announce(kind, open.deploy.clone(), verdict.clone(), &self.options.ui_base));
        let store =
            event.is_some() || open.stored.as_ref().is_none_or(|stored| is_news(stored, &verdict, self.store_every()));
        if store {
            self.catalog.commit_verdict(&verdict, event.as_ref(), &self.options.sinks).await?;
        }
        let told = open
            .verdict
            .as_ref()
            .is_none_or(|shown| shown.revision != verdict.revision || shown.decided != verdict.decided);
        let closed = is_closed(&verdict, &self.options.tolerances);
        if let Some(slot) = self.open.lock().get_mut(id) {
            if store {
                slot.stored = Some(verdict.clone());
            }
            slot.verdict = Some(verdict);
            slot.announced = announced;
            slot.judged_at = Some(now);
        }
        self.open.lock().close(id, closed);
        if let Some(event) = event {
            count(&self.counts.events, 1);
            tracing::info!(deploy = %id, kind = event.kind.as_str(), event = %event.id, "regression event queued");
            // Nobody may be listening; webhooks go through the outbox.
            let _ = self.events.send(event);
        }
        if told || store {
            self.changed.send_modify(|version| *version += 1);
        }
        Ok(())
    }

    /// Numbers of unchanged answers are stored the more rarely the more deploys are open: each store is a transaction.
    fn store_every(&self) -> Duration {
        let open = u32::try_from(self.open.lock().len()).unwrap_or(u32::MAX);
        STORE_EVERY * (1 + open / STORED_EACH)
    }

    /// Gathers what bears on a deploy and judges it, on a thread that may take its time.
    async fn judge(&self, open: &Open, superseded_at: Option<UnixNanos>, now: UnixNanos) -> Verdict {
        let deploy = open.deploy.clone();
        let signals = self.signals.clone();
        let tolerances = self.options.tolerances.clone();
        let previous = open.verdict.clone();
        let churning = self.churning.lock().get(&deploy.service).is_some_and(|at| now.since(*at) < CHURN_REMEMBERED);
        let known_versions = self.known_versions(&deploy.service, now).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "versions could not be read; judging without them");
            Vec::new()
        });
        let feedback = self.catalog.feedback(Some(&deploy.service), FEEDBACK_MAX).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "feedback could not be read; judging without it");
            Vec::new()
        });
        let suppressed = suppressed(&feedback, deploy.started_at);
        let began = std::time::Instant::now();
        let session = open.session.clone();
        let gather = move || {
            let mut session = session.lock();
            let start = deploy.started_at - tolerances.lookback();
            let mut data_quality = signals.data_quality(&deploy.service);
            if churning {
                data_quality.push("version_churn".to_owned());
            }
            let within = |from: UnixNanos| Interval { from, to: now.bucket().end() };
            let mut input = JudgeInput {
                superseded_at,
                data_quality,
                previous,
                tolerances,
                suppressed,
                ..JudgeInput::new(deploy, now, Vec::new())
            };
            // Most looks find nothing new, and for that the latest buckets do.
            if let Some(since) = session.since() {
                input.series = signals.series(&input.deploy.service, within(since));
                if let Some(verdict) = session.judge_latest(&input) {
                    return verdict;
                }
            }
            let service = &input.deploy.service;
            input.series = signals.series(service, within(start));
            input.aggregates = signals.aggregates(service, within(start));
            input.related =
                signals.related(service).iter().flat_map(|other| signals.series(other, within(start))).collect();
            input.known_fingerprints = signals.known_fingerprints(service, input.deploy.started_at);
            input.known_versions = known_versions
                .into_iter()
                .filter(|known| known.first_seen < input.deploy.started_at)
                .map(|known| known.version)
                .collect();
            session.judge_all(&input)
        };
        let verdict = match tokio::task::spawn_blocking(gather).await {
            Ok(verdict) => verdict,
            Err(error) => {
                count(&self.counts.failures, 1);
                tracing::error!(deploy = %open.deploy.id, %error, "judging failed; the last verdict stands");
                open.verdict.clone().unwrap_or_else(|| not_judged_yet(&open.deploy, now))
            }
        };
        count(&self.counts.judged, 1);
        count(&self.counts.judge_ns, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        verdict
    }
}

/// Says whether a verdict differs from the stored one in more than numbers, or the stored numbers are old.
fn is_news(stored: &Verdict, verdict: &Verdict, store_every: Duration) -> bool {
    stored.verdict != verdict.verdict
        || stored.decided != verdict.decided
        || stored.phase != verdict.phase
        || stored.revision != verdict.revision
        || (verdict.evaluated_at.since(stored.evaluated_at) >= store_every && !says_the_same(stored, verdict))
}

/// Says whether two verdicts differ in nothing but when they were reached.
fn says_the_same(one: &Verdict, other: &Verdict) -> bool {
    let at_rest = |verdict: &Verdict| Verdict { evaluated_at: UnixNanos(0), ..verdict.clone() };
    at_rest(one) == at_rest(other)
}

/// The version seen last before the deploy, other than its own.
fn running_before(deploy: &Deploy, known: Vec<VersionRecord>) -> Option<String> {
    let others = known.into_iter().filter(|known| known.version != deploy.version && !known.version.is_empty());
    others.max_by_key(|known| (known.last_seen, known.first_seen)).map(|known| known.version)
}

/// Says whether nothing more is expected of a deploy.
///
/// A confirmed regression is watched for its end, and a pass until the watch time is over: what goes wrong after it is
/// still told.
fn is_closed(verdict: &Verdict, tolerances: &Tolerances) -> bool {
    let age = verdict.evaluated_at.since(verdict.started_at);
    let watched = match verdict.verdict {
        VerdictKind::Regressed => verdict.phase != Phase::Recovered && age < RECOVERY_WATCH,
        VerdictKind::Pass => age < tolerances.watch_max(),
        VerdictKind::Inconclusive => false,
    };
    verdict.decided && !watched
}
