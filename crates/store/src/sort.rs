//! The order of a segment's rows.
//!
//! *Cost.* Sixteen bytes a row while they are sorted, four to find a row's batch again. Batches come in the order of time but
//! for what overlaps, which the sort makes use of.

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{TimestampNanosecondType, UInt32Type};
use parquet::errors::{ParquetError, Result};
use plimsoll_otlp::Table;

use crate::chunk::{Interner, Run, push};
use crate::layout::sort_columns;

/// Every row of every batch, in the order of its table.
pub(crate) struct Order {
    /// The row's place among all, in the order of the table.
    rows: Vec<u32>,
    /// The batch of each row, by its place among all.
    batches: Vec<u32>,
    /// The place of the first row of each batch.
    starts: Vec<u32>,
}

impl Order {
    /// Sorts by service and the like, then time; ties keep the order in which the rows came, so that the same rows always give
    /// the same file.
    pub(crate) fn of(table: Table, batches: &[&RecordBatch]) -> Result<Self> {
        let total: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        let total = u32::try_from(total)
            .map_err(|_| ParquetError::General(format!("{total} rows are too many for one segment")))?;
        let mut starts = Vec::with_capacity(batches.len());
        let mut batch_of = Vec::with_capacity(total as usize);
        for (number, batch) in batches.iter().enumerate() {
            starts.push(batch_of.len() as u32);
            batch_of.resize(batch_of.len() + batch.num_rows(), number as u32);
        }

        // Texts first and the time last, as every table has it: rank, time and place in one number.
        let mut ranks = Ranks { of: vec![0; total as usize], count: 1 };
        let mut times = vec![0_i64; total as usize];
        for name in sort_columns(table) {
            let Ok(column) = table.schema().index_of(name) else { continue };
            let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(column)).collect();
            if arrays.iter().all(|array| array.as_primitive_opt::<TimestampNanosecondType>().is_some()) {
                let values = arrays.iter().flat_map(|a| a.as_primitive::<TimestampNanosecondType>().values().iter());
                times.iter_mut().zip(values).for_each(|(time, value)| *time = *value);
            } else {
                ranks.refine(&arrays);
            }
        }
        let key = |(place, (rank, time)): (usize, (&u32, &i64))| {
            // Flipping the sign makes unsigned numbers compare as the times do.
            u128::from(*rank) << 96 | u128::from((*time ^ i64::MIN) as u64) << 32 | place as u128
        };
        let mut keys: Vec<u128> = ranks.of.iter().zip(&times).enumerate().map(key).collect();
        drop((ranks, times));
        keys.sort();
        Ok(Self { rows: keys.into_iter().map(|key| key as u32).collect(), batches: batch_of, starts })
    }

    /// Returns how many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the runs of so many rows at a time.
    pub(crate) fn groups(&self, rows: usize) -> impl Iterator<Item = Vec<Run>> {
        self.rows.chunks(rows).map(|places| {
            let mut runs = Vec::new();
            for place in places {
                let batch = self.batches[*place as usize];
                push(&mut runs, batch, place - self.starts[batch as usize], 1);
            }
            runs
        })
    }
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
