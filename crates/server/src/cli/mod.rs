//! The command line: arguments, dispatch and exit codes.
//!
//! Exit codes: 0 done (for `verdict`: pass), 1 failed (for `verdict`: regressed), 2 wrong usage, 3 inconclusive,
//! 4 timed out or unreachable.

mod check_config;
pub(crate) mod client;
mod deploy;
mod feedback;
mod outcome;
pub(crate) mod output;
mod serve;
mod sql;
mod verdict;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::Overrides;
pub(crate) use verdict::show as show_verdict;

/// Says, within about a minute of shipping, whether a deploy made production worse, and proves it.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: receive telemetry, answer SQL, judge deploys
    Serve(ServeArgs),
    /// Run a small shop, a good deploy and a bad one, and show the verdicts
    Demo(DemoArgs),
    /// Tell Plimsoll that a deploy starts
    Deploy(Box<deploy::DeployArgs>),
    /// Print the verdict on a deploy; exits 0 pass, 1 regressed, 3 inconclusive, 4 timed out or unreachable
    Verdict(verdict::VerdictArgs),
    /// Say how a deploy's pipeline ended
    Finish(outcome::FinishArgs),
    /// Record what was decided about a deploy, and why
    Decide(outcome::DecideArgs),
    /// Say whether a verdict was right; what was wrong or known stays silent on later deploys for a while
    Feedback(feedback::FeedbackArgs),
    /// Print how often deploys that were called regressed were, as far as anybody said so
    Precision(feedback::PrecisionArgs),
    /// Run a query
    Sql(sql::SqlArgs),
    /// Say what Plimsoll would have said about past deploys, from recorded telemetry
    Backtest(crate::backtest::BacktestArgs),
    /// Check a configuration file and name every problem in it
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Arguments of `plimsoll serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Configuration file (YAML) [env: PLIMSOLL_CONFIG]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Where everything durable lives [default: ./plimsoll-data]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Address of OTLP/gRPC [default: 127.0.0.1:4317]
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_grpc: Option<String>,
    /// Address of OTLP/HTTP [default: 127.0.0.1:4318]
    #[arg(long, value_name = "ADDRESS")]
    pub otlp_http: Option<String>,
    /// Address of REST, SQL, metrics and the web page [default: 127.0.0.1:4319]
    #[arg(long, value_name = "ADDRESS")]
    pub api: Option<String>,
    /// Address of the gRPC interfaces: `plimsoll.v1` and Arrow Flight SQL [default: 127.0.0.1:4320]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc_api: Option<String>,
    /// Address of the Postgres protocol, or `off` [default: 127.0.0.1:5433]
    #[arg(long, value_name = "ADDRESS")]
    pub postgres: Option<String>,
}

impl From<&ServeArgs> for Overrides {
    fn from(args: &ServeArgs) -> Self {
        Self {
            data_dir: args.data_dir.clone(),
            otlp_grpc: args.otlp_grpc.clone(),
            otlp_http: args.otlp_http.clone(),
            api: args.api.clone(),
            grpc_api: args.grpc_api.clone(),
            postgres: args.postgres.clone(),
        }
    }
}

/// Arguments of `plimsoll demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// End by itself: exit code 0 only if both verdicts were right
    #[arg(long)]
    pub exit: bool,
    /// Requests a second at the front door, 20 to 2000; below 200 the verdicts take longer in proportion
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Keep the data here instead of a temporary directory
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Let the system choose every port, to run beside another server
    #[arg(long)]
    pub any_port: bool,
}

/// Arguments that every client command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    // Variables are looked up when they are needed: the parser takes them for arguments that were given, and says so in its help.
    /// Address of the server's API [env: PLIMSOLL_API] [default: http://127.0.0.1:4319]
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// Bearer token [env: PLIMSOLL_TOKEN]
    #[arg(long)]
    token: Option<String>,
}

/// Looks up an environment variable; an empty one counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values
    Csv,
}

/// Parses the arguments, runs the command and turns its outcome into an exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => crate::demo::run(args),
        Command::Deploy(args) => client::block_on(deploy::run(*args)),
        Command::Verdict(args) => client::block_on(verdict::run(args)),
        Command::Finish(args) => client::block_on(outcome::finish(args)),
        Command::Decide(args) => client::block_on(outcome::decide(args)),
        Command::Feedback(args) => client::block_on(feedback::run(args)),
        Command::Precision(args) => client::block_on(feedback::precision(args)),
        Command::Sql(args) => client::block_on(sql::run(args)),
        Command::Backtest(args) => client::block_on(crate::backtest::run(args)),
        Command::CheckConfig { file } => check_config::run(&file),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "plimsoll", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|failure| {
        output::complain(&failure.message);
        failure.code
    })
}

/// Why a command failed, for a human, and the exit code that says so to a program.
#[derive(Debug)]
pub struct Failure {
    /// One or more lines.
    pub message: String,
    /// Exit code.
    pub code: ExitCode,
}

impl Failure {
    /// The command could not do what was asked.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: ExitCode::from(1) }
    }

    /// The command was called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: ExitCode::from(2) }
    }

    /// The server did not answer, or not in time.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: ExitCode::from(4) }
    }
}

/// How a command ends.
pub type Outcome = Result<ExitCode, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_parser_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_exits_with_two() {
        let error = Cli::try_parse_from(["plimsoll", "verdict"]).expect_err("the deploy is missing");
        assert_eq!(error.exit_code(), 2);
    }
}
