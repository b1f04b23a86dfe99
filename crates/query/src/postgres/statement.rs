//! Catalogue queries rewritten into what the planner takes, and told from all others.
//!
//! A statement is about the catalogue where it names one of its tables, or no table at all but one of its functions. Only then
//! do the rules apply that read syntax the way programs mean it when they ask about tables.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, TableAlias,
    TableFactor, TableWithJoins, Value, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, RewriteArrayAnyAllOperation, RewritePgCatalogOperator,
    SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};

use super::namespace::{ABOUT_RELATIONS, PG_CATALOG};
use super::{fixed, routines, series};
use crate::tables::SCHEMA;
use crate::walk;

/// What a statement must have somewhere in its text to be looked at.
const SIGNS: &[&str] = &[
    "pg_",
    "information_schema",
    "regclass",
    "regtype",
    "current_",
    "session_user",
    "version",
    "collate",
    "any",
    "all",
    "operator",
    "format_type",
    "has_",
    "obj_description",
    "set_config",
    "getdatabaseencoding",
    "pg_advisory",
    "quote_",
];

/// Signs that statements without a table have as well.
const COMMON: &[&str] = &["any", "all", "collate"];

static PARSER: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);

/// Says whether the catalogue has a table of this name.
pub(super) fn is_catalogue_table(name: &str) -> bool {
    ABOUT_RELATIONS.iter().chain(routines::NAMES).chain(fixed::names()).any(|known| *known == name)
}

/// A statement that programs wrote for Postgres.
#[derive(Debug)]
pub(crate) enum Adapted {
    /// It asks the catalogue; it is rewritten.
    Catalogue(Box<Statement>),
    /// It asks about telemetry, or cannot be read here.
    Other,
}

/// Reads `sql` the way Postgres does, where it is about the catalogue.
pub(crate) fn adapt(sql: &str) -> Adapted {
    let lower = sql.to_ascii_lowercase();
    if !SIGNS.iter().any(|sign| lower.contains(sign)) {
        return Adapted::Other;
    }
    let Ok(mut statements) = PARSER.parse(sql) else { return Adapted::Other };
    let (Some(mut statement), None) = (statements.pop(), statements.pop()) else { return Adapted::Other };
    if !matches!(statement, Statement::Query(_)) {
        return Adapted::Other;
    }
    let mut relations = Relations::default();
    let _: ControlFlow<()> = walk::visit_mut(&mut statement, &mut relations);
    let asks = relations.catalogue > 0 || SIGNS.iter().any(|sign| !COMMON.contains(sign) && lower.contains(sign));
    if relations.others == 0 && asks { Adapted::Catalogue(Box::new(statement)) } else { Adapted::Other }
}

/// Applies to any other statement the rules that leave its meaning as it is.
pub(crate) fn soften(statement: Statement) -> Statement {
    let rules: [&dyn SqlStatementRewriteRule; 5] = [
        &RewriteArrayAnyAllOperation,
        &StripCallableQualifier,
        &CurrentUserVariableToSessionUserFunctionCall,
        &StripCollate,
        &RewritePgCatalogOperator,
    ];
    rules.into_iter().fold(statement, |statement, rule| rule.rewrite(statement))
}

/// Says whether it is `ARRAY(SELECT ..)`.
fn is_list_of_rows(function: &Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("array") && matches!(function.args, FunctionArguments::Subquery(_))
}

fn of_rows(args: &FunctionArguments) -> bool {
    let FunctionArguments::List(list) = args else { return false };
    matches!(list.args.first(), Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(first)))) if is_list_of_rows(first))
}

/// Counts the tables that are of the catalogue and those that are not, and gives those of `information_schema` their Postgres form.
#[derive(Default)]
struct Relations {
    others: usize,
    catalogue: usize,
    /// Names that stand for a part of the statement itself.
    local: BTreeSet<String>,
}

impl VisitorMut for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.local.extend(with.map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // The search path, which the rewriting leaves empty where it is worked out in a subquery.
            Expr::InList { expr: tested, list, .. }
                if matches!(list.as_slice(), [one] if one.to_string() == "''")
                    && tested.to_string().contains("schema") =>
            {
                *list = vec![Expr::value(Value::SingleQuotedString(SCHEMA.to_owned()))];
            }
            // A name put together to be looked up, for a comment that no table has.
            Expr::Cast { expr: inner, data_type, .. }
                if data_type.to_string().to_ascii_lowercase().ends_with("regclass")
                    && matches!(inner.as_ref(), Expr::Function(function) if function.name.to_string() == "format") =>
            {
                *expr = Expr::value(Value::Null);
            }
            // Such a list written out as text.
            Expr::Function(function)
                if function.name.to_string().to_ascii_lowercase().ends_with("array_to_string")
                    && of_rows(&function.args) =>
            {
                *expr = Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(Expr::value(Value::Null)),
                    data_type: DataType::Text,
                    array: false,
                    format: None,
                };
            }
            // A list made of rows, which the planner does not know: of roles, rights and options, of which there are none.
            Expr::Function(function) if is_list_of_rows(function) => {
                *expr = Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(Expr::value(Value::Null)),
                    data_type: DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None)),
                    array: false,
                    format: None,
                };
            }
            // What reads a type is kept by its name.
            Expr::BinaryOp { left, right, .. } if names_function(left) => {
                let none = matches!(right.as_ref(), Expr::Value(value) if value.to_string() == "0");
                let name = if none { Some("-".to_owned()) } else { function_named(right) };
                if let Some(name) = name {
                    **right = Expr::value(Value::SingleQuotedString(name));
                }
            }
            Expr::Function(function) if function.name.to_string().ends_with("to_regclass") => {
                if let Some(found) = table_named(&function.args) {
                    *expr = found;
                }
            }
            // As newer versions call it.
            Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|part| part.value == "colliculocale") => {
                if let Some(last) = parts.last_mut() {
                    *last = Ident::new("colllocale");
                }
            }
            // The table of a row, which is asked for to find comments that there are none of.
            Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|part| part.value == "tableoid") => {
                *expr = Expr::value(Value::Number("0".to_owned(), false));
            }
            // Over tables that have no rows whatever is stored there is no value, and nothing that the planner could not correlate.
            Expr::Subquery(query) if gives_nothing(query) => *expr = Expr::value(Value::Null),
            Expr::Subquery(query) => {
                unqualified(query);
                at_most_one(query);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if series::expand(factor) {
            return ControlFlow::Continue(());
        }
        let (name, alias) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => (name, alias),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.others += usize::from(!name.0.last().is_some_and(|part| text(part).starts_with("pg_")));
                return ControlFlow::Continue(());
            }
            _ => return ControlFlow::Continue(()),
        };
        let parts: Vec<String> = name.0.iter().map(text).collect();
        match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [schema, table] if *schema == "information_schema" => {
                let own = format!("information_schema_{table}");
                if is_catalogue_table(&own) {
                    alias.get_or_insert_with(|| TableAlias {
                        explicit: true,
                        name: Ident::new(*table),
                        columns: Vec::new(),
                        at: None,
                    });
                    *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new(own)]);
                }
                self.catalogue += 1;
            }
            [schema, _] if *schema == PG_CATALOG => self.catalogue += 1,
            [table] if self.local.contains(*table) => {}
            [table] if table.starts_with("pg_") && is_catalogue_table(table) => {
                *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new(*table)]);
                self.catalogue += 1;
            }
            _ => self.others += 1,
        }
        ControlFlow::Continue(())
    }
}

/// Says whether a column holds the name of a function, as those of `pg_type` do.
fn names_function(expr: &Expr) -> bool {
    let last = match expr {
        Expr::Identifier(name) => &name.value,
        Expr::CompoundIdentifier(parts) => match parts.last() {
            Some(name) => &name.value,
            None => return false,
        },
        _ => return false,
    };
    ["typinput", "typoutput", "typreceive", "typsend"].contains(&last.as_str())
}

/// Returns the name of the function whose id a subquery looks up, as a cast to `regproc` is written.
fn function_named(expr: &Expr) -> Option<String> {
    let query = match expr {
        Expr::Subquery(query) => query,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => return function_named(inner),
        _ => return None,
    };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [from] = select.from.as_slice() else { return None };
    let Some(Expr::BinaryOp { left, right, .. }) = &select.selection else { return None };
    if from.to_string() != "pg_catalog.pg_proc" || left.to_string() != "proname" {
        return None;
    }
    match right.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(name) => name.rsplit('.').next().map(str::to_owned),
            _ => None,
        },
        _ => None,
    }
}

/// Writes what looks the id of a table up, null where there is none of the name.
fn table_named(args: &FunctionArguments) -> Option<Expr> {
    let FunctionArguments::List(list) = args else { return None };
    let [name] = list.args.as_slice() else { return None };
    let query = format!(
        "(SELECT max(c.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE (n.nspname = '{SCHEMA}' AND c.relname = {name}) OR concat(n.nspname, '.', c.relname) = {name})"
    );
    Parser::new(&PostgreSqlDialect {}).try_with_sql(&query).and_then(|mut parser| parser.parse_expr()).ok()
}

/// Looks a function up by its own name where its schema was given with it.
fn unqualified(query: &mut Query) {
    let Some(name) = function_named(&Expr::Subquery(Box::new(query.clone()))) else { return };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    if let Some(Expr::BinaryOp { right, .. }) = &mut select.selection {
        **right = Expr::value(Value::SingleQuotedString(name));
    }
}

fn gives_nothing(query: &Query) -> bool {
    matches!(query.body.as_ref(), SetExpr::Select(select) if !aggregates(select)) && reads_nothing(&query.body)
}

/// Makes a subquery for one value say that it is for one: the planner does not find out from the keys of the catalogue.
fn at_most_one(query: &mut Query) {
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    if select.from.is_empty() || aggregates(select) {
        return;
    }
    if let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_mut_slice() {
        let Ok(max) =
            Parser::new(&PostgreSqlDialect {}).try_with_sql(&format!("max({expr})")).and_then(|mut p| p.parse_expr())
        else {
            return;
        };
        *expr = max;
        query.order_by = None;
    }
}

fn text(part: &ObjectNamePart) -> String {
    match part {
        ObjectNamePart::Identifier(ident) if ident.quote_style.is_none() => ident.value.to_ascii_lowercase(),
        ObjectNamePart::Identifier(ident) => ident.value.clone(),
        ObjectNamePart::Function(function) => function.to_string(),
    }
}

/// Writes the answer to a catalogue query that the planner cannot take, where it can only be empty: each of its parts reads a
/// table that has no rows. Returns SQL with the same columns.
pub(crate) fn empty_answer(statement: &Statement) -> Option<String> {
    let Statement::Query(query) = statement else { return None };
    if !reads_nothing(&query.body) {
        return None;
    }
    let select = first_select(&query.body)?;
    let columns: Vec<String> = select
        .projection
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let name = match item {
                SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
                SelectItem::UnnamedExpr(expr) => last_name(expr).unwrap_or_else(|| format!("column{}", at + 1)),
                _ => format!("column{}", at + 1),
            };
            format!("CAST(NULL AS VARCHAR) AS \"{}\"", name.replace('"', "\"\""))
        })
        .collect();
    Some(format!("SELECT {} WHERE false", columns.join(", ")))
}

fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|ident| ident.value.clone()),
        Expr::Function(function) => function.name.0.last().map(text),
        Expr::Cast { expr, .. } => last_name(expr),
        _ => None,
    }
}

fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn reads_nothing(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => {
            // Without groups an aggregate over nothing still has a row.
            let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
            (grouped || !aggregates(select)) && select.from.iter().any(from_nothing)
        }
        SetExpr::Query(query) => reads_nothing(&query.body),
        SetExpr::SetOperation { left, right, .. } => reads_nothing(left) && reads_nothing(right),
        _ => false,
    }
}

fn from_nothing(from: &TableWithJoins) -> bool {
    let inner = from.joins.iter().filter(|join| {
        matches!(
            join.join_operator,
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) | JoinOperator::Semi(_)
        )
    });
    // The left side of a left join decides; a right or full join may bring rows of its own.
    let outer = from.joins.iter().any(|join| {
        matches!(join.join_operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_))
    });
    !outer && (factor_of_nothing(&from.relation) || inner.map(|join| &join.relation).any(factor_of_nothing))
}

fn factor_of_nothing(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, .. } => name.0.last().is_some_and(|part| fixed::is_empty(&text(part))),
        TableFactor::Derived { subquery, .. } => reads_nothing(&subquery.body),
        TableFactor::NestedJoin { table_with_joins, .. } => from_nothing(table_with_joins),
        _ => false,
    }
}

fn aggregates(select: &Select) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            const AGGREGATES: &[&str] =
                &["count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_and", "bool_or"];
            match expr {
                Expr::Function(function)
                    if function.name.0.last().is_some_and(|part| AGGREGATES.contains(&text(part).as_str())) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    select.projection.iter().any(|item| walk::visit(item, &mut Find).is_break())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(sql: &str) -> Option<String> {
        match adapt(sql) {
            Adapted::Catalogue(statement) => Some(statement.to_string()),
            Adapted::Other => None,
        }
    }

    #[test]
    fn only_statements_about_the_catalogue_are_taken() {
        assert!(catalogue("SELECT relname FROM pg_class").is_some());
        assert!(catalogue("SELECT version()").is_some());
        assert!(catalogue("WITH c AS (SELECT * FROM pg_catalog.pg_class) SELECT * FROM c").is_some());
        assert_eq!(catalogue("SELECT name FROM spans WHERE name = 'pg_dump'"), None);
        assert_eq!(catalogue("SELECT s.name FROM spans s, pg_class c"), None);
        assert_eq!(catalogue("SELECT * FROM spans_around('dep_1', '1m', '1m') WHERE name = 'all'"), None);
        assert_eq!(catalogue("DELETE FROM pg_class"), None);
    }

    #[test]
    fn the_information_schema_is_that_of_postgres() {
        let sql =
            catalogue("SELECT columns.table_name FROM information_schema.columns").expect("it is the catalogue's");
        assert_eq!(sql, "SELECT columns.table_name FROM pg_catalog.information_schema_columns AS columns");
    }

    #[test]
    fn a_query_is_empty_only_where_each_part_reads_an_empty_table() {
        let answer = |sql: &str| match adapt(sql) {
            Adapted::Catalogue(statement) => empty_answer(&statement),
            Adapted::Other => panic!("`{sql}` is about the catalogue"),
        };
        assert_eq!(
            answer("SELECT i.indkey AS keys, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid")
                .as_deref(),
            Some("SELECT CAST(NULL AS VARCHAR) AS \"keys\", CAST(NULL AS VARCHAR) AS \"relname\" WHERE false")
        );
        assert_eq!(answer("SELECT relname FROM pg_class LEFT JOIN pg_index ON indrelid = pg_class.oid"), None);
        assert_eq!(answer("SELECT count(*) FROM pg_index"), None);
        assert_eq!(answer("SELECT 1 FROM pg_index UNION SELECT 2 FROM pg_class"), None);
    }
}
