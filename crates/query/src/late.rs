//! Two rules over plans with faces: work that only the rows that are left need is done last, and comparisons of faces become
//! comparisons of what is stored wherever they stand.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort, SortExpr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::lower::lower_value;

/// Sorts for the first few rows before it computes their columns: ids are written out for the twenty that are shown, and not for
/// the million that were looked at.
#[derive(Debug)]
pub(crate) struct LateColumns;

impl OptimizerRule for LateColumns {
    fn name(&self) -> &str {
        "late_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        Ok(match late(&plan)? {
            Some(plan) => Transformed::yes(plan),
            None => Transformed::no(plan),
        })
    }
}

fn late(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Sort(Sort { expr, input, fetch: Some(fetch) }) = plan else { return Ok(None) };
    let LogicalPlan::Projection(projection) = input.as_ref() else { return Ok(None) };
    let plain = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(..));
    if projection.expr.iter().all(|expr| plain(&expr.clone().unalias())) {
        return Ok(None);
    }
    // What is sorted by has to be there below, as it is.
    let below = |column: &Column| -> Option<Column> {
        let at = projection.schema.maybe_index_of_column(column)?;
        match projection.expr.get(at)?.clone().unalias() {
            Expr::Column(column) => Some(column),
            _ => None,
        }
    };
    let mut sorted = Vec::with_capacity(expr.len());
    for by in expr {
        let mut known = !by.expr.is_volatile();
        let lowered = by.expr.clone().transform_up(|expr| {
            Ok(match &expr {
                Expr::Column(column) => match below(column) {
                    Some(column) => Transformed::yes(Expr::Column(column)),
                    None => {
                        known = false;
                        Transformed::no(expr)
                    }
                },
                _ => Transformed::no(expr),
            })
        })?;
        if !known {
            return Ok(None);
        }
        sorted.push(SortExpr::new(lowered.data, by.asc, by.nulls_first));
    }
    if projection.expr.iter().any(Expr::is_volatile) {
        return Ok(None);
    }
    let sort = LogicalPlan::Sort(Sort { expr: sorted, input: Arc::clone(&projection.input), fetch: Some(*fetch) });
    let columns =
        Projection::try_new_with_schema(projection.expr.clone(), Arc::new(sort), Arc::clone(&projection.schema))?;
    Ok(Some(LogicalPlan::Projection(columns)))
}

/// Compares numbers where words of an enumeration are compared, and bytes where ids are, in whatever is computed.
#[derive(Debug)]
pub(crate) struct PlainComparisons;

impl OptimizerRule for PlainComparisons {
    fn name(&self) -> &str {
        "plain_comparisons"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(plan));
        }
        let inputs = plan.inputs();
        let [input] = inputs.as_slice() else { return Ok(Transformed::no(plan)) };
        let schema = Arc::clone(input.schema());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let done = expr.transform_up(|expr| {
                Ok(lower_value(expr, &|column| {
                    let at = schema.maybe_index_of_column(column)?;
                    Some(schema.field(at).data_type().clone())
                }))
            })?;
            Ok(done.update_data(|expr| name.restore(expr)))
        })
    }
}
