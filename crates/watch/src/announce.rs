//! Which change of a verdict is an event.
//!
//! A page costs trust, so only a confirmed regression speaks, an update must change what a reader would do, and updates keep a distance.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_catalog::{Catalog, CatalogError};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{EventKind, Finding, RegressionEvent, SignalKind, UnixNanos, Verdict, VerdictKind};

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

/// What was announced of a deploy, all events on its regression together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    causes: BTreeMap<Place, Class>,
    /// When the last of them went out.
    at: UnixNanos,
}

impl Announced {
    /// Reads it out of the events since the regression was detected. The stored verdict says less and more than they: of its
    /// causes some wait to be told, and some that were told have gone from it. A regression that was told of under another
    /// deploy has no events here, and one that is over has none that goes on.
    fn from_events(events: &[RegressionEvent]) -> Option<Self> {
        let last = events.last().filter(|event| event.kind != EventKind::Resolved)?;
        let mut told = Self { causes: BTreeMap::new(), at: last.time };
        events.iter().for_each(|event| told.add(causes(&event.data.verdict)));
        Some(told)
    }

    /// What a regression would have said that was found with another's and is over.
    pub(crate) fn over(verdict: &Verdict) -> Self {
        Self { causes: causes(verdict), at: verdict.evaluated_at }
    }

    /// Says whether all that is wrong was announced.
    pub(crate) fn covers(&self, verdict: &Verdict) -> bool {
        causes(verdict).iter().all(|(place, class)| self.covers_one(place, *class))
    }

    fn covers_one(&self, (service, operation): &Place, class: Class) -> bool {
        let here = |told: &Place| told.0 == *service && (operation.is_empty() || told.1 == *operation);
        self.causes.iter().any(|(told, known)| here(told) && *known >= class)
    }

    fn add(&mut self, causes: BTreeMap<Place, Class>) {
        for (place, class) in causes {
            let known = self.causes.entry(place).or_insert(class);
            *known = class.max(*known);
        }
    }
}

/// Reads what was announced of a deploy that was judged before.
pub(crate) async fn announced(
    catalog: &dyn Catalog,
    verdict: Option<&Verdict>,
) -> Result<Option<Announced>, CatalogError> {
    let Some(verdict) = verdict else { return Ok(None) };
    Ok(Announced::from_events(&catalog.events_since_detected(&verdict.deploy_id).await?))
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
            if !before.covers(verdict) && verdict.evaluated_at.since(before.at) >= UPDATE_GAP {
                let mut all = Announced { at: verdict.evaluated_at, ..before.clone() };
                all.add(causes(verdict));
                (Some(EventKind::Updated), Some(all))
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
    use plimsoll_model::{Culprit, Deploy, DeployId, Explanation, FindingId, Sample};

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

    fn deploy() -> Deploy {
        let marker = crate::NewDeploy {
            service: "cart".to_owned(),
            environment: "prod".to_owned(),
            version: "2".to_owned(),
            ..crate::NewDeploy::default()
        };
        marker.check(UnixNanos::from_secs(100), 1).expect("valid")
    }

    #[test]
    fn more_of_the_same_place_is_no_news_and_another_place_is() {
        let deploy = deploy();
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
    fn what_was_announced_is_read_out_of_events_as_it_stood_when_they_went_out() {
        let deploy = deploy();
        let verdict = |at: u64, findings: &[Finding]| Verdict {
            verdict: VerdictKind::Regressed,
            phase: Phase::Confirmed,
            findings: findings.to_vec(),
            evaluated_at: UnixNanos::from_secs(at),
            ..plimsoll_verdict::unseen(&deploy, UnixNanos::from_secs(at))
        };
        let mut told = None;
        let mut events = Vec::new();
        let mut look = |verdict: Verdict| {
            let (kind, now) = event_for(told.as_ref(), &verdict);
            told = now;
            if kind == Some(EventKind::Detected) {
                events.clear();
            }
            events.extend(kind.map(|kind| RegressionEvent::announce(kind, deploy.clone(), verdict, "")));
            assert_eq!(Announced::from_events(&events), told, "after {:?}", events.last().map(|event| event.kind));
            kind
        };
        let (here, slow) = (finding(SignalKind::ErrorRate, "GET /cart"), finding(SignalKind::Latency, "POST /cart"));
        let both = [here.clone(), slow.clone()];
        assert_eq!(look(verdict(100, &[])), Some(EventKind::Detected));
        assert_eq!(look(verdict(160, std::slice::from_ref(&here))), Some(EventKind::Updated));
        assert_eq!(look(verdict(180, &both)), None, "updates keep a distance");
        assert_eq!(look(verdict(220, &both)), Some(EventKind::Updated));
        assert_eq!(look(verdict(300, &[slow])), None);
        assert_eq!(look(verdict(400, &both)), None, "what hovers is told once");
        let over = Verdict { phase: Phase::Recovered, ..verdict(500, &[]) };
        assert_eq!(look(over), Some(EventKind::Resolved));
        assert_eq!(look(verdict(600, &both)), Some(EventKind::Detected));
    }
}
