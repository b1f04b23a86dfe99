//! What was shipped, when and by whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::DeployId;
use crate::service::ServiceKey;
use crate::time::UnixNanos;

/// What sort of change a deploy makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployKind {
    /// A new version.
    #[default]
    Release,
    /// A return to an earlier version.
    Rollback,
    /// A change of configuration.
    Config,
    /// A change of a feature flag.
    Flag,
    /// A change beneath the service.
    Infra,
}

/// How far a deploy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployStatus {
    /// Marked as started and not finished.
    #[default]
    Running,
    /// Finished well, as its pipeline says.
    Succeeded,
    /// Finished badly, as its pipeline says.
    Failed,
}

/// One deploy, in the form that the REST interface returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// Its identifier.
    pub id: DeployId,
    /// Environment, namespace and service.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// The version that is being rolled out: the candidate.
    pub version: String,
    /// The sort of change.
    #[serde(default)]
    pub kind: DeployKind,
    /// The version that it replaces, where known: the control.
    #[serde(default)]
    pub previous_version: Option<String>,
    /// Commit that was built.
    #[serde(default)]
    pub commit: Option<String>,
    /// Repository of the commit.
    #[serde(default)]
    pub repository: Option<String>,
    /// Address of the pipeline run.
    #[serde(default)]
    pub run_url: Option<String>,
    /// Who or what started it.
    #[serde(default)]
    pub actor: Option<String>,
    /// Rollout strategy, for instance `canary` or `rolling`.
    #[serde(default)]
    pub strategy: Option<String>,
    /// Identity of what runs, for instance an image digest.
    #[serde(default)]
    pub artifact: Option<String>,
    /// Anything else that the caller wants kept.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// When the candidate began to receive work.
    pub started_at: UnixNanos,
    /// When the pipeline said it was done.
    #[serde(default)]
    pub finished_at: Option<UnixNanos>,
    /// How far it has come.
    #[serde(default)]
    pub status: DeployStatus,
    /// True where nobody announced it: it was inferred from the first telemetry of a new version.
    #[serde(default)]
    pub inferred: bool,
    /// When Plimsoll learned of it.
    pub created_at: UnixNanos,
}
