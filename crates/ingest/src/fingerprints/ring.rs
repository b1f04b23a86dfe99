//! The fingerprints that are remembered: a ring in the order of their frames, and an index into it.
//!
//! *Layout.* `slots` is written round and round; `index` is a table of slot numbers with linear probing, twice as long as the
//! ring at the least, so that a probe is short. The fingerprint is its own hash. A zero in the index is an empty place, else
//! the slot's number plus one.
//!
//! *Invariants.* Nothing grows: memory is [`Ring::bytes`] from the first request to the last. A slot that is written again
//! leaves the index first, unless a later slot has taken its fingerprint over.
//!
//! *Cost.* No allocation after [`Ring::new`], whose zeros the system provides page by page as they are touched.

/// One request that is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) fingerprint: u128,
    /// When it was received, in nanoseconds; [`AGAIN`] may be set.
    pub(super) received: u64,
    /// Its frame; 0 where that is not known any more.
    pub(super) sequence: u64,
}

/// Set in [`Stored::received`] where the answer has to be worked out again: records were left out, or may have been.
pub(super) const AGAIN: u64 = 1 << 63;

impl Stored {
    pub(super) fn received_ns(&self) -> u64 {
        self.received & !AGAIN
    }

    /// Returns the same with another time of receipt.
    pub(super) fn received_at(&self, ns: u64) -> Self {
        Self { received: (ns & !AGAIN) | (self.received & AGAIN), ..*self }
    }

    pub(super) fn again(&self) -> bool {
        self.received & AGAIN != 0
    }
}

/// What one request takes: a slot, and two to four places in the index.
const SLOT_BYTES: usize = size_of::<Stored>() + 4 * size_of::<u32>();

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Vec<Stored>,
    index: Vec<u32>,
    /// The slot to write next.
    next: usize,
    held: usize,
}

impl Ring {
    /// Makes a ring that takes `bytes` at the most, and holds sixteen requests at the least.
    pub(super) fn new(bytes: usize) -> Self {
        // Slots are numbered in 32 bits, one of which says that there is none.
        let count = (bytes / SLOT_BYTES).clamp(16, 1 << 30);
        Self {
            slots: vec![Stored::default(); count],
            index: vec![0; (2 * count).next_power_of_two()],
            next: 0,
            held: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, fingerprint: u128) -> Option<&Stored> {
        let mut place = self.home(fingerprint);
        loop {
            let slot = (self.index[place] as usize).checked_sub(1)?;
            if self.slots[slot].fingerprint == fingerprint {
                return Some(&self.slots[slot]);
            }
            place = self.after(place);
        }
    }

    /// Remembers a request, in place of the oldest where the ring is full; returns that one.
    pub(super) fn push(&mut self, stored: Stored) -> Option<Stored> {
        let slot = self.next;
        self.next = (slot + 1) % self.slots.len();
        let full = self.held == self.slots.len();
        let oldest = full.then(|| self.slots[slot]);
        let replaced = oldest.filter(|oldest| self.forget(oldest.fingerprint, slot));
        self.held += usize::from(!full);
        self.slots[slot] = stored;
        let mut place = self.home(stored.fingerprint);
        while let Some(other) = (self.index[place] as usize).checked_sub(1) {
            if self.slots[other].fingerprint == stored.fingerprint {
                break;
            }
            place = self.after(place);
        }
        self.index[place] = slot as u32 + 1;
        replaced
    }

    /// Yields what is held, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Stored> {
        let count = self.slots.len();
        (1..=self.held).map(move |back| &self.slots[(self.next + count - back) % count])
    }

    /// Takes `slot` out of the index, where it is the one that its fingerprint leads to.
    fn forget(&mut self, fingerprint: u128, slot: usize) -> bool {
        let mut place = self.home(fingerprint);
        loop {
            match self.index[place] as usize {
                0 => return false,
                found if found == slot + 1 => break,
                _ => place = self.after(place),
            }
        }
        // What was pushed along by the one that goes moves up, or probes would end before it.
        let mut hole = place;
        loop {
            place = self.after(place);
            let Some(other) = (self.index[place] as usize).checked_sub(1) else { break };
            let home = self.home(self.slots[other].fingerprint);
            let mask = self.index.len() - 1;
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(hole) & mask {
                self.index[hole] = self.index[place];
                hole = place;
            }
        }
        self.index[hole] = 0;
        true
    }

    fn home(&self, fingerprint: u128) -> usize {
        fingerprint as usize & (self.index.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.index.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn stored(fingerprint: u128, sequence: u64) -> Stored {
        Stored { fingerprint, received: sequence, sequence }
    }

    #[test]
    fn a_ring_takes_no_more_than_it_was_given() {
        for bytes in [1 << 16, 10 << 20, (10 << 20) + 4_711] {
            let ring = Ring::new(bytes);
            let taken = ring.slots.capacity() * size_of::<Stored>() + ring.index.capacity() * size_of::<u32>();
            assert!(taken <= bytes, "{taken} of {bytes}");
            assert!(taken * 3 > bytes * 2, "{taken} of {bytes} is little");
        }
    }

    proptest! {
        /// Few homes and few slots, so that everything collides and everything is written again.
        #[test]
        fn the_last_of_each_is_found_until_as_many_came_after_it(pushed in prop::collection::vec(0..40_u128, 0..300)) {
            let mut ring = Ring::new(0);
            let mut model: VecDeque<Stored> = VecDeque::new();
            for (sequence, low) in (1..).zip(pushed) {
                // Three homes at the end of the index, so that probes wrap.
                let fingerprint = (low << 64) | (29 + low % 3);
                let one = stored(fingerprint, sequence);
                let replaced = ring.push(one);
                if model.len() == ring.capacity() {
                    let oldest = model.pop_front().expect("it is full");
                    let superseded = model.iter().any(|later| later.fingerprint == oldest.fingerprint);
                    prop_assert_eq!(replaced, (!superseded).then_some(oldest));
                } else {
                    prop_assert_eq!(replaced, None);
                }
                model.push_back(one);
                for low in 0..40_u128 {
                    let fingerprint = (low << 64) | (29 + low % 3);
                    let last = model.iter().rev().find(|one| one.fingerprint == fingerprint);
                    prop_assert_eq!(ring.get(fingerprint), last);
                }
                prop_assert!(ring.newest_first().eq(model.iter().rev()));
            }
        }
    }
}
