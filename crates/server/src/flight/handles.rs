//! What clients come back for: tickets of answers, prepared statements, answers under way that may be cancelled.
//!
//! *Invariants.* Handles are random and mean nothing outside this table. Entries are bounded by number and by bytes, and go by
//! themselves: tickets soon after nobody came for them, statements long after they were last used.

use std::collections::HashMap;
use std::time::Duration;

use arrow::datatypes::DataType;
use bytes::Bytes;
use parking_lot::Mutex;
use plimsoll_query::{Description, Parameter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const TICKET_AGE_MAX: Duration = Duration::from_secs(120);
const STATEMENT_AGE_MAX: Duration = Duration::from_secs(1_800);
const ENTRIES_MAX: usize = 1_024;
const BYTES_MAX: usize = 8 << 20;

/// A statement with what was bound to it.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) params: Vec<Parameter>,
    pub(super) types: Vec<Option<DataType>>,
    pub(super) description: Description,
}

impl Statement {
    fn bytes(&self) -> usize {
        self.sql.len() + self.params.iter().map(Parameter::bytes).sum::<usize>() + 256
    }
}

#[derive(Debug)]
struct Entry {
    statement: Statement,
    prepared: bool,
    used: Instant,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        let age_max = if self.prepared { STATEMENT_AGE_MAX } else { TICKET_AGE_MAX };
        now.duration_since(self.used) > age_max
    }
}

/// The table is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The table.
#[derive(Debug, Default)]
pub(super) struct Handles {
    entries: Mutex<HashMap<Bytes, Entry>>,
    running: Mutex<HashMap<Bytes, CancellationToken>>,
}

impl Handles {
    /// Keeps a statement under `handle`: for one answer, or as a prepared statement.
    pub(super) fn keep(&self, handle: Bytes, statement: Statement, prepared: bool, now: Instant) -> Result<(), Full> {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| !entry.is_over(now));
        let bytes: usize = entries.values().map(|entry| entry.statement.bytes()).sum();
        if entries.len() >= ENTRIES_MAX || bytes + statement.bytes() > BYTES_MAX {
            return Err(Full);
        }
        entries.insert(handle, Entry { statement, prepared, used: now });
        Ok(())
    }

    /// Takes the statement of a ticket, which is good for one answer.
    pub(super) fn take(&self, handle: &[u8], now: Instant) -> Option<Statement> {
        let mut entries = self.entries.lock();
        if entries.get(handle).is_some_and(|entry| entry.prepared) {
            return None;
        }
        entries.remove(handle).filter(|entry| !entry.is_over(now)).map(|entry| entry.statement)
    }

    /// Returns a prepared statement.
    pub(super) fn prepared(&self, handle: &[u8], now: Instant) -> Option<Statement> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(handle).filter(|entry| entry.prepared && !entry.is_over(now))?;
        entry.used = now;
        Some(entry.statement.clone())
    }

    /// Forgets a prepared statement.
    pub(super) fn forget(&self, handle: &[u8]) {
        self.entries.lock().remove(handle);
    }

    /// Notes that the answer of `handle` is under way; the token tells that it is to end.
    pub(super) fn begin(&self, handle: Bytes) -> CancellationToken {
        let token = CancellationToken::new();
        self.running.lock().insert(handle, token.clone());
        token
    }

    /// Notes that it has ended.
    pub(super) fn end(&self, handle: &[u8]) {
        self.running.lock().remove(handle);
    }

    /// Cancels an answer, under way or not yet asked for; says whether there was one.
    pub(super) fn cancel(&self, handle: &[u8]) -> bool {
        let running = self.running.lock().remove(handle);
        let mut entries = self.entries.lock();
        let waiting = entries.get(handle).is_some_and(|entry| !entry.prepared);
        if waiting {
            entries.remove(handle);
        }
        running.inspect(CancellationToken::cancel).is_some() || waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn statement(sql: &str) -> Statement {
        let description = Description { params: Vec::new(), schema: Arc::new(Schema::empty()) };
        Statement { sql: sql.to_owned(), params: Vec::new(), types: Vec::new(), description }
    }

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let (handles, now) = (Handles::default(), Instant::now());
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        for handle in [&a, &b] {
            handles.keep(handle.clone(), statement("SELECT 1"), false, now).expect("there is room");
        }
        assert!(handles.take(&a, now).is_some());
        assert!(handles.take(&a, now).is_none());
        assert!(handles.take(&b, now + TICKET_AGE_MAX + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn the_table_is_bounded_and_frees_itself() {
        let (handles, now) = (Handles::default(), Instant::now());
        let long = "x".repeat(BYTES_MAX / 4);
        for n in 0..3_u8 {
            handles.keep(Bytes::from(vec![n]), statement(&long), true, now).expect("there is room");
        }
        assert_eq!(handles.keep(Bytes::from_static(b"more"), statement(&long), true, now), Err(Full));
        let later = now + STATEMENT_AGE_MAX + Duration::from_secs(1);
        assert_eq!(handles.keep(Bytes::from_static(b"more"), statement(&long), true, later), Ok(()));
    }

    #[test]
    fn cancelling_reaches_what_runs_and_what_waits() {
        let (handles, now) = (Handles::default(), Instant::now());
        let token = handles.begin(Bytes::from_static(b"a"));
        handles.keep(Bytes::from_static(b"b"), statement("SELECT 1"), false, now).expect("there is room");
        assert!(handles.cancel(b"a") && token.is_cancelled());
        assert!(handles.cancel(b"b") && handles.take(b"b", now).is_none());
        assert!(!handles.cancel(b"c"));
    }
}
