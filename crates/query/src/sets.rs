//! Sets that the engine gives a wrong answer for, asked for in another way or refused.
//!
//! - A constant that is asked for in a subquery, `5 NOT IN (SELECT ..)`: it forgets that the subquery may hold null. Written as a count.
//! - `x <> ALL (SELECT ..)`, which it takes for a list: written as `NOT IN`.
//! - `EXCEPT ALL` and `INTERSECT ALL`, which it takes for joins that do not count how often a row is there: refused.
//! - `RIGHT JOIN .. USING` and `FULL JOIN .. USING`, whose column it takes from the left side alone: refused.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, Query, Select, SetExpr, SetOperator, SetQuantifier, Statement,
    TableFactor, TableWithJoins, UnaryOperator, Value, VisitMut, VisitorMut, visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::error::QueryError;
use crate::grammar::Grammar;

/// Whether a constant is in a list, which has a column of one name.
const WITHIN: &str = "SELECT CASE WHEN bool_or(plimsoll_item = plimsoll_constant) THEN true WHEN count(*) = 0 THEN false \
    WHEN count(plimsoll_item) < count(*) OR plimsoll_constant IS NULL THEN NULL ELSE false END \
    FROM (SELECT 1) AS plimsoll_list(plimsoll_item)";
/// What stands for the constant in it.
const CONSTANT: &str = "plimsoll_constant";

/// Rewrites `statement`.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    match VisitMut::visit(statement, &mut Sets) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Sets;

impl VisitorMut for Sets {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        counted(&query.body)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        select.from.iter().try_for_each(joined)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => joined(table_with_joins),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        if let Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } = expr
            && let Expr::Subquery(subquery) = right.as_mut()
        {
            let left = Box::new(std::mem::replace(left.as_mut(), Expr::value(Value::Null)));
            let subquery = subquery.clone();
            *expr = Expr::InSubquery { expr: left, subquery, negated: true };
        }
        if let Expr::InSubquery { expr: constant, subquery, negated } = expr
            && is_constant(constant)
            && let Some(within) = within(constant, subquery)
        {
            *expr = match negated {
                true => Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(within) })),
                false => within,
            };
        }
        ControlFlow::Continue(())
    }
}

/// Says whether an expression is of no column and no subquery.
fn is_constant(expr: &Expr) -> bool {
    visit_expressions(expr, |part| match part {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Subquery(_)
        | Expr::Exists { .. }
        | Expr::InSubquery { .. }
        | Expr::Tuple(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_continue()
}

fn within(constant: &Expr, list: &Query) -> Option<Expr> {
    let mut query = Parser::new(&Grammar::default()).try_with_sql(WITHIN).ok()?.parse_query().ok()?;
    let stand_in = Expr::Nested(Box::new(constant.clone()));
    let _: ControlFlow<()> = visit_expressions_mut(query.as_mut(), |part| {
        if matches!(part, Expr::Identifier(name) if name.value == CONSTANT) {
            *part = stand_in.clone();
        }
        ControlFlow::Continue(())
    });
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else { return None };
    **subquery = list.clone();
    Some(Expr::Subquery(query))
}

/// Refuses sets that count how often a row is there.
fn counted(body: &SetExpr) -> ControlFlow<QueryError> {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return ControlFlow::Continue(()) };
    if matches!(op, SetOperator::Except | SetOperator::Intersect | SetOperator::Minus)
        && matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName)
    {
        return ControlFlow::Break(QueryError::Refused(format!(
            "`{op} ALL` is not supported: number what is alike on both sides, `row_number() OVER (PARTITION BY ..)`, and write `{op}`"
        )));
    }
    counted(left)?;
    counted(right)
}

fn joined(tables: &TableWithJoins) -> ControlFlow<QueryError> {
    for join in &tables.joins {
        let (side, constraint) = match &join.join_operator {
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => ("RIGHT", constraint),
            JoinOperator::FullOuter(constraint) => ("FULL", constraint),
            _ => continue,
        };
        let by_name = match constraint {
            JoinConstraint::Using(_) => "USING",
            JoinConstraint::Natural => "NATURAL",
            _ => continue,
        };
        return ControlFlow::Break(QueryError::Refused(format!(
            "`{side} JOIN` with `{by_name}` is not supported: write `ON a.x = b.x`, and `coalesce(a.x, b.x)` for the column of both"
        )));
    }
    ControlFlow::Continue(())
}
