//! Queries that can be interrupted wherever they are.
//!
//! The planner makes only sources give way: a join that finds much in memory and passes little on never waits, and so never
//! lets its task be cancelled. Two things help. Joins and unnesting give way between batches; and filters of joins, which
//! are evaluated for every row of one side against a batch of the other, look at whether anyone still wants the answer. So does the
//! optimizer between its rules, which never waits either.
//!
//! *Cost.* A load and a look at the clock for each evaluation of a filter of a join, over up to a batch of rows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{ColumnarValue, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use tokio::time::Instant;

use crate::error::QueryError;

/// Plans that make many batches of few.
const MULTIPLY: &[&str] = &[
    "CrossJoinExec",
    "NestedLoopJoinExec",
    "HashJoinExec",
    "SortMergeJoinExec",
    "PiecewiseMergeJoinExec",
    "UnnestExec",
];

/// Tells one query to end: its time is up, or nobody wants its answer.
#[derive(Debug)]
pub(crate) struct Interrupt {
    unwanted: AtomicBool,
    at: Instant,
    limit: Duration,
}

impl Interrupt {
    /// Makes the interrupt of a query that may run until `at`, for `limit`.
    pub(crate) fn new(at: Instant, limit: Duration) -> Arc<Self> {
        Arc::new(Self { unwanted: AtomicBool::new(false), at, limit })
    }

    /// Says that nobody wants the answer any more.
    pub(crate) fn drop_answer(&self) {
        // Nothing is published through it: relaxed is enough.
        self.unwanted.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.unwanted.load(Ordering::Relaxed) || Instant::now() >= self.at {
            // Where nobody wants the answer, nobody reads the error.
            return Err(QueryError::timed_out(self.limit).into());
        }
        Ok(())
    }
}

/// Puts a point to give way above every plan that multiplies rows, and into every filter of a join.
#[derive(Debug)]
pub(crate) struct Interruptible(pub(crate) Arc<Interrupt>);

impl Interruptible {
    fn filter(&self, filter: &JoinFilter) -> Option<JoinFilter> {
        let expression = Arc::new(Watched { inner: Arc::clone(filter.expression()), interrupt: Arc::clone(&self.0) });
        Some(JoinFilter::new(expression, filter.column_indices().to_vec(), Arc::clone(filter.schema())))
    }

    fn watched(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            return Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(self.filter(filter)).build()?));
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            return HashJoinExecBuilder::from(join).with_filter(self.filter(filter)).build_exec();
        }
        Ok(plan)
    }
}

/// A rule of the optimizer that changes nothing, and fails once the query is to end.
#[derive(Debug)]
pub(crate) struct Unhurried(pub(crate) Arc<Interrupt>);

impl OptimizerRule for Unhurried {
    fn name(&self) -> &'static str {
        "unhurried"
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        self.0.check()?;
        Ok(Transformed::no(plan))
    }
}

impl PhysicalOptimizerRule for Interruptible {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            Ok(if MULTIPLY.contains(&plan.name()) {
                Transformed::yes(Arc::new(CooperativeExec::new(self.watched(plan)?)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(plan)
            })
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "interruptible"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A filter that fails once the query is to end, and is otherwise its inner one.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    interrupt: Arc<Interrupt>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.as_ref() == other.inner.as_ref() && Arc::ptr_eq(&self.interrupt, &other.interrupt)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Watched {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.interrupt.check()?;
        self.inner.evaluate(batch)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, interrupt: Arc::clone(&self.interrupt) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
