//! Rows to a sorted Parquet file.
//!
//! *Cost.* Beside the rows themselves: forty bytes a row for the order, and what one column of one row group takes
//! ([`crate::chunk`]). Rows are never copied as a whole.

use std::io::Write;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampNanosecondType;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use plimsoll_model::{Interval, UnixNanos};
use plimsoll_otlp::Table;

use crate::chunk::{Column, Crew};
use crate::layout::{FLUSHED, ROW_GROUP_ROWS, footer, properties, used};
use crate::sort::Order;
use crate::sums::Summed;

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
    encode_with(&mut Crew::new(FLUSHED, 1)?, table, batches, received, facts, out, &mut |_, _, _| ())
}

/// Like [`encode_segment`], by encoders that live on; says `written` for each column of each row group: which it is, of how many rows,
/// and how long it took.
pub(crate) fn encode_with(
    crew: &mut Crew,
    table: Table,
    batches: &[&RecordBatch],
    received: UnixNanos,
    facts: &[(&str, String)],
    out: impl Write + Send,
    written: &mut dyn FnMut(usize, usize, Duration),
) -> Result<EncodedSegment, ParquetError> {
    let schema = table.schema();
    if let Some(other) = batches.iter().find(|batch| batch.schema_ref().fields() != schema.fields()) {
        let problem = format!("columns {} do not fit table `{}`", other.schema_ref(), table.name());
        return Err(ParquetError::ArrowError(problem));
    }
    let order = Order::of(table, batches)?;
    let encoded = EncodedSegment {
        rows: order.len() as u64,
        times: times(table, batches)?,
        received_to: latest(batches, "received_time").unwrap_or(received),
    };

    let properties = properties(table, schema, order.len(), footer(table, &encoded, facts));
    // The library's writer makes the file's schema and puts Arrow's beside it; the columns are our own.
    let mut out = Summed::new(out);
    let writer = ArrowWriter::try_new(&mut out, schema.clone(), Some(properties))?;
    let (mut file, _) = writer.into_serialized_writer()?;
    let descriptor = file.schema_descr().clone();
    for rows in order.groups(ROW_GROUP_ROWS) {
        let mut row_group = file.next_row_group()?;
        let columns = schema.fields().iter().enumerate().map(|(at, field)| Column {
            field,
            arrays: batches.iter().map(|batch| ArrayRef::clone(batch.column(at))).collect(),
            how: used(table, field.name()),
        });
        let columns: Vec<Column<'_>> = columns.collect();
        crew.append(&mut row_group, &descriptor, &rows, &columns, &mut |at, took| written(at, rows.len(), took))?;
        row_group.close()?;
    }
    file.inner_mut().hold();
    file.close()?;
    out.finish()?;
    Ok(encoded)
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
