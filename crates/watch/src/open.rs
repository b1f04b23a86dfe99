//! The deploys that are still being judged, and the order in which they come up.
//!
//! *Cost.* One entry a deploy within the watch time. A tick takes a bounded number of them, those never judged first, then those judged
//! longest ago, newer deploys before older ones: ten thousand markers at once delay each other and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use plimsoll_model::{Deploy, DeployId, UnixNanos, Verdict};
use plimsoll_verdict::Session;

use crate::announce::Announced;
use crate::infer::MARKER_WITHIN;

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
    pub(crate) session: Arc<Mutex<Session>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct OpenDeploys {
    by_id: BTreeMap<DeployId, Open>,
}

impl OpenDeploys {
    pub(crate) fn insert(&mut self, deploy: Deploy, verdict: Option<Verdict>, closed: bool) {
        let announced = verdict.as_ref().and_then(Announced::from_stored);
        let stored = verdict.clone();
        let open = Open { deploy, verdict, stored, announced, judged_at: None, closed, session: Arc::default() };
        self.by_id.entry(open.deploy.id.clone()).or_insert(open);
    }

    pub(crate) fn get(&self, id: &DeployId) -> Option<&Open> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &DeployId) -> Option<&mut Open> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.values().filter(|open| !open.closed).count()
    }

    /// Returns the next deploys to judge, most urgent first.
    pub(crate) fn due(&self, limit: usize) -> Vec<DeployId> {
        let mut due: Vec<&Open> = self.by_id.values().filter(|open| !open.closed).collect();
        due.sort_by_key(|open| (open.judged_at, std::cmp::Reverse(open.deploy.started_at)));
        due.into_iter().take(limit).map(|open| open.deploy.id.clone()).collect()
    }

    /// Returns when the next deploy of the same service started: from there on the candidate is another.
    pub(crate) fn superseded_at(&self, deploy: &Deploy) -> Option<UnixNanos> {
        self.by_id
            .values()
            .map(|open| &open.deploy)
            .filter(|other| other.service == deploy.service && other.version != deploy.version)
            .map(|other| other.started_at)
            .filter(|at| *at > deploy.started_at)
            .min()
    }

    /// Says whether a marker announced what this deploy was only inferred from.
    pub(crate) fn marked(&self, deploy: &Deploy) -> bool {
        deploy.inferred
            && self.by_id.values().map(|open| &open.deploy).any(|other| {
                !other.inferred
                    && other.service == deploy.service
                    && other.version == deploy.version
                    && other.started_at.since(deploy.started_at) <= MARKER_WITHIN
                    && deploy.started_at.since(other.started_at) <= MARKER_WITHIN
            })
    }

    /// Forgets closed deploys that started before `before`.
    pub(crate) fn forget(&mut self, before: UnixNanos) {
        self.by_id.retain(|_, open| !open.closed || open.deploy.started_at >= before);
    }
}
