//! What humans say of verdicts, and how often verdicts were right.

use axum::extract::State;
use axum::http::StatusCode;
use plimsoll_model::{Answer, DeployId, Feedback, UnixNanos};
use plimsoll_watch::Precision;
use serde::Deserialize;

use super::ApiState;
use super::problem::{Json, Path, Problem};
use crate::config::parse_duration;

/// Answers on one service that are looked through.
const LOOKED_THROUGH: u32 = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFeedback {
    answer: Answer,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    reason: String,
    /// Until when it silences: a time, or a duration from now on.
    #[serde(default)]
    until: Option<String>,
}

pub(super) async fn answer(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Json(body): Json<NewFeedback>,
) -> Result<(StatusCode, axum::Json<Feedback>), Problem> {
    let id = DeployId::from_text(id);
    let until = match body.until.as_deref() {
        None => None,
        Some(text) => {
            let at = UnixNanos::parse_rfc3339(text).or_else(|| Some(state.watcher.now() + parse_duration(text)?));
            Some(at.ok_or_else(|| {
                Problem::invalid(vec![format!(
                    "`until` is `{text}`: write a time such as `2026-01-31T12:00:00Z`, or a duration such as `14d`"
                )])
            })?)
        }
    };
    let feedback = state.watcher.answer(&id, body.answer, &body.actor, &body.reason, until).await?;
    Ok((StatusCode::CREATED, axum::Json(feedback)))
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<axum::Json<Vec<Feedback>>, Problem> {
    let known = state.catalog.deploy(&DeployId::from_text(&id)).await?;
    let deploy = known.ok_or_else(|| Problem::not_found("deploy", &id))?;
    let mut said = state.catalog.feedback(Some(&deploy.service), LOOKED_THROUGH).await?;
    said.retain(|said| said.deploy_id == deploy.id);
    Ok(axum::Json(said))
}

pub(super) async fn precision(State(state): State<ApiState>) -> Result<axum::Json<Precision>, Problem> {
    Ok(axum::Json(state.watcher.precision().await?))
}
