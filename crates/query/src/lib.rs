//! Read-only SQL over a snapshot: tables, views, functions, limits; the [`SqlEngine`] port.
//!
//! [`DataFusionEngine`] answers in process. [`Format`] turns an answer into bytes. `docs/sql.md` describes the tables and the
//! functions for those who query.

mod engine;
mod error;
mod format;
mod friendly;
mod functions;
mod guard;
mod interrupt;
mod lower;
mod output;
mod params;
mod planning;
mod port;
pub mod postgres;
mod queries;
mod running;
mod session;
mod tables;

pub use engine::DataFusionEngine;
pub use error::QueryError;
pub use format::{Cells, Format, json_cells};
pub use output::type_name;
pub use params::Parameter;
pub use port::{Description, QueryLimits, QueryRequest, QueryResult, SpillLimits, SqlEngine, TableEntry};
pub use tables::system::{JournalFacts, JournalSource};
