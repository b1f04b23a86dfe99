//! What is the same for many spans in a row, found once: the time of receipt, the bucket, and what a version showed.

use plimsoll_model::{Bucket, UnixNanos};

use crate::behind::Behind;
use crate::resources::Emitter;
use crate::state::{FUTURE_NS, LATE_NS, SignalState};

/// A time of receipt, and the ends of spans that are known to fall into one bucket.
#[derive(Default)]
pub(crate) struct Moment {
    pub(crate) received: u64,
    pub(crate) minute: u64,
    bucket: u64,
    from: u64,
    to: u64,
}

impl Moment {
    pub(crate) fn of(received: u64) -> Self {
        Self { received, minute: Behind::minute(received), ..Self::default() }
    }

    /// Returns the bucket of an end, where it is the one that was learnt and nothing else is to be said of it.
    #[inline(always)]
    pub(crate) fn bucket(&self, end: u64) -> Option<u64> {
        (self.from <= end && end < self.to).then_some(self.bucket)
    }

    /// Learns the bucket of an end: others fall into it as well unless they are late or not believed.
    pub(crate) fn learn(&mut self, bucket: u64) {
        let start = bucket.saturating_mul(Bucket::WIDTH_NS);
        self.bucket = bucket;
        self.from = start.max(self.received.saturating_sub(LATE_NS));
        self.to = start.saturating_add(Bucket::WIDTH_NS).min(self.received.saturating_add(FUTURE_NS));
    }
}

/// Spans of one version in a row, received in one minute.
pub(crate) struct SpanRun {
    pub(crate) version: u32,
    pub(crate) minute: u64,
    service: u32,
    spans: u64,
    last: u64,
    /// The least that one of them was behind its receipt.
    lag: u64,
}

impl Default for SpanRun {
    fn default() -> Self {
        Self { version: 0, minute: 0, service: 0, spans: 0, last: 0, lag: u64::MAX }
    }
}

impl SpanRun {
    pub(crate) fn of(emitter: Emitter, minute: u64) -> Self {
        Self { version: emitter.version, service: emitter.service, minute, ..Self::default() }
    }

    #[inline(always)]
    pub(crate) fn count(&mut self, end: u64, received: u64) {
        self.spans += 1;
        self.last = self.last.max(end.min(received));
        self.lag = self.lag.min(received.saturating_sub(end));
    }

    /// Adds what was counted.
    pub(crate) fn end(&self, state: &mut SignalState) {
        if self.spans == 0 {
            return;
        }
        let version = &mut state.registry.version[self.version as usize];
        version.spans += self.spans;
        version.last_seen = version.last_seen.max(UnixNanos(self.last));
        let service = &mut state.registry.service[self.service as usize];
        for behind in [&mut version.behind, &mut service.behind] {
            behind.saw_least(self.minute, self.lag);
            behind.saw_latest(self.last, state.watermark);
        }
    }
}
