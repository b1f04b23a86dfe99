//! The standard measurement: systems on one core, the generator on another, one table a question.
//!
//! *Invariants.* What fails is noted and the rest goes on. Everything measured so far is told after each step, so that a run
//! that is cut short has lost one step at most.

mod analysts;
pub(crate) mod compare;
mod day;
mod loadgen;
mod machine;
mod own;
mod soak;
mod storage;
mod tables;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

pub use analysts::Asked;
pub use compare::{Comparison, Failure, Run, STREAMS, Stream, peer_scripts};
pub use day::Day;
pub use machine::Machine;
pub use own::{Cores, Isolation, Latency, Memory, Overload, Synced};
pub use soak::{Soak, SoakReport};
pub use storage::Storage;

use crate::Error;
use crate::client::Protocol;
use crate::system::{Kind, Place, Programs};

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Every stream at every system.
    Compare,
    /// Time to the ack and to visible, beside the disk's own.
    Latency,
    /// Four times what is taken, for a minute each over gRPC and HTTP.
    Overload,
    /// Bytes on disk once blocks are cold and segments merged.
    Storage,
    /// The default of `memory_limit` and half of it, in pairs one after another; memory at rest.
    Memory,
    /// Ingest beside four analysts.
    Isolation,
    /// One core and two.
    Cores,
    /// A recorded day as fast as it is taken.
    Day,
}

impl Part {
    /// Every part, in the order they are run.
    pub const ALL: [Self; 8] = [
        Self::Compare,
        Self::Latency,
        Self::Storage,
        Self::Memory,
        Self::Isolation,
        Self::Cores,
        Self::Day,
        Self::Overload,
    ];
}

/// How to measure.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// The `plimsoll` program.
    pub binary: PathBuf,
    /// Where data directories are made; each is removed after its use.
    pub work_dir: PathBuf,
    /// The scripts that prepare peers.
    pub peer_scripts: PathBuf,
    /// The processor of the systems; `None` pins nothing.
    pub server_cpu: Option<usize>,
    /// What is compared.
    pub comparison: Comparison,
    /// Which parts.
    pub parts: Vec<Part>,
    /// How long the overload lasts, for each protocol.
    pub overload_time: Duration,
    /// A recording, where there is one.
    pub recording: Option<PathBuf>,
    /// More arguments of `plimsoll serve`.
    pub arguments: Vec<String>,
}

/// Everything measured so far.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Measurements {
    /// Where.
    pub machine: Machine,
    /// Streams at systems.
    pub runs: Vec<Run>,
    /// Time to the ack and to visible.
    pub latency: Vec<Latency>,
    /// Overload.
    pub overload: Vec<Overload>,
    /// Bytes on disk.
    pub storage: Vec<Storage>,
    /// Limits of memory, the default and half of it in turn.
    pub memory: Vec<Memory>,
    /// Ingest beside queries.
    pub isolation: Option<Isolation>,
    /// One core and two.
    pub cores: Vec<Cores>,
    /// The recorded day.
    pub day: Vec<Day>,
    /// What could not be measured, and why.
    pub failures: Vec<Failure>,
    /// Seconds it all took.
    pub seconds: f64,
}

impl Measurements {
    /// Says whether SQL found everything that was acked, wherever it was asked.
    pub fn is_right(&self) -> bool {
        let runs = self.runs.iter().map(|run| run.verified);
        let latency = self.latency.iter().map(|latency| latency.verified);
        let overload = self.overload.iter().map(|overload| overload.verified);
        let day = self.day.iter().map(|day| day.verified);
        runs.chain(latency).chain(overload).chain(day).all(|verified| verified != Some(false))
    }
}

/// How many ask at the same time.
const ANALYSTS: usize = 4;
/// How many times too much is offered.
const OVERLOAD_TIMES: f64 = 4.0;

struct Session<'a> {
    measured: Measurements,
    began: std::time::Instant,
    progress: &'a mut dyn FnMut(&str),
    keep: &'a mut dyn FnMut(&Measurements),
}

impl Session<'_> {
    /// Runs one step and books what it gives, or why it gave nothing.
    async fn step<T>(
        &mut self,
        what: &str,
        step: impl Future<Output = Result<T, Error>>,
        book: impl FnOnce(&mut Measurements, T),
    ) {
        (self.progress)(what);
        match step.await {
            Ok(value) => book(&mut self.measured, value),
            Err(problem) => self.failed(what, &problem.to_string()),
        }
        self.kept();
    }

    fn failed(&mut self, what: &str, why: &str) {
        (self.progress)(&format!("{what}: {why}"));
        self.measured.failures.push(Failure { what: what.to_owned(), why: why.to_owned() });
    }

    fn kept(&mut self) {
        self.measured.seconds = self.began.elapsed().as_secs_f64();
        (self.keep)(&self.measured);
    }
}

impl Measurement {
    /// Runs every part, telling `progress` before each step and `keep` what there is after it.
    pub async fn run(&self, mut progress: impl FnMut(&str), mut keep: impl FnMut(&Measurements)) -> Measurements {
        let measured = Measurements { machine: Machine::read(&self.binary, &self.work_dir), ..Default::default() };
        let mut session =
            Session { measured, began: std::time::Instant::now(), progress: &mut progress, keep: &mut keep };
        let mut kinds = self.comparison.kinds.clone();
        if !kinds.contains(&Kind::Plimsoll) {
            kinds.push(Kind::Plimsoll);
        }
        (session.progress)("preparing the systems");
        let programs = Programs::prepare(self.binary.clone(), &self.peer_scripts, &kinds);
        for (kind, why) in programs.missing() {
            session.failed(kind.name(), why);
        }
        // What was built just now does not count.
        session.began = std::time::Instant::now();
        let place = Place {
            work_dir: self.work_dir.clone(),
            cpus: self.server_cpu.map(|cpu| cpu.to_string()),
            environment: Vec::new(),
            arguments: self.arguments.clone(),
        };
        for part in Part::ALL {
            if self.parts.contains(&part) {
                self.part(part, &programs, &place, &mut session).await;
            }
        }
        session.measured
    }

    async fn part(&self, part: Part, programs: &Programs, place: &Place, session: &mut Session<'_>) {
        let own = own::Own {
            programs,
            place,
            load_time: self.comparison.load_time,
            connections: self.comparison.connections,
            in_flight: self.comparison.in_flight,
        };
        match part {
            Part::Compare => self.comparison.run(programs, place, session).await,
            Part::Latency => {
                for (stream, protocol, small) in
                    [("spans 440 B, gRPC", Protocol::Grpc, false), ("small mixed 137 B, HTTP", Protocol::Http, true)]
                {
                    let step = own.latency(stream, protocol, small);
                    session.step(&format!("latency: {stream}"), step, |all, one| all.latency.push(one)).await;
                }
            }
            Part::Overload => {
                for protocol in [Protocol::Grpc, Protocol::Http] {
                    let step = own.overload(protocol, self.overload_time, OVERLOAD_TIMES);
                    session.step(&format!("overload: {protocol}"), step, |all, one| all.overload.push(one)).await;
                }
            }
            Part::Storage => {
                for stream in storage::STREAMS {
                    for kind in [Kind::Plimsoll, Kind::Mira] {
                        if programs.has(kind) {
                            let step = storage::run(kind, &stream, programs, place);
                            let what = format!("storage: {} at {}", stream.name, kind.name());
                            session.step(&what, step, |all, one| all.storage.push(one)).await;
                        }
                    }
                }
            }
            Part::Memory => {
                for pair in 1..=own::MEMORY_PAIRS {
                    for mib in own::MEMORY_LIMITS_MIB {
                        let step = own.memory(pair, mib);
                        let what = format!("memory: {mib} MiB, pair {pair}");
                        session.step(&what, step, |all, one| all.memory.push(one)).await;
                    }
                }
            }
            Part::Isolation => {
                let step = own.isolation(ANALYSTS);
                session.step("ingest beside analysts", step, |all, one| all.isolation = Some(one)).await;
            }
            Part::Cores => {
                let one = self.server_cpu.unwrap_or(0);
                let other = usize::from(one == 0);
                for cpus in [one.to_string(), format!("{},{}", one.min(other), one.max(other))] {
                    session.step(&format!("cores: {cpus}"), own.cores(&cpus), |all, one| all.cores.push(one)).await;
                }
            }
            Part::Day => self.day(programs, place, session).await,
        }
    }

    async fn day(&self, programs: &Programs, place: &Place, session: &mut Session<'_>) {
        let Some(recording) = &self.recording else {
            session.failed("the recorded day", "no recording was named (`--recording`)");
            return;
        };
        let requests = match day::Requests::read(std::slice::from_ref(recording)) {
            Ok(requests) => Arc::new(requests),
            Err(problem) => return session.failed("the recorded day", &problem.to_string()),
        };
        let joined = Arc::new(requests.joined(day::BATCH));
        for (how, requests) in [("as recorded", requests), ("joined", joined)] {
            for kind in day::KINDS {
                if programs.has(kind) {
                    let step = day::run(kind, &requests, programs, place);
                    let what = format!("the recorded day at {}, {how}", kind.name());
                    session.step(&what, step, |all, one| all.day.push(one)).await;
                }
            }
        }
    }
}
