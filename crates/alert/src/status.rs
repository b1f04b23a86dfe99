//! Counters by sink.

use std::collections::HashSet;

use parking_lot::Mutex;
use plimsoll_model::EventId;

/// What became of the events of one sink since this process started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkStatus {
    /// Name of the sink.
    pub sink: String,
    /// Events that the sink accepted.
    pub delivered: u64,
    /// Attempts that failed and are made again.
    pub retried: u64,
    /// Events given up.
    pub failed: u64,
    /// Events seen in the outbox and not settled yet.
    pub pending: u64,
    /// True after the sink said that it wants no more events.
    pub disabled: bool,
    /// What went wrong last; empty once an event was accepted.
    pub last_error: String,
}

/// The counters of one sink, shared by its worker and whoever asks.
#[derive(Debug)]
pub(crate) struct Counters(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    status: SinkStatus,
    pending: HashSet<EventId>,
}

/// How a delivery was settled.
pub(crate) enum Settled {
    Delivered,
    Retried(String),
    Failed(String),
}

impl Counters {
    pub(crate) fn new(sink: &str) -> Self {
        let status = SinkStatus { sink: sink.to_owned(), ..SinkStatus::default() };
        Self(Mutex::new(Inner { status, pending: HashSet::new() }))
    }

    pub(crate) fn see(&self, event: &EventId) {
        self.0.lock().pending.insert(event.clone());
    }

    pub(crate) fn settle(&self, event: &EventId, settled: Settled) {
        let Inner { status, pending } = &mut *self.0.lock();
        match settled {
            Settled::Delivered => {
                status.delivered += 1;
                status.last_error.clear();
                pending.remove(event);
            }
            Settled::Retried(problem) => {
                status.retried += 1;
                status.last_error = problem;
            }
            Settled::Failed(problem) => {
                status.failed += 1;
                status.last_error = problem;
                pending.remove(event);
            }
        }
    }

    pub(crate) fn disable(&self) {
        self.0.lock().status.disabled = true;
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.0.lock().status.disabled
    }

    pub(crate) fn status(&self) -> SinkStatus {
        let inner = self.0.lock();
        SinkStatus { pending: inner.pending.len() as u64, ..inner.status.clone() }
    }
}
