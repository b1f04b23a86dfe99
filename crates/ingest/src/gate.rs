//! Whether requests may come in at all right now, and if not, why.
//!
//! *Invariants.* `Poisoned` is final; `Draining` ends only in `Poisoned`. The rest follows the store and the journal.
//!
//! *Cost.* An atomic load a request while open; the lock and the wake-ups are paid on changes only.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::refusal::{Reason, Refusal};

/// Whether requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Requests are taken.
    Ready,
    /// The journal is being read after a start.
    Replaying,
    /// The store's tail is over its budget: for a moment, requests wait.
    TailFull,
    /// The disk is full.
    DiskFull,
    /// The process is going down.
    Draining,
    /// The journal failed: only a restart helps.
    Poisoned,
}

impl Readiness {
    const ALL: [Self; 6] =
        [Self::Ready, Self::Replaying, Self::TailFull, Self::DiskFull, Self::Draining, Self::Poisoned];

    /// Says whether the instance should be sent requests. A full tail is passing and does not count against it.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::TailFull)
    }

    /// Returns why not, in words fit for `/readyz`; empty where ready.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ready | Self::TailFull => "",
            Self::Replaying => "the journal is being replayed",
            Self::DiskFull => "the disk is full: free some space, or set `retention` lower",
            Self::Draining => "shutting down",
            Self::Poisoned => "the journal failed and takes no more writes: restart to recover",
        }
    }

    fn refusal(self) -> Option<Reason> {
        match self {
            Self::Ready => None,
            Self::Replaying => Some(Reason::Replaying),
            Self::TailFull => Some(Reason::Tail),
            Self::DiskFull => Some(Reason::DiskFull),
            Self::Draining => Some(Reason::Draining),
            Self::Poisoned => Some(Reason::Poisoned),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    fast: AtomicU8,
    state: watch::Sender<Readiness>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { fast: AtomicU8::new(Readiness::Replaying as u8), state: watch::Sender::new(Readiness::Replaying) }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        // Relaxed: a request that slips through as the gate closes is one that came just before.
        Readiness::ALL[usize::from(self.fast.load(Ordering::Relaxed))]
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Readiness> {
        self.state.subscribe()
    }

    /// Moves to `next` where `allowed` says that the present state may be left for it.
    fn move_to(&self, next: Readiness, allowed: impl Fn(Readiness) -> bool) -> bool {
        self.state.send_if_modified(|now| {
            let moves = *now != next && allowed(*now);
            if moves {
                *now = next;
                self.fast.store(next as u8, Ordering::Relaxed);
            }
            moves
        })
    }

    pub(crate) fn replayed(&self) {
        self.move_to(Readiness::Ready, |now| now == Readiness::Replaying);
    }

    /// Follows what the store says; true where that changed something.
    pub(crate) fn load(&self, tail_full: bool, disk_full: bool) -> bool {
        let next = match (disk_full, tail_full) {
            (true, _) => Readiness::DiskFull,
            (false, true) => Readiness::TailFull,
            (false, false) => Readiness::Ready,
        };
        self.move_to(next, |now| matches!(now, Readiness::Ready | Readiness::TailFull | Readiness::DiskFull))
    }

    pub(crate) fn drain(&self) {
        self.move_to(Readiness::Draining, |now| now != Readiness::Poisoned);
    }

    /// True the first time.
    pub(crate) fn poison(&self) -> bool {
        self.move_to(Readiness::Poisoned, |_| true)
    }

    /// Returns once requests may pass. Waits while the tail is full, until `deadline`; nothing else passes soon enough to wait for.
    pub(crate) async fn pass(&self, deadline: Instant) -> Result<(), Refusal> {
        if self.readiness() == Readiness::TailFull {
            let mut watch = self.watch();
            let _ = timeout_at(deadline, watch.wait_for(|now| *now != Readiness::TailFull)).await;
        }
        self.readiness().refusal().map_or(Ok(()), |reason| Err(Refusal::overloaded(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_final_and_draining_is_not_undone_by_a_store_that_recovers() {
        let gate = Gate::new();
        assert!(!gate.load(false, true), "replay goes on whatever the store says");
        gate.replayed();
        assert_eq!(gate.readiness(), Readiness::Ready);
        assert!(gate.load(true, true));
        assert_eq!(gate.readiness(), Readiness::DiskFull);
        gate.drain();
        assert!(!gate.load(false, false));
        assert_eq!(gate.readiness(), Readiness::Draining);
        assert!(gate.poison());
        assert!(!gate.poison());
        gate.drain();
        assert_eq!(gate.readiness(), Readiness::Poisoned);
    }

    #[test]
    fn the_fast_word_reads_back_every_state() {
        for (index, state) in Readiness::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index);
        }
    }
}
