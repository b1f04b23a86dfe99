//! Marking, listing and finishing deploys, and decisions on them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use plimsoll_catalog::DeployFilter;
use plimsoll_model::{Decision, DecisionKind, Deploy, DeployId, DeployStatus, UnixNanos};
use plimsoll_watch::{FinishError, NewDeploy, RegisterError};
use serde::Deserialize;

use super::ApiState;
use super::problem::{Json, Path, Problem, Query};

/// Most rows of a listing.
pub(crate) const LIMIT_MAX: u32 = 1_000;

pub(super) async fn create(
    State(state): State<ApiState>,
    headers: HeaderMap,
    Json(marker): Json<NewDeploy>,
) -> Result<(StatusCode, axum::Json<Deploy>), Problem> {
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "`Idempotency-Key` must be visible ASCII text"))?,
        ),
    };
    let (watcher, key) = (Arc::clone(&state.watcher), key.map(str::to_owned));
    // A task of its own: what is recorded is also watched, though the client hangs up in between.
    let registered = tokio::spawn(async move { watcher.register(marker, key.as_deref()).await }).await;
    let (deploy, created) = registered
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "registering the deploy failed; try again"))??;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, axum::Json(deploy)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    service: Option<String>,
    namespace: Option<String>,
    environment: Option<String>,
    version: Option<String>,
    since: Option<String>,
    limit: Option<String>,
}

impl Listing {
    /// Checks it.
    pub(super) fn filter(self) -> Result<DeployFilter, Problem> {
        let mut problems = Vec::new();
        let since = self.since.as_deref().and_then(|text| {
            let at = UnixNanos::parse_rfc3339(text);
            if at.is_none() {
                problems
                    .push(format!("`since` is `{text}`: write it as RFC 3339, for instance `2026-01-31T12:00:00Z`"));
            }
            at
        });
        let limit = parse_limit(self.limit.as_deref(), &mut problems);
        if !problems.is_empty() {
            return Err(Problem::invalid(problems));
        }
        let Self { service, namespace, environment, version, .. } = self;
        Ok(DeployFilter { service, namespace, environment, version, since, limit })
    }
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Query(listing): Query<Listing>,
) -> Result<axum::Json<Vec<Deploy>>, Problem> {
    Ok(axum::Json(state.catalog.deploys(&listing.filter()?).await?))
}

/// Reads a `limit`; 100 where absent.
pub(super) fn parse_limit(text: Option<&str>, problems: &mut Vec<String>) -> u32 {
    let Some(text) = text else { return 100 };
    match text.parse() {
        Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => limit,
        _ => {
            problems.push(format!("`limit` is `{text}`: set it between 1 and {LIMIT_MAX}"));
            100
        }
    }
}

pub(super) async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Result<axum::Json<Deploy>, Problem> {
    let deploy = state.catalog.deploy(&DeployId::from_text(&id)).await?;
    deploy.map(axum::Json).ok_or_else(|| Problem::not_found("deploy", &id))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    status: DeployStatus,
    #[serde(default)]
    finished_at: Option<UnixNanos>,
}

pub(super) async fn finish(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Json(body): Json<Finish>,
) -> Result<axum::Json<Deploy>, Problem> {
    let id = DeployId::from_text(id);
    if let Some(at) = body.finished_at {
        let deploy = state.catalog.deploy(&id).await?.ok_or_else(|| Problem::not_found("deploy", id.as_str()))?;
        ends_after_its_start(&deploy, at).map_err(|detail| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))?;
    }
    Ok(axum::Json(state.watcher.finish(&id, body.status, body.finished_at).await?))
}

/// Says what is wrong where a deploy would end before it started.
pub(crate) fn ends_after_its_start(deploy: &Deploy, at: UnixNanos) -> Result<(), String> {
    if at >= deploy.started_at {
        return Ok(());
    }
    let (at, started_at) = (at.to_rfc3339(), deploy.started_at.to_rfc3339());
    Err(format!("`finished_at` is `{at}`: it must not lie before the deploy's `started_at`, `{started_at}`"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDecision {
    decision: DecisionKind,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn decide(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Json(body): Json<NewDecision>,
) -> Result<(StatusCode, axum::Json<Decision>), Problem> {
    let id = DeployId::from_text(id);
    let decision = state.watcher.decide(&id, body.decision, &body.actor, &body.reason).await?;
    Ok((StatusCode::CREATED, axum::Json(decision)))
}

pub(super) async fn decisions(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<axum::Json<Vec<Decision>>, Problem> {
    let deploy = DeployId::from_text(&id);
    if state.catalog.deploy(&deploy).await?.is_none() {
        return Err(Problem::not_found("deploy", &id));
    }
    Ok(axum::Json(state.catalog.decisions(Some(&deploy), LIMIT_MAX).await?))
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Invalid(problems) => Self::invalid(problems),
            RegisterError::Catalog(error) => error.into(),
        }
    }
}

impl From<FinishError> for Problem {
    fn from(error: FinishError) -> Self {
        match error {
            FinishError::Unknown(id) => Self::not_found("deploy", id.as_str()),
            FinishError::Invalid(problems) => Self::invalid(problems),
            FinishError::Catalog(error) => error.into(),
        }
    }
}
