//! The past again: replay of a verdict, and past deploys judged from what is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use plimsoll_catalog::DeployFilter;
use plimsoll_model::{DeployId, UnixNanos};
use plimsoll_query::HeldMemory;
use plimsoll_signals::SignalLimits;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiState;
use super::problem::{Json, Path, Problem};
use crate::backtest::from_json;
use crate::config::parse_duration;
use crate::stored::{self, Ask, ReplayError, Replayed};

/// Most deploys that are judged at once.
const DEPLOYS_MAX: u32 = 1_000;
/// How far back deploys are judged where nothing is said.
const SINCE: Duration = Duration::from_secs(7 * 86_400);

pub(super) async fn replay(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<axum::Json<Replayed>, Problem> {
    let id = DeployId::from_text(&id);
    if state.catalog.deploy(&id).await?.is_none() {
        return Err(Problem::not_found("deploy", id.as_str()));
    }
    let place = state.past.take()?;
    let limits = place.limits.clone();
    Ok(axum::Json(stored::replay(state.catalog.as_ref(), &state.stages.store, limits, &id).await?))
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        let status = match error {
            ReplayError::NotJudged(_) | ReplayError::NotKept { .. } | ReplayError::DidNotFit { .. } => {
                StatusCode::CONFLICT
            }
            ReplayError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            ReplayError::Catalog(error) => return error.into(),
        };
        Self::new(status, error.to_string())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    since: Option<String>,
    until: Option<String>,
    service: Option<String>,
    environment: Option<String>,
    #[serde(default)]
    deploys: Vec<Value>,
}

pub(super) async fn backtest(
    State(state): State<ApiState>,
    Json(asked): Json<Asked>,
) -> Result<axum::Json<Value>, Problem> {
    let now = state.watcher.now();
    let mut problems = Vec::new();
    let mut time = |name: &str, text: Option<String>| {
        let text = text?;
        let at = UnixNanos::parse_rfc3339(&text).or_else(|| Some(now - parse_duration(&text)?));
        if at.is_none() {
            problems.push(format!(
                "`{name}` is `{text}`: write a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `7d`"
            ));
        }
        at
    };
    let (since, until) = (time("since", asked.since), time("until", asked.until));
    let mut deploys = Vec::new();
    for (at, deploy) in asked.deploys.into_iter().enumerate() {
        match from_json(deploy) {
            Ok(deploy) => deploys.push(deploy),
            Err(problem) => problems.push(format!("`deploys[{at}]`: {problem}")),
        }
    }
    if deploys.len() > DEPLOYS_MAX as usize {
        problems.push(format!("`deploys` has {} entries, at most {DEPLOYS_MAX} are judged at once", deploys.len()));
    }
    if !problems.is_empty() {
        return Err(Problem::invalid(problems));
    }
    let filter = DeployFilter {
        service: asked.service,
        environment: asked.environment,
        since: Some(since.unwrap_or(now - SINCE)),
        limit: DEPLOYS_MAX,
        ..DeployFilter::default()
    };
    let place = state.past.take()?;
    let ask = Ask { filter, deploys, until: until.unwrap_or(now).min(now), limits: place.limits.clone() };
    let tolerances = state.tolerances.clone();
    let (verdicts, notes) = stored::backtest(state.catalog.as_ref(), &state.stages.store, tolerances, ask)
        .await
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(axum::Json(json!({ "verdicts": verdicts, "notes": notes })))
}

/// Judging the past takes a core and some memory: one at a time, and within what queries may hold.
pub struct PastRoom {
    places: Arc<Semaphore>,
    limits: SignalLimits,
    hold: Box<dyn Fn() -> Option<HeldMemory> + Send + Sync>,
}

/// The place of one that judges the past.
struct Place {
    limits: SignalLimits,
    _memory: HeldMemory,
    _permit: OwnedSemaphorePermit,
}

impl PastRoom {
    /// Makes room for a state within `limits`, the memory of which `hold` takes from the queries'.
    pub fn new(limits: SignalLimits, hold: impl Fn() -> Option<HeldMemory> + Send + Sync + 'static) -> Self {
        Self { places: Arc::new(Semaphore::new(1)), limits, hold: Box::new(hold) }
    }

    fn take(&self) -> Result<Place, Problem> {
        let busy = |why: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
        let permit = self.places.clone().try_acquire_owned();
        let permit = permit.map_err(|_| busy("the past is being judged for somebody else: try again in a while"))?;
        let memory = (self.hold)().ok_or_else(|| {
            busy("queries hold more than half of `memory.query`, of which judging the past needs half: try again in a while")
        })?;
        Ok(Place { limits: self.limits.clone(), _memory: memory, _permit: permit })
    }
}
