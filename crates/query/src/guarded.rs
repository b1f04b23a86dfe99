//! Of `AND` and `OR` what may fail is computed only for the rows that need it: `x <> 0 AND 1 / x > 2` never divides by zero.
//!
//! The planner's own operators look away from the right side only where few rows are left, and its rules write `CASE` over truth values as `AND`
//! and `OR`. So, after all of its rules, operands that may fail move behind those that may not, in the order in which they are written, and
//! become branches of a `CASE`, which asks each only for the rows that those before leave open.
//!
//! *Invariants.* The value is the same, null included; what cannot fail is left as it is.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{ExprSchema, Result};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};

use crate::fallible::may_fail;

/// Guards every expression of a plan that no rule will touch any more. What a scan filters by is the scan's concern.
pub(crate) fn guard(plan: LogicalPlan) -> Result<LogicalPlan> {
    let guarded = plan.transform_up_with_subqueries(|plan| {
        if matches!(plan, LogicalPlan::TableScan(_)) {
            return Ok(Transformed::no(plan));
        }
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(guarded(expr, &schema)?.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(guarded.data)
}

/// Guards what stands within `expr`.
pub(crate) fn guarded(expr: Expr, schema: &dyn ExprSchema) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| {
        let Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let (op, mut operands) = (*op, Vec::new());
        flatten(&expr, op, &mut operands);
        // What gives something else each time cannot be asked twice.
        if !operands.iter().any(|operand| may_fail(operand, schema)) || expr.is_volatile() {
            return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
        }
        let operands = operands.into_iter().map(|operand| Ok(guarded(operand.clone(), schema)?.data));
        let (sure, fallible): (Vec<Expr>, Vec<Expr>) =
            operands.collect::<Result<Vec<Expr>>>()?.into_iter().partition(|operand| !may_fail(operand, schema));
        let whole = || sure.iter().chain(&fallible).cloned();
        let decided = |expr: Expr| if op == Operator::And { expr.is_false() } else { expr.is_true() };
        let joined = |operands: Vec<Expr>| operands.into_iter().reduce(|left, right| binary(left, op, right));
        let (Some(all), first) = (joined(whole().collect()), joined(sure.clone())) else {
            return Ok(Transformed::no(expr));
        };
        let before = fallible.iter().take(fallible.len() - 1).cloned();
        let branches = first.into_iter().chain(before).map(|guard| (decided(guard), lit(op == Operator::Or)));
        Ok(Transformed::new(case(branches, all), true, TreeNodeRecursion::Jump))
    })
}

/// Returns a filter that holds where all of `guards` and then all of `fallible` do, each of the latter computed only for the rows that pass
/// all before it; `None` without any of them.
pub(crate) fn last(guards: &[Expr], fallible: &[Expr], schema: &dyn ExprSchema) -> Result<Option<Expr>> {
    let guarded = |expr: &Expr| guarded(expr.clone(), schema).map(|done| done.data);
    let Some((last, before)) = fallible.split_last() else { return Ok(None) };
    let mut branches: Vec<Expr> = guards.iter().cloned().reduce(Expr::and).into_iter().collect();
    for expr in before {
        branches.push(guarded(expr)?);
    }
    let last = guarded(last)?;
    Ok(Some(match branches.is_empty() {
        true => last,
        false => case(branches.into_iter().map(|guard| (guard.is_not_true(), lit(false))), last),
    }))
}

fn flatten<'a>(expr: &'a Expr, op: Operator, operands: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: own, right }) if *own == op => {
            flatten(left, op, operands);
            flatten(right, op, operands);
        }
        other => operands.push(other),
    }
}

fn case(branches: impl Iterator<Item = (Expr, Expr)>, otherwise: Expr) -> Expr {
    let branches: Vec<_> = branches.map(|(when, then)| (Box::new(when), Box::new(then))).collect();
    match branches.is_empty() {
        true => otherwise,
        false => Expr::Case(Case::new(None, branches, Some(Box::new(otherwise)))),
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

#[cfg(test)]
mod tests {
    use std::ops::Not;

    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::{col, try_cast};

    fn said(expr: Expr) -> String {
        let fields = ["x", "y"].map(|name| Field::new(name, DataType::Int64, true));
        let schema = DFSchema::try_from(Schema::new(fields.to_vec())).expect("two columns");
        guarded(expr, &schema).expect("can be walked").data.to_string()
    }

    fn ratio() -> Expr {
        (lit(1_i64) / col("x")).gt(lit(2_i64))
    }

    #[test]
    fn what_may_fail_comes_last_and_behind_a_guard() {
        let zero = || col("x").not_eq(lit(0_i64));
        assert_eq!(
            said(ratio().and(zero())),
            "CASE WHEN x != Int64(0) IS FALSE THEN Boolean(false) ELSE x != Int64(0) AND Int64(1) / x > Int64(2) END"
        );
        assert_eq!(
            said(col("x").eq(lit(0_i64)).or(ratio()).not()),
            "NOT CASE WHEN x = Int64(0) IS TRUE THEN Boolean(true) ELSE x = Int64(0) OR Int64(1) / x > Int64(2) END"
        );
    }

    #[test]
    fn what_cannot_fail_is_left_as_it_is() {
        let sure =
            col("x").gt(lit(1_i64)).and(try_cast(col("y"), DataType::Int32).eq(lit(1_i32)).or(col("y").is_null()));
        assert_eq!(said(sure.clone()), sure.to_string());
        assert_eq!(said(ratio()), ratio().to_string());
    }
}
