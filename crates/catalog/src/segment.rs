//! What the catalog knows of the store's Parquet files.

use plimsoll_model::{Interval, SegmentId, SequenceNumber, UnixNanos};

/// One Parquet file that is part of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Identifier and stem of the file name.
    pub id: SegmentId,
    /// Table name.
    pub table: String,
    /// Path below the store's root, with `/`.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// From the earliest to just after the latest event time in it.
    pub times: Interval,
    /// Latest time at which a row in it was received: what retention goes by.
    pub received_to: UnixNanos,
    /// First and last frame whose rows may be in it.
    pub frames: (SequenceNumber, SequenceNumber),
    /// When it was sealed.
    pub created_at: UnixNanos,
}

/// One step of the store, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentChange {
    /// Segments that are durable and become visible.
    pub add: Vec<SegmentRecord>,
    /// Segments that cease to be part of the store.
    pub remove: Vec<SegmentId>,
    /// Frames up to here need no replay; `None` leaves the checkpoint where it is.
    pub checkpoint: Option<SequenceNumber>,
}
