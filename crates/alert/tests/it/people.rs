//! What PagerDuty, Alertmanager and Slack receive, field by field.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_alert::{AlertOptions, Deliverer, Secret, SinkConfig, SinkType};
use plimsoll_catalog::DeliveryOutcome;
use plimsoll_model::{EventKind, RegressionEvent, UnixNanos};
use serde_json::{Value, json};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::catalog::{Outbox, START, Time};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const FIRST: &str = "payment 2.0.0 `POST /charge` fails 5.1 % of calls against 0.9 % on 1.9.3 (4.1x-7.8x, 3,412 calls)";

fn finding(id: &str, summary: &str, symptom: bool) -> Value {
    json!({
        "id": id, "signal": "error_rate", "service": "payment", "operation": "POST /charge",
        "culprit": { "service": "bank <eu>", "version": "7", "operation": "POST /hold" },
        "baseline": { "value": 0.009, "n": 12000 }, "candidate": { "value": 0.051, "n": 3412 }, "unit": "ratio",
        "effect": 5.7, "interval": [4.1, 7.8], "e_value": 412.0, "p_value": 0.0024,
        "exemplars": ["4bf92f35", "a", "b", "c"], "sql": "SELECT 1", "summary": summary, "symptom": symptom,
    })
}

/// An event as the watcher queues it.
fn event(kind: EventKind, findings: Vec<Value>) -> RegressionEvent {
    let summary =
        findings.first().map_or("payment 2.0.0 is worse", |finding| finding["summary"].as_str().expect("text"));
    let summary = if kind == EventKind::Resolved { format!("recovered: {summary}") } else { summary.to_owned() };
    let at = |seconds: u64| UnixNanos::from_secs(START + seconds).to_rfc3339();
    serde_json::from_value(json!({
        "specversion": "1.0", "id": "evt_1", "source": "/plimsoll", "type": kind, "subject": "prod/shop/payment/dep_1",
        "time": at(70), "datacontenttype": "application/json",
        "data": {
            "deploy": {
                "id": "dep_1", "environment": "prod", "namespace": "shop", "service": "payment", "version": "2.0.0",
                "previous_version": "1.9.3", "actor": "release & co", "commit": "0a1b2c",
                "run_url": "https://ci.example.com/run?id=7&x=1", "started_at": at(0), "created_at": at(0),
            },
            "verdict": {
                "deploy_id": "dep_1", "verdict": "regressed", "decided": true, "recommendation": "rollback",
                "design": "concurrent", "started_at": at(0), "decided_at": at(70), "time_to_decide_s": null,
                "findings": findings, "data_quality": [], "phase": "confirmed", "summary": summary,
                "evaluated_at": at(70), "revision": 3,
            },
            "links": { "ui": "https://plimsoll.example.com/deploys/dep_1", "api": "https://plimsoll.example.com/api/v1/deploys/dep_1" },
        },
    }))
    .expect("an event")
}

fn detected() -> RegressionEvent {
    event(EventKind::Detected, vec![finding("fnd_1", FIRST, false), finding("fnd_2", "it is slow <too>", false)])
}

/// Delivers one event to one sink and returns what it was sent, and how that ended.
async fn delivered(mut sink: SinkConfig, server: &MockServer, body: &str, now: u64) -> (Vec<Value>, DeliveryOutcome) {
    sink.url = format!("{}{}", server.uri(), sink.url);
    sink.allow_private = true;
    let (outbox, time) = (Outbox::new(), Time::new());
    time.pass(Duration::from_secs(now));
    outbox.queue("evt_1", &sink.name, body, time.now());
    let options = AlertOptions { poll_interval: Duration::from_secs(3600), ..AlertOptions::new(vec![sink]) };
    let catalog = Arc::clone(&outbox);
    let deliverer = Deliverer::new(options, catalog, time.clock()).expect("the sink is good");
    let task = tokio::spawn(async move { deliverer.run(std::future::pending()).await });
    let outcome = outbox.settled(1).await.remove(0).2;
    task.abort();
    let received = server.received_requests().await.expect("requests are kept");
    (received.iter().map(|request| request.body_json().expect("is JSON")).collect(), outcome)
}

async fn sent(sink: SinkConfig, event: &RegressionEvent, answer: u16, at: &str) -> Value {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(at))
        .and(header("content-type", "application/json"))
        .respond_with(ResponseTemplate::new(answer))
        .mount(&server)
        .await;
    let body = serde_json::to_string(event).expect("serialises");
    let (mut bodies, outcome) = delivered(sink, &server, &body, 80).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(bodies.len(), 1);
    bodies.remove(0)
}

fn pagerduty() -> SinkConfig {
    SinkConfig { routing_key: Some(Secret::new(KEY)), ..SinkConfig::new(SinkType::Pagerduty, "page", "/v2/enqueue") }
}

fn alertmanager(path: &str) -> SinkConfig {
    let labels = [("team".to_owned(), "shop".to_owned())].into();
    SinkConfig { labels, ..SinkConfig::new(SinkType::Alertmanager, "mesh", path) }
}

fn slack() -> SinkConfig {
    SinkConfig::new(SinkType::Slack, "chat", "/services/T/B/x")
}

#[tokio::test]
async fn pagerduty_gets_an_incident_that_tells_what_to_do_and_where_to_look() {
    let body = sent(pagerduty(), &detected(), 202, "/v2/enqueue").await;
    assert_eq!(body["routing_key"], KEY);
    assert_eq!(body["event_action"], "trigger");
    assert_eq!(body["dedup_key"], "plimsoll/dep_1");
    assert_eq!(body["client_url"], "https://plimsoll.example.com/deploys/dep_1");
    assert_eq!(
        body["links"],
        json!([
            { "href": "https://plimsoll.example.com/deploys/dep_1", "text": "Verdict" },
            { "href": "https://ci.example.com/run?id=7&x=1", "text": "Pipeline run" },
        ])
    );
    let payload = &body["payload"];
    assert_eq!(payload["summary"], format!("payment 2.0.0 regressed in prod: {FIRST}"));
    assert_eq!(payload["source"], "prod/shop/payment");
    assert_eq!((&payload["severity"], &payload["class"]), (&json!("critical"), &json!("error_rate")));
    assert_eq!((&payload["component"], &payload["group"]), (&json!("bank <eu>"), &json!("prod")));
    assert_eq!(payload["timestamp"], "2023-11-14T22:14:30Z");
    let details = &payload["custom_details"];
    assert_eq!((&details["advice"], &details["previous_version"]), (&json!("roll back"), &json!("1.9.3")));
    assert_eq!(details["findings"][0]["exemplars"], json!(["4bf92f35", "a", "b"]));
    assert_eq!(details["findings"][1]["summary"], "it is slow <too>");
    assert!(details.get("repository").is_none() && details.get("data_quality").is_none(), "{details}");
}

#[tokio::test]
async fn pagerduty_closes_the_incident_that_it_opened() {
    let resolved = event(EventKind::Resolved, vec![finding("fnd_1", FIRST, false)]);
    let body = sent(pagerduty(), &resolved, 202, "/v2/enqueue").await;
    assert_eq!(body, json!({ "routing_key": KEY, "event_action": "resolve", "dedup_key": "plimsoll/dep_1" }));
}

#[tokio::test]
async fn however_much_there_is_to_say_it_stays_within_the_limits_of_its_receivers() {
    let long = "ü<&".repeat(5_000);
    let mut event = event(EventKind::Detected, (0..40).map(|n| finding(&format!("fnd_{n}"), &long, false)).collect());
    event.data.deploy.service.service = long.clone();
    event.data.deploy.run_url = Some("not an address".to_owned());
    let body = sent(pagerduty(), &event, 202, "/v2/enqueue").await;
    let summary = body["payload"]["summary"].as_str().expect("text");
    assert_eq!(summary.chars().count(), 1_024);
    assert!(summary.ends_with('…') && body.to_string().len() < 512 << 10);
    assert_eq!(body["payload"]["custom_details"]["findings_left_out"], 35);
    assert_eq!(body["links"].as_array().expect("a list").len(), 1, "what cannot be opened is no link");

    let body = sent(slack(), &event, 200, "/services/T/B/x").await;
    for block in body["blocks"].as_array().expect("a list") {
        let texts = [&block["text"]["text"]]
            .into_iter()
            .chain(block["fields"].as_array().into_iter().flatten().map(|f| &f["text"]));
        let most = match block["type"].as_str() {
            Some("header") => 150,
            Some("section") if block["fields"].is_array() => 2_000,
            _ => 3_000,
        };
        for text in texts.filter_map(Value::as_str) {
            assert!(text.chars().count() <= most, "{} characters of {most}", text.chars().count());
        }
    }
}

#[tokio::test]
async fn alertmanager_gets_an_alert_that_lasts_and_whose_labels_stay() {
    let body = sent(alertmanager(""), &detected(), 200, "/api/v2/alerts").await;
    let alert = &body[0];
    let labels = json!({
        "alertname": "PlimsollRegression", "deploy_id": "dep_1", "environment": "prod", "namespace": "shop",
        "service": "payment", "severity": "critical", "team": "shop", "version": "2.0.0",
    });
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["startsAt"], "2023-11-14T22:13:20Z");
    assert_eq!(alert["endsAt"], "2023-11-15T22:14:30Z", "a day, unless it is resolved before");
    assert_eq!(alert["generatorURL"], "https://plimsoll.example.com/deploys/dep_1");
    assert_eq!(alert["annotations"]["summary"], format!("payment 2.0.0 regressed in prod: {FIRST}"));
    assert_eq!(alert["annotations"]["description"], format!("- {FIRST}\n- it is slow <too>"));
    assert_eq!(alert["annotations"]["advice"], "roll back");

    let resolved = event(EventKind::Resolved, vec![finding("fnd_9", "something else", false)]);
    let body = sent(alertmanager("/am/"), &resolved, 200, "/am/api/v2/alerts").await;
    assert_eq!(body[0]["labels"], labels, "the same labels are the same alert");
    assert_eq!(body[0]["endsAt"], "2023-11-14T22:14:30Z");
    assert_eq!(body[0]["annotations"]["summary"], "payment 2.0.0 recovered in prod: something else");
}

#[tokio::test]
async fn an_end_that_a_fast_clock_puts_into_the_future_is_now() {
    let mut resolved = event(EventKind::Resolved, Vec::new());
    resolved.time = UnixNanos::from_secs(START + 500);
    let body = sent(alertmanager("/api/v2/alerts"), &resolved, 200, "/api/v2/alerts").await;
    assert_eq!(body[0]["endsAt"], "2023-11-14T22:14:40Z");
}

#[tokio::test]
async fn slack_gets_blocks_and_a_line_for_notifications() {
    let body = sent(slack(), &detected(), 200, "/services/T/B/x").await;
    assert_eq!(body["text"], format!(":rotating_light: payment 2.0.0 regressed in prod: {FIRST}"));
    let blocks = &body["blocks"];
    assert_eq!(
        blocks[0],
        json!({ "type": "header", "text": { "type": "plain_text", "text": "payment 2.0.0 regressed in prod" } })
    );
    assert_eq!(blocks[1]["text"], json!({ "type": "mrkdwn", "text": format!(":rotating_light: {FIRST}") }));
    let fields: Vec<_> =
        blocks[2]["fields"].as_array().expect("a list").iter().map(|f| f["text"].as_str().expect("text")).collect();
    assert_eq!(
        fields,
        [
            "*Service*\nprod/shop/payment",
            "*Version*\n2.0.0 (was 1.9.3)",
            "*Advice*\nroll back",
            "*By*\nrelease &amp; co"
        ]
    );
    assert_eq!(blocks[3]["text"]["text"], "*Also*\n• it is slow &lt;too&gt;");
    assert_eq!(
        blocks[4]["elements"][0]["text"],
        "<https://plimsoll.example.com/deploys/dep_1|Verdict and evidence>  ·  \
         <https://ci.example.com/run?id=7&amp;x=1|Pipeline run>  ·  `dep_1`"
    );
    let resolved = event(EventKind::Resolved, vec![finding("fnd_1", FIRST, false), finding("fnd_2", "x", false)]);
    let body = sent(slack(), &resolved, 200, "/services/T/B/x").await;
    assert_eq!(body["text"], format!(":white_check_mark: payment 2.0.0 recovered in prod: {FIRST}"));
    assert_eq!(body["blocks"].as_array().expect("a list").len(), 4, "what was wrong is not told again");
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_asked_again_and_an_event_that_nobody_can_read_is_given_up() {
    for sink in [pagerduty(), alertmanager("/api/v2/alerts"), slack()] {
        let server = MockServer::start().await;
        let busy = ResponseTemplate::new(429).insert_header("retry-after", "30").set_body_string("slow down");
        Mock::given(method("POST")).respond_with(busy).mount(&server).await;
        let body = serde_json::to_string(&detected()).expect("serialises");
        let (_, outcome) = delivered(sink.clone(), &server, &body, 0).await;
        let DeliveryOutcome::Retry { due_at, error } = outcome else { panic!("{outcome:?}") };
        assert_eq!(due_at, UnixNanos::from_secs(START + 30));
        assert!(error.starts_with("answered 429") && error.ends_with("slow down"), "{error}");
        assert!(!error.contains(KEY) && !error.contains("/services/"), "{error}");

        let server = MockServer::start().await;
        let (bodies, outcome) = delivered(sink, &server, "{}", 0).await;
        assert!(
            matches!(&outcome, DeliveryOutcome::Failed { error } if error.contains("cannot be read")),
            "{outcome:?}"
        );
        assert!(bodies.is_empty());
    }
}
