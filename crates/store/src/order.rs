//! The order of a merge: which rows of which input come next, as runs.
//!
//! Inputs are sorted, so each gives its rows in its own order, and rows of equal keys come input by input. Segments that were
//! sealed one after the other hardly overlap in time: their runs are long.
//!
//! *Cost.* Sixteen bytes a row for the keys; a comparison or two a run, and one a row within it.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampNanosecondType};
use parquet::errors::ParquetError;
use plimsoll_otlp::Table;

use crate::layout::sort_columns;
use crate::sources::Source;

/// Texts of at most two columns by their ranks, then a time.
type Key = (u64, i64);

/// Consecutive rows of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) input: usize,
    pub(crate) rows: usize,
}

/// The merged order, given out a piece at a time.
pub(crate) struct Order {
    keys: Vec<Vec<Key>>,
    /// How far each input has been given out.
    next: Vec<usize>,
    /// What a row of each input weighs.
    weights: Vec<u64>,
}

impl Order {
    /// Reads the columns that `inputs` are sorted by.
    ///
    /// # Errors
    /// The number of an input that cannot be read or is not sorted.
    pub(crate) fn read(table: Table, inputs: &[Source]) -> Result<Self, (usize, ParquetError)> {
        let (texts, time) = match sort_columns(table) {
            [texts @ .., time] if texts.len() <= 2 => (texts, *time),
            other => unreachable!("a table is sorted by a time after at most two texts, not by {other:?}"),
        };
        let mut names = Names::default();
        let mut keys = Vec::with_capacity(inputs.len());
        for (number, input) in inputs.iter().enumerate() {
            let read = |names: &mut Names| read_keys(input, texts, time, names);
            keys.push(read(&mut names).map_err(|problem| (number, problem))?);
        }
        let ranks = names.ranks();
        for (number, keys) in keys.iter_mut().enumerate() {
            keys.iter_mut().for_each(|key| key.0 = ranked(key.0, &ranks));
            if !keys.is_sorted() {
                return Err((number, ParquetError::General("its rows are not in the order of its table".into())));
            }
        }
        let weights = inputs.iter().map(|input| input.row_bytes).collect();
        Ok(Self { next: vec![0; keys.len()], keys, weights })
    }

    /// Takes the next rows, at most `rows` that together weigh at most `weight`, but at least one; empty once all are taken. Returns
    /// the runs, and which rows of each input are in them.
    pub(crate) fn take(&mut self, mut rows: usize, mut weight: u64) -> (Vec<Run>, Vec<Range<u64>>) {
        let from = self.next.clone();
        let mut runs: Vec<Run> = Vec::new();
        while rows > 0 {
            let heads = self.keys.iter().zip(&self.next).enumerate();
            let mut heads: Vec<(Key, usize)> =
                heads.filter_map(|(input, (keys, next))| Some((*keys.get(*next)?, input))).collect();
            heads.sort_unstable();
            let Some((_, input)) = heads.first().copied() else { break };
            let (keys, start) = (&self.keys[input], self.next[input]);
            let end = match heads.get(1) {
                // Rows of equal keys come from the first input first.
                Some((limit, other)) => {
                    start + run_length(&keys[start..], |key| key < limit || (key == limit && input < *other))
                }
                None => keys.len(),
            };
            let room = usize::try_from(weight / self.weights[input].max(1)).unwrap_or(usize::MAX);
            let taken = (end - start).min(rows).min(room.max(usize::from(runs.is_empty())));
            if taken == 0 {
                break;
            }
            weight = weight.saturating_sub(self.weights[input] * taken as u64);
            match runs.last_mut() {
                Some(last) if last.input == input => last.rows += taken,
                _ => runs.push(Run { input, rows: taken }),
            }
            self.next[input] += taken;
            rows -= taken;
        }
        let ranges = from.iter().zip(&self.next).map(|(from, to)| *from as u64..*to as u64);
        (runs, ranges.collect())
    }
}

/// How many keys from the front on satisfy `holds`, which holds for a first part: steps that double, then bisection.
fn run_length(keys: &[Key], holds: impl Fn(&Key) -> bool) -> usize {
    let mut step = 1;
    while step < keys.len() && holds(&keys[step]) {
        step *= 2;
    }
    let (from, to) = (step / 2, step.min(keys.len()));
    from + keys[from..to].partition_point(|key| holds(key))
}

/// Distinct texts of the columns, numbered as they were met.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
                self.numbers.insert(name.to_owned(), number);
                number
            }
        }
    }

    /// For each number its place in the order of the texts.
    fn ranks(&self) -> Vec<u32> {
        let mut names: Vec<(&str, u32)> = self.numbers.iter().map(|(name, number)| (name.as_str(), *number)).collect();
        names.sort_unstable();
        let mut ranks = vec![0; names.len()];
        for (rank, (_, number)) in names.iter().enumerate() {
            ranks[*number as usize] = u32::try_from(rank).unwrap_or(u32::MAX);
        }
        ranks
    }
}

/// Two numbers in one become two ranks in one.
fn ranked(numbers: u64, ranks: &[u32]) -> u64 {
    let rank = |number: u64| u64::from(ranks.get(number as usize).copied().unwrap_or(0));
    rank(numbers >> 32) << 32 | rank(numbers & u64::from(u32::MAX))
}

fn read_keys(input: &Source, texts: &[&str], time: &str, names: &mut Names) -> Result<Vec<Key>, ParquetError> {
    let rows = input.record.rows;
    let mut keys: Vec<Key> = vec![(0, 0); usize::try_from(rows).unwrap_or(0)];
    for (place, column) in texts.iter().enumerate() {
        // The first column is the upper half.
        let shift = if place == 0 { 32 } else { 0 };
        fill(input, column, &mut keys, |array, keys| {
            let array = match array.data_type() {
                DataType::Dictionary(..) => {
                    cast(array, &DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8)))?
                }
                _ => cast(array, &DataType::Utf8)?,
            };
            match array.as_any_dictionary_opt() {
                Some(dictionary) => {
                    let values = dictionary.values().as_string::<i32>();
                    let numbers: Vec<u64> =
                        values.iter().map(|name| u64::from(names.number(name.unwrap_or("")))).collect();
                    let dictionary_keys = dictionary.normalized_keys();
                    keys.iter_mut().zip(dictionary_keys).for_each(|(key, at)| key.0 |= numbers[at] << shift);
                }
                None => {
                    let texts = array.as_string::<i32>().iter();
                    let mut last: Option<(&str, u64)> = None;
                    for (key, text) in keys.iter_mut().zip(texts) {
                        let text = text.unwrap_or("");
                        let number = match last {
                            Some((before, number)) if before == text => number,
                            _ => u64::from(names.number(text)),
                        };
                        last = Some((text, number));
                        key.0 |= number << shift;
                    }
                }
            }
            Ok(())
        })?;
    }
    fill(input, time, &mut keys, |array, keys| {
        let Some(times) = array.as_primitive_opt::<TimestampNanosecondType>() else {
            return Err(ParquetError::General(format!("`{time}` holds no times")));
        };
        keys.iter_mut().zip(times.values()).for_each(|(key, at)| key.1 = *at);
        Ok(())
    })?;
    Ok(keys)
}

/// Visits a whole column in portions, each with the keys of its rows.
fn fill(
    input: &Source,
    column: &str,
    keys: &mut [Key],
    mut visit: impl FnMut(&dyn Array, &mut [Key]) -> Result<(), ParquetError>,
) -> Result<(), ParquetError> {
    const PORTION: usize = 8_192;
    let mut cursor = input.read(&[column], 0..input.record.rows)?;
    for portion in keys.chunks_mut(PORTION) {
        visit(cursor.column(portion.len())?.as_ref(), portion)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_in_the_order_of_their_keys_and_equal_ones_input_by_input(
            inputs in prop::collection::vec(prop::collection::vec((0_u64..4, 0_i64..6), 0..40), 1..6),
            portion in 1_usize..50, weight in 0_u64..400
        ) {
            let keys: Vec<Vec<Key>> = inputs.into_iter().map(|mut keys| { keys.sort(); keys }).collect();
            let mut expected: Vec<(Key, usize, usize)> = Vec::new();
            for (input, keys) in keys.iter().enumerate() {
                expected.extend(keys.iter().enumerate().map(|(row, key)| (*key, input, row)));
            }
            expected.sort();
            let weights: Vec<u64> = (1..=keys.len() as u64).map(|input| input * 3).collect();
            let mut order = Order { next: vec![0; keys.len()], keys: keys.clone(), weights: weights.clone() };
            let mut found = Vec::new();
            loop {
                let (runs, ranges) = order.take(portion, weight);
                if runs.is_empty() {
                    break;
                }
                let rows: usize = runs.iter().map(|run| run.rows).sum();
                let weighs: u64 = runs.iter().map(|run| run.rows as u64 * weights[run.input]).sum();
                prop_assert!(rows <= portion && (weighs <= weight || rows == 1));
                prop_assert!(runs.windows(2).all(|pair| pair[0].input != pair[1].input));
                let mut next: Vec<u64> = ranges.iter().map(|range| range.start).collect();
                for run in &runs {
                    for _ in 0..run.rows {
                        let row = next[run.input] as usize;
                        found.push((keys[run.input][row], run.input, row));
                        next[run.input] += 1;
                    }
                }
                prop_assert!(next.iter().zip(&ranges).all(|(next, range)| *next == range.end));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
