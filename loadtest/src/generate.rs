//! Load on a receiver: closed loop (as fast as answers come) or open loop (at a rate, whatever the answers).
//!
//! *Invariants.* In the open loop a request's latency counts from when it was due, not from when it could be sent, so that a
//! stalled server cannot hide the requests it kept waiting (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bodies::Bodies;
use crate::client::{Connection, Endpoint, Reply};
use crate::process::Track;
use crate::records::{Shape, Signal};
use crate::sql::Sql;
use crate::stats::{Counts, Quantiles, Stats};
use crate::{Error, freshness, process};

/// Which signals a load is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metric points of every type.
    Metrics,
    /// Half spans, half logs, a request of each in turn.
    Mixed,
    /// All three in turn.
    All,
}

impl Mix {
    pub(crate) fn signals(self) -> &'static [Signal] {
        match self {
            Self::Traces => &[Signal::Traces],
            Self::Logs => &[Signal::Logs],
            Self::Metrics => &[Signal::Metrics],
            Self::Mixed => &[Signal::Traces, Signal::Logs],
            Self::All => &Signal::ALL,
        }
    }
}

/// How fast requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each worker sends its next request when the last one was answered.
    Closed,
    /// So many records a second, whatever the answers.
    RecordsPerSecond(f64),
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// When this many requests were sent.
    Requests(u64),
}

/// A load to generate.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to, and how.
    pub endpoint: Endpoint,
    /// What of.
    pub mix: Mix,
    /// Whose records, and how large.
    pub shape: Shape,
    /// Records in a request.
    pub batch: usize,
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each connection; HTTP/1.1 opens so many more connections instead.
    pub in_flight: usize,
    /// How fast.
    pub pace: Pace,
    /// How long.
    pub until: Until,
    /// How long ago records say that they happened.
    pub age: Duration,
    /// True to wait as long as a refusal asks for before sending on.
    pub respect_retry: bool,
    /// The process to watch, where it runs on this machine.
    pub server_pid: Option<u32>,
    /// Where to count and probe what was stored.
    pub sql: Option<Sql>,
    /// True to probe how soon records are visible while the load runs.
    pub probe_freshness: bool,
}

/// What a load did and cost.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoadReport {
    /// `service.namespace` of the records.
    pub run: String,
    /// Seconds it took.
    pub seconds: f64,
    /// Requests and records.
    pub counts: Counts,
    /// Acked records a second.
    pub records_per_second: f64,
    /// Bytes of request bodies a record.
    pub body_bytes_per_record: f64,
    /// Time to the ack.
    pub ack: Quantiles,
    /// Time from the ack to visible in SQL.
    pub freshness: Option<Quantiles>,
    /// Processor time of the server, in seconds.
    pub server_cpu_seconds: Option<f64>,
    /// Acked records per second of it.
    pub records_per_cpu_second: Option<f64>,
    /// The most resident memory seen while the load ran.
    pub server_rss_max_bytes: Option<u64>,
    /// Its memory and files over time.
    pub server_track: Option<Track>,
    /// Records that had been sent before, more requests being sent than were prepared.
    pub repeated_records: u64,
    /// Rows found in SQL afterwards.
    pub stored_records: Option<u64>,
    /// False where acked records are missing or there are more than were sent.
    pub verified: Option<bool>,
    /// The last refusal or failure.
    pub last_problem: Option<String>,
}

/// A request that answers keep failing is not repeated at once: the server may be restarting.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// How much too late the runtime's timer may wake.
const TIMER_STEPS: Duration = Duration::from_millis(2);

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// The receiver cannot be reached at the start, or the check in SQL cannot be made.
    pub async fn run(self) -> Result<LoadReport, Error> {
        let bodies = Arc::new(Bodies::new(&self));
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            let first = self.connect().await?;
            for _ in 1..self.in_flight {
                let more = first.another().await.map_err(|problem| self.unreachable(&problem.to_string()))?;
                connections.push(more);
            }
            connections.push(first);
        }
        let before = self.server_pid.and_then(process::usage);
        let start = Instant::now();
        let clock = Arc::new(Clock::new(start, self.batch, self.pace, self.until));
        let watch = self.server_pid.map(process::Watch::start);
        let probe = match (&self.sql, self.probe_freshness) {
            (Some(sql), true) => {
                Some(tokio::spawn(freshness::probe(self.endpoint, self.shape.clone(), sql.clone(), Arc::clone(&clock))))
            }
            _ => None,
        };
        let mut workers = JoinSet::new();
        for connection in connections {
            let worker = Worker {
                connection: Some(connection),
                endpoint: self.endpoint,
                bodies: Arc::clone(&bodies),
                clock: Arc::clone(&clock),
                respect_retry: self.respect_retry,
            };
            workers.spawn(worker.run());
        }
        let mut stats = Stats::new();
        while let Some(done) = workers.join_next().await {
            stats.add(&done.expect("a worker does not panic"));
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = self.server_pid.and_then(process::usage);
        clock.stop();
        let cpu = before.zip(after).map(|(before, after)| (after.cpu - before.cpu).as_secs_f64());
        let track = match watch {
            Some(watch) => Some(watch.end().await),
            None => None,
        };
        let freshness = match probe {
            Some(probe) => probe.await.ok().filter(|seen| !seen.is_empty()),
            None => None,
        };
        let stored = match &self.sql {
            Some(sql) => Some(self.stored(sql, &stats).await?),
            None => None,
        };
        Ok(LoadReport {
            repeated_records: bodies.repeated(),
            ..self.report(seconds, stats, cpu, track, freshness, stored)
        })
    }

    async fn connect(&self) -> Result<Connection, Error> {
        Connection::open(self.endpoint).await.map_err(|problem| self.unreachable(&problem.to_string()))
    }

    fn unreachable(&self, problem: &str) -> Error {
        Error::Unreachable { address: self.endpoint.address.to_string(), problem: problem.into() }
    }

    /// Counts what is stored, waiting for acked records to be visible, and says whether that is what it should be.
    async fn stored(&self, sql: &Sql, stats: &Stats) -> Result<(u64, bool), Error> {
        let mut total = 0;
        let mut right = true;
        for &signal in self.mix.signals() {
            let counts = stats.of(signal);
            let query = format!(
                "SELECT count(*) FROM {} WHERE service_namespace = '{}' AND service_instance_id = '{}'",
                signal.table(),
                self.shape.run,
                self.shape.instance
            );
            let stored = sql.at_least(&query, counts.acked_records, Duration::from_secs(10)).await?;
            right &= counts.stored().contains(&stored);
            total += stored;
        }
        Ok((total, right))
    }

    fn report(
        self,
        seconds: f64,
        stats: Stats,
        cpu: Option<f64>,
        track: Option<Track>,
        freshness: Option<Histogram<u64>>,
        stored: Option<(u64, bool)>,
    ) -> LoadReport {
        let counts = stats.all();
        let acked = counts.acked_records as f64;
        LoadReport {
            run: self.shape.run,
            seconds,
            counts,
            records_per_second: acked / seconds,
            body_bytes_per_record: counts.body_bytes as f64 / (acked + counts.unacked_records as f64).max(1.0),
            ack: Quantiles::of(&stats.ack),
            freshness: freshness.as_ref().map(Quantiles::of),
            server_cpu_seconds: cpu,
            records_per_cpu_second: cpu.filter(|cpu| *cpu > 0.0).map(|cpu| acked / cpu),
            server_rss_max_bytes: track.as_ref().map(|track| track.rss_max_bytes),
            server_track: track,
            repeated_records: 0,
            stored_records: stored.map(|(records, _)| records),
            verified: stored.map(|(_, right)| right),
            last_problem: stats.last_problem,
        }
    }
}

/// When each request is due, and when the load is over.
pub(crate) struct Clock {
    start: Instant,
    interval: Option<Duration>,
    until: Until,
    sent: AtomicU64,
    stopped: AtomicU64,
}

impl Clock {
    fn new(start: Instant, batch: usize, pace: Pace, until: Until) -> Self {
        let interval = match pace {
            Pace::Closed => None,
            Pace::RecordsPerSecond(rate) => Some(Duration::from_secs_f64(batch as f64 / rate)),
        };
        Self { start, interval, until, sent: AtomicU64::new(0), stopped: AtomicU64::new(0) }
    }

    /// Takes the next request: its number, and when it is due. `None` once the load is over.
    fn next(&self) -> Option<(u64, Option<Instant>)> {
        // Relaxed: the number is all that is shared.
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let due = self.interval.map(|interval| self.start + interval.mul_f64(number as f64));
        let over = match self.until {
            Until::Requests(requests) => number >= requests,
            Until::Elapsed(time) => due.unwrap_or_else(Instant::now) >= self.start + time,
        };
        (!over).then_some((number, due))
    }

    /// Tells those who watch the load that it has ended.
    fn stop(&self) {
        self.stopped.store(1, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        // Acquire: pairs with the store in `stop`.
        self.stopped.load(Ordering::Acquire) != 0
    }
}

/// Waits until `due`, and not until the runtime's timer tells, which counts whole milliseconds: latency runs from then.
async fn wait_until(due: Instant) {
    if let Some(early) = due.checked_sub(TIMER_STEPS) {
        tokio::time::sleep_until(early).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

struct Worker {
    connection: Option<Connection>,
    endpoint: Endpoint,
    bodies: Arc<Bodies>,
    clock: Arc<Clock>,
    respect_retry: bool,
}

impl Worker {
    async fn run(mut self) -> Stats {
        let mut stats = Stats::new();
        while let Some((number, due)) = self.clock.next() {
            // Made before it is due: it is not the receiver who takes that long.
            let (signal, records, body) = self.bodies.request(number, self.endpoint.compression);
            if let Some(due) = due {
                wait_until(due).await;
            }
            let body_bytes = body.len() - crate::client::GRPC_PREFIX_BYTES;
            let began = due.unwrap_or_else(Instant::now);
            let reply = match self.connected().await {
                Ok(connection) => connection.send(signal, body).await,
                Err(problem) => Err(problem),
            };
            stats.book(signal, records, body_bytes, began.elapsed(), &reply);
            match reply {
                Ok(Reply::Refused { retryable: true, retry_after: Some(wait), .. }) if self.respect_retry => {
                    tokio::time::sleep(wait).await;
                }
                Ok(_) => {}
                Err(_) => {
                    self.connection = None;
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
        stats
    }

    async fn connected(&mut self) -> Result<&mut Connection, crate::SendError> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(self.endpoint).await?);
        }
        Ok(self.connection.as_mut().expect("made above where there was none"))
    }
}
