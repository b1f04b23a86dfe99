//! SIGKILL at random moments under load: every acked record must be there exactly once after the restart.
//!
//! *Invariants.* The ack log is kept here, by the client. A request is one trace (or, for points, one value of
//! `loadtest.batch`), so that SQL can say of each request how many of its records are stored and how many differ.
//! Acked: all, each once. Not acked: all once or none, since a request is taken or not as a whole. Sent again until acked: all,
//! each once, however often.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use crate::bodies::now_ns;
use crate::client::{Connection, Endpoint, Protocol, Reply};
use crate::compression::Compression;
use crate::records::{Shape, Signal};
use crate::repeat::{Repeats, Templates};
use crate::sql::{Sql, integer};
use crate::template::{self, Template, trace_id};
use crate::{Addresses, Error, Server, ServerOptions};

/// A torture to run.
#[derive(Debug, Clone)]
pub struct Torture {
    /// The server, its data directory and addresses; restarted on the same each time.
    pub server: ServerOptions,
    /// How often to kill it.
    pub kills: u32,
    /// Records in a request.
    pub batch: usize,
    /// Writers on each protocol.
    pub writers: usize,
    /// The longest time under load before a kill.
    pub load_max: Duration,
    /// Whether what has no ack is sent again after each restart, and some of what has one.
    pub repeat: bool,
    /// What all that is random comes from; the same seed kills at the same moments after the same first ack.
    pub seed: u64,
    /// How long a start, replay included, may take.
    pub ready_within: Duration,
}

/// What was found after each kill, added up.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct KillReport {
    /// What all that was random came from.
    pub seed: u64,
    /// Kills.
    pub kills: u32,
    /// Requests acked before them.
    pub acked_requests: u64,
    /// Records in those.
    pub acked_records: u64,
    /// Requests that had no ack when the server died.
    pub unacked_requests: u64,
    /// How many of those were stored all the same.
    pub unacked_stored: u64,
    /// Sends of requests that had been sent before.
    pub repeats: u64,
    /// Acked records that are not there.
    pub lost_records: u64,
    /// Records that are there more than once.
    pub duplicated_records: u64,
    /// Requests that are there in part.
    pub torn_requests: u64,
    /// The longest start after a kill, in seconds.
    pub slowest_start_seconds: f64,
    /// The first few faults, in words.
    pub faults: Vec<String>,
}

impl KillReport {
    /// True where nothing acked is missing, nothing is there twice and no request in part.
    pub fn is_clean(&self) -> bool {
        self.lost_records == 0 && self.duplicated_records == 0 && self.torn_requests == 0
    }
}

/// Faults that are told in words; the rest is counted.
const FAULTS_TOLD: usize = 10;
/// Records that one query counts.
const COUNTED: u64 = 50_000;

/// What became of one request, by what the client knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    records: u64,
    pub(crate) acked: bool,
    /// The time that its bytes were made with.
    pub(crate) at_ns: u64,
}

pub(crate) type Ledger = HashMap<(Signal, u64), Sent>;

impl Torture {
    /// Runs it.
    ///
    /// # Errors
    /// The server does not start again, or queries fail. Faults of the data are in the report.
    pub async fn run(self) -> Result<KillReport, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut report = KillReport { seed: self.seed, ..KillReport::default() };
        let run = format!("kill-{:08x}", rand::rng().random::<u32>());
        // The ids of this run begin anywhere, so that runs on one data directory do not meet.
        let next_batch = Arc::new(AtomicU64::new(u64::from(rand::rng().random::<u32>()) << 12));
        let mut ledgers: Vec<Ledger> = Vec::new();
        let mut templates: Vec<Templates> = Vec::new();
        let mut server = Server::start(self.server.clone(), self.ready_within).await?;
        for round in 0..self.kills {
            let repeats = self.repeat.then(|| Repeats::due(&ledgers, &templates, &mut rng));
            let repeating = repeats.map(|repeats| repeats.start(&endpoints(server.addresses())));
            templates.push(self.templates(&run, round));
            let ledger = self.round(&mut server, &templates[round as usize], &next_batch, &mut rng).await;
            if let Some(repeating) = repeating {
                report.repeats += repeating.end(&mut ledgers).await;
            }
            ledgers.push(ledger);
            report.kills += 1;
            let began = std::time::Instant::now();
            server = Server::start(self.server.clone(), self.ready_within).await?;
            report.slowest_start_seconds = report.slowest_start_seconds.max(began.elapsed().as_secs_f64());
            // The round just ended, as the replay left it.
            let ledger = ledgers.last().expect("pushed above");
            let mut seen = report.clone();
            check(&server.sql(), &run, round, ledger, &mut seen).await?;
            if !seen.is_clean() {
                // What is wrong stays wrong: it is told at once, with the data directory as the kill left it.
                return Ok(seen);
            }
        }
        if self.repeat {
            let repeating = Repeats::due(&ledgers, &templates, &mut rng).start(&endpoints(server.addresses()));
            report.repeats += repeating.end(&mut ledgers).await;
        }
        // And all of them, as the last restart and everything since left them.
        for (round, ledger) in ledgers.iter().enumerate() {
            check(&server.sql(), &run, round as u32, ledger, &mut report).await?;
        }
        Ok(report)
    }

    fn templates(&self, run: &str, round: u32) -> Templates {
        let shape = Shape { run: run.into(), instance: format!("round-{round}"), small: true, trace_len: self.batch };
        Arc::new(Signal::ALL.iter().map(|signal| Template::new(*signal, &shape, self.batch, 0)).collect())
    }

    /// Writes until a random moment, kills, and returns what the writers know.
    async fn round(
        &self,
        server: &mut Server,
        templates: &Templates,
        next_batch: &Arc<AtomicU64>,
        rng: &mut ChaCha8Rng,
    ) -> Ledger {
        let load = Duration::from_micros(rng.random_range(0..self.load_max.as_micros().max(1) as u64));
        let stop = Arc::new(AtomicBool::new(false));
        let acks = Arc::new(tokio::sync::Semaphore::new(0));
        let mut writers = JoinSet::new();
        for endpoint in endpoints(server.addresses()) {
            for _ in 0..self.writers {
                let writer = Writer {
                    endpoint,
                    templates: Arc::clone(templates),
                    next_batch: Arc::clone(next_batch),
                    stop: Arc::clone(&stop),
                    acks: Arc::clone(&acks),
                };
                writers.spawn(writer.run());
            }
        }
        // The clock runs from the first ack, so that there always is something to lose; without one, writers end alone.
        let first = tokio::time::timeout(Duration::from_secs(30), acks.acquire()).await;
        drop(first);
        tokio::time::sleep(load).await;
        server.kill();
        stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::new();
        while let Some(done) = writers.join_next().await {
            ledger.extend(done.expect("a writer does not panic"));
        }
        ledger
    }
}

/// Both protocols, plain and compressed.
fn endpoints(addresses: Addresses) -> [Endpoint; 4] {
    let endpoint =
        |address, protocol, compression| Endpoint { address, protocol, compression, timeout: Duration::from_secs(10) };
    [
        endpoint(addresses.otlp_grpc, Protocol::Grpc, Compression::None),
        endpoint(addresses.otlp_grpc, Protocol::Grpc, Compression::Gzip),
        endpoint(addresses.otlp_http, Protocol::Http, Compression::None),
        endpoint(addresses.otlp_http, Protocol::Http, Compression::Zstd),
    ]
}

struct Writer {
    endpoint: Endpoint,
    templates: Templates,
    next_batch: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    acks: Arc<tokio::sync::Semaphore>,
}

impl Writer {
    async fn run(self) -> Ledger {
        let mut ledger = Ledger::new();
        let Ok(mut connection) = Connection::open(self.endpoint).await else {
            return ledger;
        };
        while !self.stop.load(Ordering::Relaxed) {
            // Relaxed: the number is all that is shared.
            let batch = self.next_batch.fetch_add(1, Ordering::Relaxed);
            let template = &self.templates[batch as usize % self.templates.len()];
            let at_ns = now_ns();
            let body = template::whole(template.render(batch, at_ns), self.endpoint.compression);
            let reply = connection.send(template.signal, body).await;
            let acked = matches!(reply, Ok(Reply::Accepted { rejected: 0 }));
            ledger.insert((template.signal, batch), Sent { records: template.records, acked, at_ns });
            if acked {
                self.acks.add_permits(1);
            }
            if reply.is_err() {
                break;
            }
        }
        ledger
    }
}

/// Compares what is stored of one round with what its writers know.
async fn check(sql: &Sql, run: &str, round: u32, ledger: &Ledger, report: &mut KillReport) -> Result<(), Error> {
    let mut found = HashMap::new();
    for signal in Signal::ALL {
        for (batch, stored) in stored(sql, run, round, signal, ledger).await? {
            found.insert((signal, batch), stored);
        }
    }
    let fault = |report: &mut KillReport, words: String| {
        if report.faults.len() < FAULTS_TOLD {
            report.faults.push(format!("round {round}: {words}"));
        }
    };
    for ((signal, batch), sent) in ledger {
        let (rows, distinct) = found.remove(&(*signal, *batch)).unwrap_or((0, 0));
        if sent.acked {
            report.acked_requests += 1;
            report.acked_records += sent.records;
            if distinct < sent.records {
                report.lost_records += sent.records - distinct;
                fault(report, format!("{signal} request {batch}: {distinct} of {} acked are there", sent.records));
            }
        } else {
            report.unacked_requests += 1;
            report.unacked_stored += u64::from(distinct == sent.records);
            if distinct != 0 && distinct != sent.records {
                report.torn_requests += 1;
                fault(report, format!("{signal} request {batch}: {distinct} of {} unacked are there", sent.records));
            }
        }
        if rows > distinct {
            report.duplicated_records += rows - distinct;
            fault(report, format!("{signal} request {batch}: {rows} rows for {distinct} records"));
        }
    }
    for ((signal, batch), (rows, _)) in found {
        report.duplicated_records += rows;
        fault(report, format!("{signal} request {batch}: {rows} rows that nobody sent"));
    }
    Ok(())
}

/// Rows and distinct records of every stored request of a round, by its batch.
async fn stored(
    sql: &Sql,
    run: &str,
    round: u32,
    signal: Signal,
    ledger: &Ledger,
) -> Result<HashMap<u64, (u64, u64)>, Error> {
    let (request, record) = match signal {
        Signal::Traces | Signal::Logs => ("trace_id", "span_id"),
        Signal::Metrics => ("attributes['loadtest.batch']", "attributes['loadtest.record']"),
    };
    let sent = ledger.iter().filter(|((of, _), _)| *of == signal);
    let sent: BTreeMap<String, (u64, u64)> = sent
        .map(|((_, batch), sent)| match signal {
            Signal::Metrics => (format!("{batch:016x}"), (*batch, sent.records)),
            Signal::Traces | Signal::Logs => (hex(&trace_id(*batch, 0)), (*batch, sent.records)),
        })
        .collect();
    let rows_of =
        format!("FROM {} WHERE service_namespace = '{run}' AND service_instance_id = 'round-{round}'", signal.table());
    let (mut all, mut counted) = (HashMap::new(), 0);
    for stretch in stretches(&sent, request) {
        // In pages, so that no limit on the rows of an answer hides a request.
        const PAGE: usize = 1000;
        for offset in (0..).step_by(PAGE) {
            let query = format!(
                "SELECT {request} AS request, count(*) AS stored, count(DISTINCT {record}) AS distinct_records {rows_of} \
                 AND {stretch} GROUP BY {request} ORDER BY request LIMIT {PAGE} OFFSET {offset}"
            );
            let rows = sql.query(&query).await?.rows;
            let last = rows.len() < PAGE;
            for row in rows {
                let [id, stored, distinct] = &row[..] else {
                    return Err(Error::Sql { query, problem: "a row does not have three columns".into() });
                };
                let batch = id.as_str().and_then(|id| sent.get(id)).map_or(u64::MAX, |(batch, _)| *batch);
                let numbers = integer(stored).zip(integer(distinct));
                let numbers = numbers
                    .ok_or_else(|| Error::Sql { query: query.clone(), problem: "a count is no number".into() })?;
                counted += numbers.0;
                all.insert(batch, numbers);
            }
            if last {
                break;
            }
        }
    }
    // What a condition on the request hides is there all the same.
    let query = format!("SELECT count(*) {rows_of}");
    let rows = sql.query(&query).await?.rows;
    let problem = match rows.first().and_then(|row| integer(row.first()?)) {
        Some(stored) if stored == counted => return Ok(all),
        Some(stored) => format!("{stored} rows where its stretches hold {counted}"),
        None => "a count is no number".to_owned(),
    };
    Err(Error::Sql { query, problem })
}

/// Conditions on `request` that together hold for every row, and each for what was sent of about [`COUNTED`] records: how many differ
/// is counted within the memory that queries have, however fast the writers were.
fn stretches(sent: &BTreeMap<String, (u64, u64)>, request: &str) -> Vec<String> {
    let mut begins = Vec::new();
    let mut records = 0;
    for (id, (_, more)) in sent {
        if records > 0 && records + more > COUNTED {
            begins.push(id);
            records = 0;
        }
        records += more;
    }
    let mut stretches = Vec::new();
    let mut lower = None;
    for begin in begins {
        stretches.push(match lower {
            None => format!("({request} IS NULL OR {request} < '{begin}')"),
            Some(lower) => format!("{request} >= '{lower}' AND {request} < '{begin}'"),
        });
        lower = Some(begin);
    }
    stretches.push(lower.map_or("true".to_owned(), |lower| format!("{request} >= '{lower}'")));
    stretches
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_one_stretch_and_so_is_what_nobody_sent() {
        let sent = |records: &[u64]| -> BTreeMap<String, (u64, u64)> {
            (0..).zip(records).map(|(batch, records)| (format!("{batch:02}"), (batch, *records))).collect()
        };
        assert_eq!(stretches(&sent(&[]), "id"), ["true"]);
        assert_eq!(stretches(&sent(&[25_000, 25_000]), "id"), ["true"]);
        assert_eq!(
            stretches(&sent(&[25_000, 25_000, 1, 50_000, 90_000]), "id"),
            ["(id IS NULL OR id < '02')", "id >= '02' AND id < '03'", "id >= '03' AND id < '04'", "id >= '04'"]
        );
    }
}
