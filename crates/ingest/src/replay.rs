//! Reads back, at start, what was acknowledged and is not in segments yet.
//!
//! *How.* One thread reads the journal and checks it, as many as there are cores inflate and decode, each every so-manieth stretch of frames
//! ([`crate::stretch`]), and the committer's own takes the results in turn: order needs no sorting, and nobody but the committer publishes.
//!
//! *Invariants.*
//! - Frames become the rows they were: decoding depends on the request and on the time kept beside it.
//! - Rows are published in the order of their frames.
//! - Never more than one group above the tail's budget, and beside it stretches that weigh [`READ_BYTES`] or one, the small one that is
//!   being read, and by how much those that are decoded right now turn out heavier: the replay waits for segments to be written, and never
//!   gives up for want of memory. A frame weighs itself and what comes out of it, from when it is read until its turn: the request where it is compressed,
//!   and rows, taken to be as long as the request until it is decoded, and then what they are.
//! - A decoder begins where what is read ahead weighs no more than it may, or where its stretch is the next to be taken. The next one is at the head of
//!   its decoder's queue, and whoever takes it waits for the sink alone: so room is always given back.
//! - A frame that cannot be read is counted, logged and passed over.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use plimsoll_journal::{Journal, ReplayError, ReplayReport};
use plimsoll_model::SequenceNumber;
use plimsoll_store::Published;

use crate::counters::Counters;
use crate::fingerprints::Fingerprints;
use crate::gate::{Gate, Readiness};
use crate::sink::Sink;
use crate::stretch::{Came, Decoder, Looked, Stretch, Told};

/// Stretches that were read and whose turn has not come, decoded or not, together; requests are refused meanwhile and leave room for
/// them. One that weighs more is alone.
const READ_BYTES: usize = 16 << 20;

/// Stretches that wait for one decoder, and results that wait for their turn.
const DEPTH: usize = 4;

/// Decoders, at the most.
const DECODERS_MAX: usize = 8;

/// Memory of the rows that are published at once.
const GROUP_BYTES: usize = 8 << 20;

/// How long to wait before asking again whether the tail has room.
const TAIL_POLL: Duration = Duration::from_millis(10);

/// What a replay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplaySummary {
    /// What the journal says of it.
    pub journal: ReplayReport,
    /// Rows published.
    pub rows: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
}

/// One replay: what it fills and what it heeds.
pub(crate) struct Replay<'a> {
    pub(crate) sink: &'a dyn Sink,
    pub(crate) counters: &'a Counters,
    pub(crate) gate: &'a Gate,
    pub(crate) fingerprints: &'a Fingerprints,
    pub(crate) tail_bytes_max: u64,
}

/// A stretch that was decoded.
struct Done {
    /// What it took of the room.
    weight: usize,
    rows_bytes: usize,
    frames: Vec<Looked>,
    rows: Option<Published>,
}

/// Bytes that frames read ahead may weigh.
#[derive(Default)]
struct Room {
    state: Mutex<Ahead>,
    changed: Condvar,
}

#[derive(Default)]
struct Ahead {
    bytes: usize,
    /// Stretches that were taken: the number of the one whose turn it is.
    turn: u64,
    /// Nobody will give any back.
    closed: bool,
}

impl Room {
    /// Waits for room; false where nobody takes what is read any more.
    fn take(&self, weight: usize) -> bool {
        let mut ahead = self.state.lock();
        while !ahead.closed && ahead.bytes > 0 && ahead.bytes + weight > READ_BYTES {
            self.changed.wait(&mut ahead);
        }
        ahead.bytes += weight;
        !ahead.closed
    }

    /// Waits until stretch `number` may be decoded.
    fn begin(&self, number: u64) {
        let mut ahead = self.state.lock();
        while !ahead.closed && ahead.turn != number && ahead.bytes > READ_BYTES {
            self.changed.wait(&mut ahead);
        }
    }

    /// Takes what a stretch that was decoded turned out to weigh more.
    fn swell(&self, more: usize) {
        self.state.lock().bytes += more;
    }

    /// Gives back what a stretch took whose turn has come.
    fn give_back(&self, weight: usize) {
        let mut ahead = self.state.lock();
        ahead.bytes -= weight;
        ahead.turn += 1;
        self.changed.notify_all();
    }
}

/// Ends the wait of whoever reads, however the taking ended.
struct Closing<'a>(&'a Room);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// What is taken together.
#[derive(Default)]
struct Group {
    rows: Vec<Published>,
    bytes: usize,
    summary: ReplaySummary,
    /// Frames up to this one are in segments; how many there were, and their bytes.
    checkpoint: SequenceNumber,
    stored: (u64, u64),
}

impl Replay<'_> {
    /// Publishes every frame after the sink's checkpoint; returns once all are. Frames before it that the journal still has are
    /// fingerprinted where nothing else remembers them.
    pub(crate) fn run(&self, journal: &dyn Journal) -> Result<ReplaySummary, ReplayError> {
        let checkpoint = self.sink.checkpoint();
        let remembered = if self.fingerprints.is_on() { self.fingerprints.saved() } else { checkpoint };
        let from = checkpoint.min(remembered);
        let decoders = std::thread::available_parallelism().map_or(1, usize::from).min(DECODERS_MAX);
        let room = Room::default();
        let mut group = Group { checkpoint, ..Group::default() };
        let journal_report = std::thread::scope(|scope| {
            let (mut jobs, mut results) = (Vec::new(), Vec::new());
            for number in 0..decoders {
                let room = &room;
                let (job_sender, job_receiver) = bounded::<Stretch>(DEPTH);
                let (done_sender, done_receiver) = bounded::<Done>(DEPTH);
                let numbers = (number as u64..).step_by(decoders);
                scope.spawn(move || self.decode(checkpoint, numbers, &job_receiver, &done_sender, room));
                jobs.push(job_sender);
                results.push(done_receiver);
            }
            let reader = scope.spawn(|| self.read(journal, from, jobs, &room));
            let taken = self.take_all(&results, &room, &mut group);
            // Whoever still sends must not wait for one who takes nothing more.
            drop(results);
            let report = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            taken.and(report)
        })?;
        if let Some(last) = group.rows.last() {
            let at = last.sequence;
            self.publish(&mut group, at)?;
        }
        let mut summary = group.summary;
        summary.journal = journal_report;
        summary.journal.frames -= group.stored.0;
        summary.journal.bytes -= group.stored.1;
        Ok(summary)
    }

    /// Gives every frame after `from` to the decoder whose turn it is.
    fn read(
        &self,
        journal: &dyn Journal,
        from: SequenceNumber,
        jobs: Vec<Sender<Stretch>>,
        room: &Room,
    ) -> Result<ReplayReport, ReplayError> {
        let mut turns = jobs.iter().cycle();
        let mut give = |stretch: Stretch| {
            // At once for all of it: what is held back would keep the room from itself.
            room.take(stretch.weight) && turns.next().is_some_and(|decoder| decoder.send(stretch).is_ok())
        };
        let mut stretch = Stretch::default();
        let mut at = from;
        let read = journal.replay(from, &mut |sequence, payload| {
            stop_if_draining(self.gate, sequence)?;
            at = sequence;
            let whole = stretch.push(sequence, payload);
            if whole.is_none_or(&mut give) { Ok(()) } else { Err(stopped(sequence)) }
        })?;
        if stretch.is_empty() || give(stretch) { Ok(read) } else { Err(stopped(at)) }
    }

    /// Decodes stretches, which have these `numbers` among all.
    fn decode(
        &self,
        checkpoint: SequenceNumber,
        numbers: impl Iterator<Item = u64>,
        jobs: &Receiver<Stretch>,
        results: &Sender<Done>,
        room: &Room,
    ) {
        let mut decoder = Decoder::new(self.fingerprints, checkpoint);
        for (stretch, number) in jobs.iter().zip(numbers) {
            room.begin(number);
            let before = stretch.weight;
            let (frames, rows) = decoder.decode(stretch);
            let rows_bytes = rows.as_ref().map_or(0, |rows| rows.batch.get_array_memory_size());
            let weight = before.max(rows_bytes);
            room.swell(weight - before);
            if results.send(Done { weight, rows_bytes, frames, rows }).is_err() {
                return;
            }
        }
    }

    /// Takes the results in turn until there are no more.
    fn take_all(&self, results: &[Receiver<Done>], room: &Room, group: &mut Group) -> Result<(), ReplayError> {
        let _closing = Closing(room);
        for decoder in results.iter().cycle() {
            // The one whose turn it is has ended: there was no frame for it, and so none after that.
            let Ok(done) = decoder.recv() else { break };
            room.give_back(done.weight);
            self.take(done, group)?;
        }
        Ok(())
    }

    fn take(&self, done: Done, group: &mut Group) -> Result<(), ReplayError> {
        let mut last = None;
        for looked in done.frames {
            stop_if_draining(self.gate, looked.sequence)?;
            last = Some(looked.sequence);
            self.count(looked, group);
        }
        if let Some(published) = done.rows {
            group.bytes += done.rows_bytes;
            group.rows.push(published);
        }
        match last {
            Some(last) if group.bytes >= GROUP_BYTES => self.publish(group, last),
            _ => Ok(()),
        }
    }

    fn count(&self, looked: Looked, group: &mut Group) {
        let Looked { sequence, bytes, told, came } = looked;
        if let Some(Told { fingerprint, received, complete }) = told {
            self.fingerprints.replayed(sequence, fingerprint, received, complete);
        }
        match came {
            // What cannot be read of these was said when they were replayed.
            Came::Undecodable(_) | Came::Stored if sequence <= group.checkpoint => {
                group.stored.0 += 1;
                group.stored.1 += bytes as u64;
                return;
            }
            // Only frames up to the checkpoint are looked at without being decoded.
            Came::Stored => return,
            Came::Rows(rows) => group.summary.rows += rows as u64,
            Came::Undecodable(problem) => {
                group.summary.undecodable += 1;
                self.counters.replay_undecodable.add(1);
                tracing::error!(frame = sequence.0, problem, "a journal frame cannot be decoded and is passed over");
            }
        }
        self.counters.replayed_frames.add(1);
        self.counters.replayed_bytes.add(bytes as u64);
    }

    fn publish(&self, group: &mut Group, at: SequenceNumber) -> Result<(), ReplayError> {
        while self.sink.load().tail_bytes > self.tail_bytes_max {
            stop_if_draining(self.gate, at)?;
            std::thread::park_timeout(TAIL_POLL);
        }
        self.counters.replayed_rows.add(group.rows.iter().map(|one| one.batch.num_rows() as u64).sum());
        group.bytes = 0;
        self.sink.publish(std::mem::take(&mut group.rows));
        Ok(())
    }
}

/// Said by whoever stopped to take them.
fn stopped(at: SequenceNumber) -> ReplayError {
    ReplayError::Visitor { at, problem: "stopped".to_owned() }
}

/// What was not replayed stays in the journal for the next start.
fn stop_if_draining(gate: &Gate, at: SequenceNumber) -> Result<(), ReplayError> {
    match gate.readiness() {
        Readiness::Draining => Err(ReplayError::Visitor { at, problem: "shutting down".to_owned() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
