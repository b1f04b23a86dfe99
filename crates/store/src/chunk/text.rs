//! Leaves of text and bytes: a dictionary where values repeat, else plain.
//!
//! Values are numbered in the order in which they lie in memory, which is not that of the file: texts are gone through
//! once and in a row, and what a sort has scattered is their numbers.
//!
//! *Cost.* A value of a column without a dictionary is interned; one that comes by a number in its batch's dictionary costs a
//! look-up in an array, its text being interned once a batch.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, UInt32Type};
use parquet::basic::{Encoding, Type};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;

use super::Buffers;
use super::bits::{hybrid, run, width};
use super::interner::Interner;
use super::page::{Bounds, Finished, Scratch, statistics};
use super::slots::Slots;

/// Longer values make no bounds: readers compare them, footers carry them.
const BOUND_BYTES: usize = 128;
/// Page bounds of a dictionary with more entries than this are not worth looking for.
const RANKED: usize = 4_096;
/// What the values of a dictionary may be long together: readers hold all of them for any of its pages.
const DICTIONARY_BYTES: usize = 4 << 20;
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

    fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    #[inline(always)]
    fn get(&self, at: usize) -> &'a [u8] {
        &self.bytes[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }

    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.offsets, other.offsets) && std::ptr::eq(self.bytes, other.bytes)
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
    nulls: Option<&'a NullBuffer>,
    items: usize,
}

impl<'a> Part<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self> {
        let (values, keys) = match array.as_dictionary_opt::<UInt32Type>() {
            Some(dictionary) => (dictionary.values().as_ref(), Some(&**dictionary.keys().values())),
            None => (array.as_ref(), None),
        };
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(Self { values: Values::of(values)?, keys, nulls, items: array.len() })
    }

    #[inline(always)]
    fn get(&self, at: usize) -> &'a [u8] {
        match self.keys {
            Some(keys) => self.values.get(keys[at] as usize),
            None => self.values.get(at),
        }
    }

    /// Calls `visit` with the items that are there, as ranges.
    fn valid(&self, mut visit: impl FnMut(std::ops::Range<usize>)) {
        match self.nulls {
            Some(nulls) => nulls.valid_slices().for_each(|(from, to)| visit(from..to)),
            None => visit(0..self.items),
        }
    }
}

/// Numbers every item of every batch by its place, unless too few values repeat. What is null is a zero.
fn intern<'a>(
    parts: &[Part<'a>],
    codes: &mut Vec<u32>,
    known: &mut Vec<u32>,
    table: &mut Vec<u64>,
) -> Option<Interner<'a>> {
    // What comes by number is interned once a batch and is never more than the batches hold; item by item it could be many times that.
    let shared = parts.iter().all(|part| part.keys.is_some());
    let mut interner = Interner::within(std::mem::take(table));
    let (mut check, mut seen) = (TRIED, 0);
    codes.clear();
    codes.reserve(parts.iter().map(|part| part.items).sum());
    let mut last: Option<&Values<'a>> = None;
    let mut whole = false;
    for part in parts {
        let base = codes.len();
        match part.keys {
            Some(keys) => {
                // Batches of one file share their dictionaries.
                let values = &part.values;
                if last.is_none_or(|last| !last.is(values)) {
                    known.clear();
                    // A dictionary that most rows share is numbered as a whole, so that rows ask nothing.
                    whole = part.nulls.is_none() && values.len() * 4 <= keys.len();
                    match whole {
                        true => known.extend((0..values.len()).map(|key| interner.intern(values.get(key)))),
                        false => known.resize(values.len(), u32::MAX),
                    }
                }
                last = Some(values);
                let mut number = |key: u32| {
                    let code = &mut known[key as usize];
                    if *code == u32::MAX {
                        *code = interner.intern(values.get(key as usize));
                    }
                    *code
                };
                match part.nulls {
                    None if values.len() == 1 => codes.resize(base + keys.len(), number(0)),
                    None if whole => codes.extend(keys.iter().map(|key| known[*key as usize])),
                    None => codes.extend(keys.iter().map(|key| number(*key))),
                    Some(_) => {
                        codes.resize(base + part.items, 0);
                        part.valid(|items| items.for_each(|at| codes[base + at] = number(keys[at])));
                    }
                }
                seen += part.items;
            }
            None => {
                part.valid(|items| {
                    codes.resize(base + items.start, 0);
                    seen += items.len();
                    let offsets = &part.values.offsets[items.start..=items.end];
                    codes.extend(offsets.windows(2).map(|pair| {
                        // A look at the bytes once: they lie behind one another.
                        interner.intern(&part.values.bytes[pair[0] as usize..pair[1] as usize])
                    }));
                });
                codes.resize(base + part.items, 0);
            }
        }
        if !shared && seen >= check {
            if !pays(&interner, seen) {
                *table = interner.into_table();
                return None;
            }
            check = seen * 2;
        }
    }
    if !shared && (seen >= TRIED && !pays(&interner, seen) || interner.bytes() > DICTIONARY_BYTES) {
        *table = interner.into_table();
        return None;
    }
    Some(interner)
}

/// Says whether a quarter of so many values repeats.
fn pays(interner: &Interner<'_>, seen: usize) -> bool {
    interner.len() <= seen - seen / 4 && interner.bytes() <= DICTIONARY_BYTES
}

/// Takes the numbers of the items that are written, and numbers anew what they stand for: entries come in the order in which the
/// file meets them, and those it does not meet are left out. Returns which entries those are.
fn renumber(slots: &Slots<'_>, entries: usize, from: &[u32], to: &mut Vec<u32>, moved: &mut Vec<u32>) -> Vec<u32> {
    to.clear();
    to.reserve(slots.items);
    if entries == 1 {
        to.resize(slots.items, 0);
        return if slots.items == 0 { Vec::new() } else { vec![0] };
    }
    moved.clear();
    moved.resize(entries, u32::MAX);
    slots.places.gather(from, to);
    let mut met = Vec::new();
    // What a file is sorted by and what hangs on it repeats from row to row.
    let (mut last, mut number) = (u32::MAX, 0);
    for code in to {
        if *code != last {
            last = *code;
            let new = &mut moved[last as usize];
            if *new == u32::MAX {
                *new = met.len() as u32;
                met.push(last);
            }
            number = *new;
        }
        *code = number;
    }
    met
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

/// Encodes a leaf; `bounded` where bounds of its values can prune.
pub(super) fn encode<'s>(
    scratch: &'s mut Scratch,
    buffers: &mut Buffers,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
    bounded: bool,
) -> Result<Finished<'s>> {
    let parts: Vec<Part<'_>> = arrays.iter().map(Part::of).collect::<Result<_>>()?;
    let Buffers { placed, codes, moved, table, .. } = buffers;
    let interner = if slots.items > 0 { intern(&parts, placed, moved, table) } else { None };
    let Some(interner) = interner else {
        return plain(scratch, codes, descriptor, &parts, slots, bounded);
    };
    let met = renumber(slots, interner.len(), placed, codes, moved);
    let finished = dictionary(scratch, descriptor, &interner, &met, codes, slots, bounded)?;
    *table = interner.into_table();
    Ok(finished)
}

fn dictionary<'s>(
    scratch: &'s mut Scratch,
    descriptor: &ColumnDescPtr,
    interner: &Interner<'_>,
    met: &[u32],
    codes: &[u32],
    slots: &Slots<'_>,
    bounded: bool,
) -> Result<Finished<'s>> {
    let bounded = bounded && slots.is_flat();
    let all = bounded.then(|| interner.extremes(met)).flatten();
    let all = all.and_then(|(least, greatest)| bounds(least, greatest));
    let entries: Vec<&[u8]> = met.iter().map(|entry| interner.get(*entry)).collect();
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
    let all_bits = width(entries.len() as u32 - 1) as usize;
    for part in slots.pages(codes.len() * all_bits / 8, |_| all_bits.div_ceil(8)) {
        page.clear();
        slots.levels(part, page);
        let codes = &codes[part.items()];
        let mut found = None;
        if let Some((ranks, sorted)) = &ranked
            && !codes.is_empty()
        {
            let (mut least, mut greatest) = (u32::MAX, 0);
            let mut last = u32::MAX;
            for code in codes {
                if *code != last {
                    last = *code;
                    let rank = ranks[last as usize];
                    (least, greatest) = (least.min(rank), greatest.max(rank));
                }
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
        chunk.data(page, Encoding::RLE_DICTIONARY, part.counts(), found)?;
    }
    chunk.finish(flat_statistics(slots, all))
}

/// Statistics of a flat leaf; a nested one has none that anybody asks for.
fn flat_statistics(slots: &Slots<'_>, bounds: Option<Bounds>) -> Option<parquet::file::statistics::Statistics> {
    slots.is_flat().then(|| statistics(Type::BYTE_ARRAY, bounds, (slots.slots - slots.items) as u64)).flatten()
}

/// Writes the values behind one another; their lengths go through `lengths`.
fn plain<'s>(
    scratch: &'s mut Scratch,
    lengths: &mut Vec<u32>,
    descriptor: &ColumnDescPtr,
    parts: &[Part<'_>],
    slots: &Slots<'_>,
    bounded: bool,
) -> Result<Finished<'s>> {
    // Where the items of each batch end, so that a place says which batch it is in.
    let mut ends = Vec::with_capacity(parts.len());
    let mut end = 0;
    for part in parts {
        end += part.items;
        ends.push(end);
    }
    let mut values: Vec<&[u8]> = Vec::with_capacity(slots.items);
    let (mut batch, mut from) = (0, 0);
    slots.places.for_each(|at| {
        if at < from || at >= ends[batch] {
            batch = ends.partition_point(|end| *end <= at);
            from = ends[batch] - parts[batch].items;
        }
        values.push(parts[batch].get(at - from));
    });
    let mut bytes = 0;
    let mut all: Option<(&[u8], &[u8])> = None;
    let mut long = !(bounded && slots.is_flat());
    lengths.clear();
    for value in &values {
        bytes += value.len() + 4;
        lengths.push(value.len() as u32 + 4);
        long |= value.len() > BOUND_BYTES;
        if !long {
            let (least, greatest) = all.unwrap_or((value, value));
            all = Some((least.min(value), greatest.max(value)));
        }
    }
    let all = all.filter(|_| !long).and_then(|(least, greatest)| bounds(least, greatest));
    let empty = (slots.items == 0 && slots.is_plain()).then_some(false);
    let (mut chunk, page) =
        scratch.begin(descriptor, slots.items == 0 && slots.is_flat(), empty.or_else(|| slots.late()));
    for part in slots.pages(bytes, |item| lengths[item] as usize) {
        page.clear();
        slots.levels(part, page);
        for value in &values[part.items()] {
            page.extend_from_slice(&(value.len() as u32).to_le_bytes());
            page.extend_from_slice(value);
        }
        chunk.data(page, Encoding::PLAIN, part.counts(), None)?;
    }
    chunk.finish(flat_statistics(slots, all))
}
