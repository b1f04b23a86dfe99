//! How a backtest is printed.

use plimsoll_model::{UnixNanos, Verdict};
use serde::Deserialize;
use serde_json::{Value, json};

use super::timeline::Judged;
use crate::cli::output::{self, Tone};
use crate::cli::{Failure, show_verdict};

/// How the verdicts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BacktestOutput {
    /// For people
    Table,
    /// One JSON array
    Json,
    /// One JSON object a line
    Jsonl,
}

/// Prints all of them, in the order in which the deploys started.
pub(super) fn print(judged: &[Value], format: BacktestOutput) -> Result<(), Failure> {
    match format {
        BacktestOutput::Table => judged.iter().try_for_each(show)?,
        BacktestOutput::Json => output::json(&Value::Array(judged.to_vec())),
        BacktestOutput::Jsonl => judged.iter().for_each(|row| output::line(&row.to_string())),
    }
    if format == BacktestOutput::Table {
        let said = |verdict: &str| judged.iter().filter(|row| row["verdict"] == verdict).count();
        output::line(&output::paint(
            Tone::Strong,
            &format!(
                "\n{}: {} pass, {} regressed, {} inconclusive",
                if judged.len() == 1 { "1 deploy".to_owned() } else { format!("{} deploys", judged.len()) },
                said("pass"),
                said("regressed"),
                said("inconclusive")
            ),
        ));
    }
    Ok(())
}

fn show(row: &Value) -> Result<(), Failure> {
    let verdict = Verdict::deserialize(row).map_err(|error| Failure::failed(format!("not a verdict: {error}")))?;
    output::line(&format!("\n{}", verdict.deploy_id));
    show_verdict(&verdict);
    if let Some(at) = row["first_regressed_at"].as_str() {
        let after = UnixNanos::parse_rfc3339(at).map(|at| at.since(verdict.started_at).as_secs());
        output::line(&format!("  first regressed  {at}, {} s after the start", after.unwrap_or_default()));
    }
    Ok(())
}

/// Returns the rows as JSON.
pub(super) fn rows(judged: &[Judged]) -> Vec<Value> {
    judged.iter().map(|judged| json!(judged)).collect()
}
