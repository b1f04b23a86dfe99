//! The search for the first few rows: what is left to be read, the most promising first, and how good a row has to be.
//!
//! *Invariants.* What is given up cannot hold a row that belongs to the answer: its bound is not better than the worst of the rows
//! that were found, when there were as many of those as are wanted.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use parking_lot::Mutex;

use super::rank::Rank;

/// A part of the rows, and the best rank that one of them can have.
struct Entry<T> {
    bound: Rank,
    /// Among equals the first to come is the first to go.
    number: u64,
    part: T,
}

impl<T> Entry<T> {
    fn place(&self) -> (Rank, Reverse<u64>) {
        (self.bound, Reverse(self.number))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// What is left to be read.
pub(super) struct Queue<T> {
    entries: BinaryHeap<Entry<T>>,
    pushed: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new(), pushed: 0 }
    }
}

impl<T> Queue<T> {
    /// Adds a part whose rows have ranks of at most `bound`.
    pub(super) fn push(&mut self, bound: Rank, part: T) {
        self.pushed += 1;
        self.entries.push(Entry { bound, number: self.pushed, part });
    }

    /// Takes out the most promising part, if it may hold a row that `wanted` still takes; else gives up on all that is left.
    pub(super) fn pop(&mut self, wanted: &Wanted) -> Option<T> {
        let entry = self.entries.pop()?;
        if wanted.takes(entry.bound) {
            return Some(entry.part);
        }
        self.entries.push(entry);
        None
    }
}

/// The ranks of the best rows so far.
pub(super) struct Wanted {
    fetch: usize,
    /// Rows of the rank of the worst may belong to the answer, for what else they are sorted by.
    with_ties: bool,
    best: Mutex<BinaryHeap<Reverse<Rank>>>,
}

impl Wanted {
    /// Wants the first `fetch` rows, and `with_ties` all that are as good as the last of them.
    pub(super) fn new(fetch: usize, with_ties: bool) -> Self {
        Self { fetch, with_ties, best: Mutex::default() }
    }

    /// Returns the rank of the worst row of as many as are wanted, once there are as many.
    pub(super) fn worst(&self) -> Option<Rank> {
        let best = self.best.lock();
        if best.len() < self.fetch { None } else { best.peek().map(|Reverse(rank)| *rank) }
    }

    /// Says whether a row of this rank may still belong to the answer.
    pub(super) fn takes(&self, rank: Rank) -> bool {
        self.worst().is_none_or(|worst| self.passes(rank, worst))
    }

    /// Says whether a row of rank `rank` is wanted where `worst` is what [`Self::worst`] returned.
    pub(super) fn passes(&self, rank: Rank, worst: Rank) -> bool {
        rank > worst || (self.with_ties && rank == worst)
    }

    /// Takes note of rows that were found.
    pub(super) fn found(&self, ranks: &[Rank]) {
        let mut best = self.best.lock();
        for rank in ranks {
            if best.len() < self.fetch {
                best.push(Reverse(*rank));
            } else if let Some(mut worst) = best.peek_mut()
                && *rank > worst.0
            {
                *worst = Reverse(*rank);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rank::Direction;
    use super::*;

    fn rank(value: i64) -> Rank {
        Direction { descending: true, nulls_first: false }.rank(Some(value))
    }

    #[test]
    fn parts_come_by_their_bounds_until_none_can_matter() {
        let wanted = Wanted::new(2, false);
        let mut queue = Queue::default();
        for bound in [3, 9, 5, 9] {
            queue.push(rank(bound), (bound, queue.pushed));
        }
        assert_eq!(queue.pop(&wanted), Some((9, 1)));
        assert_eq!(queue.pop(&wanted), Some((9, 3)));
        wanted.found(&[rank(4), rank(8), rank(1)]);
        assert_eq!(wanted.worst(), Some(rank(4)));
        assert_eq!(queue.pop(&wanted), Some((5, 2)));
        wanted.found(&[rank(5)]);
        assert_eq!(queue.pop(&wanted), None, "three is no better than five");
        assert_eq!(queue.entries.len(), 1);
    }

    #[test]
    fn equals_of_the_last_row_count_only_where_something_else_decides() {
        let (plain, tied) = (Wanted::new(1, false), Wanted::new(1, true));
        for wanted in [&plain, &tied] {
            assert!(wanted.takes(Rank::LAST));
            wanted.found(&[rank(7)]);
            assert!(wanted.takes(rank(8)) && !wanted.takes(rank(6)));
        }
        assert!(!plain.takes(rank(7)) && tied.takes(rank(7)));
    }
}
