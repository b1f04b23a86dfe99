//! A stored table as DataFusion reads it: the tail from memory and the segments from Parquet, of one snapshot.
//!
//! *Pruning.* Whole segments by their times in the catalog, before any file is opened; row groups by bloom filters, of which a block
//! each is read ([`super::lookups`]); then row groups by statistics, pages by the page index, and rows by filters evaluated while
//! decoding.
//!
//! *Sharing.* Of few segments each is dealt out by row groups, in turns: as rows are sorted by service, the rows of one service are
//! in neighbours.
//!
//! *Attributes.* Segments that hold a column for a key that is asked for are read by it, all others by the map
//! ([`super::attributes`]).
//!
//! *Invariants.* Every filter is taken, rewritten for the stored columns ([`crate::lower`]) and applied to both halves, so
//! that nothing above has to test again.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::DataSourceExec;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use plimsoll_catalog::SegmentRecord;
use plimsoll_otlp::Table;
use plimsoll_otlp::schema::UTC;
use plimsoll_store::Snapshot;

use super::attributes::{self, Promoted};
use super::lookups::Lookups;
use super::reads::{FOOTER_BYTES, Reads};
use super::repeated;
use super::tail_rows::TailRows;
use crate::contains;
use crate::fallible::may_fail;
use crate::guarded;
use crate::lower::lower;
use crate::session::SEGMENTS_URL;

/// One stored table; behind its columns those of attribute keys that a query asks for.
pub(crate) struct StoredTable {
    table: Table,
    snapshot: Snapshot,
    reads: Arc<Reads>,
    keys: Vec<String>,
    schema: SchemaRef,
}

impl StoredTable {
    pub(super) fn new(table: Table, snapshot: Snapshot, reads: Arc<Reads>) -> Self {
        Self { table, snapshot, reads, keys: Vec::new(), schema: Arc::clone(repeated::schema(table)) }
    }

    /// Returns the same table with a column of text behind the others for each of `keys`.
    pub(crate) fn with_keys(&self, keys: Vec<String>) -> Self {
        let virtual_columns = keys.iter().map(|key| Arc::new(attributes::field(key, DataType::Utf8)));
        let fields: Vec<FieldRef> =
            repeated::schema(self.table).fields().iter().cloned().chain(virtual_columns).collect();
        Self {
            table: self.table,
            snapshot: self.snapshot.clone(),
            reads: Arc::clone(&self.reads),
            keys,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// Returns the keys that have a column here.
    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Returns what it takes to test a filter: filters are tested one after the other, each on the rows that pass those before.
    fn effort(&self, filter: &Expr) -> Effort {
        let mut effort = Effort::Numbers;
        for column in filter.column_refs() {
            let own = match repeated::schema(self.table).field_with_name(&column.name) {
                // Times come late among numbers: most rows of the segments that are left pass them, and they take the longest to decode.
                Ok(_) if column.name == self.table.time_column() => Effort::Times,
                Ok(field) => match field.data_type() {
                    DataType::Dictionary(..) | DataType::Boolean => Effort::Numbers,
                    number if number.is_primitive() => Effort::Numbers,
                    DataType::FixedSizeBinary(_) => Effort::Ids,
                    _ => Effort::Texts,
                },
                Err(_) => Effort::Texts,
            };
            effort = effort.max(own);
        }
        effort
    }

    /// Returns the filter of segments. Each of its parts is tested by itself while rows are decoded, on those that pass the parts before; but
    /// parts over nested columns together, and later.
    fn of_segments(&self, sure: &[Expr], fallible: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
        let nested = |filter: &&Expr| {
            filter.column_refs().into_iter().any(|column| {
                schema.field_with_unqualified_name(&column.name).is_ok_and(|field| field.data_type().is_nested())
            })
        };
        let late: Vec<Expr> = sure.iter().filter(nested).cloned().collect();
        if late.is_empty() && !fallible.iter().any(|filter| nested(&filter)) {
            let each = fallible.iter().map(|filter| Ok(guarded::guarded(filter.clone(), schema)?.data));
            return Ok(conjunction(sure, each.collect::<Result<Vec<_>>>()?));
        }
        Ok(conjunction(sure, guarded::last(&late, fallible, schema)?))
    }

    /// Returns those of `segments` that may hold rows that pass.
    fn may_hold(
        &self,
        segments: Vec<SegmentRecord>,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<Vec<SegmentRecord>> {
        if segments.is_empty() {
            return Ok(segments);
        }
        let Some(predicate) = predicate else { return Ok(segments) };
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(repeated::schema(self.table)));
        let Some(pruning) = builder.build(Arc::clone(predicate)) else { return Ok(segments) };
        let times = SegmentTimes { column: self.table.time_column(), segments: &segments };
        let kept = pruning.prune(&times)?;
        Ok(segments.iter().zip(kept).filter(|(_, kept)| *kept).map(|(segment, _)| segment.clone()).collect())
    }

    fn read_segments(
        &self,
        segments: &[Chosen],
        schema: &SchemaRef,
        columns: &[usize],
        threads: usize,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut files: Vec<PartitionedFile> = Vec::with_capacity(segments.len());
        for Chosen { segment, plans } in segments {
            let rows = usize::try_from(segment.rows).unwrap_or(usize::MAX);
            let mut file = PartitionedFile::new(segment.path.clone(), segment.bytes);
            file.metadata_size_hint = Some(FOOTER_BYTES);
            let statistics = self.statistics(schema, &[rows], std::slice::from_ref(segment));
            if plans.is_empty() {
                files.push(file.with_statistics(Arc::new(statistics)));
                continue;
            }
            let file = file.with_statistics(Arc::new(statistics.to_inexact()));
            files.extend(plans.iter().map(|plan| file.clone().with_extension(plan.clone())));
        }
        let rows: Vec<usize> =
            segments.iter().map(|chosen| usize::try_from(chosen.segment.rows).unwrap_or(usize::MAX)).collect();
        let source = ParquetSource::new(TableSchema::from(Arc::clone(schema)))
            .with_parquet_file_reader_factory(Arc::clone(&self.reads) as _)
            .with_pushdown_filters(true)
            .with_enable_page_index(true)
            // What can be looked up was, a block of a filter each; whole filters are for lists that are too long for that.
            .with_bloom_filter_on_read(true);
        let url = ObjectStoreUrl::parse(SEGMENTS_URL)?;
        let records: Vec<SegmentRecord> = segments.iter().map(|chosen| chosen.segment.clone()).collect();
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_statistics(self.statistics(schema, &rows, &records))
            .with_file_groups(dealt(files, threads))
            .with_limit(limit)
            .with_projection_indices(Some(columns.to_vec()))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn statistics(&self, schema: &Schema, rows: &[usize], segments: &[SegmentRecord]) -> Statistics {
        let mut columns = vec![ColumnStatistics::new_unknown(); schema.fields().len()];
        if let Ok(at) = schema.index_of(self.table.time_column()) {
            let instant = |nanos: i64| ScalarValue::TimestampNanosecond(Some(nanos), Some(UTC.into()));
            let first = segments.iter().map(|s| s.times.from.as_i64()).min();
            let last = segments.iter().map(latest).max();
            // Bounds, not values: good for pruning and for order, never an answer.
            columns[at].min_value = first.map_or(Precision::Absent, |at| Precision::Inexact(instant(at)));
            columns[at].max_value = last.map_or(Precision::Absent, |at| Precision::Inexact(instant(at)));
        }
        let bytes = segments.iter().map(|s| usize::try_from(s.bytes).unwrap_or(usize::MAX)).sum();
        Statistics {
            num_rows: Precision::Exact(rows.iter().sum()),
            total_byte_size: Precision::Inexact(bytes),
            column_statistics: columns,
        }
    }
}

impl fmt::Debug for StoredTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredTable").field(&self.table).finish()
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| {
                if filter.is_volatile() {
                    TableProviderFilterPushDown::Unsupported
                } else {
                    TableProviderFilterPushDown::Exact
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let base = repeated::schema(self.table);
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let mut lowered = filters
            .iter()
            .map(|filter| lower(attributes::unfold(filter.clone(), &self.keys)?, base))
            .collect::<Result<Vec<_>>>()?;
        let full = DFSchema::try_from(Arc::clone(base))?;
        // What may fail is tested last, in the order in which it is written.
        lowered.sort_by_key(|filter| match may_fail(filter, &full) {
            true => (true, Effort::Texts),
            false => (false, self.effort(filter)),
        });
        let first = lowered.iter().take_while(|filter| !may_fail(filter, &full)).count();
        let (sure, fallible) = lowered.split_at(first);
        let filters = Filters {
            segments: self.of_segments(sure, fallible, &full)?,
            tail: conjunction(sure, guarded::last(sure, fallible, &full)?),
        };
        let filter = lowered.into_iter().reduce(Expr::and);
        let predicate = filter.clone().map(|filter| state.create_physical_expr(filter, &full)).transpose()?;
        let mut segments = self.may_hold(self.snapshot.segments(self.table), predicate.as_ref())?;
        self.reads.without(&self.may_hold(self.snapshot.missing(self.table), predicate.as_ref())?)?;
        // The newest first: what asks for the latest few rows finds them there, and need not open the others.
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.times.to));
        let segments = self.reads.readable(segments).await;

        let shown = wanted.iter().filter_map(|at| self.keys.get(at.checked_sub(base.fields().len())?).cloned());
        let mut keys: Vec<String> = shown.collect();
        if let Some(filter) = &filter {
            attributes::keys(filter, &mut keys)?;
        }
        keys.iter().for_each(|key| self.snapshot.want_attribute(self.table, key));
        let threads = state.config().target_partitions();
        let lookups = Lookups::of(filter.as_ref());
        let all_rows = limit.is_none() || filter.is_some();
        let few = segments.len() < threads * FILES_PER_THREAD && all_rows && !wanted.is_empty();
        let mut groups: Vec<(Promoted, Vec<Chosen>)> = Vec::new();
        for segment in segments {
            let Some(plans) = self.reads.plans(&segment, &lookups, few, threads).await? else { continue };
            let promoted =
                if keys.is_empty() { Promoted::default() } else { self.reads.promoted(&segment, &keys).await? };
            let chosen = Chosen { segment, plans };
            match groups.iter_mut().find(|(known, _)| *known == promoted) {
                Some((_, segments)) => segments.push(chosen),
                None => groups.push((promoted, vec![chosen])),
            }
        }

        let part = Part { stored: self, state, wanted: &wanted };
        let limit = limit.filter(|_| filter.is_none());
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(groups.len() + 1);
        for (promoted, segments) in &groups {
            parts.push(part.plan((base, promoted), filters.segments.as_ref(), |schema, columns| {
                self.read_segments(segments, schema, columns, threads, limit)
            })?);
        }
        let tail = self.snapshot.tail(self.table);
        if !tail.is_empty() {
            let columns = (self.table.schema(), &Promoted::default());
            parts.push(
                part.plan(columns, filters.tail.as_ref(), |schema, columns| TailRows::plan(tail, schema, columns))?,
            );
        }
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?)))),
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}

/// What a filter reads, by what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effort {
    /// And text by its number in a dictionary.
    Numbers,
    Ids,
    Times,
    /// And nested values.
    Texts,
}

/// Segments for each thread from which on they need not be cut up for all threads to have their share.
const FILES_PER_THREAD: usize = 4;

/// A segment that is read.
struct Chosen {
    segment: SegmentRecord,
    /// Which row groups are read together, each in one plan; none where one thread reads it whole.
    plans: Vec<ParquetAccessPlan>,
}

/// Deals files out to as many groups as there are threads, so that each begins with the newest it has.
fn dealt(files: Vec<PartitionedFile>, threads: usize) -> Vec<FileGroup> {
    let mut hands: Vec<Vec<PartitionedFile>> = vec![Vec::new(); threads.clamp(1, files.len().max(1))];
    let count = hands.len();
    for (at, file) in files.into_iter().enumerate() {
        hands[at % count].push(file);
    }
    hands.into_iter().map(FileGroup::new).collect()
}

/// What a scan filters by, what may fail behind guards: see [`guarded`].
struct Filters {
    segments: Option<Expr>,
    tail: Option<Expr>,
}

fn conjunction(filters: &[Expr], more: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    filters.iter().cloned().chain(more).reduce(Expr::and)
}

/// What every part of a scan gives: the same columns of the rows that pass.
struct Part<'a> {
    stored: &'a StoredTable,
    state: &'a dyn Session,
    wanted: &'a [usize],
}

impl Part<'_> {
    /// Plans one part, whose rows have the columns of `promoted` behind those of `base` and are read by `read`.
    fn plan(
        &self,
        (base, promoted): (&SchemaRef, &Promoted),
        filter: Option<&Expr>,
        read: impl FnOnce(&SchemaRef, &[usize]) -> Result<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = promoted.behind(base);
        let filter = filter.map(|filter| repeated::over(base, promoted.rewrite(filter.clone())?)).transpose()?;
        let shown = |at: usize| match at.checked_sub(base.fields().len()) {
            None => repeated::shown(base.field(at)),
            Some(at) => promoted.value(&self.stored.keys[at]),
        };
        let outputs: Vec<Expr> = self.wanted.iter().map(|at| shown(*at)).collect();
        let mut columns = BTreeSet::new();
        for expr in outputs.iter().chain(&filter) {
            for column in expr.column_refs() {
                columns.insert(schema.index_of(&column.name)?);
            }
        }
        let columns: Vec<usize> = columns.into_iter().collect();
        let narrow = Arc::new(schema.project(&columns)?);
        let named = DFSchema::try_from(Arc::clone(&narrow))?;
        let predicate = filter
            .map(|filter| self.state.create_physical_expr(filter, &named).and_then(contains::search))
            .transpose()?;
        let plain: Option<Vec<usize>> = outputs
            .iter()
            .map(|output| match output {
                Expr::Column(column) => narrow.index_of(&column.name).ok(),
                _ => None,
            })
            .collect();
        match plain {
            Some(positions) if predicate.is_some() || positions.iter().copied().eq(0..columns.len()) => {
                restrict(read(&schema, &columns)?, predicate.as_ref(), &positions)
            }
            _ => {
                let all: Vec<usize> = (0..columns.len()).collect();
                let input = restrict(read(&schema, &columns)?, predicate.as_ref(), &all)?;
                let outputs = outputs.into_iter().zip(self.wanted).map(|(output, at)| {
                    let name = self.stored.schema.field(*at).name().clone();
                    Ok((self.state.create_physical_expr(output, &named)?, name))
                });
                Ok(Arc::new(ProjectionExec::try_new(outputs.collect::<Result<Vec<_>>>()?, input)?))
            }
        }
    }
}

/// Filters `input` and keeps the columns at `positions`.
fn restrict(
    input: Arc<dyn ExecutionPlan>,
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    positions: &[usize],
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(predicate) = predicate else { return Ok(input) };
    let filter =
        FilterExecBuilder::new(Arc::clone(predicate), input).apply_projection(Some(positions.to_vec()))?.build()?;
    Ok(Arc::new(filter))
}

/// Returns the latest event time in a segment; `times.to` is just after it.
fn latest(segment: &SegmentRecord) -> i64 {
    i64::try_from(segment.times.to.0.saturating_sub(1)).unwrap_or(i64::MAX)
}

/// The times of segments, for pruning.
struct SegmentTimes<'a> {
    column: &'static str,
    segments: &'a [SegmentRecord],
}

impl SegmentTimes<'_> {
    fn times(&self, of: impl Fn(&SegmentRecord) -> i64) -> Option<ArrayRef> {
        let times: TimestampNanosecondArray = self.segments.iter().map(|segment| Some(of(segment))).collect();
        Some(Arc::new(times.with_timezone(UTC)))
    }
}

impl PruningStatistics for SegmentTimes<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        if column.name == self.column { self.times(|s| s.times.from.as_i64()) } else { None }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name.as_str() {
            name if name == self.column => self.times(latest),
            "received_time" => self.times(|s| s.received_to.as_i64()),
            _ => None,
        }
    }

    fn num_containers(&self) -> usize {
        self.segments.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.segments.iter().map(|s| Some(s.rows)).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
