//! `plimsoll backtest --from-store`: asks a running server what it would say of past deploys, from what it holds.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::{BacktestArgs, report};
use crate::cli::client::Api;
use crate::cli::output;
use crate::cli::{Failure, Outcome};

pub(super) async fn run(args: BacktestArgs) -> Outcome {
    let api = Api::new(&args.client)?;
    let mut body = json!({ "since": args.since.as_deref().unwrap_or("7d") });
    for (name, value) in [("service", &args.service), ("environment", &args.environment)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if let Some(until) = args.until {
        body["until"] = json!(until);
    }
    if let Some(file) = &args.deploys {
        // Read here for the sake of its complaints, which name lines; sent as it is written.
        super::deploys::read(file).map_err(Failure::failed)?;
        let text = std::fs::read_to_string(file).map_err(|error| Failure::failed(error.to_string()))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str);
        let deploys: Vec<Value> =
            lines.collect::<Result<_, _>>().map_err(|error| Failure::failed(error.to_string()))?;
        body["deploys"] = Value::Array(deploys);
    }
    let answer = api.json(api.request(Method::POST, "/backtest").json(&body)).await?;
    for note in answer["notes"].as_array().into_iter().flatten() {
        output::warn(&output::cell(note));
    }
    let judged = answer["verdicts"].as_array().cloned().unwrap_or_default();
    if judged.is_empty() {
        return Err(Failure::failed("the server knows of no deploy in that time: nothing can be said"));
    }
    report::print(&judged, args.output)?;
    Ok(ExitCode::SUCCESS)
}
