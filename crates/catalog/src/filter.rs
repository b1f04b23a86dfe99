//! Which deploys and verdicts to list.

use plimsoll_model::UnixNanos;

/// Which deploys to list; unset fields do not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeployFilter {
    /// Name of the service.
    pub service: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Environment.
    pub environment: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Started at or after.
    pub since: Option<UnixNanos>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

/// Which verdicts to list; unset fields do not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerdictFilter {
    /// Only regressions that are suspected or confirmed (`true`), or only all others (`false`).
    pub open_regression: Option<bool>,
    /// Only undecided (`false`) or decided (`true`) ones.
    pub decided: Option<bool>,
    /// Deploy started at or after.
    pub since: Option<UnixNanos>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}
