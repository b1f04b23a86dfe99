//! Counters by sink.

use std::collections::HashSet;

use parking_lot::Mutex;
use plimsoll_model::EventId;

/// What became of the events of one sink since this process started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkCounters {
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
pub(crate) struct Tally {
    sink: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counters: SinkCounters,
    pending: HashSet<EventId>,
}

/// How a delivery was settled.
pub(crate) enum Settled {
    Delivered,
    Retried(String),
    Failed(String),
}

impl Tally {
    pub(crate) fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned(), inner: Mutex::default() }
    }

    pub(crate) fn see(&self, event: &EventId) {
        self.inner.lock().pending.insert(event.clone());
    }

    pub(crate) fn settle(&self, event: &EventId, settled: Settled) {
        let Inner { counters, pending } = &mut *self.inner.lock();
        match settled {
            Settled::Delivered => {
                counters.delivered += 1;
                counters.last_error.clear();
                pending.remove(event);
            }
            Settled::Retried(problem) => {
                counters.retried += 1;
                counters.last_error = problem;
            }
            Settled::Failed(problem) => {
                counters.failed += 1;
                counters.last_error = problem;
                pending.remove(event);
            }
        }
    }

    pub(crate) fn disable(&self) {
        self.inner.lock().counters.disabled = true;
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.inner.lock().counters.disabled
    }

    /// Returns the sink's name and counters.
    pub(crate) fn read(&self) -> (String, SinkCounters) {
        let inner = self.inner.lock();
        let counters = SinkCounters { pending: inner.pending.len() as u64, ..inner.counters.clone() };
        (self.sink.clone(), counters)
    }
}
