//! Operators that Postgres has and the engine has not, or has for other types: planned as the function that they are, or refused with what to
//! write instead.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::functions_nested::expr_fn::array_has_any;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::functions::attribute;

/// What to write instead of an operator over JSON.
const READ: &str = "JSON is text here: `attributes['key']` reads one value";

/// Plans what is neither a comparison nor arithmetic.
pub(crate) fn planned(expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let RawBinaryExpr { op, left, right } = expr;
    let type_of = |expr: &Expr| expr.get_type(schema).unwrap_or(DataType::Null);
    let is_list = |expr: &Expr| {
        matches!(
            type_of(expr),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::Null
        )
    };
    let number = |expr: &Expr| match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => value.cast_to(&DataType::Int64).ok(),
        _ => None,
    };
    Ok(match op {
        BinaryOperator::Arrow | BinaryOperator::LongArrow if number(&right).is_some() => {
            return plan_err!(
                "`{op}` takes the key of an object, as in `x{op}'key'`: a list in JSON is text here, of which no item is read by its place"
            );
        }
        BinaryOperator::PGBitwiseShiftLeft | BinaryOperator::PGBitwiseShiftRight if matches!(number(&right), Some(ScalarValue::Int64(Some(bits))) if !(0..64).contains(&bits)) =>
        {
            return plan_err!("`{op}` shifts whole numbers of 64 bits: by 0 to 63 of them");
        }
        BinaryOperator::Arrow | BinaryOperator::LongArrow
            if attribute::holds_attributes(&type_of(&left)) && type_of(&left) != DataType::Null =>
        {
            let call = ScalarFunction::new_udf(attribute::udf(), vec![left, right]);
            PlannerResult::Planned(Expr::ScalarFunction(call))
        }
        BinaryOperator::PGOverlap if is_list(&left) && is_list(&right) => {
            PlannerResult::Planned(array_has_any(left, right))
        }
        BinaryOperator::PGStartsWith => PlannerResult::Planned(starts_with(left, right)),
        BinaryOperator::AtArrow | BinaryOperator::ArrowAt if !(is_list(&left) && is_list(&right)) => {
            return plan_err!("`{op}` compares lists here: of attributes write `attributes['key'] = 'value'`");
        }
        BinaryOperator::PGOverlap => return plan_err!("`{op}` compares lists: write `x = ANY(ARRAY['a', 'b'])`"),
        BinaryOperator::Arrow
        | BinaryOperator::LongArrow
        | BinaryOperator::HashArrow
        | BinaryOperator::HashLongArrow
        | BinaryOperator::HashMinus
        | BinaryOperator::AtQuestion => {
            return plan_err!("`{op}` is an operator of `jsonb` that is not known here: {READ}");
        }
        BinaryOperator::AtAt => {
            return plan_err!(
                "`{op}` searches text in Postgres and is not known here: write `body ILIKE '%word%'` or `body ~ 'word'`"
            );
        }
        _ => PlannerResult::Original(RawBinaryExpr { op, left, right }),
    })
}
