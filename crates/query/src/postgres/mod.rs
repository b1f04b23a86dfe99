//! What makes programs that speak to Postgres at home here: `pg_catalog`, an `information_schema` in Postgres' words, the
//! functions and the syntax that their catalogue queries use, and the Postgres type of every column.
//!
//! | file | owns |
//! |---|---|
//! | `pg_type.rs` | which Postgres type a column has |
//! | `statement.rs` | catalogue queries rewritten into what the planner takes, and told from all others |
//! | `namespace.rs` | the schema `pg_catalog` |
//! | `relations.rs` | its rows about the tables that users query |
//! | `fixed.rs` | its rows that are the same everywhere: types, operators, settings |
//! | `routines.rs` | its rows about functions |
//! | `functions.rs` | functions that catalogue queries call |
//! | `json_object.rs` | `json_build_object` |
//! | `words.rs` | functions about types, names and other functions |
//! | `interval.rs` | lengths of time as programs and people write them |
//! | `series.rs` | what catalogue queries call in `FROM` |
//!
//! *Invariants.* Object ids are a function of the tables' names and order: they are the same after a restart. Only statements
//! that name something of the catalogue are rewritten; every other statement means here what it means over HTTP.

mod fixed;
mod functions;
pub(crate) mod interval;
mod json_object;
mod namespace;
mod own_functions;
mod pg_type;
mod relations;
mod routines;
mod series;
mod statement;
mod words;

pub use fixed::SERVER_VERSION;
pub use interval::read as read_interval;
pub use pg_type::{ColumnType, PgType};

/// Returns what Postgres calls the columns of `sql`, which was answered, or described, with `schema`: by the column or the
/// function that each comes from, or `?column?`.
pub fn column_names(sql: &str, schema: &arrow::datatypes::Schema) -> Vec<String> {
    crate::guard::postgres_names(sql, schema)
}

/// Turns times into what a clock in their zone shows, in nanoseconds: what `timestamp` is in Postgres.
///
/// # Errors
/// They are no times, or their zone is not known.
pub fn wall_clock(times: &arrow::array::ArrayRef) -> Result<arrow::array::ArrayRef, arrow::error::ArrowError> {
    crate::functions::zones::walls(times).map_err(|error| arrow::error::ArrowError::CastError(error.to_string()))
}

/// Reads a UUID in any of its forms, and writes it in the usual one; `None` where it is none.
pub fn read_uuid(text: &str) -> Option<String> {
    crate::functions::lacking::uuid(text)
}

pub(crate) use functions::scalar;
pub(crate) use namespace::{PG_CATALOG, PgCatalog};
pub(crate) use own_functions::WRITTEN;
pub(crate) use statement::{Adapted, adapt, empty_answer, soften};

/// The type planner that knows `regclass`, `oid`, `pg_catalog.text` and their like.
pub(crate) fn type_planner() -> std::sync::Arc<dyn datafusion::logical_expr::planner::TypePlanner> {
    std::sync::Arc::new(datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner)
}
