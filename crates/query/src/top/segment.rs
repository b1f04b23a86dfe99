//! One segment of a search: which parts of it may hold rows of the answer, and reading rows of it by their places.

use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::common::cast::as_boolean_array;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess, RowGroupAccessPlanFilter};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::Count;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use plimsoll_store::SegmentRead;

use super::compiled::{Compiled, Stage};
use super::rank::{Direction, Rank};
use super::search::Wanted;
use crate::tables::segment_reader::SegmentReader;

/// Bytes of a row that it is worth to keep: what is larger is read again of the rows that are in the answer.
const ROW_BYTES: usize = 4 << 10;

/// A segment that is open.
pub(super) struct Segment {
    /// Counts what was read when it is dropped.
    reader: SegmentReader,
    bytes: SegmentBytes,
    footer: ArrowReaderMetadata,
    compiled: Arc<Compiled>,
}

/// A part of a row group: the rows of one page of the column that decides the order, without those that bounds rule out.
pub(super) struct Part {
    pub(super) segment: Arc<Segment>,
    group: usize,
    ranges: Vec<Range<usize>>,
}

/// Rows of a part that pass every filter.
pub(super) struct Rows {
    segment: Arc<Segment>,
    group: usize,
    /// Their places in the row group.
    places: Vec<usize>,
    pub(super) ranks: Vec<Rank>,
    /// Columns that were read already, those that the answer needs.
    columns: Vec<(usize, ArrayRef)>,
}

impl Segment {
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn new(reader: SegmentReader, footer: ArrowReaderMetadata, compiled: Arc<Compiled>) -> Result<Self> {
        let bytes = SegmentBytes {
            file: Arc::clone(reader.opened()?),
            bytes: reader.bytes(),
            scanned: reader.metrics().bytes_scanned.clone(),
        };
        Ok(Self { reader, bytes, footer, compiled })
    }

    /// Returns the parts that may hold rows, with the best rank that a row of each can have.
    pub(super) fn parts(
        self: &Arc<Self>,
        access: Option<ParquetAccessPlan>,
        direction: Direction,
    ) -> Vec<(Rank, Part)> {
        let metadata = Arc::clone(self.footer.metadata());
        let mut parts = Vec::new();
        for (group, access) in self.access(access).into_inner().into_iter().enumerate() {
            let rows = usize::try_from(metadata.row_group(group).num_rows()).unwrap_or(0);
            let kept: Vec<Range<usize>> = match access {
                RowGroupAccess::Skip => continue,
                RowGroupAccess::Scan => std::iter::once(0..rows).collect(),
                RowGroupAccess::Selection(selection) => ranges(&selection),
            };
            for (bound, page) in self.pages(&metadata, group, rows, direction) {
                let ranges: Vec<Range<usize>> = kept
                    .iter()
                    .map(|range| range.start.max(page.start)..range.end.min(page.end))
                    .filter(|range| !range.is_empty())
                    .collect();
                if !ranges.is_empty() {
                    parts.push((bound, Part { segment: Arc::clone(self), group, ranges }));
                }
            }
        }
        parts
    }

    /// Returns what bounds of row groups and pages leave of `access`.
    fn access(&self, access: Option<ParquetAccessPlan>) -> ParquetAccessPlan {
        let metrics = self.reader.metrics();
        let (metadata, columns) = (self.footer.metadata(), self.footer.parquet_schema());
        let groups = metadata.row_groups();
        // A plan that is not one of this file is no help.
        let access = access.filter(|access| access.len() == groups.len());
        let access = access.unwrap_or_else(|| ParquetAccessPlan::new_all(groups.len()));
        let schema = &self.compiled.schema;
        let mut kept = RowGroupAccessPlanFilter::new(access);
        if let Some(predicate) = &self.compiled.groups {
            kept.prune_by_statistics(schema, columns, groups, predicate, metrics);
        }
        match &self.compiled.pages {
            Some(pages) => pages.prune_plan_with_page_index(kept.build(), schema, columns, metadata, metrics),
            None => kept.build(),
        }
    }

    /// Returns the pages of the column that decides the order; the whole row group where they are not known.
    fn pages(
        &self,
        metadata: &ParquetMetaData,
        group: usize,
        rows: usize,
        direction: Direction,
    ) -> Vec<(Rank, Range<usize>)> {
        let nullable = self.compiled.key_is_nullable();
        let Some(key) = self.compiled.key_column else { return vec![(Rank::FIRST, 0..rows)] };
        let name = self.compiled.schema.field(key).name();
        let leaf = self.footer.parquet_schema().columns().iter().position(|leaf| leaf.path().string() == *name);
        let locations = leaf.and_then(|leaf| Some(metadata.offset_index()?.get(group)?.get(leaf)?.page_locations()));
        let (Some(leaf), Some(locations)) = (leaf, locations) else { return vec![(Rank::FIRST, 0..rows)] };
        let firsts: Vec<usize> =
            locations.iter().map(|page| usize::try_from(page.first_row_index).unwrap_or(0)).collect();
        if firsts.first() != Some(&0) || !firsts.is_sorted() || firsts.last().is_some_and(|last| *last >= rows) {
            return vec![(Rank::FIRST, 0..rows)];
        }
        let ends = firsts.iter().skip(1).copied().chain(std::iter::once(rows));
        firsts
            .iter()
            .zip(ends)
            .enumerate()
            .map(|(page, (from, to))| (direction.of_page(metadata, (group, leaf, page), nullable), *from..to))
            .collect()
    }

    /// Reads columns of some rows of a row group.
    fn read(&self, group: usize, rows: &[Range<usize>], columns: &[usize]) -> Result<Vec<(usize, ArrayRef)>> {
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        let total = usize::try_from(self.footer.metadata().row_group(group).num_rows()).unwrap_or(0);
        let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), columns.iter().copied());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.footer.clone())
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_row_selection(RowSelection::from_consecutive_ranges(rows.iter().cloned(), total))
            .with_batch_size(count.max(1))
            .build()?;
        let schema = Arc::new(self.compiled.schema.project(columns)?);
        let batches = reader.collect::<Result<Vec<RecordBatch>, _>>()?;
        let batch = match batches.as_slice() {
            [one] => one.clone(),
            several => concat_batches(several.first().map_or(&schema, |first| first.schema_ref()), several)?,
        };
        if batch.num_rows() != count || batch.num_columns() != columns.len() {
            let found = format!("{} rows of {} columns", batch.num_rows(), batch.num_columns());
            let problem = format!("{found} where there should be {count} of {}", columns.len());
            return Err(ParquetError::General(problem).into());
        }
        // Roots come in the order of the schema, as `columns` are.
        Ok(columns.iter().copied().zip(batch.columns().iter().cloned()).collect())
    }
}

impl Part {
    /// Reads the rows that pass every filter and may still belong to the answer.
    ///
    /// # Errors
    /// The segment is damaged, or a filter fails.
    pub(super) fn read(self, direction: Direction, wanted: &Wanted) -> Result<Option<Rows>> {
        let Self { segment, group, ranges } = self;
        let compiled = Arc::clone(&segment.compiled);
        let mut rows =
            Selected { places: ranges.iter().cloned().flatten().collect(), ranks: Vec::new(), columns: Vec::new() };
        let mut ranges = ranges;
        for (number, stage) in compiled.stages.iter().enumerate() {
            rows.columns.extend(segment.read(group, &ranges, &stage.reads)?);
            let seen = rows.batch(&stage.schema, &stage.sees)?;
            let mut pass = stage.test(&seen)?;
            if number == 0 {
                rows.ranks = direction.ranks(&compiled.key.evaluate(&seen)?.into_array(seen.num_rows())?)?;
                if let Some(worst) = wanted.worst() {
                    pass.iter_mut().zip(&rows.ranks).for_each(|(pass, rank)| *pass &= wanted.passes(*rank, worst));
                }
            }
            rows.keep(&pass, &stage.keeps)?;
            if rows.places.is_empty() {
                return Ok(None);
            }
            ranges = consecutive(&rows.places);
        }
        let Selected { places, ranks, mut columns } = rows;
        // Rows that are kept would keep the whole dictionary of the row group with them.
        columns.retain(|(_, column)| column.get_array_memory_size() <= ROW_BYTES * places.len().max(16));
        Ok(Some(Rows { segment, group, places, ranks, columns }))
    }
}

impl Rows {
    /// Drops the rows that do not belong to the answer; returns how many are left.
    ///
    /// # Errors
    /// None in practice: columns are filtered by a mask of their length.
    pub(super) fn retain(&mut self, keep: impl Fn(Rank) -> bool) -> Result<usize> {
        let pass: Vec<bool> = self.ranks.iter().map(|rank| keep(*rank)).collect();
        let keeps: Vec<usize> = self.columns.iter().map(|(at, _)| *at).collect();
        let mut rows = Selected {
            places: std::mem::take(&mut self.places),
            ranks: std::mem::take(&mut self.ranks),
            columns: std::mem::take(&mut self.columns),
        };
        rows.keep(&pass, &keeps)?;
        Selected { places: self.places, ranks: self.ranks, columns: self.columns } = rows;
        Ok(self.places.len())
    }

    /// Returns what they take in memory.
    pub(super) fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|(_, column)| column.get_array_memory_size()).sum();
        columns + self.places.capacity() * size_of::<usize>() + self.ranks.capacity() * size_of::<Rank>()
    }

    /// Reads what else the answer needs of them, and computes its columns.
    ///
    /// # Errors
    /// The segment is damaged, or a computation fails.
    pub(super) fn show(self, schema: &SchemaRef) -> Result<RecordBatch> {
        let Self { segment, group, places, mut columns, .. } = self;
        let compiled = &segment.compiled;
        let missing: Vec<usize> =
            compiled.shows.iter().copied().filter(|at| columns.iter().all(|(known, _)| known != at)).collect();
        columns.extend(segment.read(group, &consecutive(&places), &missing)?);
        let rows = Selected { places, ranks: Vec::new(), columns };
        let seen = rows.batch(&compiled.shown, &compiled.shows)?;
        let count = seen.num_rows();
        let outputs =
            compiled.outputs.iter().map(|output| output.evaluate(&seen)?.into_array(count)).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), outputs, &options)?)
    }
}

/// Rows on their way through the stages.
struct Selected {
    places: Vec<usize>,
    ranks: Vec<Rank>,
    columns: Vec<(usize, ArrayRef)>,
}

impl Selected {
    fn column(&self, at: usize) -> &ArrayRef {
        let found = self.columns.iter().find(|(known, _)| *known == at);
        found.map(|(_, column)| column).expect("columns are read before they are seen")
    }

    fn batch(&self, schema: &SchemaRef, columns: &[usize]) -> Result<RecordBatch> {
        let columns = columns.iter().map(|at| ArrayRef::clone(self.column(*at))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.places.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    /// Keeps the rows that `pass`, and of their columns those in `keeps`.
    fn keep(&mut self, pass: &[bool], keeps: &[usize]) -> Result<()> {
        self.columns.retain(|(at, _)| keeps.contains(at));
        if pass.iter().all(|pass| *pass) {
            return Ok(());
        }
        let mask = arrow::array::BooleanArray::from(pass.to_vec());
        for (_, column) in &mut self.columns {
            *column = filter(column, &mask)?;
        }
        let mut passes = pass.iter();
        self.places.retain(|_| *passes.next().expect("there is a word on each row"));
        let mut passes = pass.iter();
        self.ranks.retain(|_| *passes.next().expect("there is a word on each row"));
        Ok(())
    }
}

impl Stage {
    /// Says of each row whether it passes.
    fn test(&self, seen: &RecordBatch) -> Result<Vec<bool>> {
        let mut pass = vec![true; seen.num_rows()];
        for filter in &self.filters {
            narrow(filter, seen, &mut pass)?;
        }
        Ok(pass)
    }
}

fn narrow(filter: &Arc<dyn PhysicalExpr>, seen: &RecordBatch, pass: &mut [bool]) -> Result<()> {
    let tested = filter.evaluate(seen)?.into_array(seen.num_rows())?;
    let tested = as_boolean_array(&tested)?;
    match tested.nulls() {
        None => pass.iter_mut().zip(tested.values()).for_each(|(pass, tested)| *pass &= tested),
        // What is neither true nor false does not pass.
        Some(_) => pass.iter_mut().zip(tested).for_each(|(pass, tested)| *pass &= tested == Some(true)),
    }
    Ok(())
}

/// Returns the ranges of rows that a selection takes.
fn ranges(selection: &RowSelection) -> Vec<Range<usize>> {
    let (mut at, mut ranges) = (0, Vec::new());
    for selector in selection.iter() {
        if !selector.skip {
            ranges.push(at..at + selector.row_count);
        }
        at += selector.row_count;
    }
    ranges
}

/// Returns places as ranges.
fn consecutive(places: &[usize]) -> Vec<Range<usize>> {
    places.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some(*run.first()?..*run.last()? + 1)).collect()
}

/// The bytes of a segment, as the decoder that reads on the calling thread wants them.
#[derive(Clone)]
struct SegmentBytes {
    file: Arc<dyn SegmentRead>,
    bytes: u64,
    scanned: Count,
}

impl Length for SegmentBytes {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for SegmentBytes {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        // Headers of pages are asked for in this way where there is no index of them: they are short.
        let length = self.bytes.saturating_sub(start).min(HEADER_BYTES);
        let head = self.get_bytes(start, length as usize)?;
        let rest = Rest { bytes: self.clone(), at: start + length };
        Ok(Box::new(Cursor::new(head).chain(rest)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.scanned.add(length);
        self.file.read_at(start, length).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

const HEADER_BYTES: u64 = 4 << 10;

/// What follows, for who reads on.
struct Rest {
    bytes: SegmentBytes,
    at: u64,
}

impl Read for Rest {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.bytes.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self.bytes.file.read_at(self.at, length)?;
        buffer[..length].copy_from_slice(&read);
        self.at += length as u64;
        Ok(length)
    }
}
