//! One `POST` and what its answer means: what every sink over HTTP shares.
//!
//! *Invariants.* No redirect is followed, no proxy of the environment is used, and at most [`ANSWER_BYTES_MAX`] of an answer
//! are read.

use std::error::Error;
use std::time::Duration;

use plimsoll_model::UnixNanos;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};

use crate::config::SinkConfig;
use crate::egress::{Guard, Refused};
use crate::retry::parse_retry_after;
use crate::sink::Answer;

/// How much of an answer is read.
pub const ANSWER_BYTES_MAX: usize = 4 << 10;

/// How much of it is shown.
const SHOWN_CHARS: usize = 200;

/// An address that requests are posted to.
pub(crate) struct Post {
    client: Client,
    url: Url,
    timeout: Duration,
    guard: Guard,
}

impl Post {
    /// Makes the client of a configuration that was checked.
    pub(crate) fn new(config: &SinkConfig) -> Result<Self, String> {
        let url = config.address().map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is not the name of a header"))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let guard = Guard { allow_private: config.allow_private };
        let client = Client::builder()
            .user_agent(concat!("plimsoll/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(1)
            .dns_resolver(guard)
            .build()
            .map_err(|error| format!("no connections can be made: {}", chain(&error)))?;
        Ok(Self { client, url, timeout: config.timeout, guard })
    }

    /// Posts `body` at `at` and ends within the sink's timeout, whatever happens.
    pub(crate) async fn send(&self, headers: HeaderMap, body: String, at: UnixNanos) -> Answer {
        tokio::time::timeout(self.timeout, self.exchange(headers, body, at)).await.unwrap_or_else(|_| Answer::Again {
            after: None,
            problem: format!("no answer within {:?}: the sink's `timeout`", self.timeout),
        })
    }

    async fn exchange(&self, headers: HeaderMap, body: String, at: UnixNanos) -> Answer {
        if let Some(Err(refused)) = self.url.host_str().map(|host| self.guard.check_literal(host)) {
            return Answer::Again { after: None, problem: refused.to_string() };
        }
        match self.client.post(self.url.clone()).headers(headers).body(body).send().await {
            Ok(response) => judge(at, response).await,
            Err(error) => Answer::Again { after: None, problem: explain(error) },
        }
    }
}

async fn judge(at: UnixNanos, mut response: Response) -> Answer {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let after = header(RETRY_AFTER).and_then(|text| parse_retry_after(text, at));
    let location = header(LOCATION).map(place);
    let said = read(&mut response).await;
    let problem = format!("answered {status}{said}");
    if status.is_success() {
        Answer::Accepted
    } else if status == StatusCode::GONE {
        Answer::Gone { problem }
    } else if status.is_redirection() {
        let to = location.map(|to| format!(" to `{to}`")).unwrap_or_default();
        Answer::Again { after, problem: format!("answered {status}{to}, and redirects are not followed: change `url`") }
    } else {
        Answer::Again { after, problem }
    }
}

/// Reads the start of an answer; an answer that breaks off, or never ends, counts for what came of it.
async fn read(response: &mut Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - bytes.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    let text = shown(&String::from_utf8_lossy(&bytes));
    if text.is_empty() { text } else { format!(": {text}") }
}

/// Says where a redirect leads, without the path, which may repeat a secret.
fn place(location: &str) -> String {
    Url::parse(location).map_or_else(|_| "another path".to_owned(), |url| url.origin().ascii_serialization())
}

/// Makes foreign text fit for a log line.
fn shown(text: &str) -> String {
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(SHOWN_CHARS).collect()
}

/// Says what went wrong without the address, which may hold a secret.
fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(now) = cause {
        if let Some(refused) = now.downcast_ref::<Refused>() {
            return refused.to_string();
        }
        cause = now.source();
    }
    chain(&error)
}

/// Joins an error and what caused it, leaving out what repeats.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(now) = cause {
        let more = now.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = now.source();
    }
    text
}
