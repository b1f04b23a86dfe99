//! The deploys that are still being judged, and the order in which they come up.
//!
//! *Cost.* One entry a deploy within the watch time, found by service. A tick takes a bounded number of them, those first
//! whose turn came first: turns lie closer together where an answer is near, and every turn comes. Ten thousand markers at
//! once therefore delay each other, and what was already being judged only as much as its share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Deploy, DeployId, DeployKind, DeployStatus, ServiceKey, UnixNanos, Verdict, VerdictKind};
use plimsoll_signals::Belated;
use plimsoll_verdict::TolerancePolicy;

use crate::announce::Announced;
use crate::belated::bears_on;
use crate::infer::MARKER_WITHIN;
use crate::sessions::{Kept, Sessions};

/// How long after its watch time what a deploy was judged by is still needed: where many are open its turn comes late.
const OVER: Duration = Duration::from_secs(600);

/// Between two looks at a regression whose watch time is over: each is at the whole.
const RESTING: Duration = Duration::from_secs(60);

/// One deploy that is being judged, or was of late.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) deploy: Deploy,
    pub(crate) verdict: Option<Verdict>,
    /// The verdict as it is stored; it lags behind in numbers only.
    pub(crate) stored: Option<Verdict>,
    pub(crate) announced: Option<Announced>,
    pub(crate) judged_at: Option<UnixNanos>,
    /// Nothing more is expected of it.
    pub(crate) closed: bool,
    /// What was computed so far; whoever judges holds it.
    pub(crate) session: Arc<Kept>,
}

impl Open {
    /// Says whether nothing of its version was seen when it was last judged.
    fn is_unseen(&self) -> bool {
        let words = self.verdict.iter().flat_map(|verdict| &verdict.data_quality);
        words.into_iter().any(|word| word == plimsoll_verdict::quality::NO_CANDIDATE_TRAFFIC)
    }

    /// Says whether it is watched for nothing but its end any more.
    fn is_over(&self, now: UnixNanos, policy: &TolerancePolicy) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.verdict == VerdictKind::Regressed)
            && now.since(self.deploy.started_at) > policy.of(&self.deploy.service).watch_max() + RESTING
    }

    /// Says when it is its turn, where not all can be judged at every look.
    fn turn(&self) -> UnixNanos {
        let (Some(judged_at), Some(verdict)) = (self.judged_at, &self.verdict) else { return self.deploy.created_at };
        let wait = match (verdict.verdict, verdict.phase) {
            (_, Phase::Suspected) => 0,
            (VerdictKind::Pass, _) => 60,
            (VerdictKind::Inconclusive, _) if self.is_unseen() => 60,
            _ => 10,
        };
        judged_at + Duration::from_secs(wait)
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct OpenDeploys {
    sessions: Arc<Sessions>,
    by_id: BTreeMap<DeployId, Open>,
    by_service: BTreeMap<ServiceKey, Vec<DeployId>>,
    open: usize,
}

impl OpenDeploys {
    pub(crate) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions, by_id: BTreeMap::new(), by_service: BTreeMap::new(), open: 0 }
    }

    pub(crate) fn insert(&mut self, deploy: Deploy, verdict: Option<Verdict>, closed: bool) {
        self.take_up(deploy, verdict, closed, None);
    }

    /// Takes up a deploy that was judged before, with what was announced of it.
    pub(crate) fn take_up(
        &mut self,
        deploy: Deploy,
        verdict: Option<Verdict>,
        closed: bool,
        announced: Option<Announced>,
    ) {
        let stored = verdict.clone();
        let session = self.sessions.begin();
        let open = Open { deploy, verdict, stored, announced, judged_at: None, closed, session };
        let id = open.deploy.id.clone();
        if !self.by_id.contains_key(&id) {
            self.open += usize::from(!closed);
            self.by_service.entry(open.deploy.service.clone()).or_default().push(id.clone());
            self.by_id.insert(id, open);
        }
    }

    /// Lets a marker take the place of the inferred deploy with its id; its verdict and what was told of it stay.
    pub(crate) fn adopt(&mut self, deploy: Deploy) {
        match self.by_id.get_mut(&deploy.id) {
            Some(open) => {
                open.deploy = deploy;
                // It may start earlier than what was inferred.
                open.session = self.sessions.begin();
                open.judged_at = None;
                self.open += usize::from(std::mem::take(&mut open.closed));
            }
            None => self.insert(deploy, None, false),
        }
    }

    /// Finds the markers of a version of a service.
    pub(crate) fn announced_as(&self, service: &ServiceKey, version: &str) -> Vec<DeployId> {
        let markers = self.of_service(service).map(|open| &open.deploy).filter(|deploy| !deploy.inferred);
        markers.filter(|deploy| deploy.version == version).map(|deploy| deploy.id.clone()).collect()
    }

    /// Moves a deploy to the service that it turned out to be of.
    pub(crate) fn place(&mut self, deploy: Deploy) {
        let Some(open) = self.by_id.get_mut(&deploy.id) else { return };
        let (id, before) = (deploy.id.clone(), std::mem::replace(&mut open.deploy, deploy).service);
        // What was computed is about a service without telemetry.
        open.session = self.sessions.begin();
        open.judged_at = None;
        let now = open.deploy.service.clone();
        if let Some(ids) = self.by_service.get_mut(&before) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_service.remove(&before);
            }
        }
        self.by_service.entry(now).or_default().push(id);
    }

    /// Says whether nothing more is expected of a deploy.
    pub(crate) fn close(&mut self, id: &DeployId, closed: bool) {
        if let Some(open) = self.by_id.get_mut(id)
            && open.closed != closed
        {
            open.closed = closed;
            if closed {
                // Whoever takes it up again judges the whole.
                open.session = self.sessions.begin();
            }
            self.open = if closed { self.open.saturating_sub(1) } else { self.open + 1 };
        }
    }

    fn of_service(&self, service: &ServiceKey) -> impl Iterator<Item = &Open> {
        self.by_service.get(service).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    /// Finds the deploy that a marker is about, where one is known: the same release of the same version at about the same
    /// time, by the same run as far as either says. An inferred one comes first: it is there to be taken over.
    pub(crate) fn same_shipment(&self, marker: &Deploy) -> Option<Deploy> {
        let differ = |one: &Option<String>, other: &Option<String>| one.is_some() && other.is_some() && one != other;
        let same = |other: &&Open| {
            let other = &other.deploy;
            other.version == marker.version
                && other.kind == DeployKind::Release
                && marker.kind == DeployKind::Release
                && other.status != DeployStatus::Failed
                && !differ(&other.run_url, &marker.run_url)
                && !differ(&other.commit, &marker.commit)
                && !differ(&other.artifact, &marker.artifact)
                && near(other.started_at, marker.started_at)
        };
        let found = self.of_service(&marker.service).filter(same);
        found.max_by_key(|open| (open.deploy.inferred, open.deploy.started_at)).map(|open| open.deploy.clone())
    }

    /// Finds the closed deploys that what came late bears on.
    pub(crate) fn met_by(&self, belated: &Belated, policy: &TolerancePolicy) -> Vec<DeployId> {
        let of = self.of_service(&belated.service);
        let met = of.filter(|open| bears_on(open, belated, &policy.of(&open.deploy.service)));
        met.map(|open| open.deploy.id.clone()).collect()
    }

    /// Says whether another deploy of the same version started before.
    pub(crate) fn shipped_before(&self, deploy: &Deploy) -> bool {
        let others = self.of_service(&deploy.service).map(|open| &open.deploy);
        others.filter(|other| other.version == deploy.version).any(|other| other.started_at < deploy.started_at)
    }

    /// Says whether another deploy of the same version was announced: who is told once is not told again.
    pub(crate) fn announced_beside(&self, deploy: &Deploy) -> bool {
        self.of_service(&deploy.service)
            .filter(|other| other.deploy.id != deploy.id && other.deploy.version == deploy.version && !other.closed)
            .filter(|other| near(other.deploy.started_at, deploy.started_at))
            .any(|other| other.announced.is_some())
    }

    pub(crate) fn get(&self, id: &DeployId) -> Option<&Open> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &DeployId) -> Option<&mut Open> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.open
    }

    /// Returns the next deploys to judge, whose turn came first; those that are still to start have none yet. Those of which
    /// nothing was seen wait for their turn unless `knows` says that their service is known by now; a regression that outlasts the watch
    /// time is looked at once a minute.
    pub(crate) fn due(
        &self,
        now: UnixNanos,
        limit: usize,
        policy: &TolerancePolicy,
        knows: impl Fn(&ServiceKey) -> bool,
    ) -> Vec<DeployId> {
        let rests = |open: &Open| open.judged_at.is_some_and(|at| now.since(at) < RESTING) && open.is_over(now, policy);
        let unseen = |open: &Open| open.turn() > now && open.is_unseen() && !knows(&open.deploy.service);
        let waits = |open: &Open| rests(open) || unseen(open);
        let open = self.by_id.values().filter(|open| !open.closed && open.deploy.started_at <= now && !waits(open));
        let mut due: Vec<(UnixNanos, &DeployId)> = open.map(|open| (open.turn(), &open.deploy.id)).collect();
        if due.len() > limit && limit > 0 {
            due.select_nth_unstable(limit - 1);
            due.truncate(limit);
        }
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// Returns which services the deploys that are being judged need, and from when on. What is still watched for its end once
    /// its time is over needs no past any more.
    pub(crate) fn needed(&self, now: UnixNanos, policy: &TolerancePolicy) -> BTreeMap<ServiceKey, UnixNanos> {
        let mut needed: BTreeMap<ServiceKey, UnixNanos> = BTreeMap::new();
        for deploy in self.by_id.values().filter(|open| !open.closed).map(|open| &open.deploy) {
            let tolerances = policy.of(&deploy.service);
            if now.since(deploy.started_at) > tolerances.watch_max() + OVER {
                continue;
            }
            // Of one that is still to start, what is before it then is before the present now.
            let from = deploy.started_at.min(now) - tolerances.lookback();
            let first = needed.entry(deploy.service.clone()).or_insert(from);
            *first = from.min(*first);
        }
        needed
    }

    /// Returns the later deploys of other versions of the same service that have started by `now`, earliest first: from the
    /// first that took over on the candidate is another.
    pub(crate) fn successors(&self, deploy: &Deploy, now: UnixNanos) -> Vec<Deploy> {
        let later = |other: &&Deploy| other.started_at > deploy.started_at && other.started_at <= now;
        let others = self.of_service(&deploy.service).map(|open| &open.deploy);
        let others = others.filter(|other| other.version != deploy.version);
        let mut found: Vec<Deploy> = others.filter(later).cloned().collect();
        found.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        found
    }

    /// Returns the deploys of the same service that are judged over the same time as `deploy`, a change that keeps the version being
    /// the later of both: what got worse is one's or the other's. Those within `watched` before it count, and those up to `now` after.
    pub(crate) fn overlapping(&self, deploy: &Deploy, watched: Duration, now: UnixNanos) -> Vec<&Open> {
        let keeps = |deploy: &Deploy| matches!(deploy.kind, DeployKind::Config | DeployKind::Flag | DeployKind::Infra);
        let beside = |other: &&Open| {
            let (one, other) = (deploy, &other.deploy);
            let later = keeps(other) && other.started_at > one.started_at && other.started_at <= now;
            let earlier =
                keeps(one) && other.started_at < one.started_at && other.started_at + watched > one.started_at;
            other.status != DeployStatus::Failed && (later || earlier) && !self.marked(other)
        };
        self.of_service(&deploy.service).filter(beside).collect()
    }

    /// Lists when deploys started since `from`.
    pub(crate) fn starts(&self, from: UnixNanos) -> Starts {
        let mut starts = Starts::default();
        for deploy in self.by_id.values().map(|open| &open.deploy).filter(|deploy| deploy.started_at >= from) {
            match starts.0.get_mut(&deploy.service) {
                Some(known) => known.push(deploy.started_at),
                None => {
                    starts.0.insert(deploy.service.clone(), vec![deploy.started_at]);
                }
            }
        }
        starts
    }

    /// Says whether a marker announced what this deploy was only inferred from.
    pub(crate) fn marked(&self, deploy: &Deploy) -> bool {
        deploy.inferred
            && self.of_service(&deploy.service).map(|open| &open.deploy).any(|other| {
                !other.inferred && other.version == deploy.version && near(other.started_at, deploy.started_at)
            })
    }

    /// Forgets closed deploys that started before `before`.
    pub(crate) fn forget(&mut self, before: UnixNanos) {
        let known = self.by_id.len();
        self.by_id.retain(|_, open| !open.closed || open.deploy.started_at >= before);
        if self.by_id.len() < known {
            let by_id = &self.by_id;
            self.by_service.retain(|_, ids| {
                ids.retain(|id| by_id.contains_key(id));
                !ids.is_empty()
            });
        }
    }
}

/// When deploys of each service started: made once a look, so that judging one of ten thousand does not go through all.
#[derive(Debug, Default)]
pub(crate) struct Starts(BTreeMap<ServiceKey, Vec<UnixNanos>>);

impl Starts {
    /// Says from when on a service is no control for a deploy that started at `start`, because one of its own started between
    /// `from` and `to`: from that start on, and where that was no later, never.
    pub(crate) fn touched(
        &self,
        service: &ServiceKey,
        start: UnixNanos,
        from: UnixNanos,
        to: UnixNanos,
    ) -> Option<UnixNanos> {
        let starts = self.0.get(service)?.iter().filter(|at| **at >= from && **at <= to);
        starts.map(|at| if *at <= start { UnixNanos(0) } else { *at }).min()
    }
}

fn near(one: UnixNanos, other: UnixNanos) -> bool {
    one.since(other) <= MARKER_WITHIN && other.since(one) <= MARKER_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_verdict::unseen;

    fn deploy(number: usize, created_at: u64) -> Deploy {
        let marker = crate::NewDeploy {
            service: format!("service-{number}"),
            environment: "prod".to_owned(),
            version: "2".to_owned(),
            ..crate::NewDeploy::default()
        };
        marker.check(UnixNanos::from_secs(created_at), number as u128).expect("valid")
    }

    /// Judges what is due: what that says follows from the number of the deploy.
    fn judge(open: &mut OpenDeploys, now: UnixNanos, limit: usize) -> Vec<DeployId> {
        let due = open.due(now, limit, &TolerancePolicy::default(), |_| true);
        for id in &due {
            let one = open.get_mut(id).expect("open");
            let suspected = one.deploy.service.service == "service-0";
            let phase = if suspected { Phase::Suspected } else { Phase::Clear };
            one.verdict = Some(Verdict { phase, ..unseen(&one.deploy, now) });
            one.judged_at = Some(now);
        }
        due
    }

    #[test]
    fn ten_thousand_deploys_at_once_starve_nobody() {
        const LIMIT: usize = 256;
        let mut open = OpenDeploys::new(Sessions::new(0));
        (0..10).for_each(|number| open.insert(deploy(number, 1_000), None, false));
        judge(&mut open, UnixNanos::from_secs(1_000), LIMIT);
        (10..10_000).for_each(|number| open.insert(deploy(number, 1_005), None, false));
        let suspect = open.due(UnixNanos::from_secs(1_006), usize::MAX, &TolerancePolicy::default(), |_| true);
        let suspect = suspect.iter().find(|id| open.get(id).is_some_and(|o| o.deploy.service.service == "service-0"));
        let suspect = suspect.expect("it is open").clone();
        let mut judged: BTreeMap<DeployId, usize> = BTreeMap::new();
        for tick in 0..120_u64 {
            let due = judge(&mut open, UnixNanos::from_secs(1_010 + tick * 5), LIMIT);
            assert_eq!(due.len(), LIMIT);
            due.into_iter().for_each(|id| *judged.entry(id).or_default() += 1);
        }
        assert_eq!(judged.len(), 10_000, "everybody had a turn");
        // Forty ticks go round; where something is suspected the turns lie closer together.
        assert!(judged.values().all(|times| (2..=6).contains(times)), "{:?}", judged.values().max());
        assert!(judged[&suspect] >= *judged.values().min().expect("some"));
        assert_eq!(open.len(), 10_000);
    }

    #[test]
    fn a_service_stays_untouched_up_to_its_own_deploy() {
        let mut open = OpenDeploys::new(Sessions::new(0));
        for (number, at) in [(1, 1_000), (2, 900), (2, 1_200), (3, 1_100), (3, 1_300), (4, 100), (5, 1_000)] {
            open.insert(deploy(number, at), None, false);
        }
        let [from, start, to] = [500, 1_000, 2_000].map(UnixNanos::from_secs);
        let starts = open.starts(from);
        let touched = |number: usize| starts.touched(&deploy(number, 0).service, start, from, to);
        let at = |number: usize| touched(number).map(|at| at.0 / 1_000_000_000);
        assert_eq!([2, 3, 4, 5].map(at), [Some(0), Some(1_100), None, Some(0)]);
    }

    #[test]
    fn of_a_service_that_nobody_knows_a_look_a_minute_will_do_until_somebody_does() {
        let mut open = OpenDeploys::new(Sessions::new(0));
        open.insert(deploy(1, 1_000), None, false);
        let policy = TolerancePolicy::default();
        let due =
            |open: &OpenDeploys, at: u64, known: bool| open.due(UnixNanos::from_secs(at), 10, &policy, |_| known).len();
        assert_eq!(due(&open, 1_000, false), 1, "it was never judged");
        judge(&mut open, UnixNanos::from_secs(1_000), 10);
        assert_eq!([1_010, 1_059, 1_060].map(|at| due(&open, at, false)), [0, 0, 1]);
        assert_eq!(due(&open, 1_010, true), 1);
    }

    #[test]
    fn a_regression_that_outlasts_the_watch_time_is_looked_at_once_a_minute() {
        let policy = TolerancePolicy::default();
        let mut open = OpenDeploys::new(Sessions::new(0));
        let started = deploy(1, 1_000);
        let over = 1_000 + policy.of(&started.service).watch_max().as_secs() + 60;
        open.insert(started, None, false);
        let due = |open: &OpenDeploys, at: u64| open.due(UnixNanos::from_secs(at), 10, &policy, |_| true).len();
        let judge = |open: &mut OpenDeploys, at: u64, verdict: VerdictKind| {
            let (id, now) = (open.by_id.keys().next().expect("open").clone(), UnixNanos::from_secs(at));
            let one = open.get_mut(&id).expect("open");
            one.verdict = Some(Verdict { verdict, ..unseen(&one.deploy, now) });
            one.judged_at = Some(now);
        };
        judge(&mut open, over - 20, VerdictKind::Regressed);
        assert_eq!([over - 10, over].map(|at| due(&open, at)), [1, 1], "its watch time is not over");
        judge(&mut open, over + 10, VerdictKind::Regressed);
        assert_eq!([over + 20, over + 69, over + 70].map(|at| due(&open, at)), [0, 0, 1]);
    }

    #[test]
    fn a_deploy_that_is_still_to_start_has_no_turn() {
        let mut open = OpenDeploys::new(Sessions::new(0));
        let mut later = deploy(1, 1_000);
        later.started_at = UnixNanos::from_secs(2_000);
        open.insert(later, None, false);
        let due = |at: u64| open.due(UnixNanos::from_secs(at), 10, &TolerancePolicy::default(), |_| true).len();
        assert_eq!([1_500, 2_000].map(due), [0, 1]);
    }
}
