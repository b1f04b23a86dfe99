//! Deploys as they are announced, and what becomes of them by hand: how they ended, what was decided.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_catalog::{CatalogError, DeployFilter, Inserted, VersionRecord};
use plimsoll_model::{Decision, DecisionKind, Deploy, DeployId, DeployKind, DeployStatus, ServiceKey, UnixNanos};

use crate::announce::announced;
use crate::closing::is_closed;
use crate::infer::MARKER_WITHIN;
use crate::register::{FinishError, NewDeploy, RegisterError};
use crate::rollouts::Rollouts;
use crate::watcher::{Watcher, count};

/// How long the versions of a service, once read, are taken for what they are.
const VERSIONS_KEPT: Duration = Duration::from_secs(30);
/// How far back deploys of a service are looked up, which covers the days whose hours are compared, and how many.
const CHANGES_WITHIN: Duration = Duration::from_secs(9 * 86_400);
const CHANGES_MAX: u32 = 1_000;
/// Services whose versions are kept.
const SERVICES_KEPT: usize = 4_096;

/// What is known of a service's past.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) versions: Vec<VersionRecord>,
    /// When a version was first seen or a deploy began.
    pub(crate) changed_at: BTreeSet<UnixNanos>,
    /// None of its versions was ever seen, and some of a service of its name in another environment or namespace.
    pub(crate) elsewhere: bool,
    /// How its deploys went, up to the first request of their versions.
    pub(crate) rollouts: Rollouts,
}

impl Watcher {
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
        let (now, told, placed) = ((self.clock)(), marker.started_at.is_some(), marker.namespace.is_some());
        let mut deploy = marker.check(now, (self.entropy)())?;
        if !placed {
            deploy.service = self.placed(deploy.service).await?;
        }
        let known = self.catalog.versions(&deploy.service).await?;
        if !told && deploy.kind == DeployKind::Release {
            // Marked after the fact: it began when its version was first seen, not when somebody came to say so.
            let seen = known.iter().find(|known| known.version == deploy.version).map(|known| known.first_seen);
            if let Some(seen) = seen.filter(|seen| *seen <= now && now.since(*seen) <= MARKER_WITHIN) {
                deploy.started_at = seen;
            }
        }
        if deploy.previous_version.is_none() {
            let serving = self.serving_before(&deploy.service, &deploy.version, deploy.started_at);
            deploy.previous_version = serving.or_else(|| running_before(&deploy, known));
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

    /// Returns the service that a marker without a namespace means: the one of its name and environment, where there is only one.
    async fn placed(&self, service: ServiceKey) -> Result<ServiceKey, CatalogError> {
        let mut places = self.catalog.places(&service.service).await?;
        places.retain(|place| place.environment == service.environment);
        Ok(if let [_] = places.as_slice() { places.remove(0) } else { service })
    }

    /// Watches a deploy as it was recorded elsewhere, id and all; one that is known is left as it is.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub async fn admit(&self, deploy: Deploy) -> Result<(), CatalogError> {
        match self.catalog.insert_deploy(&deploy, None).await? {
            Inserted::Existing(existing) => self.take_up(&existing).await,
            Inserted::Created => {
                count(&self.counts.registered, 1);
                self.open.lock().insert(deploy, None, false);
                Ok(())
            }
        }
    }

    /// Watches a recorded deploy that nobody watches: whoever recorded it went away before it was taken up.
    async fn take_up(&self, deploy: &Deploy) -> Result<(), CatalogError> {
        if self.open.lock().get(&deploy.id).is_none() {
            let verdict = self.catalog.verdict(&deploy.id).await?;
            let tolerances = self.options.tolerances.of(&deploy.service);
            let closed = verdict.as_ref().is_some_and(|v| is_closed(v, v.evaluated_at, &tolerances));
            let announced = announced(self.catalog.as_ref(), verdict.as_ref()).await?;
            self.open.lock().take_up(deploy.clone(), verdict, closed, announced);
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

    /// Says whether a service that was never seen as it was announced is known in another environment or namespace.
    async fn is_seen_elsewhere(&self, service: &ServiceKey) -> bool {
        self.catalog.places(&service.service).await.is_ok_and(|places| !places.is_empty() && !places.contains(service))
    }

    /// Returns the versions of a service and its deploys, which change rarely: read again after a while, and when a new
    /// version is seen.
    pub(crate) async fn known_versions(&self, service: &ServiceKey, now: UnixNanos) -> Result<Known, CatalogError> {
        let fresh = |at: UnixNanos| now.since(at) < VERSIONS_KEPT;
        if let Some((at, known)) = self.versions.lock().get(service)
            && fresh(*at)
        {
            return Ok(known.clone());
        }
        let mut versions = self.catalog.versions(service).await?;
        // Of the past whoever judges it knows what was known then.
        versions.retain(|known| known.first_seen <= now);
        let ServiceKey { environment, namespace, service: name } = service.clone();
        let filter = DeployFilter {
            service: Some(name),
            namespace: Some(namespace),
            environment: Some(environment),
            since: Some(now - CHANGES_WITHIN),
            limit: CHANGES_MAX,
            ..DeployFilter::default()
        };
        let deploys = self.catalog.deploys(&filter).await?;
        let begun = deploys.iter().map(|deploy| deploy.started_at);
        let changed_at = versions.iter().map(|known| known.first_seen).chain(begun).collect();
        let elsewhere = versions.is_empty() && self.is_seen_elsewhere(service).await;
        let rollouts = Rollouts::of(&deploys, &versions);
        let known = Known { versions, changed_at, elsewhere, rollouts };
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
}

/// The version seen last before the deploy, other than its own; one that came later ran after it.
fn running_before(deploy: &Deploy, known: Vec<VersionRecord>) -> Option<String> {
    let others = known.into_iter().filter(|known| known.version != deploy.version && !known.version.is_empty());
    let others = others.filter(|known| known.first_seen < deploy.started_at);
    others.max_by_key(|known| (known.last_seen, known.first_seen)).map(|known| known.version)
}
