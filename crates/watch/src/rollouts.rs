//! How long deploys of a service took from their start to the first telemetry of their version: what the next is held to.
//!
//! Only what was announced tells: an inferred deploy starts when its version is met, and so does one that was marked after the
//! fact without its start. A deploy that failed, and one of a version that was known before it, tell nothing; nor does the
//! first version of a service. Where a version was deployed twice before it came, it is the later deploy that brought it.

use std::time::Duration;

use plimsoll_catalog::VersionRecord;
use plimsoll_model::{Deploy, DeployKind, DeployStatus, UnixNanos};

/// Deploys without which nothing is expected of the next: of fewer the longest says too little.
const ROLLOUTS_MIN: usize = 3;

/// When deploys started, and how long it took until their version was met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rollouts(Vec<(UnixNanos, Duration)>);

impl Rollouts {
    /// Puts the deploys of a service and its versions together.
    pub(crate) fn of(deploys: &[Deploy], versions: &[VersionRecord]) -> Self {
        let first = versions.iter().map(|known| known.first_seen).min();
        let took = versions.iter().filter(|known| Some(known.first_seen) != first).filter_map(|known| {
            let brought = deploys.iter().filter(|deploy| {
                deploy.version == known.version
                    && brings_a_version(deploy)
                    && !deploy.inferred
                    && deploy.started_at <= known.first_seen
            });
            let deploy = brought.max_by_key(|deploy| deploy.started_at)?;
            let took = known.first_seen.since(deploy.started_at);
            (deploy.status != DeployStatus::Failed && took > Duration::ZERO).then_some((deploy.started_at, took))
        });
        Self(took.collect())
    }

    /// Returns how long those before `deploy` took at most; `None` where too few are known, or it brings no version.
    pub(crate) fn first_request(&self, deploy: &Deploy) -> Option<Duration> {
        let before = || self.0.iter().filter(|(at, _)| *at < deploy.started_at).map(|(_, took)| *took);
        before().max().filter(|_| before().count() >= ROLLOUTS_MIN && brings_a_version(deploy))
    }
}

/// Says whether a version is to come with it that was not there: a change of a flag, of configuration or beneath keeps the version.
fn brings_a_version(deploy: &Deploy) -> bool {
    matches!(deploy.kind, DeployKind::Release | DeployKind::Rollback)
}
