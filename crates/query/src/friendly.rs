//! Comparisons mean the obvious thing: ids in any case, enumerations by word, constant or number, attributes as numbers where
//! they meet numbers or each other, and in order.
//!
//! The face of an expression travels as field metadata from the function that made it, through projections, subqueries and
//! joins, to wherever it is compared. Operators are rewritten as they are planned, `IN` and `BETWEEN` before types are
//! coerced.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::math::expr_fn::round;
use datafusion::logical_expr::expr::{Between, Case, InList, ScalarFunction, Sort};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawFieldAccessExpr, RawWindowExpr,
};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, BinaryExpr, Cast, Expr, ExprSchemable, GetFieldAccess, LogicalPlan, Operator, TryCast,
    WindowFunctionDefinition, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::clocks;
use crate::faces::{
    self, as_number, as_type, befriend, beside, face, is_attribute, is_number, length_of_time, numbers,
};
use crate::functions::{FACE_ATTRIBUTE, attribute, extreme, lacking, lengths, meant, zones};
use crate::operators;

/// Aggregates that take numbers only: given an attribute, they take it as a number.
pub(crate) const NUMERIC_AGGREGATES: &[&str] = &[
    "sum",
    "avg",
    "mean",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var",
    "var_pop",
    "var_samp",
    "median",
    "approx_median",
    "approx_percentile_cont",
    "percentile_cont",
    "corr",
    "covar_pop",
    "covar_samp",
];

/// Plans operators, `attributes['key']` and aggregates over attributes.
#[derive(Debug)]
pub(crate) struct FriendlyPlanner;

impl ExprPlanner for FriendlyPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let expr = match of_lengths(expr, schema)? {
            PlannerResult::Original(expr) => expr,
            planned => return Ok(planned),
        };
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = match op {
            _ if compares(&op) => {
                let (left_face, right_face) = (face(&left, schema), face(&right, schema));
                let right = befriend(right, left_face.as_deref(), schema);
                let left = befriend(left, right_face.as_deref(), schema);
                let right = timely(right, &left, schema);
                let left = timely(left, &right, schema);
                let ordered = !matches!(op, BinaryOperator::Eq | BinaryOperator::NotEq);
                if ordered && is_attribute(left_face.as_deref()) && is_attribute(right_face.as_deref()) {
                    return Ok(PlannerResult::Planned(in_order(left, &op, right)));
                }
                numbers(left, left_face, right, right_face, schema, (false, ordered))
            }
            BinaryOperator::And | BinaryOperator::Or => {
                let condition = |expr: Expr| match is_attribute(face(&expr, schema).as_deref()) {
                    true => meant::truth(expr),
                    false => expr,
                };
                (condition(left), condition(right))
            }
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo => {
                let (left_face, right_face) = (face(&left, schema), face(&right, schema));
                let right = match op {
                    BinaryOperator::Plus | BinaryOperator::Minus => length_of_time(right, &left, schema),
                    _ => right,
                };
                let (left, right) = clocked(left, right, schema);
                numbers(left, left_face, right, right_face, schema, (true, true))
            }
            _ => return operators::planned(RawBinaryExpr { op, left, right }, schema),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let data_type = expr.expr.get_type(schema)?;
        if !attribute::holds_attributes(&data_type) || data_type == DataType::Null {
            return Ok(PlannerResult::Original(expr));
        }
        let key = match &expr.field_access {
            GetFieldAccess::NamedStructField { name } => Expr::Literal(name.clone(), None),
            GetFieldAccess::ListIndex { key } => key.as_ref().clone(),
            GetFieldAccess::ListRange { .. } => return Ok(PlannerResult::Original(expr)),
        };
        let call = ScalarFunction::new_udf(attribute::udf(), vec![expr.expr, key]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }

    fn plan_aggregate(&self, mut expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        if let Some(extreme) = of_attribute(expr.func.name(), &expr.args) {
            expr.func = extreme;
        }
        if NUMERIC_AGGREGATES.contains(&expr.func.name()) {
            for argument in &mut expr.args {
                if matches!(argument, Expr::ScalarFunction(call) if call.func.name() == attribute::NAME) {
                    *argument = as_number(std::mem::take(argument));
                }
            }
        }
        Ok(PlannerResult::Original(expr))
    }

    fn plan_window(&self, mut expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        if let WindowFunctionDefinition::AggregateUDF(function) = &mut expr.func_def
            && let Some(extreme) = of_attribute(function.name(), &expr.args)
        {
            *function = extreme;
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// Returns what an aggregate is of attributes, where it is given one.
fn of_attribute(function: &str, args: &[Expr]) -> Option<Arc<AggregateUDF>> {
    match args {
        [Expr::ScalarFunction(call)] if call.func.name() == attribute::NAME => extreme::of_attributes(function),
        _ => None,
    }
}

/// Does the same for what has no planner of its own: `IN`, `BETWEEN`, `ORDER BY`, and the marks of [`meant`].
#[derive(Debug)]
pub(crate) struct FriendlyLists;

impl AnalyzerRule for FriendlyLists {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(|expr| lists(expr, &schema))?.update_data(|expr| name.restore(expr)))
            })?
            .map_data(|plan| match plan {
                LogicalPlan::Sort(mut sort) => {
                    sort.expr = by_size(sort.expr, &schema);
                    Ok(LogicalPlan::Sort(sort))
                }
                plan => plan.recompute_schema(),
            })
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "friendly_lists"
    }
}

fn lists(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::InList(InList { expr, list, negated }) => {
            let Some(face) = face(&expr, schema) else {
                return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
            };
            let numeric = face == FACE_ATTRIBUTE && list.iter().any(|item| is_number(item, schema));
            let expr = if numeric { Box::new(as_type(*expr, beside(&list))) } else { expr };
            let list = list.into_iter().map(|item| befriend(item, Some(&face), schema)).collect();
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Between(Between { expr, negated, low, high }) if is_time(&expr, schema) => {
            let [low, high] = [low, high].map(|side| Box::new(timely(*side, &expr, schema)));
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let Some(face) = face(&expr, schema) else {
                return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
            };
            let numeric = face == FACE_ATTRIBUTE && (is_number(&low, schema) || is_number(&high, schema));
            let expr = if numeric { Box::new(as_type(*expr, beside([low.as_ref(), high.as_ref()]))) } else { expr };
            let [low, high] =
                [low, high].map(|side| match numeric && is_attribute(faces::face(&side, schema).as_deref()) {
                    true => Box::new(as_number(*side)),
                    false => Box::new(befriend(*side, Some(&face), schema)),
                });
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::ScalarFunction(call) if call.func.name() == zones::AT => {
            let settled = match call.args.first() {
                Some(time) => zones::settled(&call, &time.get_type(schema)?),
                None => None,
            };
            Ok(match settled {
                Some(settled) => Transformed::yes(settled),
                None => Transformed::no(Expr::ScalarFunction(call)),
            })
        }
        Expr::ScalarFunction(call) if call.func.name() == "date_bin" => {
            let shown = |at: usize| call.args.get(at).and_then(|arg| arg.get_type(schema).ok());
            let zone = shown(1).and_then(|time| zones::shown_in(&time).cloned());
            let origin_shown = shown(2).is_some_and(|origin| zones::shown_in(&origin).is_some());
            Ok(match zone {
                Some(zone) => Transformed::yes(zones::date_bin(call, &zone, origin_shown)),
                None => Transformed::no(Expr::ScalarFunction(call)),
            })
        }
        Expr::Case(mut case) => {
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            let read = lengths::all_read(results.chain(case.else_expr.as_deref_mut()), schema)?;
            let Some(operand) = &case.expr else { return Ok(Transformed::new_transformed(Expr::Case(case), read)) };
            let face = face(operand, schema);
            for (when, _) in &mut case.when_then_expr {
                **when = befriend(std::mem::take(when.as_mut()), face.as_deref(), schema);
            }
            Ok(Transformed::yes(Expr::Case(case)))
        }
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Utf8 && is_length(&cast.expr, schema) => {
            Ok(Transformed::yes(lengths::text(*cast.expr)))
        }
        Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() && has_fraction(&expr, schema) => {
            Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(whole(*expr, schema)), field })))
        }
        Expr::TryCast(TryCast { expr, field }) if field.data_type().is_integer() && has_fraction(&expr, schema) => {
            Ok(Transformed::yes(Expr::TryCast(TryCast { expr: Box::new(whole(*expr, schema)), field })))
        }
        // A time without a zone is what a clock shows.
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(_, None)) => {
            let shown = cast.expr.get_type(schema).is_ok_and(|of| zones::shown_in(&of).is_some());
            Ok(match shown {
                true => {
                    Transformed::yes(Expr::Cast(Cast { expr: Box::new(zones::wall(*cast.expr)), field: cast.field }))
                }
                false => Transformed::no(Expr::Cast(cast)),
            })
        }
        Expr::ScalarFunction(call) if meant::MARKS.contains(&call.func.name()) => {
            let settled = match call.args.as_slice() {
                [value, ..] => meant::settled(call.func.name(), value, &value.to_field(schema)?.1),
                _ => None,
            };
            Ok(match settled {
                Some(settled) => Transformed::yes(settled),
                None => Transformed::no(Expr::ScalarFunction(call)),
            })
        }
        // Of what was handed on under a name, the mark is not seen where it is written.
        Expr::Not(inner) => condition(*inner, schema, |inner| Expr::Not(Box::new(inner))),
        Expr::IsTrue(inner) => condition(*inner, schema, |inner| Expr::IsTrue(Box::new(inner))),
        Expr::IsNotTrue(inner) => condition(*inner, schema, |inner| Expr::IsNotTrue(Box::new(inner))),
        Expr::IsFalse(inner) => condition(*inner, schema, |inner| Expr::IsFalse(Box::new(inner))),
        Expr::IsNotFalse(inner) => condition(*inner, schema, |inner| Expr::IsNotFalse(Box::new(inner))),
        Expr::AggregateFunction(mut aggregate) => {
            let params = &mut aggregate.params;
            let [first] = params.args.as_slice() else {
                return Ok(Transformed::no(Expr::AggregateFunction(aggregate)));
            };
            if is_attribute(face(first, schema).as_deref())
                && let Some(extreme) = extreme::of_attributes(aggregate.func.name())
            {
                aggregate.func = extreme;
            }
            // Of distinct values the order is by what is given.
            if !params.distinct {
                params.order_by = by_size(std::mem::take(&mut params.order_by), schema);
            }
            Ok(Transformed::yes(Expr::AggregateFunction(aggregate)))
        }
        Expr::WindowFunction(mut window) => {
            window.params.order_by = by_size(std::mem::take(&mut window.params.order_by), schema);
            Ok(Transformed::yes(Expr::WindowFunction(window)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Adds a length to a day as to the midnight that it begins with, as Postgres does: the engine leaves hours out.
fn clocked(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    let is_day = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Date32 | DataType::Date64));
    let midnight = |expr: Expr| Expr::Cast(Cast::new(Box::new(expr), DataType::Timestamp(TimeUnit::Nanosecond, None)));
    match (is_day(&left) && is_length(&right, schema), is_length(&left, schema) && is_day(&right)) {
        (true, _) => (midnight(left), right),
        (_, true) => (left, midnight(right)),
        _ => (left, right),
    }
}

/// Says whether an operator compares two values.
pub(crate) fn compares(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn has_fraction(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| of.is_floating() || of.is_decimal())
}

/// Rounds what is cast to a whole number, which the engine cuts off: halves of doubles to the even number, and those of decimals, which is what
/// a number with a point is in Postgres, away from zero.
fn whole(expr: Expr, schema: &DFSchema) -> Expr {
    let exact = expr.get_type(schema).is_ok_and(|of| of.is_decimal()) || matches!(expr, Expr::Literal(..));
    if exact { round(vec![expr]) } else { lacking::nearest_whole(expr) }
}

fn is_time(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Timestamp(..)))
}

/// Writes a time with its seconds where it is compared with one.
fn timely(literal: Expr, other: &Expr, schema: &DFSchema) -> Expr {
    let whole = match &literal {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) if is_time(other, schema) => clocks::with_seconds(text),
        _ => None,
    };
    whole.map_or(literal, lit)
}

fn is_length(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| lengths::is_length(&data_type))
}

/// Plans comparisons and products of lengths of time, of which the planner knows some and compares months before days before hours.
fn of_lengths(expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let RawBinaryExpr { op, left, right } = expr;
    let (left_is, right_is) = (is_length(&left, schema), is_length(&right, schema));
    let original = |op, left, right| PlannerResult::Original(RawBinaryExpr { op, left, right });
    Ok(match op {
        _ if compares(&op) && (left_is || right_is) => {
            let [left, right] = [lengths::beside(left, schema)?, lengths::beside(right, schema)?];
            match is_length(&left, schema) && is_length(&right, schema) {
                true => original(op, lengths::comparable(left), lengths::comparable(right)),
                false => original(op, left, right),
            }
        }
        BinaryOperator::Plus | BinaryOperator::Minus if left_is && (right_is || is_text_literal(&right)) => {
            let (left, right) = (left, lengths::beside(right, schema)?);
            let (left, right) = as_intervals(left, right, schema);
            original(op, left, right)
        }
        BinaryOperator::Plus if right_is && is_text_literal(&left) => {
            let (left, right) = as_intervals(lengths::beside(left, schema)?, right, schema);
            original(op, left, right)
        }
        BinaryOperator::Plus if is_time(&left, schema) && is_text_literal(&right) => {
            original(op, left, lengths::beside(right, schema)?)
        }
        BinaryOperator::Plus if is_time(&right, schema) && is_text_literal(&left) => {
            original(op, lengths::beside(left, schema)?, right)
        }
        BinaryOperator::StringConcat if left_is || right_is => {
            let text = |expr: Expr, is: bool| if is { lengths::text(expr) } else { expr };
            original(op, text(left, left_is), text(right, right_is))
        }
        BinaryOperator::Multiply if left_is && is_number(&right, schema) => {
            PlannerResult::Planned(lengths::times(left, right))
        }
        BinaryOperator::Multiply if right_is && is_number(&left, schema) => {
            PlannerResult::Planned(lengths::times(right, left))
        }
        BinaryOperator::Divide if left_is && is_number(&right, schema) => {
            let inverse = BinaryExpr::new(Box::new(lit(1.0)), Operator::Divide, Box::new(as_number(right)));
            PlannerResult::Planned(lengths::times(left, Expr::BinaryExpr(inverse)))
        }
        _ => original(op, left, right),
    })
}

/// Gives what lies between two times days of 24 hours where it meets an interval, which it has in Postgres from the start.
fn as_intervals(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    let differs = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Duration(_)));
    match (differs(&left), differs(&right)) {
        (true, false) => (lengths::read(left, false), right),
        (false, true) => (left, lengths::read(right, false)),
        _ => (left, right),
    }
}

fn is_text_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.try_as_str().is_some())
}

fn condition(inner: Expr, schema: &DFSchema, over: fn(Expr) -> Expr) -> Result<Transformed<Expr>> {
    Ok(match is_attribute(face(&inner, schema).as_deref()) {
        true => Transformed::yes(over(meant::truth(inner))),
        false => Transformed::no(over(inner)),
    })
}

/// Sorts attributes by size where they are numbers: these come before all other text, and what is absent comes where it is asked for.
fn by_size(order: Vec<Sort>, schema: &DFSchema) -> Vec<Sort> {
    let mut sorted = Vec::with_capacity(order.len());
    for Sort { expr, asc, nulls_first } in order {
        if is_attribute(face(&expr, schema).as_deref()) {
            if nulls_first == asc {
                sorted.push(Sort::new(expr.clone().is_null(), !nulls_first, false));
            }
            sorted.push(Sort::new(as_number(expr.clone()), asc, !asc));
        }
        sorted.push(Sort::new(expr, asc, nulls_first));
    }
    sorted
}

/// Compares two attributes: as numbers where both are, else as text.
fn in_order(left: Expr, op: &BinaryOperator, right: Expr) -> Expr {
    let op = match op {
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        _ => Operator::GtEq,
    };
    let compared = |left: Expr, right: Expr| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    let (less, more) = (as_number(left.clone()), as_number(right.clone()));
    let both = less.clone().is_not_null().and(more.clone().is_not_null());
    let branches = vec![(Box::new(both), Box::new(compared(less, more)))];
    Expr::Case(Case::new(None, branches, Some(Box::new(compared(left, right)))))
}
