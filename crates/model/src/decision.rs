//! What a human or a pipeline did about a verdict, and why: kept, so that teams learn.

use serde::{Deserialize, Serialize};

use crate::id::DeployId;
use crate::time::UnixNanos;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// The candidate takes over.
    Promote,
    /// The rollout waits.
    Hold,
    /// The previous version comes back.
    Rollback,
    /// The flag is switched off.
    Disable,
    /// The regression is known and accepted.
    AcceptRisk,
}

/// One decision on one deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The deploy decided on.
    pub deploy_id: DeployId,
    /// What was done.
    pub decision: DecisionKind,
    /// Who decided.
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When it was recorded.
    pub decided_at: UnixNanos,
}
