//! Read-only SQL over a snapshot: tables, views, functions, limits; the [`SqlEngine`] port.
//!
//! [`DataFusionEngine`] answers in process. [`Format`] turns an answer into bytes. `docs/sql.md` describes the tables and the
//! functions for those who query.

mod apart;
mod by_length;
mod clauses;
mod clocks;
mod coded;
mod constants;
mod contains;
mod dialect;
mod engine;
mod error;
mod escape;
mod expansion;
mod faces;
mod fallible;
mod foreign;
mod format;
mod friendly;
mod functions;
mod give_way;
mod grammar;
mod guard;
mod guarded;
mod headings;
mod implied;
mod interrupt;
mod late;
mod lower;
mod marks;
mod measure;
mod operators;
mod output;
mod parameter;
mod params;
mod plain_text;
mod planning;
mod port;
pub mod postgres;
mod quantified;
mod queries;
mod running;
mod session;
mod sets;
mod sound;
mod spelling;
mod tables;
mod taken;
mod top;
mod walk;
mod wanted;

pub use engine::{DataFusionEngine, HeldMemory};
pub use error::QueryError;
pub use format::{Cells, Format, json_cells};
pub use output::type_name;
pub use parameter::Parameter;
pub use port::{Description, GiveWay, QueryLimits, QueryRequest, QueryResult, SpillLimits, SqlEngine, TableEntry};
pub use quantified::array_items;
pub use tables::system::{JournalFacts, JournalFile, JournalSource};
