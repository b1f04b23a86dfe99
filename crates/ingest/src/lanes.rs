//! Bounded lock-free queues between the receivers and the one committer.
//!
//! *Layout.* One ring of `depth` slots a lane (crossbeam's `ArrayQueue`), a connection keeps to its lane so that those of
//! different threads do not meet on one cache line; a full lane spills into its neighbours.
//!
//! *Invariants.* What is pushed before [`Lanes::close`] is popped. The committer never sleeps while something is queued and never
//! spins: `doorbell` has how.
//!
//! *Cost.* A push is two atomic operations and a fence; a system call only where the committer sleeps.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use tokio::sync::Notify;

use crate::doorbell::Doorbell;

/// See the module.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: Box<[ArrayQueue<T>]>,
    bell: CachePadded<Doorbell>,
    closed: AtomicBool,
    /// Producers that wait for room.
    crowded: AtomicUsize,
    room: Notify,
}

impl<T> Lanes<T> {
    /// Makes `lanes` empty lanes of `depth` slots each; at least one of one.
    pub fn new(lanes: usize, depth: usize) -> Self {
        Self {
            lanes: (0..lanes.max(1)).map(|_| ArrayQueue::new(depth.max(1))).collect(),
            bell: CachePadded::new(Doorbell::new()),
            closed: AtomicBool::new(false),
            crowded: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// Queues `item`, in lane `preferred` if it has room, else in any other.
    ///
    /// # Errors
    /// Gives the item back where every lane is full.
    pub fn push(&self, preferred: usize, mut item: T) -> Result<(), T> {
        let count = self.lanes.len();
        for offset in 0..count {
            match self.lanes[(preferred.wrapping_add(offset)) % count].push(item) {
                Ok(()) => {
                    self.bell.ring();
                    return Ok(());
                }
                Err(back) => item = back,
            }
        }
        Err(item)
    }

    /// Queues `item`, waiting for room as long as it takes.
    pub async fn push_wait(&self, preferred: usize, item: T) {
        let Err(mut item) = self.push(preferred, item) else { return };
        let _crowd = Crowd::join(&self.crowded);
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // In line before the next look, so that room made in between is not missed.
            room.as_mut().enable();
            match self.push(preferred, item) {
                Ok(()) => return,
                Err(back) => item = back,
            }
            room.await;
        }
    }

    /// Returns the number of items queued.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(ArrayQueue::len).sum()
    }

    /// Says whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(ArrayQueue::is_empty)
    }

    /// Moves what is queued to `group`, lane by lane in turn, until `full` says so after an item or nothing is left.
    pub fn drain(&self, group: &mut Vec<T>, mut full: impl FnMut(&T) -> bool) {
        let before = group.len();
        'rounds: loop {
            let mut found = false;
            for lane in &self.lanes {
                let Some(item) = lane.pop() else { continue };
                found = true;
                let stop = full(&item);
                group.push(item);
                if stop {
                    break 'rounds;
                }
            }
            if !found {
                break;
            }
        }
        // Pairs with the increment in `Crowd::join`: whoever joined later finds the room itself.
        fence(Ordering::SeqCst);
        if group.len() > before && self.crowded.load(Ordering::Relaxed) > 0 {
            self.room.notify_waiters();
        }
    }

    /// Blocks the calling thread, which must be the only consumer, until something is queued; false once the lanes are closed and empty.
    pub fn wait(&self) -> bool {
        self.wait_or(|| false)
    }

    /// Does what [`Self::wait`] does, where there is other work as well: who makes that visible calls [`Self::ring`] afterwards.
    pub(crate) fn wait_or(&self, other: impl Fn() -> bool) -> bool {
        let work = || !self.is_empty() || other();
        loop {
            if work() {
                return true;
            }
            if self.closed.load(Ordering::Acquire) {
                // Closed after the look above: what was pushed before that is seen now.
                return work();
            }
            self.bell.sleep_unless(|| work() || self.closed.load(Ordering::Relaxed));
        }
    }

    /// Wakes who waits, after other work was made visible.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// Lets [`Self::wait`] end once everything is popped.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.ring();
    }
}

struct Crowd<'a>(&'a AtomicUsize);

impl<'a> Crowd<'a> {
    fn join(crowded: &'a AtomicUsize) -> Self {
        crowded.fetch_add(1, Ordering::SeqCst);
        Self(crowded)
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_full_lane_spills_and_full_lanes_give_the_item_back() {
        let lanes = Lanes::new(2, 1);
        assert_eq!(lanes.push(0, 'a'), Ok(()));
        assert_eq!(lanes.push(0, 'b'), Ok(()));
        assert_eq!(lanes.push(7, 'c'), Err('c'));
        assert_eq!(lanes.len(), 2);
    }

    #[test]
    fn a_group_ends_where_it_is_full_and_the_rest_stays() {
        let lanes = Lanes::new(2, 4);
        for n in 0..6 {
            lanes.push(n, n).expect("there is room");
        }
        let (mut group, mut sum) = (Vec::new(), 0);
        lanes.drain(&mut group, |_| {
            sum += 1;
            sum == 4
        });
        assert_eq!(group, [0, 1, 2, 3]);
        assert_eq!(lanes.len(), 2);
    }

    #[test]
    fn everything_pushed_by_many_threads_is_popped_once_and_the_consumer_never_oversleeps() {
        let lanes = Arc::new(Lanes::new(3, 8));
        let consumer = {
            let lanes = Arc::clone(&lanes);
            thread::spawn(move || {
                let mut seen = Vec::new();
                while lanes.wait() {
                    lanes.drain(&mut seen, |n| n % 5 == 0);
                }
                seen
            })
        };
        thread::scope(|scope| {
            for producer in 0..4_usize {
                let lanes = &lanes;
                scope.spawn(move || {
                    for n in 0..20_000 {
                        let mut item = producer * 20_000 + n;
                        while let Err(back) = lanes.push(producer, item) {
                            item = back;
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        lanes.close();
        let seen = consumer.join().expect("does not panic");
        assert_eq!(seen.len(), 80_000);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 80_000);
    }

    #[tokio::test]
    async fn those_who_wait_for_room_get_it() {
        let lanes = Arc::new(Lanes::new(1, 1));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..50 {
            let lanes = Arc::clone(&lanes);
            tasks.spawn(async move { lanes.push_wait(0, n).await });
        }
        let mut seen = Vec::new();
        while seen.len() < 50 {
            lanes.drain(&mut seen, |_| false);
            tokio::task::yield_now().await;
        }
        while tasks.join_next().await.is_some() {}
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 50);
    }
}
