//! A journal that waits and fails on command, and a sink that remembers.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use plimsoll_ingest::{Ingest, IngestOptions, Sink, SinkLoad};
use plimsoll_journal::{CommitError, Frame, Journal, JournalStatus, ReplayError, ReplayReport};
use plimsoll_model::{SequenceNumber, UnixNanos};
use plimsoll_store::{Clock, Published};

/// What the next commits do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Work,
    Wait,
    Full,
    Unavailable,
    Poison,
    TooLarge(u64),
    Panic,
}

/// Keeps frames in memory; commits as [`Mode`] says.
pub(crate) struct FakeJournal {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    /// Commits that wait right now.
    waiting: usize,
    frames: Vec<Vec<u8>>,
    commits: u64,
}

impl FakeJournal {
    pub(crate) fn new(mode: Mode) -> Arc<Self> {
        let state = State { mode, waiting: 0, frames: Vec::new(), commits: 0 };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.state.lock().mode = mode;
        self.changed.notify_all();
    }

    pub(crate) fn preload(&self, frames: Vec<Vec<u8>>) {
        self.state.lock().frames = frames;
    }

    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        self.state.lock().frames.clone()
    }

    pub(crate) fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// Returns once a commit waits.
    pub(crate) async fn someone_waits(&self) {
        until(|| self.state.lock().waiting > 0).await;
    }
}

impl Journal for FakeJournal {
    fn commit(&self, frames: &[Frame<'_>]) -> Result<RangeInclusive<SequenceNumber>, CommitError> {
        let mut state = self.state.lock();
        state.waiting += 1;
        while state.mode == Mode::Wait {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
        let path = "fake".to_owned();
        match state.mode {
            Mode::Full => return Err(CommitError::Full { path }),
            Mode::Unavailable => return Err(CommitError::Unavailable { path, problem: "as told".to_owned() }),
            Mode::Poison => return Err(CommitError::Poisoned { path, problem: "as told".to_owned() }),
            Mode::Panic => panic!("as told"),
            Mode::TooLarge(limit) => {
                let longest = frames.iter().map(|frame| (frame.header.len() + frame.body.len()) as u64).max();
                if let Some(bytes) = longest.filter(|bytes| *bytes > limit) {
                    return Err(CommitError::TooLarge { bytes, limit });
                }
            }
            Mode::Work | Mode::Wait => {}
        }
        state.commits += 1;
        let first = state.frames.len() as u64 + 1;
        state.frames.extend(frames.iter().map(|frame| [frame.header, frame.body].concat()));
        Ok(SequenceNumber(first)..=SequenceNumber(state.frames.len() as u64))
    }

    fn replay(
        &self,
        after: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> Result<(), ReplayError>,
    ) -> Result<ReplayReport, ReplayError> {
        let mut report = ReplayReport::default();
        let frames = self.frames();
        for (sequence, frame) in (1..).zip(&frames).filter(|(sequence, _)| *sequence > after.0) {
            visit(SequenceNumber(sequence), frame)?;
            report.frames += 1;
            report.bytes += frame.len() as u64;
        }
        Ok(report)
    }

    fn trim(&self, _through: SequenceNumber) -> Result<(), ReplayError> {
        Ok(())
    }

    fn status(&self) -> JournalStatus {
        JournalStatus::default()
    }
}

/// Remembers what was published.
#[derive(Default)]
pub(crate) struct FakeSink {
    pub(crate) published: Mutex<Vec<Published>>,
    pub(crate) tail_bytes: AtomicU64,
    pub(crate) disk_full: AtomicU64,
    pub(crate) checkpoint: AtomicU64,
}

impl FakeSink {
    pub(crate) fn rows(&self) -> usize {
        self.published.lock().iter().map(|one| one.batch.num_rows()).sum()
    }

    /// Every frame that rows came from, in the order in which they were published.
    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.published.lock().iter().flat_map(|one| one.sequence.0..=one.last.0).collect()
    }
}

/// A sink that a test keeps a hand on.
pub(crate) struct Shared(pub(crate) Arc<FakeSink>);

impl Sink for Shared {
    fn checkpoint(&self) -> SequenceNumber {
        SequenceNumber(self.0.checkpoint.load(Ordering::SeqCst))
    }

    fn publish(&self, rows: Vec<Published>) {
        self.0.published.lock().extend(rows);
    }

    fn load(&self) -> SinkLoad {
        SinkLoad {
            tail_bytes: self.0.tail_bytes.load(Ordering::SeqCst),
            unwritten_bytes: self.0.tail_bytes.load(Ordering::SeqCst),
            disk_full: self.0.disk_full.load(Ordering::SeqCst) != 0,
        }
    }
}

/// Ingest on fakes.
pub(crate) struct Rig {
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) journal: Arc<FakeJournal>,
    pub(crate) sink: Arc<FakeSink>,
    pub(crate) fatal: Arc<Mutex<Vec<String>>>,
}

pub(crate) const RECEIVED: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

pub(crate) fn clock() -> Clock {
    Arc::new(|| RECEIVED)
}

/// Options for tests: any port, small limits, short waits.
pub(crate) fn options() -> IngestOptions {
    IngestOptions {
        otlp_grpc: ([127, 0, 0, 1], 0).into(),
        otlp_http: ([127, 0, 0, 1], 0).into(),
        request_bytes_max: 1 << 20,
        in_flight_bytes: 8 << 20,
        park: std::time::Duration::from_millis(100),
        lanes: 2,
        ..IngestOptions::default()
    }
}

impl Rig {
    pub(crate) async fn start(options: IngestOptions) -> Self {
        let rig = Self::begin(options, FakeJournal::new(Mode::Work), Arc::default()).await;
        rig.ingest.replayed().await.expect("nothing to replay");
        rig
    }

    /// Starts without waiting for the replay.
    pub(crate) async fn begin(options: IngestOptions, journal: Arc<FakeJournal>, sink: Arc<FakeSink>) -> Self {
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&fatal);
        let on_fatal = move |problem: &str| told.lock().push(problem.to_owned());
        let ingest = Ingest::start(options, Arc::clone(&journal) as _, Shared(Arc::clone(&sink)), clock(), on_fatal);
        let ingest = Arc::new(ingest.await.expect("starts"));
        Self { ingest, journal, sink, fatal }
    }

    pub(crate) fn grpc(&self) -> std::net::SocketAddr {
        self.ingest.local_addrs().otlp_grpc
    }

    pub(crate) fn http(&self) -> std::net::SocketAddr {
        self.ingest.local_addrs().otlp_http
    }

    /// Returns once no request holds anything.
    pub(crate) async fn nothing_in_flight(&self) {
        until(|| self.ingest.status().in_flight_bytes == 0 && self.ingest.counters().in_progress.get() == 0).await;
    }
}

/// Looks again and again until `done`; fails after a while that no machine is slow enough to need.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let looks = async {
        while !done() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), looks).await.expect("it comes to pass");
}
