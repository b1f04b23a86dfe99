//! Values of one sort by number, in blocks that never move: growing copies nothing.
//!
//! *Order.* Places that were given back are taken again in the order in which they lie, from end to end and round again, so that what
//! came together lies together however often places change hands. Memory is fast where it is gone through in order, and ten times as slow
//! elsewhere. A sixteenth of the places is kept free for that: were there fewer, each would have to be looked for.

use std::ops::{Index, IndexMut};

/// Values of one block.
const BLOCK: usize = 1_024;
/// Places of a word of bits.
const WORD: usize = u64::BITS as usize;
/// One place of so many is kept free, at the least.
const SPARE: usize = 16;

/// Values by number.
pub(crate) struct Blocks<T> {
    blocks: Vec<Box<[T; BLOCK]>>,
    /// A bit for each place that is free.
    free: Vec<u64>,
    free_count: usize,
    /// The word in which a place was taken last.
    word: usize,
    empty: T,
}

impl<T: Copy> Blocks<T> {
    /// Has no places yet; those that it makes hold `empty`.
    pub(crate) const fn new(empty: T) -> Self {
        Self { blocks: Vec::new(), free: Vec::new(), free_count: 0, word: 0, empty }
    }

    /// Takes a free place, whatever it holds; returns its number.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> u32 {
        if self.free_count * SPARE <= self.free.len() * WORD {
            self.grow();
        }
        while self.free[self.word] == 0 {
            self.word = if self.word + 1 < self.free.len() { self.word + 1 } else { 0 };
        }
        let bits = &mut self.free[self.word];
        let at = self.word * WORD + bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        self.free_count -= 1;
        at as u32
    }

    /// Gives a place back that was taken. What it holds stays until it is taken again.
    #[inline(always)]
    pub(crate) fn give_back(&mut self, at: u32) {
        self.free[at as usize / WORD] |= 1 << (at as usize % WORD);
        self.free_count += 1;
    }

    #[cold]
    fn grow(&mut self) {
        let block = vec![self.empty; BLOCK].into_boxed_slice();
        self.blocks.extend(block.try_into().ok());
        self.word = self.free.len();
        self.free.resize(self.free.len() + BLOCK / WORD, u64::MAX);
        self.free_count += BLOCK;
    }
}

impl<T> Index<u32> for Blocks<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, at: u32) -> &T {
        &self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }
}

impl<T> IndexMut<u32> for Blocks<T> {
    #[inline(always)]
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_no_ones_or_one_s(steps in prop::collection::vec((0..4_000_u32, any::<bool>()), 0..6_000)) {
            let mut blocks = Blocks::new(0_u32);
            let mut taken = BTreeSet::new();
            let mut most = 0;
            for (number, take) in steps {
                if take {
                    let at = blocks.take();
                    prop_assert!(taken.insert(at), "{at} was taken already");
                    blocks[at] = at;
                } else if let Some(at) = taken.range(number..).next().copied() {
                    taken.remove(&at);
                    prop_assert_eq!(blocks[at], at);
                    blocks.give_back(at);
                }
                most = most.max(taken.len());
                prop_assert_eq!(blocks.free_count + taken.len(), blocks.blocks.len() * BLOCK);
            }
            prop_assert!(taken.iter().all(|at| blocks[*at] == *at));
            prop_assert!(blocks.blocks.len() * BLOCK <= most + most / (SPARE - 1) + BLOCK + 1);
        }
    }

    #[test]
    fn places_are_taken_again_in_the_order_in_which_they_lie() {
        let mut blocks = Blocks::new(());
        let first: Vec<u32> = (0..900).map(|_| blocks.take()).collect();
        assert!(first.is_sorted());
        let scattered = first.iter().map(|at| first[*at as usize * 7 % 900]);
        scattered.filter(|at| at % 3 > 0).for_each(|at| blocks.give_back(at));
        let again: Vec<u32> = (0..600).map(|_| blocks.take()).collect();
        let round = again.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(round <= 1, "gone round {round} times");
    }
}
