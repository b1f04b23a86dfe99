//! Filters over faces turned into filters over what is stored, so that bloom filters and statistics can prune by them.
//!
//! `hex_id(trace_id) = '4bf9..'` becomes `trace_id = <16 bytes>`; `span_kind(kind) = 'server'` becomes `kind = 2`. What has no
//! stored form stays as it is and is computed.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit};

use crate::functions::{hex, names};

/// Rewrites one filter; columns are those of `stored`.
pub(crate) fn lower(filter: Expr, stored: &Schema) -> Result<Expr> {
    filter.transform_up(|expr| Ok(lower_one(expr, stored))).map(|done| done.data)
}

/// Rewrites one comparison outside of filters, where null is not the same as false; `type_of` gives the types of columns.
pub(crate) fn lower_value(expr: Expr, type_of: &dyn Fn(&Column) -> Option<DataType>) -> Transformed<Expr> {
    let lowered = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right }) => {
            match (text(left), text(right)) {
                (None, Some(value)) => exactly(left, *op, value, type_of),
                (Some(value), None) => exactly(right, *op, value, type_of),
                _ => None,
            }
        }
        _ => None,
    };
    match lowered {
        Some(lowered) => Transformed::yes(lowered),
        None => Transformed::no(expr),
    }
}

fn exactly(tested: &Expr, op: Operator, value: &str, type_of: &dyn Fn(&Column) -> Option<DataType>) -> Option<Expr> {
    let Expr::ScalarFunction(call) = tested else { return None };
    let [Expr::Column(column)] = call.args.as_slice() else { return None };
    let (data_type, tested) = (type_of(column)?, Expr::Column(column.clone()));
    if let (hex::NAME, DataType::FixedSizeBinary(width)) = (call.func.name(), &data_type) {
        return id(value, *width).map(|id| binary(tested, op, id));
    }
    let names = names::ALL.into_iter().find(|names| names.function == call.func.name())?;
    let (number, null_too) = names.number(value)?;
    if data_type != DataType::Int32 {
        return None;
    }
    if !names.null_is_first {
        return Some(binary(tested, op, lit(number)));
    }
    // Of these null is shown as a word, so that comparing gives true or false.
    let same = op == Operator::Eq;
    let distinct = if same { Operator::IsNotDistinctFrom } else { Operator::IsDistinctFrom };
    let compared = binary(tested.clone(), distinct, lit(number));
    Some(match (null_too, same) {
        (false, _) => compared,
        (true, true) => compared.or(tested.is_null()),
        (true, false) => compared.and(tested.is_not_null()),
    })
}

fn lower_one(expr: Expr, stored: &Schema) -> Transformed<Expr> {
    let lowered = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (text(left), text(right)) {
            (None, Some(value)) => compare(left, *op, value, stored),
            (Some(value), None) => op.swap().and_then(|op| compare(right, op, value, stored)),
            _ => None,
        },
        Expr::InList(InList { expr: tested, list, negated }) => {
            let values: Option<Vec<&str>> = list.iter().map(text).collect();
            values.and_then(|values| among(tested, &values, *negated, stored))
        }
        _ => None,
    };
    match lowered {
        Some(lowered) => Transformed::yes(lowered),
        None => Transformed::no(expr),
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}

/// Returns the function and the column of `function(column)`.
fn face<'a>(expr: &'a Expr, stored: &Schema) -> Option<(&'a str, &'a Column, DataType)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let [Expr::Column(column)] = call.args.as_slice() else { return None };
    let field = stored.field_with_name(&column.name).ok()?;
    Some((call.func.name(), column, field.data_type().clone()))
}

fn id(value: &str, width: i32) -> Option<Expr> {
    let bytes = hex::parse(value, usize::try_from(width).ok()?)?;
    Some(Expr::Literal(ScalarValue::FixedSizeBinary(width, Some(bytes)), None))
}

fn compare(tested: &Expr, op: Operator, value: &str, stored: &Schema) -> Option<Expr> {
    let (function, column, data_type) = face(tested, stored)?;
    let column = Expr::Column(column.clone());
    if let (hex::NAME, DataType::FixedSizeBinary(width)) = (function, &data_type) {
        // Digits in lower case sort as the bytes do.
        let ordered = matches!(
            op,
            Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
        );
        return ordered.then(|| id(value, *width)).flatten().map(|id| binary(column, op, id));
    }
    let names = names::ALL.into_iter().find(|names| names.function == function)?;
    let (number, null_too) = names.number(value)?;
    match (op, null_too) {
        (Operator::Eq, false) => Some(column.eq(lit(number))),
        (Operator::Eq, true) => Some(column.clone().eq(lit(number)).or(column.is_null())),
        (Operator::NotEq, false) if function == names::STATUS.function => {
            Some(column.clone().not_eq(lit(number)).or(column.is_null()))
        }
        (Operator::NotEq, false) => Some(column.not_eq(lit(number))),
        (Operator::NotEq, true) => Some(column.clone().not_eq(lit(number)).and(column.is_not_null())),
        _ => None,
    }
}

fn among(tested: &Expr, values: &[&str], negated: bool, stored: &Schema) -> Option<Expr> {
    let (function, column, data_type) = face(tested, stored)?;
    let column = Expr::Column(column.clone());
    if let (hex::NAME, DataType::FixedSizeBinary(width)) = (function, &data_type) {
        // A text that is no id equals nothing; but if it were dropped from a list that became empty, nothing would be left to test.
        let ids: Vec<Expr> = values.iter().filter_map(|value| id(value, *width)).collect();
        return (!ids.is_empty()).then(|| column.in_list(ids, negated));
    }
    let names = names::ALL.into_iter().find(|names| names.function == function)?;
    let numbers: Option<Vec<(i32, bool)>> = values.iter().map(|value| names.number(value)).collect();
    let numbers = numbers?;
    if function == names::STATUS.function {
        let null_in = numbers.iter().any(|(_, null_too)| *null_too);
        let list = numbers.into_iter().map(|(number, _)| lit(number)).collect();
        let within = column.clone().in_list(list, negated);
        return Some(match (null_in, negated) {
            (true, false) | (false, true) => within.or(column.is_null()),
            (true, true) => within.and(column.is_not_null()),
            (false, false) => within,
        });
    }
    Some(column.in_list(numbers.into_iter().map(|(number, _)| lit(number)).collect(), negated))
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::col;
    use plimsoll_otlp::Table;

    fn lowered(filter: Expr) -> String {
        lower(filter, Table::Spans.schema()).expect("filters can be rewritten").to_string()
    }

    #[test]
    fn faces_become_stored_columns_and_what_cannot_stays() {
        let id = hex::udf().call(vec![col("span_id")]);
        assert!(lowered(id.clone().eq(lit("00f067aa0ba902b7"))).starts_with("span_id = FixedSizeBinary"));
        assert_eq!(lowered(id.clone().eq(lit("short"))), "hex_id(span_id) = Utf8(\"short\")");
        let kind = names::KIND.udf().call(vec![col("kind")]);
        assert_eq!(lowered(kind.eq(lit("server"))), "kind = Int32(2)");
        let status = names::STATUS.udf().call(vec![col("status_code")]);
        assert_eq!(lowered(status.clone().eq(lit("unset"))), "status_code = Int32(0) OR status_code IS NULL");
        assert_eq!(lowered(status.not_eq(lit("error"))), "status_code != Int32(2) OR status_code IS NULL");
    }
}
