//! Where rows go once they are durable, as far as ingest needs to know it.

use plimsoll_model::SequenceNumber;
use plimsoll_store::{Published, Store};

/// The store, as ingest sees it.
pub trait Sink: Send + Sync + 'static {
    /// Returns the last frame that needs no replay.
    fn checkpoint(&self) -> SequenceNumber;

    /// Makes rows visible, all at once. Called from one thread, in ascending order of sequence.
    fn publish(&self, rows: Vec<Published>);

    /// Returns what decides whether more may be taken. Called a few times a second and after every group.
    fn load(&self) -> SinkLoad;
}

/// How full a [`Sink`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinkLoad {
    /// Memory that published rows take until they are in segments.
    pub tail_bytes: u64,
    /// How much of that is left to be written: segments that nobody can see yet are not.
    pub unwritten_bytes: u64,
    /// True while the disk is too full to write segments.
    pub disk_full: bool,
}

impl Sink for Store {
    fn checkpoint(&self) -> SequenceNumber {
        Self::checkpoint(self)
    }

    fn publish(&self, rows: Vec<Published>) {
        Self::publish(self, rows);
    }

    fn load(&self) -> SinkLoad {
        let status = self.status();
        SinkLoad { tail_bytes: status.tail_bytes, unwritten_bytes: status.unwritten_bytes, disk_full: status.disk_full }
    }
}
