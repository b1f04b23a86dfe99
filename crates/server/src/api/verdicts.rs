//! Verdicts, the gate, regressions, deliveries.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use plimsoll_catalog::{CatalogError, Delivery, DeliveryState, DeployFilter, VerdictFilter};
use plimsoll_model::{Deploy, DeployId, Verdict, VerdictKind};
use plimsoll_watch::Watcher;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::ApiState;
use super::deploys::{LIMIT_MAX, Listing, parse_limit};
use super::problem::{Path, Problem, Query};
use crate::config::parse_duration;
use crate::explain::{self, Explained};

/// The longest that a call may wait.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<String>,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(query): Query<Wait>,
) -> Result<axum::Json<Verdict>, Problem> {
    let wait = match query.wait.as_deref() {
        None => Duration::ZERO,
        Some(text) => parse_duration(text).filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
            Problem::invalid(vec![format!("`wait` is `{text}`: write a duration of at most 10m, for instance `30s`")])
        })?,
    };
    let verdict = decided(&state.watcher, &DeployId::from_text(&id), wait, &state.stopping).await?;
    verdict.map(axum::Json).ok_or_else(|| Problem::not_found("deploy", &id))
}

/// Returns the verdict once it is decided, or as it is when `wait` is over or the server is told to stop.
pub(crate) async fn decided(
    watcher: &Watcher,
    id: &DeployId,
    wait: Duration,
    stopping: &CancellationToken,
) -> Result<Option<Verdict>, CatalogError> {
    match stopping.run_until_cancelled(watcher.wait_decided(id, wait)).await {
        Some(verdict) => verdict,
        None => watcher.verdict(id).await,
    }
}

pub(super) async fn explain(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<axum::Json<Explained>, Problem> {
    let id = DeployId::from_text(&id);
    let deploy = state.catalog.deploy(&id).await?;
    let verdict = state.watcher.verdict(&id).await?;
    let (deploy, verdict) = deploy.zip(verdict).ok_or_else(|| Problem::not_found("deploy", id.as_str()))?;
    Ok(axum::Json(explain::explain(state.catalog.as_ref(), state.engine.as_ref(), deploy, verdict).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    service: Option<String>,
    namespace: Option<String>,
    environment: Option<String>,
    version: Option<String>,
}

pub(super) async fn gate(
    State(state): State<ApiState>,
    Query(gate): Query<Gate>,
) -> Result<axum::Json<Value>, Problem> {
    let required = [("service", &gate.service), ("environment", &gate.environment)];
    let missing: Vec<_> = required
        .iter()
        .filter(|(_, value)| value.as_deref().unwrap_or_default().is_empty())
        .map(|(name, _)| format!("`{name}` is required"))
        .collect();
    if !missing.is_empty() {
        return Err(Problem::invalid(missing));
    }
    let filter = DeployFilter {
        service: gate.service.clone(),
        namespace: gate.namespace,
        environment: gate.environment.clone(),
        version: gate.version.clone(),
        ..DeployFilter::default()
    };
    let Some((deploy, verdict)) = state.watcher.gate(&filter).await? else {
        let what = [gate.environment, gate.service, gate.version].into_iter().flatten().collect::<Vec<_>>().join("/");
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no deploy of `{what}`: announce it with `POST /api/v1/deploys` first"),
        ));
    };
    let answer = match verdict.verdict {
        VerdictKind::Pass => "pass",
        VerdictKind::Regressed => "fail",
        VerdictKind::Inconclusive => "inconclusive",
    };
    Ok(axum::Json(json!({
        "data": {
            "verdict": answer,
            "deploy_id": deploy.id,
            "recommendation": verdict.recommendation,
            "decided": verdict.decided,
            "summary": verdict.summary,
        }
    })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegressionListing {
    state: Option<String>,
    limit: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Judged {
    deploy: Deploy,
    verdict: Verdict,
}

/// Lists deploys with their verdicts, newest first.
pub(super) async fn list(
    State(state): State<ApiState>,
    Query(listing): Query<Listing>,
) -> Result<axum::Json<Vec<Judged>>, Problem> {
    let mut found = Vec::new();
    for deploy in state.catalog.deploys(&listing.filter()?).await? {
        if let Some(verdict) = state.watcher.verdict(&deploy.id).await? {
            found.push(Judged { deploy, verdict });
        }
    }
    Ok(axum::Json(found))
}

pub(super) async fn regressions(
    State(state): State<ApiState>,
    Query(listing): Query<RegressionListing>,
) -> Result<axum::Json<Vec<Judged>>, Problem> {
    let mut problems = Vec::new();
    let limit = parse_limit(listing.limit.as_deref(), &mut problems);
    let open_only = match listing.state.as_deref() {
        None | Some("open") => true,
        Some("all") => false,
        Some(other) => {
            problems.push(format!("`state` is `{other}`: use `open` or `all`"));
            true
        }
    };
    if !problems.is_empty() {
        return Err(Problem::invalid(problems));
    }
    let filter =
        VerdictFilter { open_regression: open_only.then_some(true), limit: LIMIT_MAX, ..VerdictFilter::default() };
    let mut regressions = Vec::new();
    for stored in state.catalog.verdicts(&filter).await? {
        if stored.verdict != VerdictKind::Regressed || regressions.len() >= limit as usize {
            continue;
        }
        if let Some(deploy) = state.catalog.deploy(&stored.deploy_id).await? {
            let verdict = state.watcher.verdict(&stored.deploy_id).await?.unwrap_or(stored);
            regressions.push(Judged { deploy, verdict });
        }
    }
    Ok(axum::Json(regressions))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryListing {
    deploy: Option<String>,
}

pub(super) async fn deliveries(
    State(state): State<ApiState>,
    Query(listing): Query<DeliveryListing>,
) -> Result<axum::Json<Vec<Value>>, Problem> {
    let deploy = listing.deploy.map(DeployId::from_text);
    let deliveries = state.catalog.deliveries(deploy.as_ref(), LIMIT_MAX).await?;
    Ok(axum::Json(deliveries.iter().map(describe).collect()))
}

fn describe(delivery: &Delivery) -> Value {
    let status = match delivery.state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "failed",
    };
    json!({
        "event_id": delivery.event_id,
        "deploy_id": delivery.deploy_id,
        "sink": delivery.sink,
        "type": delivery.kind,
        "queued_at": delivery.queued_at,
        "attempts": delivery.attempts,
        "state": status,
        "due_at": delivery.due_at,
        "last_error": delivery.last_error,
    })
}
