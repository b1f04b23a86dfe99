//! A sink as it is configured.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use plimsoll_model::ServiceKey;
use plimsoll_model::service::names;
use reqwest::Url;
use serde::{Deserialize, Deserializer, de};

use crate::retry::RetryPolicy;
use crate::secret::{Secret, Secrets};
use crate::{alertmanager, pagerduty};

/// The longest time that a sink may be given for its answer.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What sorts of sink there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkType {
    /// The signed event, as it is, to any address.
    Webhook,
    /// PagerDuty, Events API v2.
    Pagerduty,
    /// Alertmanager, API v2.
    Alertmanager,
    /// A channel of Slack, by an incoming webhook.
    Slack,
}

impl SinkType {
    /// Returns its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Pagerduty => "pagerduty",
            Self::Alertmanager => "alertmanager",
            Self::Slack => "slack",
        }
    }
}

/// One entry of `alerts.sinks`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// What the outbox knows it by; unique, and best never changed while events are waiting.
    pub name: String,
    /// What sort it is.
    #[serde(rename = "type")]
    pub kind: SinkType,
    /// Where events are sent, by `POST`; PagerDuty has a default, and Alertmanager's needs no path.
    #[serde(default)]
    pub url: String,
    /// Webhooks: `whsec_` and base64 of the signing key; a list while keys are being exchanged.
    #[serde(default)]
    pub secret: Secrets,
    /// PagerDuty: the integration key of the service that is paged.
    #[serde(default)]
    pub routing_key: Option<Secret>,
    /// PagerDuty and Alertmanager: how bad a regression is; `critical` if not set.
    #[serde(default)]
    pub severity: Option<String>,
    /// Alertmanager: more labels, to route by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Environments whose regressions it gets; all if empty.
    #[serde(default)]
    pub environments: Vec<String>,
    /// Services whose regressions it gets; all if empty.
    #[serde(default)]
    pub services: Vec<String>,
    /// Lets the sink have a loopback or private address.
    #[serde(default)]
    pub allow_private: bool,
    /// How long an attempt may take, from the look-up of the name to the end of the answer.
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// More headers to send; their values are never printed.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration: SignedDuration =
        text.parse().map_err(|_| de::Error::custom(format!("`{text}` is not a duration, for instance `10s`")))?;
    duration.try_into().map_err(|_| de::Error::custom(format!("`{text}` is negative")))
}

impl SinkConfig {
    /// Every key that an entry of `alerts.sinks` may have.
    pub const KEYS: [&str; 12] = [
        "name",
        "type",
        "url",
        "secret",
        "routing_key",
        "severity",
        "labels",
        "environments",
        "services",
        "allow_private",
        "timeout",
        "headers",
    ];

    /// Makes a sink of a kind, with the usual limits and nothing that only some kinds have.
    pub fn new(kind: SinkType, name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            url: url.into(),
            secret: Secrets::None,
            routing_key: None,
            severity: None,
            labels: BTreeMap::new(),
            environments: Vec::new(),
            services: Vec::new(),
            allow_private: false,
            timeout: default_timeout(),
            headers: BTreeMap::new(),
        }
    }

    /// Makes a webhook with the usual limits.
    pub fn webhook(name: impl Into<String>, url: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { secret: Secrets::One(Secret::new(secret)), ..Self::new(SinkType::Webhook, name, url) }
    }

    /// Says whether this sink hears of regressions of a service.
    pub fn hears_of(&self, service: &ServiceKey) -> bool {
        let among = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|one| names(one, name));
        among(&self.environments, &service.environment) && among(&self.services, &service.service)
    }

    /// Returns the address that is posted to, with what its kind adds to `url`.
    pub(crate) fn address(&self) -> Result<Url, <Url as std::str::FromStr>::Err> {
        let text = match (self.kind, self.url.as_str()) {
            (SinkType::Pagerduty, "") => pagerduty::ADDRESS,
            (_, text) => text,
        };
        let url = Url::parse(text)?;
        Ok(if self.kind == SinkType::Alertmanager { alertmanager::alerts_of(url) } else { url })
    }

    /// Returns how bad a regression is to the receiver.
    pub(crate) fn severity(&self) -> &str {
        self.severity.as_deref().unwrap_or("critical")
    }
}

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths and queries of hook addresses are often secrets too.
        let origin = Url::parse(&self.url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        f.debug_struct("SinkConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("url", &format_args!("{origin}/***"))
            .field("secret", &self.secret)
            .field("routing_key", &self.routing_key)
            .field("severity", &self.severity)
            .field("labels", &self.labels)
            .field("environments", &self.environments)
            .field("services", &self.services)
            .field("allow_private", &self.allow_private)
            .field("timeout", &self.timeout)
            .field("headers", &self.headers)
            .finish()
    }
}

/// How events are delivered.
#[derive(Debug, Clone)]
pub struct AlertOptions {
    /// Where to.
    pub sinks: Vec<SinkConfig>,
    /// How often the outbox is looked into where nobody calls.
    pub poll_interval: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl AlertOptions {
    /// Makes options with the usual times.
    pub fn new(sinks: Vec<SinkConfig>) -> Self {
        Self { sinks, poll_interval: Duration::from_secs(1), retry: RetryPolicy::default() }
    }
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// What is wrong with the configured sinks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct AlertError {
    /// One message for each problem.
    pub problems: Vec<String>,
}
