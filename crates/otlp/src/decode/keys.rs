//! Attribute names, each kept once a column: what is pushed is a name's number.
//!
//! *Cost.* A name that was met before and is at most 32 bytes long costs four loads, one slot of a small table and no
//! comparison of memory; a longer one costs a comparison as well. Only a name whose slot another holds is looked up by a
//! hash that senders cannot foresee, so that names made to collide cost a bounded time each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, UInt32Array};
use arrow::datatypes::UInt32Type;

use super::columns::{Leave, NotUtf8, Text};

/// Slots of the table that is looked in first.
const SLOTS: usize = 256;

/// A name's length and bytes: all of them up to [`Sketch::WHOLE`], else the first and the last sixteen.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sketch {
    len: u32,
    words: [u64; 4],
}

impl Sketch {
    const WHOLE: usize = 32;
    /// No name: its length says it has bytes, and no name that long has none.
    const NONE: Self = Self { len: u32::MAX, words: [0; 4] };

    #[inline(always)]
    fn of(name: &[u8]) -> Self {
        let word = |from: usize| -> u64 {
            let bytes = name[from..from + 8].try_into().expect("eight bytes are eight bytes");
            u64::from_le_bytes(bytes)
        };
        let len = name.len();
        let words = if len >= 16 {
            [word(0), word(8), word(len - 16), word(len - 8)]
        } else if len >= 8 {
            [word(0), word(len - 8), 0, 0]
        } else {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(name);
            [u64::from_le_bytes(bytes), 0, 0, 0]
        };
        Self { len: len as u32, words }
    }

    #[inline(always)]
    fn slot(&self) -> usize {
        let [a, b, c, d] = self.words;
        let mixed = (a ^ c.rotate_left(29)).wrapping_add((b ^ d.rotate_left(17)).rotate_left(32));
        let mixed = (mixed ^ u64::from(self.len)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 56) as usize % SLOTS
    }
}

/// The names of one map column under construction.
#[derive(Default)]
pub(super) struct Keys {
    /// The number of each entry's name.
    numbers: Vec<u32>,
    names: Text,
    /// The name that was met last in each slot, and its number.
    recent: Option<Box<[(Sketch, u32); SLOTS]>>,
    known: HashMap<Box<[u8]>, u32>,
    /// How many names the requests before the present one left.
    kept: usize,
}

impl Keys {
    /// Returns how many entries there are.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Makes room for so many entries whose names take so many bytes together.
    pub(super) fn reserve(&mut self, entries: usize, names: usize) {
        self.numbers.reserve_exact(entries);
        self.names.open().reserve(names);
    }

    /// Returns the bytes of the distinct names.
    pub(super) fn bytes_len(&self) -> usize {
        self.names.bytes_len()
    }

    /// Pushes an entry with this name.
    #[inline(always)]
    pub(super) fn push(&mut self, name: &[u8]) {
        let sketch = Sketch::of(name);
        let at = sketch.slot();
        if let Some(recent) = &self.recent
            && recent[at].0 == sketch
            && (name.len() <= Sketch::WHOLE || self.names.get(recent[at].1 as usize) == name)
        {
            self.numbers.push(recent[at].1);
            return;
        }
        self.look_up(name, sketch, at);
    }

    #[cold]
    fn look_up(&mut self, name: &[u8], sketch: Sketch, at: usize) {
        let number = match self.known.get(name) {
            Some(number) => *number,
            None => {
                let number = self.names.len() as u32;
                self.names.push(name);
                self.known.insert(name.into(), number);
                number
            }
        };
        let recent = self.recent.get_or_insert_with(|| Box::new([(Sketch::NONE, 0); SLOTS]));
        recent[at] = (sketch, number);
        self.numbers.push(number);
    }

    /// Drops every entry from `entries` on; names stay known.
    pub(super) fn truncate(&mut self, entries: usize) {
        self.numbers.truncate(entries);
    }

    /// Says whether every name that the present request brought is text.
    pub(super) fn is_text(&self) -> bool {
        self.names.is_text(self.kept)
    }

    /// Ends the present request: its names stay.
    pub(super) fn keep(&mut self) {
        self.kept = self.names.len();
    }

    /// Drops the names that the present request brought. No entry may have any of them.
    pub(super) fn forget(&mut self) {
        if self.names.len() > self.kept {
            let kept = self.kept;
            self.names.truncate(kept);
            self.known.retain(|_, number| (*number as usize) < kept);
            self.recent = None;
        }
    }

    /// Returns the dictionary.
    pub(super) fn finish(&mut self, leave: Leave) -> Result<ArrayRef, NotUtf8> {
        let numbers = UInt32Array::new(leave.take(&mut self.numbers).into(), None);
        let names = self.names.finish(leave)?;
        if leave == Leave::Room {
            self.known.clear();
            self.kept = 0;
            if let Some(recent) = &mut self.recent {
                recent.fill((Sketch::NONE, 0));
            }
        }
        Ok(Arc::new(DictionaryArray::<UInt32Type>::new(numbers, names)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};

    #[test]
    fn every_name_gets_one_number_and_comes_back() {
        // Of every length around the bounds of a sketch, alike at both ends, many more than there are slots.
        let name = |n: usize| {
            let middle = "x".repeat(n % 40) + &n.to_string();
            format!("same-beginning--{middle}--and-the-same-end").split_off(n % 30)
        };
        let names: Vec<String> = (0..2_000).map(|n| name(n % 1_000)).collect();
        let mut keys = Keys::default();
        names.iter().for_each(|name| keys.push(name.as_bytes()));
        let Ok(array) = keys.finish(Leave::Nothing) else { panic!("the names are text") };
        let array = array.as_dictionary::<UInt32Type>();
        let values = array.values().as_string::<i32>();
        let back: Vec<&str> = array.keys().values().iter().map(|key| values.value(*key as usize)).collect();
        assert_eq!(back, names);
        let distinct: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(values.len(), distinct.len());
    }
}
