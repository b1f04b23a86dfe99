//! What a value is shown as, and how what meets it is written to be compared with it: ids as hex digits, enumerations as words,
//! attributes as text that may be a number, a time or a condition.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, TryCast, lit};

use crate::functions::{FACE, FACE_ATTRIBUTE, FACE_HEX, hex, meant, names};

/// Says whether it is that of an attribute.
pub(crate) fn is_attribute(face: Option<&str>) -> bool {
    face == Some(FACE_ATTRIBUTE)
}

/// Returns the face of an expression; a literal has none.
pub(crate) fn face(expr: &Expr, schema: &DFSchema) -> Option<String> {
    if matches!(expr, Expr::Literal(..)) {
        return None;
    }
    let (_, field) = expr.to_field(schema).ok()?;
    face_of(&field)
}

fn face_of(field: &Field) -> Option<String> {
    field.metadata().get(FACE).cloned()
}

/// Says whether it is a number by its type.
pub(crate) fn is_number(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type.is_numeric())
}

/// Reads it as a number, null where it is none.
pub(crate) fn as_number(expr: Expr) -> Expr {
    as_type(expr, DataType::Float64)
}

/// Reads it as another type, null where it is none.
pub(crate) fn as_type(expr: Expr, data_type: DataType) -> Expr {
    Expr::TryCast(TryCast::new(Box::new(expr), data_type))
}

/// Takes a parameter that nobody gave a type for a length of time where it is added to a time or taken from it.
pub(crate) fn length_of_time(expr: Expr, time: &Expr, schema: &DFSchema) -> Expr {
    let open = matches!(&expr, Expr::Placeholder(placeholder) if placeholder.field.is_none());
    let is_time = |of: DataType| matches!(of, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    match expr {
        Expr::Placeholder(mut placeholder) if open && time.get_type(schema).is_ok_and(is_time) => {
            let interval = Field::new("", DataType::Interval(IntervalUnit::MonthDayNano), true);
            placeholder.field = Some(Arc::new(interval));
            Expr::Placeholder(placeholder)
        }
        other => other,
    }
}

/// Says which numbers an attribute is read as beside `others`: beyond 2^53 a float does not tell whole numbers apart.
pub(crate) fn beside<'a>(others: impl IntoIterator<Item = &'a Expr>) -> DataType {
    const EXACT: i64 = 1 << 53;
    let large = others.into_iter().any(|other| match other {
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => !(-EXACT..EXACT).contains(value),
        Expr::Literal(ScalarValue::UInt64(Some(_)), _) => true,
        _ => false,
    });
    if large { DataType::Int64 } else { DataType::Float64 }
}

/// Casts attributes to numbers where the other side is one, or always where both are attributes and `arithmetic`; to times and conditions
/// where they are compared with such. What a parameter is that nobody gave a type follows from what is done with it: `ordered` are
/// numbers, compared for equality is text.
pub(crate) fn numbers(
    left: Expr,
    left_face: Option<String>,
    right: Expr,
    right_face: Option<String>,
    schema: &DFSchema,
    (arithmetic, ordered): (bool, bool),
) -> (Expr, Expr) {
    let (left_is, right_is) =
        (left_face.as_deref() == Some(FACE_ATTRIBUTE), right_face.as_deref() == Some(FACE_ATTRIBUTE));
    let open = |expr: &Expr| ordered && matches!(expr, Expr::Placeholder(placeholder) if placeholder.field.is_none());
    let cast_left = left_is && (is_number(&right, schema) || open(&right) || (arithmetic && right_is));
    let cast_right = right_is && (is_number(&left, schema) || open(&left) || (arithmetic && left_is));
    let (left_type, right_type) = (beside([&right]), beside([&left]));
    let meets = |attribute: bool, other: &Expr| match other.get_type(schema) {
        Ok(other) if attribute && !arithmetic && (other.is_temporal() || other == DataType::Boolean) => Some(other),
        _ => None,
    };
    let (left_meets, right_meets) = (meets(left_is, &right), meets(right_is, &left));
    let side = |expr: Expr, number: Option<DataType>, other: Option<DataType>| match (number, other) {
        (Some(number), _) => as_type(expr, number),
        (None, Some(DataType::Boolean)) => meant::truth(expr),
        (None, Some(time)) => as_type(expr, time),
        (None, None) => expr,
    };
    (side(left, cast_left.then_some(left_type), left_meets), side(right, cast_right.then_some(right_type), right_meets))
}

/// Writes what is compared with values that have `face` the way those are shown: a literal, or what has another type.
pub(crate) fn befriend(expr: Expr, face: Option<&str>, schema: &DFSchema) -> Expr {
    let Some(face) = face else { return expr };
    let expr = folded(expr);
    let Expr::Literal(value, _) = &expr else { return shown(expr, face, schema) };
    let text = match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
            Some(text.as_str())
        }
        _ => None,
    };
    if face == FACE_HEX {
        return match (text, value) {
            (Some(text), _) => lit(hex::spelled(text)),
            (None, ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes))) => {
                let mut digits = String::with_capacity(bytes.len() * 2);
                hex::push_hex(&mut digits, bytes);
                lit(digits)
            }
            _ => expr,
        };
    }
    let Some(names) = names::ALL.into_iter().find(|names| names.function == face) else {
        return match value {
            ScalarValue::Boolean(Some(value)) if face == FACE_ATTRIBUTE => lit(value.to_string()),
            ScalarValue::Decimal128(Some(digits), _, scale) if face == FACE_ATTRIBUTE => {
                decimal(*digits, *scale).unwrap_or(expr)
            }
            _ => expr,
        };
    };
    match (text, value.cast_to(&DataType::Int64)) {
        (Some(text), _) => lit(names.canonical(text)),
        (None, Ok(ScalarValue::Int64(Some(number)))) if value.data_type().is_integer() => lit(names.word(number)),
        (None, _) if value.data_type().is_integer() => lit(value.to_string()),
        _ => expr,
    }
}

/// Writes a decimal as a number that an attribute is read as: one of each would be compared as decimals, which hold no large floats.
fn decimal(digits: i128, scale: i8) -> Option<Expr> {
    let unit = 10_i128.checked_pow(u32::try_from(scale).ok()?)?;
    if digits % unit == 0
        && let Ok(whole) = i64::try_from(digits / unit)
    {
        return Some(lit(whole));
    }
    Some(lit(digits as f64 / unit as f64))
}

/// Works out a cast of a literal, as typed parameters are written.
fn folded(expr: Expr) -> Expr {
    match &expr {
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) if !value.is_null() => {
                value.cast_to(cast.field.data_type()).map_or(expr, |value| Expr::Literal(value, None))
            }
            _ => expr,
        },
        _ => expr,
    }
}

/// Gives something that is no literal the form of what it is compared with.
pub(crate) fn shown(expr: Expr, face: &str, schema: &DFSchema) -> Expr {
    let Ok(data_type) = expr.get_type(schema) else { return expr };
    if matches!(&expr, Expr::Placeholder(placeholder) if placeholder.field.is_none()) {
        return expr;
    }
    if face == FACE_HEX && matches!(data_type, DataType::Binary | DataType::FixedSizeBinary(_)) {
        return Expr::ScalarFunction(ScalarFunction::new_udf(hex::udf(), vec![expr]));
    }
    match names::ALL.into_iter().find(|names| names.function == face) {
        Some(names) if data_type.is_integer() => Expr::ScalarFunction(ScalarFunction::new_udf(names.udf(), vec![expr])),
        _ => expr,
    }
}
