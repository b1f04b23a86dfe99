//! Which expressions may fail for a row: a division, a text that is no number, a function that refuses a value.
//!
//! `x <> 0 AND 1 / x > 2` asks for the second only where the first holds ([`crate::guarded`]).

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ExprSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Literal};
use datafusion::physical_plan::PhysicalExpr;

/// Functions that take every value.
const TOTAL: [&str; 50] = [
    "abs",
    "array_element",
    "array_has",
    "array_length",
    "at_time_zone",
    "attribute",
    "attribute_truth",
    "bit_length",
    "btrim",
    "bucket_index",
    "cardinality",
    "ceil",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "count_above",
    "date_bin",
    "date_part",
    "date_trunc",
    "ends_with",
    "floor",
    "get_field",
    "greatest",
    "hex_id",
    "initcap",
    "isnan",
    "iszero",
    "latest_deploy",
    "least",
    "length",
    "log_template",
    "lower",
    "ltrim",
    "metric_temporality",
    "nullif",
    "nvl",
    "octet_length",
    "replace",
    "round",
    "rtrim",
    "shown_in_zone",
    "signum",
    "span_kind",
    "span_status",
    "starts_with",
    "strpos",
    "upper",
    "wall_clock",
];

/// Says whether an expression over `schema` may fail.
pub(crate) fn may_fail(expr: &Expr, schema: &dyn ExprSchema) -> bool {
    expr.exists(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(binary) => {
                divides(binary.op)
                    || (compiles(binary.op) && !matches!(binary.right.as_ref(), Expr::Literal(..)))
                    || (binary.op.is_numerical_operators() && !expr.get_type(schema).is_ok_and(|kind| wraps(&kind)))
            }
            Expr::Cast(cast) => match cast.expr.get_type(schema) {
                Ok(from) => refuses(&from, cast.field.data_type()),
                Err(_) => true,
            },
            Expr::ScalarFunction(call) => !is_total(call.name()),
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
                || (compiles(*binary.op()) && binary.right().downcast_ref::<Literal>().is_none())
                || (binary.op().is_numerical_operators() && !expr.data_type(schema).is_ok_and(|kind| wraps(&kind)))
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            !cast.expr().data_type(schema).is_ok_and(|from| !refuses(&from, cast.cast_type()))
        } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            !is_total(call.name())
        } else {
            false
        };
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    fails || walked.is_err()
}

fn is_total(function: &str) -> bool {
    TOTAL.binary_search(&function).is_ok()
}

fn divides(op: Operator) -> bool {
    matches!(op, Operator::Divide | Operator::Modulo | Operator::IntegerDivide)
}

/// Says whether the right side is read as a regular expression, which may be none.
fn compiles(op: Operator) -> bool {
    matches!(op, Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch)
}

/// Says whether arithmetic that gives this type has a result for all numbers.
fn wraps(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

/// Says whether a value of `from` may be none of `to`.
fn refuses(from: &DataType, to: &DataType) -> bool {
    let whole = |data_type: &DataType| data_type.primitive_width().map(|bytes| (bytes, data_type.is_signed_integer()));
    match (from, to) {
        (DataType::Dictionary(_, from), to) => refuses(from, to),
        (from, DataType::Dictionary(_, to)) => refuses(from, to),
        (from, to) if from == to => false,
        (DataType::Null, _) | (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => false,
        (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) => from != to,
        (DataType::Timestamp(..), DataType::Date32) => false,
        (from, DataType::Boolean) | (DataType::Boolean, from) if from.is_numeric() => false,
        (from, to) if to.is_floating() => !from.is_numeric(),
        (from, to) if from.is_integer() && to.is_integer() => match (whole(from), whole(to)) {
            (Some((from, true)), Some((to, true))) | (Some((from, false)), Some((to, false))) => from > to,
            (Some((from, false)), Some((to, true))) => from >= to,
            _ => true,
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn the_names_can_be_searched() {
        assert!(TOTAL.is_sorted());
    }

    #[test]
    fn casts_that_lose_nothing_do_not_fail() {
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let shared = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for (from, to) in [
            (DataType::Int32, DataType::Int64),
            (DataType::UInt32, DataType::Int64),
            (DataType::Int64, DataType::Float64),
            (DataType::Int64, DataType::Utf8),
            (DataType::Utf8, shared.clone()),
            (shared.clone(), DataType::Utf8),
        ] {
            assert!(!refuses(&from, &to), "{from} as {to}");
        }
        for (from, to) in [
            (DataType::Int64, DataType::Int32),
            (DataType::UInt64, DataType::Int64),
            (DataType::Int64, DataType::UInt64),
            (DataType::Float64, DataType::Int64),
            (DataType::Utf8, DataType::Float64),
            (shared, DataType::Int64),
            (DataType::Utf8, DataType::Boolean),
            (seconds, nanos),
        ] {
            assert!(refuses(&from, &to), "{from} as {to}");
        }
    }
}
