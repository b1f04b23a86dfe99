//! `mesh`: its options, and where its results go.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use plimsoll_loadtest::{Error, Format, Mesh, Printable, Time};

use super::duration;

/// Options of `mesh`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The `plimsoll` program.
    #[arg(long, env = "PLIMSOLL_BIN", default_value = "target/release/plimsoll")]
    server: PathBuf,
    /// Where data directories are made.
    #[arg(long, default_value = ".")]
    work_dir: PathBuf,
    /// Whether deploys happen as one watches or lie in the past already, which takes a tenth of the time.
    #[arg(long, value_enum, default_value = "live")]
    time: Time,
    /// How long after the start of the scenarios verdicts are read.
    #[arg(long, default_value = "12m", value_parser = duration)]
    phase: Duration,
    /// Time to send the history in before the scenarios start.
    #[arg(long, default_value = "90s", value_parser = duration)]
    settle: Duration,
    /// Only scenarios whose name holds one of these.
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// Only the scenarios of the short form.
    #[arg(long)]
    short: bool,
    /// What the first run draws everything random from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Keeps the data directories.
    #[arg(long)]
    keep: bool,
    /// Lists the scenarios and runs none.
    #[arg(long)]
    list: bool,
    /// Writes everything as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the tables as Markdown here.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// More arguments of `plimsoll serve`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Arguments {
    pub(super) async fn run(self, format: Format) -> Result<(String, bool), Error> {
        let mesh = Mesh {
            binary: self.server,
            work_dir: self.work_dir,
            time: self.time,
            phase: self.phase,
            settle: self.settle,
            only: self.only,
            short: self.short,
            seeds: (self.seed..self.seed.saturating_add(self.seeds.max(1))).collect(),
            keep: self.keep,
            arguments: self.arguments,
        };
        if self.list {
            return Ok((mesh.names().join("\n"), true));
        }
        let began = std::time::Instant::now();
        let report = mesh
            .run(|what| {
                // A reader that went away is no failure of the run.
                let _ = writeln!(std::io::stderr(), "{:>5.0} s  {what}", began.elapsed().as_secs_f64());
            })
            .await?;
        for (path, text) in [(&self.json, report.print(Format::Json)), (&self.markdown, report.markdown())] {
            if let Some(path) = path {
                std::fs::write(path, text).map_err(|source| Error::File { path: path.clone(), source })?;
            }
        }
        Ok((report.print(format), report.is_right()))
    }
}
