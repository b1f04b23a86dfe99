//! What was known before: exceptions that stored rows of hours before a backtest's window tell of are no news, and those of
//! others are; nor is one known by a version that was taken back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::Running;
use crate::telling::{export, now_s, rfc3339};

/// Seconds of traffic before the deploy, and in all.
const BEFORE_S: u64 = 300;
const RECORDED_S: u64 = 480;
/// Far beyond the hour that a deploy is compared with.
const LONG_AGO_S: u64 = 6 * 3_600;

/// One export request: `requests` of a second, each with its version and the exception that it records.
fn request(environment: &str, service: &str, second: u64, requests: &[(&str, Option<&str>)]) -> String {
    let mut resources = Vec::new();
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        let mut spans = Vec::new();
        for (n, (_, exception)) in requests.iter().enumerate().filter(|(_, (of, _))| *of == version) {
            let end = second * 1_000_000_000 + n as u64 * 40_000_000;
            let id = (second % 1_000_000) * 100 + n as u64 + 1;
            let mut span = json!({
                "traceId": format!("{id:032x}"), "spanId": format!("{id:016x}"), "name": "POST /charge", "kind": 2,
                "startTimeUnixNano": (end - 20_000_000).to_string(), "endTimeUnixNano": end.to_string(),
            });
            if let Some(exception) = exception {
                span["events"] = json!([{ "name": "exception", "timeUnixNano": end.to_string(), "attributes": [
                    { "key": "exception.type", "value": { "stringValue": exception } },
                ] }]);
            }
            spans.push(span);
        }
        let attributes =
            [("service.name", service), ("service.version", version), ("deployment.environment.name", environment)]
                .map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } }));
        resources.push(json!({ "resource": { "attributes": attributes }, "scopeSpans": [{ "spans": spans }] }));
    }
    json!({ "resourceSpans": resources }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_of_hours_before_a_backtest_is_known_to_it_and_one_of_others_is_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Running::start_with(directory, |config| config.watch.infer_deploys = false).await;
    let start = now_s() / 10 * 10 - RECORDED_S;
    for second in 0..30 {
        let at = start - LONG_AGO_S + second;
        let thrown = |exception| [("1.0.0", Some(exception)), ("1.0.0", None)];
        export(&server, &request("prod", "payment", at, &thrown("Known"))).await;
        export(&server, &request("stage", "payment", at, &thrown("OfStage"))).await;
        export(&server, &request("prod", "search", at, &thrown("OfSearch"))).await;
        // Later than the version that serves on, and gone again.
        let tried = [("1.1.0", Some("TakenBack")), ("1.0.0", None)];
        export(&server, &request("prod", "payment", at + 60, &tried)).await;
    }
    for second in 0..RECORDED_S {
        let requests: Vec<(&str, Option<&str>)> = (0..20)
            .map(|n| match n {
                _ if second < BEFORE_S || n % 2 == 1 => ("1.0.0", None),
                0 => ("2.0.0", Some("Known")),
                2 => ("2.0.0", Some("OfStage")),
                4 => ("2.0.0", Some("OfSearch")),
                6 => ("2.0.0", Some("TakenBack")),
                _ => ("2.0.0", None),
            })
            .collect();
        export(&server, &request("prod", "payment", start + second, &requests)).await;
    }
    let store = server.server.as_ref().expect("runs").stages().store.clone();
    store.flush().await.expect("flushes");
    let deploy = json!({
        "service": "payment", "environment": "prod", "version": "2.0.0", "started_at": rfc3339(start + BEFORE_S),
    });
    // Once as it runs, and once when nothing but stored rows tells of the past.
    let directory = {
        check(&server, &deploy).await;
        server.stop().await
    };
    let server = Running::start_with(directory, |_| {}).await;
    check(&server, &deploy).await;
    server.stop().await;
}

async fn check(server: &Running, deploy: &Value) {
    // Which versions there were is recorded at the watcher's next look.
    let give_up = Instant::now() + Duration::from_secs(60);
    let mut named = thrown(server, deploy).await;
    while named.len() < 3 && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(500)).await;
        named = thrown(server, deploy).await;
    }
    assert_eq!(named.len(), 3, "{named:?}");
    for (sentence, thrown) in named.iter().zip(["OfSearch", "OfStage", "TakenBack"]) {
        assert!(sentence.contains(&format!("throws `{thrown}`")), "{named:?}");
    }
}

/// Returns what a backtest says of exceptions that are new.
async fn thrown(server: &Running, deploy: &Value) -> Vec<String> {
    let (status, answer) = server.post("/api/v1/backtest", &json!({ "deploys": [deploy] })).await;
    assert_eq!(status, reqwest::StatusCode::OK, "{answer}");
    let verdict = &answer["verdicts"][0];
    assert_eq!(verdict["verdict"], "regressed", "{verdict:#}");
    let findings = verdict["findings"].as_array().expect("a list");
    let new = findings.iter().filter(|finding| finding["signal"] == "new_exception");
    let mut named: Vec<String> = new.filter_map(|finding| finding["summary"].as_str().map(str::to_owned)).collect();
    named.sort_unstable();
    named
}
