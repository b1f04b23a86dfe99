//! The trait of every sink: one attempt and its answer.

use std::time::Duration;

use async_trait::async_trait;
use plimsoll_model::{EventId, RegressionEvent, UnixNanos};

/// One attempt to deliver one event.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The event; the same on every attempt.
    pub event_id: &'a EventId,
    /// The CloudEvents `type`.
    pub kind: &'a str,
    /// The event as JSON; the same bytes on every attempt.
    pub body: &'a str,
    /// When the attempt is made.
    pub at: UnixNanos,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The other side has the event.
    Accepted,
    /// It has not, and may take it later.
    Again {
        /// What it asked to wait at least.
        after: Option<Duration>,
        /// What went wrong, for a human.
        problem: String,
    },
    /// The event cannot be put into the form that the other side takes, however often it is tried.
    Unfit {
        /// Why not.
        problem: String,
    },
    /// It wants no events any more.
    Gone {
        /// What it said.
        problem: String,
    },
}

/// Somewhere events go.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Makes one attempt and ends within the sink's own timeout. Never fails: whatever happens is an answer.
    async fn deliver(&self, attempt: Attempt<'_>) -> Answer;
}

/// Reads the event of an attempt; the answer where it is none.
pub(crate) fn event_of(attempt: Attempt<'_>) -> Result<RegressionEvent, Answer> {
    serde_json::from_str(attempt.body)
        .map_err(|error| Answer::Unfit { problem: format!("the event cannot be read by this version: {error}") })
}
