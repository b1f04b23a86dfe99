//! The API as a pipeline uses it: deploys are marked, listed, and their verdicts read.

use std::time::Duration;

use serde_json::{Value, json};

use super::scenario::Deploy;
use crate::Error;

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    pub(crate) fn new(base: String) -> Self {
        Self { http: reqwest::Client::new(), base }
    }

    /// Marks a deploy, which started at `started_at` where that is said.
    pub(super) async fn mark(&self, environment: &str, deploy: &Deploy, started_at: Option<u64>) -> Result<(), Error> {
        let mut marker = json!({
            "service": deploy.service,
            "environment": environment,
            "version": deploy.version,
            "kind": deploy.kind,
        });
        if let Some(at) = started_at {
            let at = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
            marker["started_at"] = json!(at.to_string());
        }
        if deploy.kind == "flag" {
            marker["attributes"] = json!({ "feature_flag.key": "new-flow", "feature_flag.result.variant": "on" });
        }
        self.announce(&marker).await
    }

    /// Announces a deploy.
    pub(crate) async fn announce(&self, marker: &Value) -> Result<(), Error> {
        let url = format!("{}/api/v1/deploys", self.base);
        let request = self.http.post(&url).json(marker).timeout(Duration::from_secs(30));
        self.answer(&url, request).await.map(drop)
    }

    /// Reads what the server counts, as OpenMetrics text.
    pub(crate) async fn metrics(&self) -> Result<String, Error> {
        let url = format!("{}/metrics", self.base);
        let failed =
            |problem: reqwest::Error| Error::Unreachable { address: url.clone(), problem: problem.to_string() };
        let request = self.http.get(&url).timeout(Duration::from_secs(30));
        let response = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        response.text().await.map_err(failed)
    }

    /// Lists the deploys of an environment.
    pub(super) async fn deploys(&self, environment: &str) -> Result<Vec<Value>, Error> {
        let url = format!("{}/api/v1/deploys?environment={environment}&limit=100", self.base);
        let request = self.http.get(&url).timeout(Duration::from_secs(30));
        let answer = self.answer(&url, request).await?;
        Ok(answer.as_array().cloned().unwrap_or_default())
    }

    /// Reads the verdict on a deploy.
    pub(super) async fn verdict(&self, id: &str) -> Result<Value, Error> {
        let url = format!("{}/api/v1/deploys/{id}/verdict", self.base);
        let request = self.http.get(&url).timeout(Duration::from_secs(30));
        self.answer(&url, request).await
    }

    async fn answer(&self, url: &str, request: reqwest::RequestBuilder) -> Result<Value, Error> {
        let failed = |problem: String| Error::Unreachable { address: url.to_owned(), problem };
        let response = request.send().await.map_err(|problem| failed(problem.to_string()))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|problem| failed(problem.to_string()))?;
        if !status.is_success() {
            return Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))));
        }
        serde_json::from_slice(&body).map_err(|problem| failed(format!("unreadable answer: {problem}")))
    }
}
