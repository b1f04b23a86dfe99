//! Tail, Parquet segments, compaction, retention and snapshots.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use plimsoll_catalog::{Catalog, CatalogError, SegmentRecord};
use plimsoll_model::{SequenceNumber, UnixNanos};
use plimsoll_otlp::{Signal, Table};

/// How the store is laid out and how much it may hold.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Directory of the segments.
    pub root: PathBuf,
    /// The tail is flushed when it is this large, in bytes of memory.
    pub tail_bytes_flush: usize,
    /// The tail is flushed when its oldest rows are this old.
    pub tail_age_flush: Duration,
    /// Rows received longer ago than this are removed, by whole segments.
    pub retention: Duration,
    /// Free bytes below which the disk counts as full.
    pub disk_reserve_bytes: u64,
}

/// Tells the time; given, so that tests and simulations own it.
pub type Clock = Arc<dyn Fn() -> UnixNanos + Send + Sync>;

/// The rows of one frame, durable in the journal and ready to be seen.
#[derive(Debug, Clone)]
pub struct Published {
    /// The frame they came from.
    pub sequence: SequenceNumber,
    /// Which signal, and so which table.
    pub signal: Signal,
    /// The rows, in the table's stored schema.
    pub batch: RecordBatch,
}

/// Something that every published row is folded into, off the ack path, exactly once and in order of sequence.
///
/// Its rows become the table `operations`: what was folded since the last checkpoint is written in the same transaction
/// as the segments of the rows it came from, so that a crash counts nothing twice and forgets nothing.
pub trait Fold: Send + 'static {
    /// Folds one batch.
    fn fold(&mut self, rows: &Published);

    /// Returns the rows folded since the last checkpoint, in the stored schema of [`Table::Operations`].
    fn pending(&self) -> Option<RecordBatch>;

    /// Takes those rows: from here on they are the store's to keep.
    fn take(&mut self) -> Option<RecordBatch>;
}

/// The store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    _private: Arc<()>,
}

impl Store {
    /// Opens the store: checks the segments that the catalog names, removes files it does not name, and starts the
    /// maintenance thread that folds, flushes, retires and coalesces.
    ///
    /// `trim` is called with a checkpoint once nothing up to it needs the journal any more.
    ///
    /// # Errors
    /// The directory cannot be used, or the catalog cannot be read.
    pub async fn open(
        _options: StoreOptions,
        _catalog: Arc<dyn Catalog>,
        _fold: Box<dyn Fold>,
        _trim: Box<dyn Fn(SequenceNumber) + Send + Sync>,
        _clock: Clock,
    ) -> Result<Self, StoreError> {
        unimplemented!("being written")
    }

    /// Returns the last frame whose rows are all in segments: replay starts after it.
    pub fn checkpoint(&self) -> SequenceNumber {
        unimplemented!("being written")
    }

    /// Makes rows visible, all at once. Frames come in ascending order of sequence, from one thread at a time.
    pub fn publish(&self, _rows: Vec<Published>) {
        unimplemented!("being written")
    }

    /// Returns one consistent view of everything published so far: no gap and no duplicate between tail and segments.
    pub fn snapshot(&self) -> Snapshot {
        unimplemented!("being written")
    }

    /// Writes everything published so far into segments and returns the new checkpoint.
    ///
    /// # Errors
    /// A segment or the catalog could not be written; the rows stay in the tail and nothing is lost.
    pub async fn flush(&self) -> Result<SequenceNumber, StoreError> {
        unimplemented!("being written")
    }

    /// Waits until everything published so far has been folded.
    pub async fn folded(&self) {
        unimplemented!("being written")
    }

    /// Returns counters and gauges, without I/O.
    pub fn status(&self) -> StoreStatus {
        unimplemented!("being written")
    }

    /// Flushes, stops the maintenance thread and waits for it.
    ///
    /// # Errors
    /// The last flush failed; the journal still holds what it would have written.
    pub async fn close(&self) -> Result<(), StoreError> {
        unimplemented!("being written")
    }
}

/// One consistent view. The files of its segments stay until it is dropped, whatever retention does.
#[derive(Clone)]
pub struct Snapshot {
    _private: Arc<()>,
}

impl Snapshot {
    /// Returns the rows that are not in segments yet, oldest first; for [`Table::Operations`] those folded so far.
    pub fn tail(&self, _table: Table) -> Vec<RecordBatch> {
        unimplemented!("being written")
    }

    /// Returns the live segments, oldest first.
    pub fn segments(&self, _table: Table) -> Vec<SegmentRecord> {
        unimplemented!("being written")
    }

    /// Returns where the segments' paths are to be read.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        unimplemented!("being written")
    }
}

/// What is known of the store right now.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    /// Rows in the tail.
    pub tail_rows: u64,
    /// Memory they take.
    pub tail_bytes: u64,
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
    /// Segments removed by retention.
    pub retired_segments: u64,
    /// Rows in them: lost because they were too old.
    pub retired_rows: u64,
    /// The last frame published.
    pub published: SequenceNumber,
    /// The last frame folded.
    pub folded: SequenceNumber,
    /// The last frame in segments.
    pub checkpoint: SequenceNumber,
    /// True while less than `disk_reserve_bytes` is free.
    pub disk_full: bool,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be used.
    #[error("store `{path}`: {source}")]
    Io {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A segment could not be encoded or read.
    #[error("segment `{path}`: {problem}")]
    Segment {
        /// Which.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The catalog could not be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
