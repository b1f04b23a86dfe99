//! Reads back, at start, what was acknowledged and is not in segments yet.
//!
//! *How.* One thread reads the journal and checks it, as many as there are cores inflate and decode, each every so-manieth stretch of frames
//! ([`crate::stretch`]), and the committer's own takes the results in turn: order needs no sorting, and nobody but the committer publishes.
//!
//! *Invariants.*
//! - Frames become the rows they were: decoding depends on the request and on the time kept beside it.
//! - Rows are published in the order of their frames.
//! - Never more than one group above the tail's budget, and beside it stretches that weigh [`READ_BYTES`] or one, and the small one that is
//!   being read: the replay waits for segments to be written, and never gives up for want of memory. A frame weighs itself and what
//!   comes out of it, from when it is read until its turn: the request where it is compressed, and rows, taken to be as long as the request.
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

/// A stretch that was decoded, and what it took before.
struct Done {
    weight: usize,
    frames: Vec<Looked>,
    rows: Option<Published>,
}

/// Bytes that frames read ahead may weigh.
#[derive(Default)]
struct Room {
    /// Taken now, and whether nobody will give any back.
    state: Mutex<(usize, bool)>,
    given_back: Condvar,
}

impl Room {
    /// Waits for room; false where nobody takes what is read any more.
    fn take(&self, weight: usize) -> bool {
        let mut state = self.state.lock();
        while !state.1 && state.0 > 0 && state.0 + weight > READ_BYTES {
            self.given_back.wait(&mut state);
        }
        state.0 += weight;
        !state.1
    }

    fn give_back(&self, weight: usize) {
        self.state.lock().0 -= weight;
        self.given_back.notify_one();
    }
}

/// Ends the wait of whoever reads, however the taking ended.
struct Closing<'a>(&'a Room);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().1 = true;
        self.0.given_back.notify_one();
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
            for _ in 0..decoders {
                let (job_sender, job_receiver) = bounded::<Stretch>(DEPTH);
                let (done_sender, done_receiver) = bounded::<Done>(DEPTH);
                scope.spawn(move || self.decode(checkpoint, &job_receiver, &done_sender));
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

    fn decode(&self, checkpoint: SequenceNumber, jobs: &Receiver<Stretch>, results: &Sender<Done>) {
        let mut decoder = Decoder::new(self.fingerprints, checkpoint);
        for stretch in jobs {
            let weight = stretch.weight;
            let (frames, rows) = decoder.decode(stretch);
            if results.send(Done { weight, frames, rows }).is_err() {
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
            group.bytes += published.batch.get_array_memory_size();
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
mod tests {
    use std::collections::VecDeque;
    use std::ops::RangeInclusive;

    use plimsoll_journal::{CommitError, Frame, JournalStatus};
    use plimsoll_model::UnixNanos;
    use plimsoll_otlp::{REQUEST_BYTES_MAX, Signal};

    use super::*;
    use crate::frame::{FrameHeader, Packed};
    use crate::inflate::Encoding;
    use crate::sink::SinkLoad;
    use crate::stretch::weight;

    /// Has one frame many times over, and nothing else.
    struct Same(Vec<u8>, u64);

    impl Journal for Same {
        fn commit(&self, _frames: &[Frame<'_>]) -> Result<RangeInclusive<SequenceNumber>, CommitError> {
            panic!("a replay commits nothing")
        }

        fn replay(
            &self,
            _after: SequenceNumber,
            visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> Result<(), ReplayError>,
        ) -> Result<ReplayReport, ReplayError> {
            (1..=self.1).try_for_each(|sequence| visit(SequenceNumber(sequence), &self.0))?;
            Ok(ReplayReport::default())
        }

        fn trim(&self, _through: SequenceNumber) -> Result<(), ReplayError> {
            Ok(())
        }

        fn status(&self) -> JournalStatus {
            JournalStatus::default()
        }
    }

    struct Nowhere;

    impl Sink for Nowhere {
        fn checkpoint(&self) -> SequenceNumber {
            SequenceNumber::ZERO
        }

        fn publish(&self, _rows: Vec<Published>) {}

        fn load(&self) -> SinkLoad {
            SinkLoad::default()
        }
    }

    fn packed(inflated: u32) -> Vec<u8> {
        let packed = Some(Packed { encoding: Encoding::Zstd, inflated });
        let header = FrameHeader { signal: Signal::Logs, received: UnixNanos(1), packed };
        [&header.encode()[..], b"small"].concat()
    }

    #[test]
    fn frames_are_read_ahead_by_what_comes_out_of_them() {
        const FRAMES: u64 = 40;
        // Three at a time; alone; alone, whatever it claims.
        for (inflated, at_once) in [(2_500_000, 3), (READ_BYTES as u32, 1), (u32::MAX, 1)] {
            let (counters, gate, fingerprints) = (Counters::default(), Gate::new(), Fingerprints::off());
            let replay = Replay {
                sink: &Nowhere,
                counters: &counters,
                gate: &gate,
                fingerprints: &fingerprints,
                tail_bytes_max: 0,
            };
            let (journal, room) = (Same(packed(inflated), FRAMES), Room::default());
            let (sender, jobs) = bounded(FRAMES as usize);
            std::thread::scope(|scope| {
                let _closing = Closing(&room);
                let reader =
                    scope.spawn(|| replay.read(&journal, SequenceNumber::ZERO, vec![sender], &room).map(|_| ()));
                let mut held = VecDeque::new();
                for _ in 0..FRAMES {
                    if held.len() == at_once {
                        assert!(jobs.is_empty(), "{inflated} bytes: one more was read");
                        room.give_back(held.pop_front().expect("holds some"));
                    }
                    held.push_back(jobs.recv().expect("another frame").weight);
                }
                held.into_iter().for_each(|weight| room.give_back(weight));
                reader.join().expect("ends").expect("reads all");
            });
            assert_eq!(room.state.lock().0, 0, "what was taken is what was given back");
        }
    }

    #[test]
    fn a_frame_weighs_itself_and_what_comes_out_of_it() {
        let plain = FrameHeader { signal: Signal::Logs, received: UnixNanos(1), packed: None };
        assert_eq!(weight(&[&plain.encode()[..], &[7; 100]].concat()), 11 + 100 + 100);
        assert_eq!(weight(&packed(1_000)), 15 + 5 + 2_000);
        assert_eq!(weight(&packed(u32::MAX)), 15 + 5 + 2 * REQUEST_BYTES_MAX);
        assert_eq!(weight(b"junk"), 4);
    }
}
