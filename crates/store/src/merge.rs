//! Several segments written as one, in the order of their table.
//!
//! Inputs are sorted, so a row group of the output takes consecutive rows of each of them: they are read column by column, and the
//! runs of the order say where each row stands among those of all inputs laid end to end, which is what the encoder
//! ([`crate::chunk`]) takes. Text that inputs store by number stays a number. Attribute keys that are frequent or asked for become columns
//! on the way ([`crate::promote`]).
//!
//! *Invariants.* Rows, frames and the latest time of receipt are those of the inputs. Inputs and output change places in one
//! catalog transaction and one swap; a crash before it leaves a file that nothing names, one after it files that nothing names.
//!
//! *Cost.* Sixteen bytes a row for the order; one column of one row group, which has fewer rows where that would be more than
//! half of what the encoder may take.

use std::borrow::Cow;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use plimsoll_catalog::{SegmentChange, SegmentRecord};
use plimsoll_model::{Interval, SegmentId};
use plimsoll_otlp::Table;

use crate::chunk::{self, Encoder, Places};
use crate::encode::EncodedSegment;
use crate::error::StoreError;
use crate::flush::write_file;
use crate::layout::{MERGED, ROW_GROUP_ROWS, footer, properties, used};
use crate::order::Order;
use crate::promote::{Extractor, MAP, NotInteger, Promoted, Sample, TYPES};
use crate::shared::Shared;
use crate::sources::Source;
use crate::sums::Summed;

/// Columns of attribute keys that are in memory at once.
const EXTRACTED: usize = 16;
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
    /// Segments that could not be read, or that a defect was met with: they are left alone.
    pub(crate) damaged: Vec<SegmentId>,
    pub(crate) problem: StoreError,
}

/// Writes the merged segment; it becomes part of the store with the change that is returned. `None` where it was told to stop.
///
/// # Errors
/// The segment that could not be read, and why; or the output could not be written.
pub(crate) fn merge(shared: &Shared, job: &Job, stop: &AtomicBool) -> Result<Option<SegmentChange>, Failed> {
    let open = |record: &SegmentRecord| {
        Source::open(shared, record).map_err(|problem| Failed { damaged: vec![record.id.clone()], problem })
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
                return Err(Failed { damaged: vec![record.id.clone()], problem });
            }
            Err(Cut::Output(problem)) => return Err(Failed { damaged: Vec::new(), problem }),
        }
    }
}

/// What one column of a row group may take in memory.
pub(crate) fn column_bytes(shared: &Shared) -> u64 {
    (shared.options.encoder_bytes / 2) as u64
}

/// Why writing ended early.
pub(crate) enum Cut {
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
        let weight = column_bytes(shared);
        let order = Order::read(table, sources).map_err(|(number, problem)| input(number)(problem));
        let outcome = order.and_then(|mut order| {
            Writing { table, sources, stop }.run(&encoded, &promoted, facts, out, &mut || take(&mut order, weight))
        });
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
pub(crate) enum Interrupted {
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

/// The writing of rows of segments into a new one.
pub(crate) struct Writing<'a> {
    pub(crate) table: Table,
    pub(crate) sources: &'a [Source],
    pub(crate) stop: &'a AtomicBool,
}

/// The rows of a row group: their places among some rows of each input laid end to end, and which those are.
pub(crate) type RowGroup = (Places<'static>, Vec<Range<u64>>);

/// Returns the next rows of a merge.
fn take(order: &mut Order, weight: u64) -> Option<RowGroup> {
    let (runs, ranges) = order.take(ROW_GROUP_ROWS, weight);
    if runs.is_empty() {
        return None;
    }
    // Where the next row of each input stands.
    let mut next = Vec::with_capacity(ranges.len());
    let mut end = 0;
    for range in &ranges {
        next.push(end);
        end += (range.end - range.start) as u32;
    }
    let mut places = Vec::with_capacity(runs.len());
    for run in &runs {
        let (next, rows) = (&mut next[run.input], run.rows as u32);
        chunk::push(&mut places, *next, rows);
        *next += rows;
    }
    Some((Places::Runs(Cow::Owned(places)), ranges))
}

impl Writing<'_> {
    /// Writes a file of the row groups that `next` says.
    pub(crate) fn run(
        &self,
        encoded: &EncodedSegment,
        promoted: &[Promoted],
        facts: &[(&str, String)],
        out: &mut (dyn Write + Send),
        next: &mut dyn FnMut() -> Option<RowGroup>,
    ) -> Result<(), Interrupted> {
        let base = self.table.schema();
        let copies: Vec<Field> = promoted.iter().map(Promoted::field).collect();
        let fields = base.fields().iter().map(|field| field.as_ref().clone()).chain(copies.iter().cloned());
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let rows = usize::try_from(encoded.rows).unwrap_or(usize::MAX);
        let properties = properties(self.table, &schema, rows, footer(self.table, encoded, facts));
        let mut out = Summed::new(out);
        let writer = ArrowWriter::try_new(&mut out, Arc::clone(&schema), Some(properties))?;
        let (mut file, _) = writer.into_serialized_writer()?;
        let descriptor = file.schema_descr().clone();
        let mut encoder = Encoder::new(MERGED)?;
        while let Some((places, ranges)) = next() {
            let mut row_group = file.next_row_group()?;
            let own = base.fields().iter().map(|field| -> Result<_, Interrupted> {
                Ok((field.as_ref(), self.column(field.name(), &ranges)?, used(self.table, field.name())))
            });
            let mut extracted = Vec::new().into_iter();
            let behind = copies.iter().enumerate().map(|(at, field)| -> Result<_, Interrupted> {
                if at % EXTRACTED == 0 {
                    let some = &promoted[at..promoted.len().min(at + EXTRACTED)];
                    extracted = self.extract(some, &ranges)?.into_iter();
                }
                let missing = || ParquetError::General(format!("`{}` was not extracted", field.name()));
                Ok((field, extracted.next().ok_or_else(missing)?, used(self.table, field.name())))
            });
            encoder.append(&mut row_group, &descriptor, &places, own.chain(behind))?;
            row_group.close()?;
        }
        file.inner_mut().hold();
        file.close()?;
        out.finish().map_err(ParquetError::from)?;
        Ok(())
    }

    /// Reads a column of some rows of each input.
    fn column(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<ArrayRef>, Interrupted> {
        // Relaxed: the flag carries nothing but itself.
        if self.stop.load(Ordering::Relaxed) {
            return Err(Interrupted::Cut(Cut::Stopped));
        }
        let mut arrays = Vec::with_capacity(ranges.len());
        for (number, range) in ranges.iter().enumerate().filter(|(_, range)| !range.is_empty()) {
            arrays.extend(self.sources[number].stored(name, range.clone()).map_err(input(number))?);
        }
        Ok(arrays)
    }

    /// Returns the columns of some keys, each of some rows of each input.
    fn extract(&self, promoted: &[Promoted], ranges: &[Range<u64>]) -> Result<Vec<Vec<ArrayRef>>, Interrupted> {
        let (maps, types) = (self.column(MAP, ranges)?, self.column(TYPES, ranges)?);
        let extractor = Extractor::new(promoted.to_vec());
        let mut columns = vec![Vec::with_capacity(maps.len()); promoted.len()];
        for (map, types) in maps.iter().zip(&types) {
            let found =
                extractor.extract(map, types).map_err(|NotInteger(key)| Interrupted::Cut(Cut::NotInteger(key)))?;
            columns.iter_mut().zip(found).for_each(|(column, array)| column.push(array));
        }
        Ok(columns)
    }
}
