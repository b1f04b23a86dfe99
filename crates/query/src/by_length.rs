//! Intervals go by their length wherever they are compared, sorted or told apart: the engine's own kernels go by months, then days, then
//! hours, so that a month is longer than 40 days and 24 hours are another thing than a day.
//!
//! One rule over the plan puts [`lengths::comparable`] around every key that is an interval: operands of comparisons, `IN`, `CASE` and
//! `nullif`, keys of sorts, joins, groups and windows. What is shown stays the interval. It runs before types are coerced, which would
//! refuse windows over intervals, and again after, when a column of a `UNION` may have become one.
//!
//! *Invariants.* A second run over a plan changes nothing. Lists and rows that hold intervals are refused where they would be compared.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Between, Case, InList, InSubquery, SetComparison, Sort};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, merge_schema};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, GroupingSet, LogicalPlan, Operator, Projection, Subquery,
    WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, when,
};
use datafusion::optimizer::AnalyzerRule;

use crate::functions::{lengths, longest};

/// Functions over lists that compare their items.
const COMPARING_LISTS: [&str; 17] = [
    "array_distinct",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_max",
    "array_min",
    "array_position",
    "array_positions",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_sort",
    "array_union",
];

/// See the module.
#[derive(Debug)]
pub(crate) struct ByLength;

impl AnalyzerRule for ByLength {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(|expr| compared(expr, &schema))?.update_data(|expr| name.restore(expr)))
            })?;
            let changed = plan.transformed;
            let mut plan = keyed(if changed { plan.data.recompute_schema()? } else { plan.data }, &schema)?;
            plan.transformed |= changed;
            Ok(plan)
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "by_length"
    }
}

fn is_text(expr: &Expr, schema: &dyn ExprSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| lengths::is_text(&data_type))
}

fn is_interval(expr: &Expr, schema: &dyn ExprSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(_)))
}

/// Says whether values of a type have intervals within them.
fn holds_intervals(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            matches!(item.data_type(), DataType::Interval(_)) || holds_intervals(item.data_type())
        }
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| matches!(field.data_type(), DataType::Interval(_)) || holds_intervals(field.data_type())),
        _ => false,
    }
}

/// Returns what stands for `expr` where it is told apart from others.
fn key(expr: Expr, schema: &dyn ExprSchema) -> Result<Expr> {
    match expr.get_type(schema) {
        Ok(DataType::Interval(_)) => Ok(lengths::comparable(expr.unalias())),
        Ok(data_type) if holds_intervals(&data_type) => {
            plan_err!("intervals in lists and rows cannot be compared: take them out, for instance with `unnest`")
        }
        _ => Ok(expr),
    }
}

fn keys(exprs: Vec<Expr>, schema: &dyn ExprSchema) -> Result<Vec<Expr>> {
    exprs.into_iter().map(|expr| key(expr, schema)).collect()
}

fn sorted(order: Vec<Sort>, schema: &dyn ExprSchema) -> Result<Vec<Sort>> {
    let by = |Sort { expr, asc, nulls_first }| Ok(Sort::new(key(expr, schema)?, asc, nulls_first));
    order.into_iter().map(by).collect()
}

/// Says whether one of `operands` is a length that the planner does not compare with the others as it should: an interval with anything, and
/// what lies between two times with an interval or with text.
fn needs_lengths<'a>(operands: impl IntoIterator<Item = &'a Expr>, schema: &dyn ExprSchema) -> bool {
    let (mut intervals, mut durations, mut texts) = (false, false, false);
    for operand in operands {
        match operand.get_type(schema) {
            Ok(DataType::Interval(_)) => intervals = true,
            Ok(DataType::Duration(_)) => durations = true,
            Ok(of) => texts |= lengths::is_text(&of),
            Err(_) => {}
        }
    }
    intervals || (durations && texts)
}

/// Makes operands comparable where one of them is a length and the others are lengths too, or text that may be one.
fn all_by_length<'a>(operands: impl IntoIterator<Item = &'a mut Expr>, schema: &dyn ExprSchema) -> Result<bool> {
    let mut operands: Vec<&mut Expr> = operands.into_iter().collect();
    if !needs_lengths(operands.iter().map(|operand| &**operand), schema) {
        return Ok(false);
    }
    for operand in &mut operands {
        **operand = lengths::beside(std::mem::take(*operand), schema)?;
    }
    let lengths = operands.iter().all(|operand| match operand.get_type(schema) {
        Ok(DataType::Null) => true,
        Ok(data_type) => lengths::is_length(&data_type),
        Err(_) => false,
    });
    if lengths {
        for operand in operands {
            *operand = lengths::comparable(std::mem::take(operand));
        }
    }
    Ok(lengths)
}

/// Makes the only column of a subquery comparable.
fn column_by_length(subquery: &mut Subquery) -> Result<()> {
    let plan = Arc::clone(&subquery.subquery);
    let (qualifier, field) = plan.schema().qualified_field(0);
    let name = field.name().clone();
    let length = lengths::comparable(Expr::Column(Column::from((qualifier, field)))).alias(name);
    subquery.subquery = Arc::new(LogicalPlan::Projection(Projection::try_new(vec![length], plan)?));
    Ok(())
}

fn subquery_holds_lengths(subquery: &Subquery) -> bool {
    subquery.subquery.schema().fields().first().is_some_and(|field| lengths::is_length(field.data_type()))
}

/// Compares by length within an expression.
fn compared(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = false;
    match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if distinguishes(*op) => {
            changed = all_by_length([left.as_mut(), right.as_mut()], schema)?;
            let nested = |side: &Expr| side.get_type(schema).is_ok_and(|data_type| holds_intervals(&data_type));
            if nested(left) && nested(right) {
                key(std::mem::take(left), schema)?;
            }
        }
        Expr::Between(Between { expr, low, high, .. }) => {
            changed = all_by_length([expr.as_mut(), low.as_mut(), high.as_mut()], schema)?;
        }
        Expr::InList(InList { expr, list, .. }) => {
            changed = all_by_length(list.iter_mut().chain([expr.as_mut()]), schema)?;
        }
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Interval(_)) && is_text(&cast.expr, schema) => {
            return Ok(Transformed::yes(lengths::read(std::mem::take(cast.expr.as_mut()), false)));
        }
        Expr::TryCast(cast)
            if matches!(cast.field.data_type(), DataType::Interval(_) | DataType::Duration(_))
                && is_text(&cast.expr, schema) =>
        {
            return Ok(Transformed::yes(lengths::read(std::mem::take(cast.expr.as_mut()), true)));
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. })
        | Expr::SetComparison(SetComparison { expr, subquery, .. }) => {
            let within = subquery.subquery.schema().fields().first().map(|field| field.data_type().clone());
            let either = is_interval(expr, schema) || matches!(within, Some(DataType::Interval(_)));
            if subquery_holds_lengths(subquery) {
                **expr = lengths::beside(std::mem::take(expr), schema)?;
            }
            let both = expr.get_type(schema).is_ok_and(|data_type| lengths::is_length(&data_type))
                && subquery_holds_lengths(subquery);
            let either = either || is_interval(expr, schema);
            if either && both {
                **expr = lengths::comparable(std::mem::take(expr));
                column_by_length(subquery)?;
                changed = true;
            }
        }
        Expr::Case(Case { expr: Some(operand), when_then_expr, .. }) => {
            let whens = when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
            changed = all_by_length(whens.chain([operand.as_mut()]), schema)?;
        }
        Expr::ScalarFunction(call) => {
            let types: Vec<DataType> = call.args.iter().filter_map(|arg| arg.get_type(schema).ok()).collect();
            let intervals = types.iter().any(|of| matches!(of, DataType::Interval(_)));
            match (call.func.name(), call.args.as_mut_slice()) {
                ("greatest" | "least", _) if intervals => {
                    if let Some(own) = longest::of_some(call.func.name()) {
                        call.func = own;
                        changed = true;
                    }
                }
                ("nullif", [value, other]) if intervals => {
                    let (mut left, mut right) = (value.clone(), other.clone());
                    if all_by_length([&mut left, &mut right], schema)? {
                        let same = BinaryExpr::new(Box::new(left), Operator::Eq, Box::new(right));
                        let null = Expr::Literal(ScalarValue::IntervalMonthDayNano(None), None);
                        let otherwise = std::mem::take(value);
                        return Ok(Transformed::yes(when(Expr::BinaryExpr(same), null).otherwise(otherwise)?));
                    }
                }
                (name, _) if COMPARING_LISTS.contains(&name) && types.iter().any(holds_intervals) => {
                    return plan_err!(
                        "`{name}` does not compare intervals: compare their seconds, `extract(epoch FROM x)`"
                    );
                }
                _ => {}
            }
        }
        Expr::AggregateFunction(aggregate) => {
            let params = &mut aggregate.params;
            if !params.distinct {
                let order = std::mem::take(&mut params.order_by);
                changed |= order.iter().any(|by| is_interval(&by.expr, schema));
                params.order_by = sorted(order, schema)?;
            }
            if params.args.iter().any(|arg| is_interval(arg, schema)) {
                match (aggregate.func.name(), params.distinct) {
                    ("min" | "max", _) => {
                        if let Some(own) = longest::of_many(aggregate.func.name()) {
                            aggregate.func = own;
                            changed = true;
                        }
                    }
                    ("count", true) | ("approx_distinct" | "grouping", _) => {
                        params.args = keys(std::mem::take(&mut params.args), schema)?;
                        changed = true;
                    }
                    (name, true) => return distinct(name),
                    _ => {}
                }
            }
        }
        Expr::WindowFunction(window) => {
            let params = &mut window.params;
            let by_interval = params.order_by.first().is_some_and(|by| is_interval(&by.expr, schema));
            if by_interval && params.window_frame.units == WindowFrameUnits::Range {
                params.window_frame = frame(&params.window_frame)?;
            }
            changed = params
                .order_by
                .iter()
                .map(|by| &by.expr)
                .chain(&params.partition_by)
                .any(|expr| is_interval(expr, schema));
            params.order_by = sorted(std::mem::take(&mut params.order_by), schema)?;
            params.partition_by = keys(std::mem::take(&mut params.partition_by), schema)?;
            if params.args.iter().any(|arg| is_interval(arg, schema))
                && let WindowFunctionDefinition::AggregateUDF(function) = &mut window.fun
            {
                match (function.name(), params.distinct) {
                    ("min" | "max", _) => {
                        if let Some(own) = longest::of_many(function.name()) {
                            *function = own;
                            changed = true;
                        }
                    }
                    ("count", true) => {
                        params.args = keys(std::mem::take(&mut params.args), schema)?;
                        changed = true;
                    }
                    (name, true) => return distinct(name),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

fn distinct<T>(function: &str) -> Result<T> {
    plan_err!("`{function}(DISTINCT ..)` of intervals is not supported: take those of a `SELECT DISTINCT`")
}

fn distinguishes(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// Writes how far a window reaches as a length.
fn frame(frame: &WindowFrame) -> Result<WindowFrame> {
    let far = |distance: &ScalarValue| -> Result<ScalarValue> {
        if distance.is_null() {
            return Ok(distance.clone());
        }
        Ok(ScalarValue::Utf8(lengths::in_nanos(distance)?.map(|nanos| nanos.to_string())))
    };
    let bound = |bound: &WindowFrameBound| -> Result<WindowFrameBound> {
        Ok(match bound {
            WindowFrameBound::Preceding(distance) => WindowFrameBound::Preceding(far(distance)?),
            WindowFrameBound::Following(distance) => WindowFrameBound::Following(far(distance)?),
            WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
        })
    };
    Ok(WindowFrame::new_bounds(frame.units, bound(&frame.start_bound)?, bound(&frame.end_bound)?))
}

/// Sorts, joins and groups by length.
fn keyed(plan: LogicalPlan, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let any = |exprs: &[Expr]| {
        exprs.iter().any(|expr| {
            expr.get_type(schema).is_ok_and(|of| matches!(of, DataType::Interval(_)) || holds_intervals(&of))
        })
    };
    match plan {
        LogicalPlan::Sort(mut sort) => {
            sort.expr = sorted(sort.expr, schema)?;
            Ok(Transformed::yes(LogicalPlan::Sort(sort)))
        }
        LogicalPlan::Join(mut join) => {
            let mut changed = false;
            for (left, right) in &mut join.on {
                if is_interval(left, schema) || is_interval(right, schema) {
                    for side in [left, right] {
                        *side = lengths::comparable(std::mem::take(side));
                    }
                    changed = true;
                }
            }
            Ok(if changed {
                Transformed::yes(LogicalPlan::Join(join))
            } else {
                Transformed::no(LogicalPlan::Join(join))
            })
        }
        LogicalPlan::Distinct(Distinct::On(mut on)) => {
            on.on_expr = keys(on.on_expr, schema)?;
            on.sort_expr = on.sort_expr.map(|order| sorted(order, schema)).transpose()?;
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::On(on))))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
            if !any(&columns) {
                return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
            }
            grouped(Aggregate::try_new(input, columns, Vec::new())?, schema).map(Transformed::yes)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let flat: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
            match any(&flat) {
                true => grouped(aggregate, schema).map(Transformed::yes),
                false => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
            }
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Groups by lengths, and shows one interval of each.
fn grouped(aggregate: Aggregate, schema: &DFSchema) -> Result<LogicalPlan> {
    let Aggregate { input, group_expr, mut aggr_expr, schema: shown, .. } = aggregate;
    let flat: Vec<Expr> = grouping_set_to_exprlist(&group_expr)?.into_iter().cloned().collect();
    let is_set = matches!(group_expr.as_slice(), [Expr::GroupingSet(_)]);
    let own = aggr_expr.len();
    let Some(shortest) = longest::of_many("min") else { return plan_err!("intervals have no shortest") };
    // For each column that is an interval, where one of its values will be.
    let mut example = vec![None; flat.len()];
    for (at, expr) in flat.iter().enumerate() {
        if is_interval(expr, schema) {
            example[at] = Some(aggr_expr.len());
            let one = shortest.call(vec![expr.clone().unalias()]);
            aggr_expr.push(one.alias(format!("interval_{at}_of_{own}")));
        }
    }
    let group_expr = group_expr.into_iter().map(|expr| match expr {
        Expr::GroupingSet(set) => {
            let lists = |lists: Vec<Vec<Expr>>| lists.into_iter().map(|list| keys(list, schema)).collect::<Result<_>>();
            Ok(Expr::GroupingSet(match set {
                GroupingSet::Rollup(list) => GroupingSet::Rollup(keys(list, schema)?),
                GroupingSet::Cube(list) => GroupingSet::Cube(keys(list, schema)?),
                GroupingSet::GroupingSets(sets) => GroupingSet::GroupingSets(lists(sets)?),
            }))
        }
        expr => key(expr, schema),
    });
    let grouped = Aggregate::try_new(input, group_expr.collect::<Result<_>>()?, aggr_expr)?;
    let columns = grouped.schema.columns();
    let before = flat.len() + usize::from(is_set);
    // Which set a row is of nobody asks for by name, and the column goes once `grouping` is worked out.
    let asked = shown.iter().enumerate().filter(|(at, _)| !is_set || *at != flat.len());
    let projection = asked.map(|(at, (qualifier, field))| {
        let column = |at: usize| match columns.get(at) {
            Some(column) => Ok(Expr::Column(column.clone())),
            None => plan_err!("a group by intervals has fewer columns than it shows"),
        };
        let Some(Some(example)) = example.get(at) else { return column(at) };
        let shown = column(before + example)?;
        let shown = match is_set {
            true => when(column(at)?.is_not_null(), shown).end()?,
            false => shown,
        };
        Ok(shown.alias_qualified(qualifier.cloned(), field.name()))
    });
    let projection = projection.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(projection, Arc::new(LogicalPlan::Aggregate(grouped)))?))
}
