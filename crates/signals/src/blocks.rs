//! Values of one sort by number, in blocks that never move: growing copies nothing and leaves no more than a block empty.

use std::ops::{Index, IndexMut};

/// Values of one block.
const BLOCK: usize = 1_024;

/// Values by number, in the order in which they came.
pub(crate) struct Blocks<T>(Vec<Vec<T>>);

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Blocks<T> {
    /// Adds a value; returns its number.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        if self.0.last().is_none_or(|block| block.len() == BLOCK) {
            self.0.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.0.len() - 1) * BLOCK;
        let Some(block) = self.0.last_mut() else { return 0 };
        block.push(value);
        u32::try_from(before + block.len() - 1).expect("bounds are far below four billion")
    }
}

impl<T> Index<u32> for Blocks<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, at: u32) -> &T {
        &self.0[at as usize / BLOCK][at as usize % BLOCK]
    }
}

impl<T> IndexMut<u32> for Blocks<T> {
    #[inline(always)]
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.0[at as usize / BLOCK][at as usize % BLOCK]
    }
}
