//! Lengths of time as clients write them: `1 day 02:03:04.5`, `2 hours 30 min`, `-3 days, 0:00:01`, `P1DT2H`, `1.5 h ago`.
//!
//! Months, days and the rest are kept apart, as a month has no fixed length; a fraction of one goes to the next.

use plimsoll_query::Parameter;

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// What was read so far.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
}

/// A decimal number, in billionths.
fn billionths(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once(['.', ',']).unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.len() + fraction.len() == 0 || whole.len() > 18 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i128 = format!("{:0<9.9}", fraction).parse().ok()?;
    let value = whole * SECOND + fraction;
    Some(if negative { -value } else { value })
}

impl Sum {
    /// Adds `count` billionths of a unit; false where there is no such unit.
    fn add(&mut self, count: i128, unit: &str) -> Option<()> {
        let months = |many: i128, sum: &mut Self| {
            sum.months += count * many / SECOND;
            sum.days += count * many % SECOND * 30 / SECOND;
        };
        let days = |many: i128, sum: &mut Self| {
            sum.days += count * many / SECOND;
            sum.nanos += count * many % SECOND * DAY / SECOND;
        };
        match unit {
            "millennium" | "millenniums" | "millennia" => months(12_000, self),
            "century" | "centuries" | "c" => months(1_200, self),
            "decade" | "decades" => months(120, self),
            "year" | "years" | "yr" | "yrs" | "y" => months(12, self),
            "month" | "months" | "mon" | "mons" => months(1, self),
            "week" | "weeks" | "w" => days(7, self),
            "day" | "days" | "d" => days(1, self),
            "hour" | "hours" | "hr" | "hrs" | "h" => self.nanos += count * 3_600,
            "minute" | "minutes" | "min" | "mins" | "m" => self.nanos += count * 60,
            "second" | "seconds" | "sec" | "secs" | "s" | "" => self.nanos += count,
            "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => self.nanos += count / 1_000,
            "microsecond" | "microseconds" | "usec" | "usecs" | "us" => self.nanos += count / 1_000_000,
            _ => return None,
        }
        Some(())
    }

    fn finish(self) -> Option<Parameter> {
        Some(Parameter::Interval {
            months: i32::try_from(self.months).ok()?,
            days: i32::try_from(self.days).ok()?,
            nanos: i64::try_from(self.nanos).ok()?,
        })
    }
}

/// Reads a length of time; `None` where it is none.
pub(super) fn read(text: &str) -> Option<Parameter> {
    let lower = text.trim().to_ascii_lowercase();
    let body = lower.strip_prefix('@').unwrap_or(&lower).trim();
    if body.starts_with(['p']) || body.starts_with("-p") {
        return iso(body);
    }
    let (body, ago) = match body.strip_suffix("ago") {
        Some(rest) => (rest, true),
        None => (body, false),
    };
    let mut sum = Sum::default();
    let mut count: Option<i128> = None;
    let mut said = false;
    for word in body.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        said = true;
        if word.contains(':') {
            if count.is_some() {
                return None;
            }
            sum.nanos += clock(word)?;
            continue;
        }
        let end = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (number, unit) = word.split_at(end);
        match (number.is_empty(), unit.is_empty()) {
            (false, true) if count.is_none() => count = Some(billionths(number)?),
            (true, false) => sum.add(count.take()?, unit)?,
            (false, false) if count.is_none() => sum.add(billionths(number)?, unit)?,
            _ => return None,
        }
    }
    if let Some(seconds) = count {
        sum.add(seconds, "")?;
    }
    if ago {
        sum = Sum { months: -sum.months, days: -sum.days, nanos: -sum.nanos };
    }
    said.then(|| sum.finish())?
}

/// `[-]h:mm[:ss[.fraction]]`
fn clock(word: &str) -> Option<i128> {
    let negative = word.starts_with('-');
    let mut parts = word.trim_start_matches(['-', '+']).split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    if parts.next().is_some() || hours.starts_with(['-', '+']) {
        return None;
    }
    let nanos = billionths(hours)? * 3_600 + billionths(minutes)? * 60 + billionths(seconds)?;
    Some(if negative { -nanos } else { nanos })
}

/// `P1Y2M3W4DT5H6M7.8S`
fn iso(text: &str) -> Option<Parameter> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut rest = rest.strip_prefix('p')?;
    let (mut sum, mut time, mut said) = (Sum::default(), false, false);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('t') {
            (rest, time) = (after, true);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = (billionths(&rest[..end])?, rest.get(end..=end)?);
        let unit = match (unit, time) {
            ("m", false) => "months",
            ("y" | "w" | "d", false) | ("h" | "m" | "s", true) => unit,
            _ => return None,
        };
        sum.add(if negative { -number } else { number }, unit)?;
        said = true;
        rest = &rest[end + 1..];
    }
    said.then(|| sum.finish())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(months: i32, days: i32, nanos: i64) -> Option<Parameter> {
        Some(Parameter::Interval { months, days, nanos })
    }

    #[test]
    fn every_spelling_of_a_length_of_time_is_read() {
        let second = 1_000_000_000_i64;
        let hour = 3_600 * second;
        for (text, wanted) in [
            ("1 hour", interval(0, 0, hour)),
            ("90", interval(0, 0, 90 * second)),
            ("1 day 02:03:04.5", interval(0, 1, 2 * hour + 184_500_000_000)),
            ("-1 day, 23:59:57.999997", interval(0, -1, 23 * hour + 3_597_999_997_000)),
            ("1 year 2 mons -3 days -04:05:06", interval(14, -3, -(4 * hour + 306 * second))),
            ("1.5 hours", interval(0, 0, hour * 3 / 2)),
            ("0.5 days", interval(0, 0, 12 * hour)),
            ("1.5 months", interval(1, 15, 0)),
            ("2h30m", None),
            ("2h 30m", interval(0, 0, hour * 5 / 2)),
            ("5 minutes ago", interval(0, 0, -300 * second)),
            ("@ 1 week", interval(0, 7, 0)),
            ("P1Y2M3DT4H5M6.5S", interval(14, 3, 4 * hour + 306_500_000_000)),
            ("-P1DT1H", interval(0, -1, -hour)),
            ("PT0S", interval(0, 0, 0)),
            ("250 ms", interval(0, 0, second / 4)),
            ("P", None),
            ("", None),
            ("1 parsec", None),
            ("one hour", None),
            ("1 2", None),
            ("999999999999 years", None),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(days in -40_000_i32..40_000, micros in -86_399_999_999_i64..86_399_999_999) {
            let mut out = bytes::BytesMut::new();
            let of = arrow::datatypes::IntervalMonthDayNano::new(0, days, micros * 1_000);
            super::super::time::write_interval(&mut out, of);
            prop_assert_eq!(read(&String::from_utf8_lossy(&out)), interval(0, days, micros * 1_000));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9pPtTdhms:., +\\-@a\u{e9}]{0,40}") {
            let _ = read(&text);
        }
    }
}
