//! Small dense numbers for values that repeat.
//!
//! *Invariants.* A number stays valid until [`Interner::retain`] says otherwise; a freed number is given out again.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A hash that is the same in every process, so that nothing depends on chance.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Mix {
    fn fold(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, value: u8) {
        self.fold(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.fold(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.fold(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.fold(value as u64);
        self.fold((value >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

impl<K: Hash + Eq + Clone> Default for Interner<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Numbers looked up of late, in front of a larger table: one place a key, the newest stays.
pub(crate) struct Recent<K> {
    slots: Vec<Option<(K, u32)>>,
}

impl<K: Copy + Eq> Recent<K> {
    const SLOTS: usize = 1_024;

    pub(crate) fn new() -> Self {
        Self { slots: vec![None; Self::SLOTS] }
    }

    /// Returns the number of `key`, where `at` is a mixture of what it is made of.
    #[inline(always)]
    pub(crate) fn get(&self, at: u32, key: K) -> Option<u32> {
        match self.slots[at as usize % Self::SLOTS] {
            Some((known, id)) if known == key => Some(id),
            _ => None,
        }
    }

    pub(crate) fn put(&mut self, at: u32, key: K, id: u32) {
        self.slots[at as usize % Self::SLOTS] = Some((key, id));
    }

    pub(crate) fn clear(&mut self) {
        self.slots.fill(None);
    }
}

/// Numbers looked up of late by a hash of 128 bits, which is taken for what it is of.
pub(crate) struct RecentHashes {
    /// The empty number marks a free place.
    slots: Vec<(u128, u32)>,
}

impl RecentHashes {
    const SLOTS: usize = 1_024;

    pub(crate) fn new() -> Self {
        Self { slots: vec![(0, u32::MAX); Self::SLOTS] }
    }

    pub(crate) fn get(&self, hash: u128) -> Option<u32> {
        let (known, id) = self.slots[hash as usize % Self::SLOTS];
        (known == hash && id != u32::MAX).then_some(id)
    }

    pub(crate) fn put(&mut self, hash: u128, id: u32) {
        self.slots[hash as usize % Self::SLOTS] = (hash, id);
    }

    pub(crate) fn clear(&mut self) {
        self.slots.fill((0, u32::MAX));
    }
}

/// Values and their numbers, both ways.
pub(crate) struct Interner<K> {
    ids: FixedMap<K, u32>,
    keys: Vec<Option<K>>,
    free: Vec<u32>,
}

impl<K: Hash + Eq + Clone> Interner<K> {
    pub(crate) fn new() -> Self {
        Self { ids: FixedMap::default(), keys: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        self.ids.get(key).copied()
    }

    pub(crate) fn intern(&mut self, key: K) -> u32 {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.keys.push(None);
            u32::try_from(self.keys.len() - 1).expect("bounds are far below four billion")
        });
        self.keys[id as usize] = Some(key.clone());
        self.ids.insert(key, id);
        id
    }

    pub(crate) fn key(&self, id: u32) -> &K {
        self.keys[id as usize].as_ref().expect("numbers are only held while they are marked as used")
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// One past the largest number given out.
    pub(crate) fn span(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &K)> {
        self.keys.iter().enumerate().filter_map(|(id, key)| Some((id as u32, key.as_ref()?)))
    }

    /// Frees every number that is not marked.
    pub(crate) fn retain(&mut self, used: &[bool]) {
        for (id, slot) in self.keys.iter_mut().enumerate() {
            if !used.get(id).copied().unwrap_or(false)
                && let Some(key) = slot.take()
            {
                self.ids.remove(&key);
                self.free.push(id as u32);
            }
        }
    }
}
