//! Which first-seen version is a deploy that nobody announced.
//!
//! - The first version of a service is its first sight, not a deploy; nor are the versions that appear within
//!   [`FIRST_SIGHT`] of it, because exporters of one service do not all speak at once.
//! - A version that was known before and comes back is a scale-from-idle, not a deploy.
//! - A version that a marker announced is that marker's deploy.
//! - A service that shows a new version all the time (a version a pod, a version a build host) is not deploying: once it has
//!   shown [`VERSIONS_MAX`] within [`VERSIONS_WITHIN`], no further deploy of it is inferred until it calms down.

use std::time::Duration;

use plimsoll_catalog::VersionRecord;
use plimsoll_model::{Deploy, DeployId, DeployKind, DeployStatus, UnixNanos};

use crate::source::VersionObservation;

/// Versions seen so soon after the service's first are part of the first sight.
const FIRST_SIGHT: Duration = Duration::from_secs(15);
/// How many new versions of one service are believed to be deploys ..
const VERSIONS_MAX: usize = 5;
/// .. within this time.
const VERSIONS_WITHIN: Duration = Duration::from_secs(600);
/// A marker for the version within this time of its first sight, on either side, is its deploy.
pub(crate) const MARKER_WITHIN: Duration = Duration::from_secs(1_800);

/// What a first-seen version means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inference {
    /// A deploy that nobody announced.
    Deploy(Box<Deploy>),
    /// Too many versions too fast: counted, and said once.
    Churn,
    /// Nothing.
    Nothing,
}

/// Decides. `known` are the service's versions, the new one among them; `announced` its deploys of that version; `serving` the version
/// that served as it came, where one did.
pub(crate) fn infer(
    seen: &VersionObservation,
    known: &[VersionRecord],
    announced: &[Deploy],
    serving: Option<String>,
    now: UnixNanos,
) -> Inference {
    let Some(first) = known.iter().map(|version| version.first_seen).min() else { return Inference::Nothing };
    if seen.version.is_empty() || seen.first_seen.since(first) < FIRST_SIGHT {
        return Inference::Nothing;
    }
    let near = |deploy: &&Deploy| {
        deploy.started_at.since(seen.first_seen) <= MARKER_WITHIN
            && seen.first_seen.since(deploy.started_at) <= MARKER_WITHIN
    };
    if announced.iter().any(|deploy| near(&deploy)) {
        return Inference::Nothing;
    }
    let recent = known.iter().filter(|version| seen.first_seen.since(version.first_seen) < VERSIONS_WITHIN).count();
    if recent > VERSIONS_MAX {
        return Inference::Churn;
    }
    let last_met = || {
        let others = known.iter().filter(|known| known.version != seen.version && !known.version.is_empty());
        others.max_by_key(|known| (known.last_seen, known.first_seen)).map(|known| known.version.clone())
    };
    let previous = serving.or_else(last_met);
    Inference::Deploy(Box::new(Deploy {
        id: DeployId::inferred(
            &seen.service.environment,
            &seen.service.namespace,
            &seen.service.service,
            &seen.version,
        ),
        service: seen.service.clone(),
        version: seen.version.clone(),
        kind: DeployKind::Release,
        previous_version: previous,
        commit: None,
        repository: None,
        run_url: None,
        actor: None,
        strategy: None,
        artifact: None,
        attributes: Default::default(),
        started_at: seen.first_seen,
        finished_at: None,
        status: DeployStatus::Running,
        inferred: true,
        created_at: now,
    }))
}
