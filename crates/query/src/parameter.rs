//! Values of parameters, and the literals that stand for them.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, CastKind, DataType as SqlType, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, Interval, ObjectName, TimezoneInfo,
    Value as Literal,
};
use serde_json::Value;

use crate::error::QueryError;

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// No value.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction; not-a-number and infinities too.
    Float(f64),
    /// A number as its digits say, of any size.
    Number(String),
    /// Text; also how times, ids and words are given.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An instant, or without a zone the date and the time of day that a clock shows.
    Time {
        /// Nanoseconds since 1970.
        nanos: i64,
        /// Whether it is an instant.
        zoned: bool,
    },
    /// A date, in days since 1970.
    Date(i32),
    /// A time of day, in nanoseconds since midnight.
    Clock(i64),
    /// A length of time.
    Interval {
        /// Months, which are of no fixed length.
        months: i32,
        /// Days.
        days: i32,
        /// Nanoseconds.
        nanos: i64,
    },
    /// Several of them, none of which is a list: what `= ANY($1)` takes.
    List(Vec<Parameter>),
}

impl Parameter {
    /// Reads parameter `$number` from JSON.
    ///
    /// # Errors
    /// The value is an object, or a list with a list or an object in it.
    pub fn from_json(number: usize, value: &Value) -> Result<Self, QueryError> {
        let scalar = |value: &Value| {
            Ok(match value {
                Value::Null => Self::Null,
                Value::Bool(value) => Self::Boolean(*value),
                Value::Number(value) => Self::Number(value.to_string()),
                Value::String(value) => Self::Text(value.clone()),
                Value::Array(_) | Value::Object(_) => {
                    return Err(QueryError::Invalid(format!(
                        "parameter `${number}` is an object or has one in it, or lists in a list: give text, a number, true, false, \
                         null, or one list of those"
                    )));
                }
            })
        };
        match value {
            Value::Array(items) => items.iter().map(scalar).collect::<Result<_, _>>().map(Self::List),
            other => scalar(other),
        }
    }

    /// Reads all parameters of a JSON list.
    ///
    /// # Errors
    /// Those of [`Self::from_json`].
    pub fn all_from_json(values: &[Value]) -> Result<Vec<Self>, QueryError> {
        values.iter().enumerate().map(|(at, value)| Self::from_json(at + 1, value)).collect()
    }

    /// Returns the bytes that its value takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Number(text) | Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.iter().map(Self::bytes).sum(),
            _ => 16,
        }
    }

    /// Writes the value as SQL, of the type `wanted` where a client named one.
    pub(crate) fn literal(&self, wanted: Option<&DataType>) -> Expr {
        let literal = match (self, wanted) {
            // Through a number with a fraction digits would be lost.
            (
                Self::Number(digits),
                Some(DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..)),
            ) => text(digits.clone()),
            _ => self.plain(),
        };
        match wanted {
            Some(wanted) if !matches!(self, Self::Text(_)) && !self.is(wanted) => {
                typed(literal.clone(), wanted).unwrap_or(literal)
            }
            _ => literal,
        }
    }

    fn plain(&self) -> Expr {
        let value = match self {
            Self::Null => Literal::Null,
            Self::Boolean(value) => Literal::Boolean(*value),
            Self::Integer(value) => Literal::Number(value.to_string(), false),
            Self::Float(value) if value.is_finite() => Literal::Number(format!("{value:e}"), false),
            Self::Float(value) => return cast(text(value.to_string()), SqlType::Double(ExactNumberInfo::None)),
            Self::Number(digits) => match exact(digits) {
                Some(scale) => return cast(text(digits.clone()), decimal(38, scale)),
                None => Literal::Number(digits.clone(), false),
            },
            Self::Text(text) => Literal::SingleQuotedString(text.clone()),
            Self::Bytes(bytes) => {
                let mut digits = String::with_capacity(bytes.len() * 2);
                crate::functions::hex::push_hex(&mut digits, bytes);
                Literal::HexStringLiteral(digits)
            }
            Self::Time { nanos, zoned } => return counted(*nanos, if *zoned { INSTANT } else { WALL_CLOCK }),
            Self::Date(days) => {
                return counted_in(cast(number(i64::from(*days)), SqlType::Integer(None)), "Date32");
            }
            Self::Clock(nanos) => return counted(*nanos, "Time64(ns)"),
            Self::Interval { months, days, nanos } => {
                let (seconds, rest) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
                let sign = if *nanos < 0 { "-" } else { "" };
                let seconds = seconds.unsigned_abs();
                let written = format!("{months} months {days} days {sign}{seconds}.{rest:09} seconds");
                return Expr::Interval(Interval {
                    value: Box::new(text(written)),
                    leading_field: None,
                    leading_precision: None,
                    last_field: None,
                    fractional_seconds_precision: None,
                });
            }
            Self::List(items) => {
                return Expr::Array(Array { elem: items.iter().map(Self::plain).collect(), named: true });
            }
        };
        Expr::value(value)
    }

    /// Says whether its literal has this type as it stands.
    fn is(&self, wanted: &DataType) -> bool {
        match self {
            Self::Boolean(_) => matches!(wanted, DataType::Boolean),
            Self::Integer(_) => matches!(wanted, DataType::Int64),
            Self::Float(_) => matches!(wanted, DataType::Float64),
            Self::Bytes(_) => matches!(wanted, DataType::Binary | DataType::LargeBinary | DataType::BinaryView),
            Self::Time { zoned, .. } => matches!(wanted, DataType::Timestamp(_, zone) if zone.is_some() == *zoned),
            Self::Date(_) => matches!(wanted, DataType::Date32 | DataType::Date64),
            Self::Clock(_) => matches!(wanted, DataType::Time32(_) | DataType::Time64(_)),
            Self::Interval { .. } => matches!(wanted, DataType::Interval(_) | DataType::Duration(_)),
            _ => false,
        }
    }
}

/// Types that only `arrow_cast` can name: that of the times of tables, and the same without a zone.
const INSTANT: &str = "Timestamp(ns, \"UTC\")";
const WALL_CLOCK: &str = "Timestamp(ns)";

fn text(text: String) -> Expr {
    Expr::value(Literal::SingleQuotedString(text))
}

fn number(number: i64) -> Expr {
    Expr::value(Literal::Number(number.to_string(), false))
}

fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn decimal(precision: u8, scale: i8) -> SqlType {
    SqlType::Numeric(ExactNumberInfo::PrecisionAndScale(u64::from(precision), i64::from(scale)))
}

fn counted(count: i64, data_type: &str) -> Expr {
    counted_in(number(count), data_type)
}

/// Reads a count of days or nanoseconds as one of the types that are made of them.
fn counted_in(expr: Expr, data_type: &str) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("arrow_cast")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument(expr), argument(text(data_type.to_owned()))],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Returns the digits behind the point of a number that a float would not hold, where a decimal does, and no integer.
fn exact(digits: &str) -> Option<i8> {
    let unsigned = digits.trim_start_matches(['-', '+']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.is_empty()
        && (digits.parse::<i64>().is_ok() || unsigned.parse::<u64>().is_ok() && !digits.starts_with('-'))
    {
        return None;
    }
    let significant = whole.trim_start_matches('0').len() + fraction.len();
    (plain(whole) && plain(fraction) && (16..=38).contains(&significant)).then(|| i8::try_from(fraction.len()).ok())?
}

/// Gives `expr` a type that a client named for a parameter; `None` where the parameter is left as it is.
pub(crate) fn typed(expr: Expr, data_type: &DataType) -> Option<Expr> {
    match data_type {
        DataType::Timestamp(_, Some(_)) => Some(counted_in(expr, INSTANT)),
        DataType::Utf8 => None,
        _ => Some(cast(expr, written(data_type)?)),
    }
}

/// Returns how a type is written; `None` where it is not.
pub(crate) fn written(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Utf8 => SqlType::Text,
        DataType::Boolean => SqlType::Boolean,
        DataType::Int8 | DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Integer(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => SqlType::BigIntUnsigned(None),
        DataType::Float16 | DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::Double(ExactNumberInfo::None),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => SqlType::Bytea,
        DataType::Date32 | DataType::Date64 => SqlType::Date,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time(None, TimezoneInfo::None),
        DataType::Timestamp(_, None) => SqlType::Timestamp(None, TimezoneInfo::None),
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamp(None, TimezoneInfo::WithTimeZone),
        DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval { fields: None, precision: None },
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => decimal(*precision, *scale),
        _ => return None,
    })
}

/// Returns the type of what is cast to `named`, where a parameter may have it.
pub(crate) fn implied(named: &SqlType) -> Option<DataType> {
    let nanos = TimeUnit::Nanosecond;
    Some(match named {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 | SqlType::Float(_) => DataType::Float64,
        SqlType::Numeric(of) | SqlType::Decimal(of) | SqlType::Dec(of) => {
            let (precision, scale) = match of {
                ExactNumberInfo::None => (38, 10),
                ExactNumberInfo::Precision(precision) => (*precision, 0),
                ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
            };
            DataType::Decimal128(u8::try_from(precision).ok().filter(|of| *of <= 38)?, i8::try_from(scale).ok()?)
        }
        SqlType::Date => DataType::Date32,
        SqlType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time64(nanos),
        SqlType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Timestamp(nanos, None),
        SqlType::Timestamp(..) => DataType::Timestamp(nanos, Some("UTC".into())),
        SqlType::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        SqlType::Bytea => DataType::Binary,
        SqlType::Text | SqlType::Varchar(_) => DataType::Utf8,
        SqlType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            DataType::new_list(implied(item)?, true)
        }
        SqlType::Custom(name, _) => of_catalogue(name)?,
        _ => return None,
    })
}

/// Returns the type that `pg_catalog` has under a name, as programs write it that look types up: `pg_catalog.int8`.
pub(crate) fn of_catalogue(name: &ObjectName) -> Option<DataType> {
    let [schema, name] = name.0.as_slice() else { return None };
    if !schema.to_string().trim_matches('"').eq_ignore_ascii_case("pg_catalog") {
        return None;
    }
    let nanos = TimeUnit::Nanosecond;
    Some(match name.to_string().to_lowercase().trim_matches('"') {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "numeric" => DataType::Decimal128(38, 10),
        "date" => DataType::Date32,
        "time" => DataType::Time64(nanos),
        "timestamp" => DataType::Timestamp(nanos, None),
        "timestamptz" => DataType::Timestamp(nanos, Some("UTC".into())),
        "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
        "bytea" => DataType::Binary,
        "text" | "varchar" | "name" => DataType::Utf8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_float_does_not_hold_are_decimals() {
        let written = |digits: &str| Parameter::Number(digits.to_owned()).literal(None).to_string();
        assert_eq!(written("1.5"), "1.5");
        assert_eq!(
            written("-12345678901234567890.123456789"),
            "CAST('-12345678901234567890.123456789' AS NUMERIC(38,9))"
        );
        assert_eq!(written("1e300"), "1e300");
        assert_eq!(written("18446744073709551615"), "18446744073709551615");
        assert_eq!(written("18446744073709551616"), "CAST('18446744073709551616' AS NUMERIC(38,0))");
        assert_eq!(written("-9223372036854775809"), "CAST('-9223372036854775809' AS NUMERIC(38,0))");
        let wanted = DataType::Decimal128(20, 2);
        let typed = Parameter::Number("123456789012345678.25".to_owned()).literal(Some(&wanted)).to_string();
        assert_eq!(typed, "CAST('123456789012345678.25' AS NUMERIC(20,2))");
    }

    #[test]
    fn lengths_of_time_have_their_signs() {
        let written = |months, days, nanos| Parameter::Interval { months, days, nanos }.literal(None).to_string();
        assert_eq!(written(1, -2, 3), "INTERVAL '1 months -2 days 0.000000003 seconds'");
        assert_eq!(written(0, 0, -500_000_000), "INTERVAL '0 months 0 days -0.500000000 seconds'");
        assert_eq!(written(0, 0, i64::MIN), "INTERVAL '0 months 0 days -9223372036.854775808 seconds'");
    }
}
