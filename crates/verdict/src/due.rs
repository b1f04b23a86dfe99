//! From when on a candidate is missed that serves nothing.

use plimsoll_model::{Bucket, DeployStatus};

use crate::design::Frame;
use crate::input::JudgeInput;

/// Times as long as deploys before needed to the first request after which one is late.
const LATE: u64 = 2;

/// From when on the candidate may be missed, and from when on it is though others serve: once its deploy has succeeded, or
/// took longer than those before needed to the first request. A rollout that failed owes nothing.
pub(crate) fn due(input: &JudgeInput, frame: &Frame) -> [Bucket; 2] {
    const NEVER: Bucket = Bucket(u64::MAX);
    let after = |seconds: u64| Bucket(frame.start.0.saturating_add(seconds / 10));
    // Rollouts are measured by the first telemetry of their versions: what was heard of may serve in its own time.
    let own = input.aggregates.presence.iter().filter(|series| series.version == frame.version);
    let mut heard =
        own.flat_map(|series| &series.cells).filter(|(bucket, _)| *bucket >= frame.start && *bucket < frame.end);
    let boots = heard.any(|(_, cell)| cell.spans + cell.logs + cell.points > 0);
    let late = input
        .first_request
        .filter(|_| !boots)
        .map_or(NEVER, |usual| after(LATE * usual.as_secs() + input.tolerances.silence_s));
    let done = input.deploy.finished_at.map_or(NEVER, |at| at.bucket().max(frame.start));
    match input.deploy.status {
        DeployStatus::Failed => [NEVER, NEVER],
        DeployStatus::Succeeded => [done, done.min(late)],
        DeployStatus::Running => [after(input.tolerances.silence_s), late],
    }
}
