//! The open connections: as many as may be, and which of them makes room for a new one.
//!
//! *Who goes.* Where all seats are taken, a connection without a request under way gives up its own: of those that never made one the oldest,
//! else the one whose last request is longest ago. Where there is none, one goes whose requests all wait for their client, which has said nothing
//! for a second. So whoever opens connections, or streams, and says nothing shuts out others that do so as well, and nobody who is at work.
//! Only where every connection is at work is a new one turned away.
//!
//! *Cost.* Two atomics a request and two a piece of a body, and as many looks at the clock; a short lock to open and to close, and a walk over
//! all seats where none is free.

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

/// How long a client may leave a request of its own without a byte before its connection may go.
const SILENT_FOR: Duration = Duration::from_secs(1);

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
    /// Those of the requests under way that wait for more of their body.
    waiting: AtomicUsize,
    /// When the connection was opened, began or ended a request or sent a part of one; in milliseconds since the start.
    idle_since: AtomicU64,
    wanted: Notify,
}

/// A request that waits for its client, until dropped.
pub(crate) struct Waits<'a>(&'a Seat);

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
        self.ran_short();
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
            waiting: AtomicUsize::new(0),
            idle_since: AtomicU64::new(millis(self.begun)),
            wanted: Notify::new(),
        });
        taken.push(Arc::clone(&seat));
        Some(Taken { seats: Arc::clone(self), seat })
    }

    fn first_to_go(&self) -> Option<Arc<Seat>> {
        let taken = self.taken.lock();
        let idle = taken.iter().filter(|seat| seat.may_go());
        idle.min_by_key(|seat| (seat.is_busy(), seat.requests_total() > 0, seat.idle_since.load(Ordering::Relaxed)))
            .cloned()
    }

    /// Takes note that there is no room for all that clients have begun.
    pub(crate) fn ran_short(&self) {
        self.short.store(millis(self.begun), Ordering::Relaxed);
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
            waiting: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            wanted: Notify::new(),
        })
    }

    /// Begins a request.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        // Relaxed, here and below: whoever sees it late ends a connection whose client sends again.
        self.heard();
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// States that a request waits for more of its body.
    pub(crate) fn waits(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waits(self)
    }

    fn heard(&self) {
        self.idle_since.store(millis(self.begun), Ordering::Relaxed);
    }

    /// Says whether nobody would miss the connection but a client that says nothing.
    fn may_go(&self) -> bool {
        let requests = self.requests.load(Ordering::Relaxed);
        let silent = || millis(self.begun).saturating_sub(self.idle_since.load(Ordering::Relaxed));
        requests == 0 || (self.waiting.load(Ordering::Relaxed) >= requests && silent() >= SILENT_FOR.as_millis() as u64)
    }

    /// Returns how many requests there were.
    pub(crate) fn requests_total(&self) -> usize {
        self.requests_total.load(Ordering::Relaxed)
    }

    /// Returns once the connection is to make room and has no request at work.
    pub(crate) async fn wanted(&self) {
        loop {
            self.wanted.notified().await;
            if self.may_go() {
                return;
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.heard();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        // First, or a connection that just sent something looks as if it had been silent.
        self.0.heard();
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
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

    #[tokio::test]
    async fn where_all_are_busy_one_that_waits_for_a_silent_client_makes_room() {
        // The process has been there for a while.
        let begun = Instant::now().checked_sub(SILENT_FOR * 10).expect("so has the machine");
        let seats = Arc::new(Seats {
            max: 2,
            begun,
            shares: Arc::new(Shares::new()),
            taken: Mutex::default(),
            freed: Notify::new(),
            short: AtomicU64::new(NEVER),
        });
        let silent_for_long = |taken: &Taken| taken.seat.idle_since.store(0, Ordering::Relaxed);
        let (stalled, at_work) = (free(seats.take().await), free(seats.take().await));
        let (_body, _work) = (stalled.seat.begin(), at_work.seat.begin());
        assert!(seats.first_to_go().is_none(), "both are at work");
        let waits = stalled.seat.waits();
        assert!(seats.first_to_go().is_none(), "its client said something a moment ago");
        silent_for_long(&stalled);
        silent_for_long(&at_work);
        let first = seats.first_to_go().expect("one is silent");
        assert!(Arc::ptr_eq(&first, &stalled.seat));
        // Another of its requests is complete.
        let complete = stalled.seat.begin();
        silent_for_long(&stalled);
        silent_for_long(&at_work);
        assert!(seats.first_to_go().is_none());
        drop(complete);
        drop(waits);
        silent_for_long(&stalled);
        silent_for_long(&at_work);
        assert!(seats.first_to_go().is_none(), "the whole body is there");
    }
}
