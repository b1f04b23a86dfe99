//! Which traces are open and where, and which were closed of late: two small tables of hashes, probed one place after another.
//!
//! *Layout.* Eight bytes a place. An open trace is half of its hash and where it lies: whoever looks compares the id there. A
//! closed one is its hash of 64 bits, which is taken for the trace: of a thousand million traces none is mistaken for
//! another, but for one chance in hundreds of thousands.
//!
//! *Cost.* One cache line a look-up. The hash is computed once and serves both tables.

use std::hash::Hasher;

use crate::fetch::fetch;
use crate::intern::Mix;

const FREE: u64 = 0;
/// Places of the smallest table.
const LEAST: usize = 1_024;

/// Returns the hash of an id; never 0.
pub(crate) fn hash_of(id: u128) -> u64 {
    let mut mix = Mix::default();
    mix.write_u128(id);
    mix.finish().max(1)
}

/// Where open traces lie.
#[derive(Default)]
pub(crate) struct OpenIds {
    /// The upper half of the hash, and where the trace lies, plus one. The number of places is a power of two.
    slots: Vec<u64>,
    len: usize,
}

fn slot_of(hash: u64, at: u32) -> u64 {
    (hash >> 32 << 32) | (u64::from(at) + 1)
}

impl OpenIds {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns all, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().filter(|slot| **slot != FREE).map(|slot| (*slot as u32) - 1)
    }

    /// Finds the place with this hash for which `is` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut probe = (hash >> 32) as usize & mask;
        loop {
            let slot = *self.slots.get(probe)?;
            if slot == FREE {
                return None;
            }
            if slot >> 32 == hash >> 32 && is((slot as u32) - 1) {
                return Some((slot as u32) - 1);
            }
            probe = (probe + 1) & mask;
        }
    }

    /// Has memory bring what is needed to look for this hash soon.
    #[inline]
    pub(crate) fn fetch(&self, hash: u64) {
        let home = (hash >> 32) as usize & self.slots.len().wrapping_sub(1);
        self.slots.get(home).into_iter().for_each(fetch);
    }

    /// Adds a place that is not among them.
    pub(crate) fn insert(&mut self, hash: u64, at: u32) {
        if self.len * 3 >= self.slots.len() * 2 {
            let larger = vec![FREE; (self.slots.len() * 2).max(LEAST)];
            let before = std::mem::replace(&mut self.slots, larger);
            before.into_iter().filter(|slot| *slot != FREE).for_each(|slot| self.put(slot));
        }
        self.put(slot_of(hash, at));
        self.len += 1;
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut probe = (slot >> 32) as usize & mask;
        while self.slots[probe] != FREE {
            probe = (probe + 1) & mask;
        }
        self.slots[probe] = slot;
    }

    /// Takes a place out, and moves up those that stood behind it for lack of room.
    pub(crate) fn remove(&mut self, hash: u64, at: u32) {
        let wanted = slot_of(hash, at);
        let mask = self.slots.len().wrapping_sub(1);
        let mut hole = (hash >> 32) as usize & mask;
        while self.slots.get(hole).is_some_and(|slot| *slot != wanted) {
            if self.slots[hole] == FREE {
                return;
            }
            hole = (hole + 1) & mask;
        }
        if self.slots.is_empty() {
            return;
        }
        self.len -= 1;
        let mut probe = hole;
        loop {
            probe = (probe + 1) & mask;
            let slot = self.slots[probe];
            if slot == FREE {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            // It may move where the hole lies between its home and where it is.
            if probe.wrapping_sub(home) & mask >= probe.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = probe;
            }
        }
        self.slots[hole] = FREE;
    }
}

/// Hashes of traces that were closed.
#[derive(Default)]
pub(crate) struct RecentIds {
    slots: Vec<u64>,
    len: usize,
}

impl RecentIds {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets all, and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.slots.fill(FREE);
        self.len = 0;
    }

    /// Has memory bring what is needed to look for this hash soon.
    #[inline]
    pub(crate) fn fetch(&self, hash: u64) {
        let home = hash as usize & self.slots.len().wrapping_sub(1);
        self.slots.get(home).into_iter().for_each(fetch);
    }

    /// Finds the hash, or the free place where it would be.
    fn probe(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut probe = hash as usize & mask;
        while self.slots[probe] != hash && self.slots[probe] != FREE {
            probe = (probe + 1) & mask;
        }
        probe
    }

    pub(crate) fn contains(&self, hash: u64) -> bool {
        !self.slots.is_empty() && self.slots[self.probe(hash)] == hash
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        if self.len * 3 >= self.slots.len() * 2 {
            let larger = vec![FREE; (self.slots.len() * 2).max(LEAST)];
            let before = std::mem::replace(&mut self.slots, larger);
            for hash in before.into_iter().filter(|hash| *hash != FREE) {
                let at = self.probe(hash);
                self.slots[at] = hash;
            }
        }
        let at = self.probe(hash);
        self.len += usize::from(self.slots[at] == FREE);
        self.slots[at] = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Hashes are few and often lie behind each other, so that places are fought for, also around the end.
        #[test]
        fn open_ids_are_found_where_a_map_finds_them(steps in prop::collection::vec((0..40_u64, any::<bool>()), 0..400)) {
            let mut ids = OpenIds::default();
            let mut map: HashMap<u32, u64> = HashMap::new();
            let hash_of = |key: u64| ((key % 5).wrapping_sub(3) << 32).max(1);
            for (key, insert) in steps {
                let (at, hash) = (key as u32, hash_of(key));
                match (insert, map.contains_key(&at)) {
                    (true, false) => {
                        ids.insert(hash, at);
                        map.insert(at, hash);
                    }
                    (false, true) => {
                        ids.remove(hash, at);
                        map.remove(&at);
                    }
                    _ => {}
                }
                prop_assert_eq!(ids.len(), map.len());
                for key in 0..40 {
                    let found = ids.find(hash_of(key), |at| u64::from(at) == key);
                    prop_assert_eq!(found, map.get(&(key as u32)).map(|_| key as u32));
                }
            }
            prop_assert_eq!(ids.places().collect::<HashSet<_>>(), map.into_keys().collect::<HashSet<_>>());
        }

        #[test]
        fn recent_ids_are_those_of_a_set(hashes in prop::collection::vec(1..3_000_u64, 0..3_000)) {
            let mut ids = RecentIds::default();
            let set: HashSet<u64> = hashes.iter().copied().collect();
            hashes.iter().for_each(|hash| ids.insert(*hash));
            prop_assert_eq!(ids.len(), set.len());
            prop_assert!((1..3_100).all(|hash| ids.contains(hash) == set.contains(&hash)));
            ids.clear();
            prop_assert!(!hashes.iter().any(|hash| ids.contains(*hash)) && ids.len() == 0);
        }
    }
}
