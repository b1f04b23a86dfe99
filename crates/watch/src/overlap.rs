//! Of two deploys of one service that overlap one is told of, whichever of them may be to blame.
//!
//! Who is to blame is said by the verdicts, as far as anybody can ([`plimsoll_verdict::Overlapping`]). Where nobody can, both show it,
//! and whoever was told of one is not told of the other.

use std::time::Duration;

use plimsoll_model::verdict::Phase;
use plimsoll_model::{UnixNanos, Verdict, VerdictKind};
use plimsoll_verdict::Overlapping;

use crate::announce::Announced;
use crate::open::Open;

/// Two regressions that were found within so long of each other are one: where one of them is over, the other is about to be.
const AT_ONCE: Duration = Duration::from_secs(600);

/// Says what a deploy tells of itself to one that overlaps.
pub(crate) fn told_by(other: &Open) -> Overlapping {
    let regressed = |verdict: &Verdict| verdict.verdict == VerdictKind::Regressed;
    Overlapping {
        started_at: other.deploy.started_at,
        version: other.deploy.version.clone(),
        told: other.verdict.as_ref().is_some_and(regressed),
    }
}

/// What was announced of another deploy.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    announced: Announced,
    /// When it was found, where it is over.
    over: Option<UnixNanos>,
}

impl Told {
    /// Returns what is known of one; `None` where nobody was told.
    pub(crate) fn of(other: &Open) -> Option<Self> {
        if let Some(announced) = &other.announced {
            return Some(Self { announced: announced.clone(), over: None });
        }
        let verdict = other.verdict.as_ref().filter(|verdict| verdict.phase == Phase::Recovered)?;
        Some(Self { announced: Announced::over(verdict), over: verdict.decided_at })
    }

    /// Says whether it is what `verdict` would announce.
    pub(crate) fn covers(&self, verdict: &Verdict) -> bool {
        let at_once = match (self.over, verdict.decided_at) {
            (Some(one), Some(other)) => one.since(other) <= AT_ONCE && other.since(one) <= AT_ONCE,
            _ => self.over.is_none(),
        };
        at_once && self.announced.covers(verdict)
    }
}
