//! What readers see: one immutable value, swapped whole.
//!
//! *Invariants.* Every published row is in the tail or in one segment of every view, never both and never neither: a flush
//! takes rows out of the tail in the same swap that adds their segments.
//!
//! *Cost.* A snapshot is one atomic load and one reference count; it holds no lock and makes nobody wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use parking_lot::Mutex;
use plimsoll_catalog::SegmentRecord;
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::Table;

use crate::files::{SegmentFiles, SegmentRead};
use crate::sums::{self, Checked};
use crate::tail::TailList;
use crate::wanted::Wanted;

/// The place of a table in arrays over all tables.
pub(crate) fn slot(table: Table) -> usize {
    match table {
        Table::Spans => 0,
        Table::Logs => 1,
        Table::Metrics => 2,
        Table::Operations => 3,
        Table::Signals => 4,
    }
}

/// Files whose last reader has gone, for the maintenance thread to remove.
pub(crate) type Garbage = Arc<Mutex<Vec<String>>>;

/// A segment that is in a view. When it is retired its file goes once the last view that has it is gone.
#[derive(Debug)]
pub(crate) struct LiveSegment {
    pub(crate) record: SegmentRecord,
    retired: AtomicBool,
    garbage: Garbage,
}

impl LiveSegment {
    pub(crate) fn new(record: SegmentRecord, garbage: Garbage) -> Arc<Self> {
        Arc::new(Self { record, retired: AtomicBool::new(false), garbage })
    }

    /// Says that the catalog names it no more.
    pub(crate) fn retire(&self) {
        // Relaxed: dropping the last reference synchronises with everything done before through any other.
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for LiveSegment {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            self.garbage.lock().push(std::mem::take(&mut self.record.path));
        }
    }
}

/// Rows of aggregates that the fold gave up.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The last frame that they include.
    pub(crate) last: SequenceNumber,
    pub(crate) table: Table,
    pub(crate) rows: RecordBatch,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    tails: [TailList; 3],
    /// Rows of aggregates that the fold gave up and that no segment holds yet, oldest first.
    pub(crate) taken: Arc<Vec<Taken>>,
    /// Rows of aggregates that the fold still holds.
    pub(crate) pending: Vec<(Table, RecordBatch)>,
    segments: [Arc<Vec<Arc<LiveSegment>>>; 5],
    /// Segments that the catalog names and whose files were not there, or not whole, when the store was opened.
    pub(crate) missing: Arc<Vec<SegmentRecord>>,
    pub(crate) published: SequenceNumber,
    pub(crate) checkpoint: SequenceNumber,
}

impl View {
    pub(crate) fn starting_at(checkpoint: SequenceNumber) -> Self {
        Self { published: checkpoint, checkpoint, ..Self::default() }
    }

    /// Returns the tail of a telemetry table; `None` for aggregates, whose tail is what the fold holds.
    pub(crate) fn tail(&self, table: Table) -> Option<&TailList> {
        self.tails.get(slot(table))
    }

    pub(crate) fn tail_mut(&mut self, table: Table) -> Option<&mut TailList> {
        self.tails.get_mut(slot(table))
    }

    pub(crate) fn tails(&self) -> impl Iterator<Item = (Table, &TailList)> {
        Table::ALL.into_iter().zip(&self.tails)
    }

    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tails.iter().map(|tail| tail.bytes).sum()
    }

    pub(crate) fn segments(&self, table: Table) -> &Arc<Vec<Arc<LiveSegment>>> {
        &self.segments[slot(table)]
    }

    pub(crate) fn set_segments(&mut self, table: Table, segments: Vec<Arc<LiveSegment>>) {
        self.segments[slot(table)] = Arc::new(segments);
    }
}

/// One consistent view. The files of its segments stay until it is dropped, whatever retention does.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) view: Arc<View>,
    pub(crate) files: Arc<dyn SegmentFiles>,
    pub(crate) wanted: Arc<Wanted>,
}

impl Snapshot {
    /// Returns the rows that are not in segments yet, oldest first; for aggregates those folded so far.
    pub fn tail(&self, table: Table) -> Vec<RecordBatch> {
        match self.view.tail(table) {
            Some(tail) => tail.iter().map(|batch| batch.rows.batch.clone()).collect(),
            None => {
                let taken = self.view.taken.iter().map(|taken| (taken.table, &taken.rows));
                let folded = taken.chain(self.view.pending.iter().map(|(of, rows)| (*of, rows)));
                folded.filter(|(of, _)| *of == table).map(|(_, rows)| rows.clone()).collect()
            }
        }
    }

    /// Returns the same segments without what is not in segments: for those who hold on to files, and not to memory.
    #[must_use]
    pub fn without_tail(&self) -> Self {
        let view = View {
            segments: self.view.segments.clone(),
            missing: Arc::clone(&self.view.missing),
            ..View::starting_at(self.view.checkpoint)
        };
        Self { view: Arc::new(view), files: Arc::clone(&self.files), wanted: Arc::clone(&self.wanted) }
    }

    /// Returns the live segments, oldest first.
    pub fn segments(&self, table: Table) -> Vec<SegmentRecord> {
        self.view.segments(table).iter().map(|segment| segment.record.clone()).collect()
    }

    /// Returns the segments whose files were missing or cut short when the store was opened: rows that no segment of
    /// [`Self::segments`] holds.
    pub fn missing(&self, table: Table) -> Vec<SegmentRecord> {
        self.view.missing.iter().filter(|record| record.table == table.name()).cloned().collect()
    }

    /// Returns where the segments' paths are to be read.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.files.reader()
    }

    /// Opens the segment at `path`, which has `bytes` bytes, to read parts of it on the calling thread. What is read has been
    /// compared with the checksums in the file, where it has them.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn SegmentRead>> {
        Ok(Arc::new(Checked::new(self.files.open(path)?, bytes)))
    }

    /// Reads the segment at `path`, which has `bytes` bytes, through and compares it with its checksums.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn check(&self, path: &str, bytes: u64) -> io::Result<()> {
        sums::check(self.files.open(path)?, bytes)
    }

    /// Notes that a query asked for attribute `key` of `table`: the next merges give it a column of its own.
    pub fn want_attribute(&self, table: Table, key: &str) {
        self.wanted.note(table, key);
    }

    /// Returns the last frame whose rows are in it.
    pub fn published(&self) -> SequenceNumber {
        self.view.published
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("published", &self.view.published).finish_non_exhaustive()
    }
}
