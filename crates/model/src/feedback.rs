//! What a human says of a verdict afterwards: the measure of its precision, and what to be quiet about for a while.

use serde::{Deserialize, Serialize};

use crate::id::DeployId;
use crate::service::ServiceKey;
use crate::time::UnixNanos;
use crate::verdict::{Finding, SignalKind};

/// Whether a verdict was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was.
    Right,
    /// It was not: what it found was no regression.
    Wrong,
    /// It was, and everybody knew: no news until that is mended.
    Known,
}

/// A finding that later deploys of the service are not held back for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Suppressed {
    /// What got worse.
    pub signal: SignalKind,
    /// The operation where it showed; empty for the service as a whole.
    pub operation: String,
}

impl Suppressed {
    /// What stands in place of an operation where instances start again and again, which has the signal of silence.
    pub const RESTARTS: &str = "(restarts)";

    /// Names what a finding is about.
    pub fn of(finding: &Finding) -> Self {
        let restarts = finding.signal == SignalKind::Silence && finding.unit == "restarts/h";
        let operation = if restarts { Self::RESTARTS } else { &finding.operation };
        Self { signal: finding.signal, operation: operation.to_owned() }
    }
}

/// One answer on one deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// The deploy whose verdict was answered.
    pub deploy_id: DeployId,
    /// The service deployed.
    #[serde(flatten)]
    pub service: ServiceKey,
    /// The answer.
    pub answer: Answer,
    /// Who gave it.
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// True where the verdict had said `regressed`: only those measure precision.
    pub regressed: bool,
    /// What `wrong` and `known` silence.
    #[serde(default)]
    pub suppressed: Vec<Suppressed>,
    /// Until when.
    #[serde(default)]
    pub expires_at: Option<UnixNanos>,
    /// When it was recorded.
    pub given_at: UnixNanos,
}
