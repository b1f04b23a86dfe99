//! Times as Postgres writes them: in text, and counted from the year 2000.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{
    DataType, Date32Type, DurationNanosecondType, Int64Type, IntervalMonthDayNano, Time64NanosecondType, TimeUnit,
    TimestampNanosecondType,
};
use arrow::error::ArrowError;
use bytes::BytesMut;

/// Days from 1970 to 2000, where Postgres begins to count.
pub(super) const EPOCH_DAYS: i64 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS * MICROS_PER_DAY;
const MICROS_PER_DAY: i64 = 86_400_000_000;
const NANOS_PER_DAY: i64 = MICROS_PER_DAY * 1_000;

/// Returns timestamps of any unit as microseconds since 1970; what is finer is cut off towards the past.
pub(super) fn micros(array: &ArrayRef) -> Result<Int64Array, ArrowError> {
    if let Some(nanos) = array.as_primitive_opt::<TimestampNanosecondType>() {
        return Ok(nanos.unary(|nanos| nanos.div_euclid(1_000)));
    }
    let zone = match array.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    Ok(cast(&micros, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Returns lengths of time in nanoseconds as intervals, with days of 24 hours as between two times in Postgres.
pub(super) fn interval(array: &ArrayRef) -> IntervalMonthDayNanoArray {
    match array.as_primitive_opt::<DurationNanosecondType>() {
        Some(nanos) => nanos.unary(|nanos| {
            let days = i32::try_from(nanos / NANOS_PER_DAY).expect("an i64 of nanoseconds has fewer than 110,000 days");
            IntervalMonthDayNano::new(0, days, nanos % NANOS_PER_DAY)
        }),
        None => IntervalMonthDayNanoArray::new_null(array.len()),
    }
}

/// Year, month and day of a day counted from 1970 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970 of a date `2026-01-31`; `None` where it is none.
pub(super) fn read_date(text: &str) -> Option<i32> {
    Date32Type::parse(text).filter(|_| text.len() == 10)
}

/// Nanoseconds since midnight of a time of day `12:34:56.789`; `None` where it is none.
pub(super) fn read_clock(text: &str) -> Option<i64> {
    Time64NanosecondType::parse(text).filter(|_| text.contains(':'))
}

/// Nanoseconds since 1970 of `2026-01-31`, `2026-01-31 12:34`, `2026-01-31T12:34:56.789+02:00` and their like: of an instant, where it is
/// `zoned`, else of what a clock shows, whatever its zone; `None` where it is none, or beyond what nanoseconds reach.
pub(super) fn read_timestamp(text: &str, zoned: bool) -> Option<i64> {
    let (day, rest) = text.trim().split_at_checked(10)?;
    let days = i128::from(read_date(day)?);
    let rest = match rest.strip_prefix(['T', 't']) {
        Some(clock) => clock,
        None => rest.trim_start(),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.')).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(end);
    let clock = if clock.is_empty() { 0 } else { read_clock(clock)? };
    let east = match zone.trim() {
        "" => 0,
        named if ["z", "utc", "gmt", "zulu"].iter().any(|utc| named.eq_ignore_ascii_case(utc)) => 0,
        offset => seconds_east(offset)?,
    };
    let shift = if zoned { east } else { 0 };
    let nanos = (days * 86_400 - i128::from(shift)) * 1_000_000_000 + i128::from(clock);
    i64::try_from(nanos).ok()
}

/// Seconds of `+02`, `+0230`, `-02:30` or `+02:30:15`.
fn seconds_east(offset: &str) -> Option<i64> {
    let sign = match offset.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits: String = offset[1..].chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 1 | 2 | 4 | 6) {
        return None;
    }
    let digits = if digits.len() == 1 { format!("0{digits}") } else { digits };
    let part = |at: usize| digits.get(at..at + 2).map_or(Some(0), |part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    (hours < 16 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3_600 + minutes * 60 + seconds))
}

pub(super) fn write_date(out: &mut BytesMut, days: i64) {
    let (year, month, day) = civil(days);
    // Writing into memory cannot fail.
    let _ = match year {
        1.. => write!(out, "{year:04}-{month:02}-{day:02}"),
        // There is no year zero.
        _ => write!(out, "{:04}-{month:02}-{day:02} BC", 1 - year),
    };
}

pub(super) fn write_clock(out: &mut BytesMut, micros: i64) {
    let seconds = micros.div_euclid(1_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write_fraction(out, micros.rem_euclid(1_000_000));
}

fn write_fraction(out: &mut BytesMut, micros: i64) {
    if micros > 0 {
        let digits = format!("{micros:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

pub(super) fn write_timestamp(out: &mut BytesMut, micros: i64, zoned: bool) {
    write_date(out, micros.div_euclid(MICROS_PER_DAY));
    let _ = out.write_char(' ');
    write_clock(out, micros.rem_euclid(MICROS_PER_DAY));
    if zoned {
        let _ = out.write_str("+00");
    }
}

/// Writes `1 year 2 mons 3 days -04:05:06.7`.
pub(super) fn write_interval(out: &mut BytesMut, interval: IntervalMonthDayNano) {
    let mut parts: Vec<String> = Vec::new();
    // What comes behind something negative and is not has a sign.
    let mut below = false;
    let (years, months) = (interval.months / 12, interval.months % 12);
    for (count, one, many) in [(years, "year", "years"), (months, "mon", "mons"), (interval.days, "day", "days")] {
        if count != 0 {
            let sign = if below && count > 0 { "+" } else { "" };
            parts.push(format!("{sign}{count} {}", if count == 1 { one } else { many }));
            below = count < 0;
        }
    }
    let micros = interval.nanoseconds / 1_000;
    if micros != 0 || parts.is_empty() {
        let mut clock = BytesMut::new();
        if micros < 0 || below {
            let _ = clock.write_char(if micros < 0 { '-' } else { '+' });
        }
        let micros = micros.unsigned_abs().cast_signed();
        write_clock(&mut clock, micros);
        parts.push(String::from_utf8_lossy(&clock).into_owned());
    }
    let _ = out.write_str(&parts.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timestamp(micros: i64) -> String {
        let mut out = BytesMut::new();
        write_timestamp(&mut out, micros, true);
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn instants_are_written_as_postgres_does() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00+00");
        assert_eq!(timestamp(1_700_000_000_120_000), "2023-11-14 22:13:20.12+00");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999999+00");
        assert_eq!(timestamp(EPOCH_MICROS), "2000-01-01 00:00:00+00");
    }

    #[test]
    fn times_are_read_in_the_forms_that_programs_write() {
        let noon = 1_769_860_800_000_000_000_i64;
        let hour = 3_600_000_000_000_i64;
        for (text, zoned, wanted) in [
            ("2026-01-31 12:00", true, Some(noon)),
            ("2026-01-31T12:00:00Z", true, Some(noon)),
            ("2026-01-31 12:00:00.5+02", true, Some(noon - 2 * hour + 500_000_000)),
            ("2026-01-31 12:00:00 -05:30", true, Some(noon + hour * 11 / 2)),
            ("2026-01-31 +01", true, Some(noon - 13 * hour)),
            ("2026-01-31 12:00:00+02", false, Some(noon)),
            ("2026-01-31", false, Some(noon - 12 * hour)),
            ("2026-01-31 12:00:00 UTC", true, Some(noon)),
            ("2026-01-31 12:00:00 CET", true, None),
            ("2026-02-30", true, None),
            ("2026-01-31 25:00", true, None),
            ("9999-12-31", true, None),
            ("soon", true, None),
            ("2026-01-31 12:00+\u{e9}", true, None),
        ] {
            assert_eq!(read_timestamp(text, zoned), wanted, "{text}");
        }
    }

    #[test]
    fn intervals_name_what_they_have() {
        let told = |months, days, nanos| {
            let mut out = BytesMut::new();
            write_interval(&mut out, IntervalMonthDayNano::new(months, days, nanos));
            String::from_utf8(out.to_vec()).expect("text")
        };
        assert_eq!(told(14, 1, 0), "1 year 2 mons 1 day");
        assert_eq!(told(-1, 1, 0), "-1 mons +1 day");
        assert_eq!(told(0, -1, 3_600_000_000_000), "-1 days +01:00:00");
        assert_eq!(told(0, 0, 90_000_500_000), "00:01:30.0005");
        assert_eq!(told(0, 0, -1_000_000_000), "-00:00:01");
        assert_eq!(told(0, 0, 0), "00:00:00");
    }

    #[test]
    fn dates_and_times_of_day_are_read_as_they_are_written() {
        assert_eq!(read_date("2000-01-01"), i32::try_from(EPOCH_DAYS).ok());
        assert_eq!(read_date("1969-12-31"), Some(-1));
        assert_eq!(read_date("2000-02-30"), None);
        assert_eq!(read_date("2000-01-01T00:00:00Z"), None);
        assert_eq!(read_clock("01:02:03.000004"), Some(3_723_000_004_000));
        assert_eq!(read_clock("25:00:00"), None);
    }

    proptest! {
        #[test]
        fn instants_agree_with_the_calendar(micros in -60_000_000_000_000_000_i64..200_000_000_000_000_000) {
            let at = jiff::Timestamp::from_microsecond(micros).expect("within the calendar");
            let wanted = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
            prop_assert!(timestamp(micros).starts_with(&wanted), "{} {}", timestamp(micros), wanted);
        }
    }
}
