//! Small transactional facts: segments, deploys, verdicts, decisions, outbox; and the [`Catalog`] port.

use std::time::Duration;

use async_trait::async_trait;
use plimsoll_model::{
    Decision, Deploy, DeployId, DeployStatus, EventId, Interval, RegressionEvent, SegmentId, SequenceNumber,
    ServiceKey, UnixNanos, Verdict,
};

/// The port. Every method is one transaction; every method may be retried after an error.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Returns the last frame whose rows are all in segments; frames after it must be replayed.
    async fn checkpoint(&self) -> Result<SequenceNumber, CatalogError>;

    /// Lists live segments, oldest first.
    async fn segments(&self) -> Result<Vec<SegmentRecord>, CatalogError>;

    /// Adds and removes segments and moves the checkpoint, all or nothing.
    async fn commit_segments(&self, change: SegmentChange) -> Result<(), CatalogError>;

    /// Records a deploy. The same `idempotency_key` again, or the same id again, changes nothing and returns the first.
    async fn insert_deploy(&self, deploy: &Deploy, idempotency_key: Option<&str>) -> Result<Inserted, CatalogError>;

    /// Returns one deploy.
    async fn deploy(&self, id: &DeployId) -> Result<Option<Deploy>, CatalogError>;

    /// Lists deploys that fit, newest `started_at` first.
    async fn deploys(&self, filter: &DeployFilter) -> Result<Vec<Deploy>, CatalogError>;

    /// Marks a deploy finished; `None` where there is no such deploy.
    async fn finish_deploy(
        &self,
        id: &DeployId,
        status: DeployStatus,
        at: UnixNanos,
    ) -> Result<Option<Deploy>, CatalogError>;

    /// Stores a verdict in place of the deploy's former one and queues its event, for every sink named, in the same transaction.
    async fn commit_verdict(
        &self,
        verdict: &Verdict,
        event: Option<&RegressionEvent>,
        sinks: &[String],
    ) -> Result<(), CatalogError>;

    /// Returns the deploy's latest verdict.
    async fn verdict(&self, deploy: &DeployId) -> Result<Option<Verdict>, CatalogError>;

    /// Lists latest verdicts that fit, newest first.
    async fn verdicts(&self, filter: &VerdictFilter) -> Result<Vec<Verdict>, CatalogError>;

    /// Keeps a decision.
    async fn insert_decision(&self, decision: &Decision) -> Result<(), CatalogError>;

    /// Lists decisions, newest first; of one deploy, or of all.
    async fn decisions(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Decision>, CatalogError>;

    /// Records that a version of a service was seen; returns what was known before.
    async fn observe_version(
        &self,
        service: &ServiceKey,
        version: &str,
        seen: UnixNanos,
    ) -> Result<VersionSeen, CatalogError>;

    /// Lists the versions known of a service, earliest first.
    async fn versions(&self, service: &ServiceKey) -> Result<Vec<VersionRecord>, CatalogError>;

    /// Takes up to `limit` deliveries that are due at `now` and hides them until `now + lease`; earliest first, and of one sink in
    /// the order in which they were queued.
    async fn lease_deliveries(
        &self,
        now: UnixNanos,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, CatalogError>;

    /// Records how an attempt ended.
    async fn settle_delivery(&self, event: &EventId, sink: &str, outcome: &DeliveryOutcome)
    -> Result<(), CatalogError>;

    /// Lists deliveries, newest first: what was sent where, and how it went.
    async fn deliveries(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Delivery>, CatalogError>;
}

/// One Parquet file that is part of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Identifier and stem of the file name.
    pub id: SegmentId,
    /// Table name.
    pub table: String,
    /// Path below the store's root, with `/`.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// From the earliest to just after the latest event time in it.
    pub times: Interval,
    /// Latest time at which a row in it was received: what retention goes by.
    pub received_to: UnixNanos,
    /// First and last frame whose rows may be in it.
    pub frames: (SequenceNumber, SequenceNumber),
    /// When it was sealed.
    pub created_at: UnixNanos,
}

/// One step of the store, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentChange {
    /// Segments that are durable and become visible.
    pub add: Vec<SegmentRecord>,
    /// Segments that cease to be part of the store.
    pub remove: Vec<SegmentId>,
    /// Frames up to here need no replay; `None` leaves the checkpoint where it is.
    pub checkpoint: Option<SequenceNumber>,
}

/// What recording a deploy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is new.
    Created,
    /// It, or one with its key, was there already.
    Existing(Box<Deploy>),
}

/// Which deploys to list; unset fields do not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeployFilter {
    /// Name of the service.
    pub service: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Environment.
    pub environment: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Started at or after.
    pub since: Option<UnixNanos>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

/// Which verdicts to list; unset fields do not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerdictFilter {
    /// Only regressions that are suspected or confirmed (`true`), or only all others (`false`).
    pub open_regression: Option<bool>,
    /// Only undecided (`false`) or decided (`true`) ones.
    pub decided: Option<bool>,
    /// Deploy started at or after.
    pub since: Option<UnixNanos>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

/// What was known of a version before it was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionSeen {
    /// The service itself was unknown: its first version is not a deploy.
    FirstOfService,
    /// The service was known, this version was not.
    FirstOfVersion,
    /// Known; last seen at that time before now.
    Before(UnixNanos),
}

/// One version of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The version.
    pub version: String,
    /// When it was first seen.
    pub first_seen: UnixNanos,
    /// When it was last seen.
    pub last_seen: UnixNanos,
}

/// One event on its way to one sink.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The event; its id is the same on every attempt.
    pub event_id: EventId,
    /// The deploy it is about.
    pub deploy_id: DeployId,
    /// Name of the sink.
    pub sink: String,
    /// The event as the JSON that is sent: fixed when it was queued, so that every attempt sends the same bytes.
    pub body: String,
    /// The CloudEvents `type`.
    pub kind: String,
    /// When it was queued.
    pub queued_at: UnixNanos,
    /// Attempts made before this one.
    pub attempts: u32,
    /// How far it has come.
    pub state: DeliveryState,
    /// When it is next due, where it is still pending.
    pub due_at: UnixNanos,
    /// What went wrong last; empty where nothing did.
    pub last_error: String,
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be sent, now or later.
    Pending,
    /// Accepted by the sink.
    Delivered,
    /// Given up; `last_error` says why.
    Failed,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The sink accepted it.
    Delivered {
        /// When.
        at: UnixNanos,
    },
    /// To be tried again.
    Retry {
        /// Not before.
        due_at: UnixNanos,
        /// What went wrong.
        error: String,
    },
    /// Not to be tried again.
    Failed {
        /// Why.
        error: String,
    },
}

/// Why the catalog could not answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Busy, locked or out of reach: trying again later may help.
    #[error("catalog `{path}` is not available: {problem}")]
    Unavailable {
        /// Where it is.
        path: String,
        /// What it said.
        problem: String,
    },
    /// What it holds makes no sense.
    #[error("catalog `{path}` is damaged: {problem}; move it aside to start from the segments on disk")]
    Corrupt {
        /// Where it is.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Written by a later release.
    #[error("catalog `{path}` has format {found}, this release reads up to {known}: use the later release")]
    TooNew {
        /// Where it is.
        path: String,
        /// Its format.
        found: i64,
        /// The latest known here.
        known: i64,
    },
}
