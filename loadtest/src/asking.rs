//! The same questions to Plimsoll and to other engines over the same rows: load once, warm, ask many times.
//!
//! Plimsoll is asked over HTTP, the round trip and JSON included; the others answer in process. All have the same number of threads.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Connection, Endpoint, Protocol, Reply};
use crate::compression::Compression;
use crate::dataset::{BATCH, Dataset};
use crate::mira::Mira;
use crate::process::usage;
use crate::questions::{CLICKHOUSE_SETUP, DUCKDB_SETUP, QUESTIONS, Question};
use crate::{Addresses, Error, Printable, Server, ServerOptions};

/// Requests on the way while rows are loaded.
const IN_FLIGHT: usize = 6;
/// Traces asked for in turn.
const TRACES: u64 = 200;

/// What to ask, and whom.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The `plimsoll` program.
    pub binary: PathBuf,
    /// Data directory, loaded where it is empty, kept afterwards.
    pub data_dir: PathBuf,
    /// What is loaded where it is empty.
    pub dataset: Dataset,
    /// How often each question is asked.
    pub rounds: usize,
    /// Threads of the other engines.
    pub threads: usize,
    /// Only questions whose name contains this.
    pub only: Option<String>,
    /// Interpreter with DuckDB.
    pub duckdb: Option<PathBuf>,
    /// Interpreter with chdb.
    pub clickhouse: Option<PathBuf>,
    /// The program `mira`.
    pub mira: Option<PathBuf>,
    /// The script that asks them.
    pub script: PathBuf,
    /// More arguments of `plimsoll serve`.
    pub arguments: Vec<String>,
}

/// How long one engine took for one question.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Times {
    /// Rows of the answer.
    pub rows: usize,
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// Processor time of all threads for one answer, in milliseconds: what other work on the machine does not change.
    pub cpu_ms: f64,
}

/// One question, and every engine's times; `None` where the engine was not asked.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Answer {
    /// The question.
    pub name: &'static str,
    /// What it asks.
    pub asks: &'static str,
    /// Plimsoll, over HTTP.
    pub plimsoll: Times,
    /// DuckDB over Plimsoll's segments.
    pub duckdb: Option<Times>,
    /// ClickHouse over tables of its own.
    pub clickhouse: Option<Times>,
    /// Mira over HTTP, loaded with the same records.
    pub mira: Option<Times>,
    /// What of the question Mira cannot express.
    pub mira_cannot: Option<&'static str>,
}

/// All questions.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Answers {
    /// Spans and logs stored.
    pub records: u64,
    /// Seconds that loading took; zero where they were there already.
    pub load_seconds: f64,
    /// Segments of spans and logs, and their bytes.
    pub segments: (usize, u64),
    /// One row a question.
    pub answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Report {
    answers: Vec<ReportedAnswer>,
}

#[derive(Deserialize)]
struct ReportedAnswer {
    name: String,
    rows: usize,
    times_ms: Vec<f64>,
    cpu_ms: f64,
}

impl Asking {
    /// Loads what is not there, asks, and returns the times.
    ///
    /// # Errors
    /// A server or another engine cannot be started, or refuses a question.
    pub async fn run(mut self, mut progress: impl FnMut(&str)) -> Result<Answers, Error> {
        let facts = self.data_dir.with_extension("json");
        let mut load_seconds = 0.0;
        if facts.exists() {
            let text = std::fs::read_to_string(&facts).map_err(Error::file(&facts))?;
            self.dataset = serde_json::from_str(&text)
                .map_err(|problem| Error::Usage(format!("`{}` is not what was loaded: {problem}", facts.display())))?;
        } else {
            progress("loading");
            let began = Instant::now();
            self.load(&mut progress).await?;
            load_seconds = began.elapsed().as_secs_f64();
            std::fs::write(&facts, json!(self.dataset).to_string()).map_err(Error::file(&facts))?;
        }
        let server = self.server().await?;
        progress("waiting for compaction");
        self.settle().await?;
        let deploy = self.deploy(&server).await?;
        let asked: Vec<&Question> = QUESTIONS
            .iter()
            .filter(|question| self.only.as_ref().is_none_or(|name| question.name.contains(name.as_str())))
            .collect();
        let mut answers = Vec::new();
        for question in &asked {
            progress(question.name);
            let plimsoll = self.ask(&server, question, &deploy).await?;
            answers.push(Answer {
                name: question.name,
                asks: question.asks,
                plimsoll,
                duckdb: None,
                clickhouse: None,
                mira: None,
                mira_cannot: question.mira.err(),
            });
        }
        let sql = server.sql();
        let records = sql.number("SELECT count(*) FROM spans").await? + sql.number("SELECT count(*) FROM logs").await?;
        drop(server);
        let filled = |setup: &[&str]| setup.iter().map(|text| self.fill(text, &deploy, 0)).collect::<Vec<String>>();
        if let Some(python) = &self.duckdb {
            let questions = asked.iter().map(|question| (question.name, self.fill(question.duckdb, &deploy, 7)));
            let report = self.others(python, "duckdb", &filled(&DUCKDB_SETUP), questions.collect())?;
            answers.iter_mut().for_each(|answer| answer.duckdb = report.times(answer.name));
        }
        if let Some(python) = &self.clickhouse {
            let questions = asked.iter().map(|question| (question.name, self.fill(question.clickhouse, &deploy, 7)));
            let report = self.others(python, "clickhouse", &filled(&CLICKHOUSE_SETUP), questions.collect())?;
            answers.iter_mut().for_each(|answer| answer.clickhouse = report.times(answer.name));
        }
        if let Some(program) = &self.mira {
            let mira = self.mira(program, &mut progress).await?;
            for (answer, question) in answers.iter_mut().zip(&asked) {
                if let Ok(document) = question.mira {
                    progress(question.name);
                    answer.mira = Some(self.ask_mira(&mira, document).await?);
                }
            }
            mira.end().await?;
        }
        Ok(Answers { records, load_seconds, segments: self.segments()?, answers })
    }

    async fn server(&self) -> Result<Server, Error> {
        let options = ServerOptions {
            binary: self.binary.clone(),
            data_dir: self.data_dir.clone(),
            addresses: Addresses::free()?,
            cpu: None,
            arguments: self.arguments.clone(),
        };
        Server::start(options, Duration::from_secs(120)).await
    }

    async fn load(&self, progress: &mut impl FnMut(&str)) -> Result<(), Error> {
        let mut server = self.server().await?;
        let endpoint = Endpoint {
            address: server.addresses().otlp_grpc,
            protocol: Protocol::Grpc,
            compression: Compression::None,
            timeout: Duration::from_secs(60),
        };
        self.send_all(endpoint, progress).await?;
        // A graceful end flushes what is left.
        server.stop(Duration::from_secs(120)).await?;
        Ok(())
    }

    /// Starts Mira with the records of the data set: kept beside those of Plimsoll for the next time.
    async fn mira(&self, program: &Path, progress: &mut impl FnMut(&str)) -> Result<Mira, Error> {
        let dir = self.data_dir.with_extension("mira");
        let loaded = dir.join("loaded");
        if !loaded.exists() {
            progress("loading Mira");
            let mira = Mira::start(program, &dir).await?;
            self.send_all(mira.endpoint(), progress).await?;
            mira.end().await?;
            std::fs::write(&loaded, "").map_err(Error::file(&loaded))?;
        }
        Mira::start(program, &dir).await
    }

    async fn ask_mira(&self, mira: &Mira, document: &str) -> Result<Times, Error> {
        let (mut times, mut rows, mut used) = (Vec::new(), 0, None);
        for round in 0..=self.rounds as u64 {
            let document = self.fill(document, "", round + 7);
            let began = Instant::now();
            rows = mira.ask(document).await?;
            // The first round warms.
            if round > 0 {
                times.push(began.elapsed().as_secs_f64() * 1e3);
            } else {
                used = usage(mira.pid());
            }
        }
        let spent = usage(mira.pid()).zip(used).map(|(after, before)| after.cpu.saturating_sub(before.cpu));
        let cpu_ms = spent.map_or(f64::NAN, |spent| spent.as_secs_f64() * 1e3 / self.rounds as f64);
        Ok(quantiles(rows, times, cpu_ms))
    }

    /// Sends every record of the data set.
    async fn send_all(&self, endpoint: Endpoint, progress: &mut impl FnMut(&str)) -> Result<(), Error> {
        let next = Arc::new(AtomicU64::new(0));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..IN_FLIGHT {
            workers.spawn(send(endpoint, self.dataset.clone(), Arc::clone(&next)));
        }
        let total = self.dataset.requests();
        let mut ticks = tokio::time::interval(Duration::from_secs(10));
        loop {
            tokio::select! {
                ended = workers.join_next() => match ended {
                    None => return Ok(()),
                    Some(outcome) => outcome.map_err(|problem| Error::Usage(format!("a sender panicked: {problem}")))??,
                },
                _ = ticks.tick() => {
                    progress(&format!("loaded {} of {total} requests", next.load(Ordering::Relaxed).min(total)));
                }
            }
        }
    }

    /// Waits until no segment has come or gone for a while.
    async fn settle(&self) -> Result<(), Error> {
        let mut last = (self.segments()?, Instant::now());
        let deadline = Instant::now() + Duration::from_secs(600);
        while last.1.elapsed() < Duration::from_secs(30) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.segments()?;
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        Ok(())
    }

    fn segments(&self) -> Result<(usize, u64), Error> {
        let mut found = (0, 0);
        for table in ["spans", "logs"] {
            files(&self.data_dir.join("segments").join(table), &mut found)?;
        }
        Ok(found)
    }

    async fn deploy(&self, server: &Server) -> Result<String, Error> {
        let url = format!("{}/api/v1/deploys", server.addresses().api_url());
        let failed = |problem: String| Error::Unreachable { address: url.clone(), problem };
        let at = i64::try_from(self.dataset.deployed_at() / 1_000_000_000).unwrap_or(i64::MAX);
        let at = jiff::Timestamp::from_second(at).map_err(|problem| failed(problem.to_string()))?;
        let body = json!({"service": "checkout", "environment": "prod", "namespace": "shop", "version": "2.0.0",
            "started_at": at.to_string()});
        let sent = reqwest::Client::new().post(&url).header("idempotency-key", "questions").json(&body).send().await;
        let answer: Value = async { sent?.json().await }.await.map_err(|problem| failed(problem.to_string()))?;
        answer["id"].as_str().map(str::to_owned).ok_or_else(|| failed(answer.to_string()))
    }

    /// Puts the facts of the data set into a question; `round` chooses the trace.
    fn fill(&self, sql: &str, deploy: &str, round: u64) -> String {
        let traces = self.dataset.spans / 8;
        let trace = self.dataset.trace_id((round % TRACES) * (traces / TRACES).max(1) % traces.max(1));
        let trace: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
        let segments = std::path::absolute(self.data_dir.join("segments")).unwrap_or_else(|_| self.data_dir.clone());
        sql.replace("{trace}", &trace)
            .replace("{start}", &self.dataset.before_end(3_600).to_string())
            .replace("{end}", &self.dataset.ends_at.to_string())
            .replace("{deployed}", &self.dataset.deployed_at().to_string())
            .replace("{deploy}", deploy)
            .replace("{log}", "order 00c")
            .replace("{segments}", &segments.display().to_string())
    }

    async fn ask(&self, server: &Server, question: &Question, deploy: &str) -> Result<Times, Error> {
        let sql = server.sql();
        let (mut times, mut rows, mut used) = (Vec::new(), 0, None);
        for round in 0..=self.rounds as u64 {
            let text = self.fill(question.plimsoll, deploy, round + 7);
            let began = Instant::now();
            rows = sql.query(&text).await?.rows.len();
            // The first round warms.
            if round > 0 {
                times.push(began.elapsed().as_secs_f64() * 1e3);
            } else {
                used = usage(server.pid());
            }
        }
        let spent = usage(server.pid()).zip(used).map(|(after, before)| after.cpu.saturating_sub(before.cpu));
        let cpu_ms = spent.map_or(f64::NAN, |spent| spent.as_secs_f64() * 1e3 / self.rounds as f64);
        Ok(quantiles(rows, times, cpu_ms))
    }

    fn others(
        &self,
        python: &Path,
        engine: &str,
        setup: &[String],
        questions: Vec<(&'static str, String)>,
    ) -> Result<Report, Error> {
        let questions: Vec<Value> = questions.iter().map(|(name, sql)| json!({"name": name, "sql": sql})).collect();
        let order = json!({"engine": engine, "state": self.data_dir.with_extension(engine), "threads": self.threads,
            "rounds": self.rounds, "setup": setup, "questions": questions});
        let failed = |problem: String| Error::Usage(format!("`{}` as {engine}: {problem}", self.script.display()));
        let mut child = Command::new(python)
            .arg(&self.script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::file(python))?;
        let mut input = child.stdin.take().expect("standard input was piped");
        input.write_all(order.to_string().as_bytes()).map_err(Error::file(&self.script))?;
        drop(input);
        let output = child.wait_with_output().map_err(Error::file(&self.script))?;
        if !output.status.success() {
            return Err(failed(output.status.to_string()));
        }
        serde_json::from_slice(&output.stdout).map_err(|problem| failed(problem.to_string()))
    }
}

impl Report {
    fn times(&self, name: &str) -> Option<Times> {
        let answer = self.answers.iter().find(|answer| answer.name == name)?;
        Some(quantiles(answer.rows, answer.times_ms.clone(), answer.cpu_ms))
    }
}

fn quantiles(rows: usize, mut times: Vec<f64>, cpu_ms: f64) -> Times {
    times.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let last = times.len().saturating_sub(1);
        times.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
    };
    Times { rows, p50_ms: at(0.5), p99_ms: at(0.99), cpu_ms }
}

/// Adds the files below `path` and their bytes to `found`.
fn files(path: &Path, found: &mut (usize, u64)) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(facts) if facts.is_dir() => files(&entry.path(), found)?,
            Ok(facts) => *found = (found.0 + 1, found.1 + facts.len()),
            // It went since it was listed.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Sends requests until there are none left; what is refused for now is sent again.
async fn send(endpoint: Endpoint, dataset: Dataset, next: Arc<AtomicU64>) -> Result<(), Error> {
    let unreachable = |problem: String| Error::Unreachable { address: endpoint.address.to_string(), problem };
    let mut connection = Connection::open(endpoint).await.map_err(|problem| unreachable(problem.to_string()))?;
    loop {
        // A ticket: nothing is published through it.
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= dataset.requests() {
            return Ok(());
        }
        let (signal, body) = dataset.request(number);
        loop {
            match connection.send_message(signal, &body).await.map_err(|problem| unreachable(problem.to_string()))? {
                Reply::Accepted { rejected: 0 } => break,
                Reply::Accepted { rejected } => {
                    let problem = format!("{rejected} of {BATCH} records were rejected");
                    return Err(Error::Refused { signal, problem });
                }
                Reply::Refused { retryable: true, retry_after, .. } => {
                    tokio::time::sleep(retry_after.unwrap_or(Duration::from_millis(200))).await;
                }
                Reply::Refused { problem, .. } => return Err(Error::Refused { signal, problem }),
            }
        }
    }
}

impl Printable for Answers {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header(["question", "rows", "Plimsoll p50 / p99 / CPU ms", "DuckDB", "ClickHouse", "Mira"]);
        let cell = |times: &Times, rows: usize| {
            let other = if times.rows == rows { String::new() } else { format!(" ({} rows)", times.rows) };
            format!("{:.0} / {:.0} / {:.0}{other}", times.p50_ms, times.p99_ms, times.cpu_ms)
        };
        for answer in &self.answers {
            let rows = answer.plimsoll.rows;
            let optional = |times: &Option<Times>| times.as_ref().map_or_else(|| "-".into(), |times| cell(times, rows));
            table.add_row([
                answer.asks.to_owned(),
                rows.to_string(),
                cell(&answer.plimsoll, rows),
                optional(&answer.duckdb),
                optional(&answer.clickhouse),
                match answer.mira_cannot {
                    Some(why) => why.to_owned(),
                    None => optional(&answer.mira),
                },
            ]);
        }
        table
    }
}
