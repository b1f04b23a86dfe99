//! Rows that turned out larger than what was reserved for them: who may hold them, and who waits.
//!
//! *Why.* What a request becomes is known once it is decoded, and two bytes on the wire may become hundreds. Were it only stated, as many
//! requests as were admitted could each hold far more than they were admitted with.
//!
//! *Invariants.*
//! - What is free covers whoever needs it. All that is held beyond is an eighth of the capacity together, or one request's: one that is over
//!   alone always goes on.
//! - Whoever is over waits for the committer and for nobody else: it has its rows, or a turn to decode them with, and wants neither turn nor memory
//!   any more. So it ends, whatever others do.
//! - Whoever waits in this line, with a turn to decode in hand, waits for those who are over, and so never for one who waits for a turn.
//! - Who waits is not counted: its rows are bounded by how many turns there are.
//!
//! *Cost.* A lock a request, as to settle.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Budget, LITTLE, OnLeave, Reservation, State};
use crate::connection::Peer;

/// One who waits to be over.
#[derive(Debug)]
pub(super) struct Over {
    peer: Peer,
    more: i64,
    /// Dropped by a waiter that gave up.
    granted: oneshot::Sender<Reservation>,
}

impl Budget {
    /// Returns how much of `more` bytes would be over if they were held now; `None` where they may not be.
    fn excess(&self, state: &State, more: i64) -> Option<i64> {
        if more <= state.free {
            return Some(0);
        }
        (state.excess == 0 || state.excess + more <= self.capacity / LITTLE).then_some(more)
    }

    fn exceed(self: &Arc<Self>, state: &mut State, peer: Peer, more: i64, excess: i64) -> Reservation {
        state.free -= more;
        state.excess += excess;
        Reservation { budget: Arc::clone(self), peer, bytes: more, underway: 0, excess }
    }

    /// Serves those in line, in order, as far as it goes.
    pub(super) fn serve_over(self: &Arc<Self>, state: &mut State) {
        while let Some(first) = state.over.front() {
            let (more, gone) = (first.more, first.granted.is_closed());
            let excess = self.excess(state, more);
            if !gone && excess.is_none() {
                return;
            }
            let Some(Over { peer, granted, .. }) = state.over.pop_front() else { return };
            let Some(excess) = excess.filter(|_| !gone) else { continue };
            if let Err(mut unclaimed) = granted.send(self.exceed(state, peer, more, excess)) {
                // It gave up this very moment. Dropping would lock again: account for it here.
                state.free += std::mem::take(&mut unclaimed.bytes);
                state.excess -= std::mem::take(&mut unclaimed.excess);
            }
        }
    }
}

impl Reservation {
    fn lacks(&self, bytes: usize) -> i64 {
        i64::try_from(bytes).unwrap_or(i64::MAX).saturating_sub(self.bytes)
    }

    /// States that exactly `bytes` are held from here on, where that much is free, or may be held beyond that and the caller `may_exceed`. False
    /// where not, and nothing changes.
    pub(crate) fn try_cover(&mut self, bytes: usize, may_exceed: bool) -> bool {
        let more = self.lacks(bytes);
        if self.excess > 0 {
            // It is over, by as much as it turns out to be.
            self.exceed_by(more);
            return true;
        }
        if more <= 0 {
            self.settle(bytes);
            return true;
        }
        let budget = Arc::clone(&self.budget);
        let mut state = budget.state.lock();
        let Some(excess) = budget.excess(&state, more) else { return false };
        if excess > 0 && !(may_exceed && state.over.is_empty()) {
            return false;
        }
        self.absorb(budget.exceed(&mut state, self.peer, more, excess));
        true
    }

    /// The same, waiting in line until `deadline`. Whoever calls this has a turn to decode, and no excess yet.
    pub(crate) async fn cover(&mut self, bytes: usize, deadline: Instant) -> bool {
        if self.try_cover(bytes, true) {
            return true;
        }
        let budget = Arc::clone(&self.budget);
        let (granted, wait) = oneshot::channel();
        budget.state.lock().over.push_back(Over { peer: self.peer, more: self.lacks(bytes), granted });
        // Whoever gives up lets those behind have what it stood in front of.
        let _left_the_line = OnLeave(&budget);
        // Between the failed attempt and the queueing it may have become possible; nobody else would look.
        budget.give_back(0, 0);
        match timeout_at(deadline, wait).await {
            Ok(Ok(granted)) => {
                self.absorb(granted);
                true
            }
            _ => false,
        }
    }

    /// States that `more` are held by one that is over, or fewer, and perhaps is not any more.
    fn exceed_by(&mut self, more: i64) {
        {
            let mut state = self.budget.state.lock();
            let over = if more <= state.free { 0 } else { (self.excess + more).max(0) };
            state.excess += over - self.excess;
            self.excess = over;
        }
        self.bytes += more;
        self.budget.give_back(-more, 0);
    }

    fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.excess += std::mem::take(&mut other.excess);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEER: Peer = Peer { number: 0, stream_bytes: 100, unread_max: 800, quiet: false };

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn reserve(budget: &Arc<Budget>, bytes: usize) -> Reservation {
        budget.try_reserve(PEER, bytes).expect("there is room")
    }

    /// Has `one` wait to be over.
    async fn line_up(budget: &Arc<Budget>, mut one: Reservation, bytes: usize) -> tokio::task::JoinHandle<Reservation> {
        let before = budget.state.lock().over.len();
        let waits = tokio::spawn(async move {
            assert!(one.cover(bytes, soon()).await, "its turn comes");
            one
        });
        while budget.state.lock().over.len() == before {
            tokio::task::yield_now().await;
        }
        waits
    }

    #[tokio::test]
    async fn one_alone_may_be_over_by_anything_and_the_next_waits_until_it_is_gone() {
        let budget = Budget::new(100);
        let (mut first, second, third) = (reserve(&budget, 30), reserve(&budget, 30), reserve(&budget, 30));
        assert!(first.try_cover(1_000, true));
        assert_eq!(budget.used(), 1_060);
        let second = line_up(&budget, second, 500).await;
        let third = line_up(&budget, third, 45).await;
        let mut late = Reservation { budget: Arc::clone(&budget), peer: PEER, bytes: 0, underway: 0, excess: 0 };
        assert!(!late.try_cover(1, true), "nothing is free, and others are over and in line");
        drop(first);
        let second = second.await.expect("does not panic");
        assert_eq!(budget.used(), 530, "one at a time");
        assert!(!third.is_finished());
        drop(second);
        drop(third.await.expect("does not panic"));
        let state = budget.state.lock();
        assert_eq!((state.free, state.excess), (100, 0));
    }

    #[tokio::test]
    async fn what_is_free_covers_first_and_a_little_more_is_nobodys_hindrance() {
        let budget = Budget::new(80);
        let (mut one, mut two, mut three) = (reserve(&budget, 20), reserve(&budget, 20), reserve(&budget, 20));
        assert!(one.try_cover(40, false), "as much is free");
        assert_eq!(budget.state.lock().excess, 0);
        assert!(!two.try_cover(25, false));
        assert!(two.try_cover(25, true) && three.try_cover(25, true), "an eighth together");
        assert_eq!(budget.state.lock().excess, 10);
        let mut four = Reservation { budget: Arc::clone(&budget), peer: PEER, bytes: 0, underway: 0, excess: 0 };
        assert!(!four.try_cover(1, true));
        assert!(!four.cover(1, Instant::now() + Duration::from_millis(20)).await);
        assert!(three.try_cover(5, false), "to hold less is always possible");
        assert_eq!(budget.state.lock().free, 10);
    }

    #[tokio::test]
    async fn who_is_over_before_it_is_decoded_is_so_by_as_much_as_it_turns_out_to_be() {
        let budget = Budget::new(100);
        let (mut first, second) = (reserve(&budget, 30), reserve(&budget, 30));
        assert!(first.try_cover(500, true));
        let second = line_up(&budget, second, 60).await;
        assert!(first.try_cover(800, false), "it is over already");
        assert_eq!((budget.used(), budget.state.lock().excess), (830, 770));
        assert!(first.try_cover(40, false));
        assert_eq!(budget.state.lock().excess, 0);
        drop((first, second.await.expect("does not panic")));
        let state = budget.state.lock();
        assert_eq!((state.free, state.excess), (100, 0));
    }

    #[tokio::test]
    async fn who_leaves_the_line_is_passed_over_and_nothing_is_lost() {
        let budget = Budget::new(100);
        let (mut first, second, third) = (reserve(&budget, 30), reserve(&budget, 30), reserve(&budget, 30));
        assert!(first.try_cover(1_000, true));
        let second = line_up(&budget, second, 500).await;
        let third = line_up(&budget, third, 500).await;
        second.abort();
        assert!(second.await.expect_err("left").is_cancelled());
        drop(first);
        drop(third.await.expect("does not panic"));
        let state = budget.state.lock();
        assert_eq!((state.free, state.excess, state.over.len()), (100, 0, 0));
    }
}
