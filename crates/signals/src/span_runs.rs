//! What is the same for many spans in a row, found once: the time of receipt, the bucket, and what a version showed.

use plimsoll_model::{Bucket, UnixNanos};

use crate::behind::Behind;
use crate::presence::Run;
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

/// Spans in a row with one resource, received at one time, that end in one bucket: all but the first, which told what that is.
pub(crate) struct Stretch {
    resource: u32,
    received: u64,
    from: u64,
    to: u64,
    spans: u64,
    first: u64,
    last: u64,
}

impl Stretch {
    /// None follows.
    pub(crate) const NONE: Self = Self { resource: 0, received: 0, from: 1, to: 0, spans: 0, first: u64::MAX, last: 0 };

    /// Begins after a span whose resource has the key `resource`; none follows where there is no such key.
    pub(crate) fn after(resource: Option<u32>, moment: &Moment) -> Self {
        let Moment { received, from, to, .. } = *moment;
        resource.map_or(Self::NONE, |resource| Self { resource, received, from, to, ..Self::NONE })
    }

    /// Counts a span, where it is one of them.
    #[inline(always)]
    pub(crate) fn takes(&mut self, resource: u32, received: u64, end: u64) -> bool {
        let one = resource == self.resource && received == self.received && self.from <= end && end < self.to;
        if one {
            self.spans += 1;
            self.first = self.first.min(end);
            self.last = self.last.max(end);
        }
        one
    }

    /// Adds what was counted.
    pub(crate) fn end(&self, run: &mut Run, seen: &mut SpanRun) {
        if self.spans > 0 {
            run.more(self.spans, self.first.min(self.received), self.last.min(self.received));
            seen.count(self.spans, self.last, self.received);
        }
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

    /// Counts spans of which the latest ended at `end`.
    #[inline]
    pub(crate) fn count(&mut self, spans: u64, end: u64, received: u64) {
        self.spans += spans;
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
