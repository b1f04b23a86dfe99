//! `plimsoll backtest`: what would Plimsoll have said?
//!
//! Recorded telemetry and past deploys go through the decoder, the fold and the watcher that serve live traffic, with event time as the
//! clock: nothing waits, nothing listens, and the same input gives the same bytes.
//!
//! | file | owns |
//! |---|---|
//! | `asked` | the same of a running server, from what it holds |
//! | `deploys` | past deploys as they are written down |
//! | `recording`, `feed` | recorded telemetry, merged by time and read ahead |
//! | `timeline`, `clock` | the engine with event time as its clock |
//! | `report` | what is printed |

mod asked;
mod clock;
mod deploys;
mod feed;
mod recording;
mod report;
mod timeline;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use plimsoll_model::UnixNanos;
use plimsoll_signals::SignalLimits;
use plimsoll_verdict::TolerancePolicy;

use crate::cli::output;
use crate::cli::{ClientArgs, Failure, Outcome};
use crate::config::{Config, Overrides};
pub(crate) use deploys::{Past, from_json};
use feed::Feed;
pub use report::BacktestOutput;
pub(crate) use timeline::{Judged, Timeline, kept_for};

/// Arguments of `plimsoll backtest`.
#[derive(Debug, Clone, Args)]
pub struct BacktestArgs {
    /// Recorded telemetry, OTLP as JSON lines; plain, `.gz` or `.zst`; of a directory all `.jsonl` and `.json` files
    #[arg(long, conflicts_with = "from_store", num_args = 1.., value_name = "PATH")]
    pub otlp: Vec<PathBuf>,
    /// Judge from what a running server holds, instead of from a recording
    #[arg(long)]
    pub from_store: bool,
    /// With `--from-store`: deploys that started since, a duration such as `7d` or a time in RFC 3339 [default: 7d]
    #[arg(long, value_name = "TIME", conflicts_with = "otlp")]
    pub since: Option<String>,
    /// With `--from-store`: deploys of this service only
    #[arg(long, conflicts_with = "otlp")]
    pub service: Option<String>,
    /// With `--from-store`: deploys in this environment only
    #[arg(long, conflicts_with = "otlp")]
    pub environment: Option<String>,
    /// Past deploys as JSON lines, in the form that `POST /api/v1/deploys` takes, with `started_at`, or in the form that
    /// `GET /api/v1/deploys` lists them; with `--from-store` those that the server knows, where absent
    #[arg(long, value_name = "FILE")]
    pub deploys: Option<PathBuf>,
    /// Stop there: what came later is not looked at; a time in RFC 3339 [default: when the recording ends]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<UnixNanos>,
    /// Configuration file (YAML) with the tolerances and attributes to judge by; not with `--from-store`, where the server's count
    #[arg(long, value_name = "FILE", conflicts_with = "from_store")]
    pub config: Option<PathBuf>,
    /// How to print the verdicts
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: BacktestOutput,
    #[command(flatten)]
    client: ClientArgs,
}

fn moment(text: &str) -> Result<UnixNanos, String> {
    UnixNanos::parse_rfc3339(text).ok_or_else(|| "write it as RFC 3339, for instance `2026-01-31T12:00:00Z`".to_owned())
}

/// Runs it.
///
/// # Errors
/// A file cannot be read, a deploy makes no sense, or there is no telemetry at all.
pub async fn run(args: BacktestArgs) -> Outcome {
    if args.from_store {
        return asked::run(args).await;
    }
    const EITHER: &str = "give `--otlp PATH.. --deploys FILE` to judge from a recording, or `--from-store` to judge from what a \
                          running server holds";
    let Some(file) = args.deploys.filter(|_| !args.otlp.is_empty()) else { return Err(Failure::usage(EITHER)) };
    let (tolerances, limits) = settings(args.config.as_deref())?;
    let deploys = deploys::read(&file).map_err(Failure::failed)?;
    let feed = Feed::open(&args.otlp).map_err(Failure::failed)?;
    let mut timeline = Timeline::start(deploys, tolerances, limits).await.map_err(Failure::failed)?;
    while let Some(rows) = feed.next() {
        if args.until.is_some_and(|until| rows.at > until) {
            break;
        }
        timeline.advance(rows.at).await.map_err(Failure::failed)?;
        timeline.fold(rows.table, &rows.batch).map_err(Failure::failed)?;
    }
    let recordings = feed.finish().map_err(Failure::failed)?;
    // Said first: they may be all there is to say.
    for problem in recordings.problems() {
        output::warn(&format!("left out: {problem}"));
    }
    if recordings.rows() == 0 {
        return Err(Failure::failed("the recordings hold no spans, no logs and no metrics: nothing can be said"));
    }
    let judged = timeline.finish(args.until).await.map_err(Failure::failed)?;
    report::print(&report::rows(&judged), args.output)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads what to judge by.
fn settings(file: Option<&std::path::Path>) -> Result<(TolerancePolicy, SignalLimits), Failure> {
    let Some(file) = file else { return Ok((TolerancePolicy::default(), SignalLimits::default())) };
    let config = Config::load(Some(file), &Overrides::default(), &|name| std::env::var(name).ok())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let defaults = SignalLimits::default();
    let limits = SignalLimits {
        actions: config.watch.actions,
        drill_attributes: defaults.drill_attributes.iter().chain(&config.watch.attributes).cloned().collect(),
        ..defaults
    };
    Ok((config.watch.tolerances, limits))
}
