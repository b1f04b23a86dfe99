//! `plimsoll sql`: runs a query and prints its rows.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::client::Api;
use super::output;
use super::{ClientArgs, Failure, Outcome, Output};

/// How long to ask for the reason of an answer that broke off.
const ASKING_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// The query; `-` reads it from standard input
    query: String,
    /// Value of `$1`, `$2`, .. in order; read as JSON where it is JSON, else as text
    #[arg(short, long = "param")]
    params: Vec<String>,
    /// Answer without the segments that cannot be read, instead of failing
    #[arg(long)]
    allow_missing_segments: bool,
    /// How to print the rows
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: SqlArgs) -> Outcome {
    let api = Api::new(&args.client)?;
    let query = match args.query.as_str() {
        "-" => io::read_to_string(io::stdin()).map_err(|error| Failure::usage(format!("standard input: {error}")))?,
        query => query.to_owned(),
    };
    let params: Vec<Value> =
        args.params.into_iter().map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))).collect();
    let accept = match args.output {
        Output::Table | Output::Json => "application/json",
        Output::Jsonl => "application/x-ndjson",
        Output::Csv => "text/csv",
    };
    let request = api.request(Method::POST, "/sql").header("accept", accept).json(&json!({
        "query": query, "params": params, "allow_missing_segments": args.allow_missing_segments
    }));
    let response = api.send(request).await?;
    if let Some(missing) = response.headers().get("plimsoll-missing-segments").and_then(|paths| paths.to_str().ok()) {
        output::hint(&format!("without segments {missing}"));
    }
    let id = response.headers().get("plimsoll-query-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let printed = match args.output {
        Output::Table => response.json().await.map(|answer: Value| print_table(&answer)),
        _ => copy(response).await,
    };
    match printed {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let reason = why(&api, id.as_deref()).await.unwrap_or_else(|| error.to_string());
            Err(Failure::failed(format!("the answer broke off: {reason}")))
        }
    }
}

/// Asks the server why an answer broke off; `None` where it does not know.
async fn why(api: &Api, id: Option<&str>) -> Option<String> {
    let request = api.request(Method::GET, &format!("/sql/{}", id?)).timeout(ASKING_MAX);
    let told = api.json(request).await.ok()?;
    told["error"].as_str().map(str::to_owned)
}

async fn copy(response: Response) -> Result<(), reqwest::Error> {
    let mut body = response.bytes_stream();
    let mut out = io::stdout().lock();
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        if out.write_all(&chunk).is_err() {
            return Ok(());
        }
    }
    let _ = out.flush();
    Ok(())
}

fn print_table(answer: &Value) {
    let names = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let header: Vec<String> = names(&answer["columns"]).iter().map(|column| output::cell(&column["name"])).collect();
    let rows: Vec<Vec<String>> =
        names(&answer["rows"]).iter().map(|row| names(row).iter().map(output::cell).collect()).collect();
    output::line(&output::table(&header, &rows));
    output::hint(&format!("{} rows", rows.len()));
}
