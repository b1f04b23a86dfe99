//! Sinks as they are configured, and what is said about bad ones.

use std::time::Duration;

use plimsoll_alert::{AlertOptions, Deliverer, Secret, SinkConfig, SinkType};
use plimsoll_model::ServiceKey;
use serde_json::json;

use super::catalog::{Outbox, Time};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn problems(sinks: Vec<SinkConfig>) -> Vec<String> {
    match Deliverer::new(AlertOptions::new(sinks), Outbox::new(), Time::new().clock()) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems,
    }
}

#[test]
fn a_sink_is_read_as_the_documentation_writes_it() {
    let sink: SinkConfig = serde_json::from_value(json!({
        "name": "ops", "type": "webhook", "url": "https://hooks.example.com/plimsoll", "secret": SECRET, "allow_private": false,
    }))
    .expect("is one");
    assert_eq!(sink, SinkConfig::webhook("ops", "https://hooks.example.com/plimsoll", SECRET));
    assert_eq!(problems(vec![sink]), Vec::<String>::new());
    let full: SinkConfig = serde_json::from_value(json!({
        "name": "ops", "type": "webhook", "url": "http://10.0.0.1/x", "secret": [SECRET, SECRET], "allow_private": true,
        "timeout": "2500ms", "headers": {"authorization": "Bearer abc"},
    }))
    .expect("is one");
    assert_eq!(full.timeout, Duration::from_millis(2500));
    assert_eq!(problems(vec![full]), Vec::<String>::new());
}

#[test]
fn unknown_types_keys_and_durations_are_named() {
    let error = |value| serde_json::from_value::<SinkConfig>(value).expect_err("is not one").to_string();
    let text = error(json!({"name": "a", "type": "pager", "url": "https://example.com", "secret": SECRET}));
    assert!(text.contains("`pager`") && text.contains("`webhook`"), "{text}");
    let text = error(json!({"name": "a", "type": "webhook", "url": "https://example.com", "secrets": SECRET}));
    assert!(text.contains("`secrets`") && text.contains("`secret`"), "{text}");
    let text = error(json!({"name": "a", "type": "webhook", "url": "https://example.com", "timeout": "ten"}));
    assert!(text.contains("`ten` is not a duration"), "{text}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let url = |url: &str| SinkConfig::webhook("ops", url, SECRET);
    let mut sinks = vec![
        SinkConfig { name: "a".into(), ..url("not an address") },
        SinkConfig { name: "b".into(), ..url("ftp://example.com") },
        SinkConfig { name: "c".into(), ..url("https://user:pass@example.com") },
        SinkConfig { name: "d".into(), ..url("http://169.254.169.254/latest") },
        SinkConfig { name: "e".into(), timeout: Duration::from_secs(3600), ..url("https://example.com") },
        SinkConfig::webhook("f", "https://example.com", "hunter2"),
        SinkConfig::webhook("g", "https://example.com", "whsec_not base64"),
        SinkConfig::webhook("h", "https://example.com", "whsec_"),
        SinkConfig { secret: plimsoll_alert::Secrets::None, ..SinkConfig::webhook("i", "https://example.com", "") },
        SinkConfig::webhook("ops", "https://example.com", SECRET),
        SinkConfig::webhook("ops", "https://example.com", SECRET),
    ];
    let header = |name: &str, value: &str| (name.to_owned(), plimsoll_alert::Secret::new(value));
    sinks[0].headers =
        [header("Webhook-Id", "x"), header("a b", "x"), header("x-ok", "line\nbreak")].into_iter().collect();
    let found = problems(sinks);
    let expected = [
        ("sink `a`: `url`", "is not an address"),
        ("sink `a`: `headers`", "`Webhook-Id`, which cannot be chosen"),
        ("sink `a`: `headers`", "`a b`, which is not the name"),
        ("sink `a`: `headers`", "`x-ok` that a header cannot carry"),
        ("sink `b`: `url`", "`ftp`"),
        ("sink `c`: `url`", "user or password"),
        ("sink `d`: `url`", "169.254.169.254, which is not a public address: set `allow_private`"),
        ("sink `e`: `timeout`", "at most 60s"),
        ("sink `f`: `secret`", "does not start with `whsec_`"),
        ("sink `g`: `secret`", "is not standard base64"),
        ("sink `h`: `secret`", "is empty"),
        ("sink `i`: `secret`", "is missing"),
        ("sink `ops`", "`name` is used more than once"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((found, (start, part)), at) in found.iter().zip(expected).zip(0..) {
        assert!(found.starts_with(start) && found.contains(part), "problem {at}: {found}");
        assert!(!found.contains("hunter2") && !found.contains("pass@"), "{found}");
    }
}

#[test]
fn each_kind_of_sink_is_held_to_what_it_needs() {
    const KEY: &str = "0123456789abcdef0123456789ABCDEF";
    let page = |name: &str, key: &str| SinkConfig {
        routing_key: Some(Secret::new(key)),
        ..SinkConfig::new(SinkType::Pagerduty, name, "")
    };
    let mesh = |name: &str, url: &str| SinkConfig::new(SinkType::Alertmanager, name, url);
    let good = vec![
        page("a", KEY),
        SinkConfig {
            severity: Some("warning".into()),
            url: "https://events.eu.pagerduty.com/v2/enqueue".into(),
            ..page("b", KEY)
        },
        SinkConfig { severity: Some("page".into()), ..mesh("c", "https://alerts.example.com") },
        SinkConfig::new(SinkType::Slack, "d", "https://hooks.slack.com/services/T/B/x"),
    ];
    assert_eq!(problems(good), Vec::<String>::new());
    let label = |name: &str| SinkConfig {
        labels: [(name.to_owned(), "x".to_owned())].into(),
        ..mesh("labels", "https://alerts.example.com")
    };
    let expected = [
        (page("a", "too short"), "sink `a`: `routing_key` is not the 32 letters and digits"),
        (SinkConfig { routing_key: None, ..page("b", "") }, "sink `b`: `routing_key` is missing"),
        (SinkConfig { severity: Some("page".into()), ..page("c", KEY) }, "`severity` is `page`: use one of `critical`"),
        (mesh("d", ""), "sink `d`: `url` is missing: give the address of an Alertmanager"),
        (mesh("e", "http://10.0.0.7:9093"), "10.0.0.7, which is not a public address: set `allow_private`"),
        (label("service"), "`labels` sets `service`, which is Plimsoll's to set"),
        (label("team-name"), "`labels` has `team-name`: use letters"),
        (label("7"), "`labels` has `7`: use letters"),
        (SinkConfig::new(SinkType::Slack, "f", ""), "`url` is missing: give the address of an incoming webhook"),
        (
            SinkConfig {
                severity: Some("critical".into()),
                ..SinkConfig::new(SinkType::Slack, "g", "https://a.example")
            },
            "`severity` is of no use to a sink of type `slack`: only to `pagerduty` and `alertmanager`",
        ),
        (
            SinkConfig { routing_key: Some(Secret::new(KEY)), ..SinkConfig::webhook("h", "https://a.example", SECRET) },
            "`routing_key` is of no use to a sink of type `webhook`: only to `pagerduty`",
        ),
        (SinkConfig { services: vec!["cart ".into()], ..page("i", KEY) }, "`services` has a name that begins or ends"),
    ];
    for (sink, part) in expected {
        let found = problems(vec![sink]);
        assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
        assert!(!found[0].contains("too short") && !found[0].contains(KEY), "{found:?}");
    }
}

#[test]
fn a_sink_hears_of_the_environments_and_services_that_it_names() {
    let all = SinkConfig::webhook("ops", "https://example.com", SECRET);
    let some =
        SinkConfig { environments: vec!["prod".into()], services: vec!["cart".into(), "sto*".into()], ..all.clone() };
    let hears = |sink: &SinkConfig, environment, service| sink.hears_of(&ServiceKey::new(environment, service));
    assert!(hears(&all, "staging", "mail"));
    assert!(hears(&some, "prod", "cart") && hears(&some, "prod", "stock"));
    assert!(hears(&some, "prod", "storefront"));
    assert!(!hears(&some, "prod", "carts"));
    assert!(!hears(&some, "prod", "mail") && !hears(&some, "staging", "cart"));
}

#[test]
fn the_keys_of_a_sink_are_those_that_are_read() {
    let unknown =
        serde_json::from_value::<SinkConfig>(json!({ "no such key": 1 })).expect_err("no such key").to_string();
    for key in SinkConfig::KEYS {
        assert!(unknown.contains(&format!("`{key}`")), "{key}: {unknown}");
    }
    assert_eq!(unknown.matches('`').count(), 2 * (SinkConfig::KEYS.len() + 1), "{unknown}");
}

#[test]
fn nothing_secret_is_printed() {
    let mut sink = SinkConfig::webhook("ops", "https://hooks.example.com/token-in-path?key=in-query", SECRET);
    sink.headers.insert("authorization".to_owned(), plimsoll_alert::Secret::new("Bearer in-header"));
    sink.routing_key = Some(Secret::new("in-routing-key"));
    let text = format!("{sink:?} {:?}", AlertOptions::new(vec![sink.clone()]));
    assert!(text.contains("https://hooks.example.com") && text.contains("authorization"), "{text}");
    for secret in ["whsec_", "token-in-path", "in-query", "in-header", "in-routing-key"] {
        assert!(!text.contains(secret), "{text}");
    }
}
