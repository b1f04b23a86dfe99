//! Reads back, at start, what was acknowledged and is not in segments yet.
//!
//! *Invariants.*
//! - Frames become the rows they were: decoding depends on the request and on the time kept beside it.
//! - Never more than one group above the tail's budget: the replay waits for segments to be written, and never gives up for
//!   want of memory.
//! - A frame that cannot be read is counted, logged and passed over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use plimsoll_journal::{Journal, ReplayError, ReplayReport};
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::Decoded;
use plimsoll_store::Published;

use crate::counters::Counters;
use crate::fingerprints::Fingerprints;
use crate::frame::FrameHeader;
use crate::gate::{Gate, Readiness};
use crate::sink::Sink;

/// Memory of the rows that are published at once.
const GROUP_BYTES: usize = 8 << 20;

/// How long to wait before asking again whether the tail has room.
const TAIL_POLL: Duration = Duration::from_millis(10);

/// What a replay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplaySummary {
    /// What the journal says of it.
    pub journal: ReplayReport,
    /// Rows published.
    pub rows: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
}

/// One replay: what it fills and what it heeds.
pub(crate) struct Replay<'a> {
    pub(crate) sink: &'a dyn Sink,
    pub(crate) counters: &'a Counters,
    pub(crate) gate: &'a Gate,
    pub(crate) fingerprints: &'a Fingerprints,
    pub(crate) tail_bytes_max: u64,
}

impl Replay<'_> {
    /// Publishes every frame after the sink's checkpoint; returns once all are. Frames before it that the journal still has are
    /// fingerprinted where nothing else remembers them.
    pub(crate) fn run(&self, journal: &dyn Journal) -> Result<ReplaySummary, ReplayError> {
        let checkpoint = self.sink.checkpoint();
        let remembered = if self.fingerprints.is_on() { self.fingerprints.saved() } else { checkpoint };
        let (mut rows, mut undecodable) = (0, 0);
        let (mut before, mut before_bytes) = (0, 0);
        let mut group = Vec::new();
        let mut group_bytes = 0;
        let mut report = journal.replay(checkpoint.min(remembered), &mut |sequence, payload| {
            stop_if_draining(self.gate, sequence)?;
            if sequence <= checkpoint {
                before += 1;
                before_bytes += payload.len() as u64;
                self.remember(sequence, payload);
                return Ok(());
            }
            self.counters.replayed_frames.add(1);
            self.counters.replayed_bytes.add(payload.len() as u64);
            match decode(payload) {
                Ok((header, request, Decoded { signal, batch, rejected })) => {
                    if self.fingerprints.is_on() {
                        let fingerprint = self.fingerprints.of(signal, request);
                        self.fingerprints.replayed(sequence, fingerprint, header.received, rejected.count == 0);
                    }
                    rows += batch.num_rows() as u64;
                    group_bytes += batch.get_array_memory_size();
                    group.push(Published { sequence, signal, batch });
                }
                Err(problem) => {
                    undecodable += 1;
                    self.counters.replay_undecodable.add(1);
                    tracing::error!(
                        frame = sequence.0,
                        problem,
                        "a journal frame cannot be decoded and is passed over"
                    );
                }
            }
            if group_bytes >= GROUP_BYTES {
                group_bytes = 0;
                self.publish(&mut group, sequence)?;
            }
            Ok(())
        })?;
        if let Some(last) = group.last() {
            let at = last.sequence;
            self.publish(&mut group, at)?;
        }
        report.frames -= before;
        report.bytes -= before_bytes;
        Ok(ReplaySummary { journal: report, rows, undecodable })
    }

    /// Fingerprints a frame whose rows are in segments.
    fn remember(&self, sequence: SequenceNumber, payload: &[u8]) {
        // What cannot be read was said when it was replayed.
        let Ok((header, request)) = FrameHeader::decode(payload) else { return };
        let fingerprint = self.fingerprints.of(header.signal, request);
        self.fingerprints.replayed(sequence, fingerprint, header.received, false);
    }

    fn publish(&self, group: &mut Vec<Published>, at: SequenceNumber) -> Result<(), ReplayError> {
        while self.sink.load().tail_bytes > self.tail_bytes_max {
            stop_if_draining(self.gate, at)?;
            std::thread::park_timeout(TAIL_POLL);
        }
        self.counters.replayed_rows.add(group.iter().map(|one| one.batch.num_rows() as u64).sum());
        self.sink.publish(std::mem::take(group));
        Ok(())
    }
}

fn decode(payload: &[u8]) -> Result<(FrameHeader, &[u8], Decoded), String> {
    let (header, request) = FrameHeader::decode(payload).map_err(|error| error.to_string())?;
    // A defect in the decoder must not become a crash loop.
    let decoded = catch_unwind(AssertUnwindSafe(|| plimsoll_otlp::decode(header.signal, request, header.received)))
        .map_err(|_| "the decoder failed on it".to_owned())?
        .map_err(|error| error.to_string())?;
    Ok((header, request, decoded))
}

/// What was not replayed stays in the journal for the next start.
fn stop_if_draining(gate: &Gate, at: SequenceNumber) -> Result<(), ReplayError> {
    match gate.readiness() {
        Readiness::Draining => Err(ReplayError::Visitor { at, problem: "shutting down".to_owned() }),
        _ => Ok(()),
    }
}
