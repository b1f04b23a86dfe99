//! The store: opening, publishing, flushing, closing.

use std::sync::Arc;
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use plimsoll_catalog::{Catalog, SegmentRecord};
use plimsoll_model::{Interval, SequenceNumber, UnixNanos};
use plimsoll_otlp::Table;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::files::{LocalFiles, SegmentFiles};
use crate::fold::{Fold, Published};
use crate::folding::Folding;
use crate::gather::memory_size;
use crate::maintain::Maintenance;
use crate::options::{Clock, StoreOptions};
use crate::priority::Eager;
use crate::reading::read;
use crate::recovery::recover;
use crate::shared::{Requests, Shared};
use crate::status::StoreStatus;
use crate::tail::TailBatch;
use crate::view::{Garbage, LiveSegment, Snapshot, View};

/// The store. Cheap to clone; all clones are one store.
///
/// Dropping the last clone stops the threads after the step they are at, without a last flush: what is not in segments is
/// in the journal.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    eager: Arc<Eager>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Opens the store: checks the segments that the catalog names, removes files it does not name, and starts the
    /// threads that fold, and that flush, retire and coalesce.
    ///
    /// `trim` is called with a checkpoint once nothing up to it needs the journal any more.
    ///
    /// # Errors
    /// The directory cannot be used, or the catalog cannot be read.
    pub async fn open(
        options: StoreOptions,
        catalog: Arc<dyn Catalog>,
        fold: Box<dyn Fold>,
        trim: Box<dyn Fn(SequenceNumber) + Send + Sync>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let path = options.root.display().to_string();
        let files = LocalFiles::new(options.root.clone()).map_err(|source| StoreError::Io { path, source })?;
        Self::open_with(options, Arc::new(files), catalog, fold, trim, clock).await
    }

    /// Like [`Self::open`], with segment files kept elsewhere than in `options.root`.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub async fn open_with(
        options: StoreOptions,
        files: Arc<dyn SegmentFiles>,
        catalog: Arc<dyn Catalog>,
        fold: Box<dyn Fold>,
        trim: Box<dyn Fn(SequenceNumber) + Send + Sync>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let root = options.root.display().to_string();
        // A tail that is due has a whole part at least.
        let encoder_bytes = options.encoder_bytes.min(options.tail_bytes_flush);
        let options = StoreOptions { encoder_bytes, ..options };
        let recovered = recover(&root, files.as_ref(), catalog.as_ref()).await?;
        let garbage = Garbage::default();
        let checkpoint = recovered.checkpoint;
        let mut view = View::starting_at(checkpoint);
        for table in Table::ALL {
            let records = recovered.live.iter().filter(|record| record.table == table.name());
            let live = records.map(|record| LiveSegment::new(record.clone(), Arc::clone(&garbage)));
            view.set_segments(table, live.collect());
        }
        view.missing = Arc::new(recovered.missing.clone());
        let folding = Folding::new(fold, checkpoint);
        let shared = Arc::new(Shared::new(options, clock, files, view, folding, recovered.counters, garbage));

        let failed = |source| StoreError::Io { path: root.clone(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let maintenance =
            Maintenance::new(Arc::clone(&shared), catalog, runtime, trim, recovered.missing).map_err(failed)?;
        let folder = Arc::clone(&shared);
        let eager = Arc::new(Eager::new());
        let threads = Arc::clone(&eager);
        let folding = std::thread::Builder::new()
            .name("store-fold".to_owned())
            .spawn(move || threads.run(|| folder.folding.run(&folder)));
        let threads = Mutex::new(vec![folding.map_err(failed)?]);
        let store = Self { handle: Arc::new(Handle { shared, eager: Arc::clone(&eager), threads }) };
        let maintaining = std::thread::Builder::new()
            .name("store-maintain".to_owned())
            .spawn(move || eager.run(|| maintenance.run()));
        store.handle.threads.lock().push(maintaining.map_err(failed)?);
        Ok(store)
    }

    /// Returns the last frame whose rows are all in segments: replay starts after it.
    pub fn checkpoint(&self) -> SequenceNumber {
        self.handle.shared.view.load().checkpoint
    }

    /// Makes rows visible, all at once. Frames come in ascending order of sequence, from one thread at a time.
    pub fn publish(&self, rows: Vec<Published>) {
        let shared = &self.handle.shared;
        let Some(last) = rows.last().map(|published| published.last) else { return };
        let at = (shared.clock)();
        let weighed = |rows: Published| Arc::new(TailBatch { bytes: memory_size(&rows.batch), at, rows });
        let batches: Vec<Arc<TailBatch>> = rows.into_iter().map(weighed).collect();
        shared.change(|view| {
            for batch in batches.iter().filter(|batch| batch.rows.batch.num_rows() > 0) {
                if let Some(tail) = view.tail_mut(batch.rows.signal.table()) {
                    tail.push(Arc::clone(batch));
                }
            }
            view.published = view.published.max(last);
        });
        shared.folding.push(batches);
        shared.flush_if_large();
    }

    /// Returns one consistent view of everything published so far: no gap and no duplicate between tail and segments.
    pub fn snapshot(&self) -> Snapshot {
        let shared = &self.handle.shared;
        Snapshot { view: shared.view.load_full(), files: Arc::clone(&shared.files), wanted: Arc::clone(&shared.wanted) }
    }

    /// Calls `visit` with the stored rows of every segment of `table` that reaches past `since`, oldest first, and returns how many
    /// segments could not be read. Rows before `since` may be among them; those of the tail are not. Blocks, and holds one segment in
    /// memory at a time.
    pub fn read_segments(&self, table: Table, since: UnixNanos, visit: &mut dyn FnMut(&RecordBatch)) -> usize {
        self.read_segments_within(table, Interval { from: since, to: UnixNanos::MAX }, visit)
    }

    /// Does what [`Self::read_segments`] does, for the segments that hold any of `within`.
    pub fn read_segments_within(&self, table: Table, within: Interval, visit: &mut dyn FnMut(&RecordBatch)) -> usize {
        let shared = &self.handle.shared;
        let mut unreadable = 0;
        let reaches = |record: &&SegmentRecord| record.times.to > within.from && record.times.from < within.to;
        for record in self.snapshot().segments(table).iter().filter(reaches) {
            let mut batches = Vec::new();
            match read(shared, record, &mut batches) {
                Ok(()) => batches.iter().for_each(&mut *visit),
                Err(error) => {
                    tracing::error!(%error, "segment could not be read");
                    unreadable += 1;
                }
            }
        }
        unreadable
    }

    /// Writes everything published so far into segments and returns the new checkpoint.
    ///
    /// # Errors
    /// A segment or the catalog could not be written; the rows stay in the tail and nothing is lost.
    pub async fn flush(&self) -> Result<SequenceNumber, StoreError> {
        self.ask(|requests, sender| requests.flush.push(sender)).await?
    }

    /// Does now what the maintenance thread does every so often: flush what is old or large enough, coalesce, merge, retire,
    /// remove files.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn maintain(&self) -> Result<(), StoreError> {
        self.ask(|requests, sender| requests.maintain.push(sender)).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(&mut Requests, oneshot::Sender<T>)) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut requests = self.handle.shared.requests.lock();
            if requests.ended {
                return Err(StoreError::Closed);
            }
            ask(&mut requests, sender);
        }
        self.handle.shared.wake.notify_one();
        receiver.await.map_err(|_| StoreError::Closed)
    }

    /// Returns the names of threads that ended although the store is open: what they do is not done any more.
    pub fn ended_threads(&self) -> Vec<String> {
        let threads = self.handle.threads.lock();
        let ended = threads.iter().filter(|thread| thread.is_finished());
        ended.filter_map(|thread| thread.thread().name().map(str::to_owned)).collect()
    }

    /// Lets folding and flushing have the core only after whatever else wants it: for when requests are taken, and no rows of before are waited
    /// for any more.
    pub fn give_way(&self) {
        self.handle.eager.give_way();
    }

    /// Waits until everything published so far has been folded and is seen by new snapshots.
    pub async fn folded(&self) {
        let published = self.handle.shared.view.load().published;
        let done = self.handle.shared.folding.watch(published);
        // An error says that the store was closed: nothing more will be folded.
        let _ = done.await;
    }

    /// Returns the bytes of memory that rows take which are in no segment yet.
    pub fn tail_bytes(&self) -> u64 {
        self.handle.shared.view.load().tail_bytes()
    }

    /// Returns how much of [`Self::tail_bytes`] nobody has begun to get rid of: the flush under way counts with what it has not
    /// written yet. Falls evenly, where the tail falls in steps.
    pub fn unwritten_bytes(&self) -> u64 {
        self.handle.shared.unwritten_bytes()
    }

    /// Returns counters and gauges, without I/O.
    pub fn status(&self) -> StoreStatus {
        let shared = &self.handle.shared;
        let mut status = shared.counters.lock().clone();
        let view = shared.view.load();
        for (_, tail) in view.tails() {
            status.tail_rows += tail.rows;
            status.tail_bytes += tail.bytes;
            status.tail_batches += tail.batches;
        }
        for table in Table::ALL {
            let segments = view.segments(table);
            status.segments.push((table, segments.len() as u64, segments.iter().map(|s| s.record.bytes).sum()));
        }
        status.unwritten_bytes = shared.unwritten_bytes();
        status.published = view.published;
        status.checkpoint = view.checkpoint;
        status.folded = shared.folding.folded();
        status.fold_lag = shared.folding.lag();
        status
    }

    /// Flushes, stops the threads and waits for them. Closing again is no error.
    ///
    /// # Errors
    /// The last flush failed; the journal still holds what it would have written.
    pub async fn close(&self) -> Result<(), StoreError> {
        let outcome = match self.ask(|requests, sender| requests.close = Some(sender)).await {
            Ok(outcome) => outcome,
            Err(_) => return Ok(()),
        };
        self.handle.join();
        outcome
    }
}

impl Handle {
    /// Waits for the threads, which have been told to stop.
    fn join(&self) {
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The callbacks run on these threads and may hold the last clone.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut requests = self.shared.requests.lock();
        requests.abandon = true;
        drop(requests);
        self.shared.wake.notify_one();
        self.shared.folding.stop();
        self.join();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("status", &self.status()).finish()
    }
}
