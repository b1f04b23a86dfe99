//! `plimsoll finish` and `plimsoll decide`: how a deploy's pipeline ended, and what was decided about it.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, whoever};
use super::output;
use super::verdict::{Format, path_segment};
use super::{ClientArgs, Outcome};

#[derive(Debug, Args)]
pub(super) struct FinishArgs {
    /// The deploy's id, `dep_..`
    deploy: String,
    /// How its pipeline ended
    #[arg(value_enum)]
    status: Ended,
    /// When it ended, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    finished_at: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ended {
    /// The candidate serves from now on
    Succeeded,
    /// It does not
    Failed,
}

#[derive(Debug, Args)]
pub(super) struct DecideArgs {
    /// The deploy's id, `dep_..`
    deploy: String,
    /// What was decided
    #[arg(value_enum)]
    decision: Decided,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Who decided [default: `$USER`]
    #[arg(long)]
    actor: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decided {
    /// The candidate takes over
    Promote,
    /// The rollout waits
    Hold,
    /// The previous version comes back
    Rollback,
    /// The flag is switched off
    Disable,
    /// The regression is known and accepted
    AcceptRisk,
}

impl Decided {
    fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
            Self::Disable => "disable",
            Self::AcceptRisk => "accept_risk",
        }
    }
}

/// Records how the pipeline ended.
pub(super) async fn finish(args: FinishArgs) -> Outcome {
    let api = Api::new(&args.client)?;
    let deploy = path_segment(&args.deploy)?;
    let status = match args.status {
        Ended::Succeeded => "succeeded",
        Ended::Failed => "failed",
    };
    let mut body = json!({ "status": status });
    if let Some(at) = args.finished_at {
        body["finished_at"] = Value::String(at);
    }
    let kept = api.json(api.request(Method::POST, &format!("/deploys/{deploy}/finish")).json(&body)).await?;
    match args.output {
        Format::Json => output::json(&kept),
        Format::Table => {
            output::line(&format!("{} {status} at {}", args.deploy, output::cell(&kept["finished_at"])));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Records a decision.
pub(super) async fn decide(args: DecideArgs) -> Outcome {
    let actor = whoever(args.actor)?;
    let api = Api::new(&args.client)?;
    let deploy = path_segment(&args.deploy)?;
    let decision = args.decision.name();
    let body = json!({ "decision": decision, "actor": actor, "reason": args.reason.unwrap_or_default() });
    let kept = api.json(api.request(Method::POST, &format!("/deploys/{deploy}/decisions")).json(&body)).await?;
    match args.output {
        Format::Json => output::json(&kept),
        Format::Table => output::line(&format!("{}: {decision}, decided by {actor}", args.deploy)),
    }
    Ok(ExitCode::SUCCESS)
}
