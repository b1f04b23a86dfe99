//! A segment written again without the rows of some environments, whose time was up before that of the others.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::errors::ParquetError;
use plimsoll_catalog::{SegmentChange, SegmentRecord};
use plimsoll_model::SegmentId;
use plimsoll_otlp::Table;

use crate::chunk::{Places, Run, push};
use crate::encode::EncodedSegment;
use crate::error::StoreError;
use crate::flush::{unreadable, write_file};
use crate::layout::ROW_GROUP_ROWS;
use crate::merge::{Cut, Failed, Interrupted, RowGroup, Writing, column_bytes};
use crate::promote::Promoted;
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
    let input = &job.input;
    let damaged = |problem| Failed { damaged: vec![input.id.clone()], problem };
    let source = Source::open(shared, input).map_err(damaged)?;
    let kept = keep(&source, &job.environments).map_err(|problem| damaged(unreadable(&input.path, &problem)))?;
    let promoted = Promoted::of(source.schema());
    let facts = [("plimsoll.replaces", input.id.as_str().to_owned())];
    let rows = kept.iter().map(|run| u64::from(run.len)).sum();
    let encoded = EncodedSegment { rows, times: input.times, received_to: input.received_to };
    let portion = (column_bytes(shared) / source.row_bytes).clamp(1, ROW_GROUP_ROWS as u64);
    let mut groups = groups(&kept, portion);
    // What ends the work early goes past the writer of files, which knows only of its own errors.
    let mut cut = None;
    let written = write_file(shared, job.table, job.id.clone(), input.frames, &facts, |facts, out| {
        let writing = Writing { table: job.table, sources: std::slice::from_ref(&source), stop };
        let outcome = writing.run(&encoded, &promoted, facts, out, &mut || groups.next());
        outcome.map(|()| encoded).map_err(|problem| match problem {
            Interrupted::Output(problem) => problem,
            Interrupted::Cut(early) => {
                cut = Some(early);
                ParquetError::General("interrupted".to_owned())
            }
        })
    });
    // A disk that is full says nothing of the input.
    let unwritten = |problem| Failed { damaged: Vec::new(), problem };
    match cut {
        Some(Cut::Stopped) => Ok(None),
        Some(Cut::Input(_, problem)) => Err(damaged(unreadable(&input.path, &problem))),
        // The column is the input's own.
        Some(Cut::NotInteger(key)) => {
            let problem = ParquetError::General(format!("a value of `{key}` is not an integer, and its column is"));
            Err(damaged(unreadable(&input.path, &problem)))
        }
        Some(Cut::Output(problem)) => Err(unwritten(problem)),
        None => {
            let record = written.map_err(unwritten)?;
            Ok(Some(SegmentChange { add: vec![record], remove: vec![input.id.clone()], checkpoint: None }))
        }
    }
}

/// Returns the rows that stay.
fn keep(source: &Source, environments: &[String]) -> Result<Vec<Run>, ParquetError> {
    let rows = source.record.rows;
    let mut cursor = source.read(&[COLUMN], 0..rows)?;
    let (mut kept, mut row) = (Vec::new(), 0);
    for rows in portions(rows) {
        let column = cursor.column(rows)?;
        visit(column.as_ref(), |name| {
            push(&mut kept, row, u32::from(!environments.iter().any(|gone| gone == name)));
            row += 1;
        })?;
    }
    Ok(kept)
}

/// The row groups that runs of rows become: each of at most `rows` rows of the input, from the first that stays on.
fn groups(kept: &[Run], rows: u64) -> impl Iterator<Item = RowGroup> {
    let mut left = kept.iter().copied().peekable();
    let mut rest: Option<Run> = None;
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    std::iter::from_fn(move || {
        let begin = rest.or_else(|| left.peek().copied())?.start;
        let end = begin.saturating_add(rows);
        let mut places = Vec::new();
        let mut last = begin;
        while let Some(run) = rest.take().or_else(|| left.next_if(|run| run.start < end)) {
            let inside = run.len.min(end - run.start);
            push(&mut places, run.start - begin, inside);
            last = run.start + inside;
            if inside < run.len {
                rest = Some(Run { start: last, len: run.len - inside });
                break;
            }
        }
        Some((Places::Runs(Cow::Owned(places)), std::iter::once(u64::from(begin)..u64::from(last)).collect()))
    })
}

fn portions(rows: u64) -> impl Iterator<Item = usize> {
    (0..rows).step_by(PORTION as usize).map(move |at| (rows - at).min(PORTION) as usize)
}

fn visit(column: &dyn Array, mut each: impl FnMut(&str)) -> Result<(), ParquetError> {
    let texts = cast(column, &DataType::Utf8)?;
    texts.as_string::<i32>().iter().for_each(|name| each(name.unwrap_or("")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn row_groups_hold_the_rows_that_stay_once_and_in_order(
            stays in prop::collection::vec(any::<bool>(), 0..200), rows in 1_u64..60
        ) {
            let mut kept = Vec::new();
            (0..).zip(&stays).for_each(|(row, stays)| push(&mut kept, row, u32::from(*stays)));
            let mut found = Vec::new();
            for (places, ranges) in groups(&kept, rows) {
                let [range] = ranges.as_slice() else { panic!("one input") };
                prop_assert!(range.end - range.start <= rows && !range.is_empty());
                let Places::Runs(runs) = places else { panic!("runs") };
                for run in runs.iter() {
                    prop_assert!(range.start + u64::from(run.start + run.len) <= range.end);
                    found.extend((run.start..run.start + run.len).map(|row| range.start + u64::from(row)));
                }
            }
            let expected: Vec<u64> = (0..).zip(&stays).filter(|(_, stays)| **stays).map(|(row, _)| row).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
