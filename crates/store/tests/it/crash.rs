//! Failures at every step of a flush: nothing is lost, nothing comes twice, neither rows nor what was folded from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plimsoll_catalog::{
    Catalog, CatalogError, Delivery, DeliveryOutcome, DeployFilter, Inserted, SegmentChange, SegmentRecord,
    VerdictFilter, VersionRecord, VersionSeen,
};
use plimsoll_model::{
    Decision, Deploy, DeployId, DeployStatus, EventId, Feedback, RegressionEvent, SequenceNumber, ServiceKey,
    UnixNanos, Verdict,
};
use plimsoll_otlp::Table;
use plimsoll_store::{Store, StoreError};

use crate::world::{World, expected, expected_requests, publish};

/// More than a flush of four tables takes.
const STEPS: i64 = 48;

fn check(world: &World, store: &Store, to: u64, context: &str) {
    let snapshot = store.snapshot();
    for table in [Table::Spans, Table::Logs, Table::Metrics] {
        assert_eq!(world.rows(&snapshot, table), expected(table, to), "{context}: {}", table.name());
    }
    assert_eq!(world.requests(&snapshot), expected_requests(to), "{context}: operations");
}

/// What the journal does after a crash.
fn replay(store: &Store, to: u64) {
    publish(store, store.checkpoint().0 + 1, to);
}

#[tokio::test]
async fn a_flush_that_fails_at_any_step_loses_nothing_and_the_next_one_succeeds() {
    for steps in 0..STEPS {
        let world = World::new();
        let store = world.open().await;
        publish(&store, 1, 10);
        store.flush().await.expect("flushed");
        publish(&store, 10, 20);
        world.files.fail_after(steps);
        let outcome = store.flush().await;
        let context = format!("failed after {steps} steps");
        store.folded().await;
        check(&world, &store, 20, &context);
        if let Err(problem) = &outcome {
            assert!(problem.to_string().contains("told to fail"), "{problem}");
            assert_eq!(store.checkpoint(), SequenceNumber(9), "{context}");
            assert_eq!(world.trimmed.load(Ordering::SeqCst), 9, "{context}: the journal keeps what is not stored");
            let status = store.status();
            assert!(status.flush_failures >= 1 && status.last_flush_error.contains("told to fail"));
        }
        publish(&store, 20, 25);
        world.files.behave();
        assert_eq!(store.flush().await.expect("flushed"), SequenceNumber(24), "{context}");
        check(&world, &store, 25, &context);
        assert_eq!(store.status().last_flush_error, "");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_flush_counts_every_row_once_after_replay() {
    crash_at_any_step(usize::MAX, 20, STEPS).await;
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_flush_in_parts_counts_every_row_once_after_replay() {
    // Every frame is a part, for all that it takes.
    crash_at_any_step(1, 12, STEPS * 2).await;
}

async fn crash_at_any_step(encoder_bytes: usize, to: u64, most: i64) {
    let mut survived = 0;
    for steps in 0..most {
        let mut world = World::new();
        world.options.encoder_bytes = encoder_bytes;
        // While the disk counts as full nothing is merged.
        world.options.disk_reserve_bytes = 1;
        world.files.free.store(0, Ordering::SeqCst);
        let store = world.open().await;
        publish(&store, 1, 10);
        store.flush().await.expect("flushed");
        publish(&store, 10, to);
        world.files.fail_after(steps);
        survived += u32::from(store.flush().await.is_ok());
        drop(store);
        world.files.behave();

        let store = world.open().await;
        let context = format!("crashed after {steps} steps");
        replay(&store, to);
        store.folded().await;
        check(&world, &store, to, &context);
        store.flush().await.expect("flushed");
        check(&world, &store, to, &context);
        drop(store);
        let files = files(world.root());
        let named = world.catalog().await.segments().await.expect("read").len();
        assert_eq!(files, named, "{context}: every file is named");
    }
    assert!(survived > 0 && i64::from(survived) < most, "every step of a flush was met, and then some");
}

fn files(root: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(root).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_commit_that_fails_before_or_after_it_happened_is_made_once() {
    for lie in [false, true] {
        let world = World::new();
        let catalog = Arc::new(Unsure { inner: world.catalog().await, failures: AtomicU32::new(0), lie });
        let store = world.open_with(Arc::clone(&catalog) as Arc<dyn Catalog>).await;
        publish(&store, 1, 10);
        catalog.failures.store(1, Ordering::SeqCst);
        let problem = store.flush().await.expect_err("the catalog failed");
        assert!(matches!(problem, StoreError::Catalog(_)), "{problem}");
        store.folded().await;
        check(&world, &store, 10, "after the failure");
        publish(&store, 10, 15);
        assert_eq!(store.flush().await.expect("flushed"), SequenceNumber(14));
        check(&world, &store, 15, "after the retry");
        drop(store);
        let store = world.open().await;
        assert_eq!(store.checkpoint(), SequenceNumber(14));
        check(&world, &store, 15, "after reopening");
        assert_eq!(store.status().orphan_files, 0);
    }
}

#[tokio::test]
async fn batches_made_of_small_ones_do_not_reach_across_a_commit_that_is_not_confirmed() {
    for lie in [false, true] {
        let world = World::new();
        let catalog = Arc::new(Unsure { inner: world.catalog().await, failures: AtomicU32::new(0), lie });
        let store = world.open_with(Arc::clone(&catalog) as Arc<dyn Catalog>).await;
        // Enough of every table for small batches to be put together, before the cut and across it.
        publish(&store, 1, 300);
        catalog.failures.store(u32::MAX, Ordering::SeqCst);
        store.flush().await.expect_err("the catalog failed");
        publish(&store, 300, 600);
        store.folded().await;
        store.maintain().await.expect("maintained");
        check(&world, &store, 600, "not confirmed");
        catalog.failures.store(0, Ordering::SeqCst);
        assert_eq!(store.flush().await.expect("flushed"), SequenceNumber(599));
        check(&world, &store, 600, "confirmed");
        drop(store);
        let store = world.open().await;
        check(&world, &store, 600, "after reopening");
    }
}

#[tokio::test]
async fn a_crash_around_the_commit_counts_every_row_once_after_replay() {
    for lie in [false, true] {
        let world = World::new();
        let catalog = Arc::new(Unsure { inner: world.catalog().await, failures: AtomicU32::new(0), lie });
        let store = world.open_with(Arc::clone(&catalog) as Arc<dyn Catalog>).await;
        publish(&store, 1, 5);
        store.flush().await.expect("flushed");
        publish(&store, 5, 10);
        catalog.failures.store(100, Ordering::SeqCst);
        assert!(store.flush().await.is_err());
        drop(store);
        let store = world.open().await;
        assert_eq!(store.checkpoint(), SequenceNumber(if lie { 9 } else { 4 }));
        replay(&store, 10);
        store.folded().await;
        check(&world, &store, 10, "after replay");
    }
}

/// A catalog whose segment commits fail for a while: before they happen, or after.
struct Unsure {
    inner: Arc<dyn Catalog>,
    failures: AtomicU32,
    lie: bool,
}

#[async_trait]
impl Catalog for Unsure {
    async fn commit_segments(&self, change: SegmentChange) -> Result<(), CatalogError> {
        let left = self.failures.load(Ordering::SeqCst);
        if left == 0 {
            return self.inner.commit_segments(change).await;
        }
        self.failures.store(left - 1, Ordering::SeqCst);
        if self.lie {
            self.inner.commit_segments(change).await?;
        }
        Err(CatalogError::Unavailable { path: "catalog".to_owned(), problem: "told to fail".to_owned() })
    }

    async fn checkpoint(&self) -> Result<SequenceNumber, CatalogError> {
        self.inner.checkpoint().await
    }

    async fn segments(&self) -> Result<Vec<SegmentRecord>, CatalogError> {
        self.inner.segments().await
    }

    async fn insert_deploy(&self, deploy: &Deploy, key: Option<&str>) -> Result<Inserted, CatalogError> {
        self.inner.insert_deploy(deploy, key).await
    }

    async fn adopt_deploy(&self, deploy: &Deploy, key: Option<&str>) -> Result<Inserted, CatalogError> {
        self.inner.adopt_deploy(deploy, key).await
    }

    async fn deploy(&self, id: &DeployId) -> Result<Option<Deploy>, CatalogError> {
        self.inner.deploy(id).await
    }

    async fn deploys(&self, filter: &DeployFilter) -> Result<Vec<Deploy>, CatalogError> {
        self.inner.deploys(filter).await
    }

    async fn finish_deploy(
        &self,
        id: &DeployId,
        status: DeployStatus,
        at: UnixNanos,
    ) -> Result<Option<Deploy>, CatalogError> {
        self.inner.finish_deploy(id, status, at).await
    }

    async fn commit_verdict(
        &self,
        verdict: &Verdict,
        event: Option<&RegressionEvent>,
        sinks: &[String],
        evidence: Option<&[u8]>,
    ) -> Result<(), CatalogError> {
        self.inner.commit_verdict(verdict, event, sinks, evidence).await
    }

    async fn judged(&self, deploy: &DeployId) -> Result<Option<(Verdict, Option<Vec<u8>>)>, CatalogError> {
        self.inner.judged(deploy).await
    }

    async fn evidence(&self, deploy: &DeployId) -> Result<Option<Vec<u8>>, CatalogError> {
        self.inner.evidence(deploy).await
    }

    async fn remove_evidence(&self, before: UnixNanos, limit: u32) -> Result<u64, CatalogError> {
        self.inner.remove_evidence(before, limit).await
    }

    async fn events_since_detected(&self, deploy: &DeployId) -> Result<Vec<RegressionEvent>, CatalogError> {
        self.inner.events_since_detected(deploy).await
    }

    async fn verdict(&self, deploy: &DeployId) -> Result<Option<Verdict>, CatalogError> {
        self.inner.verdict(deploy).await
    }

    async fn verdicts(&self, filter: &VerdictFilter) -> Result<Vec<Verdict>, CatalogError> {
        self.inner.verdicts(filter).await
    }

    async fn insert_feedback(&self, feedback: &Feedback) -> Result<(), CatalogError> {
        self.inner.insert_feedback(feedback).await
    }

    async fn feedback(&self, service: Option<&ServiceKey>, limit: u32) -> Result<Vec<Feedback>, CatalogError> {
        self.inner.feedback(service, limit).await
    }

    async fn insert_decision(&self, decision: &Decision) -> Result<(), CatalogError> {
        self.inner.insert_decision(decision).await
    }

    async fn decisions(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Decision>, CatalogError> {
        self.inner.decisions(deploy, limit).await
    }

    async fn observe_version(
        &self,
        service: &ServiceKey,
        version: &str,
        seen: UnixNanos,
    ) -> Result<VersionSeen, CatalogError> {
        self.inner.observe_version(service, version, seen).await
    }

    async fn versions(&self, service: &ServiceKey) -> Result<Vec<VersionRecord>, CatalogError> {
        self.inner.versions(service).await
    }

    async fn places(&self, service: &str) -> Result<Vec<ServiceKey>, CatalogError> {
        self.inner.places(service).await
    }

    async fn place_deploy(&self, id: &DeployId, namespace: &str) -> Result<Option<Deploy>, CatalogError> {
        self.inner.place_deploy(id, namespace).await
    }

    async fn lease_deliveries(
        &self,
        now: UnixNanos,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, CatalogError> {
        self.inner.lease_deliveries(now, lease, limit).await
    }

    async fn settle_delivery(
        &self,
        event: &EventId,
        sink: &str,
        outcome: &DeliveryOutcome,
    ) -> Result<(), CatalogError> {
        self.inner.settle_delivery(event, sink, outcome).await
    }

    async fn deliveries(&self, deploy: Option<&DeployId>, limit: u32) -> Result<Vec<Delivery>, CatalogError> {
        self.inner.deliveries(deploy, limit).await
    }
}
