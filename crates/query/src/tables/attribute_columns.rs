//! The optimizer's rule that turns `attribute(attributes, 'k')` into a column of the stored table, however far above the scan
//! it stands.
//!
//! The planner's own rules for moving cheap expressions towards the leaves are switched off: they tell columns apart by name
//! alone, and take a column for another of the same name that was computed above it. Here a column is followed from the
//! expression that uses it down to its scan by position, through plans that hand it on as it is; anything else ends the walk,
//! and the expression stays where it was.
//!
//! *Invariants.* Only a plan that defines its own columns (a projection, an aggregate) asks for more from below; what comes out
//! of it has the names that it had.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, Join, JoinType, LogicalPlan, Projection, SubqueryAlias, TableScan, TableScanBuilder,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::attributes::{MAP, column_name};
use super::stored::StoredTable;
use crate::functions::attribute;

/// The rule.
#[derive(Debug)]
pub(crate) struct AttributeColumns;

impl OptimizerRule for AttributeColumns {
    fn name(&self) -> &str {
        "attribute_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Projection(_) => asking(plan),
            // An alias cannot stand around grouping sets.
            LogicalPlan::Aggregate(aggregate)
                if !aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) =>
            {
                asking(plan)
            }
            _ => Ok(Transformed::no(plan)),
        }
    }
}

/// `attribute(column, 'key')`.
type Asked = (Column, String);

fn asked(expr: &Expr) -> Option<Asked> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match (call.func.name() == attribute::NAME, call.args.as_slice()) {
        (true, [Expr::Column(map), Expr::Literal(ScalarValue::Utf8(Some(key)), _)]) => Some((map.clone(), key.clone())),
        _ => None,
    }
}

/// Rewrites a plan whose expressions ask for attributes, where what is below can supply them.
fn asking(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let (mut wanted, mut whole): (Vec<Asked>, Vec<Column>) = (Vec::new(), Vec::new());
    for expr in plan.expressions() {
        expr.apply(|expr| {
            if let Some(one) = asked(expr) {
                if !wanted.contains(&one) {
                    wanted.push(one);
                }
                return Ok(TreeNodeRecursion::Jump);
            }
            if let Expr::Column(column) = expr {
                whole.push(column.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    // Where the map is read anyhow, a column beside it is no gain.
    wanted.retain(|(map, _)| !whole.contains(map));
    let inputs = plan.inputs();
    let ([input], false) = (inputs.as_slice(), wanted.is_empty()) else { return Ok(Transformed::no(plan)) };
    let mut input = (*input).clone();
    let mut found: Vec<(Asked, Column)> = Vec::new();
    for one in wanted {
        if let Some((below, column)) = supplied(&input, &one.0, &one.1)? {
            input = below;
            found.push((one, column));
        }
    }
    if found.is_empty() {
        return Ok(Transformed::no(plan));
    }
    let names = NamePreserver::new(&plan);
    let exprs = plan.expressions().into_iter().map(|expr| {
        let name = names.save(&expr);
        let rewritten = expr.transform_down(|expr| {
            let column = asked(&expr).and_then(|one| found.iter().find(|(known, _)| *known == one));
            Ok(match column {
                Some((_, column)) => Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump),
                None => Transformed::no(expr),
            })
        })?;
        Ok(name.restore(rewritten.data))
    });
    let exprs = exprs.collect::<Result<Vec<Expr>>>()?;
    Ok(Transformed::yes(plan.with_new_exprs(exprs, vec![input])?))
}

/// Makes `plan` hand on the attribute `key` of its column `map` too; returns it with the name of the new column.
fn supplied(plan: &LogicalPlan, map: &Column, key: &str) -> Result<Option<(LogicalPlan, Column)>> {
    let Some(at) = plan.schema().maybe_index_of_column(map) else { return Ok(None) };
    let below = match plan {
        LogicalPlan::TableScan(scan) => return by_scan(scan, at, key),
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => {
            let Some((input, column)) = supplied(plan.inputs()[0], map, key)? else { return Ok(None) };
            (plan.with_new_exprs(plan.expressions(), vec![input])?, column)
        }
        LogicalPlan::Projection(projection) => {
            let Expr::Column(inner) = projection.expr[at].clone().unalias() else { return Ok(None) };
            let Some((input, column)) = supplied(&projection.input, &inner, key)? else { return Ok(None) };
            let mut exprs = projection.expr.clone();
            let new = Expr::Column(column.clone());
            if !exprs.contains(&new) {
                if projection.schema.fields().iter().any(|field| *field.name() == column.name) {
                    return Ok(None);
                }
                exprs.push(new);
            }
            (LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), column)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = Column::from(alias.input.schema().qualified_field(at));
            let Some((input, column)) = supplied(&alias.input, &inner, key)? else { return Ok(None) };
            // Under the alias names are no longer told apart by their table.
            if input.schema().fields().iter().filter(|field| *field.name() == column.name).count() != 1 {
                return Ok(None);
            }
            let outer = Column::new(Some(alias.alias.clone()), column.name);
            (LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?), outer)
        }
        LogicalPlan::Join(join) => match by_join(join, plan, map, key)? {
            Some(supplied) => supplied,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    // What was handed on before has to be there still, under its name.
    let (plan_below, column) = &below;
    let kept = |old: &DFSchema, new: &DFSchema| {
        old.iter().all(|(qualifier, field)| new.maybe_index_of_column(&Column::from((qualifier, field))).is_some())
    };
    let complete = kept(plan.schema(), plan_below.schema()) && plan_below.schema().has_column(column);
    Ok(complete.then_some(below))
}

fn by_join(join: &Join, plan: &LogicalPlan, map: &Column, key: &str) -> Result<Option<(LogicalPlan, Column)>> {
    let (from_left, from_right) = match join.join_type {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => (true, true),
        JoinType::LeftSemi | JoinType::LeftAnti => (true, false),
        JoinType::RightSemi | JoinType::RightAnti => (false, true),
        _ => return Ok(None),
    };
    let is_left = from_left && join.left.schema().has_column(map);
    let is_right = from_right && join.right.schema().has_column(map);
    let (left, right) = (join.left.as_ref(), join.right.as_ref());
    let (inputs, column) = match (is_left, is_right) {
        (true, false) => {
            let Some((left, column)) = supplied(left, map, key)? else { return Ok(None) };
            (vec![left, right.clone()], column)
        }
        (false, true) => {
            let Some((right, column)) = supplied(right, map, key)? else { return Ok(None) };
            (vec![left.clone(), right], column)
        }
        _ => return Ok(None),
    };
    // Two scans of one table, told apart by nothing: whose column it is would be open.
    if inputs.iter().filter(|input| input.schema().has_column(&column)).count() != 1 {
        return Ok(None);
    }
    Ok(Some((plan.with_new_exprs(plan.expressions(), inputs)?, column)))
}

fn by_scan(scan: &TableScan, at: usize, key: &str) -> Result<Option<(LogicalPlan, Column)>> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let Some(stored) = provider.downcast_ref::<StoredTable>() else { return Ok(None) };
    if scan.projected_schema.field(at).name() != MAP {
        return Ok(None);
    }
    let schema = scan.source.schema();
    let mut columns = scan.projection.clone().unwrap_or_else(|| (0..schema.fields().len()).collect());
    let mut keys = stored.keys().to_vec();
    let first = schema.fields().len() - keys.len();
    let number = keys.iter().position(|known| known == key).unwrap_or_else(|| {
        keys.push(key.to_owned());
        keys.len() - 1
    });
    if !columns.contains(&(first + number)) {
        columns.push(first + number);
    }
    let source = provider_as_source(Arc::new(stored.with_keys(keys)));
    let scan = TableScanBuilder::new(scan.table_name.clone(), source)
        .with_projection(Some(columns))
        .with_filters(scan.filters.clone())
        .with_fetch(scan.fetch)
        .build()?;
    let column = Column::new(Some(scan.table_name.clone()), column_name(key));
    Ok(Some((LogicalPlan::TableScan(scan), column)))
}
