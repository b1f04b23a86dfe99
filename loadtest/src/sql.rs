//! SQL over Plimsoll's HTTP API, for checking what was stored.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;

/// A client of `POST /api/v1/sql`.
#[derive(Debug, Clone)]
pub struct Sql {
    http: reqwest::Client,
    api: String,
}

/// The answer to a query.
#[derive(Debug, Clone, Deserialize)]
pub struct Rows {
    /// One array a row, values in the order of the columns.
    pub rows: Vec<Vec<Value>>,
}

impl Sql {
    /// Makes a client of the server whose API is at `api`, for instance `http://127.0.0.1:4319`.
    pub fn new(api: impl Into<String>) -> Self {
        let api = api.into().trim_end_matches('/').to_owned();
        Self { http: reqwest::Client::new(), api }
    }

    /// Runs one query.
    ///
    /// # Errors
    /// The server cannot be reached or refuses the query.
    pub async fn query(&self, query: &str) -> Result<Rows, Error> {
        let failed = |problem: String| Error::Sql { query: query.to_owned(), problem };
        let response = self
            .http
            .post(format!("{}/api/v1/sql", self.api))
            .header("accept", "application/json")
            .timeout(Duration::from_secs(60))
            .json(&json!({ "query": query }))
            .send()
            .await
            .map_err(|problem| failed(format!("{problem:?}")))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|problem| failed(format!("{problem:?}")))?;
        if !status.is_success() {
            return Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))));
        }
        serde_json::from_slice(&body).map_err(|problem| failed(format!("unreadable answer: {problem}")))
    }

    /// Runs a query whose answer is one number.
    ///
    /// # Errors
    /// As for [`Self::query`], or the answer is something else.
    pub async fn number(&self, query: &str) -> Result<u64, Error> {
        let rows = self.query(query).await?.rows;
        let value = rows.first().and_then(|row| row.first()).and_then(integer);
        value.ok_or_else(|| Error::Sql { query: query.to_owned(), problem: format!("not one number: {rows:?}") })
    }

    /// Runs a query whose answer is one number until it is at least `wanted` or the time is up; returns the last answer.
    ///
    /// # Errors
    /// As for [`Self::number`].
    pub async fn at_least(&self, query: &str, wanted: u64, within: Duration) -> Result<u64, Error> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let found = self.number(query).await?;
            if found >= wanted || tokio::time::Instant::now() >= deadline {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads an integer that JSON may hold as a number or, past 2^53, as text.
pub(crate) fn integer(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
