//! A rule of the planner held to what it does rightly.
//!
//! `eliminate_duplicated_expr` takes repeated keys out of `GROUP BY`, which the planner needs, and keys out of `ORDER BY` that those before
//! them decide. It tells keys apart by names that leave casts out: of `ORDER BY TRY_CAST(key AS DOUBLE), key` it keeps the first, and
//! rows that are no numbers come in any order.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

const NAME: &str = "eliminate_duplicated_expr";

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// Returns a rule, or what stands for it.
pub(crate) fn sound(rule: &Rule) -> Rule {
    if rule.name() == NAME { Arc::new(GroupsOnce(Arc::clone(rule))) } else { Arc::clone(rule) }
}

/// The rule, but for orders.
#[derive(Debug)]
struct GroupsOnce(Rule);

impl OptimizerRule for GroupsOnce {
    fn name(&self) -> &str {
        NAME
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(_) => Ok(Transformed::no(plan)),
            other => self.0.rewrite(other, config),
        }
    }
}
