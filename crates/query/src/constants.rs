//! Whether a value is in a subquery, where null counts: `5 NOT IN (SELECT ..)`, `(x IN (SELECT ..)) IS NULL`.
//!
//! Of `IN (SELECT ..)` the engine knows two forms that give null its due: one that holds or does not, in `WHERE` and `HAVING` under `AND` and `OR`
//! alone, and `x NOT IN` of a column as one of the conditions of an `AND`. Elsewhere it takes null for false, and so it does where there is a
//! constant on the left. There what is asked for is written with counts of the subquery's rows and of those that are not null. A subquery that
//! refers to the outer row cannot be counted once for all of them and is refused.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue, Spans, plan_err};
use datafusion::functions_aggregate::expr_fn::{bool_or, count};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, col, lit, when};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::faces::face;
use crate::friendly::FriendlyPlanner;

/// See the module.
#[derive(Debug)]
pub(crate) struct Constants;

impl AnalyzerRule for Constants {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let place = if matches!(plan, LogicalPlan::Filter(_)) { Place::Condition } else { Place::Elsewhere };
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(asked(expr, place)?.update_data(|expr| name.restore(expr)))
            })
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "constants_in_subqueries"
    }
}

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the conditions of a filter that hold together.
    Condition,
    /// In a filter, below `AND` and `OR` alone: null is as good as false.
    Alternative,
    /// In no filter.
    Elsewhere,
}

fn asked(expr: Expr, place: Place) -> Result<Transformed<Expr>> {
    let joined = match &expr {
        Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) if place == Place::Condition => Some(Place::Condition),
        Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. })
            if matches!(place, Place::Condition | Place::Alternative) =>
        {
            Some(Place::Alternative)
        }
        _ => None,
    };
    match (expr, joined) {
        (Expr::BinaryExpr(BinaryExpr { left, op, right }), Some(place)) => {
            let (left, right) = (asked(*left, place)?, asked(*right, place)?);
            let changed = left.transformed || right.transformed;
            let both = BinaryExpr::new(Box::new(left.data), op, Box::new(right.data));
            Ok(Transformed::new(Expr::BinaryExpr(both), changed, TreeNodeRecursion::Continue))
        }
        (expr, _) if is_known(&expr, place) => Ok(Transformed::no(expr)),
        (other, _) => other.transform_up(|expr| match expr {
            Expr::InSubquery(of) if is_constant(&of.expr) => counted(of).map(Transformed::yes),
            Expr::InSubquery(of) if place != Place::Elsewhere => told(of).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        }),
    }
}

/// Says whether it is a form that the engine knows.
fn is_known(expr: &Expr, place: Place) -> bool {
    let (of, negated) = match expr {
        Expr::InSubquery(of) => (of, of.negated),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(of) => (of, !of.negated),
            _ => return false,
        },
        _ => return false,
    };
    match (place, negated) {
        (Place::Condition | Place::Alternative, false) => !is_constant(&of.expr) || is_plain(of),
        (Place::Condition, true) => of.expr.exists(|expr| Ok(matches!(expr, Expr::Column(_)))).unwrap_or(false),
        _ => false,
    }
}

/// Says whether an expression is the same for all rows.
fn is_constant(expr: &Expr) -> bool {
    let varies = |expr: &Expr| {
        matches!(
            expr,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::Placeholder(_)
        )
    };
    !expr.exists(|expr| Ok(varies(expr))).unwrap_or(true)
}

/// Says whether what it is asked for in is compared as it is stored.
fn is_plain(of: &InSubquery) -> bool {
    let schema = of.subquery.subquery.schema();
    let (qualifier, field) = schema.qualified_field(0);
    face(&Expr::Column(Column::from((qualifier, field))), schema).is_none()
}

fn counted(InSubquery { expr: constant, subquery, negated }: InSubquery) -> Result<Expr> {
    let rows = uncorrelated(subquery, negated)?;
    let (qualifier, field) = rows.schema().qualified_field(0);
    let item = Expr::Column(Column::from((qualifier, field)));
    let compared = RawBinaryExpr { op: BinaryOperator::Eq, left: item.clone(), right: constant.as_ref().clone() };
    let equal = match FriendlyPlanner.plan_binary_op(compared, rows.schema())? {
        PlannerResult::Planned(equal) => equal,
        PlannerResult::Original(RawBinaryExpr { left, right, .. }) => {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::Eq, Box::new(right)))
        }
    };
    let (found, all, present) = ("plimsoll_found", "plimsoll_rows", "plimsoll_present");
    let counts = [bool_or(equal).alias(found), count(lit(1_i64)).alias(all), count(item).alias(present)];
    let open = col(present).lt(col(all)).or(constant.is_null());
    let within = when(col(found).is_true(), lit(true))
        .when(col(all).eq(lit(0_i64)), lit(false))
        .when(open, lit(ScalarValue::Boolean(None)))
        .otherwise(lit(false))?;
    let plan = LogicalPlanBuilder::from(rows).aggregate(Vec::<Expr>::new(), counts)?.project([within])?.build()?;
    let within = scalar(plan);
    Ok(if negated { Expr::Not(Box::new(within)) } else { within })
}

/// Of what has a column on the left: whether one is found the engine tells, whether that there is none is open follows from counts.
fn told(InSubquery { expr, subquery, negated }: InSubquery) -> Result<Expr> {
    let rows = uncorrelated(subquery.clone(), negated)?;
    let (qualifier, field) = rows.schema().qualified_field(0);
    let item = Expr::Column(Column::from((qualifier, field)));
    let number = |of: Expr| -> Result<Expr> {
        let counted = LogicalPlanBuilder::from(rows.clone()).aggregate(Vec::<Expr>::new(), [of])?.build()?;
        Ok(scalar(counted))
    };
    let (all, present) = (number(count(lit(1_i64)))?, number(count(item))?);
    let open = present.lt(all.clone()).or(expr.clone().is_null().and(all.gt(lit(0_i64))));
    let found = Expr::InSubquery(InSubquery { expr, subquery, negated: false });
    let within = when(found, lit(true)).when(open, lit(ScalarValue::Boolean(None))).otherwise(lit(false))?;
    Ok(if negated { Expr::Not(Box::new(within)) } else { within })
}

fn scalar(plan: LogicalPlan) -> Expr {
    Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns: Vec::new(), spans: Spans::default() })
}

fn uncorrelated(subquery: Subquery, negated: bool) -> Result<LogicalPlan> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(Arc::unwrap_or_clone(subquery.subquery));
    }
    let not = if negated { "NOT " } else { "" };
    plan_err!(
        "`{not}IN` a subquery that refers to the outer row is not supported here: write \
         `{not}EXISTS (SELECT 1 FROM .. WHERE .. AND y = x)`, and think of null"
    )
}
