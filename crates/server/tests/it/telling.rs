//! What engineers see of a verdict: shown, explained, answered; and the same from a recording as from a live server.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::server::Running;

const PLIMSOLL: &str = env!("CARGO_BIN_EXE_plimsoll");
/// Seconds recorded before the deploy, and in all.
const BEFORE_S: u64 = 300;
const RECORDED_S: u64 = 480;
/// Requests of the version deployed.
const CANDIDATE_REQUESTS: u64 = (RECORDED_S - BEFORE_S) * 20;

pub(crate) fn plimsoll(arguments: &[&str]) -> Output {
    let mut command = Command::new(PLIMSOLL);
    command.args(arguments).env_remove("PLIMSOLL_API").env_remove("PLIMSOLL_TOKEN").output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Writes an RFC 3339 time, as the server does.
pub(crate) fn rfc3339(seconds: u64) -> String {
    plimsoll_model::UnixNanos::from_secs(seconds).to_rfc3339()
}

fn resource(service: &str, version: &str) -> Value {
    json!({ "attributes": [
        { "key": "service.name", "value": { "stringValue": service } },
        { "key": "service.version", "value": { "stringValue": version } },
        { "key": "deployment.environment.name", "value": { "stringValue": "prod" } },
    ] })
}

/// Export requests, one a line: forty requests a second, half of them on 2.0.0 once it is deployed, which fails a fifth of its
/// own, those of one platform in one region, with an exception and a message, is slower, and calls the bank three times instead of once.
fn recording(start_s: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for second in 0..RECORDED_S {
        let mut by_version = [Vec::new(), Vec::new()];
        let (mut bank, mut messages) = (Vec::new(), Vec::new());
        for n in 0..40_u64 {
            let canary = second >= BEFORE_S && n % 2 == 0;
            let failed = canary && n % 10 == 0;
            let end = (start_s + second) * 1_000_000_000 + n * 20_000_000;
            let took = (20_000_000 + (n % 7) * 1_000_000) * if canary { 3 } else { 1 };
            for call in 0..if canary { 3 } else { 1 } {
                bank.push(json!({
                    "traceId": format!("{:032x}", u128::from(second * 100 + n + 1)),
                    "spanId": format!("{:016x}", (second * 100 + n + 1) * 1_000 + call),
                    "parentSpanId": format!("{:016x}", second * 100 + n + 1),
                    "name": "POST /authorise", "kind": 2,
                    "startTimeUnixNano": (end - took + 1_000_000 * (call + 1)).to_string(),
                    "endTimeUnixNano": (end - took + 1_000_000 * (call + 2)).to_string(),
                }));
            }
            if failed {
                messages.push(json!({
                    "timeUnixNano": end.to_string(), "severityNumber": 17, "severityText": "ERROR",
                    "body": { "stringValue": format!("charge of {} cents was turned down by the issuer", 100 + n) },
                }));
            }
            let mut span = json!({
                "traceId": format!("{:032x}", u128::from(second * 100 + n + 1)),
                "spanId": format!("{:016x}", second * 100 + n + 1),
                "name": "POST /charge", "kind": 2,
                "startTimeUnixNano": (end - took).to_string(),
                "endTimeUnixNano": end.to_string(),
                "status": {},
                "attributes": [
                    { "key": "client.platform", "value": { "stringValue": if matches!(n % 10, 0 | 1 | 6 | 7) { "ios" } else { "android" } } },
                    { "key": "region", "value": { "stringValue": if n % 10 < 4 { "eu" } else { "us" } } },
                ],
            });
            if failed {
                span["status"] = json!({ "code": 2 });
                span["events"] = json!([{ "name": "exception", "timeUnixNano": end.to_string(), "attributes": [
                    { "key": "exception.type", "value": { "stringValue": "CardDeclined" } },
                    { "key": "exception.message", "value": { "stringValue": "issuer timeout" } },
                ] }]);
            }
            by_version[usize::from(canary)].push(span);
        }
        let scopes = json!([{ "spans": bank }]);
        lines.push(
            json!({ "resourceSpans": [{ "resource": resource("bank", "7"), "scopeSpans": scopes }] }).to_string(),
        );
        if !messages.is_empty() {
            let scopes = json!([{ "logRecords": messages }]);
            let logs = json!({ "resourceLogs": [{ "resource": resource("payment", "2.0.0"), "scopeLogs": scopes }] });
            lines.push(logs.to_string());
        }
        for (version, spans) in ["1.0.0", "2.0.0"].iter().zip(by_version) {
            if !spans.is_empty() {
                let request = json!({ "resourceSpans": [
                    { "resource": resource("payment", version), "scopeSpans": [{ "spans": spans }] }
                ] });
                lines.push(request.to_string());
            }
        }
    }
    lines
}

/// One span of a service that has nothing to do with it: it lets traces close.
pub(crate) fn heartbeat(n: u64) -> String {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let span = json!({
        "traceId": format!("{:032x}", 0xffff_0000_u64 + n), "spanId": format!("{:016x}", 0xffff_0000_u64 + n),
        "name": "beat", "kind": 2, "startTimeUnixNano": (end - 1_000_000).to_string(), "endTimeUnixNano": end.to_string(),
    });
    let scopes = json!([{ "spans": [span] }]);
    json!({ "resourceSpans": [{ "resource": resource("heart", "1"), "scopeSpans": scopes }] }).to_string()
}

pub(crate) async fn export(server: &Running, line: &str) {
    let http = server.server.as_ref().expect("runs").addresses().otlp_http;
    let signals = [("resourceLogs", "logs"), ("resourceMetrics", "metrics")];
    let signal = signals.iter().find(|(word, _)| line.contains(word)).map_or("traces", |(_, signal)| signal);
    let sent = server
        .client
        .post(format!("http://{http}/v1/{signal}"))
        .header("content-type", "application/json")
        .body(line.to_owned())
        .send()
        .await
        .expect("answers");
    assert_eq!(sent.status(), StatusCode::OK);
}

/// A server that was told of a bad deploy in real form, what it was sent, and what it says.
struct Told {
    server: Running,
    lines: Vec<String>,
    deploy: Value,
    verdict: Value,
}

async fn told() -> Told {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Running::start_with(directory, |config| {
        config.watch.infer_deploys = false;
        config.watch.interval = Duration::from_millis(500);
    })
    .await;
    let start = now_s() / 10 * 10 - RECORDED_S;
    let mut lines = recording(start);
    for line in &lines {
        export(&server, line).await;
    }
    let marker = json!({
        "service": "payment", "environment": "prod", "version": "2.0.0", "started_at": rfc3339(start + BEFORE_S),
    });
    let (status, deploy) = server.post("/api/v1/deploys", &marker).await;
    assert_eq!(status, StatusCode::CREATED, "{deploy}");
    let path = format!("/api/v1/deploys/{}/verdict", deploy["id"].as_str().expect("an id"));
    for n in 0..240 {
        let (_, verdict) = server.get(&path).await;
        let whole =
            verdict["data_quality"].as_array().is_some_and(|words| !words.contains(&json!("unassembled_traces")));
        // What is shown may have been stored while the recording was still being folded.
        let all = |finding: &Value| finding["candidate"]["n"] == CANDIDATE_REQUESTS;
        let listed = verdict["findings"].as_array().is_some_and(|found| !found.is_empty() && found.iter().all(all));
        // Traces close once nothing of them came for ten seconds, which the next telemetry to come makes known.
        if verdict["verdict"] == "regressed" && whole && listed && n > 24 {
            return Told { server, lines, deploy, verdict };
        }
        let beat = heartbeat(n);
        export(&server, &beat).await;
        lines.push(beat);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the regression was not found: {}", server.get(&path).await.1);
}

/// Runs the query of what the excess has in common; returns where its rows are not what the finding states.
async fn misplaced(server: &Running, finding: &Value) -> Option<String> {
    let place = &finding["explanation"]["place"];
    let query = place["sql"].as_str()?;
    let (status, answer) = server.post("/api/v1/sql", &json!({ "query": query })).await;
    let rows = answer["rows"].as_array().filter(|_| status == StatusCode::OK);
    // Of the candidate: failed and all requests, and what had it; of failures drawn where there are two conditions.
    let told = rows.into_iter().flatten().find(|row| row[0] == "candidate").map(|row| {
        let number = |at: usize| row[at].as_f64().unwrap_or(-1.0);
        let of = if place["and"].is_null() { number(1) } else { number(3) };
        let there = if place["and"].is_null() { number(3) } else { number(4) };
        (number(2) == finding["candidate"]["n"].as_f64().unwrap_or(0.0), there / of)
    });
    let share = place["share"].as_f64().unwrap_or(0.0);
    let agrees = told.is_some_and(|(n, there)| n && (there - share).abs() <= 0.1);
    (!agrees).then(|| format!("{answer}: {finding}"))
}

/// Runs the query of each finding and holds its rows against the finding's numbers.
async fn check_queries(server: &Running, verdict: &Value) {
    let (kinds, mut wrong) = crate::numbers::mismatches(server, verdict).await;
    for finding in verdict["findings"].as_array().into_iter().flatten() {
        wrong.extend(misplaced(server, finding).await);
    }
    assert_eq!(wrong, Vec::<String>::new());
    let seen: Vec<&str> = kinds.iter().map(|(kind, _)| kind.as_str()).collect();
    for wanted in ["error_rate", "latency", "new_exception", "new_log", "throughput"] {
        assert!(seen.contains(&wanted), "no finding of `{wanted}` was made: {kinds:?}");
    }
}

/// The verdict as `plimsoll verdict -o json` prints it, and as it comes out of a replay.
fn printed_and_replayed(api: &str, id: &str) -> (String, String) {
    let printed = plimsoll(&["verdict", id, "--api", api, "-o", "json"]);
    assert_eq!(printed.status.code(), Some(1), "regressed: {}", text(&printed.stderr));
    let replayed = plimsoll(&["verdict", "replay", id, "--api", api, "-o", "json"]);
    assert_eq!(replayed.status.code(), Some(0), "{} {}", text(&replayed.stderr), text(&replayed.stdout));
    (text(&printed.stdout), text(&replayed.stdout))
}

async fn replayed(server: &Running, id: &str) -> String {
    // While it is watched its numbers may be stored between the two: then they are asked for again.
    for _ in 0..5 {
        let (api, id) = (server.api.clone(), id.to_owned());
        let both = tokio::task::spawn_blocking(move || printed_and_replayed(&api, &id)).await;
        let (printed, replayed) = both.expect("the commands were run");
        if printed == replayed {
            return printed;
        }
    }
    panic!("the replay of a verdict is another than the one that is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_replayed_from_stored_rows_byte_for_byte_and_so_after_a_restart_and_a_merge() {
    let Told { server, deploy, verdict, .. } = told().await;
    let id = deploy["id"].as_str().expect("an id").to_owned();
    check_queries(&server, &verdict).await;
    let common = verdict["findings"].as_array().expect("findings").iter().find(|found| found["signal"] == "error_rate");
    let summary = common.expect("requests fail")["summary"].as_str().expect("text");
    assert!(summary.ends_with("when `client.platform=ios` and `region=eu`"), "{summary}");
    replayed(&server, &id).await;
    let store = server.server.as_ref().expect("runs").stages().store.clone();
    store.flush().await.expect("flushes");
    store.maintain().await.expect("merges");
    replayed(&server, &id).await;
    let directory = server.stop().await;
    let server = Running::start_with(directory, |config| {
        config.watch.interval = Duration::from_secs(3_600);
        // All of the recording lies within: what is stored is judged as before, and the past as well.
        config.watch.tolerances.usual.lookback_s = BEFORE_S;
    })
    .await;
    let before = replayed(&server, &id).await;
    let (status, answer) = server.post(&format!("/api/v1/deploys/{id}/replay"), &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["same"], true);
    assert!(answer["rows"].as_u64() > answer["kept_rows"].as_u64(), "stored rows bear on it: {answer}");
    assert!(before.contains(answer["stored"]["summary"].as_str().expect("text")), "{answer}");

    let (api, asked) = (server.api.clone(), id.clone());
    let past = tokio::task::spawn_blocking(move || {
        let nobody = plimsoll(&["verdict", "replay", "dep_none", "--api", &api]);
        assert_eq!(nobody.status.code(), Some(2), "{}", text(&nobody.stderr));
        let none = plimsoll(&["backtest", "--from-store", "--service", "nobody", "--api", &api]);
        assert!(text(&none.stderr).contains("knows of no deploy"), "{}", text(&none.stderr));
        let ran = ["backtest", "--from-store", "--since", "1h", "--service", "payment", "--api", &api, "-o", "json"];
        let [first, second] = [plimsoll(&ran), plimsoll(&ran)];
        assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
        let verdicts = |output: &Output| -> Value { serde_json::from_slice(&output.stdout).expect("JSON") };
        let (first, second) = (verdicts(&first)[0].clone(), verdicts(&second)[0].clone());
        assert_eq!(first["findings"], second["findings"], "the same rows give the same findings");
        (first, asked)
    });
    let (past, asked) = past.await.expect("the commands were run");
    assert_eq!(past["deploy_id"], json!(asked));
    assert_eq!(past["verdict"], "regressed", "{past}");
    let time =
        |field: &str| plimsoll_model::UnixNanos::parse_rfc3339(past[field].as_str().expect("text")).expect("a time");
    let after = time("first_regressed_at").since(time("started_at"));
    assert!(after < Duration::from_secs(RECORDED_S - BEFORE_S), "it is looked at from its start on: {after:?} {past}");
    assert_eq!(past["findings"][0]["id"], verdict["findings"][0]["id"], "findings keep their ids: {past}");

    let directory = server.stop().await;
    let server = Running::start_with(directory, |config| {
        config.watch.interval = Duration::from_secs(3_600);
        config.memory.query = 32 << 10;
    })
    .await;
    let (status, answer) = server.post(&format!("/api/v1/deploys/{id}/replay"), &json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "what does not fit is not said to differ: {answer}");
    assert!(answer.to_string().contains("set `memory.query` higher"), "{answer}");
    let (status, answer) = server.post("/api/v1/backtest", &json!({ "since": "1h", "service": "payment" })).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(answer["notes"].to_string().contains("set `memory.query` higher"), "{answer}");
    server.stop().await;
}

fn backtest(directory: &Path, lines: &[String], deploy: &Value, until: &str) -> Value {
    let mut all = String::new();
    lines.iter().for_each(|line| writeln!(all, "{line}").expect("a string takes it"));
    std::fs::write(directory.join("traces.jsonl"), all).expect("is writable");
    std::fs::write(directory.join("deploys.json"), format!("{deploy}\n")).expect("is writable");
    let [otlp, deploys] = ["traces.jsonl", "deploys.json"].map(|name| directory.join(name));
    let [otlp, deploys] = [&otlp, &deploys].map(|path| path.to_str().expect("is text"));
    let ran = plimsoll(&["backtest", "--otlp", otlp, "--deploys", deploys, "--until", until, "-o", "json"]);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let verdicts: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    verdicts[0].clone()
}

fn check_what_is_shown(api: &str, id: &str) {
    let shown = plimsoll(&["verdict", "show", id, "--api", api]);
    let page = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert!(page.starts_with("regressed  payment 2.0.0 `POST /charge` fails"), "{page}");
    assert!(page.contains("candidate") && page.contains('█') && page.contains("▲ failed requests"), "{page}");
    assert!(!page.contains('\u{1b}'), "no colour in a pipe");
    let explained = text(&plimsoll(&["verdict", "explain", id, "--api", api]).stdout);
    for part in [
        "concurrent: 2.0.0 side by side with 1.0.0",
        "in truth no worse, however often one looks",
        "95 % confidence",
        "`CardDeclined: issuer timeout`",
        "within operations",
        "FROM operations",
        "traces  ",
    ] {
        assert!(explained.contains(part), "`{part}` is missing: {explained}");
    }
    let one = plimsoll(&["verdict", "explain", id, "1", "--api", api, "-o", "json"]);
    let one: Value = serde_json::from_slice(&one.stdout).expect("JSON");
    assert_eq!(one["signal"], "error_rate");
    let points = one["explained"]["series"]["candidate"].as_array().expect("a series");
    assert!(points.iter().any(|point| point.as_f64() == Some(0.2)), "{one}");
    let none = plimsoll(&["verdict", "explain", id, "99", "--api", api]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("has no finding `99`"), "{}", text(&none.stderr));
    assert_eq!(plimsoll(&["verdict", id, "--api", api, "-o", "csv"]).status.code(), Some(2), "it has no rows");
    assert_eq!(plimsoll(&["verdict", "show", "a/b", "--api", api]).status.code(), Some(2));
}

fn check_what_is_answered(api: &str, id: &str) {
    let past = plimsoll(&["feedback", id, "known", "--api", api, "--actor", "me", "--until", "2020-01-01T00:00:00Z"]);
    assert_eq!(past.status.code(), Some(1));
    assert!(text(&past.stderr).contains("`until` is"), "{}", text(&past.stderr));
    let known = plimsoll(&["feedback", id, "known", "--api", api, "--actor", "me", "--until", "14d"]);
    let said = text(&known.stdout);
    assert!(
        said.contains("called known by me") && said.contains("error_rate of `POST /charge` is silent until"),
        "{said}"
    );
    let counted = text(&plimsoll(&["precision", "--api", api]).stdout);
    assert!(counted.contains("100.0 %") && counted.contains("1 known"), "{counted}");
    let shown = text(&plimsoll(&["verdict", "show", id, "--api", api]).stdout);
    assert!(shown.contains("me called it known"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_verdict_is_shown_explained_answered_and_what_a_backtest_of_the_same_telemetry_says() {
    let Told { server, lines, deploy, verdict } = told().await;
    let id = deploy["id"].as_str().expect("an id").to_owned();
    let until = verdict["evaluated_at"].as_str().expect("a time").to_owned();
    let api = server.api.clone();
    let asked = id.clone();
    let recorded = tokio::task::spawn_blocking(move || {
        check_what_is_shown(&api, &asked);
        check_what_is_answered(&api, &asked);
        let directory = tempfile::tempdir().expect("a temporary directory");
        backtest(directory.path(), &lines, &deploy, &until)
    });
    let mut recorded = recorded.await.expect("the commands were run");
    assert!(recorded["first_regressed_at"].is_string(), "{recorded}");
    let mut live = verdict;
    for verdict in [&mut recorded, &mut live] {
        let fields = verdict.as_object_mut().expect("an object");
        // How often the answer changed on the way depends on when it was looked at.
        fields.remove("revision");
        fields.remove("first_regressed_at");
    }
    assert_eq!(live, recorded, "the same input gives the same verdict");
    let (status, explained) = server.get(&format!("/api/v1/deploys/{id}/explain")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(explained["overview"].as_array().is_some_and(|series| series.len() == 3), "{explained}");
    let (status, problem) = server.get("/api/v1/deploys/%ff/explain").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("UTF-8")), "a problem document: {problem}");
    server.stop().await;
}
