//! The first few rows of a stored table by a column of times or numbers, found without reading the others: the newest logs that
//! hold a word, the slowest spans of an hour.
//!
//! A sort that keeps a few rows needs no more of a scan than that many. Pages say between which bounds their values lie, so they are
//! read in the order of what they promise, and reading ends when no page that is left can hold a better row than those that were
//! found. Of a page the columns of filters are read first, and all others only of the rows that are in the answer.
//!
//! | file | owns |
//! |---|---|
//! | `rank` | where a value stands in the order, and how good a page can be |
//! | `search` | what is left to be read, and how good a row has to be |
//! | `compiled` | filters and outputs, fitted to the columns of segments |
//! | `segment` | a segment: its parts, and reading rows of them |
//!
//! *Invariants.* [`TopScanExec`] stands below the sort that it works for, in place of the scan that was there; it gives at least
//! the rows that the sort would keep of those that the scan gives, each once. So nothing above has to know.
//!
//! *Cost.* Rows that were found are reserved from the memory of queries. A worker gives way between pages.

mod compiled;
mod rank;
mod search;
mod segment;
mod workers;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::DataSourceExec;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use parking_lot::Mutex;

use crate::fallible::plan_may_fail;
use crate::give_way::Ingest;
use crate::tables::reads::Reads;
use rank::Direction;
use workers::Search;

/// Rows that are worth looking for in this way: of more, most pages hold some.
const FETCH_MAX: usize = 10_000;

/// Puts [`TopScanExec`] below sorts that keep a few rows, in place of scans of segments.
#[derive(Debug)]
pub(crate) struct TopScans {
    pub(crate) reads: Arc<Reads>,
    pub(crate) ingest: Arc<Ingest>,
}

impl PhysicalOptimizerRule for TopScans {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let threads = config.execution.target_partitions;
        plan.transform_up(|plan| {
            let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(Transformed::no(plan)) };
            let Some(fetch) = sort.fetch().filter(|fetch| (1..=FETCH_MAX).contains(fetch)) else {
                return Ok(Transformed::no(plan));
            };
            let first = sort.expr().first();
            let Some(by) = first.expr.downcast_ref::<Column>() else { return Ok(Transformed::no(plan)) };
            let direction = Direction { descending: first.options.descending, nulls_first: first.options.nulls_first };
            let order = Order { direction, fetch, with_ties: sort.expr().len() > 1, threads };
            match self.below(sort.input(), by.index(), order)? {
                Some(input) => Ok(Transformed::yes(with_input(&plan, input)?)),
                None => Ok(Transformed::no(plan)),
            }
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "top_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Which rows are looked for.
#[derive(Debug, Clone, Copy)]
struct Order {
    direction: Direction,
    fetch: usize,
    /// Something else decides among rows that are equal in the column.
    with_ties: bool,
    /// Threads that a query has.
    threads: usize,
}

impl TopScans {
    /// Replaces the scans below `plan`, whose column `by` decides the order; `None` where there are none that can be.
    fn below(&self, plan: &Arc<dyn ExecutionPlan>, by: usize, order: Order) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
            return Ok(self.scan(plan, scan, by, order).map(|scan| Arc::new(scan) as _));
        }
        if let Some(union) = plan.downcast_ref::<UnionExec>() {
            let mut replaced = false;
            let mut inputs = Vec::with_capacity(union.inputs().len());
            for input in union.inputs() {
                let below = self.below(input, by, order)?;
                replaced |= below.is_some();
                inputs.push(below.unwrap_or_else(|| Arc::clone(input)));
            }
            return if replaced { with_inputs(plan, inputs).map(Some) } else { Ok(None) };
        }
        let (input, by) = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let column = projection.expr().get(by).and_then(|output| output.expr.downcast_ref::<Column>());
            let Some(column) = column else { return Ok(None) };
            (projection.input(), column.index())
        } else if plan.downcast_ref::<RepartitionExec>().is_some()
            || plan.downcast_ref::<CoalescePartitionsExec>().is_some_and(|plan| plan.fetch().is_none())
        {
            (plan.children()[0], by)
        } else {
            return Ok(None);
        };
        match self.below(input, by, order)? {
            Some(input) => with_input(plan, input).map(Some),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        scan: &DataSourceExec,
        by: usize,
        order: Order,
    ) -> Option<TopScanExec> {
        let (config, source) = scan.downcast_to_file_source::<ParquetSource>()?;
        if config.limit.is_some() {
            return None;
        }
        let table = Arc::clone(config.file_schema());
        let outputs: Vec<Arc<dyn PhysicalExpr>> = source.projection()?.expr_iter().collect();
        let key = Arc::clone(outputs.get(by)?);
        let column = key.downcast_ref::<Column>()?;
        let of_table = table.fields().get(column.index()).filter(|field| field.name() == column.name())?;
        // Many rows have the same of any other number: each that is equal to the last of the few would have to be kept.
        let spread = matches!(of_table.data_type(), DataType::Timestamp(..)) || of_table.name() == "duration_ns";
        if !rank::takes(of_table.data_type()) || (order.with_ties && !spread) {
            return None;
        }
        let predicate = source.filter();
        let filters = predicate.as_ref().map(split_conjunction).unwrap_or_default();
        // What the sort learns while it runs is what is done here.
        let filters = filters.into_iter().filter(|filter| filter.downcast_ref::<DynamicFilterPhysicalExpr>().is_none());
        let filters: Vec<Arc<dyn PhysicalExpr>> = filters.map(Arc::clone).collect();
        // All filters of a stage are tested on all rows of a page.
        if filters.iter().any(|filter| plan_may_fail(filter, &table)) {
            return None;
        }
        let asked = Arc::new(Asked { table, key, filters, outputs, output: plan.schema(), order });
        Some(TopScanExec {
            scan: Arc::clone(plan),
            files: files(config),
            asked,
            reads: Arc::clone(&self.reads),
            ingest: Arc::clone(&self.ingest),
            metrics: ExecutionPlanMetricsSet::new(),
            search: Mutex::default(),
        })
    }
}

fn with_input(plan: &Arc<dyn ExecutionPlan>, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    with_inputs(plan, vec![input])
}

fn with_inputs(plan: &Arc<dyn ExecutionPlan>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
    Arc::clone(plan).replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// Returns the files of a scan, each once: the planner may have cut them into ranges, which are read whole here.
fn files(config: &FileScanConfig) -> Vec<PartitionedFile> {
    let mut files: Vec<PartitionedFile> = Vec::new();
    for file in config.file_groups.iter().flat_map(|group| group.iter()) {
        match files.iter_mut().find(|known| known.object_meta.location == file.object_meta.location) {
            None => files.push(file.clone()),
            Some(known) => {
                let both = match (known.extension::<ParquetAccessPlan>(), file.extension::<ParquetAccessPlan>()) {
                    (Some(known), Some(other)) if known.len() == other.len() => Some(either(known, other)),
                    _ => None,
                };
                // Where only one says what may be left out, nothing is.
                *known = known.clone().with_extension(both.unwrap_or_else(|| ParquetAccessPlan::new_all(0)));
            }
        }
    }
    files
}

/// Returns a plan for the row groups that one of two plans takes.
fn either(a: &ParquetAccessPlan, b: &ParquetAccessPlan) -> ParquetAccessPlan {
    let mut both = ParquetAccessPlan::new_none(a.len());
    (0..a.len()).filter(|at| a.should_scan(*at) || b.should_scan(*at)).for_each(|at| both.scan(at));
    both
}

/// What a scan was asked for.
#[derive(Debug)]
struct Asked {
    /// The columns that its expressions are over.
    table: SchemaRef,
    key: Arc<dyn PhysicalExpr>,
    filters: Vec<Arc<dyn PhysicalExpr>>,
    outputs: Vec<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
    order: Order,
}

/// The scan.
struct TopScanExec {
    /// The plan that it stands for.
    scan: Arc<dyn ExecutionPlan>,
    files: Vec<PartitionedFile>,
    asked: Arc<Asked>,
    reads: Arc<Reads>,
    ingest: Arc<Ingest>,
    metrics: ExecutionPlanMetricsSet,
    /// What the partitions of one execution share, and which of them have begun.
    search: Mutex<Option<(Arc<Search>, Vec<bool>)>>,
}

impl fmt::Debug for TopScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopScanExec").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl TopScanExec {
    fn partitions(&self) -> usize {
        self.scan.properties().partitioning.partition_count()
    }

    /// Returns what the partitions of one execution share: another execution begins anew.
    fn search(&self, partition: usize) -> Arc<Search> {
        let mut search = self.search.lock();
        if let Some((search, begun)) = search.as_mut()
            && !begun[partition]
        {
            begun[partition] = true;
            return Arc::clone(search);
        }
        let new = Arc::new(Search::new(
            (Arc::clone(&self.asked), &self.files),
            (Arc::clone(&self.reads), Arc::clone(&self.ingest)),
            &self.metrics,
        ));
        let mut begun = vec![false; self.partitions()];
        begun[partition] = true;
        *search = Some((Arc::clone(&new), begun));
        new
    }
}

impl DisplayAs for TopScanExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order { direction, fetch, .. } = self.asked.order;
        let order = match (direction.descending, direction.nulls_first) {
            (true, true) => "DESC",
            (true, false) => "DESC NULLS LAST",
            (false, true) => "ASC",
            (false, false) => "ASC NULLS LAST",
        };
        write!(f, "TopScanExec: fetch={fetch}, order=[{} {order}], over ", self.asked.key)?;
        self.scan.fmt_as(t, f)
    }
}

impl ExecutionPlan for TopScanExec {
    fn name(&self) -> &str {
        "TopScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::execution_plan::apply_expression_roots(
            self.asked.filters.iter().chain(&self.asked.outputs),
            f,
        )
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no inputs") }
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            scan: Arc::clone(&self.scan),
            files: self.files.clone(),
            asked: Arc::clone(&self.asked),
            reads: Arc::clone(&self.reads),
            ingest: Arc::clone(&self.ingest),
            metrics: ExecutionPlanMetricsSet::new(),
            search: Mutex::default(),
        }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let workers = (self.asked.order.threads / self.partitions().max(1)).max(1);
        Ok(workers::run(self.search(partition), (partition, workers), &context, &self.metrics))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
