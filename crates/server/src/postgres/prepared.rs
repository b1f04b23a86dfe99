//! What a session keeps of the extended protocol: prepared statements and portals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::DataType;
use plimsoll_query::{Description, Parameter};
use tokio::sync::OnceCell;

use super::command::Command;
use super::introspection;
use super::rows::Rows;
use super::sqlstate::Problem;
use super::values;

/// Statements that one session may keep.
pub(super) const PREPARED_MAX: usize = 1_000;
/// Text that prepared statements of all sessions may hold.
const PREPARED_BYTES_MAX: usize = 16 << 20;

/// Bytes that prepared statements of all sessions hold.
#[derive(Debug, Default)]
pub(super) struct Kept(AtomicUsize);

/// A statement that is kept.
pub(super) struct Prepared {
    pub(super) sql: String,
    pub(super) command: Command,
    /// Types that the client named; zero where it did not.
    pub(super) types: Vec<u32>,
    pub(super) description: OnceCell<Description>,
    kept: Arc<Kept>,
}

impl Prepared {
    pub(super) fn new(sql: String, types: Vec<u32>, kept: &Arc<Kept>) -> Result<Self, Problem> {
        let (sql, types) = introspection::answered(sql, types);
        // A count for a bound, with nothing published through it: relaxed is enough.
        let before = kept.0.fetch_add(sql.len(), Ordering::Relaxed);
        let prepared =
            Self { command: Command::of(&sql), types, description: OnceCell::new(), kept: Arc::clone(kept), sql };
        if before + prepared.sql.len() > PREPARED_BYTES_MAX {
            return Err(Problem::error("53200", "prepared statements of all sessions hold too much")
                .hint("`DEALLOCATE` those that are not needed any more"));
        }
        Ok(prepared)
    }

    /// Returns the query in it, which has the parameters; `None` where it is no query.
    pub(super) fn query(&self) -> Option<&str> {
        match &self.command {
            Command::Query if !self.sql.is_empty() => Some(&self.sql),
            Command::Declare { sql, .. } | Command::CopyOut { sql, .. } => Some(sql),
            _ => None,
        }
    }

    /// Returns the types that the engine is told of parameters: those that the client named, else those that were told to it, once they
    /// were, so that rows have the types that were announced.
    pub(super) fn engine_types(&self) -> Vec<Option<DataType>> {
        let told = self.description.get().map_or(&[][..], |described| &described.params);
        (0..self.types.len().max(told.len()))
            .map(|at| match self.types.get(at) {
                Some(oid) if !values::is_open(*oid) => values::engine_type(*oid),
                _ => told.get(at).filter(|of| !matches!(of, DataType::Utf8 | DataType::List(_))).cloned(),
            })
            .collect()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.kept.0.fetch_sub(self.sql.len(), Ordering::Relaxed);
    }
}

/// A statement with its parameters.
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) values: Vec<Parameter>,
    pub(super) formats: Vec<i16>,
    pub(super) rows: Option<Rows>,
    pub(super) finished: bool,
}
