//! Parameters of clients, read from their text or binary form into what the query engine takes.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use bytes::{Buf, Bytes};
use plimsoll_query::Parameter;
use plimsoll_query::array_items;
use plimsoll_query::postgres::{ColumnType, PgType, read_interval, read_uuid};

use super::decimal;
use super::sqlstate::Problem;
use super::time;
use super::time::{EPOCH_DAYS, EPOCH_MICROS};

/// Object id of `uuid`, whose binary form is its bytes.
const UUID: u32 = 2950;

/// Microseconds of a day, at which times of day end.
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days since 1970 that the calendar has: from 4713 BC, as in Postgres, to the year 262142, where that of the engine ends. What Postgres
/// sends for dates without end is beyond.
const DAYS: std::ops::RangeInclusive<i32> = -2_440_588..=95_026_236;

/// Returns the type that the engine is told of a parameter, where the client named one; text is left open, so that it means
/// what a literal in its place would.
pub(super) fn engine_type(oid: u32) -> Option<DataType> {
    let of = ColumnType::from_oid(oid).filter(|of| !of.array)?;
    Some(match of.element {
        PgType::Bool => DataType::Boolean,
        PgType::Int2 => DataType::Int16,
        PgType::Int4 => DataType::Int32,
        PgType::Int8 => DataType::Int64,
        PgType::Float4 => DataType::Float32,
        PgType::Float8 => DataType::Float64,
        PgType::Bytea => DataType::Binary,
        PgType::Date => DataType::Date32,
        PgType::Time => DataType::Time64(TimeUnit::Nanosecond),
        PgType::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PgType::Timestamptz => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        PgType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        PgType::Numeric | PgType::Text | PgType::Jsonb => return None,
    })
}

/// Says whether a client left the type of a parameter open: it named none, or the one for what is not known.
pub(super) fn is_open(oid: u32) -> bool {
    matches!(oid, 0 | 705)
}

/// What is known of a parameter's type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// The client named it, by its object id.
    Named(u32, ColumnType),
    /// The statement implies it.
    Implied(ColumnType),
}

/// Reads parameter `$number`.
pub(super) fn read(number: usize, value: Option<Bytes>, binary: bool, known: Known) -> Result<Parameter, Problem> {
    let Some(value) = value else { return Ok(Parameter::Null) };
    let (Known::Named(_, of) | Known::Implied(of)) = known;
    let wrong = || {
        let form = if binary { "binary" } else { "text" };
        let beyond = match of.element {
            PgType::Timestamp | PgType::Timestamptz if binary => ", or beyond the years 1677 to 2262",
            PgType::Time if binary => ", or beyond a day",
            PgType::Date if binary => ", or beyond the calendar",
            PgType::Interval if binary => ", or beyond 292 years of nanoseconds",
            _ => "",
        };
        Problem::error("22P03", format!("parameter `${number}` is no {form} form of `{}`{beyond}", of.word()))
    };
    if of.array {
        let items = if binary { binary_items(value, of.element) } else { text_items(&value, of.element) };
        return items.map(Parameter::List).ok_or_else(wrong);
    }
    if binary {
        return match known {
            Known::Named(UUID, _) => uuid(&value),
            Known::Named(oid, _) => element(value, oid, of.element),
            Known::Implied(_) => from_binary(value, of.element),
        }
        .ok_or_else(wrong);
    }
    let text = std::str::from_utf8(&value).map_err(|_| {
        Problem::error("22021", format!("parameter `${number}` is not UTF-8")).hint("set `client_encoding` to `UTF8`")
    })?;
    let (read, word) = match known {
        Known::Named(UUID, _) => (read_uuid(text).map(Parameter::Text), "uuid".to_owned()),
        _ => (from_text(text, of.element), of.word()),
    };
    match (read, known) {
        (Some(value), _) => Ok(value),
        // What is compared with an attribute is taken for a number, and may be a text all the same. A time that is written otherwise the
        // engine reads, or says what is wrong with it.
        (None, Known::Implied(ColumnType { element, .. })) if element == PgType::Float8 || is_time(element) => {
            Ok(Parameter::Text(text.to_owned()))
        }
        (None, _) => {
            let hint = match of.element {
                PgType::Date => "write it as `2026-01-31`",
                PgType::Time => "write it as `12:34:56.789`",
                PgType::Timestamp | PgType::Timestamptz => {
                    "write it as `2026-01-31T12:34:56Z`, from the year 1678 to 2261"
                }
                PgType::Interval => "write it as `1 day 02:30:00`",
                _ => "",
            };
            let problem = Problem::error("22P02", format!("parameter `${number}` is no `{word}`: `{}`", short(text)));
            Err(if hint.is_empty() { problem } else { problem.hint(hint) })
        }
    }
}

fn is_time(of: PgType) -> bool {
    matches!(of, PgType::Date | PgType::Time | PgType::Timestamp | PgType::Timestamptz)
}

/// Writes the bytes of a UUID as text.
fn uuid(value: &Bytes) -> Option<Parameter> {
    let bytes: [u8; 16] = value.as_ref().try_into().ok()?;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Some(Parameter::Text(parts.join("-")))
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

pub(super) fn from_text(text: &str, of: PgType) -> Option<Parameter> {
    let trimmed = text.trim();
    Some(match of {
        PgType::Bool => Parameter::Boolean(match trimmed.to_ascii_lowercase().as_str() {
            "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => true,
            "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => false,
            _ => return None,
        }),
        PgType::Int2 | PgType::Int4 | PgType::Int8 => Parameter::Integer(trimmed.parse().ok()?),
        PgType::Float4 | PgType::Float8 => Parameter::Float(trimmed.parse().ok()?),
        PgType::Numeric => number(trimmed)?,
        PgType::Bytea => match trimmed.strip_prefix("\\x") {
            Some(digits) => Parameter::Bytes(hex(digits)?),
            None => Parameter::Bytes(escaped(text)?),
        },
        PgType::Interval => {
            let interval = read_interval(trimmed)?;
            Parameter::Interval { months: interval.months, days: interval.days, nanos: interval.nanoseconds }
        }
        PgType::Date => Parameter::Date(time::read_date(trimmed)?),
        PgType::Time => Parameter::Clock(time::read_clock(trimmed)?),
        PgType::Timestamp | PgType::Timestamptz => {
            let zoned = of == PgType::Timestamptz;
            Parameter::Time { nanos: time::read_timestamp(trimmed, zoned)?, zoned }
        }
        PgType::Text | PgType::Jsonb => Parameter::Text(text.to_owned()),
    })
}

/// Keeps the digits of a number, which are pasted as a literal: nothing else may pass.
fn number(text: &str) -> Option<Parameter> {
    let float: f64 = text.parse().ok()?;
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    Some(if text.chars().all(digits) { Parameter::Number(text.to_owned()) } else { Parameter::Float(float) })
}

/// Reads bytes in the older form of Postgres: text, in which `\\\\` is a backslash and `\\377` a byte.
fn escaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                after
            }
            (b'\\', _) => return None,
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    Some(bytes)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Reads the binary form of a value of type `oid`, which is kept as `of`.
fn element(mut value: Bytes, oid: u32, of: PgType) -> Option<Parameter> {
    match oid {
        UUID => uuid(&value),
        // Object ids have no sign.
        26 | 2205 | 2206 if value.len() == 4 => Some(Parameter::Integer(i64::from(value.try_get_u32().ok()?))),
        _ => from_binary(value, of),
    }
}

fn from_binary(mut value: Bytes, of: PgType) -> Option<Parameter> {
    let parameter = match of {
        PgType::Bool => Parameter::Boolean(value.try_get_u8().ok()? != 0),
        PgType::Int2 | PgType::Int4 | PgType::Int8 => {
            // Programs send what their own integers are, whatever was announced.
            let wide = match value.len() {
                2 => i64::from(value.try_get_i16().ok()?),
                4 => i64::from(value.try_get_i32().ok()?),
                8 => value.try_get_i64().ok()?,
                _ => return None,
            };
            Parameter::Integer(wide)
        }
        PgType::Float4 => Parameter::Float(f64::from(value.try_get_f32().ok()?)),
        PgType::Float8 => Parameter::Float(value.try_get_f64().ok()?),
        PgType::Numeric => number(&decimal::read(std::mem::take(&mut value)).ok()?)?,
        PgType::Bytea => Parameter::Bytes(std::mem::take(&mut value).to_vec()),
        PgType::Text => Parameter::Text(String::from_utf8(std::mem::take(&mut value).to_vec()).ok()?),
        PgType::Jsonb => {
            // `json` has no version before it.
            let text = std::mem::take(&mut value);
            let text = text.strip_prefix(&[1]).unwrap_or(&text[..]);
            Parameter::Text(String::from_utf8(text.to_vec()).ok()?)
        }
        PgType::Date => {
            let days = i64::from(value.try_get_i32().ok()?) + EPOCH_DAYS;
            Parameter::Date(i32::try_from(days).ok().filter(|days| DAYS.contains(days))?)
        }
        PgType::Timestamp | PgType::Timestamptz => {
            let micros = value.try_get_i64().ok()?.checked_add(EPOCH_MICROS)?;
            Parameter::Time { nanos: micros.checked_mul(1_000)?, zoned: of == PgType::Timestamptz }
        }
        PgType::Time => {
            let micros = value.try_get_i64().ok()?;
            Parameter::Clock((0..MICROS_PER_DAY).contains(&micros).then(|| micros * 1_000)?)
        }
        PgType::Interval => {
            let nanos = value.try_get_i64().ok()?.checked_mul(1_000)?;
            let (days, months) = (value.try_get_i32().ok()?, value.try_get_i32().ok()?);
            Parameter::Interval { months, days, nanos }
        }
    };
    value.is_empty().then_some(parameter)
}

/// Reads the items of an array in its binary form.
fn binary_items(mut value: Bytes, of: PgType) -> Option<Vec<Parameter>> {
    let dimensions = value.try_get_u32().ok()?;
    let nulls = value.try_get_u32().ok()?;
    if nulls > 1 {
        return None;
    }
    let oid = value.try_get_u32().ok()?;
    // The items say themselves what they are.
    let of = ColumnType::from_oid(oid).filter(|own| !own.array).map_or(of, |own| own.element);
    if dimensions == 0 {
        return value.is_empty().then(Vec::new);
    }
    if dimensions != 1 {
        return None;
    }
    let count = value.try_get_u32().ok()?;
    let _lower = value.try_get_u32().ok()?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(match value.try_get_i32().ok()? {
            -1 => Parameter::Null,
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= value.len())?;
                element(value.split_to(length), oid, of)?
            }
        });
    }
    value.is_empty().then_some(items)
}

fn text_items(value: &[u8], of: PgType) -> Option<Vec<Parameter>> {
    let items = array_items(std::str::from_utf8(value).ok()?)?;
    items.into_iter().map(|item| item.map_or(Some(Parameter::Null), |item| from_text(&item, of))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(element: PgType) -> ColumnType {
        ColumnType { element, array: false }
    }

    #[test]
    fn both_forms_of_a_value_are_the_same_parameter() {
        let text = |text: &'static str, of| {
            read(1, Some(Bytes::from_static(text.as_bytes())), false, Known::Implied(plain(of)))
        };
        let binary = |bytes: Vec<u8>, of| read(1, Some(Bytes::from(bytes)), true, Known::Implied(plain(of)));
        assert_eq!(text("-7", PgType::Int4), binary((-7_i32).to_be_bytes().to_vec(), PgType::Int4));
        assert_eq!(text("t", PgType::Bool), binary(vec![1], PgType::Bool));
        assert_eq!(text("1.5", PgType::Float8), binary(1.5_f64.to_be_bytes().to_vec(), PgType::Float8));
        assert_eq!(text("\\x00ff", PgType::Bytea), binary(vec![0, 255], PgType::Bytea));
        let at = binary(0_i64.to_be_bytes().to_vec(), PgType::Timestamptz).expect("an instant");
        assert_eq!(at, Parameter::Time { nanos: 946_684_800_000_000_000, zoned: true });
        let early = binary((-1_000_000_000_000_000_i64).to_be_bytes().to_vec(), PgType::Timestamp).expect("a date");
        assert_eq!(early, Parameter::Time { nanos: -53_315_200_000_000_000, zoned: false });
        let mut day = 1_000_000_i64.to_be_bytes().to_vec();
        day.extend([0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(binary(day, PgType::Interval), text("1 day 00:00:01", PgType::Interval));
        assert_eq!(
            binary(3_723_000_004_i64.to_be_bytes().to_vec(), PgType::Time),
            text("01:02:03.000004", PgType::Time)
        );
        assert_eq!(binary(0_i32.to_be_bytes().to_vec(), PgType::Date), text("2000-01-01", PgType::Date));
    }

    #[test]
    fn both_forms_of_an_array_are_the_same_list() {
        let of = ColumnType { element: PgType::Int8, array: true };
        let text = read(1, Some(Bytes::from_static(b"{7,NULL}")), false, Known::Implied(of)).expect("an array");
        let mut binary = Vec::new();
        for part in [1_u32, 1, 20, 2, 1, 8] {
            binary.extend_from_slice(&part.to_be_bytes());
        }
        binary.extend_from_slice(&7_i64.to_be_bytes());
        binary.extend_from_slice(&(-1_i32).to_be_bytes());
        assert_eq!(read(1, Some(Bytes::from(binary)), true, Known::Implied(of)).expect("an array"), text);
        assert_eq!(text, Parameter::List(vec![Parameter::Integer(7), Parameter::Null]));
        for wrong in ["7", "{7", "{a}", "{{7}}"] {
            assert!(read(1, Some(Bytes::from(wrong)), false, Known::Implied(of)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_uuid_and_a_date_with_a_zone_are_read_as_programs_send_them() {
        let of = plain(PgType::Text);
        let bytes = Bytes::from(10_u128.to_be_bytes().to_vec());
        let told = read(1, Some(bytes), true, Known::Named(UUID, of)).expect("a UUID");
        assert_eq!(told, Parameter::Text("00000000-0000-0000-0000-00000000000a".to_owned()));
        assert!(read(1, Some(Bytes::from_static(b"short")), true, Known::Named(UUID, of)).is_err());
        let told =
            |text: &'static str| read(1, Some(Bytes::from_static(text.as_bytes())), false, Known::Named(UUID, of));
        let usual = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_owned();
        assert_eq!(told("{A0EEBC999C0B4EF8BB6D6BB9BD380A11}").expect("a UUID"), Parameter::Text(usual));
        assert!(told("short").is_err());
        let told = from_text("1970-01-01 -0530", PgType::Timestamptz);
        assert_eq!(told, Some(Parameter::Time { nanos: 19_800_000_000_000, zoned: true }));
    }

    #[test]
    fn a_time_that_was_declared_is_one_and_one_that_is_implied_may_be_for_the_engine_to_read() {
        let of = plain(PgType::Timestamptz);
        let told = |text: &'static str, known| read(1, Some(Bytes::from_static(text.as_bytes())), false, known);
        assert_eq!(told("soon", Known::Implied(of)).expect("text"), Parameter::Text("soon".to_owned()));
        assert_eq!(told("soon", Known::Named(1184, of)).expect_err("no time").code, "22P02");
        let instant = Parameter::Time { nanos: 0, zoned: true };
        for known in [Known::Implied(of), Known::Named(1184, of)] {
            assert_eq!(told("1970-01-01 00:00:00+00", known).expect("an instant"), instant);
        }
    }

    #[test]
    fn what_an_attribute_is_compared_with_is_a_number_where_it_is_one() {
        let of = Known::Implied(plain(PgType::Float8));
        let text = |text: &'static str| read(1, Some(Bytes::from_static(text.as_bytes())), false, of).expect("a value");
        assert_eq!(text("8"), Parameter::Float(8.0));
        assert_eq!(text("1.2.3"), Parameter::Text("1.2.3".to_owned()));
        let named = Known::Named(701, plain(PgType::Float8));
        assert!(read(1, Some(Bytes::from_static(b"1.2.3")), false, named).is_err());
    }

    #[test]
    fn values_beyond_their_range_are_told_and_not_wrapped() {
        let told = |bytes: Vec<u8>, of| read(1, Some(Bytes::from(bytes)), true, Known::Implied(plain(of)));
        for (bytes, of, word) in [
            (86_400_000_000_i64.to_be_bytes().to_vec(), PgType::Time, "beyond a day"),
            ((-1_i64).to_be_bytes().to_vec(), PgType::Time, "beyond a day"),
            (i32::MAX.to_be_bytes().to_vec(), PgType::Date, "beyond the calendar"),
            (i32::MIN.to_be_bytes().to_vec(), PgType::Date, "beyond the calendar"),
            (i64::MAX.to_be_bytes().to_vec(), PgType::Timestamptz, "1677 to 2262"),
            (i64::MIN.to_be_bytes().to_vec(), PgType::Timestamp, "1677 to 2262"),
            ([i64::MAX.to_be_bytes().as_slice(), &[0; 8]].concat(), PgType::Interval, "292 years"),
            (vec![0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10], PgType::Numeric, "numeric"),
            (vec![0, 0, 0, 0, 0x12, 0x34, 0, 0], PgType::Numeric, "numeric"),
        ] {
            match told(bytes.clone(), of) {
                Err(problem) => assert!(problem.message.contains(word), "{}", problem.message),
                Ok(value) => panic!("{bytes:?} should be no {of:?}: {value:?}"),
            }
        }
        let last = told(86_399_999_999_i64.to_be_bytes().to_vec(), PgType::Time);
        assert_eq!(last.expect("a time of day"), Parameter::Clock(86_399_999_999_000));
        for (sign, wanted) in [(0xd0, f64::INFINITY), (0xf0, f64::NEG_INFINITY)] {
            let told = told(vec![0, 0, 0, 0, sign, 0, 0, 0], PgType::Numeric);
            assert_eq!(told.expect("an infinity"), Parameter::Float(wanted));
        }
    }

    #[test]
    fn items_of_an_array_are_read_as_what_they_say_they_are() {
        let mut array = Vec::new();
        for part in [1_u32, 0, 23, 1, 1, 4] {
            array.extend_from_slice(&part.to_be_bytes());
        }
        array.extend_from_slice(&7_i32.to_be_bytes());
        let of = ColumnType { element: PgType::Text, array: true };
        let told = read(1, Some(Bytes::from(array.clone())), true, Known::Implied(of)).expect("an array");
        assert_eq!(told, Parameter::List(vec![Parameter::Integer(7)]));
        // Neither flag nor number of dimensions is what it should be.
        for (at, byte) in [(7, 2), (3, 2)] {
            let mut wrong = array.clone();
            wrong[at] = byte;
            assert!(read(1, Some(Bytes::from(wrong)), true, Known::Implied(of)).is_err());
        }
    }

    #[test]
    fn bytes_in_their_older_form_and_object_ids_without_a_sign_are_read() {
        assert_eq!(from_text("a\\\\\\377", PgType::Bytea), Some(Parameter::Bytes(vec![b'a', b'\\', 255])));
        assert_eq!(from_text("a\\9", PgType::Bytea), None);
        let oid = ColumnType::from_oid(26).expect("oid is known");
        let told = read(1, Some(Bytes::from(u32::MAX.to_be_bytes().to_vec())), true, Known::Named(26, oid));
        assert_eq!(told.expect("an object id"), Parameter::Integer(i64::from(u32::MAX)));
    }

    #[test]
    fn what_is_no_number_is_refused_and_not_pasted() {
        for wrong in ["1; DROP TABLE spans", "0x1", "", "1 OR 1=1"] {
            assert!(
                read(1, Some(Bytes::from(wrong)), false, Known::Implied(plain(PgType::Numeric))).is_err(),
                "{wrong}"
            );
            assert!(read(1, Some(Bytes::from(wrong)), false, Known::Implied(plain(PgType::Int8))).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..40), binary: bool, oid in 0_u32..4000, array: bool,
        ) {
            let of = ColumnType::from_oid(oid).unwrap_or(ColumnType { element: PgType::Int4, array });
            let _ = read(1, Some(Bytes::from(bytes)), binary, Known::Named(oid, of));
        }
    }
}
