//! `questions`: its options, and what is asked for by them.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use plimsoll_loadtest::{Asking, Dataset, Error, Format, Printable};

use super::duration;

/// Options of `questions`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The `plimsoll` program.
    #[arg(long, env = "PLIMSOLL_BIN", default_value = "target/release/plimsoll")]
    server: PathBuf,
    /// Data directory: loaded where it is new, and kept for the next time.
    #[arg(long)]
    data_dir: PathBuf,
    /// Spans to load.
    #[arg(long, default_value_t = 10_000_000)]
    spans: u64,
    /// Log records to load.
    #[arg(long, default_value_t = 10_000_000)]
    logs: u64,
    /// Over how long they happened.
    #[arg(long, default_value = "4h", value_parser = duration)]
    span_of_time: Duration,
    /// How often each question is asked.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Threads of the other engines.
    #[arg(long, default_value_t = 2)]
    engine_threads: usize,
    /// Only questions whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// A Python with DuckDB (`loadtest/peers/duckdb.sh` prints one), to ask it too.
    #[arg(long)]
    duckdb: Option<PathBuf>,
    /// A Python with chdb (`loadtest/peers/clickhouse.sh` prints one), to ask it too.
    #[arg(long)]
    clickhouse: Option<PathBuf>,
    /// The program `mira` (`loadtest/peers/mira.sh` prints its path), to load and ask it too.
    #[arg(long)]
    mira: Option<PathBuf>,
    /// The script that asks them.
    #[arg(long, default_value = "loadtest/peers/questions.py")]
    script: PathBuf,
    /// More arguments of `plimsoll serve`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Arguments {
    /// Asks, and prints the answers' times.
    pub(super) async fn run(self, format: Format) -> Result<(String, bool), Error> {
        let progress = |step: &str| {
            let _ = writeln!(std::io::stderr(), "{step}");
        };
        Ok((self.asking()?.run(progress).await?.print(format), true))
    }

    fn asking(self) -> Result<Asking, Error> {
        let thousand = |records: u64| records.div_ceil(1_000) * 1_000;
        if self.spans == 0 || self.logs == 0 || self.rounds == 0 || self.span_of_time < Duration::from_secs(3_600) {
            return Err(Error::Usage(
                "`--spans`, `--logs` and `--rounds` are at least 1, `--span-of-time` at least 1h".into(),
            ));
        }
        let now = jiff::Timestamp::now().as_nanosecond();
        let dataset = Dataset {
            spans: thousand(self.spans),
            logs: thousand(self.logs),
            seconds: self.span_of_time.as_secs(),
            ends_at: u64::try_from(now).unwrap_or_default(),
            seed: 1,
        };
        Ok(Asking {
            binary: self.server,
            data_dir: self.data_dir,
            dataset,
            rounds: self.rounds,
            threads: self.engine_threads,
            only: self.only,
            duckdb: self.duckdb,
            clickhouse: self.clickhouse,
            mira: self.mira,
            script: self.script,
            arguments: self.arguments,
        })
    }
}
