//! Times and zones, as Postgres has it: `AT TIME ZONE` tells what a clock there shows, and what is meant by what a clock there shows.
//!
//! | of | gives | is in Postgres |
//! |---|---|---|
//! | an instant, `TIMESTAMP(ns, UTC)` | the same instant in that zone, written with its offset | `timestamp` |
//! | a time without a zone | the instant at which a clock there shows it | `timestamptz` |
//! | an instant in a zone | the instant at which a clock there shows what one in its own zone does | `timestamptz` |
//!
//! A time that no clock shows, as clocks were put forward, is read by the offset before that; of one that they show twice the later counts.
//!
//! *Cost.* A zone's rules are looked up a few times a row.

use std::sync::{Arc, LazyLock};

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampNanosecondType};
use arrow::temporal_conversions::as_datetime_with_timezone;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    lit,
};
use plimsoll_otlp::schema::UTC;

/// `AT TIME ZONE`.
pub(crate) const AT: &str = "at_time_zone";
/// What a clock shows at an instant in a zone, without the zone.
const WALL: &str = "wall_clock";
/// The instant at which a clock in a zone shows something, in that zone.
const SHOWN: &str = "shown_in_zone";
/// The zone of `AT TIME ZONE 'UTC'`, which is no longer that of an instant.
const AT_UTC: &str = "+00:00";
const NANOS_PER_DAY: i64 = 86_400 * 1_000_000_000;

/// Returns every function of this module.
pub(crate) fn udfs() -> [Arc<ScalarUDF>; 3] {
    static ALL: LazyLock<[Arc<ScalarUDF>; 3]> = LazyLock::new(|| {
        [AT, WALL, SHOWN].map(|name| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(ScalarUDF::from(Zoned { name, signature }))
        })
    });
    ALL.clone()
}

/// Returns the zone in which an instant is shown; `None` for instants and what is none.
pub(crate) fn shown_in(data_type: &DataType) -> Option<&Arc<str>> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) if zone.as_ref() != UTC => Some(zone),
        _ => None,
    }
}

fn nanos(zone: Option<&str>) -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into))
}

/// Returns what `AT TIME ZONE` of an instant is as a cast, which rules and pruning know.
pub(crate) fn settled(call: &ScalarFunction, of: &DataType) -> Option<Expr> {
    let [time, Expr::Literal(ScalarValue::Utf8(Some(zone)), _)] = call.args.as_slice() else { return None };
    let instant = match of {
        DataType::Timestamp(_, Some(own)) if own.as_ref() == UTC => time.clone(),
        DataType::Timestamp(..) => return None,
        _ => Expr::Cast(Cast::new(Box::new(time.clone()), nanos(Some(UTC)))),
    };
    Some(Expr::Cast(Cast::new(Box::new(instant), nanos(Some(label(zone))))))
}

/// Returns what a clock in its zone shows.
pub(crate) fn wall(time: Expr) -> Expr {
    let [_, wall, _] = udfs();
    wall.call(vec![time])
}

/// Returns `date_bin` over what a clock shows: days begin at midnight there.
pub(crate) fn date_bin(call: ScalarFunction, zone: &str, origin_shown: bool) -> Expr {
    let [_, _, shown] = udfs();
    let ScalarFunction { func, args } = call;
    let args = args.into_iter().enumerate().map(|(at, arg)| match at {
        1 => wall(arg),
        2 if origin_shown => wall(arg),
        2 => Expr::Cast(Cast::new(Box::new(arg), nanos(None))),
        _ => arg,
    });
    let binned = func.call(args.collect());
    shown.call(vec![binned, lit(zone)])
}

fn label(zone: &str) -> &str {
    if zone == UTC { AT_UTC } else { zone }
}

/// Returns what a clock shows at an instant.
fn clock(instant: i64, zone: Tz) -> Option<i64> {
    as_datetime_with_timezone::<TimestampNanosecondType>(instant, zone)?.naive_local().and_utc().timestamp_nanos_opt()
}

/// Returns the instant at which a clock shows something.
fn instant(shown: i64, zone: Tz) -> Option<i64> {
    let by_offset_at = |near: i64| {
        let offset = clock(near, zone)?.checked_sub(near)?;
        shown.checked_sub(offset)
    };
    let before = by_offset_at(shown.checked_sub(NANOS_PER_DAY)?)?;
    let after = by_offset_at(shown.checked_add(NANOS_PER_DAY)?)?;
    let shows = |instant: &i64| clock(*instant, zone) == Some(shown);
    let found = [before, after].into_iter().filter(shows).max();
    Some(found.unwrap_or(before))
}

/// Turns times of any unit into what a clock in their zone shows.
///
/// # Errors
/// They are no times, or their zone is not known.
pub(crate) fn walls(times: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Timestamp(_, Some(own)) = times.data_type() else { return Ok(cast(times, &nanos(None))?) };
    let zone: Tz = own.parse()?;
    let times = cast(times, &nanos(Some(own)))?;
    let walls: TimestampNanosecondArray =
        times.as_primitive::<TimestampNanosecondType>().iter().map(|time| clock(time?, zone)).collect();
    Ok(Arc::new(walls))
}

/// Turns what a clock in `zone` shows into instants, shown in `label`.
fn instants(walls: &ArrayRef, zone: &str, label: &str) -> Result<ArrayRef> {
    let rules: Tz = zone.parse()?;
    let walls = cast(walls, &nanos(None))?;
    let instants: TimestampNanosecondArray =
        walls.as_primitive::<TimestampNanosecondType>().iter().map(|time| instant(time?, rules)).collect();
    Ok(Arc::new(instants.with_timezone(label)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Zoned {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Zoned {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        internal_err!("the type of `{}` depends on the zone", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let zone = match args.scalar_arguments.get(1) {
            Some(Some(ScalarValue::Utf8(Some(zone)))) => Some(zone.as_str()),
            _ => None,
        };
        let of = args.arg_fields.first().map(|field| field.data_type());
        let zone = match (self.name, of, zone) {
            (WALL, Some(_), _) => None,
            (SHOWN, Some(_), Some(zone)) => Some(zone),
            (AT, Some(DataType::Timestamp(_, Some(own))), Some(zone)) if own.as_ref() == UTC => Some(label(zone)),
            (AT, Some(DataType::Timestamp(..)), Some(_)) => Some(UTC),
            (AT, Some(DataType::Utf8 | DataType::Date32 | DataType::Null), Some(zone)) => Some(label(zone)),
            (_, _, None) => {
                return plan_err!("`AT TIME ZONE` takes the zone as text in quotes, for instance `'Europe/Oslo'`");
            }
            _ => return plan_err!("`AT TIME ZONE` takes a time: cast what is none, for instance `x::timestamptz`"),
        };
        Ok(Arc::new(Field::new(self.name, nanos(zone), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(times) = args.args.first() else { return exec_err!("`{}` takes a time", self.name) };
        let times = times.clone().into_array(args.number_rows)?;
        if self.name == WALL {
            return Ok(ColumnarValue::Array(walls(&times)?));
        }
        let Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone)))) = args.args.get(1) else {
            return exec_err!("`{}` takes a zone", self.name);
        };
        Ok(ColumnarValue::Array(match (self.name, times.data_type()) {
            (SHOWN, _) => instants(&times, zone, zone)?,
            (_, DataType::Timestamp(_, None)) => instants(&times, zone, UTC)?,
            (_, own) if shown_in(own).is_some() => instants(&walls(&times)?, zone, UTC)?,
            _ => cast(&cast(&times, &nanos(Some(UTC)))?, &nanos(Some(label(zone))))?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_put_forward_and_back_are_read_as_postgres_reads_them() {
        let zone: Tz = "Europe/Oslo".parse().expect("is known");
        let hours = |hours: f64| (hours * 3.6e12) as i64;
        // 2024-03-31 and 2024-10-27, midnight.
        let (spring, autumn) = (1_711_843_200_000_000_000, 1_729_987_200_000_000_000);
        for (shown, wanted) in [
            (spring + hours(0.5), spring - hours(0.5)),
            (spring + hours(2.5), spring + hours(1.5)),
            (spring + hours(3.5), spring + hours(1.5)),
            (autumn + hours(1.5), autumn - hours(0.5)),
            (autumn + hours(2.5), autumn + hours(1.5)),
            (autumn + hours(3.5), autumn + hours(2.5)),
        ] {
            assert_eq!(instant(shown, zone), Some(wanted), "{shown}");
        }
        assert_eq!(clock(spring + hours(1.5), zone), Some(spring + hours(3.5)));
        assert_eq!(instant(i64::MAX, zone), None);
    }
}
