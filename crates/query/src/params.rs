//! Parameters: values put into the syntax tree as literals, so that no text is ever pasted into SQL.
//!
//! A client that names the type of a parameter gets exactly that type, in the schema and in the answer: the literal, or its
//! placeholder while a statement is only described, is cast. Text is never cast, so that it means what a literal in its place
//! would: an id in any case, a time, a word for a kind. Where a client names none, `$1::int` does.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Interval, LimitClause, Query, Select, SelectItem, UnaryOperator, Value as Literal,
    VisitMut, VisitorMut,
};

use crate::error::QueryError;
use crate::implied::LENGTH;
use crate::parameter::{Parameter, implied, typed};
use crate::walk;

/// What stands for `$1`, `$2`, .. of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    /// The values, to run it.
    Values(&'a [Parameter]),
    /// Nothing: it is only described.
    Nothing,
}

/// Puts parameters in place of `$1`, `$2`, ..
pub(crate) struct Parameters<'a> {
    given: Given<'a>,
    types: &'a [Option<DataType>],
    used: Vec<bool>,
    highest: usize,
    /// Parameters that count rows, which the planner does not say of them.
    whole: Vec<usize>,
    /// Parameters that are lists.
    lists: Vec<usize>,
    /// Parameters with a sign before them.
    signed: Vec<usize>,
    /// Types that parameters are cast to.
    casts: HashMap<usize, DataType>,
    /// How many `?` there are, where parameters are written so.
    marks: Option<usize>,
    /// True between an expression that is a placeholder and its value.
    within: bool,
}

/// What a statement has of parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placed {
    /// How many.
    pub(crate) count: usize,
    /// Which of them stand after `LIMIT` and `OFFSET`.
    pub(crate) whole: Vec<usize>,
    /// Which of them stand for a list, after `ANY` or `ALL`.
    pub(crate) lists: Vec<usize>,
    /// Which of them have a sign, and are numbers if nothing else.
    pub(crate) signed: Vec<usize>,
    /// Types that they are cast to: `$1::int`.
    pub(crate) casts: HashMap<usize, DataType>,
}

impl<'a> Parameters<'a> {
    pub(crate) fn new(given: Given<'a>, types: &'a [Option<DataType>], marks: Option<usize>) -> Self {
        let count = match given {
            Given::Values(values) => values.len(),
            Given::Nothing => 0,
        };
        Self {
            given,
            types,
            used: vec![false; count],
            highest: 0,
            whole: Vec::new(),
            lists: Vec::new(),
            signed: Vec::new(),
            casts: HashMap::new(),
            marks,
            within: false,
        }
    }

    /// Takes values for so many, though the statement may have no place left for some.
    pub(crate) fn written(mut self, count: usize) -> Self {
        self.used.iter_mut().take(count).for_each(|used| *used = true);
        self
    }

    /// Puts them into `statement` and returns what it has of them.
    pub(crate) fn place(mut self, statement: &mut impl VisitMut) -> Result<Placed, QueryError> {
        if let (Some(marks), Given::Values(values)) = (self.marks, self.given)
            && marks != values.len()
        {
            return Err(QueryError::Invalid(format!(
                "the statement has {marks} `?` and {}: give each `?` its value",
                were_given(values.len())
            )));
        }
        if let ControlFlow::Break(error) = walk::visit_mut(statement, &mut self) {
            return Err(error);
        }
        match self.used.iter().position(|used| !used) {
            Some(unused) => Err(QueryError::Invalid(format!(
                "{} and `${}` is not in the statement: give a value for each parameter that is",
                were_given(self.used.len()),
                unused + 1
            ))),
            None => Ok(Placed {
                count: self.highest,
                whole: self.whole,
                lists: self.lists,
                signed: self.signed,
                casts: self.casts,
            }),
        }
    }

    /// Writes `INTERVAL $1`, which is not for parameters, as what it is meant for: a cast, or so many of a unit.
    fn length(&mut self, expr: &mut Expr) {
        let Expr::Interval(interval) = expr else { return };
        let Some(number) = placeholder(&interval.value) else { return };
        let value = std::mem::replace(interval.value.as_mut(), Expr::value(Literal::Null));
        let cast = |value: Expr, of: &DataType| typed(value.clone(), of).unwrap_or(value);
        if interval.leading_field.is_none() {
            self.casts.entry(number).or_insert(LENGTH);
            *expr = Expr::Nested(Box::new(cast(value, &LENGTH)));
        } else {
            self.casts.entry(number).or_insert(DataType::Float64);
            let one = Box::new(Expr::value(Literal::SingleQuotedString("1".to_owned())));
            let unit = Expr::Interval(Interval { value: one, ..interval.clone() });
            let count = cast(value, &DataType::Float64);
            let product = Expr::BinaryOp { left: Box::new(count), op: BinaryOperator::Multiply, right: Box::new(unit) };
            *expr = Expr::Nested(Box::new(product));
        }
    }

    fn expression(&mut self, name: &str) -> Result<Option<Expr>, QueryError> {
        let Some(number) =
            name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()).filter(|n| (1..=PARAMETERS_MAX).contains(n))
        else {
            return Err(QueryError::Invalid(format!(
                "`{name}` is not a parameter: parameters are `$1`, `$2`, and so on up to `${PARAMETERS_MAX}`"
            )));
        };
        self.highest = self.highest.max(number);
        let wanted = self.types.get(number - 1).and_then(Option::as_ref);
        Ok(match self.given {
            Given::Nothing => {
                wanted.and_then(|wanted| typed(Expr::value(Literal::Placeholder(name.to_owned())), wanted))
            }
            Given::Values(values) => {
                let Some(value) = values.get(number - 1) else {
                    return Err(QueryError::Invalid(format!("`{name}` has no value: {}", were_given(values.len()))));
                };
                self.used[number - 1] = true;
                Some(value.literal(wanted))
            }
        })
    }
}

/// Says how many values came with a statement.
fn were_given(count: usize) -> String {
    match count {
        0 => "no parameters were given".to_owned(),
        1 => "1 parameter was given".to_owned(),
        many => format!("{many} parameters were given"),
    }
}

/// Parameters of one statement.
pub(crate) const PARAMETERS_MAX: usize = 10_000;

impl VisitorMut for Parameters<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        let counts = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => [limit.as_ref(), offset.as_ref().map(|o| &o.value)],
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => [Some(limit), Some(offset)],
            None => [None, None],
        };
        for count in counts.into_iter().flatten() {
            self.whole.extend(placeholder(count));
        }
        ControlFlow::Continue(())
    }

    /// Parameters that are selected are called by their numbers: values that are equal are called alike, which columns may not be.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        let mut names = HashSet::new();
        for (at, item) in select.projection.iter_mut().enumerate() {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Some(number) = placeholder(expr)
            {
                let again = if names.insert(number) { String::new() } else { format!(" in column {}", at + 1) };
                let alias = Ident::with_quote('"', format!("${number}{again}"));
                let expr = std::mem::replace(expr, Expr::value(Literal::Null));
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        self.length(expr);
        if let Expr::UnaryOp { op: UnaryOperator::Plus | UnaryOperator::Minus, expr: inner } = expr {
            self.signed.extend(placeholder(inner));
        }
        // The planner looks for the type of what has a plus sign, which changes nothing.
        if matches!(self.given, Given::Nothing)
            && let Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } = expr
            && placeholder(inner).is_some()
        {
            *expr = std::mem::replace(inner.as_mut(), Expr::value(Literal::Null));
        }
        self.within = matches!(expr, Expr::Value(value) if matches!(value.value, Literal::Placeholder(_)));
        if let Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } = expr
            && let Some(number) = placeholder(right)
        {
            self.lists.push(number);
        }
        if let Expr::Cast { expr: inner, data_type, .. } = expr
            && let Some(number) = placeholder(inner)
            && let Some(data_type) = implied(data_type)
        {
            self.casts.entry(number).or_insert(data_type);
        }
        if matches!(self.given, Given::Nothing) {
            compared(expr);
        }
        ControlFlow::Continue(())
    }

    /// Replaced on the way back: what is put in place has a placeholder in it while a statement is described.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        let Literal::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        match self.expression(&name.clone()) {
            Ok(Some(given)) => *expr = placed(given),
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    /// Placeholders that are no expressions of their own.
    fn pre_visit_value(
        &mut self,
        value: &mut datafusion::sql::sqlparser::ast::ValueWithSpan,
    ) -> ControlFlow<QueryError> {
        if std::mem::take(&mut self.within) {
            return ControlFlow::Continue(());
        }
        let Literal::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        if matches!(self.given, Given::Nothing) {
            return match self.expression(&name.clone()) {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            };
        }
        match self.expression(&name.clone()) {
            Ok(Some(Expr::Value(literal))) => {
                value.value = literal.value;
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(QueryError::Invalid(format!("`{name}` cannot stand here: write its value"))),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Returns the number of `$n`, which may stand in brackets and have its type behind it.
fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => placeholder(inner),
        Expr::Value(value) => match &value.value {
            Literal::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Writes `a BETWEEN $1 AND $2` as the comparisons that it is, of which each says what a parameter is compared with. What is compared
/// stands there twice then: where it holds another BETWEEN, it stays as it is, or it would double with every level.
fn compared(expr: &mut Expr) {
    let Expr::Between { expr: tested, negated, low, high } = expr else { return };
    if placeholder(low).is_none() && placeholder(high).is_none() {
        return;
    }
    let doubles = |inner: &Expr| match inner {
        Expr::Between { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    if [&*tested, &*low, &*high].into_iter().any(|part| walk::expressions(part, doubles).is_break()) {
        return;
    }
    let compare = |op, bound: &Expr| {
        let (left, right) = (tested.clone(), Box::new(bound.clone()));
        Box::new(Expr::BinaryOp { left, op, right })
    };
    let (left, right) = (compare(BinaryOperator::GtEq, low), compare(BinaryOperator::LtEq, high));
    let both = Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::And, right }));
    *expr = if *negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(both) } } else { both };
}

/// Keeps a cast together where it meets operators, and a number with its sign: `-$1` is no comment.
fn placed(expr: Expr) -> Expr {
    let together = match &expr {
        Expr::Cast { .. } => true,
        Expr::Value(value) => matches!(&value.value, Literal::Number(digits, _) if digits.starts_with(['-', '+'])),
        _ => false,
    };
    if together { Expr::Nested(Box::new(expr)) } else { expr }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn comparisons_within_comparisons_do_not_double_as_they_are_described() {
        let mut tested = "1=1".to_owned();
        for _ in 0..20 {
            tested = format!("(({tested}) BETWEEN $1 AND $2)");
        }
        let text = format!("SELECT {tested}");
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, &text).expect("is SQL");
        Parameters::new(Given::Nothing, &[], None).place(&mut statements[0]).expect("is described");
        assert!(statements[0].to_string().len() < 2 * text.len() + 100, "{}", statements[0].to_string().len());
    }
}
