//! Leaves of numbers, booleans and ids of one width.
//!
//! *Cost.* Items are copied once, run by run. What is constant or repeats becomes a dictionary, whole numbers otherwise packed
//! differences, all else plain.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{ArrowNativeType, DataType};
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::bits::{differences, hybrid, width};
use super::page::{Bounds, Finished, Scratch, statistics};
use super::slots::Slots;
use super::text::pages;

/// So many numbers are tried before a dictionary is given up, and so many distinct ones are too many by then.
const TRIED: usize = 4_096;
const DISTINCT: usize = 512;
/// Numbers that span no more than this are told apart by a table.
const SPAN: u64 = 1_024;

/// How numbers are compared, which their bits do not say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Signed,
    Unsigned,
    Float,
}

impl Order {
    /// Returns a number that compares as the value with these bits does; none for a float that is not one.
    #[inline(always)]
    fn rank(self, bits: i64) -> Option<i64> {
        match self {
            Self::Signed => Some(bits),
            Self::Unsigned => Some(bits ^ i64::MIN),
            Self::Float => {
                let float = f64::from_bits(bits as u64);
                (!float.is_nan()).then_some(bits ^ ((bits >> 63) as u64 >> 1) as i64)
            }
        }
    }

    /// Undoes [`Self::rank`].
    fn bits(self, rank: i64) -> i64 {
        match self {
            Self::Signed => rank,
            Self::Unsigned => rank ^ i64::MIN,
            Self::Float => rank ^ ((rank >> 63) as u64 >> 1) as i64,
        }
    }
}

fn range(order: Order, values: &[i64]) -> Option<(i64, i64)> {
    let (mut least, mut greatest) = (i64::MAX, i64::MIN);
    for rank in values.iter().filter_map(|bits| order.rank(*bits)) {
        (least, greatest) = (least.min(rank), greatest.max(rank));
    }
    (least <= greatest).then_some((least, greatest))
}

/// Returns bounds as Parquet writes them, in `bytes` bytes each.
fn bounds(order: Order, (least, greatest): (i64, i64), bytes: usize) -> Bounds {
    let (mut least, mut greatest) = (order.bits(least), order.bits(greatest));
    if order == Order::Float {
        // Zeros compare as equal, so that bounds must hold both.
        if least == 0 {
            least = (-0.0_f64).to_bits() as i64;
        }
        if greatest as u64 == (-0.0_f64).to_bits() {
            greatest = 0;
        }
    }
    (least.to_le_bytes()[..bytes].to_vec(), greatest.to_le_bytes()[..bytes].to_vec())
}

fn native<T: ArrowNativeType>(array: &ArrayRef) -> ScalarBuffer<T> {
    let data = array.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

fn gather<T: ArrowNativeType>(arrays: &[ArrayRef], slots: &Slots<'_>, wide: impl Fn(T) -> i64 + Copy) -> Vec<i64> {
    let parts: Vec<ScalarBuffer<T>> = arrays.iter().map(native).collect();
    let mut values = Vec::with_capacity(slots.items);
    for run in slots.runs.iter() {
        let (from, to) = (run.start as usize, (run.start + run.len) as usize);
        values.extend(parts[run.batch as usize][from..to].iter().map(|value| wide(*value)));
    }
    values
}

/// Numbers every value, where few are distinct. The entries come in the order in which they were met.
fn intern(values: &[i64], range: Option<(i64, i64)>, order: Order, codes: &mut Vec<u32>) -> Option<Vec<i64>> {
    codes.clear();
    codes.reserve(values.len());
    let mut entries = Vec::new();
    if let (Some((least, greatest)), true) = (range, order != Order::Float)
        && greatest.wrapping_sub(least) as u64 <= SPAN
    {
        let least = order.bits(least);
        let mut table = vec![u32::MAX; (greatest.wrapping_sub(order.rank(least)?) + 1) as usize];
        for value in values {
            let code = &mut table[value.wrapping_sub(least) as usize];
            if *code == u32::MAX {
                *code = entries.len() as u32;
                entries.push(*value);
            }
            codes.push(*code);
        }
        return Some(entries);
    }
    // A small table of its own: numbers that do not repeat are given up long before it fills.
    const SLOTS: usize = 4_096;
    let mut table = vec![u32::MAX; SLOTS];
    for (at, value) in values.iter().enumerate() {
        let mut slot = ((*value as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52) as usize;
        let code = loop {
            match table[slot] {
                u32::MAX => {
                    table[slot] = entries.len() as u32;
                    entries.push(*value);
                    break table[slot];
                }
                code if entries[code as usize] == *value => break code,
                _ => slot = (slot + 1) % SLOTS,
            }
        };
        codes.push(code);
        if entries.len() > DISTINCT && at < TRIED || entries.len() > SLOTS / 2 {
            return None;
        }
    }
    Some(entries)
}

/// Encodes a leaf of numbers.
pub(super) fn encode<'s>(
    scratch: &'s mut Scratch,
    codes: &mut Vec<u32>,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
    data_type: &DataType,
) -> Result<Finished<'s>> {
    let (values, order, bytes) = match data_type {
        DataType::Timestamp(..) | DataType::Int64 => (gather(arrays, slots, |v: i64| v), Order::Signed, 8),
        DataType::UInt64 => (gather(arrays, slots, |v: i64| v), Order::Unsigned, 8),
        DataType::Float64 => (gather(arrays, slots, |v: i64| v), Order::Float, 8),
        DataType::Int32 => (gather(arrays, slots, |v: i32| i64::from(v)), Order::Signed, 4),
        DataType::UInt32 => (gather(arrays, slots, |v: u32| i64::from(v)), Order::Unsigned, 4),
        DataType::Int16 => (gather(arrays, slots, |v: i16| i64::from(v)), Order::Signed, 4),
        DataType::UInt8 => (gather(arrays, slots, |v: u8| i64::from(v)), Order::Unsigned, 4),
        other => return Err(ParquetError::ArrowError(format!("no column of type {other} is stored"))),
    };
    let flat = slots.is_flat();
    let all = range(order, &values);
    let entries = intern(&values, all, order, codes).filter(|entries| !entries.is_empty());
    let one = entries.as_ref().is_none_or(|entries| entries.len() == 1);
    let compress = (one && slots.is_plain() && (entries.is_some() || values.is_empty())).then_some(false);
    // Floats that are none have no place in an order, so that a page of them would leave the others without an index.
    let (mut chunk, page) = scratch.begin(descriptor, flat, compress);
    let append = |values: &[i64], page: &mut Vec<u8>| match bytes {
        8 => values.iter().for_each(|value| page.extend_from_slice(&value.to_le_bytes())),
        _ => values.iter().for_each(|value| page.extend_from_slice(&(*value as i32).to_le_bytes())),
    };
    if let Some(entries) = &entries {
        append(entries, page);
        chunk.dictionary(page, entries.len())?;
    }
    for (from, to, rows) in pages(slots, 0) {
        page.clear();
        slots.levels(from, to, page);
        let items = from.item..to.item;
        let bounds = flat.then(|| range(order, &values[items.clone()])).flatten().map(|r| bounds(order, r, bytes));
        let encoding = match &entries {
            Some(_) => {
                let codes = &codes[items.clone()];
                let bits = width(codes.iter().copied().max().unwrap_or(0));
                page.push(bits as u8);
                hybrid(codes, bits, page);
                Encoding::RLE_DICTIONARY
            }
            None if bytes == 8 && order != Order::Float => {
                differences(&values[items.clone()], page);
                Encoding::DELTA_BINARY_PACKED
            }
            None => {
                append(&values[items.clone()], page);
                Encoding::PLAIN
            }
        };
        chunk.data(page, encoding, (to.slot - from.slot, rows, to.slot - from.slot - items.len()), bounds)?;
    }
    let nulls = (slots.slots - slots.items) as u64;
    let bounds = all.map(|all| bounds(order, all, bytes));
    chunk.finish(flat.then(|| statistics(descriptor.physical_type(), bounds, nulls)).flatten())
}

/// Encodes a leaf of booleans.
pub(super) fn booleans<'s>(
    scratch: &'s mut Scratch,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
) -> Result<Finished<'s>> {
    let mut values = Vec::with_capacity(slots.items);
    for run in slots.runs.iter() {
        let array = arrays[run.batch as usize].as_boolean();
        values.extend((run.start as usize..(run.start + run.len) as usize).map(|at| array.value(at)));
    }
    let (mut chunk, page) = scratch.begin(descriptor, false, None);
    for (from, to, rows) in pages(slots, 0) {
        page.clear();
        slots.levels(from, to, page);
        let items = &values[from.item..to.item];
        let byte = |bits: &[bool]| bits.iter().rev().fold(0_u8, |byte, bit| byte << 1 | u8::from(*bit));
        page.extend(items.chunks(8).map(byte));
        chunk.data(page, Encoding::PLAIN, (to.slot - from.slot, rows, to.slot - from.slot - items.len()), None)?;
    }
    let nulls = Some((slots.slots - slots.items) as u64);
    chunk.finish(slots.is_flat().then(|| Statistics::boolean(None, None, None, nulls, false)))
}

/// Encodes a leaf of ids of `width` bytes, with a bloom filter where single ones are looked for.
pub(super) fn ids<'s>(
    scratch: &'s mut Scratch,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
    width: usize,
    looked_up: bool,
) -> Result<Finished<'s>> {
    let mut values = Vec::with_capacity(slots.items * width);
    for run in slots.runs.iter() {
        let array = arrays[run.batch as usize].as_fixed_size_binary();
        let (from, to) = (run.start as usize * width, (run.start + run.len) as usize * width);
        values.extend_from_slice(&array.value_data()[from..to]);
    }
    let mut filter = None;
    if looked_up {
        const FALSE_POSITIVES: f64 = 0.01;
        let mut found = Sbbf::new_with_ndv_fpp(slots.items.max(1) as u64, FALSE_POSITIVES)?;
        let mut last: &[u8] = &[];
        for id in values.chunks_exact(width.max(1)) {
            if id != last {
                found.insert(id);
                last = id;
            }
        }
        found.fold_to_target_fpp(FALSE_POSITIVES);
        filter = Some(found);
    }
    let none = (slots.items == 0 && slots.is_plain()).then_some(false);
    let (mut chunk, page) = scratch.begin(descriptor, slots.items == 0 && slots.is_flat(), none);
    for (from, to, rows) in pages(slots, width) {
        page.clear();
        slots.levels(from, to, page);
        page.extend_from_slice(&values[from.item * width..to.item * width]);
        let items = to.item - from.item;
        chunk.data(page, Encoding::PLAIN, (to.slot - from.slot, rows, to.slot - from.slot - items), None)?;
    }
    let nulls = Some((slots.slots - slots.items) as u64);
    let statistics = || Statistics::fixed_len_byte_array(None, None, None, nulls, false);
    let mut finished = chunk.finish(slots.is_flat().then(statistics))?;
    finished.close.bloom_filter = filter;
    Ok(finished)
}
