//! PagerDuty: one incident for one deploy, opened, kept up to date and resolved.
//!
//! *Source.* PagerDuty Events API v2: `summary` at most 1,024 characters, `dedup_key` at most 255, an event at most 512 KB.

use async_trait::async_trait;
use plimsoll_model::{EventKind, RegressionEvent};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::config::SinkConfig;
use crate::post::Post;
use crate::secret::Secret;
use crate::sink::{Answer, Attempt, Sink, event_of};
use crate::words::{FINDINGS_MAX, advice, causes, cut, headline, openable, to_the_millisecond};

/// Where events go unless `url` says otherwise; accounts in the EU have `https://events.eu.pagerduty.com/v2/enqueue`.
pub(crate) const ADDRESS: &str = "https://events.pagerduty.com/v2/enqueue";

/// Severities that PagerDuty knows, worst first.
pub(crate) const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];

/// Length of a routing key.
pub(crate) const ROUTING_KEY_CHARS: usize = 32;

const SUMMARY_CHARS: usize = 1_024;
const DETAIL_CHARS: usize = 2_000;
const EXEMPLARS_MAX: usize = 3;

/// One service of PagerDuty.
pub(crate) struct PagerDuty {
    post: Post,
    routing_key: Secret,
    severity: String,
}

impl PagerDuty {
    /// Makes the sink of a configuration that was checked.
    pub(crate) fn new(config: &SinkConfig) -> Result<Self, String> {
        let routing_key = config.routing_key.clone().ok_or("`routing_key` is missing")?;
        Ok(Self { post: Post::new(config)?, routing_key, severity: config.severity().to_owned() })
    }
}

#[async_trait]
impl Sink for PagerDuty {
    async fn deliver(&self, attempt: Attempt<'_>) -> Answer {
        let event = match event_of(attempt) {
            Ok(event) => event,
            Err(answer) => return answer,
        };
        let body = payload(&event, self.routing_key.expose(), &self.severity).to_string();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        self.post.send(headers, body, attempt.at).await
    }
}

fn payload(event: &RegressionEvent, routing_key: &str, severity: &str) -> Value {
    let deploy = &event.data.deploy;
    // One deploy, one incident: later events update it, and the last one closes it.
    let dedup_key = format!("plimsoll/{}", cut(deploy.id.as_str(), 200));
    if event.kind == EventKind::Resolved {
        return json!({ "routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key });
    }
    let causes = causes(event);
    let first = causes.first();
    let ui = &event.data.links.ui;
    let mut links = vec![json!({ "href": ui, "text": "Verdict" })];
    if let Some(run) = deploy.run_url.as_deref().and_then(openable) {
        links.push(json!({ "href": run, "text": "Pipeline run" }));
    }
    let component = first.map_or(deploy.service.service.as_str(), |finding| finding.culprit.service.as_str());
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": "Plimsoll",
        "client_url": ui,
        "links": links,
        "payload": {
            "summary": cut(&headline(event), SUMMARY_CHARS),
            "source": cut(&deploy.service.to_string(), SUMMARY_CHARS),
            "severity": severity,
            "timestamp": to_the_millisecond(event.time),
            "component": cut(component, SUMMARY_CHARS),
            "group": cut(&deploy.service.environment, SUMMARY_CHARS),
            "class": first.map_or("regression", |finding| finding.signal.as_str()),
            "custom_details": details(event),
        },
    })
}

/// Says what a responder wants to know before opening anything.
fn details(event: &RegressionEvent) -> Value {
    let (deploy, verdict) = (&event.data.deploy, &event.data.verdict);
    let short = |text: &Option<String>| text.as_deref().map(|text| cut(text, DETAIL_CHARS));
    let causes = causes(event);
    let findings: Vec<_> = causes
        .iter()
        .take(FINDINGS_MAX)
        .map(|finding| {
            json!({
                "summary": cut(&finding.summary, DETAIL_CHARS),
                "culprit": finding.culprit,
                "exemplars": finding.exemplars.iter().take(EXEMPLARS_MAX).collect::<Vec<_>>(),
                "sql": cut(&finding.sql, DETAIL_CHARS),
            })
        })
        .collect();
    let mut details = json!({
        "advice": advice(event),
        "deploy_id": deploy.id,
        "environment": deploy.service.environment,
        "namespace": deploy.service.namespace,
        "service": deploy.service.service,
        "version": deploy.version,
        "previous_version": short(&deploy.previous_version),
        "commit": short(&deploy.commit),
        "repository": short(&deploy.repository),
        "actor": short(&deploy.actor),
        "started_at": deploy.started_at,
        "design": verdict.design,
        "findings": findings,
        "findings_left_out": causes.len().saturating_sub(FINDINGS_MAX),
        "data_quality": verdict.data_quality.iter().take(20).collect::<Vec<_>>(),
        "api": event.data.links.api,
    });
    if let Value::Object(details) = &mut details {
        details
            .retain(|_, value| !(value.is_null() || *value == json!("") || *value == json!([]) || *value == json!(0)));
    }
    details
}
