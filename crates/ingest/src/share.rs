//! Who floods: each connection's share of what came of late.
//!
//! *How.* Bytes are counted a second at a time, for each connection and for all of them; what counts is the present second and the one
//! before. A connection is quiet where it sent less than a quarter of what it might if all that send had equal parts. Those that were
//! opened a moment ago count as one for that, besides, or whoever opens one a request would never be held up.
//!
//! *Cost.* A look at the clock and a few relaxed atomics a request. Where two requests meet at the turn of a second, some bytes may be
//! counted into the wrong one or not at all: the share is an estimate.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// A quiet connection has less than one part in so many of an equal share.
const QUIET: u128 = 4;

/// Something counted in the present second and in the one before.
#[derive(Debug, Default)]
struct Window {
    second: AtomicU64,
    now: AtomicU64,
    before: AtomicU64,
}

impl Window {
    fn new(second: u64) -> Self {
        Self { second: AtomicU64::new(second), ..Self::default() }
    }

    /// Moves on to `second`; true for the one who did.
    fn turn(&self, second: u64) -> bool {
        // Relaxed, here and below: these are estimates, and nothing else is read because of them.
        let seen = self.second.load(Ordering::Relaxed);
        if second <= seen || self.second.compare_exchange(seen, second, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        let now = self.now.swap(0, Ordering::Relaxed);
        self.before.store(if second == seen + 1 { now } else { 0 }, Ordering::Relaxed);
        true
    }

    /// Returns what was counted in the present second and in the one before.
    fn counted(&self, second: u64) -> (u64, u64) {
        self.turn(second);
        (self.now.load(Ordering::Relaxed), self.before.load(Ordering::Relaxed))
    }

    /// Counts `n`, and says whether it is the first in its second.
    fn add(&self, second: u64, n: u64) -> bool {
        self.turn(second);
        self.now.fetch_add(n, Ordering::Relaxed) == 0
    }
}

/// What all connections sent.
pub(crate) struct Shares {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    bytes: Window,
    /// How many connections sent anything.
    senders: Window,
    /// What the young ones of them sent.
    young: Window,
}

/// What one connection sent.
#[derive(Debug)]
pub(crate) struct Share {
    opened: u64,
    bytes: Window,
}

impl Shares {
    pub(crate) fn new() -> Self {
        let begun = Instant::now();
        Self::with_clock(move || begun.elapsed().as_secs())
    }

    /// Tells the seconds by `clock`.
    pub(crate) fn with_clock(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), bytes: Window::default(), senders: Window::default(), young: Window::default() }
    }

    /// Begins to count for a connection.
    pub(crate) fn open(&self) -> Share {
        let opened = (self.clock)();
        Share { opened, bytes: Window::new(opened) }
    }

    /// Counts `bytes` that came on a connection.
    pub(crate) fn add(&self, share: &Share, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let second = (self.clock)();
        self.bytes.add(second, bytes as u64);
        if share.is_young(second) {
            self.young.add(second, bytes as u64);
        }
        if share.bytes.add(second, bytes as u64) {
            self.senders.add(second, 1);
        }
    }

    /// Says whether a connection sends far less than its share.
    pub(crate) fn is_quiet(&self, share: &Share) -> bool {
        let second = (self.clock)();
        let sum = |(now, before): (u64, u64)| u128::from(now) + u128::from(before);
        let (now, before) = self.senders.counted(second);
        let senders = u128::from(now.max(before));
        let all = sum(self.bytes.counted(second));
        if share.is_young(second) && sum(self.young.counted(second)) * QUIET >= all {
            return false;
        }
        sum(share.bytes.counted(second)) * senders * QUIET < all
    }
}

impl Share {
    /// Says whether it was opened too short a time ago to be known.
    fn is_young(&self, second: u64) -> bool {
        second < self.opened + 2
    }
}

impl std::fmt::Debug for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shares").field("bytes", &self.bytes).field("senders", &self.senders).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shares() -> (Shares, Arc<AtomicU64>) {
        let second = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&second);
        (Shares::with_clock(move || told.load(Ordering::Relaxed)), second)
    }

    #[test]
    fn only_a_connection_with_far_less_than_its_share_is_quiet() {
        let (shares, second) = shares();
        let floods: Vec<_> = (0..16).map(|_| shares.open()).collect();
        let (quiet, modest) = (shares.open(), shares.open());
        for at in 0..10 {
            second.store(at, Ordering::Relaxed);
            floods.iter().for_each(|flood| shares.add(flood, 1_000_000));
            shares.add(&quiet, 10_000);
            shares.add(&modest, 500_000);
            assert!(floods.iter().all(|flood| !shares.is_quiet(flood)), "second {at}");
            assert!(!shares.is_quiet(&modest), "second {at}");
            assert_eq!(shares.is_quiet(&quiet), at >= 2, "second {at}: all are young before");
        }
    }

    #[test]
    fn a_new_connection_is_quiet_at_once_beside_floods_that_are_known() {
        let (shares, second) = shares();
        let flood = shares.open();
        second.store(5, Ordering::Relaxed);
        shares.add(&flood, 1_000_000);
        let quiet = shares.open();
        assert!(shares.is_quiet(&quiet), "it has sent nothing");
        shares.add(&quiet, 1_000);
        assert!(shares.is_quiet(&quiet) && !shares.is_quiet(&flood));
    }

    #[test]
    fn whoever_opens_a_connection_for_each_request_is_held_up_like_one() {
        let (shares, second) = shares();
        let steady = shares.open();
        for at in 0..5 {
            second.store(at, Ordering::Relaxed);
            shares.add(&steady, 500_000);
            for _ in 0..100 {
                shares.add(&shares.open(), 10_000);
            }
            assert!(!shares.is_quiet(&shares.open()), "second {at}");
        }
    }

    #[test]
    fn connections_that_all_send_alike_are_none_of_them_quiet() {
        let (shares, second) = shares();
        let all: Vec<_> = (0..1_000).map(|_| shares.open()).collect();
        for at in 0..5 {
            second.store(at, Ordering::Relaxed);
            all.iter().for_each(|one| shares.add(one, 1_000));
            assert!(all.iter().all(|one| !shares.is_quiet(one)), "second {at}");
        }
    }

    #[test]
    fn a_flood_that_ends_is_forgotten_within_two_seconds() {
        let (shares, second) = shares();
        let (flood, other) = (shares.open(), shares.open());
        second.store(5, Ordering::Relaxed);
        shares.add(&flood, 1 << 30);
        assert!(shares.is_quiet(&other));
        second.store(6, Ordering::Relaxed);
        shares.add(&other, 1_000);
        assert!(shares.is_quiet(&other) && !shares.is_quiet(&flood), "the second before counts");
        second.store(7, Ordering::Relaxed);
        shares.add(&other, 1_000);
        assert!(!shares.is_quiet(&other) && shares.is_quiet(&flood));
    }
}
