//! Times in a statement that the planner reads otherwise than Postgres does, written as functions that read them so.
//!
//! - `x AT TIME ZONE 'z'`, `timezone('z', x)` and `date_trunc(field, x, 'z')`: see [`zones`].
//! - `EXTRACT(EPOCH FROM x)` and `EXTRACT(SECOND FROM x)` keep what is below a second ([`lengths`]).
//! - `INTERVAL '1 day 02:30:00'`: hours, minutes and seconds between colons.
//! - `TIMESTAMP '2026-01-31 12:00'`: a time without seconds.

use std::ops::ControlFlow;

use arrow::array::timezone::Tz;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, DateTimeField, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, TimezoneInfo,
    Value, VisitMut, VisitorMut,
};

use crate::dialect::text;
use crate::error::QueryError;
use crate::functions::meant::APART;
use crate::functions::{lengths, zones};
use crate::wanted::call;

/// Rewrites `statement`.
pub(crate) fn settle(statement: &mut Statement) -> Result<(), QueryError> {
    match VisitMut::visit(statement, &mut Clocks) {
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
        Expr::Interval(interval) if interval.leading_field.is_none() => {
            with_clock(&mut interval.value);
            None
        }
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
        Expr::Cast { expr: value, data_type: DataType::Interval { .. }, .. } => {
            with_clock(value);
            None
        }
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

/// Writes `02:30:00` as `2 hours 30 minutes 0 seconds`.
fn with_clock(value: &mut Expr) {
    let Some(written) = text(value).filter(|written| written.contains(':')) else { return };
    let words: Vec<String> =
        written.split_whitespace().map(|word| units(word).unwrap_or_else(|| word.to_owned())).collect();
    *value = literal(&words.join(" "));
}

fn units(word: &str) -> Option<String> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", word.strip_prefix('+').unwrap_or(word)),
    };
    let parts: Vec<&str> = digits.split(':').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(number) {
        return None;
    }
    let named = parts.iter().zip(["hours", "minutes", "seconds"]).map(|(part, unit)| format!("{sign}{part} {unit}"));
    Some(named.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_in_intervals_are_written_in_units() {
        assert_eq!(units("04:05:06.5").as_deref(), Some("04 hours 05 minutes 06.5 seconds"));
        assert_eq!(units("-1:30").as_deref(), Some("-1 hours -30 minutes"));
        assert_eq!(with_seconds("2026-01-31 12:00").as_deref(), Some("2026-01-31 12:00:00"));
        assert_eq!(with_seconds("2026-01-31T12:00 +02:00").as_deref(), Some("2026-01-31T12:00:00+02:00"));
        for other in ["2026-01-31 12:00:01", "2026-01-31", "2026-01-31 12:0\u{e9}", "2026-01-31 12:00 noon"] {
            assert_eq!(with_seconds(other), None, "{other}");
        }
        for other in ["days", "1:", ":", "1:2:3:4", "a:b"] {
            assert_eq!(units(other), None, "{other}");
        }
    }
}
