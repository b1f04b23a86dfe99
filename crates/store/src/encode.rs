//! Rows to a sorted Parquet file.
//!
//! *Cost.* Beside the rows themselves: about forty bytes a row for the order, one column of one row group at a time as Arrow,
//! and that row group as compressed pages. The rows are never copied as a whole.

use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{TimestampNanosecondType, UInt32Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::compute_leaves;
use parquet::errors::ParquetError;
use plimsoll_model::{Interval, UnixNanos};
use plimsoll_otlp::Table;

use crate::gather::Gather;
use crate::layout::{ROW_GROUP_ROWS, footer, properties, sort_columns};

/// What a segment turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedSegment {
    /// Rows written.
    pub rows: u64,
    /// From the earliest to just after the latest event time.
    pub times: Interval,
    /// Latest `received_time`; for a table that has none, what the caller said.
    pub received_to: UnixNanos,
}

/// Sorts the rows of `batches`, which have the stored schema of `table`, and writes them to `out` as one Parquet file with
/// `facts` in its footer. `received` stands for the time of receipt in a table that has none.
///
/// # Errors
/// The batches do not fit the table, hold no rows, or `out` fails.
pub fn encode_segment(
    table: Table,
    batches: &[&RecordBatch],
    received: UnixNanos,
    facts: &[(&str, String)],
    out: impl Write + Send,
) -> Result<EncodedSegment, ParquetError> {
    let schema = table.schema();
    if let Some(other) = batches.iter().find(|batch| batch.schema_ref().fields() != schema.fields()) {
        let problem = format!("columns {} do not fit table `{}`", other.schema_ref(), table.name());
        return Err(ParquetError::ArrowError(problem));
    }
    let order = order(table, batches);
    let encoded = EncodedSegment {
        rows: order.len() as u64,
        times: times(table, batches)?,
        received_to: latest(batches, "received_time").unwrap_or(received),
    };

    let properties = properties(table, schema, order.len(), footer(table, &encoded, facts));
    let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties))?;
    let (mut file, columns) = writer.into_serialized_writer()?;
    let gather = Gather::new(schema, batches)?;
    for (number, rows) in order.chunks(ROW_GROUP_ROWS).enumerate() {
        let mut row_group = file.next_row_group()?;
        let mut writers = columns.create_column_writers(number)?.into_iter();
        gather.columns(rows, |column, array| -> Result<(), ParquetError> {
            for leaf in compute_leaves(&schema.fields()[column], &array)? {
                let mut writer = writers.next().ok_or_else(|| ParquetError::General("too many leaves".to_owned()))?;
                writer.write(&leaf)?;
                writer.close()?.append_to_row_group(&mut row_group)?;
            }
            Ok(())
        })?;
        row_group.close()?;
    }
    file.close()?;
    Ok(encoded)
}

/// A column that rows are ordered by, as integers that compare like its values.
fn ranks(batches: &[&RecordBatch], column: usize) -> Vec<Vec<i64>> {
    let first = batches.first().map(|batch| batch.column(column));
    if first.is_some_and(|array| array.as_primitive_opt::<TimestampNanosecondType>().is_some()) {
        let times =
            |batch: &&RecordBatch| batch.column(column).as_primitive::<TimestampNanosecondType>().values().to_vec();
        return batches.iter().map(times).collect();
    }
    // Text: number the distinct values in their order.
    let mut distinct: Vec<&str> = batches.iter().flat_map(|batch| distinct(batch.column(column))).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let rank = |text: &str| distinct.binary_search(&text).map_or(-1, |at| at as i64);
    batches
        .iter()
        .map(|batch| {
            let array = batch.column(column);
            match array.as_dictionary_opt::<UInt32Type>() {
                Some(dictionary) => {
                    let values: Vec<i64> =
                        dictionary.values().as_string::<i32>().iter().map(|v| rank(v.unwrap_or(""))).collect();
                    dictionary.keys().values().iter().map(|key| values[*key as usize]).collect()
                }
                None => array.as_string::<i32>().iter().map(|v| rank(v.unwrap_or(""))).collect(),
            }
        })
        .collect()
}

fn distinct(array: &dyn Array) -> Vec<&str> {
    let values = match array.as_any_dictionary_opt() {
        Some(dictionary) => dictionary.values().as_ref(),
        None => array,
    };
    let mut all: Vec<&str> = values.as_string::<i32>().iter().map(|v| v.unwrap_or("")).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Returns every row of every batch, as (batch, row), in the order of the table.
fn order(table: Table, batches: &[&RecordBatch]) -> Vec<(usize, usize)> {
    let columns = sort_columns(table).iter().filter_map(|name| table.schema().index_of(name).ok());
    let ranks: Vec<Vec<Vec<i64>>> = columns.map(|column| ranks(batches, column)).collect();
    let mut rows: Vec<(usize, usize)> = batches
        .iter()
        .enumerate()
        .flat_map(|(number, batch)| (0..batch.num_rows()).map(move |row| (number, row)))
        .collect();
    // Ties keep the order in which the rows came, so that the same rows always give the same file.
    rows.sort_unstable_by(|a, b| {
        let by_column = ranks.iter().map(|column| column[a.0][a.1].cmp(&column[b.0][b.1]));
        by_column.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).then(a.cmp(b))
    });
    rows
}

fn latest(batches: &[&RecordBatch], column: &str) -> Option<UnixNanos> {
    let latest =
        |batch: &&RecordBatch| max(batch.column_by_name(column)?.as_primitive_opt::<TimestampNanosecondType>()?);
    batches.iter().filter_map(latest).max().map(instant)
}

fn instant(nanos: i64) -> UnixNanos {
    UnixNanos(u64::try_from(nanos).unwrap_or(0))
}

fn times(table: Table, batches: &[&RecordBatch]) -> Result<Interval, ParquetError> {
    let column = table.time_column();
    let earliest =
        |batch: &&RecordBatch| min(batch.column_by_name(column)?.as_primitive_opt::<TimestampNanosecondType>()?);
    let from = batches.iter().filter_map(earliest).min().map(instant);
    let to = latest(batches, column).map(|last| UnixNanos(last.0.saturating_add(1)));
    match (from, to) {
        (Some(from), Some(to)) => Ok(Interval { from, to }),
        _ => Err(ParquetError::General(format!("a segment of `{}` needs at least one row", table.name()))),
    }
}
