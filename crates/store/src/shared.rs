//! What the store's threads and its callers share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use plimsoll_model::SequenceNumber;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::files::SegmentFiles;
use crate::folding::Folding;
use crate::options::{Clock, StoreOptions};
use crate::status::StoreStatus;
use crate::view::{Garbage, View};
use crate::wanted::Wanted;
use crate::written::Written;

pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) clock: Clock,
    pub(crate) files: Arc<dyn SegmentFiles>,
    /// Read without a lock; changed through [`Self::change`] only.
    pub(crate) view: ArcSwap<View>,
    /// Held while a view is replaced: by the publisher, the folding and the maintenance thread.
    changing: Mutex<()>,
    pub(crate) folding: Folding,
    pub(crate) requests: Mutex<Requests>,
    /// Wakes the maintenance thread.
    pub(crate) wake: Condvar,
    /// The counters; gauges are filled in when asked for.
    pub(crate) counters: Mutex<StoreStatus>,
    pub(crate) garbage: Garbage,
    /// The part of the tail that a flush under way has written.
    pub(crate) written: Written,
    /// Attribute keys that queries asked for.
    pub(crate) wanted: Arc<Wanted>,
}

/// What the maintenance thread is asked to do.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) flush: Vec<oneshot::Sender<Result<SequenceNumber, StoreError>>>,
    pub(crate) maintain: Vec<oneshot::Sender<()>>,
    pub(crate) close: Option<oneshot::Sender<Result<(), StoreError>>>,
    /// The tail has grown past its limit.
    pub(crate) large: bool,
    /// Stop without a last flush: the journal has it all.
    pub(crate) abandon: bool,
    /// The thread has ended.
    pub(crate) ended: bool,
}

impl Shared {
    pub(crate) fn new(
        options: StoreOptions,
        clock: Clock,
        files: Arc<dyn SegmentFiles>,
        view: View,
        folding: Folding,
        counters: StoreStatus,
        garbage: Garbage,
    ) -> Self {
        Self {
            options,
            clock,
            files,
            view: ArcSwap::from_pointee(view),
            changing: Mutex::new(()),
            folding,
            requests: Mutex::default(),
            wake: Condvar::new(),
            counters: Mutex::new(counters),
            garbage,
            written: Written::default(),
            wanted: Arc::default(),
        }
    }

    /// Has the tail flushed if it is too large and a part of it is whole: without one there would be nothing to do yet.
    pub(crate) fn flush_if_large(&self) {
        if self.view.load().tail_bytes() < self.options.tail_bytes_flush as u64 || !self.folding.has_cut() {
            return;
        }
        let mut requests = self.requests.lock();
        if !requests.large {
            requests.large = true;
            self.wake.notify_one();
        }
    }

    /// Returns what the rows weigh that are in no segment, seen or unseen.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.view.load().tail_bytes().saturating_sub(self.written.bytes())
    }

    /// Replaces the view by a changed copy, in one swap.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let _one_at_a_time = self.changing.lock();
        let mut view = View::clone(&self.view.load());
        let answer = change(&mut view);
        self.view.store(Arc::new(view));
        answer
    }
}
