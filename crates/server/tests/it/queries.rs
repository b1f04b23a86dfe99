//! The query of each finding gives the numbers that the finding states: every sort of finding, out of a real store.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::calling::ACTION;
use crate::numbers::mismatches;
use crate::server::Running;
use crate::telling::{export, heartbeat, now_s, rfc3339};

/// Seconds recorded in all, and before the deploys, which start in the middle of a minute. What falls silent then does so more
/// than a quarter of an hour before it is received, or it would be taken to be late by as much for two minutes.
const RECORDED_S: u64 = 2_880;
const BEFORE_S: u64 = 1_830;
/// Seconds that one export holds.
pub(crate) const STEP_S: u64 = 30;

/// What one service emits in one version within one step.
#[derive(Default)]
pub(crate) struct Emitted {
    pub(crate) spans: Vec<Value>,
    logs: Vec<Value>,
    metrics: Vec<Value>,
}

/// Telemetry as it is written down, export by export.
pub(crate) struct Recording {
    start_s: u64,
    spans: u64,
    lines: Vec<String>,
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn pairs(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| text(key, value)).collect()
}

/// Says whether the deploys have begun.
pub(crate) fn is_since(second: u64) -> bool {
    second >= BEFORE_S
}

impl Recording {
    fn at_ns(&self, second: u64) -> u64 {
        (self.start_s + second) * 1_000_000_000
    }

    /// One request of its own trace, within half a second of `second`.
    pub(crate) fn span(&mut self, second: u64, name: &str, failed: bool) -> Value {
        self.spans += 1;
        let end = self.at_ns(second) + 400_000_000 + self.spans % 50 * 1_000_000;
        json!({
            "traceId": format!("{:032x}", self.spans), "spanId": format!("{:016x}", self.spans),
            "name": name, "kind": 2,
            "startTimeUnixNano": (end - 20_000_000 - self.spans % 7 * 1_000_000).to_string(),
            "endTimeUnixNano": end.to_string(),
            "status": if failed { json!({ "code": 2 }) } else { json!({}) },
        })
    }

    fn log(&self, second: u64, severity: u64, body: &str) -> Value {
        json!({
            "timeUnixNano": (self.at_ns(second) + 450_000_000).to_string(), "severityNumber": severity,
            "body": { "stringValue": body },
        })
    }

    /// A point of a metric, dated.
    fn point(&self, second: u64, mut point: Value) -> Value {
        point["timeUnixNano"] = json!(self.at_ns(second).to_string());
        point["startTimeUnixNano"] = json!(self.at_ns(second.saturating_sub(STEP_S)).to_string());
        point
    }

    pub(crate) fn emit(&mut self, service: &str, resource: &[(&str, &str)], emitted: Emitted) {
        let mut attributes = vec![text("service.name", service), text("deployment.environment.name", "prod")];
        attributes.extend(resource.iter().map(|(key, value)| text(key, value)));
        let resource = json!({ "attributes": attributes });
        let Emitted { spans, logs, metrics } = emitted;
        if !spans.is_empty() {
            let scopes = json!([{ "spans": spans }]);
            self.push(json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": scopes }] }));
        }
        if !logs.is_empty() {
            let scopes = json!([{ "logRecords": logs }]);
            self.push(json!({ "resourceLogs": [{ "resource": resource, "scopeLogs": scopes }] }));
        }
        if !metrics.is_empty() {
            let scopes = json!([{ "metrics": metrics }]);
            self.push(json!({ "resourceMetrics": [{ "resource": resource, "scopeMetrics": scopes }] }));
        }
    }

    fn push(&mut self, line: Value) {
        self.lines.push(line.to_string());
    }

    /// Two requests a second by version; `of` says by second and number which version serves it, if any, and whether it fails.
    fn requests(&mut self, service: &str, from: u64, of: impl Fn(u64, u64) -> Option<(&'static str, bool)>) {
        for version in ["1", "2"] {
            let mut emitted = Emitted::default();
            for (second, n) in (from..from + STEP_S).flat_map(|second| [(second, 2 * second), (second, 2 * second + 1)])
            {
                if let Some((_, failed)) = of(second, n).filter(|(of, _)| *of == version) {
                    emitted.spans.push(self.span(second, "GET /cart", failed));
                }
            }
            self.emit(service, &[("service.version", version)], emitted);
        }
    }

    /// All services through one step.
    fn step(&mut self, from: u64) {
        // Serves side by side, and falls silent.
        self.requests("silent", from, |second, n| {
            let candidate = is_since(second) && n % 2 == 0;
            (!candidate || second < BEFORE_S + 120).then_some((if candidate { "2" } else { "1" }, false))
        });
        // Three of four requests no longer come.
        self.requests("thin", from, |second, n| {
            let version = if is_since(second) && n % 8 == 0 { "2" } else { "1" };
            (!is_since(second) || n % 4 == 0).then_some((version, false))
        });
        self.talk(from);
        self.settle(from);
        self.sample(from);
        self.zoned(from);
        self.enter(from);
        self.restart(from);
        self.flag(from);
        self.levels(from);
        self.measure(from);
        self.requests("seller", from, |second, n| {
            Some((if is_since(second) && n % 4 == 0 { "2" } else { "1" }, false))
        });
        self.sell(from);
        self.complete(from);
        self.ask(from);
    }

    /// Orders that follow requests, a quarter of which the candidate gets, and of which it loses four in five.
    fn sell(&mut self, from: u64) {
        let at = from + 5;
        for (version, orders) in [("1", if is_since(at) { 45 } else { 60 } + from / 30 % 3), ("2", 3)] {
            if version == "1" || is_since(at) {
                let point = self.point(at, json!({ "asInt": orders.to_string() }));
                let sum = json!({ "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point] });
                let metrics = vec![json!({ "name": "shop.orders.placed", "unit": "{order}", "sum": sum })];
                self.emit("seller", &[("service.version", version)], Emitted { metrics, ..Emitted::default() });
            }
        }
    }

    /// A new exception, a new error message, and far more of one that there always was.
    fn talk(&mut self, from: u64) {
        for version in ["1", "2"] {
            let mut emitted = Emitted::default();
            for second in from..from + STEP_S {
                let candidate = version == "2";
                if candidate && !is_since(second) {
                    continue;
                }
                let failed = candidate && second % 5 == 0;
                let mut span = self.span(second, "POST /order", failed);
                if failed {
                    let attributes =
                        pairs(&[("exception.type", "NoStock"), ("exception.message", "nothing left of it")]);
                    let at = span["endTimeUnixNano"].clone();
                    span["events"] = json!([{ "name": "exception", "timeUnixNano": at, "attributes": attributes }]);
                    let body = format!("stock of {second} pieces went away");
                    emitted.logs.push(self.log(second, 17, &body));
                }
                emitted.spans.push(span);
                let times = if candidate { 2 } else { u64::from(second % 10 == 0) };
                for _ in 0..times {
                    emitted.logs.push(self.log(second, 17, &format!("asking again for {second} keys")));
                }
                // Of no matter: the same at another level.
                emitted.logs.push(self.log(second, 9, &format!("asking again for {second} keys")));
            }
            self.emit("talker", &[("service.version", version)], emitted);
        }
    }

    /// A change of configuration after which a message is no longer logged; the same at another level goes on.
    fn settle(&mut self, from: u64) {
        let mut emitted = Emitted::default();
        for second in from..from + STEP_S {
            for _ in 0..2 {
                emitted.spans.push(self.span(second, "GET /route", false));
                if !is_since(second) {
                    emitted.logs.push(self.log(second, 9, &format!("routes found for {second} places")));
                }
            }
            if second % 5 == 0 {
                emitted.logs.push(self.log(second, 13, &format!("routes found for {second} places")));
            }
        }
        self.emit("router", &[("service.version", "1")], emitted);
    }

    /// All failures are kept and one in four of the rest.
    fn sample(&mut self, from: u64) {
        for version in ["1", "2"] {
            let mut emitted = Emitted::default();
            for second in from..from + STEP_S {
                let candidate = version == "2";
                if candidate && !is_since(second) {
                    continue;
                }
                let failed = if candidate { second % 3 == 0 } else { second % 25 == 0 };
                let mut span = self.span(second, "GET /picture", failed);
                span["traceState"] = json!(if failed { "ot=th:0" } else { "ot=th:c" });
                emitted.spans.push(span);
            }
            self.emit("sampled", &[("service.version", version)], emitted);
        }
    }

    /// The better zone has most of the candidate, which fails more there.
    fn zoned(&mut self, from: u64) {
        for (version, zone, every) in [("1", "a", 1), ("1", "b", 1), ("2", "a", 1), ("2", "b", 6)] {
            let mut emitted = Emitted::default();
            for second in (from..from + STEP_S).filter(|second| second % every == 0) {
                let candidate = version == "2";
                if candidate && !is_since(second) {
                    continue;
                }
                let failed = if candidate { second % 4 == 0 } else { second % if zone == "b" { 3 } else { 25 } == 0 };
                emitted.spans.push(self.span(second, "GET /zone", failed));
            }
            self.emit("zoned", &[("service.version", version), ("cloud.availability_zone", zone)], emitted);
        }
    }

    /// Requests that fail at the top where the candidate took part, which itself says nothing; some ask both versions.
    fn enter(&mut self, from: u64) {
        let (mut top, mut parts) = (Emitted::default(), [Emitted::default(), Emitted::default()]);
        for second in from..from + STEP_S {
            for n in [2 * second, 2 * second + 1] {
                let candidate = is_since(second) && n % 2 == 0;
                let both = is_since(second) && n % 20 == 0;
                let entry = self.span(second, "GET /shop", candidate && n % 6 == 0);
                let [end, start] = ["endTimeUnixNano", "startTimeUnixNano"].map(|key| entry[key].clone());
                for (version, part) in parts.iter_mut().enumerate() {
                    if usize::from(candidate) == version || both {
                        let mut span = self.span(second, "GET /price", false);
                        span["traceId"] = entry["traceId"].clone();
                        span["parentSpanId"] = entry["spanId"].clone();
                        (span["startTimeUnixNano"], span["endTimeUnixNano"]) = (start.clone(), end.clone());
                        part.spans.push(span);
                    }
                }
                top.spans.push(entry);
            }
        }
        self.emit("shop", &[("service.version", "5")], top);
        for (part, version) in parts.into_iter().zip(["1", "2"]) {
            self.emit("pricing", &[("service.version", version)], part);
        }
    }

    /// An instance that starts again every forty seconds.
    fn restart(&mut self, from: u64) {
        for version in ["1", "2"] {
            let candidate = version == "2";
            let begun = if candidate { from / 40 * 40 } else { 0 };
            let mut emitted = Emitted::default();
            for second in (from..from + STEP_S).filter(|second| !candidate || is_since(*second)) {
                emitted.spans.push(self.span(second, "GET /loop", false));
            }
            let began = rfc3339(self.start_s + begun.max(if candidate { BEFORE_S } else { 0 }));
            let instance = format!("instance-{version}");
            let mut resource = vec![("service.version", version), ("service.instance.id", instance.as_str())];
            if candidate {
                resource.push(("process.creation.time", &began));
            }
            self.emit("looper", &resource, emitted);
        }
    }

    /// One version, and a flag that breaks those who get it.
    fn flag(&mut self, from: u64) {
        let mut emitted = Emitted::default();
        for second in from..from + STEP_S {
            for n in [2 * second, 2 * second + 1] {
                let on = is_since(second) && n % 2 == 0;
                let mut span = self.span(second, "GET /flagged", on && n % 6 == 0);
                let variant = if on { "on" } else { "off" };
                span["attributes"] =
                    pairs(&[("feature_flag.key", "new-cart"), ("feature_flag.result.variant", variant)]);
                emitted.spans.push(span);
            }
        }
        self.emit("flagged", &[("service.version", "7")], emitted);
    }

    /// Levels once a minute: by version of the resource side by side, and by version of the points one after the other.
    fn levels(&mut self, from: u64) {
        if !from.is_multiple_of(60) {
            return;
        }
        let wander = 1.0 + 0.04 * (((from / 60 * 2_654_435_761) >> 7) % 1_000) as f64 / 1_000.0;
        for (version, at) in [("1", from + 5), ("2", from + 35)] {
            if version == "2" && !is_since(at) {
                continue;
            }
            let used = 3e8 * wander * if version == "2" { 3.0 } else { 1.0 };
            let points = [("used", used), ("free", 9e9)].map(|(state, value)| {
                self.point(at, json!({ "asDouble": value, "attributes": pairs(&[("state", state)]) }))
            });
            let metrics =
                vec![json!({ "name": "process.memory.usage", "unit": "By", "gauge": { "dataPoints": points } })];
            self.emit("leaking", &[("service.version", version)], Emitted { metrics, ..Emitted::default() });
        }
        let at = from + 5;
        let (version, times) = if is_since(at) { ("2", 4.0) } else { ("1", 1.0) };
        let point =
            self.point(at, json!({ "asDouble": 40.0 * wander * times, "attributes": pairs(&[("version", version)]) }));
        let metrics = vec![json!({ "name": "kpi.queue_length", "gauge": { "dataPoints": [point] } })];
        self.emit("bare", &[], Emitted { metrics, ..Emitted::default() });
    }

    /// Requests that metrics alone count: durations by version of the points, and counters with failures apart.
    fn measure(&mut self, from: u64) {
        let at = from + 5;
        let mut points = Vec::new();
        for (version, status, counts) in [
            ("1", "200", [2_u64, 10, 40, 8, 0, 0, 0, 0]),
            ("2", "200", [1, 0, 4, 10, 30, 5, 0, 0]),
            ("2", "500", [0, 0, 0, 4, 6, 2, 0, 0]),
        ] {
            if version == "2" && !is_since(at) {
                continue;
            }
            let attributes = pairs(&[
                ("service.version", version),
                ("http.request.method", "GET"),
                ("http.route", "/list"),
                ("http.response.status_code", status),
            ]);
            points.push(self.point(
                at,
                json!({
                    "count": counts.iter().sum::<u64>().to_string(), "sum": 0.03 * counts.iter().sum::<u64>() as f64,
                    "bucketCounts": counts.map(|n| n.to_string()),
                    "explicitBounds": [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5], "attributes": attributes,
                }),
            ));
        }
        let histogram = json!({ "aggregationTemporality": 1, "dataPoints": points });
        let metrics = vec![json!({ "name": "http.server.request.duration", "unit": "s", "histogram": histogram })];
        self.emit("timed", &[], Emitted { metrics, ..Emitted::default() });
        for version in ["1", "2"] {
            let candidate = version == "2";
            if candidate && !is_since(at) {
                continue;
            }
            let (requests, failures) = match (candidate, is_since(at)) {
                (true, _) => (30, 11),
                (false, true) => (30, 0),
                (false, false) => (300, 1),
            };
            let attributes = pairs(&[("http.request.method", "GET"), ("http.route", "/count")]);
            let metrics = [("http_requests_total", requests), ("http_requests_failed_total", failures)].map(|(name, n)| {
                let point = self.point(at, json!({ "asInt": n.to_string(), "attributes": attributes.clone() }));
                json!({ "name": name, "sum": { "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point] } })
            });
            self.emit(
                "counted",
                &[("service.version", version)],
                Emitted { metrics: metrics.into(), ..Emitted::default() },
            );
        }
    }
}

/// Every service with the findings that are expected of it, by signal and unit.
const EXPECTED: [(&str, &[(&str, &str)]); 16] = [
    ("silent", &[("silence", "requests/s")]),
    ("thin", &[("throughput", "requests/s")]),
    ("talker", &[("new_exception", "ratio"), ("new_log", "ratio"), ("new_log", "messages/request")]),
    ("router", &[("new_log", "messages/request")]),
    ("sampled", &[("error_rate", "ratio")]),
    ("zoned", &[("error_rate", "ratio")]),
    ("pricing", &[("error_rate", "ratio")]),
    ("looper", &[("silence", "restarts/h")]),
    ("flagged", &[("error_rate", "ratio")]),
    ("leaking", &[("metric", "level")]),
    ("bare", &[("metric", "level")]),
    ("seller", &[("metric", "level")]),
    ("checkout", &[("throughput", "actions/request")]),
    ("basket", &[("throughput", "calls/request")]),
    ("timed", &[("metric", "ratio"), ("metric", "ms")]),
    ("counted", &[("metric", "ratio"), ("throughput", "requests/s")]),
];

fn marker(service: &str, started_at: &str) -> Value {
    let mut marker = json!({ "service": service, "environment": "prod", "version": "2", "started_at": started_at });
    match service {
        "router" => (marker["version"], marker["kind"]) = (json!("1"), json!("config")),
        "flagged" => {
            (marker["version"], marker["kind"]) = (json!("7"), json!("flag"));
            marker["attributes"] = json!({ "feature_flag.key": "new-cart", "feature_flag.result.variant": "on" });
        }
        _ => {}
    }
    marker
}

/// Says what is not as expected of one service.
async fn complaints(server: &Running, path: &str, expected: &[(&str, &str)]) -> Vec<String> {
    let (_, verdict) = server.get(path).await;
    let (sorts, mut wrong) = mismatches(server, &verdict).await;
    for (signal, unit) in expected {
        if !sorts.contains(&((*signal).to_owned(), (*unit).to_owned())) {
            wrong.push(format!("no finding of `{signal}` in {unit}: {verdict}"));
        }
    }
    // One callee is asked more often, and another less.
    let all = || verdict["findings"].as_array().into_iter().flatten();
    if all().filter(|finding| finding["unit"] == "calls/request").count() == 1 {
        wrong.push(format!("calls to one of two callees: {verdict}"));
    }
    // Served from other zones it is held against the control in those.
    let plain = |finding: &Value| {
        finding["service"] == "zoned" && !finding["summary"].to_string().contains("in the zones that it serves")
    };
    if all().any(plain) {
        wrong.push(format!("the control is not told by zone: {verdict}"));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_of_every_sort_of_finding_gives_the_numbers_that_it_states() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Running::start_with(directory, |config| {
        config.watch.infer_deploys = false;
        config.watch.actions = vec![ACTION.to_owned()];
        config.watch.interval = Duration::from_millis(500);
    })
    .await;
    let mut recording = Recording { start_s: now_s() / 60 * 60 - RECORDED_S, spans: 0, lines: Vec::new() };
    (0..RECORDED_S).step_by(STEP_S as usize).for_each(|from| recording.step(from));
    for line in &recording.lines {
        export(&server, line).await;
    }
    // Paths are known once their traces are closed, which takes as long as others send.
    let closed = json!({ "query": "SELECT sum(count) FROM signals WHERE kind = 'path' AND name = 'GET /shop'" });
    for n in 0..240 {
        let (_, answer) = server.post("/api/v1/sql", &closed).await;
        if answer["rows"][0][0].as_f64() >= Some(2.0 * RECORDED_S as f64) {
            break;
        }
        export(&server, &heartbeat(1_000 + n)).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let started_at = rfc3339(recording.start_s + BEFORE_S);
    let mut open = Vec::new();
    for (service, expected) in EXPECTED {
        let (status, deploy) = server.post("/api/v1/deploys", &marker(service, &started_at)).await;
        assert_eq!(status, StatusCode::CREATED, "{deploy}");
        let id = deploy["id"].as_str().expect("an id");
        open.push((service, format!("/api/v1/deploys/{id}/verdict"), expected, Vec::new()));
    }
    // Numbers that are stored lag behind while traces are still being closed.
    for n in 0..480 {
        for (_, path, expected, wrong) in &mut open {
            *wrong = complaints(&server, path, expected).await;
        }
        open.retain(|(.., wrong)| !wrong.is_empty());
        if open.is_empty() {
            server.stop().await;
            return;
        }
        export(&server, &heartbeat(n)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let wrong: Vec<String> = open
        .iter()
        .flat_map(|(service, _, _, wrong)| wrong.iter().map(move |one| format!("{service}: {one}")))
        .collect();
    panic!("{} queries give other numbers than their findings:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
