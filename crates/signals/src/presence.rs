//! Who was there: rows counted by version in runs, and starts of instances.

use plimsoll_model::UnixNanos;
use xxhash_rust::xxh3::xxh3_64;

use crate::resources::Emitter;
use crate::state::SignalState;

/// What rows are counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emitted {
    Span,
    Log,
    Point,
}

/// Rows in a row of one emitter and bucket, counted before they are added.
#[derive(Debug)]
pub(crate) struct Run {
    emitted: Emitted,
    version: u32,
    instance: u64,
    bucket: u64,
    rows: u64,
    first: u64,
    last: u64,
}

impl Run {
    pub(crate) fn new(emitted: Emitted) -> Self {
        Self { emitted, version: 0, instance: 0, bucket: 0, rows: 0, first: 0, last: 0 }
    }

    /// Counts one row; what was counted of another emitter or bucket is added first.
    #[inline(always)]
    pub(crate) fn count(&mut self, state: &mut SignalState, emitter: Emitter, bucket: u64, at: u64) {
        if self.rows > 0 && (self.version, self.instance, self.bucket) == (emitter.version, emitter.instance, bucket) {
            self.rows += 1;
            self.first = self.first.min(at);
            self.last = self.last.max(at);
            return;
        }
        self.begin(state, emitter, bucket, at);
    }

    /// Counts as many rows more of the emitter and bucket of the last.
    pub(crate) fn more(&mut self, rows: u64, first: u64, last: u64) {
        self.rows += rows;
        self.first = self.first.min(first);
        self.last = self.last.max(last);
    }

    fn begin(&mut self, state: &mut SignalState, emitter: Emitter, bucket: u64, at: u64) {
        self.end(state);
        (self.version, self.instance, self.bucket) = (emitter.version, emitter.instance, bucket);
        (self.rows, self.first, self.last) = (1, at, at);
    }

    /// Adds what was counted.
    pub(crate) fn end(&mut self, state: &mut SignalState) {
        if self.rows == 0 {
            return;
        }
        state.heard.hear(self.bucket);
        state.belated.note(self.version, self.bucket, state.watermark);
        let limits = state.side_limits();
        if let Some(cell) = state.sides.presence.cell(&self.version, self.bucket, limits) {
            match self.emitted {
                Emitted::Span => cell.spans += self.rows,
                Emitted::Log => cell.logs += self.rows,
                Emitted::Point => cell.points += self.rows,
            }
            let (first, last) = (UnixNanos(self.first), UnixNanos(self.last));
            cell.first = Some(cell.first.map_or(first, |known| known.min(first)));
            cell.last = cell.last.max(Some(last));
            cell.instances.offer(self.instance);
        }
        self.rows = 0;
    }
}

impl SignalState {
    /// Remembers that an instance started, in the bucket in which it did; a start that is long past is none to remember.
    pub(crate) fn note_start(&mut self, emitter: Emitter, started: u64, received: u64) {
        let retention = self.registry.limits.retention.as_nanos() as u64;
        if started == 0 || started > received || received - started > retention {
            return;
        }
        let bucket = UnixNanos(started).bucket().0;
        let limits = self.side_limits();
        if let Some(cell) = self.sides.presence.cell(&emitter.version, bucket, limits) {
            // Times of start told by several sources differ by a little: within a bucket they are one.
            cell.starts.offer(xxh3_64(&[emitter.instance.to_le_bytes(), bucket.to_le_bytes()].concat()));
        }
    }
}
