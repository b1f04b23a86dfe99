//! Why answers broke off. Once rows are on their way HTTP has no place left to say it, so it is kept for whoever asks by the id
//! that the answer's header gave.
//!
//! *Bounds.* The last 256 reasons, 4 KiB each; they end with the process.

use std::collections::VecDeque;

use axum::extract::State;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::ApiState;
use super::problem::{Path, Problem};

/// Reasons that are remembered.
const REASONS_MAX: usize = 256;
/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 4_096;

/// The reasons of the answers that broke off last.
#[derive(Debug, Default)]
pub struct BrokenOff(Mutex<VecDeque<(String, String)>>);

impl BrokenOff {
    /// Makes the id of an answer that is about to be sent.
    pub(super) fn id() -> String {
        let mut bytes = [0; 12];
        if let Err(error) = getrandom::fill(&mut bytes) {
            tracing::error!(%error, "no randomness from the system: the reason of another answer may be taken for this one's");
        }
        bytes.iter().fold("qry_".to_owned(), |id, byte| format!("{id}{byte:02x}"))
    }

    /// Keeps why the answer `id` broke off.
    pub(super) fn remember(&self, id: &str, reason: &str) {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        let mut reasons = self.0.lock();
        reasons.push_front((id.to_owned(), reason[..end].to_owned()));
        reasons.truncate(REASONS_MAX);
    }

    fn of(&self, id: &str) -> Option<String> {
        self.0.lock().iter().find(|(known, _)| known == id).map(|(_, reason)| reason.clone())
    }
}

pub(super) async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Result<axum::Json<Value>, Problem> {
    match state.broken_off.of(&id) {
        Some(reason) => Ok(axum::Json(json!({ "id": id, "error": reason }))),
        None => Err(Problem::not_found("answer that broke off with the id", &id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_reasons_are_kept_and_cut_between_letters() {
        let kept = BrokenOff::default();
        kept.remember("first", "gone");
        for n in 0..REASONS_MAX {
            kept.remember(&n.to_string(), &"ü".repeat(REASON_BYTES_MAX));
        }
        assert_eq!(kept.of("first"), None);
        assert_eq!(kept.of("0").map(|reason| reason.len()), Some(REASON_BYTES_MAX));
        assert_ne!(BrokenOff::id(), BrokenOff::id());
    }
}
