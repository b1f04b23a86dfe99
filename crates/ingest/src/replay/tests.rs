//! What is read ahead, and how much of it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

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
        let replay =
            Replay { sink: &Nowhere, counters: &counters, gate: &gate, fingerprints: &fingerprints, tail_bytes_max: 0 };
        let (journal, room) = (Same(packed(inflated), FRAMES), Room::default());
        let (sender, jobs) = bounded(FRAMES as usize);
        std::thread::scope(|scope| {
            let _closing = Closing(&room);
            let reader = scope.spawn(|| replay.read(&journal, SequenceNumber::ZERO, vec![sender], &room).map(|_| ()));
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
        assert_eq!(room.state.lock().bytes, 0, "what was taken is what was given back");
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

/// Notes how many rows each batch has.
struct Noting(Mutex<Vec<usize>>);

impl Sink for Noting {
    fn checkpoint(&self) -> SequenceNumber {
        SequenceNumber::ZERO
    }

    fn publish(&self, rows: Vec<Published>) {
        self.0.lock().extend(rows.iter().map(|one| one.batch.num_rows()));
    }

    fn load(&self) -> SinkLoad {
        SinkLoad::default()
    }
}

/// A frame of empty log records: two bytes each in the journal, two hundred and more in memory.
fn swelling(bytes: usize) -> Vec<u8> {
    let header = FrameHeader { signal: Signal::Logs, received: UnixNanos(1), packed: None };
    let mut level = Vec::new();
    prost::encoding::bytes::encode(2, &b"\x12\x00".repeat(bytes / 2), &mut level);
    let mut frame = header.encode().to_vec();
    prost::encoding::bytes::encode(1, &level, &mut frame);
    frame
}

#[test]
fn frames_that_swell_are_decoded_as_far_as_their_rows_have_room() {
    const DECODERS: usize = 2;
    const FRAMES: u64 = 12;
    let (counters, gate, fingerprints) = (Counters::default(), Gate::new(), Fingerprints::off());
    let replay =
        Replay { sink: &Nowhere, counters: &counters, gate: &gate, fingerprints: &fingerprints, tail_bytes_max: 0 };
    let frame = swelling(256 << 10);
    // How much room columns begin with is learned from those before.
    let decoded = || plimsoll_otlp::decode(Signal::Logs, &frame[11..], UnixNanos(1)).expect("decodes").batch;
    let one = [decoded(), decoded()].map(|batch| batch.get_array_memory_size()).into_iter().min().unwrap_or(0);
    assert!(3 * one > READ_BYTES && (FRAMES as usize) * weight(&frame) < READ_BYTES, "{one} bytes");
    let room = Room::default();
    std::thread::scope(|scope| {
        let closing = Closing(&room);
        let (mut jobs, mut results) = (Vec::new(), Vec::new());
        for number in 0..DECODERS {
            let (job_sender, job_receiver) = bounded(FRAMES as usize);
            let (done_sender, done_receiver) = bounded(FRAMES as usize);
            let (replay, room) = (&replay, &room);
            let numbers = (number as u64..).step_by(DECODERS);
            scope.spawn(move || replay.decode(SequenceNumber::ZERO, numbers, &job_receiver, &done_sender, room));
            jobs.push(job_sender);
            results.push(done_receiver);
        }
        // Who reads may have to wait for room as well, until results are taken.
        let (frames, replay, room) = (Same(frame.clone(), FRAMES), &replay, &room);
        scope.spawn(move || replay.read(&frames, SequenceNumber::ZERO, jobs, room).expect("reads all"));
        // Until two of them wait: whom it wakes looks again and goes back to sleep.
        let begun = Instant::now();
        while room.changed.notify_all() < DECODERS {
            assert!(begun.elapsed() < Duration::from_secs(60), "they do not wait for room");
            std::thread::yield_now();
        }
        let decoded: usize = results.iter().map(Receiver::len).sum();
        assert!(decoded <= READ_BYTES / one + DECODERS, "{decoded} of {FRAMES}");
        for result in results.iter().cycle().take(FRAMES as usize) {
            let done = result.recv_timeout(Duration::from_secs(60)).expect("the next one is always decoded");
            assert_eq!(done.rows.map(|rows| rows.batch.num_rows()), Some(1 << 17));
            room.give_back(done.weight);
        }
        drop(closing);
    });
    assert_eq!(room.state.lock().bytes, 0, "what was taken is what was given back");
}

#[test]
fn a_journal_of_frames_that_swell_is_replayed_to_its_end() {
    let (counters, gate, fingerprints) = (Counters::default(), Gate::new(), Fingerprints::off());
    let sink = Noting(Mutex::new(Vec::new()));
    let replay =
        Replay { sink: &sink, counters: &counters, gate: &gate, fingerprints: &fingerprints, tail_bytes_max: 0 };
    let summary = replay.run(&Same(swelling(256 << 10), 12)).expect("replays");
    assert_eq!((summary.rows, summary.undecodable), (12 << 17, 0));
    assert_eq!(*sink.0.lock(), [1 << 17; 12]);
}
