//! Past deploys, as JSON lines.

use std::path::Path;

use plimsoll_model::UnixNanos;
use plimsoll_watch::NewDeploy;

/// Reads all of them, earliest first.
///
/// # Errors
/// Every line that makes no sense, with its number.
pub(super) fn read(path: &Path) -> Result<Vec<(UnixNanos, NewDeploy)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let mut deploys = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = serde_json::from_str::<NewDeploy>(line).map_err(|error| error.to_string()).and_then(|marker| {
            let at = marker.started_at.as_deref().and_then(UnixNanos::parse_rfc3339);
            let missing = "`started_at` is required, as RFC 3339, for instance `2026-01-31T12:00:00Z`";
            at.map(|at| (at, marker)).ok_or_else(|| missing.to_owned())
        });
        match parsed {
            Ok(deploy) => deploys.push(deploy),
            Err(problem) => problems.push(format!("`{}` line {}: {problem}", path.display(), number + 1)),
        }
    }
    if deploys.is_empty() && problems.is_empty() {
        problems.push(format!("`{}` holds no deploy", path.display()));
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    deploys.sort_by_key(|(at, _)| *at);
    Ok(deploys)
}
