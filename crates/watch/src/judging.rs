//! One deploy judged: what bears on it is gathered, the verdict is stored, and who is to know is told.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_catalog::CatalogError;
use plimsoll_model::{Deploy, DeployId, EventKind, Interval, RegressionEvent, ServiceKey, UnixNanos, Verdict};
use plimsoll_verdict::{JudgeInput, Overlapping, quality};

use crate::announce::event_for;
use crate::closing::{is_closed, is_news};
use crate::evidence::{BYTES_MAX, Evidence, UNSETTLED, not_kept};
use crate::feedback::suppressed;
use crate::gather::gather;
use crate::hearing::{Heard, heard};
use crate::markers::Known;
use crate::open::Open;
use crate::overlap::{Told, told_by};
use crate::placeholder::announced_elsewhere;
use crate::succession::superseded;
use crate::watcher::{Watcher, count};

/// How often the numbers of an unchanged answer are stored, where the whole was looked at for them.
const STORE_EVERY: Duration = Duration::from_secs(30);
/// How often the whole is looked at for nothing but that. As a rule it was looked at before: what makes that dear is reading out all there is.
const STORE_WHOLE_EVERY: Duration = Duration::from_secs(600);
/// So many open deploys double the time between two stores of unchanged answers.
const STORED_EACH: u32 = 256;
/// How long too many versions are held against a service.
const CHURN_REMEMBERED: Duration = Duration::from_secs(600);
/// A service that was deployed so long before a deploy is no untouched one, nor is one since its own.
pub(crate) const TOUCHED_WITHIN: Duration = Duration::from_secs(1_800);

/// Other deploys of the service that bear on one.
struct Others {
    successors: Vec<Deploy>,
    overlapping: Vec<Overlapping>,
    /// Whether one of them is of the same version and earlier.
    shipped_before: bool,
}

/// What a look came to.
struct Judged {
    verdict: Verdict,
    /// What it was judged from, where it is to be stored.
    evidence: Option<Vec<u8>>,
    /// The whole was not looked at, so that it can be stored with less only than it was judged from.
    carried_on: bool,
}

impl Watcher {
    #[tracing::instrument(name = "judge", skip_all, fields(deploy = %id))]
    pub(crate) async fn judge_one(&self, id: &DeployId) -> Result<(), CatalogError> {
        let now = (self.clock)();
        let (open, others, marked, beside, told_of) = {
            let deploys = self.open.lock();
            let Some(open) = deploys.get(id).cloned() else { return Ok(()) };
            let successors = deploys.successors(&open.deploy, now);
            let marked = deploys.marked(&open.deploy);
            let beside = open.announced.is_none() && deploys.announced_beside(&open.deploy);
            let watched = self.options.tolerances.of(&open.deploy.service).watch_max();
            let others = deploys.overlapping(&open.deploy, watched, now);
            let overlapping: Vec<Overlapping> = others.iter().map(|other| told_by(other)).collect();
            let told_of: Vec<Told> = others.into_iter().filter_map(Told::of).collect();
            let shipped_before = deploys.shipped_before(&open.deploy);
            (open, Others { successors, overlapping, shipped_before }, marked, beside, told_of)
        };
        let (told_before, stored, store_every) = (open.announced.clone(), open.stored.clone(), self.store_every());
        // Asked here and by who judges, with one answer: what is stored without what it was judged from loses that.
        let settle = move |verdict: &Verdict, carried_on: bool| {
            let store_every = if carried_on { store_every.max(STORE_WHOLE_EVERY) } else { store_every };
            // One shipment, one page: whoever announced it also tells its end.
            let told = beside || (told_before.is_none() && told_of.iter().any(|told| told.covers(verdict)));
            let (event, announced) = if told { (None, None) } else { event_for(told_before.as_ref(), verdict) };
            let store = event.is_some() || stored.as_ref().is_none_or(|stored| is_news(stored, verdict, store_every));
            (event, announced, store)
        };
        let Judged { verdict, evidence, carried_on } = if marked && open.announced.is_none() {
            // What was told of the inferred deploy is also ended there.
            Judged {
                verdict: announced_elsewhere(&open, now),
                evidence: not_kept("it says no more than that another deploy is judged instead").ok(),
                carried_on: false,
            }
        } else {
            let settle = settle.clone();
            let judged = self.judge(&open, others, now, move |verdict, carried_on| settle(verdict, carried_on).2).await;
            match judged {
                Some(judged) => judged,
                None => {
                    if let Some(slot) = self.open.lock().get_mut(id) {
                        slot.judged_at = Some(now);
                    }
                    return Ok(());
                }
            }
        };
        let (event, announced, store) = settle(&verdict, carried_on);
        let event = event
            .map(|kind| RegressionEvent::announce(kind, open.deploy.clone(), verdict.clone(), &self.options.ui_base));
        let audience = self.options.audience.as_ref().filter(|_| event.is_some());
        let sinks = audience.map(|hears| hears(&open.deploy.service)).unwrap_or_default();
        if store {
            self.catalog.commit_verdict(&verdict, event.as_ref(), &sinks, evidence.as_deref()).await?;
        }
        let told = open
            .verdict
            .as_ref()
            .is_none_or(|shown| shown.revision != verdict.revision || shown.decided != verdict.decided);
        // What is still to come of what had piled up is waited for.
        let tolerances = self.options.tolerances.of(&open.deploy.service);
        let known = now - heard(self.signals.as_ref(), &open.deploy, &tolerances, now).behind;
        let closed = is_closed(&verdict, known, &tolerances);
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
            log(&event, sinks.len(), self.options.audience.is_some());
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

    /// Says whether more deploys are open than can be looked at within a minute.
    fn is_crowded(&self) -> bool {
        let looks = (60.0 / self.options.interval.as_secs_f64().max(0.1)).max(1.0);
        self.open.lock().len() as f64 > looks * self.options.judged_per_tick as f64
    }

    /// Gathers what bears on a deploy and judges it, on a thread that may take its time. A verdict that is to be stored
    /// comes with what it was judged from. `None` where that failed.
    async fn judge(
        &self,
        open: &Open,
        Others { successors, overlapping, shipped_before }: Others,
        now: UnixNanos,
        is_stored: impl Fn(&Verdict, bool) -> bool + Send + 'static,
    ) -> Option<Judged> {
        let deploy = open.deploy.clone();
        let signals = self.signals.clone();
        let tolerances = self.options.tolerances.of(&deploy.service);
        let starts = Arc::clone(&self.starts.lock());
        let previous = open.verdict.clone();
        let crowded = self.is_crowded();
        let churning = self.churning.lock().get(&deploy.service).is_some_and(|at| now.since(*at) < CHURN_REMEMBERED);
        let known = self.known_versions(&deploy.service, now).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "versions could not be read; judging without them");
            Known::default()
        });
        let elsewhere = known.elsewhere;
        let feedback = self.known_feedback(&deploy.service, now).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "feedback could not be read; judging without it");
            Arc::default()
        });
        let suppressed = suppressed(&feedback, &deploy.id, deploy.started_at);
        let began = std::time::Instant::now();
        let session = open.session.clone();
        let keep = self.options.keep_evidence.is_some();
        let gather = move || {
            let mut kept = session.lock();
            let session = &mut kept.session;
            // Of all that it is judged from, however long ago that was received.
            let mut data_quality = signals.data_quality(&deploy.service, deploy.started_at - tolerances.lookback());
            if elsewhere {
                data_quality.push(quality::SEEN_ELSEWHERE.to_owned());
            }
            if crowded {
                data_quality.push(quality::MANY_DEPLOYS.to_owned());
            }
            if churning {
                data_quality.push("version_churn".to_owned());
            }
            let first_request = known.rollouts.first_request(&deploy);
            let from = deploy.started_at - tolerances.lookback();
            if signals.forgotten(&deploy.service) > from {
                signals.recall(&deploy.service, from);
                if signals.forgotten(&deploy.service) > from {
                    data_quality.push(quality::BASELINE_EVICTED.to_owned());
                }
            }
            let within = |from: UnixNanos| Interval { from, to: now.bucket().end() };
            let superseded_at = superseded(signals.as_ref(), &deploy, &successors, now);
            let Heard { gaps, behind } = heard(signals.as_ref(), &deploy, &tolerances, now);
            let former = deploy.previous_version.as_deref();
            let behind = former.map_or(behind, |former| behind.max(signals.piled_up(&deploy.service, former)));
            let mut input = JudgeInput {
                behind,
                gaps,
                superseded_at,
                overlapping,
                shipped_before,
                first_request,
                data_quality,
                previous,
                tolerances,
                suppressed,
                ..JudgeInput::new(deploy, now, Vec::new())
            };
            // Most looks find nothing new, and for that the latest buckets do.
            if let Some(since) = session.since() {
                input.series = signals.series(&input.deploy.service, within(since));
                let beside = session
                    .asks_beside(now)
                    .then(|| signals.aggregates(&input.deploy.service, within(from), session.taken_back()));
                let latest = session.judge_latest(&input, beside);
                // What is stored is judged from the whole, so that it can be judged again.
                if let Some(verdict) = latest.filter(|verdict| !(keep && is_stored(verdict, true))) {
                    kept.settle();
                    return Judged { verdict, evidence: None, carried_on: keep };
                }
            }
            let keep_from = (now - UNSETTLED).bucket();
            let start = input.deploy.started_at;
            let touched = |other: &ServiceKey| starts.touched(other, start, start - TOUCHED_WITHIN, now);
            let versions = known.versions.iter().map(|known| (known.version.clone(), known.first_seen)).collect();
            let beside = gather(signals.as_ref(), &touched, &versions, &mut input, keep.then_some(keep_from));
            input.changed_at = known.changed_at;
            input.known_versions = known
                .versions
                .into_iter()
                .filter(|known| known.first_seen < input.deploy.started_at)
                .map(|known| known.version)
                .collect();
            let verdict = session.judge_all(&input);
            kept.settle();
            let evidence = || {
                let evidence = Evidence::of(&input, beside.neighbours, keep_from, beside.excerpt);
                let written = evidence.to_bytes(BYTES_MAX).or_else(|error| {
                    tracing::warn!(%error, "a verdict is stored without what it was judged from");
                    not_kept("it could not be written, see the log of that time")
                });
                written.ok()
            };
            let evidence = if keep && is_stored(&verdict, false) { evidence() } else { None };
            Judged { verdict, evidence, carried_on: false }
        };
        let judged = tokio::task::spawn_blocking(gather).await;
        let judged = judged.inspect_err(|error| {
            count(&self.counts.failures, 1);
            tracing::error!(deploy = %open.deploy.id, %error, "judging failed; the last verdict stands");
        });
        count(&self.counts.judged, 1);
        count(&self.counts.judge_ns, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        judged.ok()
    }
}

/// Says in the log what `told` sinks are told of. Where nobody is, the log is the only place that says so.
fn log(event: &RegressionEvent, told: usize, live: bool) {
    let (deploy, kind, id) = (&event.data.deploy.id, event.kind.as_str(), &event.id);
    let summary = &event.data.verdict.summary;
    match (told, event.kind) {
        (1.., _) => tracing::info!(%deploy, kind, event = %id, sinks = told, %summary, "regression event queued"),
        // Of the past, which is judged beside the present, nobody is to be told.
        _ if !live => tracing::debug!(%deploy, kind, event = %id, "regression event of the past"),
        (_, EventKind::Resolved) => {
            tracing::info!(%deploy, kind, event = %id, %summary, "regression event that no sink hears of");
        }
        _ => tracing::warn!(
            %deploy, kind, event = %id, %summary,
            "regression event that no sink hears of: set `alerts.sinks` to have people told"
        ),
    }
}
