//! One stream after another at one system after another, in rounds, so that what disturbs the machine disturbs all of them.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::Protocol;
use crate::compression::Compression;
use crate::generate::{Load, Mix, Pace, Until};
use crate::measure::machine::source;
use crate::measure::{Session, loadgen};
use crate::records::Shape;
use crate::stats::Quantiles;
use crate::system::{AckClass, Kind, Place, Programs, Running};
use crate::{Error, Sql};

/// A stream that is sent to each system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Its name in the table.
    pub name: &'static str,
    pub(crate) source: Source,
}

/// Who sends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Our generator.
    Ours { mix: Mix, small: bool, protocol: Protocol, compression: Compression, batch: usize },
    /// Mira's load generator, over HTTP/1.1: logs and spans in halves, and a few points.
    MiraLoadgen,
}

const fn ours(mix: Mix, small: bool, protocol: Protocol, compression: Compression, batch: usize) -> Source {
    Source::Ours { mix, small, protocol, compression, batch }
}

/// Every stream of the table.
pub const STREAMS: [Stream; 7] = [
    Stream { name: "spans 440 B, gRPC", source: ours(Mix::Traces, false, Protocol::Grpc, Compression::None, 1000) },
    Stream {
        name: "spans 440 B, gRPC gzip",
        source: ours(Mix::Traces, false, Protocol::Grpc, Compression::Gzip, 1000),
    },
    Stream {
        name: "spans 440 B, gRPC zstd",
        source: ours(Mix::Traces, false, Protocol::Grpc, Compression::Zstd, 1000),
    },
    Stream { name: "logs 360 B, gRPC", source: ours(Mix::Logs, false, Protocol::Grpc, Compression::None, 1000) },
    Stream { name: "points 200 B, gRPC", source: ours(Mix::Metrics, false, Protocol::Grpc, Compression::None, 1000) },
    Stream { name: "small mixed 137 B, HTTP", source: ours(Mix::Mixed, true, Protocol::Http, Compression::None, 2000) },
    Stream { name: "Mira's loadgen, HTTP", source: Source::MiraLoadgen },
];

/// What is compared, and for how long.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The systems.
    pub kinds: Vec<Kind>,
    /// Only streams whose name holds one of these; all where empty.
    pub streams: Vec<String>,
    /// How often each pair is run.
    pub rounds: u32,
    /// How long our generator sends.
    pub load_time: Duration,
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub in_flight: usize,
    /// Records that Mira's load generator sends.
    pub loadgen_records: u64,
}

/// One run of one stream at one system.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Run {
    /// The system.
    pub system: Kind,
    /// The stream.
    pub stream: &'static str,
    /// Counted from one.
    pub round: u32,
    /// What an ack means there.
    pub ack_class: AckClass,
    /// Seconds of load.
    pub seconds: f64,
    /// Records acked.
    pub acked_records: u64,
    /// Requests that were not acked.
    pub unacked_requests: u64,
    /// Acked records a second.
    pub records_per_second: f64,
    /// Processor time used while the load ran.
    pub load_cpu_seconds: f64,
    /// Processor time used from the first request to the end of the process, which is when everything is on disk; with what
    /// counting the rows took, where they are counted.
    pub whole_cpu_seconds: f64,
    /// Acked records per second of `load_cpu_seconds`.
    pub records_per_cpu_second: f64,
    /// Acked records per second of `whole_cpu_seconds`.
    pub records_per_whole_cpu_second: f64,
    /// The most resident memory.
    pub rss_max_bytes: u64,
    /// Time to the ack.
    pub ack: Quantiles,
    /// Bytes a record of the files that hold records, after the end of the process.
    pub stored_bytes_per_record: Option<f64>,
    /// Bytes a record of its whole directory.
    pub disk_bytes_per_record: f64,
    /// False where SQL does not find what was acked; `None` where it is not asked.
    pub verified: Option<bool>,
    /// The last refusal or failure.
    pub last_problem: Option<String>,
}

/// A run that could not be made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Failure {
    /// What was to be measured.
    pub what: String,
    /// Why it was not.
    pub why: String,
}

/// What a load did, whoever sent it.
pub(crate) struct Sent {
    pub(crate) seconds: f64,
    pub(crate) acked_records: u64,
    pub(crate) unacked_requests: u64,
    pub(crate) ack: Quantiles,
    pub(crate) load_cpu: Duration,
    pub(crate) rss_max_bytes: u64,
    pub(crate) verified: Option<bool>,
    pub(crate) last_problem: Option<String>,
}

impl Comparison {
    /// Runs everything, booking each run as soon as it is there.
    pub(super) async fn run(&self, programs: &Programs, place: &Place, session: &mut Session<'_>) {
        for round in 1..=self.rounds {
            for stream in STREAMS {
                if !self.streams.is_empty() && !self.streams.iter().any(|part| stream.name.contains(part.as_str())) {
                    continue;
                }
                for &kind in &self.kinds {
                    if !programs.has(kind) || !worth_running(kind, stream) {
                        continue;
                    }
                    let what = format!("{} at {}, round {round}", stream.name, kind.name());
                    let run = self.one(kind, stream, round, programs, place);
                    session.step(&what, run, |all, run| all.runs.push(run)).await;
                }
            }
        }
    }

    async fn one(
        &self,
        kind: Kind,
        stream: Stream,
        round: u32,
        programs: &Programs,
        place: &Place,
    ) -> Result<Run, Error> {
        let running = Running::start(kind, programs, place).await?;
        let started = running.usage();
        let sent = match stream.source {
            Source::MiraLoadgen => {
                let program = programs.mira_loadgen();
                let program = program.ok_or_else(|| Error::Usage("Mira's load generator was not built".into()))?;
                loadgen::send(&program, &running, self.connections, self.loadgen_records).await?
            }
            Source::Ours { mix, small, protocol, compression, batch } => {
                let load = Load {
                    endpoint: running.endpoint(protocol, compression),
                    mix,
                    shape: Shape { run: "compare".into(), instance: "generator".into(), small, trace_len: 8 },
                    batch,
                    connections: self.connections,
                    in_flight: self.in_flight,
                    pace: Pace::Closed,
                    until: Until::Elapsed(self.load_time),
                    age: Duration::ZERO,
                    respect_retry: true,
                    server_pid: Some(running.pid()),
                    sql: running.sql(),
                    probe_freshness: false,
                };
                ours_sent(load).await?
            }
        };
        let (used, disk) = running.end().await?;
        let whole = used.cpu.saturating_sub(started.cpu).as_secs_f64();
        let load_cpu = sent.load_cpu.as_secs_f64();
        let acked = sent.acked_records as f64;
        Ok(Run {
            system: kind,
            stream: stream.name,
            round,
            ack_class: kind.ack(),
            seconds: sent.seconds,
            acked_records: sent.acked_records,
            unacked_requests: sent.unacked_requests,
            records_per_second: acked / sent.seconds.max(1e-9),
            load_cpu_seconds: load_cpu,
            whole_cpu_seconds: whole,
            records_per_cpu_second: acked / load_cpu.max(0.01),
            records_per_whole_cpu_second: acked / whole.max(0.01),
            rss_max_bytes: sent.rss_max_bytes,
            ack: sent.ack,
            stored_bytes_per_record: (disk.record_bytes > 0).then(|| disk.record_bytes as f64 / acked.max(1.0)),
            disk_bytes_per_record: disk.all_bytes as f64 / acked.max(1.0),
            verified: sent.verified,
            last_problem: sent.last_problem,
        })
    }
}

async fn ours_sent(load: Load) -> Result<Sent, Error> {
    let report = load.run().await?;
    let counts = report.counts;
    Ok(Sent {
        seconds: report.seconds,
        acked_records: counts.acked_records,
        unacked_requests: counts.refused_retryable + counts.refused_for_good + counts.failed,
        ack: report.ack,
        load_cpu: Duration::from_secs_f64(report.server_cpu_seconds.unwrap_or(0.0)),
        rss_max_bytes: report.server_rss_max_bytes.unwrap_or(0),
        verified: report.verified,
        last_problem: report.last_problem,
    })
}

/// A synced queue waits for the disk at each request: one stream shows it. The rest is what the receivers take.
fn worth_running(kind: Kind, stream: Stream) -> bool {
    match (kind, stream.source) {
        (Kind::CollectorQueueSynced, source) => source == STREAMS[0].source,
        // Neither opens zstd.
        (Kind::Mira | Kind::Rotel, Source::Ours { compression, .. }) => compression != Compression::Zstd,
        _ => true,
    }
}

/// Counts what Mira's load generator had stored, over all of it.
pub(crate) async fn rows_of(sql: &Sql) -> Result<u64, Error> {
    let mut rows = 0;
    for table in ["logs", "spans", "metrics"] {
        rows += sql.number(&format!("SELECT count(*) FROM {table}")).await?;
    }
    Ok(rows)
}

/// The best round of each pair, in the order of streams and systems.
pub(crate) fn best(runs: &[Run]) -> Vec<&Run> {
    let mut best = Vec::new();
    for stream in STREAMS {
        for kind in Kind::ALL {
            let of = runs.iter().filter(|run| run.stream == stream.name && run.system == kind);
            best.extend(of.max_by(|a, b| a.records_per_whole_cpu_second.total_cmp(&b.records_per_whole_cpu_second)));
        }
    }
    best
}

/// Where the scripts that prepare peers are, beside this crate's source.
pub fn peer_scripts() -> PathBuf {
    std::env::var_os("PLIMSOLL_PEERS").map_or_else(|| source().join("peers"), PathBuf::from)
}
