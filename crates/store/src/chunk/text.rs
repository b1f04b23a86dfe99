//! Leaves of text and bytes: a dictionary where values repeat, else plain.
//!
//! *Cost.* A value of a column without a dictionary is interned; one that comes by a number in its batch's dictionary costs a
//! look-up in an array, its text being interned once a batch.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, UInt32Type};
use parquet::basic::{Encoding, Type};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;

use super::bits::{hybrid, run, width};
use super::interner::Interner;
use super::page::{Bounds, Finished, Scratch, statistics};
use super::slots::{Cut, Slots};

/// Longer values make no bounds: readers compare them, footers carry them.
const BOUND_BYTES: usize = 128;
/// Page bounds of a dictionary with more entries than this are not worth looking for.
const RANKED: usize = 4_096;
/// A page of values this long on average is cut at every opportunity.
const WIDE: usize = 64;
/// What the values of a dictionary may be long together.
const DICTIONARY_BYTES: usize = 16 << 20;
/// So many values are looked at before a dictionary is given up.
const TRIED: usize = 4_096;

/// A batch's values.
struct Values<'a> {
    offsets: &'a [i32],
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    fn of(array: &'a dyn Array) -> Result<Self> {
        if let Some(text) = array.as_string_opt::<i32>() {
            return Ok(Self { offsets: text.value_offsets(), bytes: text.value_data() });
        }
        let bytes = array.as_binary_opt::<i32>().ok_or_else(|| unknown(array.data_type()))?;
        Ok(Self { offsets: bytes.value_offsets(), bytes: bytes.value_data() })
    }

    #[inline(always)]
    fn get(&self, at: usize) -> &'a [u8] {
        &self.bytes[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }
}

fn unknown(data_type: &DataType) -> ParquetError {
    ParquetError::ArrowError(format!("no column of type {data_type} is stored"))
}

/// A batch's part of the leaf.
struct Part<'a> {
    values: Values<'a>,
    /// The number of each item's value, where the batch has a dictionary.
    keys: Option<&'a [u32]>,
}

impl<'a> Part<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self> {
        match array.as_dictionary_opt::<UInt32Type>() {
            Some(dictionary) => {
                let values = Values::of(dictionary.values().as_ref())?;
                Ok(Self { values, keys: Some(dictionary.keys().values()) })
            }
            None => Ok(Self { values: Values::of(array.as_ref())?, keys: None }),
        }
    }

    #[inline(always)]
    fn get(&self, at: usize) -> &'a [u8] {
        match self.keys {
            Some(keys) => self.values.get(keys[at] as usize),
            None => self.values.get(at),
        }
    }
}

/// Numbers every item, unless too few values repeat.
fn intern<'a>(parts: &[Part<'a>], slots: &Slots<'_>, codes: &mut Vec<u32>) -> Option<Interner<'a>> {
    // What comes by number is interned once a batch and is never more than the batches hold; item by item it could be many times that.
    let shared = parts.iter().all(|part| part.keys.is_some());
    let mut interner = Interner::new();
    let mut known: Vec<Vec<u32>> = vec![Vec::new(); parts.len()];
    let mut check = TRIED;
    codes.clear();
    codes.reserve(slots.items);
    for run in slots.runs.iter() {
        let part = &parts[run.batch as usize];
        let items = run.start as usize..(run.start + run.len) as usize;
        match part.keys {
            Some(keys) => {
                let known = &mut known[run.batch as usize];
                if known.is_empty() {
                    known.resize(part.values.offsets.len().saturating_sub(1), u32::MAX);
                }
                for key in &keys[items] {
                    let mut code = known[*key as usize];
                    if code == u32::MAX {
                        code = interner.intern(part.values.get(*key as usize));
                        known[*key as usize] = code;
                    }
                    codes.push(code);
                }
            }
            None => codes.extend(items.map(|at| interner.intern(part.values.get(at)))),
        }
        if !shared && codes.len() >= check {
            if interner.len() > codes.len() - codes.len() / 4 || interner.bytes() > DICTIONARY_BYTES {
                return None;
            }
            check = codes.len() * 2;
        }
    }
    if shared {
        return Some(interner);
    }
    let repeats = slots.items < TRIED || interner.len() <= slots.items - slots.items / 4;
    (repeats && interner.bytes() <= DICTIONARY_BYTES).then_some(interner)
}

/// The place of each entry among all in their order.
fn ranks(entries: &[&[u8]]) -> (Vec<u32>, Vec<u32>) {
    let mut sorted: Vec<u32> = (0..entries.len() as u32).collect();
    sorted.sort_unstable_by_key(|entry| entries[*entry as usize]);
    let mut ranks = vec![0; entries.len()];
    sorted.iter().enumerate().for_each(|(rank, entry)| ranks[*entry as usize] = rank as u32);
    (ranks, sorted)
}

fn bounds(least: &[u8], greatest: &[u8]) -> Option<Bounds> {
    (least.len().max(greatest.len()) <= BOUND_BYTES).then(|| (least.to_vec(), greatest.to_vec()))
}

/// Encodes a leaf; `bounded` where bounds of its values can prune. Numbers of entries go through `codes`.
pub(super) fn encode<'s>(
    scratch: &'s mut Scratch,
    codes: &mut Vec<u32>,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
    bounded: bool,
) -> Result<Finished<'s>> {
    let parts: Vec<Part<'_>> = arrays.iter().map(Part::of).collect::<Result<_>>()?;
    match intern(&parts, slots, codes) {
        Some(interner) if interner.len() > 0 => dictionary(scratch, descriptor, &interner, codes, slots, bounded),
        _ => plain(scratch, descriptor, &parts, slots, bounded),
    }
}

fn dictionary<'s>(
    scratch: &'s mut Scratch,
    descriptor: &ColumnDescPtr,
    interner: &Interner<'_>,
    codes: &[u32],
    slots: &Slots<'_>,
    bounded: bool,
) -> Result<Finished<'s>> {
    let entries: Vec<&[u8]> = interner.iter().collect();
    let bounded = bounded && slots.is_flat();
    let all = match bounded {
        true => entries.iter().min().zip(entries.iter().max()).and_then(|(least, greatest)| bounds(least, greatest)),
        false => None,
    };
    let ranked = (all.is_some() && entries.len() <= RANKED && entries.iter().all(|entry| entry.len() <= BOUND_BYTES))
        .then(|| ranks(&entries));
    let one = entries.len() == 1;
    // One value and no levels: pages of a few bytes.
    let (mut chunk, page) = scratch.begin(descriptor, ranked.is_some(), (one && slots.is_plain()).then_some(false));
    page.reserve(interner.bytes() + entries.len() * 4);
    for entry in &entries {
        page.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        page.extend_from_slice(entry);
    }
    chunk.dictionary(page, entries.len())?;
    for (from, to, rows) in pages(slots, 0) {
        page.clear();
        slots.levels(from, to, page);
        let codes = &codes[from.item..to.item];
        let mut found = None;
        if let Some((ranks, sorted)) = &ranked
            && !codes.is_empty()
        {
            let (mut least, mut greatest) = (u32::MAX, 0);
            for code in codes {
                let rank = ranks[*code as usize];
                (least, greatest) = (least.min(rank), greatest.max(rank));
            }
            found = bounds(entries[sorted[least as usize] as usize], entries[sorted[greatest as usize] as usize]);
        }
        let bits = width(codes.iter().copied().max().unwrap_or(0));
        page.push(bits as u8);
        match one {
            true if codes.is_empty() => {}
            true => run(0, codes.len(), bits, page),
            false => hybrid(codes, bits, page),
        }
        let counts = (to.slot - from.slot, rows, to.slot - from.slot - codes.len());
        chunk.data(page, Encoding::RLE_DICTIONARY, counts, found)?;
    }
    chunk.finish(flat_statistics(slots, all))
}

/// Statistics of a flat leaf; a nested one has none that anybody asks for.
fn flat_statistics(slots: &Slots<'_>, bounds: Option<Bounds>) -> Option<parquet::file::statistics::Statistics> {
    slots.is_flat().then(|| statistics(Type::BYTE_ARRAY, bounds, (slots.slots - slots.items) as u64)).flatten()
}

fn plain<'s>(
    scratch: &'s mut Scratch,
    descriptor: &ColumnDescPtr,
    parts: &[Part<'_>],
    slots: &Slots<'_>,
    bounded: bool,
) -> Result<Finished<'s>> {
    let mut bytes = 0;
    let mut all: Option<(&[u8], &[u8])> = None;
    let mut long = !(bounded && slots.is_flat());
    for run in slots.runs.iter() {
        let part = &parts[run.batch as usize];
        for at in run.start as usize..(run.start + run.len) as usize {
            let value = part.get(at);
            bytes += value.len();
            long |= value.len() > BOUND_BYTES;
            if !long {
                let (least, greatest) = all.unwrap_or((value, value));
                all = Some((least.min(value), greatest.max(value)));
            }
        }
    }
    let all = all.filter(|_| !long).and_then(|(least, greatest)| bounds(least, greatest));
    let empty = (slots.items == 0 && slots.is_plain()).then_some(false);
    let (mut chunk, page) =
        scratch.begin(descriptor, slots.items == 0 && slots.is_flat(), empty.or_else(|| slots.late()));
    let mut runs = slots.runs.iter();
    let mut rest: Option<(usize, std::ops::Range<usize>)> = None;
    for (from, to, rows) in pages(slots, bytes / slots.slots.max(1)) {
        page.clear();
        slots.levels(from, to, page);
        let mut left = to.item - from.item;
        while left > 0 {
            let (batch, items) = match rest.take() {
                Some(rest) => rest,
                None => {
                    let run = runs.next().expect("runs hold every item");
                    (run.batch as usize, run.start as usize..(run.start + run.len) as usize)
                }
            };
            let taken = items.len().min(left);
            left -= taken;
            for at in items.start..items.start + taken {
                let value = parts[batch].get(at);
                page.extend_from_slice(&(value.len() as u32).to_le_bytes());
                page.extend_from_slice(value);
            }
            rest = (taken < items.len()).then_some((batch, items.start + taken..items.end));
        }
        let items = to.item - from.item;
        chunk.data(page, Encoding::PLAIN, (to.slot - from.slot, rows, to.slot - from.slot - items), None)?;
    }
    chunk.finish(flat_statistics(slots, all))
}

/// The pages of a leaf whose slots take `each` bytes: from, to, rows.
pub(super) fn pages(slots: &Slots<'_>, each: usize) -> impl Iterator<Item = (Cut, Cut, usize)> {
    let step = if each > WIDE { 1 } else { 2 };
    let last = slots.cuts.len() - 1;
    (0..last).step_by(step).map(move |at| {
        let end = (at + step).min(last);
        (slots.cuts[at], slots.cuts[end], slots.row_of(end) - slots.row_of(at))
    })
}
