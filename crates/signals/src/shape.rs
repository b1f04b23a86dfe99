//! What assembly keeps of each span of a trace beside the span, and the order in which it does.
//!
//! *Cost.* A few ids are put in order by counting for each how many are below it: no branch hangs on what they are, and ids
//! are random.

use crate::assembly::NONE;

/// Up to so many are ordered by counting.
const FEW: usize = 16;

/// How a span hangs together with others, and what was found of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) parent: u32,
    /// The request that it belongs to.
    pub(crate) request: u32,
    /// Where its failure began; [`NONE`] where it hands none on.
    pub(crate) origin: u32,
    /// The span above all; set only where it is asked for.
    pub(crate) root: u32,
    pub(crate) children_from: u32,
    pub(crate) children_to: u32,
    /// Time on the critical path in the request itself, for spans that are one.
    pub(crate) self_ns: u64,
    /// Time on the critical path of the request that called it.
    pub(crate) critical_ns: u64,
}

impl Link {
    /// Nothing was found yet.
    pub(crate) const NEW: Self = Self {
        parent: NONE,
        request: NONE,
        origin: NONE,
        root: NONE,
        children_from: 0,
        children_to: 0,
        self_ns: 0,
        critical_ns: 0,
    };

    /// Returns where its children are listed.
    pub(crate) fn children(&self) -> std::ops::Range<usize> {
        self.children_from as usize..self.children_to as usize
    }
}

/// Ids in order, and where each was before.
#[derive(Default)]
pub(crate) struct Order {
    ids: Vec<u64>,
    sources: Vec<u32>,
    keys: Vec<(u64, u32)>,
}

impl Order {
    /// Returns where each id was, in the order in which they are now.
    pub(crate) fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// Puts ids in order; says whether one came twice.
    pub(crate) fn sort(&mut self, ids: impl ExactSizeIterator<Item = u64>) -> bool {
        self.ids.clear();
        self.sources.clear();
        let n = ids.len();
        if n <= FEW {
            let mut given = [0; FEW];
            given.iter_mut().zip(ids).for_each(|(place, id)| *place = id);
            let mut below = [0_u8; FEW];
            for i in 1..n {
                let mut mine = 0;
                for j in 0..i {
                    let before = u8::from(given[j] <= given[i]);
                    mine += before;
                    below[j] += 1 - before;
                }
                below[i] = mine;
            }
            self.ids.resize(n, 0);
            self.sources.resize(n, 0);
            for i in 0..n {
                let at = usize::from(below[i]);
                self.ids[at] = given[i];
                self.sources[at] = i as u32;
            }
        } else {
            self.keys.clear();
            self.keys.extend(ids.zip(0..));
            self.keys.sort_unstable();
            self.ids.extend(self.keys.iter().map(|(id, _)| *id));
            self.sources.extend(self.keys.iter().map(|(_, at)| *at));
        }
        self.ids.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Takes ids that are in order.
    pub(crate) fn set(&mut self, ids: impl Iterator<Item = u64>) {
        self.ids.clear();
        self.ids.extend(ids);
    }

    /// Finds an id.
    pub(crate) fn find(&self, id: u64) -> Option<u32> {
        if self.ids.len() <= FEW {
            // Counting waits for no comparison.
            let at = self.ids.iter().map(|known| usize::from(*known < id)).sum::<usize>();
            return (self.ids.get(at) == Some(&id)).then_some(at as u32);
        }
        self.ids.binary_search(&id).ok().map(|at| at as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn few_and_many_are_put_in_the_same_order_and_found(ids in prop::collection::vec(0..60_u64, 0..40)) {
            let mut order = Order::default();
            let twice = order.sort(ids.iter().copied());
            let mut keys: Vec<(u64, u32)> = ids.iter().copied().zip(0..).collect();
            keys.sort_unstable();
            prop_assert_eq!(order.ids.clone(), keys.iter().map(|key| key.0).collect::<Vec<_>>());
            prop_assert_eq!(order.sources(), keys.iter().map(|key| key.1).collect::<Vec<_>>());
            prop_assert_eq!(twice, keys.windows(2).any(|pair| pair[0].0 == pair[1].0));
            for id in 0..61 {
                let found = order.find(id).map(|at| order.ids[at as usize]);
                prop_assert_eq!(found, ids.contains(&id).then_some(id));
            }
        }
    }
}
