//! A line in which parties take turns: each has its own line, and the front of one is served after the front of another.
//!
//! *Cost.* Constant, whatever waits; a party without anybody in line takes no memory.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::connection::Peer;

/// See the module.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    /// Who is in line, by whose turn it is.
    parties: VecDeque<usize>,
    lines: HashMap<usize, VecDeque<T>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { parties: VecDeque::new(), lines: HashMap::new() }
    }
}

impl<T> Turns<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.parties.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    pub(crate) fn push(&mut self, party: usize, item: T) {
        match self.lines.entry(party) {
            Entry::Occupied(mut line) => line.get_mut().push_back(item),
            Entry::Vacant(line) => {
                line.insert(VecDeque::from([item]));
                self.parties.push_back(party);
            }
        }
    }

    /// The same for a party whose turn is to come before all others', unless it is in line already.
    pub(crate) fn push_first(&mut self, party: usize, item: T) {
        let waits = self.lines.contains_key(&party);
        self.push(party, item);
        if !waits && let Some(party) = self.parties.pop_back() {
            self.parties.push_front(party);
        }
    }

    /// The same for a connection: a quiet one comes first.
    pub(crate) fn push_for(&mut self, peer: Peer, item: T) {
        if peer.quiet { self.push_first(peer.number, item) } else { self.push(peer.number, item) }
    }

    /// Returns those of `party` in line.
    pub(crate) fn of(&self, party: usize) -> impl Iterator<Item = &T> {
        self.lines.get(&party).into_iter().flatten()
    }

    /// Returns everybody in line, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lines.values().flatten()
    }

    /// Returns whose turn it is.
    pub(crate) fn front(&self) -> Option<&T> {
        self.lines.get(self.parties.front()?)?.front()
    }

    /// Takes out what [`Self::front`] returns; its party goes to the end.
    pub(crate) fn pop(&mut self) -> Option<(usize, T)> {
        let party = self.parties.pop_front()?;
        let line = self.lines.get_mut(&party)?;
        let item = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&party);
        } else {
            self.parties.push_back(party);
        }
        Some((party, item))
    }

    /// Takes out the first in the order of turns that is as `wanted`; its party goes to the end.
    pub(crate) fn pop_first(&mut self, wanted: impl Fn(&T) -> bool) -> Option<(usize, T)> {
        let places = (0..self.parties.len()).filter_map(|turn| {
            let line = self.lines.get(self.parties.get(turn)?)?;
            Some((line.iter().position(&wanted)?, turn))
        });
        let (place, turn) = places.min()?;
        let party = self.parties.remove(turn)?;
        let line = self.lines.get_mut(&party)?;
        let item = line.remove(place)?;
        if line.is_empty() {
            self.lines.remove(&party);
        } else {
            self.parties.push_back(party);
        }
        Some((party, item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_party_may_be_put_first_and_only_with_the_first_that_it_has_in_line() {
        let mut turns = Turns::default();
        (0..3).for_each(|party| turns.push(party, party));
        turns.push_first(9, 90);
        turns.push_first(9, 91);
        turns.push_first(1, 10);
        let served: Vec<_> = std::iter::from_fn(|| turns.pop()).map(|(_, item)| item).collect();
        assert_eq!(served, [90, 0, 1, 2, 91, 10]);
    }

    proptest! {
        #[test]
        fn each_party_is_served_in_order_and_not_again_before_those_who_waited(
            steps in prop::collection::vec(prop::option::of(0..5_usize), 0..200),
        ) {
            let mut turns = Turns::default();
            let mut lines: HashMap<usize, VecDeque<usize>> = HashMap::new();
            // Who waited when each was served last, and has not been served since.
            let mut owed: HashMap<usize, Vec<usize>> = HashMap::new();
            for (n, step) in steps.into_iter().enumerate() {
                if let Some(party) = step {
                    turns.push(party, n);
                    lines.entry(party).or_default().push_back(n);
                    continue;
                }
                let front = turns.front().copied();
                let popped = turns.pop();
                prop_assert_eq!(popped.map(|(_, item)| item), front);
                let Some((party, item)) = popped else {
                    prop_assert!(lines.values().all(VecDeque::is_empty));
                    continue;
                };
                prop_assert_eq!(lines.get_mut(&party).and_then(VecDeque::pop_front), Some(item));
                prop_assert_eq!(owed.remove(&party).unwrap_or_default(), Vec::<usize>::new());
                owed.values_mut().for_each(|waited| waited.retain(|other| *other != party));
                let waiting = lines.iter().filter(|(other, line)| **other != party && !line.is_empty());
                owed.insert(party, waiting.map(|(other, _)| *other).collect());
            }
            prop_assert_eq!(turns.len(), lines.values().map(VecDeque::len).sum::<usize>());
        }
    }
}
