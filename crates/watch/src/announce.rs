//! Which change of a verdict is an event.
//!
//! A page costs trust, so only a confirmed regression speaks, an update must change what a reader would do, and updates keep a distance.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_model::verdict::Phase;
use plimsoll_model::{EventKind, FindingId, UnixNanos, Verdict, VerdictKind};

/// Least time between two updates of one regression.
const UPDATE_GAP: Duration = Duration::from_secs(60);

/// What was last announced of a deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    causes: BTreeSet<FindingId>,
    at: UnixNanos,
}

impl Announced {
    /// Reads it out of a stored verdict: whoever stored a confirmed regression announced it in the same transaction.
    pub(crate) fn from_stored(verdict: &Verdict) -> Option<Self> {
        is_confirmed(verdict).then(|| Self { causes: causes(verdict), at: verdict.evaluated_at })
    }
}

/// Returns the event that a new verdict is, and what has been announced once it is out.
pub(crate) fn event_for(announced: Option<&Announced>, verdict: &Verdict) -> (Option<EventKind>, Option<Announced>) {
    let now = || Some(Announced { causes: causes(verdict), at: verdict.evaluated_at });
    match announced {
        None if is_confirmed(verdict) => (Some(EventKind::Detected), now()),
        None => (None, None),
        Some(_) if verdict.phase == Phase::Recovered => (Some(EventKind::Resolved), None),
        Some(before) => {
            // Causes that come and go as numbers hover are one regression; only new ones are news.
            let news = causes(verdict).difference(&before.causes).next().is_some();
            if news && verdict.evaluated_at.since(before.at) >= UPDATE_GAP {
                let causes = before.causes.union(&causes(verdict)).cloned().collect();
                (Some(EventKind::Updated), Some(Announced { causes, at: verdict.evaluated_at }))
            } else {
                (None, Some(before.clone()))
            }
        }
    }
}

fn is_confirmed(verdict: &Verdict) -> bool {
    verdict.verdict == VerdictKind::Regressed && verdict.phase == Phase::Confirmed
}

fn causes(verdict: &Verdict) -> BTreeSet<FindingId> {
    verdict.findings.iter().filter(|finding| !finding.symptom).map(|finding| finding.id.clone()).collect()
}
