//! Resources that were read for batches before: what to read the same bytes again would come to.
//!
//! *Why.* Requests that share columns come from the same services batch after batch. To read a resource costs as much as to read several
//! records; to copy what it came to costs little.
//!
//! *Invariants.* What is remembered was in a request that was kept: it is well-formed, and its text is text. It takes `bytes_max` at the most.
//! What is recalled takes as much of a request's room as to read it did; where that may not be left, it is read, and refused as any other.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::columns::Text;
use crate::value::Room;

/// What one takes beside its bytes: offsets, and a place in the map.
const ENTRY_BYTES: usize = 64;

/// The columns that the entries of a resource fill, but for its bytes on the wire.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) names: [Text; 5],
    pub(super) attributes: Text,
}

impl Texts {
    /// Drops every resource from `kept` on, and what was appended since.
    pub(super) fn truncate(&mut self, kept: usize) {
        self.names.iter_mut().for_each(|column| column.truncate(kept));
        self.attributes.truncate(kept);
    }

    /// Appends a resource of others.
    pub(super) fn push_of(&mut self, others: &Self, at: usize) {
        self.names.iter_mut().zip(&others.names).for_each(|(column, other)| column.push(other.get(at)));
        self.attributes.push(others.attributes.get(at));
    }

    fn bytes_of(&self, at: usize) -> usize {
        self.names.iter().chain([&self.attributes]).map(|column| column.get(at).len()).sum()
    }
}

/// See the module.
pub(super) struct Remembered {
    by_hash: ByHash,
    wire: Text,
    texts: Texts,
    /// What the text of each took of a request's room.
    taken: Vec<usize>,
    bytes: usize,
    bytes_max: usize,
}

impl Remembered {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            by_hash: ByHash::default(),
            wire: Text::default(),
            texts: Texts::default(),
            taken: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Appends what a resource of these bytes, which hash to `hash`, came to, within `room`; false where it is to be read.
    pub(super) fn recall(&self, hash: u64, wire: &[u8], into: &mut Texts, room: &mut Room) -> bool {
        let known = self.by_hash.get(&hash).map(|at| *at as usize).filter(|at| self.wire.get(*at) == wire);
        let recalled = known.filter(|at| self.taken.get(*at).is_some_and(|bytes| room.take_again(*bytes)));
        recalled.inspect(|at| into.push_of(&self.texts, *at)).is_some()
    }

    /// Remembers what a resource came to, and that this took so many bytes of a request's room. Where there is no room here, all others are forgotten.
    pub(super) fn add(&mut self, hash: u64, wire: &[u8], from: &Texts, at: usize, taken: usize) {
        let bytes = ENTRY_BYTES + wire.len() + from.bytes_of(at);
        if bytes > self.bytes_max {
            return;
        }
        if self.bytes + bytes > self.bytes_max {
            *self = Self::new(self.bytes_max);
        }
        self.bytes += bytes;
        self.by_hash.insert(hash, self.wire.len() as u32);
        self.wire.push(wire);
        self.texts.push_of(from, at);
        self.taken.push(taken);
    }
}

/// Places by a hash that senders cannot foresee.
pub(super) type ByHash = HashMap<u64, u32, BuildHasherDefault<Hashed>>;

/// Takes a hash for what it is.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are looked up");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Texts {
        let mut texts = Texts::default();
        texts.names.iter_mut().for_each(|column| column.push(name.as_bytes()));
        texts.attributes.push(b"{}");
        texts
    }

    #[test]
    fn what_was_read_is_recalled_by_its_bytes_and_forgotten_where_there_is_no_room() {
        let mut remembered = Remembered::new(4 * (ENTRY_BYTES + 64));
        let (mut into, mut room) = (Texts::default(), Room::default());
        let left = room.left();
        assert!(!remembered.recall(1, b"a", &mut into, &mut room));
        remembered.add(1, b"a", &resource("cart"), 0, 7);
        assert!(remembered.recall(1, b"a", &mut into, &mut room));
        assert!(
            !remembered.recall(1, b"b", &mut into, &mut room),
            "of two that share a hash the bytes tell which it is"
        );
        assert_eq!((into.names[4].get(0), into.attributes.get(0)), (&b"cart"[..], &b"{}"[..]));
        assert_eq!((into.attributes.len(), left - room.left()), (1, 7));
        for hash in 2..100 {
            remembered.add(hash, &[0; 32], &resource("cart"), 0, 7);
            assert!(remembered.bytes <= remembered.bytes_max);
            assert!(remembered.recall(hash, &[0; 32], &mut into, &mut room));
        }
        assert!(!remembered.recall(1, b"a", &mut into, &mut room));
        remembered.add(200, &[0; 4_096], &resource("cart"), 0, 7);
        assert!(!remembered.recall(200, &[0; 4_096], &mut into, &mut room), "one that would take it all");
    }
}
