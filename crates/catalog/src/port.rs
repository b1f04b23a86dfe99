//! The [`Catalog`] port: what any catalog must do.

use std::time::Duration;

use async_trait::async_trait;
use plimsoll_model::{
    Decision, Deploy, DeployId, DeployStatus, EventId, Feedback, RegressionEvent, SequenceNumber, ServiceKey,
    UnixNanos, Verdict,
};

use crate::delivery::{Delivery, DeliveryOutcome};
use crate::error::CatalogError;
use crate::fact::{Inserted, VersionRecord, VersionSeen};
use crate::filter::{DeployFilter, VerdictFilter};
use crate::segment::{SegmentChange, SegmentRecord};

/// The port. Every method is one transaction; every method may be retried after an error.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Returns the last frame whose rows are all in segments; frames after it must be replayed.
    async fn checkpoint(&self) -> Result<SequenceNumber, CatalogError>;

    /// Lists live segments, oldest first.
    async fn segments(&self) -> Result<Vec<SegmentRecord>, CatalogError>;

    /// Adds and removes segments and moves the checkpoint, all or nothing. A segment that is there is left as it is, one that
    /// is gone stays gone, and the checkpoint never moves back.
    async fn commit_segments(&self, change: SegmentChange) -> Result<(), CatalogError>;

    /// Records a deploy. The same `idempotency_key` again, or the same id again, changes nothing and returns the first.
    async fn insert_deploy(&self, deploy: &Deploy, idempotency_key: Option<&str>) -> Result<Inserted, CatalogError>;

    /// Puts a marker in the place of the inferred deploy that has its id. Where that deploy is no longer an inferred one, or
    /// the `idempotency_key` is known, nothing changes and what is there is returned; where there is none, it is recorded.
    async fn adopt_deploy(&self, deploy: &Deploy, idempotency_key: Option<&str>) -> Result<Inserted, CatalogError>;

    /// Returns one deploy.
    async fn deploy(&self, id: &DeployId) -> Result<Option<Deploy>, CatalogError>;

    /// Lists deploys that fit, newest `started_at` first.
    async fn deploys(&self, filter: &DeployFilter) -> Result<Vec<Deploy>, CatalogError>;

    /// Marks a deploy finished; `None` where there is no such deploy. Finishing it again corrects it.
    async fn finish_deploy(
        &self,
        id: &DeployId,
        status: DeployStatus,
        at: UnixNanos,
    ) -> Result<Option<Deploy>, CatalogError>;

    /// Stores a verdict in place of the deploy's former one, what it was judged from in place of what the former was, and
    /// queues its event, for every sink named, in the same transaction. Without evidence none is kept. An event that is queued
    /// for a sink is not queued for it again, and keeps the body it had.
    async fn commit_verdict(
        &self,
        verdict: &Verdict,
        event: Option<&RegressionEvent>,
        sinks: &[String],
        evidence: Option<&[u8]>,
    ) -> Result<(), CatalogError>;

    /// Gives a deploy the namespace that its telemetry turned out to have, which its marker did not name; `None`: there is no
    /// such deploy.
    async fn place_deploy(&self, id: &DeployId, namespace: &str) -> Result<Option<Deploy>, CatalogError>;

    /// Returns the deploy's latest verdict with what it was judged from, where that is kept, both of one moment.
    async fn judged(&self, deploy: &DeployId) -> Result<Option<(Verdict, Option<Vec<u8>>)>, CatalogError>;

    /// Returns what the deploy's latest verdict was judged from, where that is kept.
    async fn evidence(&self, deploy: &DeployId) -> Result<Option<Vec<u8>>, CatalogError>;

    /// Removes what verdicts on deploys that started before `before` were judged from, of at most `limit` of them; the verdicts
    /// stay. Returns how many that were.
    async fn remove_evidence(&self, before: UnixNanos, limit: u32) -> Result<u64, CatalogError>;

    /// Lists the events on a deploy from the last `detected` on, delivered or not, oldest first; none where it
    /// was never found regressed.
    async fn events_since_detected(&self, deploy: &DeployId) -> Result<Vec<RegressionEvent>, CatalogError>;

    /// Returns the deploy's latest verdict.
    async fn verdict(&self, deploy: &DeployId) -> Result<Option<Verdict>, CatalogError>;

    /// Lists latest verdicts that fit, newest first.
    async fn verdicts(&self, filter: &VerdictFilter) -> Result<Vec<Verdict>, CatalogError>;

    /// Keeps a decision; the very same decision again changes nothing.
    async fn insert_decision(&self, decision: &Decision) -> Result<(), CatalogError>;

    /// Lists decisions, newest first; of one deploy, or of all.
    async fn decisions(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Decision>, CatalogError>;

    /// Keeps what a human said of a verdict; the very same again changes nothing.
    async fn insert_feedback(&self, feedback: &Feedback) -> Result<(), CatalogError>;

    /// Lists feedback, newest first; on deploys of one service, or on all.
    async fn feedback(&self, service: Option<&ServiceKey>, limit: u32) -> Result<Vec<Feedback>, CatalogError>;

    /// Records that a version of a service was seen; returns what was known before.
    async fn observe_version(
        &self,
        service: &ServiceKey,
        version: &str,
        seen: UnixNanos,
    ) -> Result<VersionSeen, CatalogError>;

    /// Lists the versions known of a service, earliest first.
    async fn versions(&self, service: &ServiceKey) -> Result<Vec<VersionRecord>, CatalogError>;

    /// Lists the environments and namespaces in which versions of a service of this name were seen, in order.
    async fn places(&self, service: &str) -> Result<Vec<ServiceKey>, CatalogError>;

    /// Takes up to `limit` deliveries that are due at `now` and hides them until `now + lease`, in the order in which they were
    /// queued. A delivery waits until every earlier one about the same deploy to the same sink is settled for good, so that no
    /// sink hears of the end of a regression before its beginning, and none is left with a beginning that came last.
    async fn lease_deliveries(
        &self,
        now: UnixNanos,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, CatalogError>;

    /// Records how an attempt ended. What was delivered stays delivered, whatever a slower attempt says.
    async fn settle_delivery(&self, event: &EventId, sink: &str, outcome: &DeliveryOutcome)
    -> Result<(), CatalogError>;

    /// Lists deliveries, newest first: what was sent where, and how it went.
    async fn deliveries(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Delivery>, CatalogError>;
}
