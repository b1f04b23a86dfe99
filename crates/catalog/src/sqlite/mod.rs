//! The embedded catalog: one SQLite file.
//!
//! *Invariants.*
//! - One connection writes, and every transaction begins `IMMEDIATE`: writers queue here instead of failing in SQLite.
//! - `synchronous = FULL`: a transaction that returned has reached the disk. The journal is trimmed on the strength of it.
//! - The connections are held here rather than in a pool: a pool gives connections back from tasks it spawns on the caller's
//!   runtime, and a caller whose runtime only runs inside `block_on` would keep the only writer for good.
//!
//! *Cost.* A write costs one `fsync` of the write-ahead log. Reads do not wait for writes.

mod deploys;
mod feedback;
mod open;
mod outbox;
mod row;
mod schema;
mod segments;
mod verdicts;
mod versions;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plimsoll_model::{
    Decision, Deploy, DeployId, DeployStatus, EventId, Feedback, RegressionEvent, SequenceNumber, ServiceKey,
    UnixNanos, Verdict,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::delivery::{Delivery, DeliveryOutcome};
use crate::error::CatalogError;
use crate::fact::{Inserted, VersionRecord, VersionSeen};
use crate::filter::{DeployFilter, VerdictFilter};
use crate::port::Catalog;
use crate::segment::{SegmentChange, SegmentRecord};

pub use schema::FORMAT;

/// What may be set about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteOptions {
    /// How long to wait for another process that holds the file.
    pub busy_timeout: Duration,
    /// Connections that read.
    pub readers: usize,
    /// False for what nobody keeps: nothing is synced, and a crash may leave a broken file behind.
    pub durable: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5), readers: 3, durable: true }
    }
}

/// The embedded catalog.
pub struct SqliteCatalog {
    path: String,
    /// How `writer` was opened, to open another in its place.
    writing: SqliteConnectOptions,
    writer: Mutex<SqliteConnection>,
    readers: Vec<Mutex<SqliteConnection>>,
    turn: AtomicUsize,
}

impl std::fmt::Debug for SqliteCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteCatalog").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteCatalog {
    /// Opens the catalog at `path`, creating it and its directory where they are missing, and brings its format up to date.
    ///
    /// # Errors
    /// `Unavailable`: the file cannot be reached or is held by another process. `Corrupt`: it is not a catalog, or a damaged
    /// one. `TooNew`: a later release wrote it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, CatalogError> {
        Self::open_with(path, SqliteOptions::default()).await
    }

    /// Like [`Self::open`], with options.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub async fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, CatalogError> {
        open::open(path.as_ref(), options).await
    }

    /// Closes the connections, which folds the write-ahead log into the file. Dropping the catalog is as safe and says
    /// nothing.
    ///
    /// # Errors
    /// The file could not be written; what was committed is still in the write-ahead log.
    pub async fn close(self) -> Result<(), CatalogError> {
        let Self { path, writer, readers, .. } = self;
        for connection in readers.into_iter().chain([writer]) {
            connection.into_inner().close().await.map_err(|e| row::fault(&path, e))?;
        }
        Ok(())
    }

    fn fault(&self, problem: sqlx::Error) -> CatalogError {
        row::fault(&self.path, problem)
    }

    fn corrupt(&self, problem: impl std::fmt::Display) -> CatalogError {
        CatalogError::Corrupt { path: self.path.clone(), problem: problem.to_string() }
    }

    async fn reader(&self) -> MutexGuard<'_, SqliteConnection> {
        // Relaxed: any reader will do, the counter only spreads them.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let free =
            (0..self.readers.len()).find_map(|step| self.readers[(turn + step) % self.readers.len()].try_lock().ok());
        match free {
            Some(reader) => reader,
            None => self.readers[turn % self.readers.len()].lock().await,
        }
    }

    async fn begin<'c>(&self, writer: &'c mut SqliteConnection) -> Result<Transaction<'c, Sqlite>, CatalogError> {
        if writer.is_in_transaction() {
            // The rollback of one that was dropped is under way: an answer says that it is over.
            writer.ping().await.map_err(|e| self.fault(e))?;
        }
        if writer.is_in_transaction() {
            // SQLite ended a transaction by itself, as it does on a full disk: there was nothing to roll back, and this
            // connection would take none ever again.
            let fresh = self.writing.connect().await.map_err(|e| self.fault(e))?;
            // Best effort: it is given up either way.
            let _ = std::mem::replace(writer, fresh).close_hard().await;
            tracing::warn!(
                catalog = self.path,
                "the connection that writes was opened anew after a failed transaction"
            );
        }
        writer.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.fault(e))
    }

    fn json<T: serde::Serialize>(&self, value: &T) -> Result<String, CatalogError> {
        serde_json::to_string(value).map_err(|e| self.corrupt(e))
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, CatalogError> {
        serde_json::from_str(text).map_err(|e| self.corrupt(e))
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn checkpoint(&self) -> Result<SequenceNumber, CatalogError> {
        segments::checkpoint(self).await
    }

    async fn segments(&self) -> Result<Vec<SegmentRecord>, CatalogError> {
        segments::list(self).await
    }

    async fn commit_segments(&self, change: SegmentChange) -> Result<(), CatalogError> {
        segments::commit(self, &change).await
    }

    async fn insert_deploy(&self, deploy: &Deploy, idempotency_key: Option<&str>) -> Result<Inserted, CatalogError> {
        deploys::insert(self, deploy, idempotency_key).await
    }

    async fn adopt_deploy(&self, deploy: &Deploy, idempotency_key: Option<&str>) -> Result<Inserted, CatalogError> {
        deploys::adopt(self, deploy, idempotency_key).await
    }

    async fn deploy(&self, id: &DeployId) -> Result<Option<Deploy>, CatalogError> {
        deploys::get(self, id).await
    }

    async fn deploys(&self, filter: &DeployFilter) -> Result<Vec<Deploy>, CatalogError> {
        deploys::list(self, filter).await
    }

    async fn finish_deploy(
        &self,
        id: &DeployId,
        status: DeployStatus,
        at: UnixNanos,
    ) -> Result<Option<Deploy>, CatalogError> {
        deploys::finish(self, id, status, at).await
    }

    async fn place_deploy(&self, id: &DeployId, namespace: &str) -> Result<Option<Deploy>, CatalogError> {
        deploys::place(self, id, namespace).await
    }

    async fn commit_verdict(
        &self,
        verdict: &Verdict,
        event: Option<&RegressionEvent>,
        sinks: &[String],
        evidence: Option<&[u8]>,
    ) -> Result<(), CatalogError> {
        verdicts::commit(self, verdict, event, sinks, evidence).await
    }

    async fn judged(&self, deploy: &DeployId) -> Result<Option<(Verdict, Option<Vec<u8>>)>, CatalogError> {
        verdicts::judged(self, deploy).await
    }

    async fn evidence(&self, deploy: &DeployId) -> Result<Option<Vec<u8>>, CatalogError> {
        verdicts::evidence(self, deploy).await
    }

    async fn remove_evidence(&self, before: UnixNanos, limit: u32) -> Result<u64, CatalogError> {
        verdicts::remove_evidence(self, before, limit).await
    }

    async fn events_since_detected(&self, deploy: &DeployId) -> Result<Vec<RegressionEvent>, CatalogError> {
        outbox::since_detected(self, deploy).await
    }

    async fn verdict(&self, deploy: &DeployId) -> Result<Option<Verdict>, CatalogError> {
        verdicts::get(self, deploy).await
    }

    async fn verdicts(&self, filter: &VerdictFilter) -> Result<Vec<Verdict>, CatalogError> {
        verdicts::list(self, filter).await
    }

    async fn insert_decision(&self, decision: &Decision) -> Result<(), CatalogError> {
        verdicts::decide(self, decision).await
    }

    async fn decisions(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Decision>, CatalogError> {
        verdicts::decisions(self, deploy, limit).await
    }

    async fn insert_feedback(&self, feedback: &Feedback) -> Result<(), CatalogError> {
        feedback::insert(self, feedback).await
    }

    async fn feedback(&self, service: Option<&ServiceKey>, limit: u32) -> Result<Vec<Feedback>, CatalogError> {
        feedback::list(self, service, limit).await
    }

    async fn observe_version(
        &self,
        service: &ServiceKey,
        version: &str,
        seen: UnixNanos,
    ) -> Result<VersionSeen, CatalogError> {
        versions::observe(self, service, version, seen).await
    }

    async fn versions(&self, service: &ServiceKey) -> Result<Vec<VersionRecord>, CatalogError> {
        versions::list(self, service).await
    }

    async fn places(&self, service: &str) -> Result<Vec<ServiceKey>, CatalogError> {
        versions::places(self, service).await
    }

    async fn lease_deliveries(
        &self,
        now: UnixNanos,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, CatalogError> {
        outbox::lease(self, now, lease, limit).await
    }

    async fn settle_delivery(
        &self,
        event: &EventId,
        sink: &str,
        outcome: &DeliveryOutcome,
    ) -> Result<(), CatalogError> {
        outbox::settle(self, event, sink, outcome).await
    }

    async fn deliveries(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Delivery>, CatalogError> {
        outbox::list(self, deploy, limit).await
    }
}
