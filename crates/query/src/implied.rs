//! What a statement implies about the types of its parameters: a parameter that nobody gave a type has that of what it stands beside, or
//! what its place takes, as in Postgres.
//!
//! Two steps, since an operator must have types to be planned and everything else need not. [`ImpliedPlanner`] settles operators as they
//! are planned, where types decide which operator it is: a number times a length of time, a time less a time. [`settle`] walks the whole
//! plan for conditions, lists, branches and arguments. Only a statement that is described has open parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{
    AggregateFunction, InList, InSubquery, Placeholder, ScalarFunction, WindowFunction,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use plimsoll_otlp::schema::UTC;

use crate::error::QueryError;
use crate::faces;
use crate::friendly::compares;
use crate::functions::{FACE, FACE_ATTRIBUTE};
use crate::taken;

/// A length of time.
pub(crate) const LENGTH: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// An instant.
pub(crate) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
}

/// Gives open parameters beside an operator their types.
#[derive(Debug)]
pub(crate) struct ImpliedPlanner;

impl ExprPlanner for ImpliedPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, mut left, mut right } = expr;
        let type_of = |expr: &Expr| expr.get_type(schema).ok().filter(|of| *of != DataType::Null);
        match op {
            BinaryOperator::StringConcat if is_open(&left) && is_open(&right) => {
                want(&mut left, &DataType::Utf8);
                want(&mut right, &DataType::Utf8);
            }
            BinaryOperator::Multiply | BinaryOperator::Divide => {
                if type_of(&left).is_some_and(|of| is_length(&of)) {
                    want(&mut right, &DataType::Float64);
                }
                if op == BinaryOperator::Multiply && type_of(&right).is_some_and(|of| is_length(&of)) {
                    want(&mut left, &DataType::Float64);
                }
            }
            BinaryOperator::Plus if type_of(&right).is_some_and(|of| is_time(&of)) => want(&mut left, &LENGTH),
            BinaryOperator::Minus => {
                if let Some(time) = type_of(&right).filter(is_time) {
                    want(&mut left, &time);
                }
            }
            _ if compares(&op) => {
                beside_a_time(&mut left, type_of(&right), schema);
                beside_a_time(&mut right, type_of(&left), schema);
            }
            _ => {}
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// A difference with a parameter in it, which was taken for a length of time, is told apart by what it is compared with: less a time it
/// is a length, and a length added to a parameter is a time where the sum is compared with one.
fn beside_a_time(difference: &mut Expr, other: Option<DataType>, schema: &DFSchema) {
    let Some(other) = other else { return };
    let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Minus | Operator::Plus), right }) = difference else {
        return;
    };
    let implied = |expr: &Expr| matches!(expr, Expr::Placeholder(of) if of.field.as_ref().is_none_or(|of| is_length(of.data_type())));
    if is_length(&other) && *op == Operator::Minus && implied(right) {
        if let Ok(time) = left.get_type(schema)
            && is_time(&time)
        {
            give(right, &time);
        }
    } else if is_time(&other) && implied(left) && right.get_type(schema).is_ok_and(|of| is_length(&of)) {
        give(left, &other);
    }
}

fn is_length(of: &DataType) -> bool {
    matches!(of, DataType::Interval(_) | DataType::Duration(_))
}

fn is_time(of: &DataType) -> bool {
    matches!(of, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Says whether it is a parameter without a type, or comes to one: `-$1`, a branch of a `CASE`.
fn is_open(expr: &Expr) -> bool {
    match expr {
        Expr::Placeholder(of) => of.field.is_none(),
        Expr::Negative(inner) => is_open(inner),
        Expr::Alias(alias) => is_open(&alias.expr),
        Expr::Case(case) => {
            let mut results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
            results.all(|result| is_open(result) || matches!(result.as_ref(), Expr::Literal(of, _) if of.is_null()))
        }
        Expr::ScalarFunction(call) if taken::ALIKE.contains(&call.func.name()) => call.args.iter().all(is_open),
        _ => false,
    }
}

/// Gives `of` to the parameters in `expr` that are open and decide what it is.
fn want(expr: &mut Expr, of: &DataType) {
    match expr {
        Expr::Placeholder(placeholder) if placeholder.field.is_none() => give(expr, of),
        Expr::Negative(inner) => want(inner, of),
        Expr::Alias(alias) => want(&mut alias.expr, of),
        Expr::Case(case) if case.else_expr.is_some() || !case.when_then_expr.is_empty() => {
            for result in case.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut case.else_expr) {
                want(result, of);
            }
        }
        Expr::ScalarFunction(call) if taken::ALIKE.contains(&call.func.name()) => {
            call.args.iter_mut().for_each(|argument| want(argument, of));
        }
        _ => {}
    }
}

fn give(expr: &mut Expr, of: &DataType) {
    if let Expr::Placeholder(placeholder) = expr {
        placeholder.field = Some(Arc::new(Field::new("", of.clone(), true)));
    }
}

/// Gives all of them the type that the first has which has one. Attributes among them have any: equality with one is with text.
fn alike<'a>(many: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) {
    let many: Vec<&mut Expr> = many.into_iter().collect();
    let first = many.iter().filter(|one| !is_open(one)).find_map(|one| {
        let of = one.get_type(schema).ok().filter(|of| *of != DataType::Null)?;
        Some(if faces::is_attribute(faces::face(one, schema).as_deref()) { DataType::Utf8 } else { of })
    });
    if let Some(of) = first {
        many.into_iter().for_each(|one| want(one, &of));
    }
}

/// Gives every open parameter of a plan the type that its place implies, as far as there is one.
pub(crate) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        let condition = matches!(&plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
        let plan = plan.map_expressions(|mut expr| {
            let name = names.save(&expr);
            if condition {
                // A plain column is what a join joins on.
                want(&mut expr, &DataType::Boolean);
            }
            Ok(expr.transform_up(|expr| Ok(place(expr, &schema)))?.update_data(|expr| name.restore(expr)))
        })?;
        plan.map_data(|plan| match plan {
            LogicalPlan::Values(mut values) => {
                let columns = values.values.first().map_or(0, Vec::len);
                for column in 0..columns {
                    // Rows were brought to one type with casts of what has another.
                    values.values.iter_mut().filter_map(|row| row.get_mut(column)).for_each(within_a_cast);
                    alike(values.values.iter_mut().filter_map(|row| row.get_mut(column)), &schema);
                }
                Ok(LogicalPlan::Values(values))
            }
            LogicalPlan::Union(mut union) => {
                united(&mut union.inputs);
                Ok(LogicalPlan::Union(union))
            }
            plan => Ok(plan),
        })
    })
    .map(|done| done.data)
}

fn within_a_cast(expr: &mut Expr) {
    if let Expr::Cast(cast) = expr {
        let of = cast.field.data_type().clone();
        want(&mut cast.expr, &of);
    }
}

/// Columns of a union are of one type.
fn united(inputs: &mut [Arc<LogicalPlan>]) {
    let columns = inputs.first().map_or(0, |input| input.schema().fields().len());
    for column in 0..columns {
        let types =
            inputs.iter().map(|input| input.schema().fields().get(column).map(|field| field.data_type().clone()));
        let Some(first) = types.flatten().find(|of| *of != DataType::Null) else { continue };
        for input in inputs.iter_mut() {
            if let LogicalPlan::Projection(projection) = Arc::make_mut(input)
                && let Some(expr) = projection.expr.get_mut(column)
            {
                want(expr, &first);
            }
        }
    }
}

/// Settles what stands directly in `expr`.
fn place(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match &mut expr {
        Expr::Not(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner) => want(inner, &DataType::Boolean),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And | Operator::Or => {
                want(left, &DataType::Boolean);
                want(right, &DataType::Boolean);
            }
            _ => alike([left.as_mut(), right.as_mut()], schema),
        },
        Expr::Between(between) => {
            alike([between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()], schema);
        }
        Expr::InList(InList { expr, list, .. }) => alike(std::iter::once(expr.as_mut()).chain(list), schema),
        Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
            if let Some(of) = subquery.subquery.schema().fields().first() {
                want(expr, of.data_type());
            }
        }
        Expr::Like(like) | Expr::SimilarTo(like) => {
            want(&mut like.expr, &DataType::Utf8);
            want(&mut like.pattern, &DataType::Utf8);
        }
        Expr::Case(case) => {
            let whens = case.when_then_expr.iter_mut();
            match &mut case.expr {
                Some(operand) => {
                    alike(std::iter::once(operand.as_mut()).chain(whens.map(|(when, _)| when.as_mut())), schema);
                }
                None => whens.for_each(|(when, _)| want(when, &DataType::Boolean)),
            }
            let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            alike(results.chain(case.else_expr.as_deref_mut()), schema);
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => arguments(func.name(), args, schema),
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            if let Some(filter) = &mut params.filter {
                want(filter, &DataType::Boolean);
            }
            arguments(func.name(), &mut params.args, schema);
        }
        Expr::WindowFunction(window) => {
            let WindowFunction { fun, params } = window.as_mut();
            if let Some(filter) = &mut params.filter {
                want(filter, &DataType::Boolean);
            }
            arguments(fun.name(), &mut params.args, schema);
        }
        _ => return Transformed::no(expr),
    }
    Transformed::yes(expr)
}

fn arguments(function: &str, args: &mut [Expr], schema: &DFSchema) {
    match (function, args) {
        ("make_array", items) => alike(items, schema),
        (function, args) if taken::ALIKE.contains(&function) => alike(args, schema),
        // `x = ANY(list)`, and what adds one to a list.
        ("array_has" | "array_contains" | "array_append" | "array_position" | "array_remove", [list, item, ..]) => {
            let type_of = |expr: &Expr| expr.get_type(schema).ok().filter(|of| *of != DataType::Null);
            match (type_of(list), type_of(item)) {
                (Some(DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _)), _) => {
                    want(item, of.data_type());
                }
                (None, Some(of)) => want(list, &DataType::new_list(of, true)),
                _ => {}
            }
        }
        (function, args) => {
            for (at, argument) in args.iter_mut().enumerate() {
                if let Some(of) = taken::argument(function, at) {
                    want(argument, &of);
                }
            }
        }
    }
}

/// Returns what each parameter of a settled plan is used as, by its number: the first use counts, as in Postgres, but that equality with
/// an attribute is with anything.
pub(crate) fn types(plan: &LogicalPlan) -> std::result::Result<BTreeMap<usize, DataType>, QueryError> {
    let mut found: BTreeMap<usize, (DataType, bool)> = BTreeMap::new();
    let mut conflict = None;
    let walked = plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(Placeholder { id, field: Some(field) }) = expr
                    && let Ok(number) = id.trim_start_matches('$').parse::<usize>()
                    && *field.data_type() != DataType::Null
                {
                    let weak = field.metadata().get(FACE).is_some_and(|face| face == FACE_ATTRIBUTE);
                    let of = crate::output::plain(field.data_type());
                    match found.get_mut(&number) {
                        None => {
                            found.insert(number, (of, weak));
                        }
                        Some(known) if known.1 && !weak => *known = (of, weak),
                        Some((known, _)) if !weak && !go_together(known, &of) => {
                            conflict.get_or_insert((number, known.clone(), of));
                        }
                        Some(_) => {}
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.map_err(|error| QueryError::from_planning(&error, 0))?;
    match conflict {
        Some((number, first, second)) => {
            let [first, second] = [first, second].map(|of| crate::postgres::ColumnType::of_type(&of).word());
            Err(QueryError::Invalid(format!(
                "`${number}` is used as `{first}` and as `{second}`: cast it where it stands, for instance `${number}::{first}`, or give \
                 each use a parameter of its own"
            )))
        }
        None => Ok(found.into_iter().map(|(number, (of, _))| (number, of)).collect()),
    }
}

/// Says whether a value of one type can stand where another is wanted.
fn go_together(known: &DataType, of: &DataType) -> bool {
    known == of
        || (known.is_numeric() && of.is_numeric())
        || (is_time(known) && is_time(of))
        || (is_length(known) && is_length(of))
}
