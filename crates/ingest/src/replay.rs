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

/// Publishes every frame after the sink's checkpoint; returns once all are.
pub(crate) fn replay(
    journal: &dyn Journal,
    sink: &dyn Sink,
    counters: &Counters,
    gate: &Gate,
    tail_bytes_max: u64,
) -> Result<ReplaySummary, ReplayError> {
    let mut rows = 0;
    let mut undecodable = 0;
    let mut group = Vec::new();
    let mut group_bytes = 0;
    let report = journal.replay(sink.checkpoint(), &mut |sequence, payload| {
        stop_if_draining(gate, sequence)?;
        counters.replayed_frames.add(1);
        counters.replayed_bytes.add(payload.len() as u64);
        match decode(payload) {
            Ok(Decoded { signal, batch, .. }) => {
                rows += batch.num_rows() as u64;
                group_bytes += batch.get_array_memory_size();
                group.push(Published { sequence, signal, batch });
            }
            Err(problem) => {
                undecodable += 1;
                counters.replay_undecodable.add(1);
                tracing::error!(frame = sequence.0, problem, "a journal frame cannot be decoded and is passed over");
            }
        }
        if group_bytes >= GROUP_BYTES {
            group_bytes = 0;
            publish(&mut group, sink, counters, gate, tail_bytes_max, sequence)?;
        }
        Ok(())
    })?;
    if let Some(last) = group.last() {
        let at = last.sequence;
        publish(&mut group, sink, counters, gate, tail_bytes_max, at)?;
    }
    Ok(ReplaySummary { journal: report, rows, undecodable })
}

fn decode(payload: &[u8]) -> Result<Decoded, String> {
    let (header, request) = FrameHeader::decode(payload).map_err(|error| error.to_string())?;
    // A defect in the decoder must not become a crash loop.
    catch_unwind(AssertUnwindSafe(|| plimsoll_otlp::decode(header.signal, request, header.received)))
        .map_err(|_| "the decoder failed on it".to_owned())?
        .map_err(|error| error.to_string())
}

fn publish(
    group: &mut Vec<Published>,
    sink: &dyn Sink,
    counters: &Counters,
    gate: &Gate,
    tail_bytes_max: u64,
    at: SequenceNumber,
) -> Result<(), ReplayError> {
    while sink.load().tail_bytes > tail_bytes_max {
        stop_if_draining(gate, at)?;
        std::thread::park_timeout(TAIL_POLL);
    }
    counters.replayed_rows.add(group.iter().map(|one| one.batch.num_rows() as u64).sum());
    sink.publish(std::mem::take(group));
    Ok(())
}

/// What was not replayed stays in the journal for the next start.
fn stop_if_draining(gate: &Gate, at: SequenceNumber) -> Result<(), ReplayError> {
    match gate.readiness() {
        Readiness::Draining => Err(ReplayError::Visitor { at, problem: "shutting down".to_owned() }),
        _ => Ok(()),
    }
}
