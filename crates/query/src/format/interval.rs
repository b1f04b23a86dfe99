//! Lengths of time as Postgres writes them: `1 year 2 mons 3 days 04:05:06.789`.
//!
//! What lies between two times has days of 24 hours, as it has there.

use std::fmt::Write;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, DurationNanosecondType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use arrow::error::ArrowError;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_DAY: i64 = 86_400 * 1_000_000_000;

/// Writes intervals and durations.
pub(crate) fn texts(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    if matches!(array.data_type(), DataType::Duration(_)) {
        let nanos = cast(array, &DataType::Duration(TimeUnit::Nanosecond))?;
        let nanos = nanos.as_primitive::<DurationNanosecondType>();
        return Ok(nanos.iter().map(|nanos| nanos.map(|nanos| text(between(nanos)))).collect());
    }
    let intervals = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    Ok(intervals.iter().map(|interval| interval.map(text)).collect())
}

/// Returns what lies between two times as an interval.
pub(crate) fn between(nanos: i64) -> IntervalMonthDayNano {
    let days = i32::try_from(nanos / NANOS_PER_DAY).expect("an i64 of nanoseconds has fewer than 110,000 days");
    IntervalMonthDayNano::new(0, days, nanos % NANOS_PER_DAY)
}

/// Writes one interval.
pub(crate) fn text(interval: IntervalMonthDayNano) -> String {
    let mut text = String::new();
    let (years, months) = (interval.months / 12, interval.months % 12);
    // What comes behind something negative and is not has a sign.
    let mut below = false;
    for (count, word) in [(years, "year"), (months, "mon"), (interval.days, "day")] {
        if count != 0 {
            let (sign, many) = (if below && count > 0 { "+" } else { "" }, if count == 1 { "" } else { "s" });
            let _ = write!(text, "{sign}{count} {word}{many} ");
            below = count < 0;
        }
    }
    let nanos = interval.nanoseconds.unsigned_abs();
    if nanos != 0 || text.is_empty() {
        let sign = match interval.nanoseconds < 0 {
            true => "-",
            false if below => "+",
            false => "",
        };
        let (seconds, nanos) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
        let _ = write!(text, "{sign}{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        if nanos != 0 {
            let _ = write!(text, ".{}", format!("{nanos:09}").trim_end_matches('0'));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_postgres_writes_them() {
        for (months, days, nanos, written) in [
            (0, 0, 0, "00:00:00"),
            (0, 1, 2 * 3_600_000_000_000, "1 day 02:00:00"),
            (1, 0, 0, "1 mon"),
            (14, 3, 14_706_789_000_000, "1 year 2 mons 3 days 04:05:06.789"),
            (0, -1, -5, "-1 days -00:00:00.000000005"),
            (-1, 1, 0, "-1 mons +1 day"),
            (0, -1, 3_600_000_000_000, "-1 days +01:00:00"),
            (-14, 0, 0, "-1 years -2 mons"),
            (0, 0, 36 * 3_600_000_000_000, "36:00:00"),
        ] {
            assert_eq!(text(IntervalMonthDayNano::new(months, days, nanos)), written);
        }
        assert_eq!(text(between(90_000_000_000_000)), "1 day 01:00:00");
        assert_eq!(text(between(i64::MIN)), "-106751 days -23:47:16.854775808");
    }
}
