//! Dictionaries of many batches made one.
//!
//! Columns that come from the resource share one key buffer, and so do those of the scope and those of a metric. Such a *group* is
//! interned as a whole: two entries are one where every column of the group has the same value, so that the group still shares its
//! keys afterwards, and thousands of requests from one process end with one entry. Which rows are null is each column's own.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, DictionaryArray, RecordBatch, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Schema, UInt32Type};
use arrow::error::ArrowError;

/// Columns that share their keys, and what their entries became.
pub(crate) struct Group {
    /// Their places in the schema.
    pub(crate) columns: Vec<usize>,
    /// For each column the values of all batches, each once.
    values: Vec<ArrayRef>,
    /// For each batch where its entries went.
    moved: Vec<Vec<u32>>,
}

fn dictionary(batch: &RecordBatch, column: usize) -> &DictionaryArray<UInt32Type> {
    batch.column(column).as_dictionary::<UInt32Type>()
}

fn interned(data_type: &DataType) -> bool {
    let DataType::Dictionary(key, value) = data_type else { return false };
    **key == DataType::UInt32 && matches!(**value, DataType::Utf8 | DataType::Binary)
}

/// Says whether the columns have the same keys in every batch.
fn share_keys(batches: &[&RecordBatch], one: usize, other: usize) -> bool {
    batches.iter().all(|batch| {
        let (one, other) = (dictionary(batch, one), dictionary(batch, other));
        one.keys().values().inner().ptr_eq(other.keys().values().inner()) && one.values().len() == other.values().len()
    })
}

fn value(array: &dyn Array, at: usize) -> &[u8] {
    match array.as_string_opt::<i32>() {
        Some(text) => text.value(at).as_bytes(),
        None => array.as_binary::<i32>().value(at),
    }
}

impl Group {
    /// Interns the dictionaries of `batches`, which all have `schema`. Columns whose dictionary holds a null are left out: none of
    /// the stored tables has them.
    pub(crate) fn of(schema: &Schema, batches: &[&RecordBatch]) -> Result<Vec<Self>, ArrowError> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (column, field) in schema.fields().iter().enumerate() {
            let whole = |batch: &&RecordBatch| dictionary(batch, column).values().null_count() == 0;
            if !interned(field.data_type()) || !batches.iter().all(whole) {
                continue;
            }
            match groups.iter_mut().find(|group| share_keys(batches, group[0], column)) {
                Some(group) => group.push(column),
                None => groups.push(vec![column]),
            }
        }
        groups.into_iter().map(|columns| Self::intern(columns, batches)).collect()
    }

    fn intern(columns: Vec<usize>, batches: &[&RecordBatch]) -> Result<Self, ArrowError> {
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut kept: Vec<(usize, usize)> = Vec::new();
        let mut moved = Vec::with_capacity(batches.len());
        let mut entry = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let values: Vec<&ArrayRef> = columns.iter().map(|column| dictionary(batch, *column).values()).collect();
            let mut places = Vec::with_capacity(values[0].len());
            for at in 0..values[0].len() {
                entry.clear();
                for array in &values {
                    let bytes = value(array.as_ref(), at);
                    entry.extend_from_slice(&bytes.len().to_le_bytes());
                    entry.extend_from_slice(bytes);
                }
                let place = match known.get(&entry) {
                    Some(place) => *place,
                    None => {
                        let place = u32::try_from(kept.len()).map_err(|_| ArrowError::DictionaryKeyOverflowError)?;
                        known.insert(entry.clone(), place);
                        kept.push((number, at));
                        place
                    }
                };
                places.push(place);
            }
            moved.push(places);
        }
        let values = columns
            .iter()
            .map(|column| {
                let all: Vec<&dyn Array> =
                    batches.iter().map(|batch| dictionary(batch, *column).values().as_ref()).collect();
                interleave(&all, &kept)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { columns, values, moved })
    }

    /// Returns the keys of row `row` of batch `batch`, for [`Self::build`]; that of a row that is null may be any.
    pub(crate) fn keys<'a>(&'a self, batches: &'a [&RecordBatch]) -> impl Fn(usize, usize) -> u32 + 'a {
        let keys: Vec<&[u32]> =
            batches.iter().map(|batch| &**dictionary(batch, self.columns[0]).keys().values()).collect();
        move |batch, row| self.moved[batch].get(keys[batch][row] as usize).copied().unwrap_or(0)
    }

    /// Builds the columns of the group of all rows of `batches` over `keys`; they share them.
    pub(crate) fn build(&self, keys: Vec<u32>, batches: &[&RecordBatch]) -> Result<Vec<ArrayRef>, ArrowError> {
        let keys = UInt32Array::from(keys);
        let columns = self.columns.iter().zip(&self.values).map(|(column, values)| {
            let keys = UInt32Array::try_new(keys.values().clone(), nulls(*column, batches))?;
            let array = DictionaryArray::<UInt32Type>::try_new(keys, Arc::clone(values))?;
            Ok(Arc::new(array) as ArrayRef)
        });
        columns.collect()
    }
}

/// Which rows of a column are null, all batches behind one another.
fn nulls(column: usize, batches: &[&RecordBatch]) -> Option<NullBuffer> {
    let of = |batch: &RecordBatch| batch.column(column).nulls().cloned();
    if batches.iter().all(|batch| of(batch).is_none()) {
        return None;
    }
    let mut valid = BooleanBufferBuilder::new(batches.iter().map(|batch| batch.num_rows()).sum());
    for batch in batches {
        match of(batch) {
            Some(nulls) => valid.append_buffer(nulls.inner()),
            None => valid.append_n(batch.num_rows(), true),
        }
    }
    Some(NullBuffer::new(valid.finish()))
}
