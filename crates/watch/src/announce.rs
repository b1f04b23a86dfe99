//! Which change of a verdict is an event.
//!
//! A page costs trust, so only a confirmed regression speaks, an update must change what a reader would do, and updates keep a distance.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_catalog::{Catalog, CatalogError};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{EventKind, Finding, SignalKind, UnixNanos, Verdict, VerdictKind};

/// Least time between two updates of one regression.
const UPDATE_GAP: Duration = Duration::from_secs(60);

/// Where something is wrong: service and operation, empty for the whole service.
type Place = (String, String);

/// How bad it is there, by what a reader would do: mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Levels and amounts are not what they were.
    Odd,
    Slow,
    /// Requests fail, exceptions are thrown, errors are logged, instances start again and again.
    Failing,
    /// Nothing is served any more.
    Gone,
}

/// What was last announced of a deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    causes: BTreeMap<Place, Class>,
    at: UnixNanos,
}

impl Announced {
    /// Reads it out of a stored verdict, with the last event on its deploy: a regression that was told of under another
    /// deploy, or is over, has none that goes on.
    pub(crate) fn from_stored(verdict: &Verdict, last: Option<EventKind>) -> Option<Self> {
        let goes_on = matches!(last, Some(EventKind::Detected | EventKind::Updated));
        (goes_on && is_confirmed(verdict)).then(|| Self { causes: causes(verdict), at: verdict.evaluated_at })
    }
}

/// Reads what was announced of a deploy that was judged before.
pub(crate) async fn announced(
    catalog: &dyn Catalog,
    verdict: Option<&Verdict>,
) -> Result<Option<Announced>, CatalogError> {
    let Some(verdict) = verdict.filter(|verdict| is_confirmed(verdict)) else { return Ok(None) };
    Ok(Announced::from_stored(verdict, catalog.last_event(&verdict.deploy_id).await?))
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
            // exception and their log messages: only another place is news, and that it got worse than slow.
            let covered = |((service, operation), class): (&Place, &Class)| {
                let here = |told: &Place| told.0 == *service && (operation.is_empty() || told.1 == *operation);
                before.causes.iter().any(|(told, known)| here(told) && known >= class)
            };
            let causes = causes(verdict);
            let news = !causes.iter().all(covered);
            if news && verdict.evaluated_at.since(before.at) >= UPDATE_GAP {
                let mut all = before.causes.clone();
                for (place, class) in causes {
                    let known = all.entry(place).or_insert(class);
                    *known = class.max(*known);
                }
                (Some(EventKind::Updated), Some(Announced { causes: all, at: verdict.evaluated_at }))
            } else {
                (None, Some(before.clone()))
            }
        }
    }
}

fn is_confirmed(verdict: &Verdict) -> bool {
    verdict.verdict == VerdictKind::Regressed && verdict.phase == Phase::Confirmed
}

fn causes(verdict: &Verdict) -> BTreeMap<Place, Class> {
    let mut causes = BTreeMap::new();
    for finding in verdict.findings.iter().filter(|finding| !finding.symptom) {
        let place = (finding.culprit.service.clone(), finding.culprit.operation.clone());
        let class = causes.entry(place).or_insert(Class::Odd);
        *class = Class::of(finding).max(*class);
    }
    causes
}

impl Class {
    fn of(finding: &Finding) -> Self {
        match finding.signal {
            SignalKind::Throughput => Self::Odd,
            // Request metrics tell what spans would: failed requests as a share, latency in milliseconds.
            SignalKind::Metric => match finding.unit.as_str() {
                "ratio" => Self::Failing,
                "ms" => Self::Slow,
                _ => Self::Odd,
            },
            SignalKind::Latency => Self::Slow,
            SignalKind::Silence if finding.unit != "restarts/h" => Self::Gone,
            SignalKind::Silence | SignalKind::ErrorRate | SignalKind::NewException | SignalKind::NewLog => {
                Self::Failing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_model::{Culprit, DeployId, Explanation, FindingId, Sample};

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
        let (event, told) = event_for(told.as_ref(), &verdict(310, elsewhere.clone()));
        assert_eq!(event, Some(EventKind::Updated));
        // What was slow fails: its reader would not wait any more. That it is slow as well is no news then.
        let worse = [elsewhere, vec![finding(SignalKind::NewException, "POST /cart")]].concat();
        assert_eq!(event_for(told.as_ref(), &verdict(369, worse.clone())).0, None, "updates keep a distance");
        let (event, told) = event_for(told.as_ref(), &verdict(370, worse));
        assert_eq!(event, Some(EventKind::Updated));
        let back = vec![finding(SignalKind::Latency, "POST /cart")];
        assert_eq!(event_for(told.as_ref(), &verdict(500, back)).0, None);
        let gone = vec![finding(SignalKind::Silence, "")];
        assert_eq!(event_for(told.as_ref(), &verdict(500, gone)).0, Some(EventKind::Updated));
    }

    #[test]
    fn a_stored_regression_counts_as_announced_only_where_its_last_event_goes_on() {
        let marker = crate::NewDeploy {
            service: "cart".to_owned(),
            environment: "prod".to_owned(),
            version: "2".to_owned(),
            ..crate::NewDeploy::default()
        };
        let deploy = marker.check(UnixNanos::from_secs(100), 1).expect("valid");
        let confirmed = Verdict {
            verdict: VerdictKind::Regressed,
            phase: Phase::Confirmed,
            ..plimsoll_verdict::unseen(&deploy, UnixNanos::from_secs(100))
        };
        for (last, announced) in [
            (Some(EventKind::Detected), true),
            (Some(EventKind::Updated), true),
            (Some(EventKind::Resolved), false),
            (None, false),
        ] {
            assert_eq!(Announced::from_stored(&confirmed, last).is_some(), announced, "after {last:?}");
        }
    }
}
