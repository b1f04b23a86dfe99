//! What columns are called that a statement gives no name: as the statement writes them, or, for programs that speak to Postgres,
//! as Postgres calls them.
//!
//! The planner's own names have its types in them, and tell a literal by more than its value.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Statement, Value};

/// What Postgres calls a column that has no name.
const NAMELESS: &str = "?column?";

/// The names of a statement's columns, from both ends: how many a `*` stands for is for the planner to say.
#[derive(Debug, Default)]
pub(crate) struct Headings {
    front: Vec<Option<String>>,
    back: Vec<Option<String>>,
    /// True where there is a `*` between them.
    open: bool,
}

impl Headings {
    /// Reads what the columns of `statement` are called, by `name`, which leaves to the planner what it does not know.
    pub(crate) fn of(statement: &Parsed, name: fn(&Expr) -> Option<String>) -> Self {
        let Parsed::Statement(statement) = statement else { return Self::default() };
        let Statement::Query(query) = statement.as_ref() else { return Self::default() };
        let mut headings = Self::default();
        for item in items(query) {
            let name = match item {
                SelectItem::UnnamedExpr(expr) => name(expr),
                SelectItem::ExprWithAlias { .. } => None,
                // Of two nobody knows where the first ends.
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) if !headings.open => {
                    headings.open = true;
                    continue;
                }
                _ => return Self::default(),
            };
            if headings.open { headings.back.push(name) } else { headings.front.push(name) }
        }
        headings
    }

    /// Says what the columns of `schema` are called, in its order; `None` where the planner knows best.
    fn names(&self, columns: usize) -> Option<Vec<Option<&str>>> {
        let named = self.front.len() + self.back.len();
        let between = columns.checked_sub(named).filter(|between| self.open || *between == 0)?;
        let front = self.front.iter().map(Option::as_deref);
        let back = self.back.iter().map(Option::as_deref);
        Some(front.chain(std::iter::repeat_n(None, between)).chain(back).collect())
    }

    /// Gives the columns of `schema` their names.
    pub(crate) fn apply(&self, schema: &SchemaRef) -> SchemaRef {
        let Some(names) = self.names(schema.fields().len()) else { return Arc::clone(schema) };
        let named = |(field, name): (&FieldRef, Option<&str>)| match name {
            Some(name) => Arc::new(Field::clone(field).with_name(name)),
            None => Arc::clone(field),
        };
        let fields: Vec<FieldRef> = schema.fields().iter().zip(names).map(named).collect();
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }

    /// Returns the names of the columns of `schema`.
    pub(crate) fn list(&self, schema: &Schema) -> Vec<String> {
        let known = schema.fields().iter().map(|field| field.name().clone());
        match self.names(schema.fields().len()) {
            Some(names) => {
                names.into_iter().zip(known).map(|(name, known)| name.map_or(known, str::to_owned)).collect()
            }
            None => known.collect(),
        }
    }
}

/// Returns what a query selects; the first part of it says what columns are called.
fn items(query: &Query) -> &[SelectItem] {
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => return &select.projection,
            SetExpr::Query(inner) => body = inner.body.as_ref(),
            SetExpr::SetOperation { left, .. } => body = left.as_ref(),
            _ => return &[],
        }
    }
}

/// Calls an expression by what is written.
pub(crate) fn as_written(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => None,
        other => Some(other.to_string()),
    }
}

/// Calls an expression what Postgres calls it: by the column or the function that it comes from.
pub(crate) fn as_in_postgres(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => None,
        other => Some(figure(other).unwrap_or_else(|| NAMELESS.to_owned())),
    }
}

fn figure(expr: &Expr) -> Option<String> {
    let word = |word: &str| Some(word.to_owned());
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()),
        Expr::Function(call) => {
            let last = call.name.0.last().and_then(|part| part.as_ident());
            last.map(|name| if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() })
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } | Expr::CompoundFieldAccess { root: inner, .. } => {
            figure(inner)
        }
        Expr::Cast { expr: inner, data_type, .. } => figure(inner).or_else(|| Some(type_word(&data_type.to_string()))),
        Expr::TypedString(typed) => Some(type_word(&typed.data_type.to_string())),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(figure).or_else(|| word("case")),
        Expr::Subquery(query) => match items(query).first() {
            Some(SelectItem::UnnamedExpr(expr)) => figure(expr),
            Some(SelectItem::ExprWithAlias { alias, .. }) => Some(alias.value.clone()),
            _ => None,
        },
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => word("bool"),
        Expr::Exists { .. } => word("exists"),
        Expr::Array(_) => word("array"),
        Expr::Interval(_) => word("interval"),
        Expr::AtTimeZone { .. } => word("timezone"),
        Expr::Extract { .. } => word("extract"),
        Expr::Ceil { .. } => word("ceil"),
        Expr::Floor { .. } => word("floor"),
        Expr::Position { .. } => word("position"),
        Expr::Substring { .. } => word("substring"),
        Expr::Trim { .. } => word("btrim"),
        Expr::Overlay { .. } => word("overlay"),
        _ => None,
    }
}

/// Returns what Postgres calls a type inside.
fn type_word(written: &str) -> String {
    let lower = written.to_lowercase();
    let word = lower.split('(').next().unwrap_or(&lower).trim();
    match word {
        "int" | "integer" => "int4",
        "smallint" => "int2",
        "bigint" => "int8",
        "real" => "float4",
        "float" | "double" | "double precision" => "float8",
        "boolean" => "bool",
        "decimal" => "numeric",
        "character varying" => "varchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        other => other.rsplit('.').next().unwrap_or(other),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use datafusion::sql::parser::DFParser;

    fn names(sql: &str, columns: usize, name: fn(&Expr) -> Option<String>) -> Vec<String> {
        let statement = DFParser::parse_sql(sql).expect("parses").pop_front().expect("one statement");
        let fields: Vec<Field> = (0..columns).map(|at| Field::new(format!("c{at}"), DataType::Int64, true)).collect();
        Headings::of(&statement, name).list(&Schema::new(fields))
    }

    #[test]
    fn columns_without_a_name_are_called_as_they_are_written() {
        assert_eq!(
            names("SELECT 1, 'x', a, count(*), a AS b, a + $1", 6, as_written),
            ["1", "'x'", "c2", "count(*)", "c4", "a + $1"]
        );
        assert_eq!(names("SELECT 1, *, 2 FROM t", 5, as_written), ["1", "c1", "c2", "c3", "2"]);
        assert_eq!(names("SELECT a.*, b.*, 2 FROM a, b", 5, as_written), ["c0", "c1", "c2", "c3", "c4"]);
        assert_eq!(names("(SELECT 1 UNION ALL SELECT 2) ORDER BY 1", 1, as_written), ["1"]);
        assert_eq!(names("EXPLAIN SELECT 1", 2, as_written), ["c0", "c1"]);
        assert_eq!(names("VALUES (1)", 1, as_written), ["c0"]);
    }

    #[test]
    fn programs_that_speak_to_postgres_find_the_names_that_it_gives() {
        let sql = "SELECT 1, count(*), a::text, '1'::int, CASE WHEN a THEN 1 END, m['k'], (SELECT max(a) FROM t), true, a + 1, \
            DATE '2024-01-01', EXISTS (SELECT 1), lower(a), \"Odd\"(a)";
        let wanted = [
            "?column?", "count", "a", "int4", "case", "m", "max", "bool", "?column?", "date", "exists", "lower", "Odd",
        ];
        assert_eq!(names(sql, wanted.len(), as_in_postgres), wanted);
    }
}
