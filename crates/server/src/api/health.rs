//! `/livez` and `/readyz`: a degraded instance says so, and why.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::json;

use super::ApiState;

/// What keeps the instance from being ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It has not finished starting.
    Starting,
    /// The journal is being replayed.
    Replaying,
    /// It was told to stop.
    Draining,
    /// The disk is full.
    DiskFull,
    /// The journal failed and takes no more writes.
    JournalPoisoned,
    /// Segments cannot be written.
    FlushFailing,
    /// A thread of the store ended.
    ThreadEnded,
}

/// Reasons that are set and cleared by whoever knows, and asked for by `/readyz` and the gRPC health service.
#[derive(Debug, Default)]
pub struct Health {
    reasons: Mutex<BTreeMap<Reason, String>>,
}

impl Health {
    /// Sets a reason, in words for a human, or clears it.
    pub fn set(&self, reason: Reason, detail: Option<String>) {
        let mut reasons = self.reasons.lock();
        match detail {
            Some(detail) => {
                if reasons.insert(reason, detail.clone()).is_none() {
                    match reason {
                        Reason::Starting | Reason::Replaying | Reason::Draining => {
                            tracing::info!("not ready: {detail}")
                        }
                        Reason::DiskFull | Reason::JournalPoisoned | Reason::FlushFailing | Reason::ThreadEnded => {
                            tracing::warn!("not ready: {detail}");
                        }
                    }
                }
            }
            None => {
                if reasons.remove(&reason).is_some() {
                    match reason {
                        // What follows says more.
                        Reason::Starting | Reason::Draining => {}
                        Reason::Replaying => tracing::info!("the journal was replayed"),
                        Reason::DiskFull => tracing::info!("the disk has room again"),
                        Reason::JournalPoisoned => tracing::info!("the journal takes writes again"),
                        Reason::FlushFailing => tracing::info!("segments can be written again"),
                        Reason::ThreadEnded => tracing::info!("the thread runs again"),
                    }
                }
            }
        }
    }

    /// Returns why nothing can be answered yet, where the server has not finished starting.
    pub fn starting(&self) -> Option<String> {
        let reasons = self.reasons.lock();
        reasons.get(&Reason::Starting).or_else(|| reasons.get(&Reason::Replaying)).cloned()
    }

    /// Returns every reason, in words; empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        self.reasons.lock().values().cloned().collect()
    }
}

pub(super) async fn live() -> Response {
    axum::Json(json!({ "live": true })).into_response()
}

pub(super) async fn ready(State(state): State<ApiState>) -> Response {
    state.stages.refresh_health(&state.health);
    let reasons = state.health.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (
        status,
        axum::Json(json!({ "ready": reasons.is_empty(), "reasons": reasons, "degraded": state.stages.degraded() })),
    )
        .into_response()
}
