//! The thread that folds every published batch, once and in order, off the ack path.
//!
//! *Invariants.*
//! - A batch is folded before it can be flushed: a flush cuts at the last frame folded and takes the fold's rows in the same
//!   step, so rows and aggregates of a frame reach the catalog in one transaction, or neither does.
//! - A fold that panics on one batch misses that batch and is counted; it stops neither flushing nor the next start, which
//!   would meet the same batch again.
//! - Rows that the fold gave up are in the view as tail rows of their table from that very swap until their segment is.
//!
//! *Locks.* `fold`, then the view's, then `queue`; never the other way round.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use plimsoll_model::SequenceNumber;
use tokio::sync::oneshot;

use crate::fold::Fold;
use crate::shared::Shared;
use crate::tail::TailBatch;

/// The rows of the fold are shown anew at most this often, and take at most a twentieth of the thread's time.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);
const SHOW_SHARE: u32 = 20;

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
}

struct Queue {
    batches: VecDeque<Arc<TailBatch>>,
    folded: SequenceNumber,
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
                shown: checkpoint,
                waiters: Vec::new(),
                stop: false,
                ended: false,
            }),
            ready: Condvar::new(),
            advanced: Condvar::new(),
            fold: Mutex::new(Held { fold, folded: checkpoint }),
        }
    }

    pub(crate) fn push(&self, batches: impl IntoIterator<Item = Arc<TailBatch>>) {
        self.queue.lock().batches.extend(batches);
        self.ready.notify_one();
    }

    pub(crate) fn folded(&self) -> SequenceNumber {
        self.queue.lock().folded
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

    /// Takes the fold's rows, moves them in the view from those it holds to those it gave up, and returns the last frame
    /// that they include.
    pub(crate) fn cut(&self, shared: &Shared) -> SequenceNumber {
        let mut held = self.fold.lock();
        let rows: Vec<_> = held.fold.take().into_iter().filter(|(_, rows)| rows.num_rows() > 0).collect();
        shared.change(|view| {
            if !rows.is_empty() {
                Arc::make_mut(&mut view.taken).extend(rows);
            }
            view.pending = Vec::new();
        });
        held.folded
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
                    held.folded = batch.last;
                    drop(held);
                    let mut queue = self.queue.lock();
                    queue.batches.pop_front();
                    queue.folded = batch.last;
                    if !unshown {
                        queue.shown = batch.last;
                        queue.answer();
                    }
                    drop(queue);
                    self.advanced.notify_all();
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
            if let Some(batch) = queue.batches.front() {
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
