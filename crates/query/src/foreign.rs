//! What Postgres calls by another name, or means by it, written as the engine has it: functions and casts.
//!
//! - Types of the catalogue, `::pg_catalog.int8`, as programs write them that look types up.
//! - `x ^ y`, which is `power(x, y)`.
//! - `sign`, `every`, `variance` and `mod`, which the engine calls otherwise; `array_remove` and `array_replace`, which are of one item
//!   there and of all in Postgres.
//! - `::varchar(n)` and `::char(n)` keep the first `n` characters, `::uuid` gives a UUID as text. `::json` changes nothing: JSON is text here. `'\xabcd'::bytea` is bytes.
//! - `array_agg` and `string_agg` of `DISTINCT` values in their order, beside another aggregate that has an order: the engine takes the order
//!   of one for that of both.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CharacterLength, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, Ident, ObjectName, OrderByExpr, OrderByOptions, Statement,
    UnaryOperator, Value, VisitorMut,
};

use crate::functions::{lacking, power};
use crate::grammar;
use crate::parameter;
use crate::walk;
use crate::wanted::call;

/// How Postgres calls a function, and how the engine calls what it does.
const NAMES: [(&str, &str); 6] = [
    ("array_remove", "array_remove_all"),
    ("array_replace", "array_replace_all"),
    ("every", "bool_and"),
    ("pow", "power"),
    ("sign", "signum"),
    ("variance", "var_samp"),
];

/// Places behind the point that a number is rounded to at most: it has no digits there.
const RIGHT_MAX: u64 = 100;
/// And before the point.
const LEFT_MAX: u64 = 308;

/// Returns what Postgres calls a function of the engine, where that is called otherwise there.
pub(crate) fn in_postgres(function: &str) -> &str {
    let engine = if function == "var" { "var_samp" } else { function };
    // `bool_and` is known to both.
    let own = NAMES.iter().find(|(own, of)| *of == engine && !matches!(*own, "every" | "pow"));
    own.map_or(function, |(own, _)| own)
}

/// Rewrites `statement`.
pub(crate) fn rewrite(statement: &mut Statement) {
    let _: ControlFlow<()> = walk::expressions_mut(statement, |expr| {
        if let Expr::Function(call) = expr {
            in_order(call);
        }
        ControlFlow::Continue(())
    });
    let mut ordered = 0;
    let _: ControlFlow<()> = walk::expressions(statement, |expr| {
        ordered += usize::from(matches!(expr, Expr::Function(call) if order(call).is_some()));
        ControlFlow::Continue(())
    });
    let _: ControlFlow<()> = walk::visit_mut(statement, &mut Foreign { several_orders: ordered > 1 });
}

/// Sorts the distinct texts of `string_agg`, as Postgres does where no order is given.
fn in_order(function: &mut Function) {
    if name(function).as_deref() != Some("string_agg") || function.over.is_some() {
        return;
    }
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let (Some(DuplicateTreatment::Distinct), true, Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value)))) =
        (list.duplicate_treatment, list.clauses.is_empty(), list.args.first())
    {
        let by = OrderByExpr { expr: value.clone(), options: OrderByOptions::default(), with_fill: None };
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![by]));
    }
}

struct Foreign {
    several_orders: bool,
}

impl VisitorMut for Foreign {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        grammar::signed(expr);
        if let Expr::Cast { data_type, .. } = expr
            && let DataType::Custom(name, _) = data_type
            && let Some(plain) = parameter::of_catalogue(name).and_then(|of| parameter::written(&of))
        {
            *data_type = plain;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::PGExp, right } => {
                let [left, right] =
                    [left, right].map(|side| std::mem::replace(side.as_mut(), Expr::value(Value::Null)));
                *expr = call(power::NAME, [left, right]);
            }
            Expr::Function(function) => {
                if let Some((_, engine)) = name(function).and_then(|name| NAMES.iter().find(|(own, _)| *own == name)) {
                    function.name = ObjectName::from(vec![Ident::new(*engine)]);
                }
                places(function);
                if let Some(written) = remainder(function).or_else(|| self.sorted(function)) {
                    *expr = written;
                }
            }
            Expr::Cast { expr: value, data_type, .. } => {
                if let (DataType::Bytea, Some(digits)) = (&*data_type, hex_digits(value)) {
                    let whole = digits.len() % 2 == 0 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    // What is no bytes the function says.
                    **value = match whole {
                        true => Expr::value(Value::HexStringLiteral(digits)),
                        false => call("decode", [text(&digits), text("hex")]),
                    };
                } else if let (DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_), Some(digits)) =
                    (&*data_type, fraction(value))
                {
                    **value = text(&digits);
                } else if let Some(most) = characters(data_type) {
                    *data_type = DataType::Text;
                    let whole = std::mem::replace(expr, Expr::value(Value::Null));
                    *expr = call("left", [whole, Expr::value(Value::Number(most.to_string(), false))]);
                } else if *data_type == DataType::Uuid {
                    let value = std::mem::replace(value.as_mut(), Expr::value(Value::Null));
                    *expr = call(lacking::UUID, [value]);
                } else if matches!(data_type, DataType::JSON | DataType::JSONB) {
                    let value = std::mem::replace(value.as_mut(), Expr::value(Value::Null));
                    *expr = Expr::Nested(Box::new(value));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Foreign {
    /// Sorts distinct values once they are together.
    fn sorted(&self, function: &mut Function) -> Option<Expr> {
        let is_text = match name(function)?.as_str() {
            "array_agg" => false,
            "string_agg" => true,
            _ => return None,
        };
        let order = order(function).filter(|_| self.several_orders && function.over.is_none())?;
        let (ascending, nulls_first) = (order.options.asc.unwrap_or(true), order.options.nulls_first);
        let by = order.expr.to_string();
        let FunctionArguments::List(list) = &mut function.args else { return None };
        if list.duplicate_treatment != Some(DuplicateTreatment::Distinct) || list.clauses.len() != 1 {
            return None;
        }
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = list.args.first()? else { return None };
        if value.to_string() != by {
            return None;
        }
        let value = value.clone();
        let separator = match (is_text, list.args.get(1)) {
            (true, Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(separator)))) => Some(separator.clone()),
            (true, _) => return None,
            (false, _) => None,
        };
        list.clauses.clear();
        list.args.truncate(1);
        function.name = ObjectName::from(vec![Ident::new("array_agg")]);
        if is_text {
            let present = Box::new(Expr::IsNotNull(Box::new(Expr::Nested(Box::new(value)))));
            function.filter = Some(match function.filter.take() {
                Some(filter) => Box::new(Expr::BinaryOp {
                    left: Box::new(Expr::Nested(filter)),
                    op: BinaryOperator::And,
                    right: present,
                }),
                None => present,
            });
        }
        let direction = text(if ascending { "ASC" } else { "DESC" });
        let nulls = text(if nulls_first.unwrap_or(!ascending) { "NULLS FIRST" } else { "NULLS LAST" });
        let sorted = call("array_sort", [Expr::Function(function.clone()), direction, nulls]);
        Some(match separator {
            // Without a separator there is nothing between them.
            Some(separator) => call("array_to_string", [sorted, call("coalesce", [separator, text("")])]),
            None => sorted,
        })
    }
}

fn text(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
}

/// Returns the digits of bytes as Postgres writes them, `\xabcd`.
fn hex_digits(written: &Expr) -> Option<String> {
    let Expr::Value(value) = written else { return None };
    let (Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text)) = &value.value else { return None };
    let digits = text.strip_prefix("\\x")?;
    Some(digits.chars().filter(|digit| !digit.is_ascii_whitespace()).collect())
}

/// Returns the digits of a number with a point: as a double, which the engine reads it as, it may lie below what is written.
fn fraction(written: &Expr) -> Option<String> {
    match written {
        Expr::Nested(inner) => fraction(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(_) => {
                fraction(expr).filter(|digits| !digits.starts_with('-')).map(|digits| format!("-{digits}"))
            }
            _ => None,
        },
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => {
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
                (plain && digits.contains('.')).then(|| digits.clone())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Keeps the places that `round` is asked for where doubles have them: the engine multiplies by a power of ten, which has no end.
fn places(function: &mut Function) {
    if name(function).as_deref() != Some("round") {
        return;
    }
    let FunctionArguments::List(list) = &mut function.args else { return };
    let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(places))] = list.args.as_mut_slice() else { return };
    let (of, least) = match places {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (expr.as_mut(), LEFT_MAX),
        of => (of, RIGHT_MAX),
    };
    if let Expr::Value(value) = of
        && let Value::Number(digits, _) = &mut value.value
        && digits.parse::<u64>().is_ok_and(|digits| digits > least)
    {
        *digits = least.to_string();
    }
}

/// Returns the name of a function that is not one of some schema.
fn name(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.to_lowercase()),
        _ => None,
    }
}

/// Returns what an aggregate is ordered by, where that is one thing.
fn order(function: &Function) -> Option<&OrderByExpr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::OrderBy(by) => by.first().filter(|_| by.len() == 1),
        _ => None,
    })
}

/// Writes `mod(a, b)` as what it is.
fn remainder(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let (true, [FunctionArg::Unnamed(FunctionArgExpr::Expr(of)), FunctionArg::Unnamed(FunctionArgExpr::Expr(by))]) =
        (name(function)? == "mod", list.args.as_slice())
    else {
        return None;
    };
    let [left, right] = [of, by].map(|side| Box::new(Expr::Nested(Box::new(side.clone()))));
    Some(Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Modulo, right })))
}

/// Returns how many characters a type keeps, where it does not keep all.
fn characters(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Varchar(Some(most))
        | DataType::CharacterVarying(Some(most))
        | DataType::CharVarying(Some(most))
        | DataType::Nvarchar(Some(most))
        | DataType::Char(Some(most))
        | DataType::Character(Some(most)) => match most {
            CharacterLength::IntegerLength { length, .. } => Some(*length),
            CharacterLength::Max => None,
        },
        _ => None,
    }
}
