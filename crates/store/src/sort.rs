//! The order of a segment's rows.
//!
//! *Cost.* Twenty-four bytes a row while they are sorted, four afterwards. Where rank and time fit into one word, as those of
//! some minutes do, rows are dealt out by a few bits at a time and never compared.

use std::borrow::Cow;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{TimestampNanosecondType, UInt32Type};
use parquet::errors::{ParquetError, Result};
use plimsoll_otlp::Table;

use crate::chunk::{Interner, Places};
use crate::layout::sort_columns;

/// Every row of every batch, in the order of its table.
pub(crate) struct Order {
    /// The row's place among all, in the order of the table.
    rows: Vec<u32>,
}

impl Order {
    /// Sorts by service and the like, then time; ties keep the order in which the rows came, so that the same rows always give
    /// the same file.
    pub(crate) fn of(table: Table, batches: &[&RecordBatch]) -> Result<Self> {
        let total: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        u32::try_from(total)
            .map_err(|_| ParquetError::General(format!("{total} rows are too many for one segment")))?;

        // Texts first and the time last, as every table has it.
        let mut ranks = Ranks { of: vec![0; total], count: 1 };
        let mut times: Vec<i64> = Vec::with_capacity(total);
        for name in sort_columns(table) {
            let Ok(column) = table.schema().index_of(name) else { continue };
            let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(column)).collect();
            if arrays.iter().all(|array| array.as_primitive_opt::<TimestampNanosecondType>().is_some()) {
                arrays
                    .iter()
                    .for_each(|array| times.extend(&**array.as_primitive::<TimestampNanosecondType>().values()));
            } else {
                ranks.refine(&arrays);
            }
        }
        times.resize(total, 0);
        Ok(Self { rows: sorted(&ranks, &times) })
    }

    /// Returns how many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the places of so many rows at a time.
    pub(crate) fn groups(&self, rows: usize) -> impl Iterator<Item = Places<'_>> {
        self.rows.chunks(rows).map(|places| Places::Each(Cow::Borrowed(places)))
    }
}

/// Returns the places of rows by rank, then time, then place.
fn sorted(ranks: &Ranks, times: &[i64]) -> Vec<u32> {
    let earliest = times.iter().copied().min().unwrap_or(0);
    let latest = times.iter().copied().max().unwrap_or(0);
    let bits = |most: u64| u64::BITS - most.leading_zeros();
    let time_bits = bits(latest.wrapping_sub(earliest) as u64);
    let both = time_bits + bits(u64::from(ranks.count - 1));
    let rows = || ranks.of.iter().zip(times);
    if both > u64::BITS {
        // Flipping the sign makes unsigned numbers compare as the times do.
        let key = |(place, (rank, time)): (usize, (&u32, &i64))| {
            u128::from(*rank) << 96 | u128::from((*time ^ i64::MIN) as u64) << 32 | place as u128
        };
        let mut keys: Vec<u128> = rows().enumerate().map(key).collect();
        keys.sort_unstable();
        return keys.into_iter().map(|key| key as u32).collect();
    }
    // A rank of no bits is zero, which the shift by all of a word would not leave out.
    let upper = |rank: u32| if time_bits == u64::BITS { 0 } else { u64::from(rank) << time_bits };
    let keys = rows().map(|(rank, time)| upper(*rank) | time.wrapping_sub(earliest) as u64);
    deal(keys.zip(0..).collect(), both)
}

/// Sorts by the low `bits` of the keys and keeps the order of equal ones: dealt out by digits, the lowest first.
fn deal(mut keys: Vec<(u64, u32)>, bits: u32) -> Vec<u32> {
    const DIGIT: u32 = 11;
    let mut dealt = vec![(0, 0); keys.len()];
    for shift in (0..bits).step_by(DIGIT as usize) {
        let digit = |key: u64| (key >> shift) as usize & ((1 << DIGIT) - 1);
        let mut ends = [0_usize; 1 << DIGIT];
        keys.iter().for_each(|(key, _)| ends[digit(*key)] += 1);
        if ends.contains(&keys.len()) {
            continue;
        }
        let mut begin = 0;
        for end in &mut ends {
            begin += std::mem::replace(end, begin);
        }
        for key in &keys {
            let at = &mut ends[digit(key.0)];
            dealt[*at] = *key;
            *at += 1;
        }
        std::mem::swap(&mut keys, &mut dealt);
    }
    keys.into_iter().map(|(_, place)| place).collect()
}

/// What the columns looked at so far say about the order: rows of one rank are equal in all of them.
struct Ranks {
    of: Vec<u32>,
    count: u32,
}

impl Ranks {
    /// Tells rows of one rank apart by another column of text.
    fn refine(&mut self, arrays: &[&ArrayRef]) {
        let mut interner = Interner::new();
        let mut codes: Vec<u32> = Vec::with_capacity(self.of.len());
        for array in arrays {
            match array.as_dictionary_opt::<UInt32Type>() {
                Some(dictionary) => {
                    let texts = dictionary.values().as_string::<i32>();
                    let known: Vec<u32> = texts.iter().map(|v| interner.intern(v.unwrap_or("").as_bytes())).collect();
                    codes.extend(dictionary.keys().values().iter().map(|key| known[*key as usize]));
                }
                None => {
                    let mut last: Option<(&str, u32)> = None;
                    for text in array.as_string::<i32>().iter().map(|v| v.unwrap_or("")) {
                        let code = match last {
                            Some((same, code)) if same == text => code,
                            _ => interner.intern(text.as_bytes()),
                        };
                        last = Some((text, code));
                        codes.push(code);
                    }
                }
            }
        }
        let entries: Vec<&[u8]> = interner.iter().collect();
        let mut sorted: Vec<usize> = (0..entries.len()).collect();
        sorted.sort_unstable_by_key(|entry| entries[*entry]);
        let mut rank = vec![0_u32; entries.len()];
        sorted.iter().enumerate().for_each(|(at, entry)| rank[*entry] = at as u32);

        let count = entries.len().max(1) as u32;
        if let Some(pairs) = self.count.checked_mul(count) {
            for (of, code) in self.of.iter_mut().zip(&codes) {
                *of = *of * count + rank[*code as usize];
            }
            self.count = pairs;
            return;
        }
        // More pairs than numbers, though not more than rows: number those that occur.
        let pairs: Vec<(u32, u32)> = self.of.iter().zip(&codes).map(|(of, code)| (*of, rank[*code as usize])).collect();
        let mut distinct = pairs.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for (of, pair) in self.of.iter_mut().zip(&pairs) {
            *of = distinct.partition_point(|known| known < pair) as u32;
        }
        self.count = distinct.len() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_sorted_by_rank_and_time_and_ties_keep_their_order(
            rows in prop::collection::vec((0_u32..40, prop_oneof![any::<i64>(), -5_i64..5, (1_i64 << 40)..(1_i64 << 41)]), 0..300),
            count in prop_oneof![Just(40_u32), Just(u32::MAX)]
        ) {
            let (of, times): (Vec<u32>, Vec<i64>) = rows.iter().copied().unzip();
            let mut expected: Vec<u32> = (0..rows.len() as u32).collect();
            expected.sort_by_key(|row| rows[*row as usize]);
            prop_assert_eq!(sorted(&Ranks { of, count }, &times), expected);
        }
    }
}
