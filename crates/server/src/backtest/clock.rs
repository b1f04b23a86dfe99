//! Event time as a clock: it only goes forward, and only when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::UnixNanos;

#[derive(Debug, Default)]
pub(super) struct EventClock(AtomicU64);

impl EventClock {
    pub(super) fn now(&self) -> UnixNanos {
        // Relaxed: one task sets it, and whatever it starts afterwards is ordered by the start itself.
        UnixNanos(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn advance(&self, to: UnixNanos) {
        // Relaxed: pairs with the load above.
        self.0.fetch_max(to.0, Ordering::Relaxed);
    }
}
