//! Telemetry and markers as they should not be, recorded and judged: what is said, that it is said to be odd, and that
//! neither hides a bad deploy nor makes a good one look bad.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

/// 2026-03-01T12:00:00Z, in seconds.
const START_S: u64 = 1_772_366_400;
/// Seconds recorded before the new version comes, and in all.
const BEFORE_S: u64 = 300;
const RECORDED_S: u64 = 780;
const REQUESTS_A_SECOND: u64 = 20;
const MINUTE_NS: u64 = 60_000_000_000;

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// Words that only odd telemetry gets.
const ODD: &[&str] = &[
    "broken_parents",
    "clock_skew",
    "collapsed_logs",
    "collapsed_operations",
    "dropped_cells",
    "duplicate_spans",
    "late_spans",
    "marked_ahead",
    "marked_early",
    "marked_late",
    "metrics_left_out",
    "misdated_spans",
    "negative_durations",
    "sampled_spans",
    "unversioned_telemetry",
    "version_churn",
    "version_missing",
];

#[derive(Clone)]
struct Span {
    service: &'static str,
    /// No attribute at all where it is `None`.
    version: Option<String>,
    trace: u64,
    id: u64,
    parent: u64,
    kind: u64,
    name: String,
    start: u64,
    end: u64,
    failed: bool,
    exception: Option<String>,
}

impl Span {
    fn written(&self) -> Value {
        let mut span = json!({
            "traceId": format!("{:032x}", self.trace), "spanId": format!("{:016x}", self.id),
            "name": self.name, "kind": self.kind,
            "startTimeUnixNano": self.start.to_string(), "endTimeUnixNano": self.end.to_string(),
        });
        if self.parent != 0 {
            span["parentSpanId"] = format!("{:016x}", self.parent).into();
        }
        if self.failed {
            span["status"] = json!({ "code": 2 });
        }
        if let Some(exception) = &self.exception {
            span["events"] = json!([{ "name": "exception", "timeUnixNano": self.end.to_string(), "attributes": [
                { "key": "exception.type", "value": { "stringValue": exception } },
            ] }]);
        }
        span
    }

    fn is(&self, service: &str, kind: u64) -> bool {
        self.service == service && self.kind == kind
    }

    fn is_canary(&self) -> bool {
        self.version.as_deref() == Some("2.0.0")
    }
}

/// A number that looks like chance.
fn chance(second: u64, n: u64) -> u64 {
    let mut x = (second * 1_000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 29)
}

/// Letters that no normalisation takes for a number.
fn letters(mut number: u64) -> String {
    let mut text = String::new();
    for _ in 0..10 {
        text.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    text
}

/// What is sent within a second: the gateway calls payment, of which half is 2.0.0 once it is there. One request in 5,000 fails,
/// and one in ten of 2.0.0 where that is `bad`.
fn second_of_traffic(second: u64, bad: bool) -> Vec<Span> {
    let mut spans = Vec::new();
    for n in 0..REQUESTS_A_SECOND {
        let canary = second >= BEFORE_S && chance(second, n + 500).is_multiple_of(2);
        let failed = chance(second, n).is_multiple_of(if canary && bad { 10 } else { 5_000 });
        let trace = second * 100 + n + 1;
        let end = (START_S + second) * 1_000_000_000 + n * 40_000_000;
        let took = 20_000_000 + chance(second, n + 250) % 7_000_000;
        let span = |service, version: &str, number: u64, parent: u64, kind, name: &str, margin: u64| Span {
            service,
            version: Some(version.to_owned()),
            trace,
            id: trace * 10 + number,
            parent: if parent == 0 { 0 } else { trace * 10 + parent },
            kind,
            name: name.to_owned(),
            start: end - took - 4_000_000 + margin,
            end: end - margin,
            failed,
            exception: None,
        };
        let version = if canary { "2.0.0" } else { "1.0.0" };
        spans.push(span("gateway", "7", 1, 0, SERVER, "POST /buy", 0));
        spans.push(span("gateway", "7", 2, 1, CLIENT, "POST", 1_000_000));
        spans.push(span("payment", version, 3, 2, SERVER, "POST /charge", 2_000_000));
        spans.push(span("payment", version, 4, 3, INTERNAL, "book", 3_000_000));
    }
    spans
}

/// Writes export requests, one a line and second, each span made odd first.
fn recording(bad: bool, odd: &dyn Fn(u64, &mut Vec<Span>)) -> String {
    let mut lines = String::new();
    for second in 0..RECORDED_S {
        let mut spans = second_of_traffic(second, bad);
        odd(second, &mut spans);
        let mut by_emitter: BTreeMap<(&str, Option<String>), Vec<Value>> = BTreeMap::new();
        for span in spans {
            by_emitter.entry((span.service, span.version.clone())).or_default().push(span.written());
        }
        let resources: Vec<Value> = by_emitter
            .into_iter()
            .map(|((service, version), spans)| {
                let mut attributes = vec![
                    json!({ "key": "service.name", "value": { "stringValue": service } }),
                    json!({ "key": "deployment.environment.name", "value": { "stringValue": "prod" } }),
                ];
                if let Some(version) = version {
                    attributes.push(json!({ "key": "service.version", "value": { "stringValue": version } }));
                }
                json!({ "resource": { "attributes": attributes }, "scopeSpans": [{ "spans": spans }] })
            })
            .collect();
        writeln!(lines, "{}", json!({ "resourceSpans": resources })).expect("a string takes it");
    }
    lines
}

fn time(second: u64) -> String {
    plimsoll_model::UnixNanos::from_secs(START_S + second).to_rfc3339()
}

fn marker(service: &str, started_s: u64) -> String {
    json!({ "service": service, "environment": "prod", "version": "2.0.0", "started_at": time(started_s) }).to_string()
}

fn backtest(otlp: &str, deploys: &str) -> Vec<Value> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (recorded, marked) = (directory.path().join("otlp.jsonl"), directory.path().join("deploys.jsonl"));
    std::fs::write(&recorded, otlp).expect("is writable");
    std::fs::write(&marked, deploys).expect("is writable");
    let output = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["backtest", "-o", "json", "--otlp"])
        .args([&recorded, std::path::Path::new("--deploys"), &marked])
        .output()
        .expect("the binary runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{complaint}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The odd words of a verdict.
fn odd_words(verdict: &Value) -> Vec<&str> {
    let words = verdict["data_quality"].as_array().expect("a list");
    words.iter().filter_map(Value::as_str).filter(|word| ODD.contains(word)).collect()
}

/// Judges a good and a bad deploy whose telemetry was made odd: the good one is answered `good`, the bad one is called
/// regressed and blamed on the version deployed, and both verdicts say what is odd.
fn judged(good: &str, words: &[&str], started_s: u64, odd: &dyn Fn(u64, &mut Vec<Span>)) -> [Value; 2] {
    [false, true].map(|bad| {
        let verdict = backtest(&recording(bad, odd), &marker("payment", started_s)).remove(0);
        assert_eq!(verdict["verdict"], if bad { "regressed" } else { good }, "bad: {bad}: {verdict:#}");
        assert_eq!(odd_words(&verdict), words, "bad: {bad}: {verdict:#}");
        if bad {
            let culprit = &verdict["findings"][0]["culprit"];
            assert_eq!((&culprit["service"], &culprit["version"]), (&"payment".into(), &"2.0.0".into()), "{verdict:#}");
        }
        verdict
    })
}

#[test]
fn telemetry_as_it_should_be_is_judged_without_a_word() {
    judged("pass", &[], BEFORE_S, &|_, _| {});
}

#[test]
fn clocks_minutes_apart_are_said_and_neither_hide_nor_make_a_regression() {
    judged("pass", &["clock_skew"], BEFORE_S, &|_, spans| {
        for span in spans.iter_mut().filter(|span| span.service == "payment") {
            (span.start, span.end) = (span.start + 3 * MINUTE_NS, span.end + 3 * MINUTE_NS);
        }
    });
    // A service whose clock is minutes behind has not fallen silent.
    judged("pass", &["clock_skew"], BEFORE_S, &|_, spans| {
        for span in spans.iter_mut().filter(|span| span.service == "payment") {
            (span.start, span.end) = (span.start - 3 * MINUTE_NS, span.end - 3 * MINUTE_NS);
        }
    });
    // Of the new version's hosts alone.
    judged("pass", &["clock_skew"], BEFORE_S, &|_, spans| {
        for span in spans.iter_mut().filter(|span| span.is_canary()) {
            (span.start, span.end) = (span.start - 3 * MINUTE_NS, span.end - 3 * MINUTE_NS);
        }
    });
}

#[test]
fn spans_an_hour_late_count_where_they_belong() {
    // An exporter hands over what it could not send in an outage an hour ago: every one of it failed.
    judged("pass", &["late_spans"], BEFORE_S, &|second, spans| {
        if second >= BEFORE_S + 60 {
            let mut late: Vec<Span> = spans.iter().filter(|span| span.service == "payment").cloned().collect();
            for span in &mut late {
                (span.start, span.end) = (span.start - 70 * MINUTE_NS, span.end - 70 * MINUTE_NS);
                (span.trace, span.version, span.failed) = (span.trace + (1 << 40), Some("1.0.0".to_owned()), true);
            }
            spans.append(&mut late);
        }
    });
}

#[test]
fn spans_of_another_day_count_when_they_are_received() {
    // The clock of one host in ten stands still since last month, or is hours ahead.
    for (behind, ahead) in [(30 * 24 * 60 * MINUTE_NS, 0), (0, 180 * MINUTE_NS)] {
        judged("pass", &["clock_skew", "misdated_spans"], BEFORE_S, &|_, spans| {
            for span in spans.iter_mut().filter(|span| span.is("payment", SERVER) && span.trace % 10 == 3) {
                (span.start, span.end) = (span.start + ahead - behind, span.end + ahead - behind);
            }
        });
    }
}

#[test]
fn spans_that_come_twice_are_said_and_change_no_answer() {
    judged("pass", &["duplicate_spans"], BEFORE_S, &|_, spans| spans.extend(spans.clone()));
    // A canary whose exporter sends everything again.
    judged("pass", &["duplicate_spans"], BEFORE_S, &|_, spans| {
        let mut again: Vec<Span> = spans.iter().filter(|span| span.is_canary()).cloned().collect();
        spans.append(&mut again);
    });
}

#[test]
fn traces_with_broken_parents_are_said_and_their_requests_judged() {
    judged("pass", &["broken_parents"], BEFORE_S, &|second, spans| {
        for span in spans.iter_mut().filter(|span| span.kind == INTERNAL) {
            // A parent that never came, and one that is its own.
            span.parent = if second % 2 == 0 { 7 } else { span.id };
        }
    });
    // A circle: no span of the service's own is above the other.
    judged("pass", &["broken_parents"], BEFORE_S, &|_, spans| {
        for span in spans.iter_mut().filter(|span| span.is("payment", SERVER)) {
            span.parent = span.id + 1;
        }
    });
}

#[test]
fn spans_that_end_before_they_start_are_said_and_their_requests_judged() {
    judged("pass", &["negative_durations"], BEFORE_S, &|second, spans| {
        for span in spans.iter_mut().filter(|span| span.service == "payment" && span.trace % 5 == second % 5) {
            (span.start, span.end) = (span.end, span.start);
        }
    });
}

#[test]
fn telemetry_without_a_version_is_judged_before_against_after_and_says_so() {
    let words = ["unversioned_telemetry", "version_missing"];
    for version in [None, Some(String::new())] {
        for bad in [false, true] {
            let odd = |_, spans: &mut Vec<Span>| spans.iter_mut().for_each(|span| span.version.clone_from(&version));
            let verdict = backtest(&recording(bad, &odd), &marker("payment", BEFORE_S)).remove(0);
            assert_eq!(verdict["verdict"], if bad { "regressed" } else { "pass" }, "{verdict:#}");
            assert_eq!(verdict["design"], "before_after");
            assert_eq!(odd_words(&verdict), words, "{verdict:#}");
        }
    }
    // A caller without a version takes nothing from the verdict on who has one.
    judged("pass", &[], BEFORE_S, &|_, spans| {
        spans.iter_mut().filter(|span| span.service == "gateway").for_each(|span| span.version = None);
    });
}

#[test]
fn a_version_for_every_pod_is_said_and_nothing_is_guessed_of_a_version_that_nobody_names() {
    for bad in [false, true] {
        let odd = |second: u64, spans: &mut Vec<Span>| {
            for span in spans.iter_mut().filter(|span| span.service == "payment") {
                // Pods come one after the other.
                let pod = (second / 20).min(30) - span.trace % 3 % (second / 20 + 1).min(3);
                span.version = span.version.take().map(|version| format!("{version}-{}", letters(pod)));
            }
        };
        let verdict = backtest(&recording(bad, &odd), &marker("payment", BEFORE_S)).remove(0);
        assert_eq!(verdict["verdict"], "inconclusive", "{verdict:#}");
        assert_eq!(odd_words(&verdict), ["version_churn"], "{verdict:#}");
        let words = verdict["data_quality"].as_array().expect("a list");
        assert!(words.contains(&"no_candidate_traffic".into()), "{verdict:#}");
    }
}

#[test]
fn a_marker_before_or_after_the_fact_is_said_and_judged_by_what_serves() {
    // It tells a start three minutes before the version comes, and three after.
    judged("pass", &["marked_early"], BEFORE_S - 180, &|_, _| {});
    judged("pass", &["marked_late"], BEFORE_S + 180, &|_, _| {});
    // Half a minute of either is no more than a rollout takes.
    judged("pass", &[], BEFORE_S - 30, &|_, _| {});
    judged("pass", &[], BEFORE_S + 30, &|_, _| {});
    // It came ten minutes after the start that it tells, or five before.
    for (created_s, word) in [(BEFORE_S + 600, "marked_late"), (0, "marked_ahead")] {
        for bad in [false, true] {
            let deploy = json!({
                "id": "dep_0123456789abcdef0123456789", "service": "payment", "environment": "prod", "version": "2.0.0",
                "kind": "release", "status": "running", "attributes": {}, "inferred": false,
                "started_at": time(BEFORE_S), "created_at": time(created_s),
            });
            let verdict = backtest(&recording(bad, &|_, _| {}), &deploy.to_string()).remove(0);
            assert_eq!(verdict["verdict"], if bad { "regressed" } else { "pass" }, "{verdict:#}");
            assert_eq!(odd_words(&verdict), [word], "{verdict:#}");
        }
    }
}

#[test]
fn a_deploy_of_a_service_never_seen_is_inconclusive_and_says_why() {
    let verdict = backtest(&recording(false, &|_, _| {}), &marker("ghost", BEFORE_S)).remove(0);
    assert_eq!((&verdict["verdict"], &verdict["recommendation"]), (&"inconclusive".into(), &"hold".into()));
    assert_eq!(verdict["data_quality"], json!(["no_baseline", "no_candidate_traffic"]), "{verdict:#}");
}

#[test]
fn a_hundred_deploys_at_once_hide_none() {
    let mut deploys: Vec<String> = (0..100).map(|number| marker(&format!("ghost-{number}"), BEFORE_S)).collect();
    deploys.insert(50, marker("payment", BEFORE_S));
    let verdicts = backtest(&recording(true, &|_, _| {}), &deploys.join("\n"));
    assert_eq!(verdicts.len(), 101);
    let regressed: Vec<&Value> = verdicts.iter().filter(|verdict| verdict["verdict"] == "regressed").collect();
    assert_eq!(regressed.len(), 1);
    assert_eq!(regressed[0]["findings"][0]["culprit"]["service"], "payment");
}

#[test]
fn bombs_of_names_are_put_together_and_said_and_judged_as_one() {
    // Every request has an operation of its own.
    let every = |_, spans: &mut Vec<Span>| {
        for span in spans.iter_mut().filter(|span| span.is("payment", SERVER)) {
            span.name = format!("GET /{}", letters(span.trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
    };
    judged("pass", &["collapsed_operations"], BEFORE_S, &every);
    // The new version alone no longer tells its routes: nothing is there to compare with, and an objective is held up.
    let canary = |_, spans: &mut Vec<Span>| {
        for span in spans.iter_mut().filter(|span| span.is("payment", SERVER) && span.is_canary()) {
            span.name = format!("GET /{}", letters(span.trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
    };
    let [good, _] = judged("inconclusive", &["collapsed_operations"], BEFORE_S, &canary);
    assert!(good["data_quality"].as_array().expect("a list").contains(&"new_operation".into()), "{good:#}");
    // Every failure is an exception of its own type: none of them is news.
    judged("pass", &[], BEFORE_S, &|_, spans| {
        for span in spans.iter_mut().filter(|span| span.is("payment", SERVER) && span.failed) {
            span.exception = Some(format!("{}Error", letters(span.trace.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
        }
    });
}
