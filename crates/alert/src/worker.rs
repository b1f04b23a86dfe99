//! One sink's deliveries, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plimsoll_catalog::{Catalog, Delivery, DeliveryOutcome};
use plimsoll_model::UnixNanos;
use tokio::sync::mpsc::Receiver;
use tracing::{info, warn};

use crate::counters::{Settled, Tally};
use crate::deliverer::Clock;
use crate::retry::RetryPolicy;
use crate::sink::{Answer, Attempt, Sink};

/// How often a result is offered to a catalog that does not answer; after that the event is sent once more.
const SETTLE_TRIES: u32 = 5;

/// A delivery and until when it is ours.
pub(crate) struct Leased {
    pub(crate) delivery: Delivery,
    pub(crate) until: UnixNanos,
}

/// What a worker works with.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) timeout: Duration,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) clock: Clock,
    pub(crate) retry: RetryPolicy,
    pub(crate) tally: Arc<Tally>,
}

impl Worker {
    /// Works until the queue is closed; leaves what is in it to the next process once `stopping` is set.
    pub(crate) async fn run(self, mut queue: Receiver<Leased>, stopping: Arc<AtomicBool>) {
        while let Some(leased) = queue.recv().await {
            if stopping.load(Ordering::Acquire) {
                return;
            }
            let now = (self.clock)();
            // Too late to be done before somebody else may take it: it comes again.
            if now + self.timeout > leased.until {
                continue;
            }
            self.deliver(leased.delivery, now).await;
        }
    }

    #[tracing::instrument(name = "deliver", skip_all, fields(event = %delivery.event_id, sink = delivery.sink, attempt = delivery.attempts + 1))]
    async fn deliver(&self, delivery: Delivery, now: UnixNanos) {
        if self.tally.is_disabled() {
            let problem = "the sink wants no more events (410): restart once that has changed".to_owned();
            self.settle(&delivery, DeliveryOutcome::Failed { error: problem }).await;
            return;
        }
        let attempt = Attempt { event_id: &delivery.event_id, kind: &delivery.kind, body: &delivery.body, at: now };
        let answer = self.sink.deliver(attempt).await;
        let ended = (self.clock)();
        let outcome = match answer {
            Answer::Accepted => DeliveryOutcome::Delivered { at: ended },
            Answer::Gone { problem } => {
                self.tally.disable();
                DeliveryOutcome::Failed { error: format!("{problem}; the sink gets no more events until a restart") }
            }
            Answer::Unfit { problem } => DeliveryOutcome::Failed { error: problem },
            Answer::Again { after, problem } => again(&self.retry, &delivery, ended, after, problem),
        };
        self.settle(&delivery, outcome).await;
    }

    async fn settle(&self, delivery: &Delivery, outcome: DeliveryOutcome) {
        let event = &delivery.event_id;
        let settled = match &outcome {
            DeliveryOutcome::Delivered { .. } => {
                info!(sink = self.name, %event, attempts = delivery.attempts + 1, "an event was delivered");
                Settled::Delivered
            }
            DeliveryOutcome::Retry { error, due_at } => {
                warn!(sink = self.name, %event, %due_at, error, "an event could not be delivered and is tried again");
                Settled::Retried(error.clone())
            }
            DeliveryOutcome::Failed { error } => {
                warn!(sink = self.name, %event, error, "an event was given up");
                Settled::Failed(error.clone())
            }
        };
        for tries in 0..SETTLE_TRIES {
            match self.catalog.settle_delivery(event, &self.name, &outcome).await {
                Ok(()) => {
                    self.tally.settle(event, settled);
                    return;
                }
                Err(error) => {
                    warn!(sink = self.name, %event, %error, "the result of a delivery could not be recorded");
                    tokio::time::sleep(Duration::from_millis(50 << tries)).await;
                }
            }
        }
    }
}

/// Decides between another attempt and giving up.
pub(crate) fn again(
    retry: &RetryPolicy,
    delivery: &Delivery,
    now: UnixNanos,
    after: Option<Duration>,
    problem: String,
) -> DeliveryOutcome {
    match retry.next(delivery.event_id.as_str(), delivery.attempts, delivery.queued_at, now, after) {
        Some(due_at) => DeliveryOutcome::Retry { due_at, error: problem },
        None => DeliveryOutcome::Failed {
            error: format!("given up after {} attempts in {:?}: {problem}", delivery.attempts + 1, retry.give_up_after),
        },
    }
}
