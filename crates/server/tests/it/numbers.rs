//! Whether the query of a finding gives the numbers that the finding states.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::server::Running;

/// Runs the query of each finding; returns which sorts there are, and where the rows are not what the finding states.
pub(crate) async fn mismatches(server: &Running, verdict: &Value) -> (BTreeSet<(String, String)>, Vec<String>) {
    let (mut sorts, mut wrong) = (BTreeSet::new(), Vec::new());
    for finding in verdict["findings"].as_array().into_iter().flatten() {
        let (status, answer) = server.post("/api/v1/sql", &json!({ "query": finding["sql"] })).await;
        if status != StatusCode::OK {
            wrong.push(format!("{answer}: {finding}"));
            continue;
        }
        let names: Vec<&str> =
            answer["columns"].as_array().expect("columns").iter().filter_map(|c| c["name"].as_str()).collect();
        let rows = answer["rows"].as_array().expect("rows");
        let (signal, unit) = (finding["signal"].as_str().expect("text"), finding["unit"].as_str().expect("text"));
        let (value_of, n_of) = match (signal, unit) {
            ("error_rate" | "metric", "ratio") => ("error_rate", "requests"),
            ("latency" | "metric", "ms") => ("p95_ms", "requests"),
            ("metric", "level") => ("level", "minutes"),
            ("new_exception", _) => ("occurrences_per_request", "requests"),
            ("new_log", _) => ("messages_per_request", "requests"),
            ("throughput", "calls/request") => ("calls_per_request", "requests"),
            ("throughput", "actions/request") => ("actions_per_request", "requests"),
            ("throughput" | "silence", "requests/s") => ("requests_per_second", "requests"),
            ("silence", "restarts/h") => ("restarts_per_hour", "starts"),
            other => panic!("a finding of {other:?} is not looked at: {finding}"),
        };
        for arm in ["candidate", "baseline"] {
            let said = |name: &str| finding[arm][name].as_f64().expect("a number");
            let Some(row) = rows.iter().find(|row| row[0] == arm) else {
                // Where nothing was there to compare with, the objective stands in its place.
                if said("n") > 0.0 {
                    wrong.push(format!("no row of the {arm} in {rows:?}: {finding}"));
                }
                continue;
            };
            let number = |name: &str| names.iter().position(|column| *column == name).and_then(|at| row[at].as_f64());
            let (value, n) = (number(value_of), number(n_of));
            let agrees = value.is_some_and(|value| (value - said("value")).abs() <= 1e-9 + 1e-6 * value.abs());
            if !agrees || n != Some(said("n")) {
                wrong.push(format!("{value:?} of {n:?} for the {arm} {}: {rows:?} {finding}", finding[arm]));
            }
        }
        sorts.insert((signal.to_owned(), unit.to_owned()));
    }
    (sorts, wrong)
}
