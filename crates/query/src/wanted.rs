//! Attributes where a number or a condition is wanted: `abs(attributes['n'])`, `-attributes['n']`, `WHERE attributes['retried']`.
//!
//! The planner tells types before any rule of ours sees the statement, so such places are marked as it is parsed: what may be an attribute
//! there is put into a function of [`crate::functions::meant`], which settles what it is once types are known ([`crate::friendly`]). An
//! attribute is a value in brackets, `x['k']`, or a name that some part of the statement gives to one.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Select, SelectItem, Statement, Subscript, UnaryOperator, Value, Visitor, VisitorMut,
};

use crate::functions::attribute;
use crate::functions::meant::{NUMBER, TRUTH};
use crate::taken::ALIKE;
use crate::walk;

/// Functions whose arguments are numbers.
const OF_NUMBERS: [&str; 34] = [
    "abs",
    "acos",
    "approx_median",
    "approx_percentile_cont",
    "asin",
    "atan",
    "atan2",
    "avg",
    "cbrt",
    "ceil",
    "cos",
    "degrees",
    "exp",
    "floor",
    "ln",
    "log",
    "log10",
    "log2",
    "mean",
    "median",
    "mod",
    "pow",
    "power",
    "radians",
    "round",
    "sign",
    "signum",
    "sin",
    "sqrt",
    "stddev",
    "sum",
    "tan",
    "trunc",
    "width_bucket",
];
/// Functions whose argument is a condition.
const OF_CONDITIONS: [&str; 3] = ["bool_and", "bool_or", "every"];

/// Marks what is wanted as a number or a condition.
pub(crate) fn mark(statement: &mut Statement) {
    let mut names = Names::default();
    let _: ControlFlow<()> = walk::visit(statement, &mut names);
    let _: ControlFlow<()> = walk::visit_mut(statement, &mut Mark { names: names.0 });
}

/// The names that are given to attributes.
#[derive(Default)]
struct Names(HashSet<String>);

impl Visitor for Names {
    type Break = ();

    fn post_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { expr, alias } = item
                && is_attribute(expr, &self.0)
            {
                self.0.insert(alias.value.to_lowercase());
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_attribute(expr: &Expr, names: &HashSet<String>) -> bool {
    let named = |name: &Ident| names.contains(&name.value.to_lowercase());
    match expr {
        Expr::Nested(inner) => is_attribute(inner, names),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) })) => {
                matches!(value.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_))
            }
            _ => false,
        },
        Expr::Function(call) => call.name.to_string().eq_ignore_ascii_case(attribute::NAME),
        Expr::Identifier(name) => named(name),
        Expr::CompoundIdentifier(path) => path.last().is_some_and(named),
        _ => false,
    }
}

struct Mark {
    names: HashSet<String>,
}

impl Mark {
    /// Puts `expr` into a function where it may be an attribute.
    fn put(&self, function: &str, expr: &mut Expr) {
        if is_attribute(expr, &self.names) {
            let inner = std::mem::replace(expr, Expr::value(Value::Null));
            *expr = call(function, [inner]);
        }
    }

    fn arguments(&self, function: &mut Function) {
        if let Some(filter) = &mut function.filter {
            self.put(TRUTH, filter);
        }
        let name = function.name.to_string().to_lowercase();
        let FunctionArguments::List(list) = &mut function.args else { return };
        let mut arguments: Vec<&mut Expr> = list
            .args
            .iter_mut()
            .filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            })
            .collect();
        let wanted = if OF_CONDITIONS.contains(&name.as_str()) {
            TRUTH
        } else if OF_NUMBERS.binary_search(&name.as_str()).is_ok()
            || (ALIKE.contains(&name.as_str()) && arguments.iter().any(|argument| is_number(argument)))
        {
            NUMBER
        } else {
            return;
        };
        for argument in &mut arguments {
            self.put(wanted, argument);
        }
    }
}

impl VisitorMut for Mark {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let conditions = select.selection.iter_mut().chain(&mut select.having).chain(&mut select.qualify);
        for condition in conditions {
            self.put(TRUTH, condition);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
                self.put(TRUTH, left);
                self.put(TRUTH, right);
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr: inner }
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner) => self.put(TRUTH, inner),
            Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner }
            | Expr::Ceil { expr: inner, .. }
            | Expr::Floor { expr: inner, .. } => self.put(NUMBER, inner),
            Expr::Case { operand: None, conditions, .. } => {
                for case in conditions {
                    self.put(TRUTH, &mut case.condition);
                }
            }
            Expr::Case { operand: Some(operand), conditions, .. } => {
                if conditions.iter().any(|case| is_number(&case.condition)) {
                    self.put(NUMBER, operand);
                } else if conditions.iter().any(|case| is_truth(&case.condition)) {
                    self.put(TRUTH, operand);
                }
            }
            Expr::Function(function) => self.arguments(function),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner } => {
            is_number(inner)
        }
        _ => false,
    }
}

fn is_truth(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Boolean(_)))
}

/// Writes a call.
pub(crate) fn call(name: &str, arguments: impl IntoIterator<Item = Expr>) -> Expr {
    let argument = |argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::{DFParser, Statement as Parsed};

    fn marked(sql: &str) -> String {
        let parsed = DFParser::parse_sql(sql).expect("parses").pop_front().expect("one statement");
        let Parsed::Statement(mut statement) = parsed else { panic!("`{sql}` is no query") };
        mark(&mut statement);
        statement.to_string().replace(NUMBER, "n").replace(TRUTH, "t")
    }

    #[test]
    fn the_names_can_be_searched() {
        assert!(OF_NUMBERS.is_sorted());
    }

    #[test]
    fn attributes_are_marked_where_a_number_or_a_condition_is_wanted() {
        for (sql, wanted) in [
            ("SELECT -a['k'], abs(a['k'] + 1) FROM t", "SELECT -n(a['k']), abs(a['k'] + 1) FROM t"),
            ("SELECT 1 FROM t WHERE a['k']", "SELECT 1 FROM t WHERE t(a['k'])"),
            ("SELECT 1 FROM t WHERE NOT (a['k']) OR b", "SELECT 1 FROM t WHERE NOT t((a['k'])) OR b"),
            (
                "SELECT coalesce(a['k'], -1), coalesce(a['k'], '')",
                "SELECT coalesce(n(a['k']), -1), coalesce(a['k'], '')",
            ),
            ("SELECT sum(x) FROM (SELECT a['k'] AS x FROM t)", "SELECT sum(n(x)) FROM (SELECT a['k'] AS x FROM t)"),
            ("SELECT sum(x), -x, NOT y FROM t", "SELECT sum(x), -x, NOT y FROM t"),
        ] {
            assert_eq!(marked(sql), wanted);
        }
    }
}
