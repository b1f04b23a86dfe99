//! Sets that the engine gives a wrong answer for, asked for in another way or refused.
//!
//! - `x <> ALL (SELECT ..)`, which it takes for a list: written as `NOT IN`, and `x = ANY (SELECT ..)` as `IN`.
//! - `EXCEPT ALL` and `INTERSECT ALL`, which it takes for joins that do not count how often a row is there: refused.
//! - `RIGHT JOIN .. USING` and `FULL JOIN .. USING`, whose column it takes from the left side alone: the first is written as a `LEFT JOIN` where
//!   nothing tells the two apart, which `*` does, and the order of several joins; else they are refused.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier,
    Statement, TableFactor, TableWithJoins, Value, VisitorMut,
};

use crate::error::QueryError;
use crate::walk;

/// Rewrites `statement`.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    match walk::visit_mut(statement, &mut Sets) {
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
        if !select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
            select.from.iter_mut().for_each(turn);
        }
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
        if let Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } = expr
            && let Expr::Subquery(subquery) = right.as_mut()
        {
            let left = Box::new(std::mem::replace(left.as_mut(), Expr::value(Value::Null)));
            let subquery = subquery.clone();
            *expr = Expr::InSubquery { expr: left, subquery, negated: false };
        }
        ControlFlow::Continue(())
    }
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

/// Writes a `RIGHT JOIN` by name as the `LEFT JOIN` that it is from the other side.
fn turn(tables: &mut TableWithJoins) {
    let [join] = tables.joins.as_mut_slice() else { return };
    let (JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint)) = &join.join_operator else { return };
    if matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural) {
        join.join_operator = JoinOperator::LeftOuter(constraint.clone());
        std::mem::swap(&mut tables.relation, &mut join.relation);
    }
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
