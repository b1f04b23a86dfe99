//! `LIKE .. ESCAPE` with a character other than the backslash, which is the only one that the engine knows: written with that.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Statement, Value, ValueWithSpan, VisitMut, VisitorMut, visit_expressions_mut,
};

use crate::error::QueryError;

/// Rewrites `statement`, which has the values of its parameters in it.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    match VisitMut::visit(statement, &mut Escapes) {
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
        if !literal(pattern) {
            return ControlFlow::Break(QueryError::Refused(
                "`ESCAPE` is for patterns that are written out here: write the pattern as text, or escape with a backslash".to_owned(),
            ));
        }
        let _: ControlFlow<()> = visit_expressions_mut(pattern.as_mut(), |part| {
            if let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(written), .. }) = part {
                *written = escaped(written, escape);
            }
            ControlFlow::Continue(())
        });
        ControlFlow::Continue(())
    }
}

fn text(value: &ValueWithSpan) -> Option<&str> {
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
        _ => None,
    }
}

/// Says whether a pattern is made of texts alone, or of parameters that have no value yet.
fn literal(pattern: &Expr) -> bool {
    match pattern {
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_) | Value::Placeholder(_) | Value::Null),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => literal(left) && literal(right),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => literal(inner),
        _ => false,
    }
}

/// Writes a pattern with backslashes.
fn escaped(pattern: &str, escape: Option<char>) -> String {
    let mut written = String::with_capacity(pattern.len() + 4);
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        match char {
            _ if Some(char) == escape => match chars.next() {
                Some(next) => {
                    written.push('\\');
                    written.push(next);
                }
                // It ends in the middle, as a part of a pattern may: what it escapes comes next.
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
