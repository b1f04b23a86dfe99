//! Rows of many batches into one, with dictionaries interned; and what a batch weighs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{SchemaRef, UInt32Type};
use arrow::error::ArrowError;

use crate::dictionary::Group;

/// Puts batches of one schema behind one another.
pub(crate) fn concat_batches(schema: &SchemaRef, batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let groups = Group::of(schema, batches)?;
    let mut columns: Vec<Option<ArrayRef>> = vec![None; schema.fields().len()];
    for group in &groups {
        let key = group.keys(batches);
        let rows =
            batches.iter().enumerate().flat_map(|(number, batch)| (0..batch.num_rows()).map(move |r| (number, r)));
        let built = group.build(rows.map(|(batch, row)| key(batch, row)).collect(), batches)?;
        group.columns.iter().zip(built).for_each(|(column, array)| columns[*column] = Some(array));
    }
    let arrays = columns.into_iter().enumerate().map(|(column, built)| match built {
        Some(array) => Ok(array),
        None => {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            concat(&parts)
        }
    });
    RecordBatch::try_new(SchemaRef::clone(schema), arrays.collect::<Result<_, _>>()?)
}

/// What a column takes beside its buffers: the array, what counts the references to it and to its buffers. In a batch of a dozen
/// rows that is more than the rows are.
const COLUMN_BYTES: usize = 256;

/// Returns the bytes of memory that a batch holds on to; keys and values that several of its columns share count once, and so does an
/// array that several of its columns are.
pub(crate) fn memory_size(batch: &RecordBatch) -> u64 {
    let mut seen: Vec<*const u8> = Vec::with_capacity(2 * batch.num_columns());
    let mut once = |at: *const u8, bytes: usize| {
        if seen.contains(&at) {
            return 0;
        }
        seen.push(at);
        bytes
    };
    let bytes: usize = batch
        .columns()
        .iter()
        .map(|column| match column.as_dictionary_opt::<UInt32Type>() {
            Some(array) => {
                let keys = array.keys().values().inner();
                let values = array.values();
                let weight = values.get_buffer_memory_size();
                let nulls = array.nulls().map_or(0, |nulls| nulls.buffer().capacity());
                let values = start(values).map_or(weight, |at| once(at, weight));
                COLUMN_BYTES + once(keys.as_ptr(), keys.capacity()) + values + nulls
            }
            None => once(Arc::as_ptr(column).cast(), COLUMN_BYTES + column.get_buffer_memory_size()),
        })
        .sum();
    bytes as u64
}

/// Where an array of text or bytes begins: two that begin at the same place are the same.
fn start(values: &ArrayRef) -> Option<*const u8> {
    let offsets = match values.as_string_opt::<i32>() {
        Some(text) => text.offsets(),
        None => values.as_binary_opt::<i32>()?.offsets(),
    };
    Some(offsets.inner().inner().as_ptr())
}
