//! The open connections: as many as may be, and which of them makes room for a new one.
//!
//! *Who goes.* Where all seats are taken, a connection without a request under way gives up its own: of those that never made one the oldest,
//! else the one whose last request is longest ago. So whoever opens connections and says nothing shuts out others that do so as well,
//! and nobody who is at work. Only where every connection has a request under way is a new one turned away.
//!
//! *Cost.* Two atomics a request and a look at the clock; a short lock to open and to close, and a walk over all seats where none is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::share::{Share, Shares};

/// How long a connection that is to make room may take for it: it only has to be told.
const ROOM_WITHIN: Duration = Duration::from_millis(500);

/// For how long it is said that seats were short.
const SAID_FOR: Duration = Duration::from_secs(10);

/// For how long others are to hurry once seats were short.
const SHORT_FOR: Duration = Duration::from_secs(1);

/// Never, in milliseconds.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Seats {
    max: usize,
    begun: Instant,
    shares: Arc<Shares>,
    taken: Mutex<Vec<Arc<Seat>>>,
    freed: Notify,
    /// When they were all taken last, in milliseconds since the start.
    short: AtomicU64,
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Seat {
    begun: Instant,
    pub(crate) share: Share,
    /// Requests under way.
    requests: AtomicUsize,
    /// Requests so far.
    requests_total: AtomicUsize,
    /// When the connection was opened, or ended a request; in milliseconds since the start.
    idle_since: AtomicU64,
    wanted: Notify,
}

/// A request under way, until dropped.
pub(crate) struct UnderWay(Arc<Seat>);

/// A seat that is taken, until dropped.
pub(crate) struct Taken {
    seats: Arc<Seats>,
    pub(crate) seat: Arc<Seat>,
}

/// What became of a new connection.
pub(crate) enum Seated {
    /// There was room.
    Free(Taken),
    /// Another one made room.
    MadeRoom(Taken),
    /// Every connection is at work.
    None,
}

impl Seats {
    pub(crate) fn new(max: usize, shares: Arc<Shares>) -> Arc<Self> {
        Arc::new(Self {
            max,
            begun: Instant::now(),
            shares,
            taken: Mutex::new(Vec::new()),
            freed: Notify::new(),
            short: AtomicU64::new(NEVER),
        })
    }

    /// Takes a seat for a new connection, in place of another one if need be.
    pub(crate) async fn take(self: &Arc<Self>) -> Seated {
        if let Some(taken) = self.try_take() {
            return Seated::Free(taken);
        }
        self.short.store(millis(self.begun), Ordering::Relaxed);
        let deadline = Instant::now() + ROOM_WITHIN;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on no seat is freed unseen.
            freed.as_mut().enable();
            if let Some(taken) = self.try_take() {
                return Seated::MadeRoom(taken);
            }
            let Some(idle) = self.first_to_go() else { return Seated::None };
            idle.wanted.notify_one();
            if timeout_at(deadline, freed).await.is_err() {
                return Seated::None;
            }
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Taken> {
        let mut taken = self.taken.lock();
        if taken.len() >= self.max {
            return None;
        }
        let seat = Arc::new(Seat {
            begun: self.begun,
            share: self.shares.open(),
            requests: AtomicUsize::new(0),
            requests_total: AtomicUsize::new(0),
            idle_since: AtomicU64::new(millis(self.begun)),
            wanted: Notify::new(),
        });
        taken.push(Arc::clone(&seat));
        Some(Taken { seats: Arc::clone(self), seat })
    }

    fn first_to_go(&self) -> Option<Arc<Seat>> {
        let taken = self.taken.lock();
        let idle = taken.iter().filter(|seat| !seat.is_busy());
        idle.min_by_key(|seat| (seat.requests_total() > 0, seat.idle_since.load(Ordering::Relaxed))).cloned()
    }

    /// Says whether connections were short of late: who is slow is to hurry.
    pub(crate) fn is_short(&self) -> bool {
        self.was_short_within(SHORT_FOR)
    }

    /// The same for as long as it should be said.
    pub(crate) fn was_short(&self) -> bool {
        self.was_short_within(SAID_FOR)
    }

    fn was_short_within(&self, time: Duration) -> bool {
        let short = self.short.load(Ordering::Relaxed);
        short != NEVER && millis(self.begun).saturating_sub(short) <= time.as_millis() as u64
    }
}

impl Seat {
    /// A seat of nobody else's, for tests.
    #[cfg(test)]
    pub(crate) fn alone(shares: &Shares) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            share: shares.open(),
            requests: AtomicUsize::new(0),
            requests_total: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            wanted: Notify::new(),
        })
    }

    /// Begins a request.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        // Relaxed, here and below: whoever sees it late ends a connection whose client sends again.
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Returns how many requests there were.
    pub(crate) fn requests_total(&self) -> usize {
        self.requests_total.load(Ordering::Relaxed)
    }

    /// Returns once the connection is to make room and has no request under way.
    pub(crate) async fn wanted(&self) {
        loop {
            self.wanted.notified().await;
            if !self.is_busy() {
                return;
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.idle_since.store(millis(self.0.begun), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        {
            let mut taken = self.seats.taken.lock();
            if let Some(place) = taken.iter().position(|seat| Arc::ptr_eq(seat, &self.seat)) {
                taken.swap_remove(place);
            }
        }
        self.seats.freed.notify_waiters();
    }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(max: usize) -> Arc<Seats> {
        Seats::new(max, Arc::new(Shares::new()))
    }

    fn free(seated: Seated) -> Taken {
        match seated {
            Seated::Free(taken) => taken,
            Seated::MadeRoom(_) | Seated::None => panic!("there is room"),
        }
    }

    #[tokio::test]
    async fn the_oldest_that_never_asked_anything_makes_room_and_those_at_work_never_do() {
        let seats = seats(4);
        let mut all = Vec::new();
        for n in 0..4 {
            let taken = free(seats.take().await);
            taken.seat.idle_since.store(n, Ordering::Relaxed);
            all.push(taken);
        }
        assert!(!seats.was_short());
        // The first is at work, the second was, the others never asked anything.
        let mut under_way = vec![all[0].seat.begin()];
        drop(all[1].seat.begin());
        all[1].seat.idle_since.store(0, Ordering::Relaxed);
        for goes in [2, 3, 1] {
            let waits = Arc::clone(&seats);
            let newcomer = tokio::spawn(async move { waits.take().await });
            let leaves = Arc::clone(&all[goes].seat);
            leaves.wanted().await;
            // What a connection does then.
            let place = all.iter().position(|one| Arc::ptr_eq(&one.seat, &leaves)).expect("it is there");
            drop(all.remove(place));
            let Seated::MadeRoom(new) = newcomer.await.expect("does not panic") else {
                panic!("there was none, and one made room")
            };
            under_way.push(new.seat.begin());
            all.insert(goes, new);
        }
        assert!(seats.was_short());
        assert!(matches!(seats.take().await, Seated::None), "all are at work");
        drop(under_way);
        assert!(seats.first_to_go().is_some());
    }
}
