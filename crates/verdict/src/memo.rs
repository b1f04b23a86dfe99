//! What follows from a few numbers and was worked out of late, so that it is not worked out again.
//!
//! Most operations of a service are quiet, and have the same few requests in a bucket; what a test makes of numbers of requests alone
//! is then the same.
//!
//! *Invariants.* What is returned is what `work` returns for the same key.
//!
//! *Layout.* A table with one place for each of the last keys that fall on it. Numbers of requests next to each other fall on different
//! places.

use crate::closeness::Nearest;
use crate::e_process::Shrinkage;

/// Places of the largest table.
const PLACES_MAX: usize = 128;

/// What the operations of a service have in common where they have as many requests.
#[derive(Debug)]
pub(crate) struct Memos {
    pub(crate) shrinkage: Shrinkage,
    pub(crate) nearest: Nearest,
}

impl Memos {
    /// Makes room for so many operations.
    pub(crate) fn new(operations: usize) -> Self {
        Self { shrinkage: Shrinkage::for_operations(operations), nearest: Nearest::for_operations(operations) }
    }
}

/// What was worked out for keys of `N` numbers.
#[derive(Debug)]
pub(crate) struct Memo<V, const N: usize>(Vec<Option<([f64; N], V)>>);

impl<V: Copy, const N: usize> Memo<V, N> {
    /// Keeps nothing.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Makes room for what so many operations ask.
    pub(crate) fn for_operations(operations: usize) -> Self {
        Self(vec![None; (4 * operations).next_power_of_two().min(PLACES_MAX)])
    }

    /// Returns what `work` makes of `key`.
    pub(crate) fn get(&mut self, key: [f64; N], work: impl FnOnce() -> V) -> V {
        let place = key.iter().fold(0, |sum: u64, n| sum.wrapping_mul(11).wrapping_add(*n as u64)) as usize;
        let Some(kept) = self.0.len().checked_sub(1).and_then(|last| self.0.get_mut(place & last)) else {
            return work();
        };
        match kept {
            Some((known, value)) if *known == key => *value,
            _ => {
                let value = work();
                *kept = Some((key, value));
                value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_returned_is_always_that_of_the_key() {
        for mut memo in [Memo::none(), Memo::for_operations(1), Memo::for_operations(1_000)] {
            let mut worked = 0;
            for round in 0..3 {
                for (a, b) in (0..40).flat_map(|a| (0..40).map(move |b| (f64::from(a), f64::from(b) + 0.5))) {
                    let value = memo.get([a, b], || {
                        worked += 1;
                        100.0 * a + b
                    });
                    assert_eq!(value, 100.0 * a + b, "{round}");
                }
            }
            assert!(worked >= 1_600);
        }
        let mut memo = Memo::for_operations(1_000);
        assert_eq!(memo.get([1.0, 2.0], || 3.0), 3.0);
        assert_eq!(memo.get([1.0, 2.0], || 4.0), 3.0, "it was known");
    }
}
