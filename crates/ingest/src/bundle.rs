//! What a group is made of: requests, and bundles of those whose rows are one batch.
//!
//! *Invariants.* The rows of a bundle are those of its requests, in their order and with nothing between them. So the frames of a bundle,
//! written in that order, are a stretch of the journal of which the batch holds everything and nothing else.

use arrow::array::RecordBatch;
use bytes::Bytes;
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::Signal;
use plimsoll_store::Published;
use tokio::sync::oneshot;

use crate::budget::Reservation;
use crate::counters::Protocol;
use crate::fingerprints::Claim;
use crate::frame::HeaderBytes;
use crate::refusal::Reason;

/// One decoded request on its way to the journal.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: HeaderBytes,
    /// As the header says: as it came, or converted.
    pub(crate) request: Bytes,
    pub(crate) protocol: Protocol,
    /// How many rows it became; never none.
    pub(crate) rows: usize,
    pub(crate) waiting: Waiting,
}

/// Who waits for a request to be stored, and what is held until then.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Held until the group is done, whether or not anybody still waits for the answer.
    pub(crate) reservation: Reservation,
    /// Where repeats are told: dropped when the request is answered, which lets those that wait for it look again.
    pub(crate) claim: Option<Claim>,
    pub(crate) done: oneshot::Sender<Result<(), Reason>>,
}

impl Entry {
    /// Returns the length of its frame.
    pub(crate) fn len(&self) -> usize {
        self.header.len() + self.request.len()
    }
}

impl Waiting {
    /// Says what became of the request, which is held on to no longer.
    pub(crate) fn answer(self, outcome: Result<(), Reason>) {
        let Self { reservation, claim, done } = self;
        drop((reservation, claim));
        // Nobody waits where the client is gone; a request that is stored is stored all the same.
        let _ = done.send(outcome);
    }
}

/// Requests of one signal whose rows are one batch.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) signal: Signal,
    pub(crate) batch: RecordBatch,
    pub(crate) entries: Vec<Entry>,
}

impl Bundle {
    /// A request that has its rows to itself.
    pub(crate) fn alone(signal: Signal, batch: RecordBatch, entry: Entry) -> Self {
        Self { signal, batch, entries: vec![entry] }
    }

    /// Returns the length of its frames.
    pub(crate) fn len(&self) -> usize {
        self.entries.iter().map(Entry::len).sum()
    }

    /// Refuses every request.
    pub(crate) fn refuse(self, reason: Reason) {
        self.entries.into_iter().for_each(|entry| entry.waiting.answer(Err(reason)));
    }

    /// Refuses the requests that `never` can be taken, and cuts their rows out: what is left of the bundle, in pieces.
    pub(crate) fn without(self, never: impl Fn(&Entry) -> bool, reason: Reason, pieces: &mut Vec<Self>) {
        let Self { signal, batch, entries } = self;
        let mut piece: Vec<Entry> = Vec::new();
        let (mut from, mut rows) = (0, 0);
        let mut cut = |from: usize, rows: usize, entries: Vec<Entry>| {
            if !entries.is_empty() {
                pieces.push(Self { signal, batch: batch.slice(from, rows), entries });
            }
        };
        for entry in entries {
            if never(&entry) {
                cut(from, rows, std::mem::take(&mut piece));
                from += rows + entry.rows;
                rows = 0;
                entry.waiting.answer(Err(reason));
            } else {
                rows += entry.rows;
                piece.push(entry);
            }
        }
        cut(from, rows, piece);
    }

    /// Parts what is published from those who wait for it, given the number of the first frame.
    pub(crate) fn publish(self, first: u64, waiting: &mut Vec<Waiting>) -> Published {
        let Self { signal, batch, entries } = self;
        let last = first + entries.len() as u64 - 1;
        waiting.extend(entries.into_iter().map(|entry| entry.waiting));
        Published { sequence: SequenceNumber(first), last: SequenceNumber(last), signal, batch }
    }
}
