//! A sink as it is configured, and what is wrong with it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, de};

use crate::egress::Guard;
use crate::retry::RetryPolicy;
use crate::secret::{Secret, Secrets, SigningKey};

/// The longest time that a sink may be given for its answer.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

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

/// What sorts of sink there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkType {
    /// The signed event, as it is, to any address.
    Webhook,
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
    /// Where events are sent, by `POST`.
    pub url: String,
    /// `whsec_` and base64 of the signing key; a list while keys are being exchanged.
    #[serde(default)]
    pub secret: Secrets,
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
    /// Makes a webhook with the usual limits.
    pub fn webhook(name: impl Into<String>, url: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: SinkType::Webhook,
            url: url.into(),
            secret: Secrets::One(Secret::new(secret)),
            allow_private: false,
            timeout: default_timeout(),
            headers: BTreeMap::new(),
        }
    }

    /// Returns everything that is wrong with this sink; empty where nothing is.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut bad = |key: &str, problem: String| problems.push(format!("sink `{}`: `{key}` {problem}", self.name));
        if self.name.is_empty() {
            bad("name", "is empty".to_owned());
        }
        match Url::parse(&self.url) {
            Err(error) => bad("url", format!("is not an address: {error}")),
            Ok(url) => {
                if !matches!(url.scheme(), "http" | "https") {
                    bad("url", format!("has the scheme `{}`: use `https` or `http`", url.scheme()));
                }
                if !url.username().is_empty() || url.password().is_some() {
                    bad("url", "has a user or password in it: put them into `headers`, as `authorization`".to_owned());
                }
                let guard = Guard { allow_private: self.allow_private };
                if let Some(Err(refused)) = url.host_str().map(|host| guard.check_literal(host)) {
                    bad("url", format!("cannot be used: {refused}"));
                }
            }
        }
        let secrets = self.secret.as_slice();
        if secrets.is_empty() {
            bad("secret", "is missing: give `whsec_` and the base64 of 24 to 64 random bytes".to_owned());
        }
        for (at, secret) in (1..).zip(secrets) {
            if let Err(problem) = SigningKey::parse(secret) {
                let which = if secrets.len() > 1 { format!("number {at} ") } else { String::new() };
                bad("secret", format!("{which}{problem}"));
            }
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            bad("timeout", format!("is {:?}: use more than zero and at most {TIMEOUT_MAX:?}", self.timeout));
        }
        for (name, value) in &self.headers {
            if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                bad("headers", format!("sets `{name}`, which cannot be chosen"));
            } else if name.parse::<HeaderName>().is_err() {
                bad("headers", format!("has `{name}`, which is not the name of a header"));
            } else if HeaderValue::from_str(value.expose()).is_err() {
                bad("headers", format!("has a value for `{name}` that a header cannot carry"));
            }
        }
        problems
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

/// Checks sinks without making any connection.
///
/// # Errors
/// Everything that is wrong, all at once, one message each.
pub fn check_sinks(sinks: &[SinkConfig]) -> Result<(), Vec<String>> {
    let mut problems: Vec<String> = sinks.iter().flat_map(SinkConfig::problems).collect();
    let mut names = HashSet::new();
    for sink in sinks {
        if !names.insert(sink.name.as_str()) {
            problems.push(format!("sink `{}`: `name` is used more than once", sink.name));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What is wrong with the configured sinks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct AlertError {
    /// One message for each problem.
    pub problems: Vec<String>,
}
