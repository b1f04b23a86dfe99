//! Lengths of time: compared by what they come to, multiplied, and taken apart without losing what is below a second.
//!
//! As in Postgres a month comes to 30 days and a day to 24 hours where an interval is compared or counted in seconds.
//!
//! - `interval_nanos(length)`: nanoseconds, for comparisons: as a decimal, as intervals are longer than 64 bits of them.
//! - `interval_times(length, number)`: as many times as long.
//! - `interval_text(length)`: as it is written in answers.
//! - `text_interval(text)` and `text_interval_or_null(text)`: the length that a text is, as Postgres reads it; an error, or null, where it is
//!   none. Of what lies between two times the first gives the interval, with days of 24 hours.
//! - `exact_part('epoch' | 'second', time or length)`: seconds with what is below them.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, IntervalMonthDayNanoArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, DurationNanosecondType, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampNanosecondType,
};
use datafusion::common::{ExprSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use plimsoll_otlp::schema::UTC;

use super::{FACE, FACE_ATTRIBUTE, zones};
use crate::format::interval;
use crate::postgres::interval::{read as read_interval, unreadable};

/// Lengths for comparing.
const NANOS: &str = "interval_nanos";
const TIMES: &str = "interval_times";
/// As Postgres writes them.
const TEXT: &str = "interval_text";
/// Read from text.
const READ: &str = "text_interval";
/// Read from text that may be none.
const READ_OR_NULL: &str = "text_interval_or_null";
/// Seconds with what is below them.
pub(crate) const PART: &str = "exact_part";

/// Every name.
const NAMES: [&str; 6] = [NANOS, TIMES, PART, TEXT, READ, READ_OR_NULL];

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;
const DAYS_PER_MONTH: i128 = 30;
/// What intervals are here.
pub(crate) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
/// What they are compared as.
const COMPARABLE: DataType = DataType::Decimal128(38, 0);

/// Returns every function of this module.
pub(crate) fn udfs() -> [Arc<ScalarUDF>; 6] {
    static ALL: LazyLock<[Arc<ScalarUDF>; 6]> = LazyLock::new(|| {
        NAMES.map(|name| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(ScalarUDF::from(Length { name, signature }))
        })
    });
    ALL.clone()
}

/// Says whether values are lengths of time.
pub(crate) fn is_length(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// Returns a length as a number that compares.
pub(crate) fn comparable(length: Expr) -> Expr {
    let [nanos, ..] = udfs();
    nanos.call(vec![length])
}

/// Returns a length as many times.
pub(crate) fn times(length: Expr, number: Expr) -> Expr {
    let [_, times, ..] = udfs();
    times.call(vec![length, number])
}

/// Returns a length as text.
pub(crate) fn text(length: Expr) -> Expr {
    let [_, _, _, text, ..] = udfs();
    text.call(vec![length])
}

/// Returns the length that a text is; null, or an error, where it is none.
pub(crate) fn read(text: Expr, or_null: bool) -> Expr {
    let [.., read, read_or_null] = udfs();
    if or_null { read_or_null.call(vec![text]) } else { read.call(vec![text]) }
}

/// Returns the length that a text is as a literal.
pub(crate) fn literal(text: &str) -> Result<Expr> {
    match read_interval(text) {
        Some(interval) => Ok(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), None)),
        None => plan_err!("{}", unreadable(text)),
    }
}

/// Says whether values are text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, of) => is_text(of),
        _ => false,
    }
}

/// Reads what stands beside lengths of time as one, where it is text: a literal, or an attribute, which need be none.
pub(crate) fn beside(expr: Expr, schema: &dyn ExprSchema) -> Result<Expr> {
    let Ok((_, field)) = expr.to_field(schema) else { return Ok(expr) };
    if !is_text(field.data_type()) {
        return Ok(expr);
    }
    match &expr {
        Expr::Literal(value, _) => match value.try_as_str().flatten() {
            Some(text) => literal(text),
            None => Ok(Expr::Literal(ScalarValue::IntervalMonthDayNano(None), None)),
        },
        _ if field.metadata().get(FACE).is_some_and(|face| face == FACE_ATTRIBUTE) => Ok(read(expr, true)),
        _ => plan_err!("text is no length of time: cast it, for instance `x::interval`"),
    }
}

/// Reads text beside lengths as what it is, where a `CASE` comes to one of them: says whether there is any.
pub(crate) fn all_read<'a>(values: impl IntoIterator<Item = &'a mut Expr>, schema: &dyn ExprSchema) -> Result<bool> {
    let mut values: Vec<&mut Expr> = values.into_iter().collect();
    let type_of = |value: &Expr| value.get_type(schema).unwrap_or(DataType::Null);
    let lengths = values.iter().any(|value| is_length(&type_of(value)));
    let texts = values.iter().any(|value| is_text(&type_of(value)));
    if !(lengths && texts) {
        return Ok(false);
    }
    for value in &mut values {
        let read = beside(std::mem::take(*value), schema)?;
        **value = match type_of(&read) {
            DataType::Duration(_) => self::read(read, false),
            _ => read,
        };
    }
    Ok(true)
}

/// Reads texts as lengths.
fn read_all(texts: &ArrayRef, or_null: bool) -> Result<IntervalMonthDayNanoArray> {
    let texts = cast(texts, &DataType::Utf8)?;
    let read = texts.as_string::<i32>().iter().map(|text| match text.map(|text| (text, read_interval(text))) {
        None => Ok(None),
        Some((text, None)) if !or_null => exec_err!("{}", unreadable(text)),
        Some((_, read)) => Ok(read),
    });
    read.collect()
}

/// Returns the length of an interval in nanoseconds.
pub(crate) fn total(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * DAYS_PER_MONTH + i128::from(interval.days);
    days * DAY + i128::from(interval.nanoseconds)
}

/// Returns lengths in nanoseconds; text is read as an interval.
fn totals(lengths: &ArrayRef) -> Result<Decimal128Array> {
    let totals: Decimal128Array = match lengths.data_type() {
        DataType::Duration(_) => {
            let nanos = cast(lengths, &DataType::Duration(TimeUnit::Nanosecond))?;
            nanos.as_primitive::<DurationNanosecondType>().unary(i128::from)
        }
        _ => intervals(lengths)?.unary(total),
    };
    Ok(totals.with_data_type(COMPARABLE))
}

/// Returns a length, or text that is one, in nanoseconds.
pub(crate) fn in_nanos(length: &ScalarValue) -> Result<Option<i128>> {
    Ok(totals(&length.to_array()?)?.iter().next().flatten())
}

/// Returns lengths, or texts that are some, as intervals.
pub(crate) fn intervals(lengths: &ArrayRef) -> Result<IntervalMonthDayNanoArray> {
    Ok(match lengths.data_type() {
        DataType::Duration(_) => {
            let nanos = cast(lengths, &DataType::Duration(TimeUnit::Nanosecond))?;
            nanos.as_primitive::<DurationNanosecondType>().unary(interval::between)
        }
        text if is_text(text) => read_all(lengths, false)?,
        _ => cast(lengths, &INTERVAL)?.as_primitive::<IntervalMonthDayNanoType>().clone(),
    })
}

/// What is less than a month becomes days, and what is less than a day becomes time.
fn multiplied(interval: IntervalMonthDayNano, number: f64) -> Option<IntervalMonthDayNano> {
    let months = f64::from(interval.months) * number;
    let days = f64::from(interval.days) * number + months.fract() * DAYS_PER_MONTH as f64;
    // A length of months and days alone stays exact.
    let nanos = (interval.nanoseconds as f64).mul_add(number, days.fract() * DAY as f64).round();
    let (months, days) = (months.trunc(), days.trunc());
    let within = |value: f64, most: f64| value.is_finite() && value.abs() < most;
    let fits =
        within(months, f64::from(i32::MAX)) && within(days, f64::from(i32::MAX)) && within(nanos, i64::MAX as f64);
    fits.then(|| IntervalMonthDayNano::new(months as i32, days as i32, nanos as i64))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    name: &'static str,
    signature: Signature,
}

impl Length {
    fn part(&self, part: &str, of: &ArrayRef, strict: bool) -> Result<ArrayRef> {
        let (nanos, is_time): (Decimal128Array, bool) = match of.data_type() {
            data_type if is_length(data_type) => (totals(of)?, false),
            // Days reach further than times do.
            DataType::Date32 => (of.as_primitive::<Date32Type>().unary(|days| i128::from(days) * DAY), true),
            DataType::Time32(_) | DataType::Time64(_) => {
                let time = cast(&cast(of, &DataType::Time64(TimeUnit::Nanosecond))?, &DataType::Int64)?;
                (time.as_primitive::<Int64Type>().unary(i128::from), true)
            }
            data_type => {
                let zone = match data_type {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    _ => Some(UTC.into()),
                };
                let options = CastOptions { safe: !strict, ..CastOptions::default() };
                let times = cast_with_options(of, &DataType::Timestamp(TimeUnit::Nanosecond, zone), &options)?;
                let times = if part == "epoch" { times } else { zones::walls(&times)? };
                (times.as_primitive::<TimestampNanosecondType>().unary(i128::from), true)
            }
        };
        let seconds = |nanos: i128| {
            let (whole, rest) = match is_time {
                true => (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND)),
                false => (nanos / SECOND, nanos % SECOND),
            };
            let whole = match (part == "epoch", is_time) {
                (true, _) => whole,
                (false, true) => whole.rem_euclid(60),
                (false, false) => whole % 60,
            };
            whole as f64 + rest as f64 / SECOND as f64
        };
        let seconds: Float64Array = nanos.unary(seconds);
        Ok(Arc::new(seconds))
    }
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(match (self.name, args) {
            (NANOS, [_]) => COMPARABLE,
            (TIMES, [_, _]) => INTERVAL,
            (TEXT, [_]) => DataType::Utf8,
            (READ | READ_OR_NULL, [of]) if is_text(of) || is_length(of) || *of == DataType::Null => INTERVAL,
            (PART, [_, of])
                if is_length(of)
                    || of.is_temporal()
                    || matches!(of, DataType::Utf8 | DataType::Utf8View | DataType::Null) =>
            {
                DataType::Float64
            }
            (PART, [_, _]) => {
                return plan_err!(
                    "`EXTRACT` takes a time or an interval: cast what is none, for instance `x::timestamptz`"
                );
            }
            _ => return plan_err!("`{}` was given too few or too many values", self.name),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.iter().map(|arg| arg.clone().into_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(match (self.name, given.as_slice(), args.args.first()) {
            (NANOS, [lengths], _) => Arc::new(totals(lengths)?),
            (TEXT, [lengths], _) => Arc::new(interval::texts(lengths)?),
            (READ, [lengths], _) if is_length(lengths.data_type()) => Arc::new(intervals(lengths)?),
            (READ | READ_OR_NULL, [texts], _) => Arc::new(read_all(texts, self.name == READ_OR_NULL)?),
            (TIMES, [lengths, numbers], _) => {
                let intervals = intervals(lengths)?;
                let numbers = cast(numbers, &DataType::Float64)?;
                let mut out = Vec::with_capacity(intervals.len());
                for (interval, number) in intervals.iter().zip(numbers.as_primitive::<Float64Type>()) {
                    out.push(match (interval, number) {
                        (Some(interval), Some(number)) => match multiplied(interval, number) {
                            Some(product) => Some(product),
                            None => return exec_err!("an interval times {number} is longer than an interval can be"),
                        },
                        _ => None,
                    });
                }
                Arc::new(IntervalMonthDayNanoArray::from(out))
            }
            (PART, [_, of], Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(part))))) => {
                let attribute =
                    |field: &FieldRef| field.metadata().get(FACE).is_some_and(|face| face == FACE_ATTRIBUTE);
                // What an attribute holds need be no time.
                let strict = !args.arg_fields.get(1).is_some_and(attribute);
                self.part(part, of, strict)?
            }
            _ => return exec_err!("`{}` was given too few values", self.name),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_what_is_multiplied_become_smaller_units() {
        let of = |months, days, nanos| IntervalMonthDayNano::new(months, days, nanos);
        let hour = 3_600 * 1_000_000_000;
        assert_eq!(multiplied(of(0, 1, 0), 0.5), Some(of(0, 0, 12 * hour)));
        assert_eq!(multiplied(of(1, 0, 0), 1.5), Some(of(1, 15, 0)));
        assert_eq!(multiplied(of(0, 0, hour), 2.0), Some(of(0, 0, 2 * hour)));
        assert_eq!(multiplied(of(1, 1, 1), f64::MAX), None);
        assert_eq!(multiplied(of(1, 1, 1), f64::NAN), None);
        assert_eq!(total(of(1, 1, 1)), 31 * DAY + 1);
        assert!(total(of(4_800, 0, 0)) > total(of(3_600, 0, 0)));
    }
}
