//! A segment written again without the rows of some environments, whose time was up before that of the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use plimsoll_catalog::{SegmentChange, SegmentRecord};
use plimsoll_model::SegmentId;
use plimsoll_otlp::Table;

use crate::encode::EncodedSegment;
use crate::error::StoreError;
use crate::flush::{unreadable, write_file};
use crate::layout::{footer, properties};
use crate::merge::Failed;
use crate::shared::Shared;
use crate::sources::Source;

const COLUMN: &str = "environment";
/// Rows that are between reader and writer at once.
const PORTION: u64 = 8_192;

/// What is trimmed.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) table: Table,
    pub(crate) input: SegmentRecord,
    /// The name of the output.
    pub(crate) id: SegmentId,
    /// Whose rows go.
    pub(crate) environments: Vec<String>,
}

/// Returns the environments whose rows are in a segment.
pub(crate) fn environments(shared: &Shared, record: &SegmentRecord) -> Result<BTreeSet<String>, StoreError> {
    let source = Source::open(shared, record)?;
    let mut found = BTreeSet::new();
    let mut read = || -> Result<(), ParquetError> {
        let mut cursor = source.read(&[COLUMN], 0..record.rows)?;
        for rows in portions(record.rows) {
            let column = cursor.column(rows)?;
            visit(column.as_ref(), |name| {
                if !found.contains(name) {
                    found.insert(name.to_owned());
                }
            })?;
        }
        Ok(())
    };
    read().map_err(|problem| unreadable(&record.path, &problem))?;
    Ok(found)
}

/// Writes the trimmed segment; `None` where it was told to stop.
pub(crate) fn trim(shared: &Shared, job: &Job, stop: &AtomicBool) -> Result<Option<SegmentChange>, Failed> {
    let damaged = |problem| Failed { damaged: Some(job.input.id.clone()), problem };
    let source = Source::open(shared, &job.input).map_err(damaged)?;
    // As `Source::read` gives them: segments of before have other types.
    let field = |field: &Arc<Field>| match job.table.schema().field_with_name(field.name()) {
        Ok(stored) => field.as_ref().clone().with_data_type(stored.data_type().clone()),
        Err(_) => field.as_ref().clone(),
    };
    let schema = Arc::new(Schema::new(source.schema().fields().iter().map(field).collect::<Vec<_>>()));
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let facts = [("plimsoll.replaces", job.input.id.as_str().to_owned())];
    let input = &job.input;
    let mut encoded = EncodedSegment { rows: 0, times: input.times, received_to: input.received_to };
    let mut stopped = false;
    let written = write_file(shared, job.table, job.id.clone(), input.frames, &facts, |facts, out| {
        let rows = usize::try_from(input.rows).unwrap_or(usize::MAX);
        let properties = properties(job.table, &schema, rows, footer(job.table, &encoded, facts));
        let mut writer = ArrowWriter::try_new(out, schema.clone(), Some(properties))?;
        let mut cursor = source.read(&columns, 0..input.rows)?;
        for rows in portions(input.rows) {
            // Relaxed: the flag carries nothing but itself.
            stopped = stop.load(Ordering::Relaxed);
            if stopped {
                return Err(ParquetError::General("interrupted".to_owned()));
            }
            let kept = keep(&cursor.take(rows)?, &job.environments)?;
            encoded.rows += kept.num_rows() as u64;
            writer.write(&kept)?;
        }
        writer.close()?;
        Ok(encoded)
    });
    match written {
        Ok(record) => Ok(Some(SegmentChange { add: vec![record], remove: vec![input.id.clone()], checkpoint: None })),
        Err(_) if stopped => Ok(None),
        Err(problem) => Err(damaged(problem)),
    }
}

fn portions(rows: u64) -> impl Iterator<Item = usize> {
    (0..rows).step_by(PORTION as usize).map(move |at| (rows - at).min(PORTION) as usize)
}

fn keep(rows: &RecordBatch, environments: &[String]) -> Result<RecordBatch, ParquetError> {
    let column = rows.column_by_name(COLUMN).ok_or_else(|| ParquetError::General(format!("no column `{COLUMN}`")))?;
    let mut kept = Vec::with_capacity(rows.num_rows());
    visit(column.as_ref(), |name| kept.push(!environments.iter().any(|gone| gone == name)))?;
    Ok(filter_record_batch(rows, &BooleanArray::from(kept))?)
}

fn visit(column: &dyn Array, mut each: impl FnMut(&str)) -> Result<(), ParquetError> {
    let texts = cast(column, &DataType::Utf8)?;
    texts.as_string::<i32>().iter().for_each(|name| each(name.unwrap_or("")));
    Ok(())
}
