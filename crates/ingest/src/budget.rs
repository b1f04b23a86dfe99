//! The in-flight budget: how many bytes requests and their rows may take between the first body byte and the ack.
//!
//! *Invariants.*
//! - Reserved bytes never exceed the capacity through [`Budget::reserve`] and [`Reservation::grow`]; only
//!   [`Reservation::settle`], which states what is already held, may pass it, and then nothing is granted until it is
//!   paid back.
//! - Waiters are served first come, first served, so that a flood on one connection cannot starve another. Reservations that
//!   grow come before new ones: what was begun is finished first.
//! - A reservation is given back when it is dropped, whatever ended the request.
//! - A need above the whole capacity waits until it can have all of it, and then runs alone.
//!
//! *Cost.* One uncontended lock a call, a few calls a request, none a record.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    capacity: i64,
    state: CachePadded<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Below zero where settled reservations turned out larger than they were taken for.
    free: i64,
    growing: VecDeque<Waiter>,
    arriving: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    need: i64,
    /// Dropped by a waiter that gave up.
    granted: oneshot::Sender<Reservation>,
}

/// Bytes taken from a [`Budget`], until dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: i64,
}

impl Budget {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        let state = State { free: capacity, growing: VecDeque::new(), arriving: VecDeque::new() };
        Arc::new(Self { capacity, state: CachePadded::new(Mutex::new(state)) })
    }

    /// Returns the bytes taken now.
    pub(crate) fn used(&self) -> u64 {
        u64::try_from(self.capacity - self.state.lock().free).unwrap_or(0)
    }

    /// Takes `bytes`, at once or not at all.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.take_now(bytes, false)
    }

    /// Takes `bytes`; waits in line for them until `deadline`.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize, deadline: Instant) -> Option<Reservation> {
        match self.take_now(bytes, false) {
            Some(taken) => Some(taken),
            None => self.wait(bytes, false, deadline).await,
        }
    }

    fn need(&self, bytes: usize) -> i64 {
        i64::try_from(bytes).unwrap_or(i64::MAX).min(self.capacity)
    }

    fn take_now(self: &Arc<Self>, bytes: usize, growing: bool) -> Option<Reservation> {
        let need = self.need(bytes);
        let mut state = self.state.lock();
        let in_line = !state.growing.is_empty() || (!growing && !state.arriving.is_empty());
        if in_line || state.free < need {
            return None;
        }
        state.free -= need;
        Some(Reservation { budget: Arc::clone(self), bytes: need })
    }

    async fn wait(self: &Arc<Self>, bytes: usize, growing: bool, deadline: Instant) -> Option<Reservation> {
        let (granted, wait) = oneshot::channel();
        let waiter = Waiter { need: self.need(bytes), granted };
        {
            let mut state = self.state.lock();
            if growing {
                state.growing.push_back(waiter);
            } else {
                state.arriving.push_back(waiter);
            }
        }
        // Whoever gives up, cancelled or late, lets those behind have what it stood in front of.
        let _left_the_line = OnLeave(self);
        // Between the failed attempt and the queueing room may have come free; nobody else would look.
        self.give_back(0);
        let granted = timeout_at(deadline, wait).await;
        granted.ok()?.ok()
    }

    /// Returns `bytes` and serves those in line, in order, as far as it goes.
    fn give_back(self: &Arc<Self>, bytes: i64) {
        let mut state = self.state.lock();
        state.free += bytes;
        loop {
            let State { free, growing, arriving } = &mut *state;
            let line = if growing.is_empty() { arriving } else { growing };
            let Some(first) = line.front() else { return };
            if !first.granted.is_closed() && first.need > *free {
                return;
            }
            let Some(Waiter { need, granted }) = line.pop_front() else { return };
            if granted.is_closed() {
                continue;
            }
            *free -= need;
            if let Err(mut unclaimed) = granted.send(Reservation { budget: Arc::clone(self), bytes: need }) {
                // It gave up this very moment. Dropping would lock again: account for it here.
                *free += need;
                unclaimed.bytes = 0;
            }
        }
    }
}

struct OnLeave<'a>(&'a Arc<Budget>);

impl Drop for OnLeave<'_> {
    fn drop(&mut self) {
        self.0.give_back(0);
    }
}

impl Reservation {
    /// Takes `more` bytes, at once or not at all.
    pub(crate) fn try_grow(&mut self, more: usize) -> bool {
        let Some(mut taken) = self.budget.take_now(self.room_for(more), true) else { return false };
        self.bytes += std::mem::take(&mut taken.bytes);
        true
    }

    /// No request may wait for what it holds itself.
    fn room_for(&self, more: usize) -> usize {
        more.min(usize::try_from(self.budget.capacity - self.bytes).unwrap_or(0))
    }

    /// Takes `more` bytes; waits for them until `deadline`, ahead of new requests. False where they could not be had.
    pub(crate) async fn grow(&mut self, more: usize, deadline: Instant) -> bool {
        let more = self.room_for(more);
        let taken = match self.budget.take_now(more, true) {
            Some(taken) => Some(taken),
            None => self.budget.wait(more, true, deadline).await,
        };
        let Some(mut taken) = taken else { return false };
        self.bytes += std::mem::take(&mut taken.bytes);
        true
    }

    /// Hands over what is held, to whoever outlives this; what is left holds nothing.
    pub(crate) fn lend(&mut self) -> Self {
        Self { budget: Arc::clone(&self.budget), bytes: std::mem::take(&mut self.bytes) }
    }

    /// States that exactly `bytes` are held from here on.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let back = self.bytes - bytes;
        self.bytes = bytes;
        if back != 0 {
            self.budget.give_back(back);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes != 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn what_is_dropped_comes_back() {
        let budget = Budget::new(100);
        let first = budget.reserve(60, soon()).await.expect("there is room");
        assert_eq!(budget.used(), 60);
        assert!(budget.try_reserve(41).is_none());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_deadline_and_leaves_nothing_behind() {
        let budget = Budget::new(100);
        let held = budget.try_reserve(100).expect("there is room");
        assert!(budget.reserve(1, Instant::now() + Duration::from_millis(20)).await.is_none());
        drop(held);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_reserve(100).is_some());
    }

    #[tokio::test]
    async fn nobody_overtakes_the_one_in_front_and_growth_comes_first() {
        let budget = Budget::new(100);
        let mut held = budget.try_reserve(90).expect("there is room");
        let line = Arc::clone(&budget);
        let large = tokio::spawn(async move { line.reserve(80, soon()).await });
        while budget.state.lock().arriving.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(budget.try_reserve(5).is_none(), "ten bytes are free, but someone waits");
        assert!(held.grow(10, soon()).await, "what was begun is finished first");
        drop(held);
        let large = large.await.expect("does not panic").expect("its turn came");
        assert_eq!(budget.used(), 80);
        drop(large);
    }

    #[tokio::test]
    async fn one_that_gives_up_lets_those_behind_it_through() {
        let budget = Budget::new(100);
        let _held = budget.try_reserve(90).expect("there is room");
        let line = Arc::clone(&budget);
        let large =
            tokio::spawn(async move { line.reserve(80, Instant::now() + Duration::from_millis(20)).await.is_some() });
        while budget.state.lock().arriving.is_empty() {
            tokio::task::yield_now().await;
        }
        let small = budget.reserve(5, soon()).await;
        assert!(small.is_some(), "the large one gave up, nothing was given back, five bytes are free");
        assert!(!large.await.expect("does not panic"));
    }

    #[tokio::test]
    async fn a_need_above_the_capacity_runs_alone() {
        let budget = Budget::new(100);
        let giant = budget.reserve(1_000, soon()).await.expect("it can have everything");
        assert_eq!(budget.used(), 100);
        assert!(budget.try_reserve(1).is_none());
        drop(giant);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn settling_above_what_was_taken_holds_others_back() {
        let budget = Budget::new(100);
        let mut one = budget.try_reserve(10).expect("there is room");
        one.settle(150);
        assert_eq!(budget.used(), 150);
        assert!(budget.try_reserve(1).is_none());
        one.settle(99);
        assert!(budget.try_reserve(1).is_some());
    }

    #[tokio::test]
    async fn a_thousand_tasks_that_wait_and_vanish_leak_nothing() {
        let budget = Budget::new(64);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..1_000_usize {
            let budget = Arc::clone(&budget);
            tasks.spawn(async move {
                let deadline = Instant::now() + Duration::from_millis((n % 7) as u64);
                if let Some(mut taken) = budget.reserve(n % 65, deadline).await {
                    tokio::task::yield_now().await;
                    taken.grow(n % 3, deadline).await;
                    taken.settle(n % 40);
                    tokio::task::yield_now().await;
                }
            });
            if n % 5 == 0 {
                tasks.abort_all();
            }
        }
        while tasks.join_next().await.is_some() {}
        assert_eq!(budget.used(), 0);
        assert!(budget.try_reserve(64).is_some());
    }
}
