//! A recorded day sent as fast as a receiver takes it: read and encoded before the clock starts, so that only taking is timed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Error;
use crate::bodies::now_ns;
use crate::client::{Connection, Protocol, Reply};
use crate::compression::Compression;
use crate::otlp_json::to_protobuf;
use crate::process::Watch;
use crate::recording::{self, Recording};
use crate::records::Signal;
use crate::system::{AckClass, Kind, Place, Programs, Running};

/// A recorded day at one system.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Day {
    /// The system.
    pub system: Kind,
    /// What an ack means there.
    pub ack_class: AckClass,
    /// Records that neighbouring requests were joined to; `None` where they were sent as recorded.
    pub batch: Option<u64>,
    /// Requests acked.
    pub requests: u64,
    /// Spans acked.
    pub spans: u64,
    /// Log records acked.
    pub logs: u64,
    /// Metric points acked.
    pub points: u64,
    /// Bytes a record on the wire.
    pub body_bytes_per_record: f64,
    /// Seconds it took.
    pub seconds: f64,
    /// Processor time until the process had ended and everything was on disk.
    pub whole_cpu_seconds: f64,
    /// Acked records a second.
    pub records_per_second: f64,
    /// Acked records per second of `whole_cpu_seconds`.
    pub records_per_whole_cpu_second: f64,
    /// The most resident memory.
    pub rss_max_bytes: u64,
    /// Bytes a record of the files that hold records.
    pub stored_bytes_per_record: Option<f64>,
    /// True where SQL finds as many rows as were acked.
    pub verified: Option<bool>,
}

/// Requests ready to be sent.
pub(crate) struct Requests {
    all: Vec<(Signal, u64, Vec<u8>)>,
    bytes: u64,
    batch: Option<u64>,
}

impl Requests {
    /// Reads a recording, moved so that its last record happened just now. A request that comes again byte for byte is a retry,
    /// which some receivers store once and some twice: it is left out.
    ///
    /// # Errors
    /// It cannot be read or is no OTLP/JSON.
    pub(crate) fn read(paths: &[std::path::PathBuf]) -> Result<Self, Error> {
        let mut lines = Vec::new();
        let mut recording = Recording::open(paths)?;
        while let Some(line) = recording.next_line()? {
            lines.push(line);
        }
        let ends = lines.iter().filter_map(|line| line.times).map(|(_, last)| last).max().unwrap_or(0);
        let shift = now_ns().cast_signed() - ends.cast_signed();
        let (mut all, mut bytes) = (Vec::new(), 0);
        let mut seen = HashSet::new();
        for mut line in lines {
            recording::shift(&mut line.request, shift);
            let body = to_protobuf(line.signal, &line.request)
                .map_err(|problem| Error::Usage(format!("the recording holds no OTLP/JSON: {problem}")))?;
            if seen.insert((line.signal, body.clone())) {
                bytes += body.len() as u64;
                all.push((line.signal, line.records, body));
            }
        }
        Ok(Self { all, bytes, batch: None })
    }

    /// Joins neighbouring requests of a signal until they hold so many records: messages of Protobuf are joined by putting their bytes
    /// behind one another.
    pub(crate) fn joined(&self, records: u64) -> Self {
        let mut all = Vec::new();
        let mut open: Vec<(Signal, u64, Vec<u8>)> = Vec::new();
        for (signal, more, body) in &self.all {
            let at = open.iter().position(|(of, ..)| of == signal).unwrap_or_else(|| {
                open.push((*signal, 0, Vec::new()));
                open.len() - 1
            });
            let (_, held, joined) = &mut open[at];
            *held += more;
            joined.extend_from_slice(body);
            if *held >= records {
                all.push(open.swap_remove(at));
            }
        }
        all.extend(open);
        Self { all, bytes: self.bytes, batch: Some(records) }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Acked {
    spans: u64,
    logs: u64,
    points: u64,
}

/// Records that requests are joined to: what a Collector's batch processor that is told nothing else waits for.
pub(crate) const BATCH: u64 = 8_192;

/// Who is sent it: those that store it, and those that show what taking it costs.
pub(crate) const KINDS: [Kind; 4] = [Kind::Plimsoll, Kind::Mira, Kind::Rotel, Kind::CollectorNop];

/// Connections that it is sent over.
const CONNECTIONS: usize = 8;

/// Requests in flight on each: most of a recording's requests hold a few points, so that many wait for one sync.
const IN_FLIGHT: usize = 16;

/// Sends it in the order of the recording.
pub(crate) async fn run(
    kind: Kind,
    requests: &Arc<Requests>,
    programs: &Programs,
    place: &Place,
) -> Result<Day, Error> {
    let running = Running::start(kind, programs, place).await?;
    let started = running.usage();
    let watch = Watch::start(running.pid());
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    let endpoint = running.endpoint(Protocol::Grpc, Compression::None);
    let unreachable = |problem: crate::SendError| Error::Unreachable {
        address: endpoint.address.to_string(),
        problem: problem.to_string(),
    };
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(endpoint).await.map_err(unreachable)?;
        for _ in 0..IN_FLIGHT {
            let connection = connection.another().await.map_err(unreachable)?;
            workers.spawn(worker(Arc::clone(requests), Arc::clone(&next), connection));
        }
    }
    let mut acked = Acked::default();
    while let Some(done) = workers.join_next().await {
        let one = done.expect("a worker does not panic")?;
        acked.spans += one.spans;
        acked.logs += one.logs;
        acked.points += one.points;
    }
    let seconds = began.elapsed().as_secs_f64();
    let track = watch.end().await;
    let all = acked.spans + acked.logs + acked.points;
    let verified = match running.sql() {
        Some(sql) => Some(crate::measure::compare::rows_of(&sql).await? == all),
        None => None,
    };
    let (used, disk) = running.end().await?;
    let whole = used.cpu.saturating_sub(started.cpu).as_secs_f64();
    Ok(Day {
        system: kind,
        ack_class: kind.ack(),
        batch: requests.batch,
        requests: requests.all.len() as u64,
        spans: acked.spans,
        logs: acked.logs,
        points: acked.points,
        body_bytes_per_record: requests.bytes as f64 / (all as f64).max(1.0),
        seconds,
        whole_cpu_seconds: whole,
        records_per_second: all as f64 / seconds.max(1e-9),
        records_per_whole_cpu_second: all as f64 / whole.max(0.01),
        rss_max_bytes: track.rss_max_bytes,
        stored_bytes_per_record: (disk.record_bytes > 0).then(|| disk.record_bytes as f64 / (all as f64).max(1.0)),
        verified,
    })
}

async fn worker(requests: Arc<Requests>, next: Arc<AtomicUsize>, mut connection: Connection) -> Result<Acked, Error> {
    const TRIES: u32 = 200;
    let mut acked = Acked::default();
    // Relaxed: the number is all that is shared.
    while let Some((signal, records, body)) = requests.all.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut last = String::new();
        let mut taken = None;
        for _ in 0..TRIES {
            match connection.send_message(*signal, body).await {
                Ok(Reply::Accepted { rejected }) => {
                    taken = Some(records.saturating_sub(rejected));
                    break;
                }
                Ok(Reply::Refused { retryable: true, problem, retry_after }) => {
                    last = problem;
                    tokio::time::sleep(retry_after.unwrap_or(Duration::from_millis(50))).await;
                }
                Ok(Reply::Refused { problem, .. }) => return Err(Error::Refused { signal: *signal, problem }),
                Err(problem) => {
                    return Err(Error::Refused { signal: *signal, problem: problem.to_string() });
                }
            }
        }
        let taken = taken.ok_or(Error::Refused { signal: *signal, problem: last })?;
        match signal {
            Signal::Traces => acked.spans += taken,
            Signal::Logs => acked.logs += taken,
            Signal::Metrics => acked.points += taken,
        }
    }
    Ok(acked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_requests_hold_what_the_recorded_ones_held() {
        let body = |n: u8| vec![n; 3];
        let all: Vec<_> = (0..10_u8)
            .map(|n| (if n % 3 == 0 { Signal::Logs } else { Signal::Traces }, u64::from(n), body(n)))
            .collect();
        let joined = Requests { all: all.clone(), bytes: 30, batch: None }.joined(9);
        for signal in [Signal::Logs, Signal::Traces] {
            let of = |all: &[(Signal, u64, Vec<u8>)]| -> (u64, Vec<u8>) {
                let of = all.iter().filter(|(of, ..)| *of == signal);
                (of.clone().map(|(_, records, _)| records).sum(), of.flat_map(|(.., body)| body.clone()).collect())
            };
            assert_eq!(of(&joined.all), of(&all), "{signal:?}");
        }
        let whole = joined.all.iter().filter(|(_, records, _)| *records >= 9).count();
        assert!(whole + 2 >= joined.all.len() && joined.all.len() < 8, "{:?}", joined.all);
        assert_eq!(joined.batch, Some(9));
    }
}
