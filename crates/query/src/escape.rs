//! `LIKE .. ESCAPE` with a character other than the backslash, which is the only one that the engine knows: written with that.
//!
//! A pattern that is one text is written anew in its place, so that it is bounded and pruned by as any other; one that is put together is
//! written anew once it is whole, as what escapes may stand in one part and what is escaped in the next.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Statement, Value, ValueWithSpan, VisitorMut};

use crate::error::QueryError;
use crate::functions::lacking;
use crate::walk;
use crate::wanted::call;

/// Rewrites `statement`, which has the values of its parameters in it.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    match walk::visit_mut(statement, &mut Escapes) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Escapes;

impl VisitorMut for Escapes {
    type Break = QueryError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else {
            return ControlFlow::Continue(());
        };
        let escape = match escape_char.as_ref().map(text) {
            None | Some(Some("\\")) => return ControlFlow::Continue(()),
            Some(Some(escape)) if escape.chars().count() <= 1 => escape.chars().next(),
            _ => {
                return ControlFlow::Break(QueryError::Invalid(
                    "`ESCAPE` takes one character: write `LIKE '50!%' ESCAPE '!'`".to_owned(),
                ));
            }
        };
        *escape_char = None;
        match pattern.as_mut() {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(written), .. }) => {
                *written = escaped(written, escape);
            }
            // It has no value yet, and what it is follows from where it stands.
            open if is_open(open) => {}
            other => {
                let whole = Expr::Nested(Box::new(std::mem::replace(other, Expr::value(Value::Null))));
                let escape = Value::SingleQuotedString(escape.map(String::from).unwrap_or_default());
                *other = call(lacking::ESCAPE, [whole, Expr::value(escape)]);
            }
        }
        ControlFlow::Continue(())
    }
}

fn text(value: &ValueWithSpan) -> Option<&str> {
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
        _ => None,
    }
}

/// Says whether a pattern has a parameter without a value in it.
fn is_open(pattern: &Expr) -> bool {
    walk::expressions(pattern, |part| match part {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// Writes a pattern with backslashes.
pub(crate) fn escaped(pattern: &str, escape: Option<char>) -> String {
    let mut written = String::with_capacity(pattern.len() + 4);
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        match char {
            _ if Some(char) == escape => match chars.next() {
                Some(next) => {
                    written.push('\\');
                    written.push(next);
                }
                // It ends in the middle: the engine takes what is left for itself.
                None => written.push('\\'),
            },
            '\\' => written.push_str("\\\\"),
            other => written.push(other),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_with_backslashes_what_they_meant() {
        assert_eq!(escaped("pg/_%", Some('/')), "pg\\_%");
        assert_eq!(escaped("50!%!!", Some('!')), "50\\%\\!");
        assert_eq!(escaped("a\\_", Some('!')), "a\\\\_");
        assert_eq!(escaped("a\\%", None), "a\\\\%");
    }
}
