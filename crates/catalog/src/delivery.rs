//! The outbox: one event on its way to one sink.

use plimsoll_model::{DeployId, EventId, UnixNanos};

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
    /// When it was queued: the time of the event.
    pub queued_at: UnixNanos,
    /// Attempts made before this one.
    pub attempts: u32,
    /// How far it has come.
    pub state: DeliveryState,
    /// When it is next due, where it is still pending; zero until its first attempt.
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
