//! The command line: what each subcommand takes, and how its result becomes output and an exit code.

mod measure;
mod mesh;
mod questions;
mod watching;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use plimsoll_loadtest::{
    Addresses, Compression, Endpoint, Error, Format, Load, Mix, Pace, Printable, Protocol, Recording, Replay,
    ReplayTarget, ServerOptions, Shape, Shift, Speed, Sql, Torture, Until,
};

/// Drives an OTLP receiver and checks what it stored.
#[derive(Parser)]
#[command(name = "plimsoll-loadtest", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    output: Format,
    /// Threads of the generator; one is enough to saturate one core of a server.
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
}

#[derive(Subcommand)]
enum Command {
    /// Sends made-up telemetry as fast as it is taken, or at a rate.
    Generate(Generate),
    /// Sends a recording of OTLP/JSON lines again.
    Replay(ReplayArgs),
    /// Kills a server under load, again and again, and looks for what it had acked.
    Kill(Kill),
    /// Starts this and other receivers one after another and prints the tables of the performance page.
    Measure(measure::Arguments),
    /// Runs a mesh of services through deploys, good and bad, and scores what a server says of each.
    Mesh(mesh::Arguments),
    /// Loads a server steadily for long and says whether its memory and files stay where they are.
    Soak(measure::SoakArguments),
    /// Loads a few hours of telemetry and asks ten questions of it, of Plimsoll and of other engines.
    Questions(questions::Arguments),
    /// Deploys many services at once and says what watching them takes of a running server.
    Watching(watching::Arguments),
}

#[derive(Args)]
struct Receiver {
    /// How requests travel.
    #[arg(long, value_enum, default_value = "grpc")]
    protocol: Protocol,
    /// The receiver; by default port 4317 of this machine for gRPC, 4318 for HTTP.
    #[arg(long)]
    endpoint: Option<SocketAddr>,
    /// How bodies are compressed.
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// A request without an answer after this long has failed.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

impl Receiver {
    fn endpoint(&self) -> Endpoint {
        let port = if self.protocol == Protocol::Grpc { 4317 } else { 4318 };
        Endpoint {
            address: self.endpoint.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port))),
            protocol: self.protocol,
            compression: self.compression,
            timeout: self.timeout,
        }
    }
}

#[derive(Args)]
struct Generate {
    #[command(flatten)]
    receiver: Receiver,
    /// What is sent.
    #[arg(long, value_enum, default_value = "traces")]
    signal: Mix,
    /// Records in a request.
    #[arg(long, default_value_t = 1000)]
    batch: usize,
    /// Records of about 137 bytes instead of 440 (spans), 360 (logs) and 200 (points).
    #[arg(long)]
    small: bool,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// Records a second, whatever the answers; without it, as fast as answers come.
    #[arg(long)]
    rate: Option<f64>,
    /// How long.
    #[arg(long, default_value = "10s", value_parser = duration, conflicts_with = "requests")]
    duration: Duration,
    /// How many requests, instead of how long.
    #[arg(long)]
    requests: Option<u64>,
    /// How long ago records say that they happened.
    #[arg(long, default_value = "0s", value_parser = duration)]
    age: Duration,
    /// Wait as long as a refusal asks for before sending on.
    #[arg(long)]
    respect_retry: bool,
    /// Count in SQL what was stored, at this API.
    #[arg(long, value_name = "URL")]
    verify: Option<String>,
    /// Measure how soon records are visible; needs `--verify`.
    #[arg(long, requires = "verify")]
    freshness: bool,
    /// The server's process, to report what it uses.
    #[arg(long)]
    server_pid: Option<u32>,
    /// `service.namespace` of what is sent; by default a new name each run.
    #[arg(long)]
    run: Option<String>,
}

#[derive(Args)]
struct ReplayArgs {
    /// Files or directories of OTLP/JSON lines (`.jsonl`, also `.gz` and `.zst`).
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    receiver: Receiver,
    /// How times are moved: `now` (the recording begins now), `none`, or a duration to add such as `26h` or `-90m`.
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    shift: Shift,
    /// How many times as fast as recorded, or `max`.
    #[arg(long, default_value = "1")]
    speed: Speed,
    /// Joins neighbouring requests of a signal until they hold so many records, as a Collector's batch processor does; by default
    /// they are sent as recorded.
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// Requests on the way at once; one keeps strict order.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Requests refused for now are sent again for this long.
    #[arg(long, default_value = "60s", value_parser = duration)]
    retry_for: Duration,
}

#[derive(Args)]
struct Kill {
    /// The `plimsoll` program.
    #[arg(long, env = "PLIMSOLL_BIN", default_value = "target/release/plimsoll")]
    server: PathBuf,
    /// Data directory; made where there is none.
    #[arg(long)]
    data_dir: PathBuf,
    /// How often.
    #[arg(long, env = "PLIMSOLL_KILLS", default_value_t = 50)]
    kills: u32,
    /// Records in a request.
    #[arg(long, default_value_t = 50)]
    batch: usize,
    /// Writers for each of gRPC and HTTP, plain and compressed.
    #[arg(long, default_value_t = 2)]
    writers: usize,
    /// The longest time under load before a kill.
    #[arg(long, default_value = "1500ms", value_parser = duration)]
    load_max: Duration,
    /// Send again after each restart what has no ack, and some of what has one: nothing may be there twice.
    #[arg(long)]
    repeat: bool,
    /// What all that is random comes from.
    #[arg(long)]
    seed: Option<u64>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("`{text}` is not a duration such as `10s` or `2m`"))?;
    span.try_into().map_err(|_| format!("`{text}` is negative"))
}

/// Runs the program. Exit code 1 says that it could not be done, 3 that what was found is not what it should be.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cli.threads.max(1)).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(problem) => return failed(&format!("no threads: {problem}")),
    };
    match runtime.block_on(until_stopped(cli.command, cli.output)) {
        Ok((text, right)) => {
            // A reader that went away is no failure of the run.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::from(if right { 0 } else { 3 })
        }
        Err(problem) => failed(&problem.to_string()),
    }
}

fn failed(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::FAILURE
}

/// Runs the command; told to stop, it lets go of everything, servers that it started included.
async fn until_stopped(command: Command, format: Format) -> Result<(String, bool), Error> {
    let handler = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let mut terminate = handler.map_err(|problem| Error::Usage(format!("no handler for SIGTERM: {problem}")))?;
    tokio::select! {
        done = run(command, format) => done,
        _ = tokio::signal::ctrl_c() => Err(Error::Usage("stopped by SIGINT".into())),
        _ = terminate.recv() => Err(Error::Usage("stopped by SIGTERM".into())),
    }
}

async fn run(command: Command, format: Format) -> Result<(String, bool), Error> {
    match command {
        Command::Generate(options) => {
            let report = options.load()?.run().await?;
            Ok((report.print(format), report.verified.unwrap_or(true)))
        }
        Command::Replay(options) => {
            let target = ReplayTarget {
                endpoint: options.receiver.endpoint(),
                in_flight: options.in_flight,
                retry_for: options.retry_for,
            };
            let recording = Recording::open(&options.paths)?;
            let ReplayArgs { shift, speed, batch, .. } = options;
            let replay = Replay { recording, target, shift, speed, batch };
            Ok((replay.run().await?.print(format), true))
        }
        Command::Kill(options) => {
            let report = options.torture()?.run().await?;
            Ok((report.print(format), report.is_clean()))
        }
        Command::Measure(options) => options.run(format).await,
        Command::Mesh(options) => options.run(format).await,
        Command::Soak(options) => options.run(format).await,
        Command::Questions(options) => options.run(format).await,
        Command::Watching(options) => options.run(format).await,
    }
}

impl Generate {
    fn load(self) -> Result<Load, Error> {
        if self.receiver.protocol == Protocol::HttpJson {
            return Err(Error::Usage("`generate` sends protobuf: use `--protocol grpc` or `http`".into()));
        }
        if self.batch == 0 || self.batch > 65_536 || self.connections == 0 || self.in_flight == 0 {
            return Err(Error::Usage(
                "`--batch` is 1 to 65536, `--connections` and `--in-flight` are at least 1".into(),
            ));
        }
        let run = self.run.unwrap_or_else(|| format!("loadtest-{:08x}", rand::random::<u32>()));
        Ok(Load {
            endpoint: self.receiver.endpoint(),
            mix: self.signal,
            shape: Shape { run, instance: "generator".into(), small: self.small, trace_len: 8 },
            batch: self.batch,
            connections: self.connections,
            in_flight: self.in_flight,
            pace: self.rate.map_or(Pace::Closed, Pace::RecordsPerSecond),
            until: self.requests.map_or(Until::Elapsed(self.duration), Until::Requests),
            age: self.age,
            respect_retry: self.respect_retry,
            server_pid: self.server_pid,
            sql: self.verify.map(Sql::new),
            probe_freshness: self.freshness,
        })
    }
}

impl Kill {
    fn torture(self) -> Result<Torture, Error> {
        Ok(Torture {
            server: ServerOptions {
                binary: self.server,
                data_dir: self.data_dir,
                addresses: Addresses::free()?,
                cpu: None,
                arguments: Vec::new(),
            },
            kills: self.kills,
            batch: self.batch,
            writers: self.writers,
            load_max: self.load_max,
            repeat: self.repeat,
            seed: self.seed.unwrap_or_else(rand::random),
            ready_within: Duration::from_secs(60),
        })
    }
}
