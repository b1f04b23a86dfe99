//! Which expressions may fail for a row: a division, a text that is no number, a function that refuses a value.
//!
//! `x <> 0 AND 1 / x > 2` asks for the second only where the first holds. So filters of which one may fail are tested in the order in which they
//! are written, each on the rows that pass those before.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr};
use datafusion::physical_plan::PhysicalExpr;

/// Functions that take every value.
const TOTAL: [&str; 17] = [
    "attribute",
    "btrim",
    "character_length",
    "coalesce",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "ends_with",
    "get_field",
    "length",
    "lower",
    "ltrim",
    "rtrim",
    "starts_with",
    "strpos",
    "upper",
];

/// Says whether a filter of a statement may fail.
pub(crate) fn may_fail(expr: &Expr) -> bool {
    expr.exists(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(binary) => divides(binary.op),
            Expr::Cast(cast) => reads_text(cast.field.data_type()),
            Expr::ScalarFunction(call) => !TOTAL.contains(&call.name()),
            _ => false,
        })
    })
    .unwrap_or(true)
}

/// Says whether a filter of a plan over `schema` may fail.
pub(crate) fn plan_may_fail(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let mut fails = false;
    let walked = expr.apply(|expr| {
        fails |= if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            divides(*binary.op())
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            let from_text = !cast.expr().data_type(schema).is_ok_and(|from| from.is_primitive());
            reads_text(cast.cast_type()) && from_text
        } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            !TOTAL.contains(&call.name())
        } else {
            false
        };
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    fails || walked.is_err()
}

fn divides(op: Operator) -> bool {
    matches!(op, Operator::Divide | Operator::Modulo | Operator::IntegerDivide)
}

/// Says whether a text may be none of a type.
fn reads_text(data_type: &DataType) -> bool {
    data_type.is_primitive() || matches!(data_type, DataType::Boolean)
}
