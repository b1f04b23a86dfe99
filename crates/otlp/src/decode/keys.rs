//! Attribute names, each kept once a column: what is pushed is a name's number.
//!
//! *How.* A column that is filled batch after batch meets the same names in each. They stay known, by their places among all that were
//! met, and are given a number when they are met in a batch.
//!
//! *Cost.* A name that was met before and is at most 32 bytes long costs four loads, one place of a small table and no
//! comparison of memory; a longer one costs a comparison as well. Only a name whose place another holds, or that was not met in the batch, is looked up by a
//! hash that senders cannot foresee, so that names made to collide cost a bounded time each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, UInt32Array};
use arrow::datatypes::UInt32Type;

use super::columns::{NotUtf8, Text};
use super::taking::Taking;

/// Places of the table that is looked in first.
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

/// The name that was met last in a place of the table.
#[derive(Clone, Copy)]
struct Slot {
    sketch: Sketch,
    /// Its place among all names.
    name: u32,
    /// Its number in the batch.
    number: u32,
    /// The batch in which it has that number.
    batch: u32,
}

impl Slot {
    const NONE: Self = Self { sketch: Sketch::NONE, name: 0, number: 0, batch: 0 };
}

/// The number that a name has in the batch in which it was met last.
#[derive(Clone, Copy)]
struct Met {
    batch: u32,
    number: u32,
}

/// Names that most columns have fewer of.
const NAMES_EXPECTED: usize = 28;

/// Names of which more are known, or which take more bytes, are forgotten between two batches.
const KNOWN_MAX: (usize, usize) = (512, 16 << 10);

/// The names of one map column under construction.
pub(super) struct Keys {
    /// The number of each entry's name.
    numbers: Vec<u32>,
    /// The names of the batch, by number.
    names: Text,
    /// Made with the first name: [`SLOTS`] places.
    recent: Option<Box<[Slot]>>,
    /// Places of names that were ever met: in the batch, or in those before it.
    known: HashMap<Box<[u8]>, u32>,
    met: Vec<Met>,
    /// Bytes of the names known.
    known_bytes: usize,
    /// The number of the batch; never 0, which no name was met in.
    batch: u32,
    /// How many names of the batch the requests before the present one left.
    kept: usize,
    /// How many names were known when the present request began.
    known_before: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            numbers: Vec::new(),
            names: Text::default(),
            recent: None,
            known: HashMap::new(),
            met: Vec::new(),
            known_bytes: 0,
            batch: 1,
            kept: 0,
            known_before: 0,
        }
    }
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
            && let Some(slot) = recent.get(at)
            && slot.sketch == sketch
            && slot.batch == self.batch
            && (name.len() <= Sketch::WHOLE || self.names.get(slot.number as usize) == name)
        {
            self.numbers.push(slot.number);
            return;
        }
        self.look_up(name, sketch, at);
    }

    #[cold]
    fn look_up(&mut self, name: &[u8], sketch: Sketch, at: usize) {
        let recent = self.recent.get_or_insert_with(|| {
            self.known.reserve(NAMES_EXPECTED);
            vec![Slot::NONE; SLOTS].into_boxed_slice()
        });
        let place = if recent[at].sketch == sketch && name.len() <= Sketch::WHOLE {
            // Met before, in another batch.
            recent[at].name
        } else {
            match self.known.get(name) {
                Some(place) => *place,
                None => {
                    let place = self.met.len() as u32;
                    self.known.insert(name.into(), place);
                    self.known_bytes += name.len();
                    self.met.push(Met { batch: 0, number: 0 });
                    place
                }
            }
        };
        let met = &mut self.met[place as usize];
        if met.batch != self.batch {
            *met = Met { batch: self.batch, number: self.names.len() as u32 };
            self.names.push(name);
        }
        recent[at] = Slot { sketch, name: place, number: met.number, batch: self.batch };
        self.numbers.push(met.number);
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
        self.known_before = self.met.len();
    }

    /// Drops the names that the present request brought: nobody would count them. No entry may have any of them.
    pub(super) fn forget(&mut self) {
        if self.names.len() > self.kept {
            let (batch, kept) = (self.batch, self.kept as u32);
            self.names.truncate(self.kept);
            for met in self.met.iter_mut().filter(|met| met.batch == batch && met.number >= kept) {
                met.batch = 0;
            }
            let slots = self.recent.iter_mut().flat_map(|recent| recent.iter_mut());
            for slot in slots.filter(|slot| slot.batch == batch && slot.number >= kept) {
                slot.batch = 0;
            }
        }
        if self.met.len() > self.known_before {
            let before = self.known_before as u32;
            self.met.truncate(self.known_before);
            self.known.retain(|_, place| *place < before);
            self.known_bytes = self.known.keys().map(|name| name.len()).sum();
            let slots = self.recent.iter_mut().flat_map(|recent| recent.iter_mut());
            slots.filter(|slot| slot.name >= before).for_each(|slot| *slot = Slot::NONE);
        }
    }

    /// Begins the next batch where the present one has no entry.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.numbers.is_empty());
        self.names.truncate(0);
        self.next_batch();
    }

    /// Returns the dictionary.
    pub(super) fn finish(&mut self, taking: &Taking) -> Result<ArrayRef, NotUtf8> {
        let numbers = UInt32Array::new(taking.take(&mut self.numbers).into(), None);
        let names = self.names.finish(taking)?;
        if taking.leaves_room() {
            self.next_batch();
        }
        Ok(Arc::new(DictionaryArray::<UInt32Type>::new(numbers, names)))
    }

    fn next_batch(&mut self) {
        self.kept = 0;
        let (names, bytes) = KNOWN_MAX;
        if self.met.len() > names || self.known_bytes > bytes || self.batch == u32::MAX {
            *self = Self {
                numbers: std::mem::take(&mut self.numbers),
                names: std::mem::take(&mut self.names),
                ..Self::default()
            };
        } else {
            self.batch += 1;
            self.known_before = self.met.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::taking::Leave;
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
        let Ok(array) = keys.finish(&Taking::new(Leave::Nothing)) else { panic!("the names are text") };
        let array = array.as_dictionary::<UInt32Type>();
        let values = array.values().as_string::<i32>();
        let back: Vec<&str> = array.keys().values().iter().map(|key| values.value(*key as usize)).collect();
        assert_eq!(back, names);
        let distinct: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(values.len(), distinct.len());
    }

    #[test]
    fn of_names_that_refused_requests_bring_none_is_known_afterwards() {
        let mut keys = Keys::default();
        for batch in 0..3 {
            keys.push(format!("kept {batch}").as_bytes());
            keys.keep();
            for n in 0..1_000 {
                (0..10).for_each(|name| keys.push(format!("refused {n} {name}").as_bytes()));
                keys.push(b"kept 0");
                keys.truncate(1);
                keys.forget();
                assert_eq!((keys.known.len(), keys.met.len(), keys.names.len()), (batch + 1, batch + 1, 1));
            }
            assert_eq!(keys.known_bytes, 6 * (batch + 1));
            let Ok(array) = keys.finish(&Taking::new(Leave::Room)) else { panic!("the names are text") };
            let names = array.as_dictionary::<UInt32Type>().values().as_string::<i32>();
            assert_eq!(names.iter().flatten().collect::<Vec<_>>(), [format!("kept {batch}")]);
        }
    }
}
