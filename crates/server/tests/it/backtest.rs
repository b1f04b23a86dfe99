//! Backtests: recorded telemetry in, verdicts out, the same bytes each time.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// 2026-03-01T12:00:00Z, in seconds.
const START_S: u64 = 1_772_366_400;

/// One export request a second: 40 requests, half on each version once the canary runs.
fn recording(bad_from_s: u64, seconds: u64) -> String {
    let mut lines = String::new();
    for second in 0..seconds {
        let mut by_version = [Vec::new(), Vec::new()];
        for n in 0..40_u64 {
            let canary = second >= bad_from_s && n % 2 == 0;
            let failed = canary && n % 10 == 0;
            let end = (START_S + second) * 1_000_000_000 + n * 20_000_000;
            by_version[usize::from(canary)].push(json!({
                "traceId": format!("{:032x}", u128::from(second * 100 + n + 1)),
                "spanId": format!("{:016x}", second * 100 + n + 1),
                "name": "POST /charge", "kind": 2,
                "startTimeUnixNano": (end - 20_000_000 - (n % 7) * 1_000_000).to_string(),
                "endTimeUnixNano": end.to_string(),
                "status": if failed { json!({ "code": 2 }) } else { json!({}) },
            }));
        }
        for (version, spans) in ["1.0.0", "2.0.0"].iter().zip(by_version) {
            let resource = json!({ "attributes": [
                { "key": "service.name", "value": { "stringValue": "payment" } },
                { "key": "service.version", "value": { "stringValue": version } },
                { "key": "deployment.environment.name", "value": { "stringValue": "prod" } },
            ] });
            let request = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": spans }] }] });
            writeln!(lines, "{request}").expect("a string takes it");
        }
    }
    lines
}

fn backtest(directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["backtest", "-o", "json", "--otlp"])
        .arg(directory.join("otlp"))
        .arg("--deploys")
        .arg(directory.join("deploys.jsonl"))
        .output()
        .expect("the binary runs")
}

#[test]
fn a_recorded_regression_is_found_when_it_would_have_been_and_the_same_way_each_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let otlp = directory.path().join("otlp");
    std::fs::create_dir(&otlp).expect("is writable");
    let lines = format!("{}{{\"resourceSpans\": 7}}\n", recording(300, 480));
    let packed = zstd::encode_all(lines.as_bytes(), 1).expect("compresses");
    std::fs::write(otlp.join("traces.jsonl.zst"), packed).expect("is writable");
    let deploy = r#"{"service":"payment","environment":"prod","version":"2.0.0","started_at":"2026-03-01T12:05:00Z"}"#;
    std::fs::write(directory.path().join("deploys.jsonl"), deploy).expect("is writable");

    let first = backtest(directory.path());
    let complaint = String::from_utf8_lossy(&first.stderr).into_owned();
    assert_eq!(first.status.code(), Some(0), "{complaint}");
    assert!(complaint.contains("traces.jsonl.zst` line 961"), "the line that cannot be read is named: {complaint}");
    let verdicts: Value = serde_json::from_slice(&first.stdout).expect("JSON");
    let verdict = &verdicts[0];
    assert_eq!(verdict["verdict"], "regressed", "{verdict}");
    assert_eq!(verdict["design"], "concurrent");
    assert_eq!(verdict["findings"][0]["culprit"]["version"], "2.0.0", "{verdict}");
    let at = verdict["first_regressed_at"].as_str().expect("a time");
    assert!(("2026-03-01T12:05:10Z".."2026-03-01T12:07:00Z").contains(&at), "{at}");
    assert_eq!(first.stdout, backtest(directory.path()).stdout, "the same input gives the same bytes");
}

#[test]
fn what_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let otlp = directory.path().join("otlp");
    std::fs::create_dir(&otlp).expect("is writable");
    let deploys = directory.path().join("deploys.jsonl");
    std::fs::write(&deploys, "{\"service\":\"a\"}\nnonsense\n").expect("is writable");
    let complaint = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let words = complaint(backtest(directory.path()));
    assert!(words.contains("line 1: `started_at` is required") && words.contains("line 2"), "{words}");
    std::fs::write(&deploys, r#"{"service":"a","environment":"b","version":"c","started_at":"2026-03-01T12:05:00Z"}"#)
        .expect("is writable");
    assert!(complaint(backtest(directory.path())).contains("holds no `.jsonl` or `.json` files"));
    std::fs::write(otlp.join("empty.jsonl"), "\n").expect("is writable");
    assert!(complaint(backtest(directory.path())).contains("no spans, no logs and no metrics"));
    // What is said of a line that cannot be read, which alone is nothing to judge from.
    for (line, said) in [
        ("{bad", "not JSON: key must be a string at column 2"),
        ("{\"resourceSp", "not JSON: EOF"),
        ("[1]", "not an object with `resourceSpans`"),
        ("{}", "an object without `resourceSpans`"),
        ("{\"spans\":[]}", "begins with `spans`, not with `resourceSpans`"),
    ] {
        std::fs::write(otlp.join("empty.jsonl"), format!("\n{line}\n")).expect("is writable");
        let words = complaint(backtest(directory.path()));
        assert!(words.contains(&format!("empty.jsonl` line 2: {said}")), "{line}: {words}");
        assert!(words.contains("warning: left out: ") && words.contains("error: the recordings hold no"), "{words}");
    }
}

#[test]
fn how_a_deploy_ended_is_not_known_before_it_did() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let otlp = directory.path().join("otlp");
    std::fs::create_dir(&otlp).expect("is writable");
    // The version before is taken away as the deploy starts, after fifteen minutes; the next never serves. Another service does.
    let mut lines = String::new();
    for second in 0..1_700_u64 {
        for (service, served) in [("payment", second < 900), ("other", true)] {
            let spans: Vec<Value> = (0..if served { 4 } else { 0 })
                .map(|n| {
                    let end = (START_S + second) * 1_000_000_000 + n * 200_000_000 + 20_000_000;
                    let number = (second * 4 + n) * 2 + u64::from(service == "other") + 1;
                    json!({
                        "traceId": format!("{number:032x}"), "spanId": format!("{number:016x}"), "name": "POST /charge",
                        "kind": 2, "startTimeUnixNano": (end - 20_000_000).to_string(),
                        "endTimeUnixNano": end.to_string(), "status": {},
                    })
                })
                .collect();
            if !spans.is_empty() {
                let resource = json!({ "attributes": [
                    { "key": "service.name", "value": { "stringValue": service } },
                    { "key": "service.version", "value": { "stringValue": "1" } },
                    { "key": "deployment.environment.name", "value": { "stringValue": "prod" } },
                ] });
                let request =
                    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": spans }] }] });
                writeln!(lines, "{request}").expect("a string takes it");
            }
        }
    }
    std::fs::write(otlp.join("traces.jsonl"), lines).expect("is writable");
    let found = |status: &str| {
        let mut deploy = json!({
            "id": "dep_1", "environment": "prod", "namespace": "", "service": "payment", "version": "2", "kind": "release",
            "attributes": {}, "inferred": false, "status": status,
            "started_at": "2026-03-01T12:15:00Z", "created_at": "2026-03-01T12:15:00Z",
        });
        if status != "running" {
            deploy["finished_at"] = json!("2026-03-01T13:00:00Z");
        }
        std::fs::write(directory.path().join("deploys.jsonl"), deploy.to_string()).expect("is writable");
        let verdicts: Value = serde_json::from_slice(&backtest(directory.path()).stdout).expect("JSON");
        verdicts[0].clone()
    };
    let running = found("running");
    assert_eq!(running["verdict"], "regressed", "nobody serves: {running}");
    for status in ["failed", "succeeded"] {
        assert_eq!(found(status), running, "{status} half an hour after the last that was recorded");
    }
}
