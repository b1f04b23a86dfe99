//! `plimsoll verdict`: prints the verdict on a deploy and turns it into an exit code; shows, explains and replays it.
//!
//! | file | owns |
//! |---|---|
//! | `wait` | the gate of a pipeline: waits, prints, answers by its exit code |
//! | `page` | a verdict for people |
//! | `sparkline` | numbers over time in one line |
//! | `replay` | the verdict computed again from stored rows |

mod page;
mod replay;
mod sparkline;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::Value;

use super::client::Api;
use super::output;
use super::{ClientArgs, Failure, Outcome};
use crate::config::parse_duration;
use crate::explain::Explained;
pub(crate) use page::summary as show;

/// What `plimsoll verdict` takes: a deploy, or something to do with its verdict.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct VerdictArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// The deploy's id, `dep_..`
    #[arg(required = true)]
    deploy: Option<String>,
    /// How long to wait for a decision, for instance `10m` [default: do not wait]
    #[arg(long, value_parser = duration)]
    wait: Option<Duration>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the verdict with its findings, each over time; exits 0 whatever it says
    Show(ShowArgs),
    /// Say why the verdict is what it is: comparison, evidence, split, traces and the query of each finding
    Explain(ExplainArgs),
    /// Compute the verdict again from stored rows; exits 0 if it comes out the same, byte for byte, and 1 if not
    Replay(ShowArgs),
}

/// One deploy.
#[derive(Debug, Args)]
struct ShowArgs {
    /// The deploy's id, `dep_..`
    deploy: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

/// One deploy, all of its findings or one.
#[derive(Debug, Args)]
struct ExplainArgs {
    /// The deploy's id, `dep_..`
    deploy: String,
    /// Only this finding: its id, `fnd_..`, or its number as `show` lists it
    finding: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

/// How one thing is printed. It has parts of parts, which lines of comma-separated values cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write it as `30s`, `10m` or `1h`".to_owned())
}

pub(super) async fn run(args: VerdictArgs) -> Outcome {
    match args.action {
        Some(Action::Show(args)) => {
            let explained = ask(&args.client, &args.deploy).await?;
            match args.output {
                Format::Table => page::whole(&parse(explained)?),
                Format::Json => output::json(&explained),
            }
        }
        Some(Action::Explain(args)) => explain(args).await?,
        Some(Action::Replay(args)) => return replay::run(&args).await,
        None => {
            let deploy = args.deploy.ok_or_else(|| Failure::usage("name a deploy, `dep_..`"))?;
            return wait::run(&args.client, &deploy, args.wait, args.output).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(args: ExplainArgs) -> Result<(), Failure> {
    let mut explained = ask(&args.client, &args.deploy).await?;
    let parsed = parse(explained.clone())?;
    let wanted = match &args.finding {
        None => None,
        Some(name) => {
            let by_number = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let at = by_number.or_else(|| parsed.findings.iter().position(|finding| finding.id.as_str() == name));
            let at = at.filter(|at| *at < parsed.findings.len()).ok_or_else(|| {
                Failure::usage(format!(
                    "`{}` has no finding `{name}`: it has {}, `plimsoll verdict show {}` lists them",
                    args.deploy,
                    parsed.findings.len(),
                    args.deploy
                ))
            })?;
            Some(at)
        }
    };
    match (args.output, wanted) {
        (Format::Table, wanted) => page::explained(&parsed, wanted),
        (Format::Json, None) => output::json(&explained),
        (Format::Json, Some(at)) => {
            let mut finding = explained["verdict"]["findings"][at].take();
            finding["explained"] = explained["findings"][at].take();
            output::json(&finding);
        }
    }
    Ok(())
}

async fn ask(client: &ClientArgs, deploy: &str) -> Result<Value, Failure> {
    let api = Api::new(client)?;
    let deploy = path_segment(deploy)?;
    api.json(api.request(Method::GET, &format!("/deploys/{deploy}/explain"))).await.map_err(not_a_verdict)
}

/// 1 means regressed: a pipeline must not take a wrong id for that.
fn not_a_verdict(failure: Failure) -> Failure {
    if failure.code == ExitCode::from(1) { Failure::usage(failure.message) } else { failure }
}

/// Refuses what cannot be an id, before it becomes part of an address.
pub(super) fn path_segment(id: &str) -> Result<&str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.bytes().all(plain) {
        return Ok(id);
    }
    Err(Failure::usage(format!(
        "`{id}` is not the id of a deploy: they look like `dep_..`, and `plimsoll deploy` prints them; the latest are: plimsoll sql \"SELECT id, \
         service_name, version, started_at FROM deploys ORDER BY started_at DESC LIMIT 10\""
    )))
}

fn parse(explained: Value) -> Result<Explained, Failure> {
    serde_json::from_value(explained)
        .map_err(|error| Failure::failed(format!("the server's answer is not an explanation: {error}")))
}
