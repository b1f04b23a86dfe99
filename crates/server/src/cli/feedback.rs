//! `plimsoll feedback` and `plimsoll precision`: whether verdicts were right, and how often they are.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use plimsoll_model::UnixNanos;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, whoever};
use super::output::{self, Tone};
use super::verdict::{Format, path_segment};
use super::{ClientArgs, Failure, Outcome};
use crate::config::parse_duration;

#[derive(Debug, Args)]
pub(super) struct FeedbackArgs {
    /// The deploy's id, `dep_..`
    deploy: String,
    /// Whether its verdict was right
    #[arg(value_enum)]
    answer: Said,
    /// Until when `wrong` and `known` keep its findings silent on later deploys of the service: a duration such as `14d`, or
    /// a time in RFC 3339 [default: 30 days]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Whose answer it is [default: `$USER`]
    #[arg(long)]
    actor: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Said {
    /// It was
    Right,
    /// It was not: what it found was no regression
    Wrong,
    /// It was, and everybody knew
    Known,
}

#[derive(Debug, Args)]
pub(super) struct PrecisionArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: FeedbackArgs) -> Outcome {
    let actor = whoever(args.actor)?;
    let api = Api::new(&args.client)?;
    let deploy = path_segment(&args.deploy)?;
    let answer = match args.answer {
        Said::Right => "right",
        Said::Wrong => "wrong",
        Said::Known => "known",
    };
    let mut body = json!({ "answer": answer, "actor": actor, "reason": args.reason.unwrap_or_default() });
    if let Some(until) = &args.until {
        body["until"] = match (UnixNanos::parse_rfc3339(until), parse_duration(until)) {
            (Some(at), _) => json!(at),
            // The server's clock counts, not this machine's.
            (None, Some(after)) => json!(format!("{}s", after.as_secs())),
            (None, None) => {
                return Err(Failure::usage(format!(
                    "`--until {until}` is neither a duration such as `14d` nor a time such as `2026-01-31T12:00:00Z`"
                )));
            }
        };
    }
    let kept = api.json(api.request(Method::POST, &format!("/deploys/{deploy}/feedback")).json(&body)).await?;
    match args.output {
        Format::Json => output::json(&kept),
        Format::Table => {
            output::line(&format!("{} called {answer} by {actor}", args.deploy));
            for silent in kept["suppressed"].as_array().into_iter().flatten() {
                let operation = output::cell(&silent["operation"]);
                let operation = if operation.is_empty() { String::new() } else { format!(" of `{operation}`") };
                let until = output::cell(&kept["expires_at"]);
                output::line(&format!("  {}{operation} is silent until {until}", output::cell(&silent["signal"])));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn precision(args: PrecisionArgs) -> Outcome {
    let api = Api::new(&args.client)?;
    let counted: Value = api.json(api.request(Method::GET, "/precision")).await?;
    if args.output == Format::Json {
        output::json(&counted);
        return Ok(ExitCode::SUCCESS);
    }
    match counted["precision"].as_f64() {
        None => output::line(
            "nobody has said yet whether a verdict was right: `plimsoll feedback DEPLOY right|wrong|known`",
        ),
        Some(precision) => {
            let tone = if precision >= 0.97 { Tone::Good } else { Tone::Open };
            let share = output::paint(tone, &format!("{:.1} %", precision * 100.0));
            output::line(&format!(
                "{share} of the deploys called regressed were: {} right, {} known, {} wrong",
                counted["right"], counted["known"], counted["wrong"]
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
