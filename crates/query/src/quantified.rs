//! `x = ANY(list)`, `x <> ALL(list)` and their kin over lists that stand in the statement, written as what they mean: `IN`,
//! `NOT IN`, or comparisons one by one.
//!
//! So they are compared, lowered and pruned by as `IN` is. A list is `ARRAY[..]`, as a parameter that is a list is written, or the
//! text of one as Postgres writes it, `'{a,"b c",NULL}'`. What is left is a list that the rows hold.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Statement, Value, VisitorMut,
};

use crate::walk;

/// Items that are compared one by one: each makes the syntax tree deeper. Longer lists are left to the planner, which refuses them.
const CHAIN_MAX: usize = 100;

/// Parts of expressions that comparisons one by one may add to a statement: lists over lists would multiply without end.
const ROOM: usize = 2_000;

/// Rewrites `statement`.
pub(crate) fn rewrite(statement: &mut Statement) {
    let _: ControlFlow<()> = walk::visit_mut(statement, &mut Quantified { room: ROOM });
}

struct Quantified {
    /// What is left of [`ROOM`].
    room: usize,
}

impl Quantified {
    /// Takes the room for one comparison of `left` for each item; false where there is not enough.
    fn fits(&mut self, left: &Expr, items: usize) -> bool {
        let mut parts = 0;
        let _: ControlFlow<()> = walk::expressions(left, |_| {
            parts += 1;
            ControlFlow::Continue(())
        });
        let room = self.room.checked_sub(items.saturating_mul(parts + 2));
        self.room = room.unwrap_or(self.room);
        room.is_some()
    }
}

impl VisitorMut for Quantified {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (left, op, right, any) = match expr {
            Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, true),
            Expr::AllOp { left, compare_op, right } => (left, compare_op, right, false),
            // The planner would take the text for the one item of a list.
            Expr::Cast { expr: text, data_type: DataType::Array(_), .. } => {
                if let Expr::Value(value) = text.as_ref()
                    && let Value::SingleQuotedString(written) = &value.value
                    && let Some(items) = array_items(written)
                {
                    **text = Expr::Array(Array { elem: items.into_iter().map(literal).collect(), named: true });
                }
                return ControlFlow::Continue(());
            }
            _ => return ControlFlow::Continue(()),
        };
        let within = matches!((&*op, any), (BinaryOperator::Eq, true) | (BinaryOperator::NotEq, false));
        if let Some(items) =
            items(right).filter(|items| within || (items.len() <= CHAIN_MAX && self.fits(left, items.len())))
        {
            *expr = Expr::Nested(Box::new(compared(left, op, items, any)));
        }
        ControlFlow::Continue(())
    }
}

fn compared(left: &Expr, op: &BinaryOperator, items: Vec<Expr>, any: bool) -> Expr {
    if items.is_empty() {
        return Expr::value(Value::Boolean(!any));
    }
    match (op, any) {
        (BinaryOperator::Eq, true) | (BinaryOperator::NotEq, false) => {
            Expr::InList { expr: Box::new(left.clone()), list: items, negated: !any }
        }
        _ => {
            let chain = if any { BinaryOperator::Or } else { BinaryOperator::And };
            let one = |item| Expr::BinaryOp { left: Box::new(left.clone()), op: op.clone(), right: Box::new(item) };
            let mut compared = items.into_iter().map(one);
            let first = compared.next().unwrap_or_else(|| Expr::value(Value::Boolean(!any)));
            compared.fold(first, |all, next| Expr::BinaryOp {
                left: Box::new(all),
                op: chain.clone(),
                right: Box::new(next),
            })
        }
    }
}

/// Returns the items of a list that stands in the statement; a parameter without a value counts as one item.
fn items(list: &Expr) -> Option<Vec<Expr>> {
    match list {
        Expr::Nested(inner) => items(inner),
        Expr::Array(Array { elem, .. }) => Some(elem.clone()),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(_) => Some(vec![list.clone()]),
            Value::SingleQuotedString(text) => Some(array_items(text)?.into_iter().map(literal).collect()),
            _ => None,
        },
        Expr::Cast { expr, data_type: DataType::Array(of), .. } => {
            let items = items(expr)?;
            let of = match of {
                ArrayElemTypeDef::SquareBracket(of, _)
                | ArrayElemTypeDef::AngleBracket(of)
                | ArrayElemTypeDef::Parenthesis(of) => of.as_ref(),
                ArrayElemTypeDef::None => return Some(items),
            };
            // Text means what a literal in its place would.
            if matches!(of, DataType::Text | DataType::Varchar(_) | DataType::Char(_) | DataType::String(_)) {
                return Some(items);
            }
            Some(items.into_iter().map(|item| cast(item, of)).collect())
        }
        _ => None,
    }
}

fn literal(item: Option<String>) -> Expr {
    Expr::value(item.map_or(Value::Null, Value::SingleQuotedString))
}

fn cast(item: Expr, of: &DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(item), data_type: of.clone(), array: false, format: None }
}

/// Reads the items of a list as Postgres writes it, `{a,"b \"c\"",NULL}`; `None` where the text is no list of one dimension.
pub fn array_items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut rest = inner.trim_start();
    if rest.is_empty() {
        return Some(items);
    }
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (item, after) = quoted_item(quoted)?;
            items.push(Some(item));
            rest = after.trim_start();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let item = rest[..end].trim_end();
            if item.is_empty() || item.contains(['{', '}', '"', '\\']) {
                return None;
            }
            items.push((!item.eq_ignore_ascii_case("null")).then(|| item.to_owned()));
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if rest.is_empty() => return Some(items),
            None => return None,
        }
    }
}

/// Reads up to the closing quote; returns the item and what is behind it.
fn quoted_item(text: &str) -> Option<(String, &str)> {
    let mut item = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((item, &text[at + 1..])),
            '\\' => item.push(characters.next()?.1),
            other => item.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use proptest::prelude::*;

    fn rewritten(condition: &str) -> String {
        let sql = format!("SELECT {condition}");
        let mut statement = Parser::parse_sql(&GenericDialect {}, &sql).expect("well formed").remove(0);
        rewrite(&mut statement);
        statement.to_string()["SELECT ".len()..].to_owned()
    }

    #[test]
    fn lists_become_what_they_mean() {
        assert_eq!(rewritten("a = ANY(ARRAY['x', 'y'])"), "(a IN ('x', 'y'))");
        assert_eq!(rewritten("a = ANY('{x,\"y, z\",NULL}')"), "(a IN ('x', 'y, z', NULL))");
        assert_eq!(rewritten("a = ANY('{x}'::text[])"), "(a IN ('x'))");
        assert_eq!(rewritten("a <> ALL('{1,2}'::bigint[])"), "(a NOT IN (CAST('1' AS BIGINT), CAST('2' AS BIGINT)))");
        assert_eq!(rewritten("a < ANY(ARRAY[1, 2])"), "(a < 1 OR a < 2)");
        assert_eq!(rewritten("a >= ALL(ARRAY[1, 2])"), "(a >= 1 AND a >= 2)");
        assert_eq!(rewritten("a = ANY('{}')"), "(false)");
        assert_eq!(rewritten("a <> ALL(ARRAY[])"), "(true)");
        assert_eq!(rewritten("a = ANY($1)"), "(a IN ($1))");
        assert_eq!(rewritten("a = ANY(b)"), "a = ANY(b)");
        assert_eq!(rewritten("'{x,\"y z\"}'::text[]"), "ARRAY['x', 'y z']::TEXT[]");
        assert_eq!(rewritten("'no list'::text[]"), "'no list'::TEXT[]");
    }

    #[test]
    fn lists_over_lists_do_not_multiply_without_end() {
        let list = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let any = format!(" < ANY('{{{list}}}')");
        assert!(rewritten(&format!("a{}", any.repeat(8))).len() < 100_000);
    }

    #[test]
    fn text_that_is_no_list_is_left_alone() {
        for text in ["", "{", "a,b", "{a,}", "{{1},{2}}", "{\"a}", "{a\"b}", "{a}b"] {
            assert_eq!(array_items(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_comes_back(items in prop::collection::vec(prop::option::of(any::<String>()), 0..6)) {
            let written: Vec<String> = items
                .iter()
                .map(|item| match item {
                    Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
                    None => "NULL".to_owned(),
                })
                .collect();
            prop_assert_eq!(array_items(&format!("{{{}}}", written.join(","))), Some(items));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = array_items(&text);
        }
    }
}
