//! Distinct texts and their numbers.
//!
//! *Cost.* A text that is known costs a multiplication and one entry of the table; up to sixteen bytes its own memory is not
//! touched. Nothing is copied.
//!
//! The hash is seeded at random once a process, so that texts cannot be made to collide; numbers follow the order in which
//! texts came, so that the same rows give the same file whatever the seed.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

static SEED: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let random = RandomState::new();
    [random.hash_one(1_u8) | 1, random.hash_one(2_u8) | 1]
});

struct Entry<'a> {
    words: [u64; 2],
    bytes: &'a [u8],
}

impl Entry<'_> {
    /// Compares; what the first eight bytes decide touches no text.
    #[inline(always)]
    fn is_below(&self, other: &Self) -> bool {
        let (one, two) = (self.words[0].swap_bytes(), other.words[0].swap_bytes());
        match self.bytes.len() >= 8 && other.bytes.len() >= 8 && one != two {
            true => one < two,
            false => self.bytes < other.bytes,
        }
    }
}

/// The distinct texts so far.
pub(crate) struct Interner<'a> {
    /// Half a hash and one more than a number; zero is free. A power of two, at most three quarters full, so that it
    /// stays as near as it can.
    table: Vec<u64>,
    entries: Vec<Entry<'a>>,
    /// What the texts are long together.
    bytes: usize,
    seed: [u64; 2],
}

/// The first and the last eight bytes: all of them, up to sixteen.
#[inline(always)]
fn words(bytes: &[u8]) -> [u64; 2] {
    let word = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("eight bytes are eight bytes"));
    let half = |from: usize| u64::from(u32::from_le_bytes(bytes[from..from + 4].try_into().expect("four are four")));
    match bytes.len() {
        8.. => [word(0), word(bytes.len() - 8)],
        4..8 => [half(0) | half(bytes.len() - 4) << 32, 0],
        1..4 => {
            let at = |at: usize| u64::from(bytes[at]);
            [at(0) | at(bytes.len() / 2) << 8 | at(bytes.len() - 1) << 16, 0]
        }
        0 => [0, 0],
    }
}

#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl<'a> Interner<'a> {
    pub(crate) fn new() -> Self {
        Self::within(Vec::new())
    }

    /// Begins in the memory of a table that was used before.
    pub(super) fn within(mut table: Vec<u64>) -> Self {
        table.clear();
        table.resize(256, 0);
        Self { table, entries: Vec::new(), bytes: 0, seed: *SEED }
    }

    /// Gives the memory of the table back, for the next.
    pub(super) fn into_table(self) -> Vec<u64> {
        self.table
    }

    /// Returns the text with a number.
    pub(super) fn get(&self, number: u32) -> &'a [u8] {
        self.entries[number as usize].bytes
    }

    /// Returns the least and the greatest of some texts, none of none.
    pub(super) fn extremes(&self, numbers: &[u32]) -> Option<(&'a [u8], &'a [u8])> {
        let mut all = numbers.iter().map(|number| &self.entries[*number as usize]);
        let first = all.next()?;
        let (mut least, mut greatest) = (first, first);
        for entry in all {
            if entry.is_below(least) {
                least = entry;
            } else if greatest.is_below(entry) {
                greatest = entry;
            }
        }
        Some((least.bytes, greatest.bytes))
    }

    /// Returns how many texts there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns how long the distinct texts are together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.entries.iter().map(|entry| entry.bytes)
    }

    #[inline(always)]
    fn hash(&self, bytes: &[u8], [first, last]: [u64; 2]) -> u32 {
        let mut hash = mix(first ^ self.seed[0], last ^ self.seed[1] ^ (bytes.len() as u64) << 32);
        if bytes.len() > 16 {
            for chunk in bytes[8..bytes.len() - 8].chunks(16) {
                let [first, last] = words(chunk);
                hash = mix(first ^ self.seed[0] ^ hash, last ^ self.seed[1]);
            }
        }
        (hash >> 32) as u32
    }

    /// Returns the number of a text, a new one where it is new.
    #[inline(always)]
    pub(crate) fn intern(&mut self, bytes: &'a [u8]) -> u32 {
        let words = words(bytes);
        let hash = self.hash(bytes, words);
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.table[at];
            if slot == 0 {
                return self.insert(Entry { words, bytes }, hash, at);
            }
            if (slot >> 32) as u32 == hash {
                let number = slot as u32 - 1;
                let entry = &self.entries[number as usize];
                if entry.words == words
                    && entry.bytes.len() == bytes.len()
                    && (bytes.len() <= 16 || entry.bytes == bytes)
                {
                    return number;
                }
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(never)]
    fn insert(&mut self, entry: Entry<'a>, hash: u32, at: usize) -> u32 {
        let number = self.entries.len() as u32;
        self.bytes += entry.bytes.len();
        self.entries.push(entry);
        self.table[at] = u64::from(hash) << 32 | u64::from(number + 1);
        if self.entries.len() * 4 > self.table.len() * 3 {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let before: Vec<u64> = self.table.iter().copied().filter(|slot| *slot != 0).collect();
        let length = self.table.len() * 2;
        self.table.clear();
        self.table.resize(length, 0);
        for slot in before {
            let mut at = (slot >> 32) as usize & (length - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (length - 1);
            }
            self.table[at] = slot;
        }
    }
}
