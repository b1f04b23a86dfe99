//! Leaves of numbers, booleans and ids of one width.
//!
//! *Cost.* Batches are laid end to end, then items are taken in their order: two copies, of which the first reads what is far
//! in a row and the second what is near. What is constant or repeats becomes a dictionary, whole numbers otherwise packed
//! differences, all else plain.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{ArrowNativeType, DataType};
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::Buffers;
use super::bits::{differences, hybrid, width};
use super::page::{Bounds, Finished, Scratch, statistics};
use super::slots::{Places, Slots, spread};

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
    let around = |(least, greatest): (i64, i64), rank: i64| (least.min(rank), greatest.max(rank));
    let none = (i64::MAX, i64::MIN);
    let (least, greatest) = match order {
        Order::Signed => values.iter().copied().fold(none, around),
        Order::Unsigned => values.iter().map(|bits| bits ^ i64::MIN).fold(none, around),
        Order::Float => values.iter().filter_map(|bits| order.rank(*bits)).fold(none, around),
    };
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

/// Fills `values` with the items, through `wide`.
fn gather<T: ArrowNativeType>(
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
    (wide, values): (&mut Vec<i64>, &mut Vec<i64>),
    widen: impl Fn(T) -> i64 + Copy,
) {
    wide.clear();
    values.clear();
    if slots.items == 0 {
        return;
    }
    wide.reserve(arrays.iter().map(|array| array.len()).sum());
    for array in arrays {
        wide.extend(native::<T>(array).iter().map(|value| widen(*value)));
    }
    values.reserve(slots.items);
    slots.places.gather(wide, values);
}

/// Numbers every value, where few are distinct. The entries come in the order in which they were met.
fn intern(values: &[i64], range: Option<(i64, i64)>, order: Order, codes: &mut Vec<u32>) -> Option<Vec<i64>> {
    codes.clear();
    if let Some(first) = values.first()
        && values.iter().all(|value| value == first)
    {
        codes.resize(values.len(), 0);
        return Some(vec![*first]);
    }
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

/// Appends values of so many bytes each.
fn extend<const N: usize>(values: &[i64], page: &mut Vec<u8>, bytes: impl Fn(i64) -> [u8; N]) {
    let begin = page.len();
    page.resize(begin + N * values.len(), 0);
    let (to, _) = page[begin..].as_chunks_mut::<N>();
    to.iter_mut().zip(values).for_each(|(to, value)| *to = bytes(*value));
}

/// Encodes a leaf of numbers.
pub(super) fn encode<'s>(
    scratch: &'s mut Scratch,
    buffers: &mut Buffers,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
    data_type: &DataType,
) -> Result<Finished<'s>> {
    let Buffers { codes, wide, values, .. } = buffers;
    let through = (wide, &mut *values);
    let (order, bytes) = match data_type {
        DataType::Timestamp(..) | DataType::Int64 => {
            gather(arrays, slots, through, |v: i64| v);
            (Order::Signed, 8)
        }
        DataType::UInt64 => {
            gather(arrays, slots, through, |v: i64| v);
            (Order::Unsigned, 8)
        }
        DataType::Float64 => {
            gather(arrays, slots, through, |v: i64| v);
            (Order::Float, 8)
        }
        DataType::Int32 => {
            gather(arrays, slots, through, |v: i32| i64::from(v));
            (Order::Signed, 4)
        }
        DataType::UInt32 => {
            gather(arrays, slots, through, |v: u32| i64::from(v));
            (Order::Unsigned, 4)
        }
        DataType::Int16 => {
            gather(arrays, slots, through, |v: i16| i64::from(v));
            (Order::Signed, 4)
        }
        DataType::UInt8 => {
            gather(arrays, slots, through, |v: u8| i64::from(v));
            (Order::Unsigned, 4)
        }
        other => return Err(ParquetError::ArrowError(format!("no column of type {other} is stored"))),
    };
    let flat = slots.is_flat();
    // Where pages do not hang on what is in them, their bounds are looked for first, and are those of all.
    let ranges: Vec<Option<(i64, i64)>> = match flat {
        true => slots.pages(0, |_| 0).iter().map(|part| range(order, &values[part.items()])).collect(),
        false => vec![range(order, values)],
    };
    let all = ranges.iter().flatten().copied().reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    let entries = intern(values, all, order, codes).filter(|entries| !entries.is_empty());
    let one = entries.as_ref().is_none_or(|entries| entries.len() == 1);
    let compress = (one && slots.is_plain() && (entries.is_some() || values.is_empty())).then_some(false);
    // Floats that are none have no place in an order, so that a page of them would leave the others without an index.
    let (mut chunk, page) = scratch.begin(descriptor, flat, compress);
    let append = |values: &[i64], page: &mut Vec<u8>| match bytes {
        8 => extend(values, page, |value| value.to_le_bytes()),
        _ => extend(values, page, |value| (value as i32).to_le_bytes()),
    };
    if let Some(entries) = &entries {
        append(entries, page);
        chunk.dictionary(page, entries.len())?;
    }
    let each = if entries.is_some() { 2 } else { bytes };
    let pages = match slots.is_flat() {
        true => slots.pages(0, |_| 0),
        false => slots.pages(each * slots.items, |_| each),
    };
    for (at, part) in pages.into_iter().enumerate() {
        page.clear();
        slots.levels(part, page);
        let items = part.items();
        let bounds = ranges.get(at).copied().flatten().filter(|_| flat).map(|range| bounds(order, range, bytes));
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
        chunk.data(page, encoding, part.counts(), bounds)?;
    }
    let nulls = (slots.slots - slots.items) as u64;
    let bounds = all.map(|all| bounds(order, all, bytes));
    chunk.finish(flat.then(|| statistics(descriptor.physical_type(), bounds, nulls)).flatten())
}

/// Encodes a leaf of booleans.
pub(super) fn booleans<'s>(
    scratch: &'s mut Scratch,
    buffers: &mut Buffers,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
) -> Result<Finished<'s>> {
    let Buffers { bytes, ids, .. } = buffers;
    bytes.clear();
    ids.clear();
    if slots.items > 0 {
        arrays.iter().for_each(|array| spread(array.as_boolean().values(), bytes));
        slots.places.gather(bytes, ids);
    }
    let (mut chunk, page) = scratch.begin(descriptor, false, None);
    for part in slots.pages(0, |_| 0) {
        page.clear();
        slots.levels(part, page);
        let byte = |bits: &[u8]| bits.iter().rev().fold(0_u8, |byte, bit| byte << 1 | bit);
        page.extend(ids[part.items()].chunks(8).map(byte));
        chunk.data(page, Encoding::PLAIN, part.counts(), None)?;
    }
    let nulls = Some((slots.slots - slots.items) as u64);
    chunk.finish(slots.is_flat().then(|| Statistics::boolean(None, None, None, nulls, false)))
}

/// Fills `ids` with the items at `places` of `bytes`.
fn pick<const N: usize>(places: &Places<'_>, bytes: &[u8], ids: &mut Vec<u8>) {
    let (from, _) = bytes.as_chunks::<N>();
    ids.resize(places.len() * N, 0);
    let (to, _) = ids.as_chunks_mut::<N>();
    let mut at = 0;
    places.for_each(|place| {
        to[at] = from[place];
        at += 1;
    });
}

/// Encodes a leaf of ids of `width` bytes, with a bloom filter where single ones are looked for.
pub(super) fn ids<'s>(
    scratch: &'s mut Scratch,
    buffers: &mut Buffers,
    descriptor: &ColumnDescPtr,
    arrays: &[ArrayRef],
    slots: &Slots<'_>,
    (width, looked_up): (usize, bool),
) -> Result<Finished<'s>> {
    let Buffers { bytes, ids, .. } = buffers;
    bytes.clear();
    ids.clear();
    if slots.items > 0 {
        arrays.iter().for_each(|array| bytes.extend_from_slice(array.as_fixed_size_binary().value_data()));
        match width {
            8 => pick::<8>(&slots.places, bytes, ids),
            16 => pick::<16>(&slots.places, bytes, ids),
            _ => slots.places.for_each(|at| ids.extend_from_slice(&bytes[at * width..(at + 1) * width])),
        }
    }
    let mut filter = None;
    if looked_up {
        const FALSE_POSITIVES: f64 = 0.01;
        let mut found = Sbbf::new_with_ndv_fpp(slots.items.max(1) as u64, FALSE_POSITIVES)?;
        let mut last: &[u8] = &[];
        for id in ids.chunks_exact(width.max(1)) {
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
    for part in slots.pages(width * slots.items, |_| width) {
        page.clear();
        slots.levels(part, page);
        let items = part.items();
        page.extend_from_slice(&ids[items.start * width..items.end * width]);
        chunk.data(page, Encoding::PLAIN, part.counts(), None)?;
    }
    let nulls = Some((slots.slots - slots.items) as u64);
    let statistics = || Statistics::fixed_len_byte_array(None, None, None, nulls, false);
    let mut finished = chunk.finish(slots.is_flat().then(statistics))?;
    finished.close.bloom_filter = filter;
    Ok(finished)
}
