//! `watching`: its options, and where its result goes.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use plimsoll_loadtest::{Error, Format, Printable, Watching};

use super::duration;

/// Options of `watching`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The `plimsoll` program.
    #[arg(long, env = "PLIMSOLL_BIN", default_value = "target/release/plimsoll")]
    server: PathBuf,
    /// Where the data directory is made.
    #[arg(long, default_value = ".")]
    work_dir: PathBuf,
    /// Services, each of which is deployed once.
    #[arg(long, default_value_t = 50)]
    services: usize,
    /// Operations of each service.
    #[arg(long, default_value_t = 200)]
    operations: usize,
    /// Spans a second, of all services together.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// How far back the history reaches that is sent first; an hour at most, for older spans count as late.
    #[arg(long, default_value = "59m", value_parser = duration)]
    history: Duration,
    /// How long the present is sent before the deploys.
    #[arg(long, default_value = "90s", value_parser = duration)]
    settle: Duration,
    /// How long deploys are watched.
    #[arg(long, default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// Time between two looks; by default the server's own.
    #[arg(long, value_parser = duration)]
    interval: Option<Duration>,
    /// The processor that the server is pinned to; by default it is not.
    #[arg(long)]
    server_cpu: Option<usize>,
    /// More arguments of `plimsoll serve`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Arguments {
    pub(super) async fn run(self, format: Format) -> Result<(String, bool), Error> {
        let watching = Watching {
            binary: self.server,
            work_dir: self.work_dir,
            services: self.services,
            operations: self.operations,
            rate: self.rate,
            history: self.history,
            settle: self.settle,
            duration: self.duration,
            interval: self.interval,
            server_cpu: self.server_cpu,
            arguments: self.arguments,
        };
        let began = std::time::Instant::now();
        let progress = |what: &str| {
            // A reader that went away is no failure of the run.
            let _ = writeln!(std::io::stderr(), "{:>5.0} s  {what}", began.elapsed().as_secs_f64());
        };
        let watched = watching.run(progress).await?;
        Ok((watched.print(format), watched.is_right()))
    }
}
