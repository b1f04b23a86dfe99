//! What is kept between looks of every deploy that is judged, within one bound.
//!
//! *Why those that are there stay.* Deploys come up in turn, one round after the other. Where there is not room for all, making room by
//! dropping what was not used for longest would drop each shortly before its turn. So whoever has room keeps it until its deploy is
//! closed or suspected, and whoever finds none is judged from the whole at every look: dearer, and never otherwise.
//!
//! *Invariants.* What is kept never takes more than the bound for longer than a look. What is dropped gives its room back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use plimsoll_verdict::Session;

/// The bound, and what is kept within it.
#[derive(Debug)]
pub(crate) struct Sessions {
    bytes_max: usize,
    bytes: AtomicUsize,
    without_room: AtomicU64,
}

/// The state of one deploy between looks.
#[derive(Debug)]
pub(crate) struct Kept {
    state: Mutex<State>,
}

/// What whoever judges holds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: Session,
    /// What is counted for it.
    bytes: usize,
    all: Arc<Sessions>,
}

impl Sessions {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, bytes: AtomicUsize::new(0), without_room: AtomicU64::new(0) })
    }

    /// Begins a deploy's.
    pub(crate) fn begin(self: &Arc<Self>) -> Arc<Kept> {
        let state = State { session: Session::default(), bytes: 0, all: Arc::clone(self) };
        Arc::new(Kept { state: Mutex::new(state) })
    }

    /// Returns the bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed, as everywhere here: sums, by which nothing else is ordered.
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns how many looks ended with nothing kept for lack of room.
    pub(crate) fn without_room(&self) -> u64 {
        self.without_room.load(Ordering::Relaxed)
    }
}

impl Kept {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Counts what is kept after a look, and drops it where there is no room.
    pub(crate) fn settle(&mut self) {
        self.give_back();
        let bytes = self.session.bytes();
        let all = self.all.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes = bytes;
        if bytes > 0 && all > self.all.bytes_max {
            self.all.without_room.fetch_add(1, Ordering::Relaxed);
            self.give_back();
            self.session = Session::default();
        }
    }

    fn give_back(&mut self) {
        self.all.bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.give_back();
    }
}
