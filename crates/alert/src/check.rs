//! What is wrong with sinks as they are configured, said before any of them is needed.

use std::collections::HashSet;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use crate::config::{SinkConfig, SinkType, TIMEOUT_MAX};
use crate::egress::Guard;
use crate::secret::SigningKey;
use crate::{alertmanager, pagerduty};

/// Headers that are Plimsoll's to set.
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Checks sinks without making any connection.
///
/// # Errors
/// Everything that is wrong, all at once, one message each.
pub fn check_sinks(sinks: &[SinkConfig]) -> Result<(), Vec<String>> {
    let mut problems: Vec<String> = sinks.iter().flat_map(problems_of).collect();
    let mut names = HashSet::new();
    for sink in sinks {
        if !names.insert(sink.name.as_str()) {
            problems.push(format!("sink `{}`: `name` is used more than once", sink.name));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Returns everything that is wrong with one sink.
fn problems_of(sink: &SinkConfig) -> Vec<String> {
    let mut found = Vec::new();
    if sink.name.is_empty() {
        found.push(("name", "is empty".to_owned()));
    }
    address(sink, &mut found);
    match sink.kind {
        SinkType::Webhook => secrets(sink, &mut found),
        SinkType::Pagerduty => paging(sink, &mut found),
        SinkType::Alertmanager => labels(sink, &mut found),
        SinkType::Slack => {}
    }
    misplaced(sink, &mut found);
    if sink.timeout.is_zero() || sink.timeout > TIMEOUT_MAX {
        found.push(("timeout", format!("is {:?}: use more than zero and at most {TIMEOUT_MAX:?}", sink.timeout)));
    }
    headers(sink, &mut found);
    for (key, names) in [("environments", &sink.environments), ("services", &sink.services)] {
        if names.iter().any(|name| name.trim() != name) {
            found.push((key, "has a name that begins or ends with a space, which nothing is called".to_owned()));
        }
    }
    found.into_iter().map(|(key, problem)| format!("sink `{}`: `{key}` {problem}", sink.name)).collect()
}

type Found = Vec<(&'static str, String)>;

fn address(sink: &SinkConfig, found: &mut Found) {
    if sink.url.is_empty() && sink.kind != SinkType::Pagerduty {
        let example = match sink.kind {
            SinkType::Slack => "the address of an incoming webhook, `https://hooks.slack.com/services/..`",
            SinkType::Alertmanager => "the address of an Alertmanager, for instance `http://alertmanager:9093`",
            _ => "the address that events are posted to",
        };
        found.push(("url", format!("is missing: give {example}")));
        return;
    }
    match sink.address() {
        Err(error) => found.push(("url", format!("is not an address: {error}"))),
        Ok(url) => reachable(sink, &url, found),
    }
}

fn reachable(sink: &SinkConfig, url: &Url, found: &mut Found) {
    if !matches!(url.scheme(), "http" | "https") {
        found.push(("url", format!("has the scheme `{}`: use `https` or `http`", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        found.push(("url", "has a user or password in it: put them into `headers`, as `authorization`".to_owned()));
    }
    let guard = Guard { allow_private: sink.allow_private };
    if let Some(Err(refused)) = url.host_str().map(|host| guard.check_literal(host)) {
        found.push(("url", format!("cannot be used: {refused}")));
    }
}

fn secrets(sink: &SinkConfig, found: &mut Found) {
    let secrets = sink.secret.as_slice();
    if secrets.is_empty() {
        found.push(("secret", "is missing: give `whsec_` and the base64 of 24 to 64 random bytes".to_owned()));
    }
    for (at, secret) in (1..).zip(secrets) {
        if let Err(problem) = SigningKey::parse(secret) {
            let which = if secrets.len() > 1 { format!("number {at} ") } else { String::new() };
            found.push(("secret", format!("{which}{problem}")));
        }
    }
}

fn paging(sink: &SinkConfig, found: &mut Found) {
    const WANTED: &str = "the 32 letters and digits of an integration key for Events API v2";
    match &sink.routing_key {
        None => found.push(("routing_key", format!("is missing: give {WANTED}"))),
        Some(key) => {
            let key = key.expose();
            if key.len() != pagerduty::ROUTING_KEY_CHARS || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                found.push(("routing_key", format!("is not {WANTED}")));
            }
        }
    }
    if !pagerduty::SEVERITIES.contains(&sink.severity()) {
        let known = pagerduty::SEVERITIES.map(|severity| format!("`{severity}`")).join(", ");
        found.push(("severity", format!("is `{}`: use one of {known}", sink.severity())));
    }
}

fn labels(sink: &SinkConfig, found: &mut Found) {
    for name in sink.labels.keys() {
        if alertmanager::LABELS.contains(&name.as_str()) {
            found.push(("labels", format!("sets `{name}`, which is Plimsoll's to set")));
        } else if !alertmanager::is_label(name) {
            found.push(("labels", format!("has `{name}`: use letters, digits and `_`, and no digit at the start")));
        }
    }
}

/// Finds keys that mean nothing to this kind of sink: whoever set them expects something of them.
fn misplaced(sink: &SinkConfig, found: &mut Found) {
    use SinkType::{Alertmanager, Pagerduty, Webhook};
    let mut only = |key: &'static str, set: bool, kinds: &[SinkType]| {
        if set && !kinds.contains(&sink.kind) {
            let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
            let problem =
                format!("is of no use to a sink of type `{}`: only to {}", sink.kind.as_str(), kinds.join(" and "));
            found.push((key, problem));
        }
    };
    only("secret", !sink.secret.as_slice().is_empty(), &[Webhook]);
    only("routing_key", sink.routing_key.is_some(), &[Pagerduty]);
    only("severity", sink.severity.is_some(), &[Pagerduty, Alertmanager]);
    only("labels", !sink.labels.is_empty(), &[Alertmanager]);
}

fn headers(sink: &SinkConfig, found: &mut Found) {
    for (name, value) in &sink.headers {
        if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            found.push(("headers", format!("sets `{name}`, which cannot be chosen")));
        } else if name.parse::<HeaderName>().is_err() {
            found.push(("headers", format!("has `{name}`, which is not the name of a header")));
        } else if HeaderValue::from_str(value.expose()).is_err() {
            found.push(("headers", format!("has a value for `{name}` that a header cannot carry")));
        }
    }
}
