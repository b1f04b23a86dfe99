//! The one thread that makes requests durable: everything that waits becomes one group, one commit, one publication.
//!
//! *Invariants.*
//! - A request is answered only after its group's commit returned, and after its rows are visible.
//! - Rows are published in the order of their frames, from this thread alone; it replays the journal before it takes
//!   anything new.
//! - A failed commit acknowledges nothing of its group. A poisoned journal is not written to again.
//!
//! *Cost.* No timer: a group is whatever came in while the one before was being committed. One commit, one publication and one
//! allocation or two a group; a wake-up a request.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use bytes::Bytes;
use plimsoll_journal::{CommitError, Frame, Journal};
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::Signal;
use plimsoll_store::Published;
use tokio::sync::{oneshot, watch};

use crate::budget::Reservation;
use crate::counters::{Counters, Protocol};
use crate::fingerprints::{Claim, Fingerprints};
use crate::frame::HeaderBytes;
use crate::gate::{Gate, Readiness};
use crate::lanes::Lanes;
use crate::refusal::Reason;
use crate::replay::{Replay, ReplaySummary};
use crate::sink::Sink;

/// How often, at most, the store is asked how full it is.
const LOAD_INTERVAL: Duration = Duration::from_millis(5);

/// Called once, from any thread, with what happened, when nothing can be acknowledged any more.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// What the replay came to; empty while it runs.
pub(crate) type Replayed = watch::Sender<Option<Result<ReplaySummary, String>>>;

/// One decoded request on its way to the journal.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: HeaderBytes,
    /// As the header says: as it came, or converted.
    pub(crate) request: Bytes,
    pub(crate) signal: Signal,
    pub(crate) protocol: Protocol,
    pub(crate) batch: RecordBatch,
    /// Held until the group is done, whether or not anybody still waits for the answer.
    pub(crate) reservation: Reservation,
    /// Where repeats are told: dropped when the request is answered, which lets those that wait for it look again.
    pub(crate) claim: Option<Claim>,
    pub(crate) done: oneshot::Sender<Result<(), Reason>>,
}

impl Entry {
    fn len(&self) -> usize {
        self.header.len() + self.request.len()
    }
}

/// See the module.
pub(crate) struct Committer {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) lanes: Arc<Lanes<Entry>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) fingerprints: Arc<Fingerprints>,
    pub(crate) group_bytes_max: usize,
    pub(crate) tail_bytes_max: u64,
    pub(crate) replayed: Arc<Replayed>,
    pub(crate) on_fatal: OnFatal,
}

impl Committer {
    /// Replays, then commits until the lanes are closed and empty.
    ///
    /// A defect on the way closes the gate, and from then on everything queued is refused: a receiver that can never answer must
    /// not look healthy, nor leave anybody waiting.
    pub(crate) fn run(self) {
        if catch_unwind(AssertUnwindSafe(|| self.work())).is_ok() {
            return;
        }
        self.fatal("the committer stopped unexpectedly");
        self.replayed.send_if_modified(|done| {
            let unfinished = done.is_none();
            done.get_or_insert_with(|| Err("the committer stopped unexpectedly".to_owned()));
            unfinished
        });
        let mut group = Vec::new();
        while self.lanes.wait() {
            self.lanes.drain(&mut group, |_| false);
            refuse(&mut group, Reason::Poisoned);
        }
    }

    fn work(&self) {
        let replay = Replay {
            sink: self.sink.as_ref(),
            counters: &self.counters,
            gate: &self.gate,
            fingerprints: &self.fingerprints,
            tail_bytes_max: self.tail_bytes_max,
        };
        match replay.run(self.journal.as_ref()) {
            Ok(summary) => {
                // The gate first: whoever waited may send at once.
                self.gate.replayed();
                self.replayed.send_replace(Some(Ok(summary)));
            }
            Err(error) => {
                // A shutdown that interrupts the replay is no failure.
                if self.gate.readiness() != Readiness::Draining {
                    self.fatal(&error.to_string());
                }
                self.replayed.send_replace(Some(Err(error.to_string())));
            }
        }
        let mut group = Vec::new();
        let mut asked = Instant::now();
        while self.lanes.wait() {
            let mut bytes = 0;
            self.lanes.drain(&mut group, |entry| {
                bytes += entry.len();
                bytes >= self.group_bytes_max
            });
            self.commit(&mut group, bytes);
            if asked.elapsed() >= LOAD_INTERVAL {
                asked = Instant::now();
                self.look_at_load();
            }
        }
    }

    fn commit(&self, group: &mut Vec<Entry>, bytes: usize) {
        if self.gate.readiness() == Readiness::Poisoned {
            return refuse(group, Reason::Poisoned);
        }
        let frames: Vec<_> = group.iter().map(|entry| Frame { header: &entry.header, body: &entry.request }).collect();
        let committed = self.journal.commit(&frames);
        drop(frames);
        let before = group.len();
        match committed {
            Ok(sequences) => {
                self.counters.commits.add(1);
                self.counters.group_requests.record(group.len() as u64);
                self.counters.group_bytes.record(bytes as u64);
                self.publish(group, sequences);
            }
            Err(error) => {
                self.counters.commit_failures.add(1);
                match error {
                    CommitError::Full { .. } => refuse(group, Reason::DiskFull),
                    CommitError::TooLarge { limit, .. } => {
                        let (mut never, rest) = group.drain(..).partition(|entry: &Entry| entry.len() as u64 > limit);
                        refuse(&mut never, Reason::TooLarge);
                        *group = rest;
                        // Each round is shorter by what can never be taken; a journal that names nothing ends it.
                        if group.len() == before {
                            refuse(group, Reason::TooLarge);
                        } else if !group.is_empty() {
                            let bytes = group.iter().map(Entry::len).sum();
                            self.commit(group, bytes);
                        }
                    }
                    CommitError::Poisoned { .. } => {
                        // First the state, so that nobody refused now is let in again.
                        self.fatal(&error.to_string());
                        refuse(group, Reason::Poisoned);
                    }
                }
            }
        }
    }

    fn publish(&self, group: &mut Vec<Entry>, sequences: RangeInclusive<SequenceNumber>) {
        let first = sequences.start().0;
        debug_assert_eq!(sequences.end().0, first + group.len() as u64 - 1);
        // Before the rows are published: once they are, a flush may have the frames given back, and what is not recorded by then is
        // not saved.
        let claims =
            (first..).zip(group.iter()).filter_map(|(sequence, entry)| Some((sequence, entry.claim.as_ref()?)));
        self.fingerprints.record(claims.map(|(sequence, claim)| (SequenceNumber(sequence), claim)));
        let mut rows = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(group.len());
        for (sequence, entry) in (first..).zip(group.drain(..)) {
            let Entry { signal, protocol, batch, reservation, claim, done, .. } = entry;
            self.counters.of(signal, protocol).records.add(batch.num_rows() as u64);
            rows.push(Published { sequence: SequenceNumber(sequence), signal, batch });
            waiting.push((reservation, claim, done));
        }
        self.sink.publish(rows);
        for (reservation, claim, done) in waiting {
            drop((reservation, claim));
            // Nobody waits where the client is gone; the request is stored all the same.
            let _ = done.send(Ok(()));
        }
    }

    fn look_at_load(&self) {
        self.gate.load(self.sink.load(), self.tail_bytes_max);
    }

    fn fatal(&self, problem: &str) {
        if self.gate.poison() {
            tracing::error!(problem, "nothing can be acknowledged any more");
            (self.on_fatal)(problem);
        }
    }
}

fn refuse(group: &mut Vec<Entry>, reason: Reason) {
    for entry in group.drain(..) {
        let _ = entry.done.send(Err(reason));
    }
}
