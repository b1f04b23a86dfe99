//! Times in a statement that the planner reads otherwise than Postgres does, written as functions that read them so.
//!
//! - `x AT TIME ZONE 'z'`, `timezone('z', x)` and `date_trunc(field, x, 'z')`: see [`zones`].
//! - `EXTRACT(EPOCH FROM x)` and `EXTRACT(SECOND FROM x)` keep what is below a second ([`lengths`]).
//! - `INTERVAL '1 day 02:30:00'`, `INTERVAL '5' DAY`, `'5 days'::interval`: every spelling that Postgres has ([`crate::postgres::interval`]),
//!   and none besides; the sign of `-INTERVAL '1 day 2 hours'` is for all of it.
//! - `TIMESTAMP '2026-01-31 12:00'`: a time without seconds.

use std::ops::ControlFlow;

use arrow::array::timezone::Tz;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, DateTimeField, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Interval, Statement,
    TimezoneInfo, UnaryOperator, Value, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::text;
use crate::error::QueryError;
use crate::functions::meant::APART;
use crate::functions::{lengths, zones};
use crate::parameter::Parameter;
use crate::postgres::interval;
use crate::walk;
use crate::wanted::call;

/// Refuses `INTERVAL(3) '1.2345 s'`, of which the parser drops the number.
pub(crate) fn without_precision(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let said: Vec<&Token> =
        tokens.iter().map(|token| &token.token).filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    let precise_interval = said.windows(5).any(|said| {
        matches!(said, [Token::Word(word), Token::LParen, Token::Number(..), Token::RParen, Token::SingleQuotedString(_)]
            if word.value.eq_ignore_ascii_case("interval"))
    });
    if precise_interval { Err(precise()) } else { Ok(()) }
}

fn precise() -> QueryError {
    QueryError::Refused("intervals have no precision here: leave the number in brackets out".to_owned())
}

/// Rewrites `statement`.
pub(crate) fn settle(statement: &mut Statement) -> Result<(), QueryError> {
    match walk::visit_mut(statement, &mut Clocks) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Clocks;

impl VisitorMut for Clocks {
    type Break = QueryError;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        match rewritten(expr) {
            Ok(Some(written)) => *expr = written,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

fn rewritten(expr: &mut Expr) -> Result<Option<Expr>, QueryError> {
    Ok(match expr {
        Expr::AtTimeZone { timestamp, time_zone } => at_zone(timestamp, time_zone)?,
        Expr::Extract { field, expr: of, .. } => match field {
            DateTimeField::Epoch => Some(part("epoch", of)),
            DateTimeField::Second | DateTimeField::Seconds => Some(part("second", of)),
            _ => None,
        },
        Expr::Interval(written) => {
            settle_interval(written)?;
            None
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => negated(inner),
        Expr::Cast { expr: value, data_type: DataType::Timestamp(..), .. } => {
            if let Some(whole) = text(value).and_then(with_seconds) {
                **value = literal(&whole);
            }
            None
        }
        Expr::TypedString(typed) if matches!(typed.data_type, DataType::Timestamp(..)) => {
            if let Value::SingleQuotedString(written) = &typed.value.value
                && let Some(whole) = with_seconds(written)
            {
                typed.value.value = Value::SingleQuotedString(whole);
            }
            None
        }
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr: value,
            data_type: DataType::Interval { fields: None, precision: None },
            ..
        } => match text(value) {
            Some(written) => Some(literal_interval(read(written)?)),
            None => None,
        },
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            let FunctionArguments::List(list) = &function.args else { return Ok(None) };
            let arguments: Vec<&Expr> = list
                .args
                .iter()
                .filter_map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                    _ => None,
                })
                .collect();
            match (name.as_str(), arguments.as_slice()) {
                ("timezone", [zone, time]) => at_zone(time, zone)?,
                ("date_trunc" | "datetrunc", [field, time, zone]) => {
                    let instant = Expr::Cast {
                        kind: CastKind::Cast,
                        expr: Box::new((*time).clone()),
                        data_type: DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
                        array: false,
                        format: None,
                    };
                    // A cast alone is in no name.
                    let instant = call(APART, [instant, literal("timestamptz")]);
                    let Some(shown) = at_zone(&instant, zone)? else { return Ok(None) };
                    at_zone(&call("date_trunc", [(*field).clone(), shown]), zone)?
                }
                ("date_part" | "datepart", [field, of]) => match text(field).map(str::to_lowercase).as_deref() {
                    Some("epoch") => Some(part("epoch", of)),
                    Some("second" | "seconds") => Some(part("second", of)),
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    })
}

fn part(part: &str, of: &Expr) -> Expr {
    call(lengths::PART, [literal(part), of.clone()])
}

fn literal(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
}

fn at_zone(time: &Expr, zone: &Expr) -> Result<Option<Expr>, QueryError> {
    if let Expr::Interval(_) = zone {
        return Err(QueryError::Invalid("write the zone as text, for instance `AT TIME ZONE '+02:00'`".to_owned()));
    }
    let Some(name) = text(zone) else { return Ok(None) };
    let known = ["utc", "gmt", "z", "zulu"].iter().any(|known| name.eq_ignore_ascii_case(known));
    let name = if known { "UTC" } else { name };
    if name.parse::<Tz>().is_err() {
        return Err(QueryError::Invalid(format!(
            "unknown time zone `{name}`: write one like `Europe/Oslo`, `UTC` or `+02:00`"
        )));
    }
    Ok(Some(call(zones::AT, [time.clone(), literal(name)])))
}

/// Returns a time that is written without its seconds, `2026-01-31 12:00`, with them.
pub(crate) fn with_seconds(written: &str) -> Option<String> {
    let (minutes, rest) = written.trim().split_at_checked("2026-01-31 12:00".len())?;
    let digits = |from: usize, to: usize| minutes.as_bytes()[from..to].iter().all(u8::is_ascii_digit);
    let bytes = minutes.as_bytes();
    let signs = (bytes[4], bytes[7], bytes[10], bytes[13]);
    let shaped = matches!(signs, (b'-', b'-', b' ' | b'T' | b't', b':'))
        && [(0, 4), (5, 7), (8, 10), (11, 13), (14, 16)].into_iter().all(|(from, to)| digits(from, to));
    let zoned = rest.is_empty() || rest.trim_start().starts_with(['Z', 'z', '+', '-']);
    (shaped && zoned).then(|| format!("{minutes}:00{}", rest.trim_start()))
}

fn read(written: &str) -> Result<IntervalMonthDayNano, QueryError> {
    interval::read(written).ok_or_else(|| QueryError::Invalid(interval::unreadable(written)))
}

/// Writes the text of an interval in units that the planner reads as they are meant.
fn settle_interval(written: &mut Interval) -> Result<(), QueryError> {
    if written.last_field.is_some() {
        return Err(QueryError::Refused(
            "`INTERVAL .. TO ..` is not supported: write the units in the text, for instance `INTERVAL '1 year 2 months'`"
                .to_owned(),
        ));
    }
    if written.leading_precision.is_some() || written.fractional_seconds_precision.is_some() {
        return Err(precise());
    }
    let Some(value) = counted(&written.value) else { return Ok(()) };
    let read = match &written.leading_field {
        Some(field) => interval::read_to(&value, field)
            .ok_or_else(|| QueryError::Invalid(interval::unreadable(&format!("{value} {field}"))))?,
        None => read(&value)?,
    };
    if let Expr::Interval(interval) = literal_interval(read) {
        *written = interval;
    }
    Ok(())
}

/// Returns what is between the quotes of an interval, or its number.
fn counted(value: &Expr) -> Option<String> {
    match value {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => Some(format!("-{}", value.value)),
            _ => None,
        },
        Expr::Value(value) if matches!(value.value, Value::Number(..)) => Some(value.value.to_string()),
        other => text(other).map(str::to_owned),
    }
}

/// Writes an interval as a literal.
pub(crate) fn literal_interval(interval: IntervalMonthDayNano) -> Expr {
    Parameter::Interval { months: interval.months, days: interval.days, nanos: interval.nanoseconds }.literal(None)
}

/// Takes the sign before an interval for all of it: the planner takes it for what stands first.
fn negated(inner: &Expr) -> Option<Expr> {
    let Expr::Interval(written) = inner else { return None };
    let of = text(&written.value).filter(|_| written.leading_field.is_none()).and_then(interval::read)?;
    let parts = (of.months.checked_neg()?, of.days.checked_neg()?, of.nanoseconds.checked_neg()?);
    Some(literal_interval(IntervalMonthDayNano::new(parts.0, parts.1, parts.2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_seconds_get_them() {
        assert_eq!(with_seconds("2026-01-31 12:00").as_deref(), Some("2026-01-31 12:00:00"));
        assert_eq!(with_seconds("2026-01-31T12:00 +02:00").as_deref(), Some("2026-01-31T12:00:00+02:00"));
        for other in ["2026-01-31 12:00:01", "2026-01-31", "2026-01-31 12:0\u{e9}", "2026-01-31 12:00 noon"] {
            assert_eq!(with_seconds(other), None, "{other}");
        }
    }
}
