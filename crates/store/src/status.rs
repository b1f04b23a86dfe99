//! Counters and gauges.

use std::time::Duration;

use plimsoll_model::SequenceNumber;
use plimsoll_otlp::Table;

/// What is known of the store right now.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    /// Rows in the tail.
    pub tail_rows: u64,
    /// Memory they take.
    pub tail_bytes: u64,
    /// How much of that is not even in segments that are about to be shown.
    pub unwritten_bytes: u64,
    /// Batches they are in.
    pub tail_batches: u64,
    /// Live segments and their size in bytes, by table.
    pub segments: Vec<(Table, u64, u64)>,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Flushes that failed and were or will be tried again.
    pub flush_failures: u64,
    /// What the last failed flush said; empty once one succeeded.
    pub last_flush_error: String,
    /// Batches that the fold panicked on: their rows are stored, and missing in the aggregates.
    pub fold_failures: u64,
    /// Segments removed by retention.
    pub retired_segments: u64,
    /// Rows removed because they were too old.
    pub retired_rows: u64,
    /// Segments removed because there were more bytes than `disk_bytes_max`.
    pub evicted_segments: u64,
    /// Rows in them.
    pub evicted_rows: u64,
    /// Live segments that were merged into larger ones.
    pub merged_segments: u64,
    /// Rows that were written again for it.
    pub merged_rows: u64,
    /// Bytes of the segments that they became.
    pub merged_bytes: u64,
    /// Merges that panicked: their inputs are left alone, and all else goes on.
    pub merge_failures: u64,
    /// Segments that the catalog names and whose files are missing or cut short: their rows cannot be queried.
    pub missing_segments: u64,
    /// Rows in them.
    pub missing_rows: u64,
    /// Live segments that could not be read when it was their turn to be merged; the log names them.
    pub unreadable_segments: u64,
    /// Files found at opening that no segment needed, and that were removed.
    pub orphan_files: u64,
    /// Segments found at opening that a new catalog did not know, and that were taken into it.
    pub adopted_segments: u64,
    /// The last frame published.
    pub published: SequenceNumber,
    /// The last frame folded.
    pub folded: SequenceNumber,
    /// How long the first batch that is not folded has waited; zero where all are.
    pub fold_lag: Duration,
    /// The last frame in segments.
    pub checkpoint: SequenceNumber,
    /// True while rows are not removed for their age, because the clock says that more time passed than the machine counted.
    pub clock_doubted: bool,
    /// True while less than `disk_reserve_bytes` is free.
    pub disk_full: bool,
}
