//! OTLP wire bytes to Arrow batches and back, and the table schemas.

use std::fmt;

use arrow::array::RecordBatch;
use plimsoll_model::UnixNanos;

pub mod schema;

pub use schema::Table;

/// The three kinds of telemetry that an export request may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `ExportTraceServiceRequest`.
    Traces,
    /// `ExportLogsServiceRequest`.
    Logs,
    /// `ExportMetricsServiceRequest`.
    Metrics,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    /// Returns the table that records of this signal become rows of.
    pub fn table(self) -> Table {
        match self {
            Self::Traces => Table::Spans,
            Self::Logs => Table::Logs,
            Self::Metrics => Table::Metrics,
        }
    }
}

/// What one export request became.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Which signal the request carried.
    pub signal: Signal,
    /// The accepted records, in the stored schema of [`Signal::table`]; may have no rows.
    pub batch: RecordBatch,
    /// Records left out, and why: what `partial_success` says.
    pub rejected: Rejected,
}

/// Records of a request that were left out while the others were taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejected {
    /// How many.
    pub count: u64,
    /// Why the first of them was; empty where `count` is zero.
    pub reason: String,
}

/// Why a whole request was refused: its bytes are not the message they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {message} at byte {offset}: {problem}")]
pub struct DecodeError {
    /// The message being read, for instance `Span`.
    pub message: &'static str,
    /// Offset into the request.
    pub offset: usize,
    /// What is wrong, in words.
    pub problem: String,
}

/// Decodes one protobuf export request, as it came off the wire, into rows.
///
/// Reading the same bytes with the same `received` always gives the same rows, so that a replayed request becomes what
/// it was.
///
/// # Errors
/// The bytes are not a well-formed request. Nothing of it may be acknowledged.
pub fn decode(_signal: Signal, _request: &[u8], _received: UnixNanos) -> Result<Decoded, DecodeError> {
    unimplemented!("being written")
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        })
    }
}
