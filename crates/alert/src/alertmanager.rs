//! Alertmanager: one alert for one deploy, told apart by labels that never change while it lasts.
//!
//! *Source.* Alertmanager API v2, `POST /api/v2/alerts`. Alertmanager forgets an alert without an end after its
//! `resolve_timeout` unless it is sent again; this one carries an end that lies as far ahead as a regression is watched.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use plimsoll_model::{EventKind, RegressionEvent, UnixNanos};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::config::SinkConfig;
use crate::post::Post;
use crate::sink::{Answer, Attempt, Sink, event_of};
use crate::words::{FINDINGS_MAX, advice, causes, headline, title, to_the_millisecond};

/// What the alert is called.
const NAME: &str = "PlimsollRegression";

/// How long an alert lasts if nobody ends it: as long as a confirmed regression is watched for its end.
const LASTS: Duration = Duration::from_secs(24 * 3_600);

/// Labels that Plimsoll sets, which `labels` cannot.
pub(crate) const LABELS: [&str; 7] =
    ["alertname", "deploy_id", "environment", "namespace", "service", "severity", "version"];

/// One Alertmanager; of a cluster each member is a sink of its own.
pub(crate) struct Alertmanager {
    post: Post,
    severity: String,
    labels: BTreeMap<String, String>,
}

impl Alertmanager {
    /// Makes the sink of a configuration that was checked.
    pub(crate) fn new(config: &SinkConfig) -> Result<Self, String> {
        Ok(Self { post: Post::new(config)?, severity: config.severity().to_owned(), labels: config.labels.clone() })
    }
}

/// Completes the address of an Alertmanager to that of its alerts; whoever gives all of it is left alone.
pub(crate) fn alerts_of(mut url: Url) -> Url {
    if !url.path().ends_with("/alerts") {
        let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url
}

/// Says whether every Alertmanager takes this as the name of a label.
pub(crate) fn is_label(name: &str) -> bool {
    !name.starts_with("__")
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[async_trait]
impl Sink for Alertmanager {
    async fn deliver(&self, attempt: Attempt<'_>) -> Answer {
        let event = match event_of(attempt) {
            Ok(event) => event,
            Err(answer) => return answer,
        };
        let body = json!([alert(&event, &self.severity, &self.labels, attempt.at)]).to_string();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        self.post.send(headers, body, attempt.at).await
    }
}

fn alert(event: &RegressionEvent, severity: &str, more: &BTreeMap<String, String>, now: UnixNanos) -> Value {
    let deploy = &event.data.deploy;
    let mut labels: BTreeMap<&str, &str> = more.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    labels.extend([
        ("alertname", NAME),
        ("deploy_id", deploy.id.as_str()),
        ("environment", deploy.service.environment.as_str()),
        ("namespace", deploy.service.namespace.as_str()),
        ("service", deploy.service.service.as_str()),
        ("severity", severity),
        ("version", deploy.version.as_str()),
    ]);
    // To Alertmanager a label without a value is none.
    labels.retain(|_, value| !value.is_empty());
    let findings: Vec<_> = causes(event).iter().take(FINDINGS_MAX).map(|f| format!("- {}", f.summary)).collect();
    let mut annotations = BTreeMap::from([
        ("summary", headline(event)),
        ("title", title(event)),
        ("description", findings.join("\n")),
        ("advice", advice(event).to_owned()),
        ("verdict_api", event.data.links.api.clone()),
    ]);
    annotations.extend(deploy.run_url.clone().map(|url| ("run_url", url)));
    annotations.extend(deploy.commit.clone().map(|commit| ("commit", commit)));
    annotations.extend(deploy.actor.clone().map(|actor| ("actor", actor)));
    annotations.retain(|_, value| !value.is_empty());
    let starts = deploy.started_at.min(event.time);
    let ends = match event.kind {
        // Over is over: an end that some clock puts ahead of now would leave the alert firing.
        EventKind::Resolved => event.time.min(now).max(starts + Duration::from_millis(1)),
        EventKind::Detected | EventKind::Updated => event.time + LASTS,
    };
    json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": to_the_millisecond(starts),
        "endsAt": to_the_millisecond(ends),
        "generatorURL": event.data.links.ui,
    })
}
