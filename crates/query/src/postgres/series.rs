//! What catalogue queries call in `FROM`: short series of numbers, over the search path or over the columns of a key, and the list of
//! keywords. They stand there as the rows that they give.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, TableFactor, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::namespace::PG_CATALOG;

/// The longest series.
const LENGTH_MAX: i64 = 1_000;

/// Writes the rows of a function that stands in `FROM`; false where it is none of those.
pub(super) fn expand(factor: &mut TableFactor) -> bool {
    let TableFactor::Table { name, args: Some(args), alias, .. } = factor else { return false };
    let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
    match last.as_deref() {
        Some("pg_get_keywords") if args.args.is_empty() => {
            *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new("pg_get_keywords")]);
            let TableFactor::Table { args, .. } = factor else { return false };
            *args = None;
            true
        }
        Some("generate_series") => {
            let [from, to] = args.args.as_slice() else { return false };
            let (Some(from), Some(to)) = (bound(from), bound(to)) else { return false };
            if to.saturating_sub(from) >= LENGTH_MAX {
                return false;
            }
            let alias = alias.take();
            let Some(rows) = numbers(from, to) else { return false };
            let TableFactor::Derived { lateral, subquery, sample, .. } = rows else { return false };
            *factor = TableFactor::Derived { lateral, subquery, alias, sample };
            true
        }
        _ => false,
    }
}

/// Returns a bound that is known: a number, or how many schemas are searched.
fn bound(argument: &FunctionArg) -> Option<i64> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return None };
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        Expr::Function(function) if function.name.to_string().ends_with("array_upper") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let searched = list.args.first()?.to_string().to_lowercase();
            let implicit = match searched.trim_start_matches("pg_catalog.") {
                "current_schemas(false)" => 0,
                "current_schemas(true)" => 2,
                _ => return None,
            };
            Some(1 + implicit)
        }
        _ => None,
    }
}

/// Returns rows of one number each.
fn numbers(from: i64, to: i64) -> Option<TableFactor> {
    let values: Vec<String> = (from..=to).map(|number| format!("({number})")).collect();
    let rows =
        if values.is_empty() { "(SELECT 0 WHERE false)".to_owned() } else { format!("(VALUES {})", values.join(", ")) };
    Parser::new(&GenericDialect {}).try_with_sql(&rows).ok()?.parse_table_factor().ok()
}
