//! Groups by text that repeats, counted by number: the first half of an aggregation whose keys are dictionaries.
//!
//! The planner's own turns each row's keys into bytes, hashes and compares them. Here a row's group follows from the numbers that
//! its keys have in their dictionaries ([`codes`]); the aggregates are the planner's. It stands in place of a partial aggregation
//! where every key can be numbered and one of them is a dictionary, and gives the same rows.
//!
//! *Invariants.* What it holds is reserved; what does not fit, and more than [`GROUPS_MAX`] groups, goes up as it is, as a partial
//! aggregation may at any time.

mod codes;

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, aggregate_expressions, evaluate_many};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt};

use codes::{Groups, takes};

/// Groups that are held before they go up.
const GROUPS_MAX: usize = 1 << 17;

/// Puts [`CodedAggregateExec`] in place of the aggregations that it can do.
#[derive(Debug)]
pub(crate) struct Coded;

impl PhysicalOptimizerRule for Coded {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            Ok(match plan.downcast_ref::<AggregateExec>() {
                Some(aggregate) if can(aggregate)? => Transformed::yes(Arc::new(CodedAggregateExec::new(
                    Arc::clone(&plan),
                    aggregate,
                )) as Arc<dyn ExecutionPlan>),
                _ => Transformed::no(plan),
            })
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "coded_aggregates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn can(aggregate: &AggregateExec) -> Result<bool> {
    let groups = aggregate.group_expr();
    let plain = aggregate.mode() == &AggregateMode::Partial
        && aggregate.input_order_mode() == &InputOrderMode::Linear
        && aggregate.limit_options().is_none()
        && groups.is_single()
        && !groups.has_grouping_set()
        && !groups.is_empty();
    if !plain {
        return Ok(false);
    }
    let mut gain = false;
    for (key, _) in groups.expr() {
        let (known, shared) = takes(&key.data_type(&aggregate.input_schema())?);
        if !known {
            return Ok(false);
        }
        gain |= shared;
    }
    Ok(gain)
}

/// The aggregation.
#[derive(Debug)]
struct CodedAggregateExec {
    /// The plan that it stands for.
    plan: Arc<dyn ExecutionPlan>,
    keys: Vec<(Arc<dyn PhysicalExpr>, String)>,
    aggregates: Arc<[Arc<AggregateFunctionExpr>]>,
    filters: Arc<[Option<Arc<dyn PhysicalExpr>>]>,
    metrics: ExecutionPlanMetricsSet,
}

impl CodedAggregateExec {
    fn new(plan: Arc<dyn ExecutionPlan>, aggregate: &AggregateExec) -> Self {
        Self {
            keys: aggregate.group_expr().expr().to_vec(),
            aggregates: aggregate.aggr_expr().into(),
            filters: aggregate.filter_expr().into(),
            metrics: ExecutionPlanMetricsSet::new(),
            plan,
        }
    }
}

impl DisplayAs for CodedAggregateExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|(key, name)| format!("{key} as {name}")).collect();
        let aggregates: Vec<&str> = self.aggregates.iter().map(|aggregate| aggregate.name()).collect();
        write!(f, "CodedAggregateExec: gby=[{}], aggr=[{}]", keys.join(", "), aggregates.join(", "))
    }
}

impl ExecutionPlan for CodedAggregateExec {
    fn name(&self) -> &str {
        "CodedAggregateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.plan.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.plan.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = Arc::clone(&self.plan)
            .replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?;
        match plan.downcast_ref::<AggregateExec>() {
            Some(aggregate) if can(aggregate)? => Ok(Arc::new(Self::new(Arc::clone(&plan), aggregate))),
            _ => Ok(plan),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = Arc::clone(self.plan.children()[0]);
        let types = self.keys.iter().map(|(key, _)| key.data_type(&input.schema())).collect::<Result<Vec<_>>>()?;
        let schema = self.plan.schema();
        let work = Work {
            groups: Groups::new(&types),
            types,
            keys: self.keys.iter().map(|(key, _)| Arc::clone(key)).collect(),
            arguments: aggregate_expressions(&self.aggregates, &AggregateMode::Partial, 0)?,
            filters: Arc::clone(&self.filters),
            accumulators: self.aggregates.iter().map(accumulator).collect::<Result<Vec<_>>>()?,
            numbers: Vec::new(),
            reservation: MemoryConsumer::new(format!("CodedAggregate[{partition}]")).register(context.memory_pool()),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            schema: Arc::clone(&schema),
            batch_rows: context.session_config().batch_size(),
        };
        let rows = work.run(input.execute(partition, context)?);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn accumulator(aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if aggregate.groups_accumulator_supported() {
        return aggregate.create_groups_accumulator();
    }
    let aggregate = Arc::clone(aggregate);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
}

/// One partition.
struct Work {
    groups: Groups,
    types: Vec<arrow::datatypes::DataType>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    filters: Arc<[Option<Arc<dyn PhysicalExpr>>]>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The group of each row.
    numbers: Vec<usize>,
    reservation: MemoryReservation,
    metrics: BaselineMetrics,
    schema: SchemaRef,
    batch_rows: usize,
}

impl Work {
    fn run(self, input: SendableRecordBatchStream) -> impl futures::Stream<Item = Result<RecordBatch>> + Send {
        let state = Some((self, input));
        futures::stream::try_unfold(state, |state| async move {
            let Some((mut work, mut input)) = state else { return Ok::<_, DataFusionError>(None) };
            while let Some(batch) = input.next().await {
                if work.add(&batch?)? {
                    let batches = work.give()?;
                    return Ok(Some((batches, Some((work, input)))));
                }
            }
            // What is below can free what it holds.
            drop(input);
            let batches = work.give()?;
            Ok(Some((batches, None)))
        })
        .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)))
        .try_flatten()
    }

    /// Adds the rows of a batch; says whether what is held should go up.
    fn add(&mut self, batch: &RecordBatch) -> Result<bool> {
        let time = self.metrics.elapsed_compute().clone();
        let _timer = time.timer();
        let rows = batch.num_rows();
        let array = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let keys = self.keys.iter().map(array).collect::<Result<Vec<_>>>()?;
        self.groups.number(&keys, &mut self.numbers)?;
        let total = self.groups.len();
        let arguments = evaluate_many(&self.arguments, batch)?;
        for ((accumulator, values), filter) in self.accumulators.iter_mut().zip(&arguments).zip(self.filters.iter()) {
            let filter = filter.as_ref().map(array).transpose()?;
            accumulator.update_batch(
                values,
                &self.numbers,
                filter.as_ref().map(|passes| passes.as_boolean()),
                total,
            )?;
        }
        let held = self.groups.bytes()
            + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>()
            + self.numbers.capacity() * size_of::<usize>();
        Ok(self.reservation.try_resize(held).is_err() || total >= GROUPS_MAX)
    }

    /// Takes out all groups with the state of their aggregates.
    fn give(&mut self) -> Result<Vec<RecordBatch>> {
        let time = self.metrics.elapsed_compute().clone();
        let _timer = time.timer();
        if self.groups.len() == 0 {
            return Ok(Vec::new());
        }
        let mut columns = self.groups.keys()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        self.groups = Groups::new(&self.types);
        self.reservation.free();
        let all = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let size = self.batch_rows.max(1);
        let parts = (0..all.num_rows()).step_by(size).map(|from| all.slice(from, size.min(all.num_rows() - from)));
        Ok(parts.map(|part| part.record_output(&self.metrics)).collect())
    }
}
