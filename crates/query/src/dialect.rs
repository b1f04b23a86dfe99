//! What the parser or the planner reads otherwise than Postgres does, put right before it is planned; and what it would take for something
//! that it is not, refused.
//!
//! - `a IS DISTINCT FROM b AND c` is read as `a IS DISTINCT FROM (b AND c)`.
//! - `SIMILAR TO` is run as an expression that may match anywhere, and without `%` and `_`.
//! - `to_char` takes `%Y-%m-%d`, and gives `YYYY-MM-DD` back as it stands.
//! - `TABLESAMPLE` is read over, and `count(DISTINCT *)` counts one.
//! - `events[1].name` is a field, as `events[1]['name']` is.
//! - Two columns that are written alike, or differ by a cast alone, have one name, which the planner refuses; nor does it find a window
//!   function by its place.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, Subscript, TableFactor, UnaryOperator, Value,
    VisitorMut,
};

use crate::error::QueryError;
use crate::walk;

/// `%` in one pattern of `LIKE`: each may match anywhere, and a batch of rows is compared without looking up.
const WILDCARDS_MAX: usize = 50;
/// Characters of a regular expression, and repetitions that it counts.
const REGEX_MAX: usize = 1_000;
/// Functions that take a regular expression second.
const REGEX_FUNCTIONS: [&str; 6] =
    ["regexp_like", "regexp_match", "regexp_replace", "regexp_count", "regexp_instr", "regexp_substr"];

/// Puts `statement` right.
pub(crate) fn settle(statement: &mut Statement) -> Result<(), QueryError> {
    name(statement);
    match walk::visit_mut(statement, &mut Settle) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Gives columns names of their own where they need them: again, once two ways of writing one thing are written in one.
pub(crate) fn name(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        let ordered = query.order_by.is_some();
        name_apart(&mut query.body, ordered);
    }
}

struct Settle;

impl VisitorMut for Settle {
    type Break = QueryError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        match factor {
            TableFactor::Table { sample: Some(_), .. } => ControlFlow::Break(QueryError::Refused(
                "`TABLESAMPLE` is not supported: filter by something that is spread evenly, for instance `trace_id < '10'`"
                    .to_owned(),
            )),
            TableFactor::Table { version: Some(_), .. } => ControlFlow::Break(QueryError::Refused(
                "a table as it was at another time is not kept: leave `AS OF` out".to_owned(),
            )),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        let settled = match expr {
            Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => {
                rotate(expr);
                Ok(())
            }
            Expr::BinaryOp { op: BinaryOperator::And, .. } | Expr::UnaryOp { op: UnaryOperator::Not, .. } => {
                hoist(expr);
                Ok(())
            }
            Expr::SimilarTo { .. } => similar(expr),
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => like(pattern),
            Expr::BinaryOp {
                op:
                    BinaryOperator::PGRegexMatch
                    | BinaryOperator::PGRegexIMatch
                    | BinaryOperator::PGRegexNotMatch
                    | BinaryOperator::PGRegexNotIMatch,
                right,
                ..
            } => text(right).map_or(Ok(()), regex),
            Expr::CompoundFieldAccess { access_chain, .. } => {
                // Before the first bracket stand a table and its column.
                let first = access_chain.iter().position(|access| matches!(access, AccessExpr::Subscript(_)));
                access_chain.iter_mut().skip(first.unwrap_or(usize::MAX)).for_each(bracketed);
                Ok(())
            }
            Expr::Function(call) => {
                let name = call.name.to_string().to_lowercase();
                let FunctionArguments::List(list) = &mut call.args else { return ControlFlow::Continue(()) };
                if list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
                    && matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
                {
                    return ControlFlow::Break(QueryError::Invalid(format!(
                        "`{name}(DISTINCT *)` is of no column: name those that tell rows apart, or count a `SELECT DISTINCT`"
                    )));
                }
                let second = match list.args.get_mut(1) {
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) => expr,
                    _ => return ControlFlow::Continue(()),
                };
                if REGEX_FUNCTIONS.contains(&name.as_str()) {
                    text(second).map_or(Ok(()), regex)
                } else if name == "to_char" {
                    template(second)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        };
        settled.map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }
}

/// Writes `events[1].name` as `events[1]['name']`.
fn bracketed(access: &mut AccessExpr) {
    if let AccessExpr::Dot(Expr::Identifier(name)) = access {
        let index = Expr::value(Value::SingleQuotedString(name.value.clone()));
        *access = AccessExpr::Subscript(Subscript::Index { index });
    }
}

/// Returns the text of a literal.
pub(crate) fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) => text(inner),
        _ => None,
    }
}

/// Gives back to `AND` and `OR` what the comparison took of theirs.
fn rotate(expr: &mut Expr) {
    let taken = std::mem::replace(expr, Expr::value(Value::Null));
    let (left, right, distinct) = match taken {
        Expr::IsDistinctFrom(left, right) => (left, right, true),
        Expr::IsNotDistinctFrom(left, right) => (left, right, false),
        other => {
            *expr = other;
            return;
        }
    };
    let mut whole = *right;
    let mut first = &mut whole;
    while let Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. } = first {
        first = left.as_mut();
    }
    let compared = Box::new(std::mem::replace(first, Expr::value(Value::Null)));
    *first = if distinct { Expr::IsDistinctFrom(left, compared) } else { Expr::IsNotDistinctFrom(left, compared) };
    *expr = whole;
}

/// Says whether an expression is made of others by `AND`, `OR` or `XOR`, and not in brackets.
fn joins(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. })
}

/// Gives back to what is further out what was given back within an `AND` or a `NOT`: both bind tighter than what they hold now, which the
/// parser makes of nothing else.
fn hoist(expr: &mut Expr) {
    let looser = |expr: &Expr| matches!(expr, Expr::BinaryOp { op: BinaryOperator::Or | BinaryOperator::Xor, .. });
    let (is_not, held) = match expr {
        Expr::UnaryOp { op: UnaryOperator::Not, expr } if joins(expr) => (true, expr),
        Expr::BinaryOp { op: BinaryOperator::And, right, .. } if looser(right) => (false, right),
        _ => return,
    };
    let mut whole = std::mem::replace(held.as_mut(), Expr::value(Value::Null));
    let mut first = &mut whole;
    while (is_not && joins(first)) || looser(first) {
        let Expr::BinaryOp { left, .. } = first else { break };
        first = left.as_mut();
    }
    // The `AND` or `NOT` takes the first, and the place of the first.
    let taken = std::mem::replace(first, Expr::value(Value::Null));
    if let Expr::UnaryOp { expr: held, .. } | Expr::BinaryOp { right: held, .. } = expr {
        **held = taken;
    }
    *first = std::mem::replace(expr, Expr::value(Value::Null));
    *expr = whole;
}

/// Writes `SIMILAR TO` as a regular expression over the whole text.
fn similar(expr: &mut Expr) -> Result<(), QueryError> {
    let Expr::SimilarTo { negated, expr: left, pattern, escape_char } = expr else { return Ok(()) };
    let refused = |text: &str| QueryError::Refused(format!("{text}: write a regular expression, `x ~ '^..$'`"));
    if escape_char.is_some() {
        return Err(refused("`SIMILAR TO .. ESCAPE` is not supported"));
    }
    let Some(pattern) = text(pattern) else {
        return Err(refused("`SIMILAR TO` takes its pattern as text in quotes"));
    };
    if ["[:", "&&", "--", "~~"].iter().any(|sign| pattern.contains(sign)) {
        return Err(refused("`SIMILAR TO` does not know classes of characters here"));
    }
    let mut written = String::from("^(?s:");
    let (mut chars, mut set) = (pattern.chars(), false);
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                let Some(next) = chars.next() else { return Err(refused("a pattern of `SIMILAR TO` ends in `\\`")) };
                escape(next, &mut written);
            }
            '%' if !set => written.push_str(".*"),
            '_' if !set => written.push('.'),
            '.' | '^' | '$' if !set => escape(char, &mut written),
            '[' | ']' => {
                set = char == '[';
                written.push(char);
            }
            _ => written.push(char),
        }
    }
    written.push_str(")$");
    regex(&written)?;
    let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
    let left = std::mem::replace(left.as_mut(), Expr::value(Value::Null));
    let right = Box::new(Expr::value(Value::SingleQuotedString(written)));
    *expr = Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right }));
    Ok(())
}

/// Writes a character that stands for itself.
fn escape(char: char, written: &mut String) {
    if !char.is_alphanumeric() {
        written.push('\\');
    }
    written.push(char);
}

fn like(pattern: &Expr) -> Result<(), QueryError> {
    let wildcards = text(pattern).map_or(0, |pattern| pattern.matches('%').count());
    if wildcards > WILDCARDS_MAX {
        return Err(QueryError::Refused(format!(
            "a pattern of `LIKE` has {wildcards} `%`, at most {WILDCARDS_MAX} are taken"
        )));
    }
    Ok(())
}

/// Bounds what a regular expression is compiled into.
fn regex(pattern: &str) -> Result<(), QueryError> {
    let mut counted = 1_usize;
    for rest in pattern.split('{').skip(1) {
        let bounds = rest.split('}').next().unwrap_or_default();
        let most = bounds.split(',').filter_map(|bound| bound.trim().parse::<usize>().ok()).max();
        counted = counted.saturating_mul(most.unwrap_or(1).max(1));
    }
    if pattern.len() > REGEX_MAX || counted > REGEX_MAX {
        return Err(QueryError::Refused(format!(
            "a regular expression may have {REGEX_MAX} characters, and as many counted repetitions within each other: shorten it"
        )));
    }
    Ok(())
}

/// What Postgres writes in a template of `to_char` in either case, and what the engine does; the longest first.
const NUMBERS: [(&str, &str); 17] = [
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("YYYY", "%Y"),
    ("IYYY", "%G"),
    ("DDD", "%j"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("IW", "%V"),
    ("ID", "%u"),
    ("AM", "%p"),
    ("PM", "%p"),
];
/// The same, whose letters say how theirs are written.
const WORDS: [(&str, &str); 4] = [("Month", "%B"), ("Mon", "%b"), ("Day", "%A"), ("Dy", "%a")];

/// Returns how long a pattern at the beginning of `rest` is, and what the engine calls it.
fn pattern(rest: &str) -> Option<(usize, &'static str)> {
    let word = WORDS.iter().find(|(written, _)| rest.starts_with(written));
    let number = || {
        NUMBERS.iter().find(|(written, engine)| {
            // `am` would be written small.
            let alike = rest.get(..written.len()).is_some_and(|start| start.eq_ignore_ascii_case(written));
            alike && (*engine != "%p" || rest.starts_with(written))
        })
    };
    word.or_else(number).map(|(written, engine)| (written.len(), *engine))
}

/// Writes a template of Postgres as the engine reads it. One that has a `%` is the engine's own.
fn template(expr: &mut Expr) -> Result<(), QueryError> {
    let Some(written) = text(expr).filter(|written| !written.contains('%')) else { return Ok(()) };
    let (mut rest, mut format) = (written, String::new());
    while let Some(char) = rest.chars().next() {
        if let Some((length, engine)) = pattern(rest) {
            format.push_str(engine);
            rest = &rest[length..];
        } else if let Some((quoted, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            format.push_str(quoted);
            rest = after;
        } else if char == 'T' || !char.is_alphabetic() {
            format.push(char);
            rest = &rest[char.len_utf8()..];
        } else {
            return Err(QueryError::Refused(format!(
                "`to_char` does not know `{rest}` of `{written}`: write `YYYY-MM-DD HH24:MI:SS`, or `%Y-%m-%d %H:%M:%S`"
            )));
        }
    }
    *expr = Expr::value(Value::SingleQuotedString(format));
    Ok(())
}

/// Gives columns of the outermost query names of their own where the planner needs them. What clients see they are called is read from the
/// statement before ([`crate::headings`]).
fn name_apart(body: &mut SetExpr, ordered: bool) {
    match body {
        SetExpr::Select(select) => {
            let mut seen = HashSet::new();
            let stars: Vec<Option<String>> = select.projection.iter().filter_map(star).collect();
            for item in &mut select.projection {
                let SelectItem::UnnamedExpr(expr) = item else {
                    if let SelectItem::ExprWithAlias { alias, .. } = item {
                        seen.insert(alias.value.to_lowercase());
                    }
                    continue;
                };
                let (core, is_column) = match bare(expr) {
                    Expr::Identifier(name) => (name.value.to_lowercase(), true),
                    // Beside all columns it has another name in any case.
                    Expr::CompoundIdentifier(path) if starred(expr, &stars) => {
                        (path.last().map_or_else(String::new, |name| name.value.to_lowercase()), true)
                    }
                    // The same name of two tables is no repetition: the whole path is.
                    other => (other.to_string().to_lowercase(), false),
                };
                let again = !seen.insert(core.clone()) || starred(expr, &stars);
                if !(again || ordered && has_window(expr) || has_subquery(expr)) {
                    continue;
                }
                let stem = if is_column { core } else { expr.to_string() };
                let apart =
                    |number: &usize| if is_column { format!("{stem}_{number}") } else { format!("{stem} #{number}") };
                let name = match again {
                    // There is a number that nobody has taken.
                    true => (1..).map(|number| apart(&number)).find(|name| !seen.contains(&name.to_lowercase())),
                    false => Some(stem.clone()),
                };
                let Some(name) = name else { continue };
                seen.insert(name.to_lowercase());
                let expr = std::mem::replace(expr, Expr::value(Value::Null));
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
            }
        }
        SetExpr::Query(query) => {
            let ordered = ordered || query.order_by.is_some();
            name_apart(&mut query.body, ordered);
        }
        SetExpr::SetOperation { left, right, .. } => {
            name_apart(left, false);
            name_apart(right, false);
        }
        _ => {}
    }
}

/// Returns the table whose columns an item stands for, and `Some(None)` for those of all.
fn star(item: &SelectItem) -> Option<Option<String>> {
    match item {
        SelectItem::Wildcard(_) => Some(None),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), _) => {
            Some(Some(table.to_string().to_lowercase()))
        }
        _ => None,
    }
}

/// Says whether a column is also among those that some `*` stands for.
fn starred(expr: &Expr, stars: &[Option<String>]) -> bool {
    match expr {
        Expr::Identifier(_) => !stars.is_empty(),
        Expr::CompoundIdentifier(path) => {
            let table = path.iter().rev().nth(1).map(|table| table.value.to_lowercase());
            stars.iter().any(|star| star.is_none() || *star == table)
        }
        _ => false,
    }
}

/// Returns an expression without its casts, which the planner leaves out of names.
pub(crate) fn bare(expr: &Expr) -> Expr {
    struct Bare;
    impl VisitorMut for Bare {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
                *expr = std::mem::replace(inner.as_mut(), Expr::value(Value::Null));
            }
            ControlFlow::Continue(())
        }
    }
    let mut bare = expr.clone();
    let _: ControlFlow<()> = walk::visit_mut(&mut bare, &mut Bare);
    bare
}

/// Says whether an expression holds a query: the planner calls all of them the same.
fn has_subquery(expr: &Expr) -> bool {
    walk::expressions(expr, |inner| match inner {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

fn has_window(expr: &Expr) -> bool {
    let found = walk::expressions(expr, |inner| match inner {
        Expr::Function(call) if call.over.is_some() => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}
