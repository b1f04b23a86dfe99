//! Lengths of time as clients write them: `1 day 02:03:04.5`, `2 hours 30 min`, `-3 days, 0:00:01`, `P1DT2H`, `1.5 h ago`.
//!
//! What Postgres refuses is refused. As there, a text is read from its end: a number has the unit behind it, else it counts seconds at
//! the end, and days before a time of day. Months, days and the rest are kept apart, as a month has no fixed length; a fraction of one
//! goes to the next. Beyond Postgres, which has none, there are nanoseconds.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::sql::sqlparser::ast::DateTimeField;

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    /// No unit: what is behind is in the past.
    Ago,
}

impl Unit {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "millennium" | "millenniums" | "millennia" | "mil" | "mils" => Self::Millennium,
            "century" | "centuries" | "cent" | "c" => Self::Century,
            "decade" | "decades" | "dec" | "decs" => Self::Decade,
            "year" | "years" | "yr" | "yrs" | "y" => Self::Year,
            "month" | "months" | "mon" | "mons" => Self::Month,
            "week" | "weeks" | "w" => Self::Week,
            "day" | "days" | "d" => Self::Day,
            "hour" | "hours" | "hr" | "hrs" | "h" => Self::Hour,
            "minute" | "minutes" | "min" | "mins" | "m" => Self::Minute,
            "second" | "seconds" | "sec" | "secs" | "s" => Self::Second,
            "millisecond" | "milliseconds" | "msecond" | "mseconds" | "msec" | "msecs" | "ms" => Self::Millisecond,
            "microsecond" | "microseconds" | "usecond" | "useconds" | "usec" | "usecs" | "us" => Self::Microsecond,
            "nanosecond" | "nanoseconds" => Self::Nanosecond,
            "ago" => Self::Ago,
            _ => return None,
        })
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// A number in billionths.
    Number(i128),
    /// A time of day in nanoseconds.
    Clock(i128),
    /// Years and months, `1-2`, in months.
    Months(i128),
    Word(Unit),
}

/// A decimal number without a sign, in billionths.
fn billionths(digits: &str) -> Option<i128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.len() + fraction.len() == 0 || whole.len() > 18 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i128 = format!("{fraction:0<9.9}").parse().ok()?;
    Some(whole * SECOND + fraction)
}

/// What was read so far.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
}

impl Sum {
    /// Adds `count` billionths of a unit; `None` for what is no unit.
    fn add(&mut self, count: i128, unit: Unit) -> Option<()> {
        // Of more than a month the fraction is a number of months.
        let years = |many: i128, sum: &mut Self| {
            let half = if count < 0 { -SECOND / 2 } else { SECOND / 2 };
            sum.months += (count * many + half) / SECOND;
        };
        let days = |count: i128, sum: &mut Self| {
            sum.days += count / SECOND;
            sum.nanos += count % SECOND * DAY / SECOND;
        };
        match unit {
            Unit::Millennium => years(12_000, self),
            Unit::Century => years(1_200, self),
            Unit::Decade => years(120, self),
            Unit::Year => years(12, self),
            Unit::Month => {
                self.months += count / SECOND;
                days(count % SECOND * 30, self);
            }
            Unit::Week => days(count * 7, self),
            Unit::Day => days(count, self),
            Unit::Hour => self.nanos += count * 3_600,
            Unit::Minute => self.nanos += count * 60,
            Unit::Second => self.nanos += count,
            Unit::Millisecond => self.nanos += count / 1_000,
            Unit::Microsecond => self.nanos += count / 1_000_000,
            Unit::Nanosecond => self.nanos += count / SECOND,
            Unit::Ago => return None,
        }
        Some(())
    }

    fn finish(self) -> Option<IntervalMonthDayNano> {
        let (months, days) = (i32::try_from(self.months).ok()?, i32::try_from(self.days).ok()?);
        Some(IntervalMonthDayNano::new(months, days, i64::try_from(self.nanos).ok()?))
    }
}

/// Reads a length of time; `None` where it is none, or longer than one can be.
pub fn read(text: &str) -> Option<IntervalMonthDayNano> {
    read_in(text, Unit::Second)
}

/// Says why a text was not read.
pub(crate) fn unreadable(text: &str) -> String {
    let shown: String = text.chars().take(100).collect();
    format!(
        "`{shown}` is no length of time: write one like `1 day 02:30:00` or `15 minutes`, whose hours, minutes and seconds come to less \
         than 292 years"
    )
}

/// Reads the text of `INTERVAL '..' field`, whose bare number counts the field, and which has nothing that is smaller.
pub(crate) fn read_to(text: &str, field: &DateTimeField) -> Option<IntervalMonthDayNano> {
    let unit = Unit::named(&field.to_string().to_ascii_lowercase())?;
    let interval = read_in(text, unit)?;
    let (months, days, nanos) = (interval.months, interval.days, interval.nanoseconds);
    let whole = |nanos: i64, unit: i128| {
        let unit = i64::try_from(unit).unwrap_or(i64::MAX);
        nanos / unit * unit
    };
    Some(match unit {
        Unit::Millennium | Unit::Century | Unit::Decade | Unit::Year => {
            IntervalMonthDayNano::new(months / 12 * 12, 0, 0)
        }
        Unit::Month => IntervalMonthDayNano::new(months, 0, 0),
        Unit::Week | Unit::Day => IntervalMonthDayNano::new(months, days, 0),
        Unit::Hour => IntervalMonthDayNano::new(months, days, whole(nanos, 3_600 * SECOND)),
        Unit::Minute => IntervalMonthDayNano::new(months, days, whole(nanos, 60 * SECOND)),
        _ => interval,
    })
}

fn read_in(text: &str, mut unit: Unit) -> Option<IntervalMonthDayNano> {
    if let Some(rest) = text.trim_start().strip_prefix('P') {
        return iso(rest);
    }
    let pieces = pieces(&text.to_ascii_lowercase())?;
    let (mut sum, mut seen, mut ago) = (Sum::default(), 0_u32, false);
    let clock = Unit::Hour.bit() | Unit::Minute.bit() | Unit::Second.bit();
    for piece in pieces.into_iter().rev() {
        let said = match piece {
            Piece::Word(Unit::Ago) => {
                (ago, unit) = (true, Unit::Ago);
                continue;
            }
            Piece::Word(named) => {
                unit = named;
                continue;
            }
            Piece::Clock(nanos) => {
                sum.nanos += nanos;
                unit = Unit::Day;
                clock
            }
            Piece::Months(months) => {
                sum.months += months;
                unit = Unit::Month;
                Unit::Year.bit() | Unit::Month.bit()
            }
            Piece::Number(count) => {
                sum.add(count, unit)?;
                let said = unit.bit();
                if unit == Unit::Hour {
                    unit = Unit::Day;
                }
                said
            }
        };
        // Each unit once.
        if seen & said != 0 {
            return None;
        }
        seen |= said;
    }
    if seen == 0 {
        return None;
    }
    if ago {
        sum = Sum { months: -sum.months, days: -sum.days, nanos: -sum.nanos };
    }
    sum.finish()
}

/// Splits a text in lower case; `None` where something in it belongs to no length of time.
fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',', '@', ';']);
        let Some(first) = rest.chars().next() else { return Some(pieces) };
        if first.is_ascii_alphabetic() {
            let (word, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
            // Only a unit of one letter may have the next number at once behind it: `2h30m`.
            let glued = after.starts_with(|c: char| c.is_ascii_digit() || c == '+');
            if (glued && !matches!(word, "d" | "h" | "m" | "s" | "y")) || after.starts_with(['-', '/', '.', '_', ':']) {
                return None;
            }
            pieces.push(Piece::Word(Unit::named(word)?));
            rest = after;
            continue;
        }
        let (negative, unsigned) = match first {
            '-' | '+' => (first == '-', rest[1..].trim_start()),
            _ => (false, rest),
        };
        if unsigned.len() != rest.len() && !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':' | '-')).unwrap_or(unsigned.len());
        let (number, after) = unsigned.split_at(end);
        let piece = if number.contains(':') {
            Piece::Clock(clock(number)?)
        } else if let Some((years, months)) = number.split_once('-') {
            let whole = |part: &str| billionths(part).filter(|_| !part.contains('.')).map(|count| count / SECOND);
            Piece::Months(whole(years)? * 12 + whole(months).filter(|months| *months < 12)?)
        } else {
            Piece::Number(billionths(number)?)
        };
        pieces.push(match piece {
            Piece::Number(count) if negative => Piece::Number(-count),
            Piece::Clock(nanos) if negative => Piece::Clock(-nanos),
            Piece::Months(months) if negative => Piece::Months(-months),
            piece => piece,
        });
        rest = after;
    }
}

/// `h:mm[:ss[.fraction]]`, or `m:ss.fraction`.
fn clock(word: &str) -> Option<i128> {
    let mut parts = word.split(':');
    let (first, second, third) = (parts.next()?, parts.next()?, parts.next());
    let (hours, minutes, seconds) = match third {
        Some(seconds) => (first, second, seconds),
        None if second.contains('.') => ("0", first, second),
        None => (first, second, "0"),
    };
    if parts.next().is_some() || hours.contains('.') || minutes.contains('.') {
        return None;
    }
    let (hours, minutes, seconds) = (billionths(hours)?, billionths(minutes)?, billionths(seconds)?);
    if minutes >= 60 * SECOND || seconds > 60 * SECOND {
        return None;
    }
    Some(hours * 3_600 + minutes * 60 + seconds)
}

/// What is behind the `P` of `P1Y2M3W4DT5H6M7.8S`; each number may be negative.
fn iso(mut rest: &str) -> Option<IntervalMonthDayNano> {
    if rest.is_empty() {
        return None;
    }
    let (mut sum, mut time) = (Sum::default(), false);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T').filter(|_| !time) {
            (rest, time) = (after, true);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = (&rest[..end], rest.get(end..=end)?);
        let (negative, digits) = number.strip_prefix('-').map_or((false, number), |digits| (true, digits));
        let count = billionths(digits)?;
        let unit = match (unit, time) {
            ("Y", false) => Unit::Year,
            ("M", false) => Unit::Month,
            ("W", false) => Unit::Week,
            ("D", false) => Unit::Day,
            ("H", true) => Unit::Hour,
            ("M", true) => Unit::Minute,
            ("S", true) => Unit::Second,
            _ => return None,
        };
        sum.add(if negative { -count } else { count }, unit)?;
        rest = &rest[end + 1..];
    }
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(months: i32, days: i32, nanos: i64) -> Option<IntervalMonthDayNano> {
        Some(IntervalMonthDayNano::new(months, days, nanos))
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
            ("1.25 years", interval(15, 0, 0)),
            ("1.5 weeks", interval(0, 10, 12 * hour)),
            ("2h30m", interval(0, 0, hour * 5 / 2)),
            ("2h 30m", interval(0, 0, hour * 5 / 2)),
            ("5 minutes ago", interval(0, 0, -300 * second)),
            ("@ 1 week", interval(0, 7, 0)),
            ("1-2 3 4:05:06", interval(14, 3, 4 * hour + 306 * second)),
            ("1 day 5", interval(0, 1, 5 * second)),
            ("1 day - 1 hour", interval(0, 1, -hour)),
            ("1:59:60", interval(0, 0, 2 * hour)),
            ("30:1.5", interval(0, 0, 1_801_500_000_000)),
            ("P1Y2M3DT4H5M6.5S", interval(14, 3, 4 * hour + 306_500_000_000)),
            ("P-1DT-1H", interval(0, -1, -hour)),
            ("PT0S", interval(0, 0, 0)),
            ("250 ms", interval(0, 0, second / 4)),
            ("3 nanoseconds", interval(0, 0, 3)),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_postgres_refuses_as_a_length_of_time_is_refused() {
        for text in [
            "",
            "ago",
            "5 ago",
            "@",
            "hour",
            "one hour",
            "1 parsec",
            "1 2",
            "5 1 day",
            "1 hour 1 hour",
            "1h2h",
            "1 day 1:00 2 hours",
            "4:05 6",
            "1hour2min",
            "1 day-2 hours",
            "1:2:3:4",
            "1:60",
            "1:59:61",
            "1.5:30",
            "--1:30",
            "-+1:30",
            "+-1 day",
            "1.5.5 hour",
            "-.5 hour",
            "1e3 hours",
            "1/2 hour",
            "1_000 s",
            "2-13",
            "1-2-3",
            "1 fortnight",
            "1 quarter",
            "1 ns",
            "1:00 am",
            "infinity",
            "P",
            "p1d",
            "-P1D",
            "P+1D",
            "P1y",
            "P1Y ",
            "P 1Y",
            "PT1D",
            "P1H",
            "2147483648 days",
            "178956971 years",
            "999999999999 years",
            "99999999999999999999 s",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_field_says_what_a_number_counts_and_where_it_ends() {
        let hour = 3_600 * 1_000_000_000_i64;
        for (text, field, wanted) in [
            ("5", DateTimeField::Day, interval(0, 5, 0)),
            ("1.5", DateTimeField::Day, interval(0, 1, 0)),
            ("90", DateTimeField::Minute, interval(0, 0, hour * 3 / 2)),
            ("1 day 02:45:00", DateTimeField::Hour, interval(0, 1, 2 * hour)),
            ("1.5", DateTimeField::Second, interval(0, 0, 1_500_000_000)),
            ("2", DateTimeField::Year, interval(24, 0, 0)),
            ("2", DateTimeField::Quarter, None),
        ] {
            assert_eq!(read_to(text, &field), wanted, "{text} {field}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(days in -40_000_i32..40_000, micros in -86_399_999_999_i64..86_399_999_999) {
            let of = IntervalMonthDayNano::new(0, days, micros * 1_000);
            prop_assert_eq!(read(&crate::format::interval::text(of)), Some(of));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9pPtTdhms:., +\\-@a\u{e9}]{0,40}") {
            let _ = read(&text);
        }
    }
}
