//! Functions of Postgres that the engine does not have.
//!
//! - `width_bucket(value, low, high, count)`: which of `count` buckets of one width a value is in; 0 below, `count + 1` above.
//! - `like_escape(pattern, escape)`: a pattern of `LIKE` with another escape character, written with backslashes.
//! - `uuid_text(text)`: a UUID in its usual form: what `::uuid` gives.
//! - `nearest_whole(number)`: the nearest whole number, of two the even one, as casts to integers round in Postgres.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::lengths;
use crate::escape::escaped;

/// Which bucket.
const BUCKET: &str = "width_bucket";
/// A pattern with backslashes.
pub(crate) const ESCAPE: &str = "like_escape";
/// A UUID.
pub(crate) const UUID: &str = "uuid_text";
const NEAREST: &str = "nearest_whole";

/// Returns every function of this module.
pub(crate) fn udfs() -> [Arc<ScalarUDF>; 4] {
    static ALL: LazyLock<[Arc<ScalarUDF>; 4]> = LazyLock::new(|| {
        [BUCKET, ESCAPE, UUID, NEAREST].map(|name| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(ScalarUDF::from(Lacking { name, signature }))
        })
    });
    ALL.clone()
}

/// Rounds what is cast to a whole number.
pub(crate) fn nearest_whole(number: Expr) -> Expr {
    let [.., nearest] = udfs();
    nearest.call(vec![number])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lacking {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Lacking {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match (self.name, args.len()) {
            (BUCKET, 4) => Ok(DataType::Int64),
            (NEAREST, 1) => Ok(DataType::Float64),
            (ESCAPE, 2) | (UUID, 1) => Ok(DataType::Utf8),
            (BUCKET, _) => plan_err!("`width_bucket` takes four values: `width_bucket(value, low, high, buckets)`"),
            _ => plan_err!("`{}` was given too few or too many values", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        if self.name == BUCKET {
            numbers(BUCKET, &args)?;
        }
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.into_iter().map(|arg| arg.into_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(match (self.name, given.as_slice()) {
            (BUCKET, [value, low, high, count]) => {
                let [value, low, high] = [value, low, high].map(doubles);
                buckets(&value?, &low?, &high?, &strictly(count, &DataType::Int64)?)?
            }
            (NEAREST, [numbers]) => {
                let numbers = cast(numbers, &DataType::Float64)?;
                let nearest: Float64Array = numbers.as_primitive::<Float64Type>().unary(f64::round_ties_even);
                Arc::new(nearest)
            }
            (ESCAPE, [patterns, escapes]) => {
                let (patterns, escapes) = (cast(patterns, &DataType::Utf8)?, cast(escapes, &DataType::Utf8)?);
                let written = patterns.as_string::<i32>().iter().zip(escapes.as_string::<i32>()).map(|both| {
                    let (Some(pattern), Some(escape)) = both else { return Ok(None) };
                    let mut chars = escape.chars();
                    match (chars.next(), chars.next()) {
                        (escape, None) => Ok(Some(escaped(pattern, escape))),
                        _ => exec_err!("`ESCAPE` takes one character: write `LIKE '50!%' ESCAPE '!'`"),
                    }
                });
                Arc::new(written.collect::<Result<StringArray>>()?)
            }
            (UUID, [texts]) => {
                let texts = cast(texts, &DataType::Utf8)?;
                let uuids = texts.as_string::<i32>().iter().map(|text| match text.map(uuid) {
                    Some(None) => exec_err!(
                        "`{}` is no UUID: it has 32 hexadecimal digits, for instance `4bf92f35-77b3-4da6-a3ce-929d0e0e4736`",
                        text.unwrap_or_default()
                    ),
                    uuid => Ok(uuid.flatten()),
                });
                Arc::new(uuids.collect::<Result<StringArray>>()?)
            }
            _ => return exec_err!("`{}` was given too few values", self.name),
        }))
    }
}

/// Refuses text where `function` takes numbers, unless it is written as a literal, which may be one.
pub(crate) fn numbers(function: &str, args: &ReturnFieldArgs) -> Result<()> {
    for (field, literal) in args.arg_fields.iter().zip(args.scalar_arguments) {
        let of = field.data_type();
        let taken = of.is_numeric() || *of == DataType::Null || (lengths::is_text(of) && literal.is_some());
        if !taken {
            return plan_err!(
                "`{function}` takes numbers and not {}: cast it, for instance `x::double`",
                crate::spelling::in_sql(&of.to_string())
            );
        }
    }
    Ok(())
}

/// Reads numbers, and says which text is none.
pub(crate) fn doubles(numbers: &ArrayRef) -> Result<ArrayRef> {
    strictly(numbers, &DataType::Float64)
}

fn strictly(numbers: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(numbers, wanted, &CastOptions { safe: false, ..CastOptions::default() })?)
}

fn buckets(value: &ArrayRef, low: &ArrayRef, high: &ArrayRef, count: &ArrayRef) -> Result<ArrayRef> {
    let [value, low, high] = [value, low, high].map(|array| array.as_primitive::<Float64Type>());
    let count = count.as_primitive::<Int64Type>();
    let rows = value.iter().zip(low).zip(high).zip(count);
    let found = rows.map(|(((value, low), high), count)| match (value, low, high, count) {
        (Some(value), Some(low), Some(high), Some(count)) => bucket(value, low, high, count).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(found.collect::<Result<Int64Array>>()?))
}

fn bucket(value: f64, low: f64, high: f64, count: i64) -> Result<i64> {
    if count <= 0 || count == i64::MAX {
        return exec_err!("`width_bucket` takes a number of buckets greater than zero");
    }
    if value.is_nan() || !low.is_finite() || !high.is_finite() || low == high {
        return exec_err!("`width_bucket` takes two different bounds, and no value that is not a number");
    }
    let (from, to, at) = if low < high { (low, high, value) } else { (-low, -high, -value) };
    if at < from {
        return Ok(0);
    }
    if at >= to {
        return Ok(count + 1);
    }
    // Halved, so that no difference is beyond what a number can be.
    let share = (at / 2.0 - from / 2.0) / (to / 2.0 - from / 2.0);
    Ok(((share * count as f64).floor() as i64).min(count - 1) + 1)
}

/// Reads a UUID as Postgres does: digits in any case, in braces or not, with a hyphen after any four of them.
pub(crate) fn uuid(text: &str) -> Option<String> {
    let text = text.trim();
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut written = String::with_capacity(36);
    let (mut digits, mut hyphen) = (0, false);
    for char in inner.chars() {
        match char {
            '-' if digits > 0 && digits < 32 && digits % 4 == 0 && !hyphen => hyphen = true,
            digit if digit.is_ascii_hexdigit() && digits < 32 => {
                if [8, 12, 16, 20].contains(&digits) {
                    written.push('-');
                }
                written.push(digit.to_ascii_lowercase());
                (digits, hyphen) = (digits + 1, false);
            }
            _ => return None,
        }
    }
    (digits == 32).then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_postgres() {
        let of = |value, low, high, count| bucket(value, low, high, count).ok();
        assert_eq!(of(5.35, 0.024, 10.06, 5), Some(3));
        assert_eq!(of(-1.0, 0.0, 10.0, 5), Some(0));
        assert_eq!(of(10.0, 0.0, 10.0, 5), Some(6));
        assert_eq!(of(9.99, 10.0, 0.0, 5), Some(1));
        assert_eq!(of(10.0, 10.0, 0.0, 5), Some(1));
        assert_eq!(of(0.0, 10.0, 0.0, 5), Some(6));
        assert_eq!(of(1.0, 0.0, 0.0, 5), None);
        assert_eq!(of(1.0, 0.0, 1.0, 0), None);
        assert_eq!(of(f64::NAN, 0.0, 1.0, 1), None);
        assert_eq!(of(1e308, -1.7e308, 1.7e308, 4), Some(4));
    }

    #[test]
    fn uuids_are_read_in_every_form() {
        let usual = Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_owned());
        for text in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(uuid(text), usual, "{text}");
        }
        for text in [
            "",
            "{}",
            "a0eebc99",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
            "a0eebc99--9c0b4ef8bb6d6bb9bd380a11",
            "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "g0eebc999c0b4ef8bb6d6bb9bd380a11",
            "é0eebc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            assert_eq!(uuid(text), None, "{text}");
        }
    }
}
