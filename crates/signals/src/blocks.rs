//! Values of one sort by number, in blocks that never move: growing copies nothing.
//!
//! *Order.* Of the places that are free the first is taken. So what came together lies together however often places change hands, and
//! what was given back last, of which caches know, is not passed over for what nobody looked at for long. Memory is fast where it
//! is gone through in order, and ten times as slow elsewhere.

use std::ops::{Index, IndexMut};

/// Values of one block.
const BLOCK: usize = 1_024;
/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// Values by number.
pub(crate) struct Blocks<T> {
    blocks: Vec<Box<[T; BLOCK]>>,
    /// A bit for each place that is free.
    free: Vec<u64>,
    /// A bit for each word of these that is not zero.
    words: Vec<u64>,
    /// No word before this one of them has any.
    first: usize,
    free_count: usize,
    empty: T,
}

impl<T: Copy> Blocks<T> {
    /// Has no places yet; those that it makes hold `empty`.
    pub(crate) const fn new(empty: T) -> Self {
        Self { blocks: Vec::new(), free: Vec::new(), words: Vec::new(), first: 0, free_count: 0, empty }
    }

    /// Takes the first free place, whatever it holds; returns its number.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> u32 {
        if self.free_count == 0 {
            self.grow();
        }
        while self.words[self.first] == 0 {
            self.first += 1;
        }
        let words = &mut self.words[self.first];
        let word = self.first * WORD + words.trailing_zeros() as usize;
        let bits = &mut self.free[word];
        let at = word * WORD + bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        if *bits == 0 {
            *words &= *words - 1;
        }
        self.free_count -= 1;
        at as u32
    }

    /// Gives a place back that was taken. What it holds stays until it is taken again.
    #[inline(always)]
    pub(crate) fn give_back(&mut self, at: u32) {
        let word = at as usize / WORD;
        self.free[word] |= 1 << (at as usize % WORD);
        self.words[word / WORD] |= 1 << (word % WORD);
        self.first = self.first.min(word / WORD);
        self.free_count += 1;
    }

    #[cold]
    fn grow(&mut self) {
        let block = vec![self.empty; BLOCK].into_boxed_slice();
        self.blocks.extend(block.try_into().ok());
        let (from, to) = (self.free.len(), self.free.len() + BLOCK / WORD);
        self.free.resize(to, u64::MAX);
        self.words.resize(to.div_ceil(WORD), 0);
        (from..to).for_each(|word| self.words[word / WORD] |= 1 << (word % WORD));
        self.first = self.first.min(from / WORD);
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
            prop_assert_eq!(blocks.blocks.len(), most.div_ceil(BLOCK));
        }
    }

    #[test]
    fn the_first_free_place_is_taken() {
        let mut blocks = Blocks::new(());
        let all: Vec<u32> = (0..10_000).map(|_| blocks.take()).collect();
        assert!(all.iter().copied().eq(0..10_000));
        let scattered = all.iter().map(|at| all[*at as usize * 7 % 10_000]);
        scattered.filter(|at| at % 3 > 0).for_each(|at| blocks.give_back(at));
        let again: Vec<u32> = (0..6_666).map(|_| blocks.take()).collect();
        assert!(again.into_iter().eq((0..10_000).filter(|at| at % 3 > 0)));
        assert_eq!(blocks.take(), 10_000);
    }
}
