//! What the faces count about their clients, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, or one that goes up and down. Nothing is published through it: relaxed is enough.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one face counts.
#[derive(Debug, Default)]
pub struct FaceCounters {
    /// Connections that are open.
    pub open: Count,
    /// Connections that were let in.
    pub accepted: Count,
    /// Connections that were turned away: too many, a wrong password, no sense in their first bytes.
    pub refused: Count,
    /// Statements that ran.
    pub statements: Count,
    /// Statements that ended with an error.
    pub failed: Count,
    /// Statements that ended because their client cancelled them or went away.
    pub cancelled: Count,
    /// Rows that were sent.
    pub rows: Count,
}

impl FaceCounters {
    /// Counts a connection as open until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.open.add(1);
        self.accepted.add(1);
        OpenConnection(Arc::clone(self))
    }
}

/// One open connection.
#[derive(Debug)]
pub struct OpenConnection(Arc<FaceCounters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.take();
    }
}

/// The faces that count.
#[derive(Debug, Clone, Default)]
pub struct Faces {
    /// The Postgres protocol.
    pub postgres: Arc<FaceCounters>,
    /// `plimsoll.v1` and Flight SQL: one listener.
    pub grpc: Arc<FaceCounters>,
}

impl Faces {
    /// Returns every face with its name.
    pub fn all(&self) -> [(&'static str, &FaceCounters); 2] {
        [("postgres", &self.postgres), ("grpc", &self.grpc)]
    }
}
