//! Which change of a verdict is an event.
//!
//! A page costs trust, so only a confirmed regression speaks, an update must change what a reader would do, and updates keep a distance.

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_model::verdict::Phase;
use plimsoll_model::{EventKind, UnixNanos, Verdict, VerdictKind};

/// Least time between two updates of one regression.
const UPDATE_GAP: Duration = Duration::from_secs(60);

/// Where something is wrong: service and operation, empty for the whole service.
type Place = (String, String);

/// What was last announced of a deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    causes: BTreeSet<Place>,
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
            // Causes that come and go as numbers hover are one regression, and so are the failures of an operation, their
            // exception and their log messages: only another place is news.
            let covered = |(service, operation): &Place| {
                let told = |operation: &str| before.causes.contains(&(service.clone(), operation.to_owned()));
                told(operation) || operation.is_empty() && before.causes.iter().any(|cause| cause.0 == *service)
            };
            let news = causes(verdict).iter().any(|cause| !covered(cause));
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

fn causes(verdict: &Verdict) -> BTreeSet<Place> {
    let own = verdict.findings.iter().filter(|finding| !finding.symptom);
    own.map(|finding| (finding.culprit.service.clone(), finding.culprit.operation.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_model::{Culprit, DeployId, Explanation, Finding, FindingId, Sample, SignalKind};

    fn finding(signal: SignalKind, operation: &str) -> Finding {
        let deploy = DeployId::from_text("dep_a");
        let sample = Sample { value: 0.1, n: 100 };
        Finding {
            id: FindingId::derive(&deploy, signal.as_str(), "cart", operation, ""),
            signal,
            service: "cart".to_owned(),
            operation: operation.to_owned(),
            culprit: Culprit { service: "cart".to_owned(), version: "2".to_owned(), operation: operation.to_owned() },
            baseline: sample,
            candidate: sample,
            unit: "ratio".to_owned(),
            effect: 1.0,
            interval: [1.0, 1.0],
            e_value: 1.0,
            p_value: 1.0,
            exemplars: Vec::new(),
            sql: String::new(),
            summary: String::new(),
            symptom: false,
            explanation: Explanation::default(),
        }
    }

    #[test]
    fn more_of_the_same_place_is_no_news_and_another_place_is() {
        let marker = crate::NewDeploy {
            service: "cart".to_owned(),
            environment: "prod".to_owned(),
            version: "2".to_owned(),
            ..crate::NewDeploy::default()
        };
        let deploy = marker.check(UnixNanos::from_secs(100), 1).expect("valid");
        let verdict = |at: u64, findings: Vec<Finding>| Verdict {
            verdict: VerdictKind::Regressed,
            phase: Phase::Confirmed,
            findings,
            evaluated_at: UnixNanos::from_secs(at),
            ..plimsoll_verdict::unseen(&deploy, UnixNanos::from_secs(at))
        };
        let errors = || finding(SignalKind::ErrorRate, "GET /cart");
        let (event, told) = event_for(None, &verdict(100, vec![errors()]));
        assert_eq!(event, Some(EventKind::Detected));
        // Its exception and the messages of the whole service follow from it.
        let more = vec![errors(), finding(SignalKind::NewException, "GET /cart"), finding(SignalKind::NewLog, "")];
        let (event, told) = event_for(told.as_ref(), &verdict(300, more.clone()));
        assert_eq!(event, None);
        let elsewhere = [more, vec![finding(SignalKind::Latency, "POST /cart")]].concat();
        assert_eq!(event_for(told.as_ref(), &verdict(310, elsewhere)).0, Some(EventKind::Updated));
    }
}
