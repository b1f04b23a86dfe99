//! `plimsoll backtest`: what would Plimsoll have said?
//!
//! Recorded telemetry and past deploys go through the decoder, the fold and the watcher that serve live traffic, with event time as the
//! clock: nothing waits, nothing listens, and the same input gives the same bytes.

mod clock;
mod deploys;
mod recording;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use parking_lot::Mutex;
use plimsoll_catalog::SqliteCatalog;
use plimsoll_model::{Bucket, DeployId, UnixNanos, VerdictKind};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_verdict::TolerancePolicy;
use plimsoll_watch::{NewDeploy, WatchOptions, Watcher};
use serde_json::{Value, json};

use crate::cli::output;
use crate::cli::{Failure, Outcome, show_verdict};
use clock::EventClock;
use recording::{Recordings, Rows};

/// Arguments of `plimsoll backtest`.
#[derive(Debug, Clone, Args)]
pub struct BacktestArgs {
    /// Recorded telemetry, OTLP as JSON lines; plain, `.gz` or `.zst`; of a directory all such files
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub otlp: Vec<PathBuf>,
    /// Past deploys as JSON lines, in the form that `POST /api/v1/deploys` takes, with `started_at`
    #[arg(long, value_name = "FILE")]
    pub deploys: PathBuf,
    /// How to print the verdicts
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: BacktestOutput,
}

/// How the verdicts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BacktestOutput {
    /// For people
    Table,
    /// One JSON array
    Json,
    /// One JSON object a line
    Jsonl,
}

/// One deploy on its way through the recording.
struct Judged {
    id: DeployId,
    first_regressed_at: Option<UnixNanos>,
}

/// Runs it.
///
/// # Errors
/// A file cannot be read, a deploy makes no sense, or there is no telemetry at all.
pub async fn run(args: BacktestArgs) -> Outcome {
    let deploys = deploys::read(&args.deploys).map_err(Failure::failed)?;
    let mut recordings = Recordings::open(&args.otlp).map_err(Failure::failed)?;
    let scratch = Scratch::new()?;
    let mut past = Past::start(&scratch).await?;
    let mut deploys = deploys.into_iter().peekable();
    while let Some(rows) = recordings.next().map_err(Failure::failed)? {
        past.advance(rows.at, &mut deploys).await?;
        past.fold(&rows)?;
    }
    if recordings.rows() == 0 {
        return Err(Failure::failed("the recordings hold no spans and no logs: nothing can be said"));
    }
    past.finish(&mut deploys).await?;
    for problem in recordings.problems() {
        output::complain(problem);
    }
    past.print(args.output).await?;
    Ok(ExitCode::SUCCESS)
}

/// The engine, at some moment of the past.
struct Past {
    clock: Arc<EventClock>,
    state: Arc<Mutex<SignalState>>,
    watcher: Watcher,
    judged: Vec<Judged>,
    next_look: Option<Bucket>,
}

type Deploys = std::iter::Peekable<std::vec::IntoIter<(UnixNanos, NewDeploy)>>;

impl Past {
    async fn start(scratch: &Scratch) -> Result<Self, Failure> {
        let catalog =
            SqliteCatalog::open(scratch.0.join("catalog.db")).await.map_err(|e| Failure::failed(e.to_string()))?;
        let clock = Arc::new(EventClock::default());
        let state = Arc::new(Mutex::new(SignalState::new(SignalLimits::default())));
        let (told, counted) = (clock.clone(), AtomicU64::new(0));
        let options = WatchOptions {
            interval: Bucket::WIDTH,
            infer_deploys: false,
            tolerances: TolerancePolicy::default(),
            audience: Arc::new(|_| Vec::new()),
            ui_base: String::new(),
            judged_per_tick: usize::MAX,
        };
        let watcher = Watcher::start(
            options,
            Arc::new(catalog),
            state.clone(),
            Arc::new(move || told.now()),
            // Ids follow from the order of the deploys alone. Relaxed: one thread asks.
            Arc::new(move || u128::from(counted.fetch_add(1, Ordering::Relaxed))),
        );
        let watcher = watcher.await.map_err(|error| Failure::failed(error.to_string()))?;
        Ok(Self { clock, state, watcher, judged: Vec::new(), next_look: None })
    }

    /// Lets time pass until `to`: deploys start, and every 10 s of it the open ones are judged.
    async fn advance(&mut self, to: UnixNanos, deploys: &mut Deploys) -> Result<(), Failure> {
        let mut look = self.next_look.unwrap_or_else(|| to.bucket());
        while look.start() <= to {
            self.begin(look.start(), deploys).await?;
            if self.watcher.counters().open == 0 {
                // Nothing is being judged: the next deploy, or the present, is the next moment of interest.
                let next = deploys.peek().map_or(to, |(at, _)| (*at).min(to));
                look = Bucket(look.0.max(next.bucket().0) + 1);
                continue;
            }
            self.look(look.start()).await?;
            look = Bucket(look.0 + 1);
        }
        self.next_look = Some(look);
        self.clock.advance(to);
        Ok(())
    }

    /// Registers the deploys that have started by `now`.
    async fn begin(&mut self, now: UnixNanos, deploys: &mut Deploys) -> Result<(), Failure> {
        while let Some((at, marker)) = deploys.next_if(|(at, _)| *at <= now) {
            self.clock.advance(at);
            let (deploy, _) =
                self.watcher.register(marker, None).await.map_err(|error| Failure::failed(error.to_string()))?;
            self.judged.push(Judged { id: deploy.id, first_regressed_at: None });
        }
        Ok(())
    }

    async fn look(&mut self, now: UnixNanos) -> Result<(), Failure> {
        self.clock.advance(now);
        self.watcher.tick().await;
        // What live traffic would write to segments is not needed here.
        drop(self.state.lock().take_rows());
        for judged in self.judged.iter_mut().filter(|judged| judged.first_regressed_at.is_none()) {
            let verdict = self.watcher.verdict(&judged.id).await.map_err(|error| Failure::failed(error.to_string()))?;
            if verdict.is_some_and(|verdict| verdict.verdict == VerdictKind::Regressed) {
                judged.first_regressed_at = Some(now);
            }
        }
        Ok(())
    }

    fn fold(&self, rows: &Rows) -> Result<(), Failure> {
        self.state.lock().fold(rows.table, &rows.batch).map_err(|error| Failure::failed(error.to_string()))
    }

    /// Judges once more when all telemetry is in and every trace is whole.
    async fn finish(&mut self, deploys: &mut Deploys) -> Result<(), Failure> {
        self.state.lock().close_traces();
        self.begin(UnixNanos::MAX, deploys).await?;
        let last = Bucket(self.clock.now().bucket().0 + 1);
        self.look(last.start()).await
    }

    async fn print(&self, format: BacktestOutput) -> Result<(), Failure> {
        let mut all = Vec::new();
        for judged in &self.judged {
            let verdict = self.watcher.verdict(&judged.id).await.map_err(|error| Failure::failed(error.to_string()))?;
            let Some(verdict) = verdict else { continue };
            if format == BacktestOutput::Table {
                output::line(&format!("\n{}", judged.id));
                show_verdict(&verdict);
                if let Some(at) = judged.first_regressed_at {
                    let after = at.since(verdict.started_at).as_secs();
                    output::line(&format!("  first regressed  {at}, {after} s after the start"));
                }
                continue;
            }
            let mut row = serde_json::to_value(&verdict).map_err(|error| Failure::failed(error.to_string()))?;
            row["first_regressed_at"] = json!(judged.first_regressed_at);
            all.push(row);
        }
        match format {
            BacktestOutput::Table => {}
            BacktestOutput::Json => output::json(&Value::Array(all)),
            BacktestOutput::Jsonl => all.iter().for_each(|row| output::line(&row.to_string())),
        }
        Ok(())
    }
}

/// A directory for the catalog, removed at the end: a backtest keeps nothing.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("plimsoll-backtest-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| Failure::failed(format!("`{}`: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
