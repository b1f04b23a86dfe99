//! How client commands talk to the server.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use super::{ClientArgs, Failure, Outcome, variable};

/// Runs a client command to its end.
pub(super) fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?
        .block_on(command)
}

/// Where the API is unless somebody says otherwise.
const USUAL: &str = "http://127.0.0.1:4319";

/// Finds out who says something: who is named, else the user of this machine.
pub(super) fn whoever(named: Option<String>) -> Result<String, Failure> {
    named
        .or_else(|| variable("USER"))
        .filter(|name| !name.trim().is_empty())
        .ok_or_else(|| Failure::usage("nobody is named, and `USER` is not set: say who it is with `--actor NAME`"))
}

/// A server's API.
pub(crate) struct Api {
    base: String,
    token: Option<String>,
    client: Client,
}

impl Api {
    pub(crate) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let given = args.api.clone().or_else(|| variable("PLIMSOLL_API"));
        let base = given.as_deref().unwrap_or(USUAL).trim_end_matches('/').to_owned();
        if !(base.starts_with("http://") || base.starts_with("https://")) {
            return Err(Failure::usage(format!(
                "`--api {base}` must be an address such as `http://127.0.0.1:4319`, with http:// or https://"
            )));
        }
        let token = args.token.clone().or_else(|| variable("PLIMSOLL_TOKEN"));
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| Failure::failed(format!("cannot set up HTTP: {error}")))?;
        Ok(Self { base, token, client })
    }

    /// Starts a request to `path`, below `/api/v1`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and returns the response, if it is a success.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.no_answer(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    /// Sends a request and returns the JSON of the response, if it is a success.
    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Value, Failure> {
        self.send(request).await?.json().await.map_err(|error| self.no_answer(&error))
    }

    /// Sends a request, says whether anybody answered, and returns the JSON of the response, if it is a success.
    pub(crate) async fn reach(&self, request: RequestBuilder) -> (bool, Result<Value, Failure>) {
        match request.send().await {
            Ok(response) if response.status().is_success() => {
                (true, response.json().await.map_err(|error| self.no_answer(&error)))
            }
            Ok(response) => (true, Err(refused(response).await)),
            Err(error) => (false, Err(self.no_answer(&error))),
        }
    }

    pub(crate) fn no_answer(&self, error: &reqwest::Error) -> Failure {
        let reason = if error.is_timeout() {
            "no answer in time".to_owned()
        } else if error.is_connect() {
            "nothing answers there: is `plimsoll serve` running, and is `--api` right?".to_owned()
        } else {
            error.to_string()
        };
        Failure::unreachable(format!("{}: {reason}", self.base))
    }
}

/// Turns a problem document into words.
async fn refused(response: Response) -> Failure {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let problem: Option<Value> = serde_json::from_str(&text).ok();
    let detail = problem.as_ref().and_then(|p| p["detail"].as_str().or(p["title"].as_str())).unwrap_or(text.trim());
    let message = match status {
        StatusCode::UNAUTHORIZED => format!("{detail} (give `--token` or set `PLIMSOLL_TOKEN`)"),
        StatusCode::NOT_FOUND if detail.starts_with("there is no deploy `") => format!(
            "{detail}; the latest are: plimsoll sql \"SELECT id, service_name, version, started_at FROM deploys \
             ORDER BY started_at DESC LIMIT 10\""
        ),
        _ if detail.is_empty() => format!("the server answered {status}"),
        _ => detail.to_owned(),
    };
    match status {
        StatusCode::UNAUTHORIZED => Failure::usage(message),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::BAD_GATEWAY => {
            Failure::unreachable(message)
        }
        _ => Failure::failed(message),
    }
}
