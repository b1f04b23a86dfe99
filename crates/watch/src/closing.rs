//! When a verdict is worth storing, and when nothing more is expected of a deploy.

use std::time::Duration;

use plimsoll_model::verdict::Phase;
use plimsoll_model::{UnixNanos, Verdict, VerdictKind};
use plimsoll_verdict::Tolerances;

/// How long after its watch time a confirmed regression is still watched for its end.
pub(crate) const RECOVERY_WATCH: Duration = Duration::from_secs(24 * 3_600);

/// Says whether a verdict differs from the stored one in more than numbers, or the stored numbers are old.
pub(crate) fn is_news(stored: &Verdict, verdict: &Verdict, store_every: Duration) -> bool {
    stored.verdict != verdict.verdict
        || stored.decided != verdict.decided
        || stored.phase != verdict.phase
        || stored.revision != verdict.revision
        || (verdict.evaluated_at.since(stored.evaluated_at) >= store_every && !says_the_same(stored, verdict))
}

/// Says whether two verdicts differ in nothing but when they were reached.
fn says_the_same(one: &Verdict, other: &Verdict) -> bool {
    let at_rest = |verdict: &Verdict| Verdict { evaluated_at: UnixNanos(0), ..verdict.clone() };
    at_rest(one) == at_rest(other)
}

/// Says whether nothing more is expected of a deploy of which is known what happened up to `known`.
///
/// A confirmed regression is watched for its end, and a pass until the watch time is over, as is what has recovered: what goes
/// wrong after it, or again, is still told.
pub(crate) fn is_closed(verdict: &Verdict, known: UnixNanos, tolerances: &Tolerances) -> bool {
    let age = known.since(verdict.started_at);
    let watched = match verdict.verdict {
        VerdictKind::Regressed if verdict.phase == Phase::Recovered => age < tolerances.watch_max(),
        VerdictKind::Regressed => age < RECOVERY_WATCH,
        VerdictKind::Pass => age < tolerances.watch_max(),
        VerdictKind::Inconclusive => false,
    };
    verdict.decided && !watched
}
