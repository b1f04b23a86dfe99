//! Text that is held by number, given as text to the aggregates that take no other.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, WindowFunctionDefinition, cast};
use datafusion::optimizer::AnalyzerRule;

/// Aggregates that refuse it, or that lose sight of its being both what is put together and what is sorted by.
const PLAIN: &[&str] = &["approx_distinct", "string_agg"];

/// Puts a cast around what they are given.
#[derive(Debug)]
pub(crate) struct PlainText;

impl AnalyzerRule for PlainText {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            if !matches!(plan, LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)) {
                return Ok(Transformed::no(plan));
            }
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(|expr| Ok(plain(expr, &schema)))?.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "plain_text"
    }
}

fn plain(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (args, order_by) = match &mut expr {
        Expr::AggregateFunction(call) if PLAIN.contains(&call.func.name()) => {
            (&mut call.params.args, &mut call.params.order_by)
        }
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(func) if PLAIN.contains(&func.name()) => {
                (&mut call.params.args, &mut call.params.order_by)
            }
            _ => return Transformed::no(expr),
        },
        _ => return Transformed::no(expr),
    };
    let by_number = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Dictionary(..)));
    let mut changed = false;
    for expr in args.iter_mut().chain(order_by.iter_mut().map(|sort| &mut sort.expr)) {
        if by_number(expr) {
            *expr = cast(std::mem::take(expr), DataType::Utf8);
            changed = true;
        }
    }
    Transformed::new_transformed(expr, changed)
}
