//! Sinks as they are configured, and what is said about bad ones.

use std::time::Duration;

use plimsoll_alert::{AlertOptions, Deliverer, SinkConfig};
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
fn nothing_secret_is_printed() {
    let mut sink = SinkConfig::webhook("ops", "https://hooks.example.com/token-in-path?key=in-query", SECRET);
    sink.headers.insert("authorization".to_owned(), plimsoll_alert::Secret::new("Bearer in-header"));
    let text = format!("{sink:?} {:?}", AlertOptions::new(vec![sink.clone()]));
    assert!(text.contains("https://hooks.example.com") && text.contains("authorization"), "{text}");
    for secret in ["whsec_", "token-in-path", "in-query", "in-header"] {
        assert!(!text.contains(secret), "{text}");
    }
}
