//! The one thread that makes requests durable: everything that waits becomes one group, one commit, one publication.
//!
//! *Invariants.*
//! - A request is answered only after its group's commit returned, and after its rows are visible.
//! - Rows are published in the order of their frames, from this thread alone; it replays the journal before it takes
//!   anything new. Frames of a bundle stand together, so that one batch is one stretch of the journal.
//! - A failed commit acknowledges nothing of its group. A poisoned journal is not written to again.
//!
//! *Cost.* No timer: a group is whatever came in while the one before was being committed. One commit, one publication and a few
//! allocations a group, a batch a bundle; one wake-up, of the task that answers, a group of several requests ([`crate::answers`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_journal::{CommitError, Frame, Journal};
use plimsoll_model::SequenceNumber;
use tokio::sync::watch;

use crate::answers::Answers;
use crate::bundle::Bundle;
use crate::counters::Counters;
use crate::fingerprints::Fingerprints;
use crate::gate::{Gate, Readiness};
use crate::joined::Joined;
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

/// See the module.
pub(crate) struct Committer {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) lanes: Arc<Lanes<Bundle>>,
    pub(crate) joined: Arc<Joined>,
    pub(crate) answers: Answers,
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
        let (mut group, mut spare) = (Vec::new(), self.joined.spare());
        while self.wait() {
            self.joined.take(&mut spare, usize::MAX, &mut group);
            self.lanes.drain(&mut group, |_| false);
            refuse(&mut group, Reason::Poisoned);
        }
    }

    /// Blocks until something is queued; false once nothing will be.
    fn wait(&self) -> bool {
        self.lanes.wait_or(|| self.joined.waits())
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
        let (mut group, mut spare) = (Vec::new(), self.joined.spare());
        let mut asked = Instant::now();
        let mut joined_first = false;
        while self.wait() {
            let full = self.group_bytes_max;
            let mut bytes = 0;
            // Where one of them fills every group, the other still has its turn.
            joined_first = !joined_first;
            if joined_first {
                bytes += self.joined.take(&mut spare, full, &mut group);
            }
            if bytes < full {
                self.lanes.drain(&mut group, |bundle| {
                    bytes += bundle.len();
                    bytes >= full
                });
            }
            if !joined_first && bytes < full {
                bytes += self.joined.take(&mut spare, full - bytes, &mut group);
            }
            self.commit(&mut group, bytes);
            if asked.elapsed() >= LOAD_INTERVAL {
                asked = Instant::now();
                self.look_at_load();
            }
        }
    }

    fn commit(&self, group: &mut Vec<Bundle>, bytes: usize) {
        if self.gate.readiness() == Readiness::Poisoned {
            return refuse(group, Reason::Poisoned);
        }
        let entries = group.iter().flat_map(|bundle| &bundle.entries);
        let frames: Vec<_> = entries.map(|entry| Frame { header: &entry.header, body: &entry.request }).collect();
        let committed = self.journal.commit(&frames);
        let before = frames.len();
        drop(frames);
        match committed {
            Ok(sequences) => {
                debug_assert_eq!(sequences.end().0 + 1 - sequences.start().0, before as u64);
                self.counters.commits.add(1);
                if self.counters.journal_unavailable.get() > 0 {
                    self.counters.journal_unavailable.set(0);
                    tracing::info!("the journal takes requests again");
                }
                self.counters.group_requests.record(before as u64);
                self.counters.group_bytes.record(bytes as u64);
                self.publish(group, sequences.start().0, before);
            }
            Err(error) => {
                self.counters.commit_failures.add(1);
                match error {
                    CommitError::Full { .. } => refuse(group, Reason::DiskFull),
                    CommitError::Unavailable { .. } => {
                        if self.counters.journal_unavailable.set(1) == 0 {
                            tracing::warn!(%error, "requests are refused until the journal can begin a new log file");
                        }
                        refuse(group, Reason::JournalUnavailable);
                    }
                    CommitError::TooLarge { limit, .. } => {
                        let mut rest = Vec::with_capacity(group.len());
                        for bundle in group.drain(..) {
                            bundle.without(|entry| entry.len() as u64 > limit, Reason::TooLarge, &mut rest);
                        }
                        *group = rest;
                        // Each round is shorter by what can never be taken; a journal that names nothing ends it.
                        if group.iter().map(|bundle| bundle.entries.len()).sum::<usize>() == before {
                            refuse(group, Reason::TooLarge);
                        } else if !group.is_empty() {
                            let bytes = group.iter().map(Bundle::len).sum();
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

    fn publish(&self, group: &mut Vec<Bundle>, first: u64, requests: usize) {
        let entries = || group.iter().flat_map(|bundle| bundle.entries.iter().map(move |entry| (bundle.signal, entry)));
        // Before the rows are published: once they are, a flush may have the frames given back, and what is not recorded by then is
        // not saved.
        let claims = (first..)
            .zip(entries())
            .filter_map(|(sequence, (_, entry))| Some((sequence, entry.waiting.claim.as_ref()?)));
        self.fingerprints.record(claims.map(|(sequence, claim)| (SequenceNumber(sequence), claim)));
        for (signal, entry) in entries() {
            self.counters.of(signal, entry.protocol).records.add(entry.rows as u64);
        }
        let mut rows = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(requests);
        for bundle in group.drain(..) {
            let first = first + waiting.len() as u64;
            rows.push(bundle.publish(first, &mut waiting));
        }
        self.sink.publish(rows);
        self.answers.stored(waiting);
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

fn refuse(group: &mut Vec<Bundle>, reason: Reason) {
    group.drain(..).for_each(|bundle| bundle.refuse(reason));
}
