//! How large the columns of a request will be, learned from the requests before it, so that they are made large enough at once.
//!
//! *Why.* A column that grows by doubling is copied as often as it doubles, into pages that the system has to provide anew each
//! time, and ends up a third larger than what is in it. Requests of one signal resemble each other: what a byte of the last one
//! became is what a byte of this one becomes.
//!
//! *Invariants.* A guess changes capacities, never what is read. It is bounded by the request's size, whatever was learned.
//!
//! *Cost.* A few relaxed loads and stores a request.

use std::sync::atomic::{AtomicU32, Ordering};

/// What the larger columns hold, or are made room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sizes {
    /// Rows.
    pub(super) rows: usize,
    /// Entries of the records' attribute maps.
    pub(super) entries: usize,
    /// Bytes of their keys.
    pub(super) keys: usize,
    /// Bytes of their values.
    pub(super) values: usize,
}

/// Requests smaller than this cost little to grow into, and say little about others.
const REQUEST_BYTES_MIN: usize = 4 << 10;

/// What 64 KiB of a request became, by column; zero until something is known.
pub(super) struct Learned {
    rows: AtomicU32,
    entries: AtomicU32,
    keys: AtomicU32,
    values: AtomicU32,
}

impl Learned {
    pub(super) const fn new() -> Self {
        Self { rows: AtomicU32::new(0), entries: AtomicU32::new(0), keys: AtomicU32::new(0), values: AtomicU32::new(0) }
    }

    /// Returns what to make room for in a request of `bytes`.
    pub(super) fn expect(&self, bytes: usize) -> Sizes {
        if bytes < REQUEST_BYTES_MIN {
            return Sizes::default();
        }
        // No record takes less than a few dozen bytes unless somebody tries; those may grow as they go.
        let of = |known: &AtomicU32, at_most: usize| {
            // Relaxed, as below: each number stands for itself.
            let size = bytes.saturating_mul(known.load(Ordering::Relaxed) as usize) >> 16;
            (size + size / 16).min(at_most)
        };
        Sizes {
            rows: of(&self.rows, bytes / 32),
            entries: of(&self.entries, bytes / 8),
            keys: of(&self.keys, bytes),
            values: of(&self.values, bytes),
        }
    }

    /// Learns what a request of `bytes` became.
    pub(super) fn learn(&self, bytes: usize, became: Sizes) {
        if bytes < REQUEST_BYTES_MIN {
            return;
        }
        let of = |known: &AtomicU32, size: usize| {
            let seen = i64::try_from((size << 16) / bytes).unwrap_or(i64::MAX).min(i64::from(u32::MAX));
            let old = i64::from(known.load(Ordering::Relaxed));
            let new = if old == 0 { seen } else { old + (seen - old) / 4 };
            known.store(u32::try_from(new).unwrap_or(0), Ordering::Relaxed);
        };
        of(&self.rows, became.rows);
        of(&self.entries, became.entries);
        of(&self.keys, became.keys);
        of(&self.values, became.values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_like_the_one_before_has_room_for_everything() {
        let learned = Learned::new();
        assert_eq!(learned.expect(1 << 20), Sizes::default());
        let became = Sizes { rows: 1_000, entries: 10_000, keys: 150_000, values: 130_000 };
        learned.learn(440_000, became);
        for bytes in [440_000, 880_000] {
            let expected = learned.expect(bytes);
            let times = bytes / 440_000;
            for (expected, became) in [
                (expected.rows, became.rows),
                (expected.entries, became.entries),
                (expected.keys, became.keys),
                (expected.values, became.values),
            ] {
                assert!((became * times..became * times * 9 / 8).contains(&expected), "{expected} for {became}");
            }
        }
        assert_eq!(learned.expect(100), Sizes::default());
    }

    #[test]
    fn what_one_strange_request_taught_is_bounded_and_soon_forgotten() {
        let learned = Learned::new();
        learned.learn(1 << 20, Sizes { rows: 1 << 19, entries: 1 << 40, keys: 1 << 40, values: 0 });
        let expected = learned.expect(1 << 20);
        assert_eq!(expected, Sizes { rows: 1 << 15, entries: 1 << 17, keys: 1 << 20, values: 0 });
        for _ in 0..100 {
            learned.learn(1 << 20, Sizes { rows: 100, ..Sizes::default() });
        }
        assert!(learned.expect(1 << 20).rows < 200);
    }
}
