//! Whether a value is in a subquery, where null counts: `5 NOT IN (SELECT ..)`, `(x IN (SELECT ..)) IS NULL`.
//!
//! Of `IN (SELECT ..)` the engine knows two forms that give null its due: one that holds or does not, in `WHERE` and `HAVING` under `AND` and `OR`
//! alone, and `x NOT IN` of a column as one of the conditions of an `AND`. Elsewhere it takes null for false, and so it does where there is a
//! constant on the left. There what is asked for is written with counts of the subquery's rows and of those that are not null. A subquery that
//! refers to the outer row cannot be counted once for all of them and is refused. Of what is computed on the left of `NOT IN`, the engine looks
//! for null in the columns that it is computed from alone: that null is in no rows but none is a condition of its own.
//!
//! Values with a face are compared with the subquery's as they are by `=`.
//!
//! In `ON` the engine counts null for nothing, so that only `IN` as one of its conditions stands there. What is written in place of a form asks
//! for its parts several times: they must be the same each time.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, Spans, plan_err};
use datafusion::functions_aggregate::expr_fn::{bool_or, count};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
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
            let schema = merge_schema(&plan.inputs());
            if matches!(plan, LogicalPlan::Join(_)) {
                plan.apply_expressions(|expr| on(expr).map(|()| TreeNodeRecursion::Continue))?;
            }
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let compared = expr.transform_up(|expr| match expr {
                    Expr::InSubquery(of) => {
                        let InSubquery { expr, subquery, negated } = of;
                        compared(InSubquery { expr, subquery: named(subquery)?, negated }, &schema)
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                let done = compared.transform_data(|expr| asked(expr, place))?;
                Ok(done.update_data(|expr| name.restore(expr)))
            })
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "constants_in_subqueries"
    }
}

/// What rows are called that stand beside the others.
const SET: &str = "plimsoll_set";

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

/// Refuses what a condition of a join cannot ask of a subquery's rows.
fn on(expr: &Expr) -> Result<()> {
    if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) = expr {
        return on(left).and_then(|()| on(right));
    }
    let asks = |expr: &Expr| Ok(matches!(expr, Expr::InSubquery(_)));
    if is_known(expr, Place::Condition)
        && !matches!(expr, Expr::InSubquery(of) if of.negated)
        && !matches!(expr, Expr::Not(_))
    {
        return Ok(());
    }
    if expr.exists(asks)? {
        return plan_err!(
            "in `ON` only `x IN (SELECT ..)` of a column may stand, as one of the conditions under `AND`: write this one in `WHERE`"
        );
    }
    Ok(())
}

/// Refuses what would be another value each time that it is asked for.
fn steady(of: &InSubquery) -> Result<()> {
    let drawn = |plan: &LogicalPlan| Ok(plan.expressions().iter().any(Expr::is_volatile));
    if of.expr.is_volatile() || of.subquery.subquery.exists(drawn)? {
        return plan_err!(
            "`NOT IN (SELECT ..)`, and `IN` where null counts, ask more than once for what is drawn anew each time, as `random()` is: compute              it first, `WITH drawn AS (SELECT random() AS x ..)`, or compare it otherwise"
        );
    }
    Ok(())
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
        (Expr::InSubquery(of), _) if of.negated && place == Place::Condition && varies(&of.expr) => {
            absent(of).map(Transformed::yes)
        }
        (Expr::Not(inner), _) if is_asked_of_column(&inner) && place == Place::Condition => match *inner {
            Expr::InSubquery(of) => absent(InSubquery { negated: true, ..of }).map(Transformed::yes),
            other => Ok(Transformed::no(Expr::Not(Box::new(other)))),
        },
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
        (Place::Condition, true) => match of.expr.as_ref() {
            Expr::Column(_) => true,
            Expr::Cast(cast) => matches!(cast.expr.as_ref(), Expr::Column(_)),
            _ => false,
        },
        _ => false,
    }
}

/// Says whether it is `IN (SELECT ..)` of what is computed from columns.
fn is_asked_of_column(expr: &Expr) -> bool {
    matches!(expr, Expr::InSubquery(of) if !of.negated && varies(&of.expr))
}

/// Says whether an expression is computed from columns.
fn varies(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::Column(_)))).unwrap_or(false)
}

/// Of what is computed from columns: it is not in the subquery, and is no null or there are no rows.
fn absent(of: InSubquery) -> Result<Expr> {
    steady(&of)?;
    let InSubquery { expr, subquery, negated } = of;
    let present = expr.clone().is_not_null();
    let none = if subquery.outer_ref_columns.is_empty() {
        let first = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).limit(0, Some(1))?;
        scalar(first.aggregate(Vec::<Expr>::new(), [count(lit(1_i64))])?.build()?).eq(lit(0_i64))
    } else {
        Expr::Exists(Exists { subquery: subquery.clone(), negated: true })
    };
    Ok(Expr::InSubquery(InSubquery { expr, subquery, negated }).and(present.or(none)))
}

/// Gives the column of a subquery a table to be of: the engine finds one without in no plan but a projection, and finds it twice where it asks
/// of each row whether there is one.
fn named(subquery: Subquery) -> Result<Subquery> {
    let is_named =
        matches!(subquery.subquery.head_output_expr()?, Some(Expr::Column(Column { relation: Some(_), .. })));
    if is_named || !subquery.outer_ref_columns.is_empty() {
        return Ok(subquery);
    }
    let rows = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).alias(SET)?;
    let (qualifier, field) = rows.schema().qualified_field(0);
    let item = Expr::Column(Column::from((qualifier, field)));
    let plan = rows.project([item])?.build()?;
    Ok(subquery.with_plan(Arc::new(plan)))
}

/// Compares what has a face as `=` does: each side is read as what it is read as there.
fn compared(InSubquery { expr, subquery, negated }: InSubquery, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let rows = Arc::clone(subquery.subquery.schema());
    let (qualifier, field) = rows.qualified_field(0);
    let item = Expr::Column(Column::from((qualifier, field)));
    let unchanged = |expr, subquery| Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated }));
    let follows = |of: &Expr| matches!(of, Expr::ScalarSubquery(of) if !of.outer_ref_columns.is_empty());
    if expr.exists(|of| Ok(follows(of)))? {
        return plan_err!(
            "a subquery for one value that refers to the outer row cannot stand on the left of `IN (SELECT ..)`: compute it first, \
             `FROM (SELECT *, (SELECT ..) AS x FROM ..) WHERE x IN (SELECT ..)`"
        );
    }
    if face(&expr, schema).is_none() && face(&item, &rows).is_none() {
        return Ok(unchanged(expr, subquery));
    }
    let beside = DFSchema::new_with_metadata(vec![(Some(SET.into()), Arc::clone(field))], HashMap::new())?;
    let stands = Expr::Column(Column::new(Some(SET), field.name()));
    let both = RawBinaryExpr { op: BinaryOperator::Eq, left: expr.as_ref().clone(), right: stands.clone() };
    let PlannerResult::Original(RawBinaryExpr { left, right, .. }) =
        FriendlyPlanner.plan_binary_op(both, &schema.join(&beside)?)?
    else {
        return Ok(unchanged(expr, subquery));
    };
    let subquery = if right == stands {
        subquery
    } else {
        let read = right
            .transform(|of| Ok(if of == stands { Transformed::yes(item.clone()) } else { Transformed::no(of) }))?;
        let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).project([read.data])?.build()?;
        subquery.with_plan(Arc::new(plan))
    };
    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr: Box::new(left), subquery, negated })))
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
fn told(of: InSubquery) -> Result<Expr> {
    steady(&of)?;
    let InSubquery { expr, subquery, negated } = of;
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
