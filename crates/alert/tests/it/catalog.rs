//! The outbox of a catalog, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plimsoll_alert::Clock;
use plimsoll_catalog::*;
use plimsoll_model::{
    Decision, Deploy, DeployId, DeployStatus, EventId, Feedback, RegressionEvent, SequenceNumber, ServiceKey,
    UnixNanos, Verdict,
};
use tokio::sync::watch;

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct Time(Arc<AtomicU64>);

pub(crate) const START: u64 = 1_700_000_000;

impl Time {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(UnixNanos::from_secs(START).0)))
    }

    pub(crate) fn now(&self) -> UnixNanos {
        UnixNanos(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = self.clone();
        Arc::new(move || time.now())
    }
}

/// What became of deliveries, in the order in which they were settled.
pub(crate) type History = Vec<(String, String, DeliveryOutcome)>;

/// The outbox.
pub(crate) struct Outbox {
    rows: parking_lot::Mutex<Vec<(Delivery, UnixNanos)>>,
    history: watch::Sender<History>,
}

impl Outbox {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { rows: parking_lot::Mutex::new(Vec::new()), history: watch::channel(Vec::new()).0 })
    }

    pub(crate) fn queue(&self, event: &str, sink: &str, body: &str, now: UnixNanos) {
        let delivery = Delivery {
            event_id: EventId::from_text(event),
            deploy_id: DeployId::from_text("dep_1"),
            sink: sink.to_owned(),
            body: body.to_owned(),
            kind: "dev.plimsoll.regression.detected".to_owned(),
            queued_at: now,
            attempts: 0,
            state: DeliveryState::Pending,
            due_at: now,
            last_error: String::new(),
        };
        self.rows.lock().push((delivery, UnixNanos(0)));
    }

    /// Waits until so many attempts were settled and returns all of them.
    pub(crate) async fn settled(&self, count: usize) -> History {
        let mut history = self.history.subscribe();
        let waiting = history.wait_for(|history| history.len() >= count);
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, waiting).await.expect("settles in time").expect("the outbox lives").clone()
    }

    pub(crate) fn rows(&self) -> Vec<Delivery> {
        self.rows.lock().iter().map(|(delivery, _)| delivery.clone()).collect()
    }
}

#[async_trait]
impl Catalog for Outbox {
    async fn lease_deliveries(
        &self,
        now: UnixNanos,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Delivery>, CatalogError> {
        let mut rows = self.rows.lock();
        let mut due: Vec<_> = rows
            .iter_mut()
            .filter(|(row, hidden)| row.state == DeliveryState::Pending && row.due_at <= now && *hidden <= now)
            .collect();
        due.sort_by_key(|(row, _)| row.due_at);
        let taken = due.into_iter().take(limit as usize);
        Ok(taken
            .map(|(row, hidden)| {
                *hidden = now + lease;
                row.clone()
            })
            .collect())
    }

    async fn settle_delivery(
        &self,
        event: &EventId,
        sink: &str,
        outcome: &DeliveryOutcome,
    ) -> Result<(), CatalogError> {
        let mut rows = self.rows.lock();
        let (row, hidden) =
            rows.iter_mut().find(|(row, _)| row.event_id == *event && row.sink == sink).expect("only what was leased");
        row.attempts += 1;
        *hidden = UnixNanos(0);
        match outcome {
            DeliveryOutcome::Delivered { .. } => row.state = DeliveryState::Delivered,
            DeliveryOutcome::Retry { due_at, error } => {
                row.due_at = *due_at;
                row.last_error.clone_from(error);
            }
            DeliveryOutcome::Failed { error } => {
                row.state = DeliveryState::Failed;
                row.last_error.clone_from(error);
            }
        }
        drop(rows);
        self.history.send_modify(|history| history.push((event.to_string(), sink.to_owned(), outcome.clone())));
        Ok(())
    }

    async fn deliveries(&self, _deploy: Option<&DeployId>, _limit: u32) -> Result<Vec<Delivery>, CatalogError> {
        Ok(self.rows())
    }

    async fn checkpoint(&self) -> Result<SequenceNumber, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn segments(&self) -> Result<Vec<SegmentRecord>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn commit_segments(&self, _change: SegmentChange) -> Result<(), CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn insert_deploy(&self, _deploy: &Deploy, _key: Option<&str>) -> Result<Inserted, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn adopt_deploy(&self, _deploy: &Deploy, _key: Option<&str>) -> Result<Inserted, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn deploy(&self, _id: &DeployId) -> Result<Option<Deploy>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn deploys(&self, _filter: &DeployFilter) -> Result<Vec<Deploy>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn finish_deploy(
        &self,
        _id: &DeployId,
        _status: DeployStatus,
        _at: UnixNanos,
    ) -> Result<Option<Deploy>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn place_deploy(&self, _id: &DeployId, _namespace: &str) -> Result<Option<Deploy>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn places(&self, _service: &str) -> Result<Vec<ServiceKey>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn commit_verdict(
        &self,
        _verdict: &Verdict,
        _event: Option<&RegressionEvent>,
        _sinks: &[String],
        _evidence: Option<&[u8]>,
    ) -> Result<(), CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn judged(&self, _deploy: &DeployId) -> Result<Option<(Verdict, Option<Vec<u8>>)>, CatalogError> {
        unreachable!()
    }

    async fn evidence(&self, _deploy: &DeployId) -> Result<Option<Vec<u8>>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn remove_evidence(&self, _before: UnixNanos, _limit: u32) -> Result<u64, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn events_since_detected(&self, _deploy: &DeployId) -> Result<Vec<RegressionEvent>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn verdict(&self, _deploy: &DeployId) -> Result<Option<Verdict>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn verdicts(&self, _filter: &VerdictFilter) -> Result<Vec<Verdict>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn insert_feedback(&self, _feedback: &Feedback) -> Result<(), CatalogError> {
        Ok(())
    }

    async fn feedback(&self, _service: Option<&ServiceKey>, _limit: u32) -> Result<Vec<Feedback>, CatalogError> {
        Ok(Vec::new())
    }

    async fn insert_decision(&self, _decision: &Decision) -> Result<(), CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn decisions(&self, _deploy: Option<&DeployId>, _limit: u32) -> Result<Vec<Decision>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn observe_version(
        &self,
        _service: &ServiceKey,
        _version: &str,
        _seen: UnixNanos,
    ) -> Result<VersionSeen, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }

    async fn versions(&self, _service: &ServiceKey) -> Result<Vec<VersionRecord>, CatalogError> {
        unreachable!("delivery needs the outbox only")
    }
}
