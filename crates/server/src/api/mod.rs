//! REST, SQL over HTTP, health, metrics and the web page: the listener `--api`.
//!
//! | file | owns |
//! |---|---|
//! | `deploys.rs` | marking, listing and finishing deploys, decisions on them |
//! | `verdicts.rs` | verdicts and their explanation, the gate, regressions, deliveries |
//! | `feedback.rs` | what humans say of verdicts, and how often those were right |
//! | `past.rs` | replay of a verdict, past deploys judged from what is stored |
//! | `sql.rs` | queries and the format of their rows |
//! | `broken_off.rs` | why answers to queries broke off |
//! | `health.rs` | `/livez`, `/readyz` |
//! | `metrics.rs` | `/metrics` |
//! | `problem.rs` | errors |
//! | `openapi.json`, `page.html` | what is served as it stands |

mod broken_off;
mod deploys;
mod feedback;
mod health;
mod metrics;
mod past;
mod problem;
mod sql;
mod verdicts;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use plimsoll_catalog::Catalog;
use plimsoll_query::SqlEngine;
use plimsoll_verdict::TolerancePolicy;
use plimsoll_watch::Watcher;
use tokio_util::sync::CancellationToken;

use crate::serve::Stages;
pub use broken_off::BrokenOff;
pub(crate) use deploys::{LIMIT_MAX, ends_after_its_start};
pub use health::{Health, Reason};
pub use past::PastRoom;
pub use problem::Problem;
pub(crate) use verdicts::decided;

/// Largest body of a REST call; SQL text has a limit of its own.
const BODY_BYTES_MAX: usize = 2 << 20;

/// What the handlers work with.
#[derive(Clone)]
pub struct ApiState {
    /// Deploys, verdicts, decisions, deliveries.
    pub catalog: Arc<dyn Catalog>,
    /// Registers deploys and tells of verdicts.
    pub watcher: Arc<Watcher>,
    /// Answers SQL.
    pub engine: Arc<dyn SqlEngine>,
    /// Whether telemetry is taken.
    pub health: Arc<Health>,
    /// Everything that counts something.
    pub stages: Arc<Stages>,
    /// What counts as worse.
    pub tolerances: TolerancePolicy,
    /// Room for one that judges the past at a time.
    pub past: Arc<PastRoom>,
    /// Why answers to queries broke off.
    pub broken_off: Arc<BrokenOff>,
    /// Cancelled as soon as the server is told to stop: who waits for something is answered with what there is.
    pub stopping: CancellationToken,
    /// The bearer token to ask for, where one is set.
    pub token: Option<Arc<str>>,
}

/// Builds the router. Everything below `/api/v1` and `/metrics` asks for the token, where one is set; health and the page's shell,
/// which holds no data, do not.
pub fn router(state: ApiState) -> Router {
    let of_rows = Router::new()
        .route("/api/v1/deploys/{id}/explain", get(verdicts::explain))
        .route("/api/v1/deploys/{id}/replay", post(past::replay))
        .route("/api/v1/backtest", post(past::backtest))
        .layer(middleware::from_fn_with_state(state.clone(), once_replayed));
    let guarded = Router::new()
        .merge(of_rows)
        .route("/api/v1/deploys", post(deploys::create).get(deploys::list))
        .route("/api/v1/deploys/{id}", get(deploys::show))
        .route("/api/v1/deploys/{id}/finish", post(deploys::finish))
        .route("/api/v1/deploys/{id}/verdict", get(verdicts::show))
        .route("/api/v1/deploys/{id}/decisions", post(deploys::decide).get(deploys::decisions))
        .route("/api/v1/deploys/{id}/feedback", post(feedback::answer).get(feedback::list))
        .route("/api/v1/precision", get(feedback::precision))
        .route("/api/v1/verdicts", get(verdicts::list))
        .route("/api/v1/gate", get(verdicts::gate))
        .route("/api/v1/regressions", get(verdicts::regressions))
        .route("/api/v1/deliveries", get(verdicts::deliveries))
        .route("/api/v1/sql", post(sql::run).layer(DefaultBodyLimit::max(16 << 20)))
        .route("/api/v1/sql/{id}", get(broken_off::show))
        .route("/metrics", get(metrics::render))
        .layer(middleware::from_fn_with_state(state.clone(), authorise));
    Router::new()
        .route("/", get(page))
        .route("/deploys/{id}", get(page))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .merge(guarded)
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .with_state(state)
}

/// Lets through what reads rows once all of them are there.
async fn once_replayed(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match state.health.starting() {
        Some(reason) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}: try again in a moment")).into_response()
        }
        None => next.run(request).await,
    }
}

async fn authorise(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    if let Some(token) = &state.token {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(bearer).unwrap_or_default();
        if !same(given.as_bytes(), token.as_bytes()) {
            let detail = "this server asks for a token: send `Authorization: Bearer ..` with the value of `auth.token`";
            return Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
        }
    }
    next.run(request).await
}

/// Returns the token of an `Authorization` header. The scheme may be written in any case (RFC 9110, section 11.1).
pub(crate) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// Compares in a time that does not depend on where the two differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

async fn page() -> Response {
    let mut response = Html(include_str!("page.html")).into_response();
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        ),
    );
    response
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

async fn missing(request: Request) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("nothing is served at `{}`; `/api/v1/openapi.json` lists what is", request.uri().path()),
    )
}

async fn wrong_method(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "`{}` is not served at `{}`; `/api/v1/openapi.json` lists what is",
            request.method(),
            request.uri().path()
        ),
    )
}
