//! The thread that folds every published batch, once and in order, off the ack path.
//!
//! *Invariants.*
//! - A batch is folded before it can be flushed. A *cut* is a frame at which the fold gave its rows up: a flush ends at a cut and
//!   writes the aggregates given up by then, so rows and aggregates of a frame reach the catalog in one transaction, or
//!   neither does. The fold cuts by itself wherever enough rows for one part of a flush have come together.
//! - A fold that panics on one batch misses that batch and is counted; it stops neither flushing nor the next start, which
//!   would meet the same batch again.
//! - Rows that the fold gave up are in the view as tail rows of their table from that very swap until their segment is.
//!
//! *Locks.* `fold`, then the view's or `queue`; never the other way round.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use plimsoll_model::SequenceNumber;
use tokio::sync::oneshot;

use crate::fold::Fold;
use crate::layout::ROW_GROUP_ROWS;
use crate::shared::Shared;
use crate::tail::TailBatch;
use crate::view::Taken;

/// The rows of the fold are shown anew at most this often, and take at most a twentieth of the thread's time.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);
const SHOW_SHARE: u32 = 20;

/// A part of a flush ends when it lacks less than this to a whole row group: another request might not fit.
const ROWS_SPARE: usize = 2_000;

pub(crate) struct Folding {
    queue: Mutex<Queue>,
    ready: Condvar,
    advanced: Condvar,
    fold: Mutex<Held>,
}

struct Held {
    fold: Box<dyn Fold>,
    /// The last frame folded: what [`Folding::cut`] goes by.
    folded: SequenceNumber,
    /// Rows and bytes since the last cut.
    rows: usize,
    bytes: u64,
}

impl Held {
    /// Takes the fold's rows and moves them in the view from those it holds to those it gave up. Returns the last frame
    /// that they include.
    fn cut(&mut self, shared: &Shared) -> SequenceNumber {
        let last = self.folded;
        (self.rows, self.bytes) = (0, 0);
        let rows = self.fold.take().into_iter().filter(|(_, rows)| rows.num_rows() > 0);
        let rows: Vec<Taken> = rows.map(|(table, rows)| Taken { last, table, rows }).collect();
        shared.change(|view| {
            if !rows.is_empty() {
                Arc::make_mut(&mut view.taken).extend(rows);
            }
            view.pending = Vec::new();
        });
        last
    }
}

struct Queue {
    /// With when each came.
    batches: VecDeque<(Instant, Arc<TailBatch>)>,
    folded: SequenceNumber,
    /// Where flushes are to end, oldest first.
    cuts: VecDeque<SequenceNumber>,
    /// The last frame whose share of the fold is in the view.
    shown: SequenceNumber,
    waiters: Vec<(SequenceNumber, oneshot::Sender<()>)>,
    stop: bool,
    ended: bool,
}

impl Queue {
    fn answer(&mut self) {
        let shown = self.shown;
        for (_, waiter) in self.waiters.extract_if(.., |(target, _)| *target <= shown) {
            // Who asked may have gone.
            let _ = waiter.send(());
        }
    }

    fn awaited(&self) -> bool {
        self.waiters.iter().any(|(target, _)| *target <= self.folded)
    }
}

enum Step {
    Fold(Arc<TailBatch>),
    Show,
    Stop,
}

impl Folding {
    pub(crate) fn new(fold: Box<dyn Fold>, checkpoint: SequenceNumber) -> Self {
        Self {
            queue: Mutex::new(Queue {
                batches: VecDeque::new(),
                folded: checkpoint,
                cuts: VecDeque::new(),
                shown: checkpoint,
                waiters: Vec::new(),
                stop: false,
                ended: false,
            }),
            ready: Condvar::new(),
            advanced: Condvar::new(),
            fold: Mutex::new(Held { fold, folded: checkpoint, rows: 0, bytes: 0 }),
        }
    }

    pub(crate) fn push(&self, batches: impl IntoIterator<Item = Arc<TailBatch>>) {
        let came = Instant::now();
        self.queue.lock().batches.extend(batches.into_iter().map(|batch| (came, batch)));
        self.ready.notify_one();
    }

    pub(crate) fn folded(&self) -> SequenceNumber {
        self.queue.lock().folded
    }

    /// Returns how long the batch at hand has waited; zero where all are folded.
    pub(crate) fn lag(&self) -> Duration {
        self.queue.lock().batches.front().map_or(Duration::ZERO, |(came, _)| came.elapsed())
    }

    /// Says whether a part of a flush is whole.
    pub(crate) fn has_cut(&self) -> bool {
        !self.queue.lock().cuts.is_empty()
    }

    /// Returns the last frame folded, and where flushes before it will end.
    pub(crate) fn cuts(&self) -> (SequenceNumber, Vec<SequenceNumber>) {
        let queue = self.queue.lock();
        (queue.folded, queue.cuts.iter().copied().collect())
    }

    /// Asks to be told once everything up to `target` is folded and shown.
    pub(crate) fn watch(&self, target: SequenceNumber) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.queue.lock();
        if !queue.ended {
            queue.waiters.push((target, sender));
            queue.answer();
            self.ready.notify_one();
        }
        receiver
    }

    /// Blocks until everything up to `target` is folded; false where the thread ended before.
    pub(crate) fn wait(&self, target: SequenceNumber) -> bool {
        let mut queue = self.queue.lock();
        while queue.folded < target && !queue.ended {
            self.advanced.wait(&mut queue);
        }
        queue.folded >= target
    }

    pub(crate) fn stop(&self) {
        self.queue.lock().stop = true;
        self.ready.notify_one();
    }

    /// Returns where the next flush ends: at the first cut; where there is none, at the last frame folded if the flush is to
    /// `drain` the tail.
    pub(crate) fn cut(&self, shared: &Shared, drain: bool) -> Option<SequenceNumber> {
        let first = || self.queue.lock().cuts.front().copied();
        if !drain || first().is_some() {
            return first();
        }
        let mut held = self.fold.lock();
        // The fold may have cut meanwhile.
        first().or_else(|| Some(held.cut(shared)))
    }

    /// Forgets cuts up to a frame that is in segments.
    pub(crate) fn flushed(&self, checkpoint: SequenceNumber) {
        self.queue.lock().cuts.retain(|cut| *cut > checkpoint);
    }

    /// The thread's work, until it is stopped.
    pub(crate) fn run(&self, shared: &Shared) {
        let _end = End(self);
        let mut unshown = false;
        let mut show_at = Instant::now();
        loop {
            match self.next(unshown, show_at) {
                Step::Stop => return,
                Step::Fold(batch) => {
                    let mut held = self.fold.lock();
                    if batch.rows.batch.num_rows() > 0 {
                        let fold = &mut held.fold;
                        if catch_unwind(AssertUnwindSafe(|| fold.fold(&batch.rows))).is_err() {
                            shared.counters.lock().fold_failures += 1;
                            tracing::error!(
                                frame = %batch.rows.sequence,
                                rows = batch.rows.batch.num_rows(),
                                "folding failed on a batch, which is a defect: its rows are stored, and missing in the aggregates"
                            );
                        }
                        unshown = true;
                    }
                    held.folded = batch.rows.last;
                    held.rows += batch.rows.batch.num_rows();
                    held.bytes += batch.bytes;
                    let enough =
                        held.bytes >= shared.options.encoder_bytes as u64 || held.rows + ROWS_SPARE >= ROW_GROUP_ROWS;
                    let cut = enough.then(|| held.cut(shared));
                    unshown &= cut.is_none();
                    let mut queue = self.queue.lock();
                    queue.cuts.extend(cut);
                    queue.batches.pop_front();
                    queue.folded = batch.rows.last;
                    drop(held);
                    if !unshown {
                        queue.shown = batch.rows.last;
                        queue.answer();
                    }
                    drop(queue);
                    self.advanced.notify_all();
                    if cut.is_some() {
                        shared.flush_if_large();
                    }
                }
                Step::Show => {
                    let began = Instant::now();
                    let held = self.fold.lock();
                    let rows: Vec<_> =
                        held.fold.pending().into_iter().filter(|(_, rows)| rows.num_rows() > 0).collect();
                    let folded = held.folded;
                    shared.change(|view| view.pending = rows);
                    drop(held);
                    unshown = false;
                    show_at = Instant::now() + SHOW_INTERVAL.max(began.elapsed() * SHOW_SHARE);
                    let mut queue = self.queue.lock();
                    queue.shown = folded;
                    queue.answer();
                }
            }
        }
    }

    fn next(&self, unshown: bool, show_at: Instant) -> Step {
        let mut queue = self.queue.lock();
        loop {
            if queue.stop {
                return Step::Stop;
            }
            if unshown && (queue.awaited() || Instant::now() >= show_at) {
                return Step::Show;
            }
            if let Some((_, batch)) = queue.batches.front() {
                return Step::Fold(Arc::clone(batch));
            }
            if unshown {
                self.ready.wait_until(&mut queue, show_at);
            } else {
                self.ready.wait(&mut queue);
            }
        }
    }
}

/// Tells those who wait that nothing more will come, also where the fold panicked.
struct End<'a>(&'a Folding);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("folding stopped for good: rows are kept in the journal, restart to go on");
        }
        let mut queue = self.0.queue.lock();
        queue.ended = true;
        queue.waiters.clear();
        drop(queue);
        self.0.advanced.notify_all();
    }
}
