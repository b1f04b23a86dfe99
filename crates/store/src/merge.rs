//! Several segments written as one, in the order of their table.
//!
//! Inputs are sorted, so a row group of the output takes consecutive rows of each of them: they are read column by column, a
//! portion at a time, and written at once. Attribute keys that are frequent or asked for become columns on the way
//! ([`crate::promote`]).
//!
//! *Invariants.* Rows, frames and the latest time of receipt are those of the inputs. Inputs and output change places in one
//! catalog transaction and one swap; a crash before it leaves a file that nothing names, one after it files that nothing names.
//!
//! *Cost.* Sixteen bytes a row for the order; a portion of one column of every input; one row group as compressed pages. Where inputs do
//! not overlap, values are not copied between decoding and encoding.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::errors::ParquetError;
use plimsoll_catalog::{SegmentChange, SegmentRecord};
use plimsoll_model::{Interval, SegmentId};
use plimsoll_otlp::Table;

use crate::encode::EncodedSegment;
use crate::error::StoreError;
use crate::flush::write_file;
use crate::layout::{ROW_GROUP_ROWS, footer, properties};
use crate::order::{Order, Run};
use crate::promote::{Extractor, MAP, NotInteger, Promoted, Sample, TYPES};
use crate::shared::Shared;
use crate::sources::{Cursor, Source};

/// Rows that are between a reader and a writer at once.
const PORTION: usize = 8_192;
/// Runs shorter than this on average are gathered into one array first.
const RUN_MEAN_MIN: usize = 32;
/// Rows of each input that are looked at for their attribute keys, in each of two places.
const SAMPLE: u64 = 4_096;

/// What is merged.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) table: Table,
    pub(crate) inputs: Vec<SegmentRecord>,
    /// The name of the output.
    pub(crate) id: SegmentId,
    /// Attribute keys that queries asked for.
    pub(crate) wanted: Vec<String>,
}

/// Why there is no output.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The segment that could not be read.
    pub(crate) damaged: Option<SegmentId>,
    pub(crate) problem: StoreError,
}

/// Writes the merged segment; it becomes part of the store with the change that is returned. `None` where it was told to stop.
///
/// # Errors
/// The segment that could not be read, and why; or the output could not be written.
pub(crate) fn merge(shared: &Shared, job: &Job, stop: &AtomicBool) -> Result<Option<SegmentChange>, Failed> {
    let open = |record: &SegmentRecord| {
        Source::open(shared, record).map_err(|problem| Failed { damaged: Some(record.id.clone()), problem })
    };
    let sources = job.inputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut text_only = Vec::new();
    loop {
        match write(shared, job, &sources, &text_only, stop) {
            Ok(merged) => {
                let removed = || job.inputs.iter().map(|record| record.id.clone()).collect();
                return Ok(Some(SegmentChange { add: vec![merged], remove: removed(), checkpoint: None }));
            }
            Err(Cut::Stopped) => return Ok(None),
            Err(Cut::NotInteger(key)) => text_only.push(key),
            Err(Cut::Input(at, problem)) => {
                let record = &sources[at].record;
                let problem = StoreError::Segment { path: record.path.clone(), problem: problem.to_string() };
                return Err(Failed { damaged: Some(record.id.clone()), problem });
            }
            Err(Cut::Output(problem)) => return Err(Failed { damaged: None, problem }),
        }
    }
}

/// Why writing ended early.
enum Cut {
    /// The store is being closed.
    Stopped,
    /// A value turned up that the column of this key cannot hold.
    NotInteger(String),
    /// The input of this number cannot be read.
    Input(usize, ParquetError),
    /// The output cannot be written.
    Output(StoreError),
}

fn write(
    shared: &Shared,
    job: &Job,
    sources: &[Source],
    text_only: &[String],
    stop: &AtomicBool,
) -> Result<SegmentRecord, Cut> {
    let table = job.table;
    let records = || sources.iter().map(|source| &source.record);
    let from = records().map(|record| record.times.from).min().unwrap_or_default();
    let to = records().map(|record| record.times.to).max().unwrap_or_default();
    let encoded = EncodedSegment {
        rows: records().map(|record| record.rows).sum(),
        times: Interval { from, to },
        received_to: records().map(|record| record.received_to).max().unwrap_or_default(),
    };
    let first = records().map(|record| record.frames.0).min().unwrap_or_default();
    let last = records().map(|record| record.frames.1).max().unwrap_or_default();
    let promoted = choose(table, sources, &job.wanted, text_only)?;
    let replaces: Vec<&str> = records().map(|record| record.id.as_str()).collect();
    let facts = [("plimsoll.replaces", replaces.join(","))];

    // What ends the work early goes past the writer of files, which knows only of its own errors.
    let mut cut = None;
    let written = write_file(shared, table, job.id.clone(), (first, last), &facts, |facts, out| {
        let outcome = Writing { table, sources, stop }.run(&encoded, &promoted, facts, out);
        outcome.map(|()| encoded).map_err(|problem| match problem {
            Interrupted::Output(problem) => problem,
            Interrupted::Cut(early) => {
                cut = Some(early);
                ParquetError::General("interrupted".to_owned())
            }
        })
    });
    match cut {
        Some(early) => Err(early),
        None => written.map_err(Cut::Output),
    }
}

/// Looks at some rows of every input and says which keys become columns.
fn choose(table: Table, sources: &[Source], wanted: &[String], text_only: &[String]) -> Result<Vec<Promoted>, Cut> {
    if table.schema().index_of(MAP).is_err() {
        return Ok(Vec::new());
    }
    let mut sample = Sample::default();
    let mut before: Vec<Promoted> = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let rows = source.record.rows;
        let middle = rows / 2;
        for range in [0..rows.min(SAMPLE), middle.max(SAMPLE).min(rows)..(middle.max(SAMPLE) + SAMPLE).min(rows)] {
            if range.is_empty() {
                continue;
            }
            let length = range.end - range.start;
            let read = || source.read(&[MAP, TYPES], range)?.take(usize::try_from(length).unwrap_or(0));
            sample.add(&read().map_err(|problem| Cut::Input(number, problem))?);
        }
        for promoted in Promoted::of(source.schema()) {
            match before.iter_mut().find(|known| known.key == promoted.key) {
                Some(known) => known.integers &= promoted.integers,
                None => before.push(promoted),
            }
        }
    }
    Ok(sample.choose(&before, wanted, text_only))
}

/// What ends a run of [`Writing`].
enum Interrupted {
    Cut(Cut),
    Output(ParquetError),
}

impl From<ParquetError> for Interrupted {
    fn from(problem: ParquetError) -> Self {
        Self::Output(problem)
    }
}

fn input(number: usize) -> impl Fn(ParquetError) -> Interrupted {
    move |problem| Interrupted::Cut(Cut::Input(number, problem))
}

struct Writing<'a> {
    table: Table,
    sources: &'a [Source],
    stop: &'a AtomicBool,
}

impl Writing<'_> {
    fn run(
        &self,
        encoded: &EncodedSegment,
        promoted: &[Promoted],
        facts: &[(&str, String)],
        out: &mut (dyn Write + Send),
    ) -> Result<(), Interrupted> {
        let base = self.table.schema();
        let fields =
            base.fields().iter().map(|field| field.as_ref().clone()).chain(promoted.iter().map(Promoted::field));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let rows = usize::try_from(encoded.rows).unwrap_or(usize::MAX);
        let properties = properties(self.table, &schema, rows, footer(self.table, encoded, facts));
        let writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties))?;
        let (mut file, factory) = writer.into_serialized_writer()?;
        let extractor = Extractor::new(promoted.to_vec());
        let mut order = Order::read(self.table, self.sources).map_err(|(number, problem)| input(number)(problem))?;
        for number in 0.. {
            let (runs, ranges) = order.take(ROW_GROUP_ROWS);
            if runs.is_empty() {
                break;
            }
            let mut row_group = file.next_row_group()?;
            let mut columns = Columns::of(&schema, factory.create_column_writers(number)?);
            for (place, field) in base.fields().iter().enumerate() {
                let attributes = field.name() == MAP && !promoted.is_empty();
                let with: &[&str] = if attributes { &[MAP, TYPES] } else { &[field.name().as_str()] };
                let mut cursors: Vec<Option<Cursor>> = Vec::with_capacity(ranges.len());
                for (number, range) in ranges.iter().enumerate() {
                    let open = || self.sources[number].read(with, range.clone()).map_err(input(number));
                    cursors.push(if range.is_empty() { None } else { Some(open()?) });
                }
                self.portions(&runs, &mut cursors, |rows| {
                    columns.write(place, rows.column(0))?;
                    if attributes {
                        let extracted = extractor
                            .extract(rows)
                            .map_err(|NotInteger(key)| Interrupted::Cut(Cut::NotInteger(key)))?;
                        for (at, array) in extracted.iter().enumerate() {
                            columns.write(base.fields().len() + at, array)?;
                        }
                    }
                    Ok(())
                })?;
            }
            for writer in columns.writers.into_iter().flatten() {
                writer.close()?.append_to_row_group(&mut row_group)?;
            }
            row_group.close()?;
        }
        file.close()?;
        Ok(())
    }

    /// Visits the rows of `runs` in their order, read from `cursors`.
    fn portions(
        &self,
        runs: &[Run],
        cursors: &mut [Option<Cursor>],
        mut visit: impl FnMut(&RecordBatch) -> Result<(), Interrupted>,
    ) -> Result<(), Interrupted> {
        let mut left = runs.iter().copied();
        let mut rest: Option<Run> = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Interrupted::Cut(Cut::Stopped));
            }
            let mut portion: Vec<Run> = Vec::new();
            let mut rows = 0;
            while rows < PORTION {
                let Some(run) = rest.take().or_else(|| left.next()) else { break };
                let taken = run.rows.min(PORTION - rows);
                portion.push(Run { rows: taken, ..run });
                rows += taken;
                if taken < run.rows {
                    rest = Some(Run { rows: run.rows - taken, ..run });
                }
            }
            if portion.is_empty() {
                return Ok(());
            }
            let mut take = |number: usize, rows: usize| match &mut cursors[number] {
                Some(cursor) => cursor.take(rows).map_err(input(number)),
                None => Err(Interrupted::Output(ParquetError::General("a run of an input without rows".to_owned()))),
            };
            if rows >= portion.len() * RUN_MEAN_MIN {
                for run in &portion {
                    visit(&take(run.input, run.rows)?)?;
                }
            } else {
                visit(&gather(&portion, rows, take)?)?;
            }
        }
    }
}

/// Puts the rows of short runs into one batch.
fn gather(
    portion: &[Run],
    rows: usize,
    mut take: impl FnMut(usize, usize) -> Result<RecordBatch, Interrupted>,
) -> Result<RecordBatch, Interrupted> {
    // For each input how many rows, then where its rows are among those taken.
    let inputs = portion.iter().map(|run| run.input + 1).max().unwrap_or(0);
    let mut counts = vec![0; inputs];
    portion.iter().for_each(|run| counts[run.input] += run.rows);
    let mut places: Vec<Range<usize>> = vec![0..0; inputs];
    let mut taken: Vec<RecordBatch> = Vec::new();
    for (number, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        places[number] = taken.len()..0;
        taken.push(take(number, count)?);
    }
    let mut indices: Vec<(usize, usize)> = Vec::with_capacity(rows);
    for run in portion {
        let place = &mut places[run.input];
        indices.extend((place.end..place.end + run.rows).map(|row| (place.start, row)));
        place.end += run.rows;
    }
    let schema = taken[0].schema();
    let gathered = (0..schema.fields().len()).map(|column| {
        let parts: Vec<&dyn Array> = taken.iter().map(|batch| batch.column(column).as_ref()).collect();
        interleave(&parts, &indices)
    });
    let columns = gathered.collect::<Result<Vec<ArrayRef>, _>>().map_err(ParquetError::from)?;
    Ok(RecordBatch::try_new(schema, columns).map_err(ParquetError::from)?)
}

/// The writers of one row group, by column.
struct Columns {
    fields: Vec<Arc<Field>>,
    writers: Vec<Vec<ArrowColumnWriter>>,
}

impl Columns {
    fn of(schema: &SchemaRef, writers: Vec<ArrowColumnWriter>) -> Self {
        let mut writers = writers.into_iter();
        let fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        let writers = fields.iter().map(|field| writers.by_ref().take(leaves(field)).collect()).collect();
        Self { fields, writers }
    }

    fn write(&mut self, column: usize, array: &ArrayRef) -> Result<(), ParquetError> {
        let leaves = compute_leaves(&self.fields[column], array)?;
        for (writer, leaf) in self.writers[column].iter_mut().zip(&leaves) {
            writer.write(leaf)?;
        }
        Ok(())
    }
}

/// How many leaves of a Parquet schema a field becomes.
fn leaves(field: &Field) -> usize {
    use arrow::datatypes::DataType;
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field)).sum(),
        DataType::List(item) | DataType::Map(item, _) => leaves(item),
        _ => 1,
    }
}
