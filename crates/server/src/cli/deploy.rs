//! `plimsoll deploy`: tells the server that a deploy starts.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::Api;
use super::output::{self, Tone};
use super::verdict::Format;
use super::{ClientArgs, Outcome};

#[derive(Debug, Args)]
pub(super) struct DeployArgs {
    /// Name of the service, as in its `service.name`
    #[arg(long)]
    service: String,
    /// Environment, as in `deployment.environment.name`
    #[arg(long)]
    environment: String,
    /// The version that is rolled out, as in `service.version`
    #[arg(long)]
    version: String,
    /// Sort of change
    #[arg(long, default_value = "release", value_parser = ["release", "rollback", "config", "flag", "infra"])]
    kind: String,
    /// Namespace, as in `service.namespace`
    #[arg(long)]
    namespace: Option<String>,
    /// The version that it replaces
    #[arg(long)]
    previous_version: Option<String>,
    /// Commit that was built
    #[arg(long)]
    commit: Option<String>,
    /// Repository of the commit
    #[arg(long)]
    repository: Option<String>,
    /// Address of the pipeline run
    #[arg(long)]
    run_url: Option<String>,
    /// Who or what started it
    #[arg(long)]
    actor: Option<String>,
    /// Rollout strategy, for instance `canary`
    #[arg(long)]
    strategy: Option<String>,
    /// Identity of what runs, for instance an image digest
    #[arg(long)]
    artifact: Option<String>,
    /// When it started, RFC 3339 [default: now]
    #[arg(long)]
    started_at: Option<String>,
    /// Anything else worth keeping, as `key=value`; may be repeated
    #[arg(long = "attribute", value_parser = key_value)]
    attributes: Vec<(String, String)>,
    /// Makes a repeated call return the first deploy instead of recording a second
    #[arg(long)]
    idempotency_key: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    client: ClientArgs,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "write it as `key=value`".to_owned())
}

pub(super) async fn run(args: DeployArgs) -> Outcome {
    let api = Api::new(&args.client)?;
    let mut body = json!({
        "service": args.service, "environment": args.environment, "version": args.version, "kind": args.kind,
        "attributes": args.attributes.into_iter().map(|(k, v)| (k, Value::String(v))).collect::<Map<_, _>>(),
    });
    let optional = [
        ("namespace", args.namespace),
        ("previous_version", args.previous_version),
        ("commit", args.commit),
        ("repository", args.repository),
        ("run_url", args.run_url),
        ("actor", args.actor),
        ("strategy", args.strategy),
        ("artifact", args.artifact),
        ("started_at", args.started_at),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = Value::String(value);
        }
    }
    let mut request = api.request(Method::POST, "/deploys").json(&body);
    if let Some(key) = args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let response = api.send(request).await?;
    let known = response.status() == reqwest::StatusCode::OK;
    let deploy: Value = response.json().await.map_err(|error| api.no_answer(&error))?;
    if args.output == Format::Table {
        let id = output::cell(&deploy["id"]);
        output::line(&id);
        let note = if known { "recorded before" } else { "recorded" };
        output::hint(&output::paint(
            Tone::Faint,
            &format!("{note}; `plimsoll verdict {id} --wait 10m` gives the verdict"),
        ));
    } else {
        output::json(&deploy);
    }
    Ok(ExitCode::SUCCESS)
}
