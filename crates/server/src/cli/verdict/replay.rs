//! `plimsoll verdict replay`: the verdict computed again from stored rows.

use std::process::ExitCode;

use plimsoll_model::Verdict;
use reqwest::Method;

use super::{Format, ShowArgs, not_a_verdict, page, path_segment};
use crate::cli::client::Api;
use crate::cli::output::{self, Tone};
use crate::cli::{Failure, Outcome};

pub(super) async fn run(args: &ShowArgs) -> Outcome {
    let api = Api::new(&args.client)?;
    let deploy = path_segment(&args.deploy)?;
    let answer =
        api.json(api.request(Method::POST, &format!("/deploys/{deploy}/replay"))).await.map_err(not_a_verdict)?;
    let same = answer["same"].as_bool().unwrap_or(false);
    match args.output {
        // The verdict alone, so that it can be compared with what `plimsoll verdict -o json` printed.
        Format::Json => output::json(&answer["verdict"]),
        Format::Table => {
            let verdict: Verdict = serde_json::from_value(answer["verdict"].clone())
                .map_err(|error| Failure::failed(format!("the server's answer is not a verdict: {error}")))?;
            page::summary(&verdict);
            let (tone, words) = if same {
                (Tone::Good, "the same, byte for byte, as the stored verdict")
            } else {
                (Tone::Bad, "not the same as the stored verdict")
            };
            let rows = output::cell(&answer["rows"]);
            output::line(&format!("\n  replayed from {rows} rows: {}", output::paint(tone, words)));
        }
    }
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    for note in list("notes") {
        output::complain(&output::cell(&note));
    }
    for field in list("differences") {
        output::complain(&format!("`{}` differs", output::cell(&field)));
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
