//! What the planner does not take of SQL, written as what it takes: `FETCH FIRST n ROWS ONLY` as `LIMIT`, and `SHOW` of more than all
//! tables as a query of the catalogue.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, LimitClause, ObjectName, Query, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions,
    Statement, Value, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::error::QueryError;
use crate::walk;

/// Rewrites `statement`.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    if let Some(query) = shown(statement) {
        let parsed = Parser::parse_sql(&GenericDialect {}, &query)
            .map_err(|error| QueryError::Invalid(crate::error::tidy(&error.to_string())))?;
        if let Some(first) = parsed.into_iter().next() {
            *statement = first;
        }
    }
    match walk::visit_mut(statement, &mut Fetches) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Fetches;

impl VisitorMut for Fetches {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        let Some(fetch) = query.fetch.take() else { return ControlFlow::Continue(()) };
        if fetch.with_ties || fetch.percent {
            return ControlFlow::Break(QueryError::Refused(
                "`FETCH .. WITH TIES` and `PERCENT` are not supported: `rank() OVER (..)` tells ties".to_owned(),
            ));
        }
        let rows = fetch.quantity.unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
        match &mut query.limit_clause {
            None => {
                query.limit_clause =
                    Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() });
                ControlFlow::Continue(())
            }
            Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => {
                *limit = Some(rows);
                ControlFlow::Continue(())
            }
            Some(_) => ControlFlow::Break(QueryError::Invalid("write `LIMIT` or `FETCH FIRST`, not both".to_owned())),
        }
    }
}

/// Returns the query that a `SHOW` stands for, where the planner does not take it as it is.
fn shown(statement: &Statement) -> Option<String> {
    let query = match statement {
        Statement::ShowTables { show_options, .. } => select(
            "SELECT * FROM information_schema.tables",
            [
                // What the engine is set to is its own.
                Some("table_name <> 'df_settings'".to_owned()),
                within(show_options, "table_schema"),
                filter(show_options, "table_name"),
            ],
        ),
        Statement::ShowColumns { show_options, .. } if show_options.filter_position.is_some() => {
            let table = parent(show_options)?;
            let (schema, table) = match table.0.as_slice() {
                [table] => (None, table),
                [.., schema, table] => (Some(schema), table),
                [] => return None,
            };
            let named = |column: &str, name: String| Some(format!("{column} = {}", quoted(&name)));
            let plain = |part: &datafusion::sql::sqlparser::ast::ObjectNamePart| match part.as_ident() {
                Some(ident) if ident.quote_style.is_none() => ident.value.to_lowercase(),
                Some(ident) => ident.value.clone(),
                None => part.to_string(),
            };
            let schema = schema.map_or_else(|| crate::tables::SCHEMA.to_owned(), plain);
            select(
                "SELECT table_catalog, table_schema, table_name, column_name, data_type, is_nullable FROM \
                 information_schema.columns",
                [named("table_schema", schema), named("table_name", plain(table)), filter(show_options, "column_name")],
            )
        }
        Statement::ShowFunctions { filter } => {
            select(
                "SELECT proname AS name, pg_get_function_arguments(oid) AS arguments, pg_get_function_result(oid) AS result, \
             obj_description(oid, 'pg_proc') AS description FROM pg_catalog.pg_proc",
                [filter.as_ref().map(|filter| filtered(filter, "proname"))],
            ) + " ORDER BY pronamespace DESC, proname"
        }
        Statement::ShowSchemas { show_options, .. } => select(
            "SELECT schema_name FROM pg_catalog.information_schema_schemata",
            [filter(show_options, "schema_name")],
        ),
        Statement::ShowDatabases { show_options, .. } => {
            select("SELECT datname AS database FROM pg_catalog.pg_database", [filter(show_options, "datname")])
        }
        _ => return None,
    };
    Some(query)
}

fn parent(options: &ShowStatementOptions) -> Option<&ObjectName> {
    options.show_in.as_ref()?.parent_name.as_ref()
}

fn within(options: &ShowStatementOptions, column: &str) -> Option<String> {
    let schema = parent(options)?.0.last()?.as_ident()?;
    Some(format!("{column} = {}", quoted(&schema.value)))
}

fn filter(options: &ShowStatementOptions, column: &str) -> Option<String> {
    let (ShowStatementFilterPosition::Infix(filter) | ShowStatementFilterPosition::Suffix(filter)) =
        options.filter_position.as_ref()?;
    Some(filtered(filter, column))
}

fn filtered(filter: &ShowStatementFilter, column: &str) -> String {
    match filter {
        ShowStatementFilter::Like(pattern) | ShowStatementFilter::NoKeyword(pattern) => {
            format!("{column} LIKE {}", quoted(pattern))
        }
        ShowStatementFilter::ILike(pattern) => format!("{column} ILIKE {}", quoted(pattern)),
        ShowStatementFilter::Where(expr) => format!("({expr})"),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn select<const N: usize>(from: &str, filters: [Option<String>; N]) -> String {
    let filters: Vec<String> = filters.into_iter().flatten().collect();
    if filters.is_empty() { from.to_owned() } else { format!("{from} WHERE {}", filters.join(" AND ")) }
}
