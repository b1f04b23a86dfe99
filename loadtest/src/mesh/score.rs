//! What was right: every deploy's verdict, culprit and pages against what its scenario says.

use serde::Serialize;
use serde_json::Value;

use super::api::Api;
use super::drive::Time;
use super::receiver::Received;
use super::scenario::Expected;
use super::world::{SECOND, World};
use crate::Error;

/// What became of one deploy.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What everything random came from.
    pub seed: u64,
    /// The scenario.
    pub scenario: &'static str,
    /// Its environment.
    pub environment: String,
    /// The deploy's id.
    pub deploy: String,
    /// The deployed service and version.
    pub service: String,
    /// The version.
    pub version: String,
    /// How traffic came to it.
    pub strategy: String,
    /// `bad`, `harmless`, `inconclusive`, or `either`.
    pub expected: &'static str,
    /// Whether traffic suffices for a verdict.
    pub suffices: bool,
    /// The verdict.
    pub verdict: String,
    /// Whether it was decided.
    pub decided: bool,
    /// Whether it is right.
    pub right: bool,
    /// Whether the right service and operation were named first, of those rightly called regressed.
    pub culprit_right: Option<bool>,
    /// The culprit that was named first.
    pub culprit: Option<String>,
    /// Seconds from the first request that a fault touched to the confirmed verdict.
    pub seconds: Option<f64>,
    /// Seconds to the event at the webhook.
    pub page_seconds: Option<f64>,
    /// Events of each kind for this deploy.
    pub detected: usize,
    /// Further ones.
    pub updated: usize,
    /// Ends.
    pub resolved: usize,
    /// Whether it was paged as often as is right.
    pub pages_right: bool,
    /// The verdict in a sentence.
    pub summary: String,
    /// Words about the data.
    pub data_quality: Vec<String>,
    /// The comparison.
    pub design: String,
}

/// One seed.
pub(super) struct Run {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) refused: u64,
}

/// Reads all verdicts.
///
/// Where the run lay in the `past`, what a later deploy had replaced before anybody looked is not paged.
pub(super) async fn read(
    api: &Api,
    worlds: &[World],
    received: &Received,
    seed: u64,
    past: bool,
) -> Result<Run, Error> {
    let mut outcomes = Vec::new();
    for world in worlds {
        let recorded = api.deploys(&world.environment).await?;
        let mut told = vec![false; recorded.len()];
        for deploy in &world.scenario.deploys {
            let found = recorded.iter().position(|recorded| {
                recorded["service"] == deploy.service
                    && recorded["version"] == deploy.version
                    && recorded["kind"] == deploy.kind
            });
            let base = Outcome {
                seed,
                scenario: world.scenario.name,
                environment: world.environment.clone(),
                deploy: String::new(),
                service: deploy.service.to_owned(),
                version: deploy.version.to_owned(),
                strategy: deploy.strategy.to_string(),
                expected: "",
                suffices: world.scenario.suffices,
                verdict: "unseen".to_owned(),
                decided: false,
                right: false,
                culprit_right: None,
                culprit: None,
                seconds: None,
                page_seconds: None,
                detected: 0,
                updated: 0,
                resolved: 0,
                pages_right: true,
                summary: String::new(),
                data_quality: Vec::new(),
                design: String::new(),
            };
            let id = found.and_then(|at| {
                told[at] = true;
                recorded[at]["id"].as_str()
            });
            let outcome = match id {
                Some(id) => of(base, id, &api.verdict(id).await?, world, received),
                None => base,
            };
            let mut judged = judge(outcome, deploy.expected);
            let mut later =
                world.scenario.deploys.iter().filter(|d| d.service == deploy.service && d.at_s > deploy.at_s);
            judged.pages_right |= past && later.next().is_some();
            outcomes.push(judged);
        }
        // A deploy that nobody made, taken from a version that was seen.
        for (recorded, _) in recorded.iter().zip(told).filter(|(_, told)| !told) {
            let text = |key: &str| recorded[key].as_str().unwrap_or_default().to_owned();
            let id = text("id");
            let base = Outcome {
                service: text("service"),
                version: text("version"),
                strategy: "inferred".to_owned(),
                suffices: true,
                ..outcomes.last().cloned().expect("every scenario has a deploy")
            };
            let base = Outcome { culprit: None, culprit_right: None, seconds: None, page_seconds: None, ..base };
            let outcome = of(base, &id, &api.verdict(&id).await?, world, received);
            if !outcome.data_quality.iter().any(|word| word == "announced_elsewhere") {
                outcomes.push(judge(outcome, Expected::Harmless));
            }
        }
    }
    Ok(Run { outcomes, refused: received.refused })
}

/// Fills in what the server said.
fn of(base: Outcome, id: &str, verdict: &Value, world: &World, received: &Received) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pages = |kind: &str| received.pages.values().filter(|page| page.deploy == id && page.kind == kind).count();
    let first = verdict["findings"].as_array().and_then(|found| found.iter().find(|f| f["symptom"] != true));
    let culprit = first.map(|finding| {
        let culprit = &finding["culprit"];
        let operation = if text(&culprit["operation"]).is_empty() { "" } else { " " };
        format!("{}{operation}{}", text(&culprit["service"]), text(&culprit["operation"]))
    });
    let bad = world.first_bad.map(|at| at as f64 / SECOND as f64);
    let decided_at = verdict["decided_at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let since = |at: f64| bad.map(|bad| (at - bad).max(0.0));
    let paged = received.pages.values().filter(|page| page.deploy == id && page.kind == "detected");
    let regressed = verdict["verdict"] == "regressed";
    Outcome {
        deploy: id.to_owned(),
        verdict: text(&verdict["verdict"]),
        decided: verdict["decided"] == true,
        culprit: culprit.filter(|_| regressed),
        seconds: decided_at.filter(|_| regressed).and_then(|at| since(at.as_nanosecond() as f64 / SECOND as f64)),
        page_seconds: paged.map(|page| page.received).min().and_then(|at| since(at as f64 / SECOND as f64)),
        detected: pages("detected"),
        updated: pages("updated"),
        resolved: pages("resolved"),
        summary: text(&verdict["summary"]),
        data_quality: verdict["data_quality"]
            .as_array()
            .map(|words| words.iter().map(text).collect())
            .unwrap_or_default(),
        design: text(&verdict["design"]),
        ..base
    }
}

/// Holds an outcome against what is right.
fn judge(mut outcome: Outcome, expected: Expected) -> Outcome {
    let regressed = outcome.verdict == "regressed";
    (outcome.expected, outcome.right) = match expected {
        Expected::Regressed { culprit, operation } => {
            let wanted = if operation.is_empty() { culprit.to_owned() } else { format!("{culprit} {operation}") };
            let named = outcome.culprit.as_deref().unwrap_or_default();
            let service = named.split(' ').next().unwrap_or_default();
            outcome.culprit_right = regressed.then(|| named == wanted || (operation.is_empty() && service == culprit));
            ("bad", regressed)
        }
        Expected::Harmless => ("harmless", !regressed && outcome.verdict != "unseen"),
        Expected::Inconclusive => ("inconclusive", outcome.verdict == "inconclusive"),
        Expected::Either => ("either", true),
    };
    outcome.pages_right = match expected {
        Expected::Regressed { .. } => outcome.detected == 1,
        Expected::Either => true,
        _ => outcome.detected == 0,
    };
    outcome
}

/// The score over all outcomes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Bad deploys with enough traffic, and how many of them were called regressed.
    pub bad: usize,
    /// Those called regressed.
    pub caught: usize,
    /// Those of which nothing could be said.
    pub inconclusive: usize,
    /// Harmless deploys, those with too little traffic among them, and how many were called regressed.
    pub harmless: usize,
    /// Those called regressed.
    pub false_alarms: usize,
    /// Harmless deploys that were passed.
    pub passed: usize,
    /// Share of those called regressed that were bad.
    pub precision: Option<f64>,
    /// Share of the bad that were called regressed.
    pub recall: Option<f64>,
    /// Share of those caught whose culprit was named first.
    pub culprit_first: Option<f64>,
    /// Seconds from the first bad request to the confirmed verdict.
    pub seconds_median: Option<f64>,
    /// The same, of nine in ten.
    pub seconds_p90: Option<f64>,
    /// Deploys that were paged as often as is right.
    pub pages_right: usize,
    /// Of so many.
    pub pages: usize,
}

/// What a run showed.
#[derive(Debug, Clone, Serialize)]
pub struct MeshReport {
    /// When deploys happened.
    pub time: Time,
    /// How long each was watched.
    pub phase_s: u64,
    /// What everything random came from.
    pub seeds: Vec<u64>,
    /// The score.
    pub totals: Totals,
    /// Events with a wrong signature.
    pub refused_events: u64,
    /// Every deploy.
    pub outcomes: Vec<Outcome>,
}

impl MeshReport {
    pub(super) fn new(time: Time, phase_s: u64, seeds: Vec<u64>, outcomes: Vec<Outcome>, refused_events: u64) -> Self {
        let totals = Totals::of(&outcomes);
        Self { time, phase_s, seeds, totals, refused_events, outcomes }
    }

    /// Says whether precision, recall, culprits and pages are as promised.
    pub fn is_right(&self) -> bool {
        let at_least = |value: Option<f64>, wanted: f64| value.is_none_or(|value| value >= wanted);
        at_least(self.totals.precision, 0.97)
            && at_least(self.totals.recall, 0.99)
            && at_least(self.totals.culprit_first, 0.95)
            && self.refused_events == 0
    }
}

impl Totals {
    fn of(outcomes: &[Outcome]) -> Self {
        let count = |keep: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|o| keep(o)).count();
        let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
        let is_bad = |o: &Outcome| o.expected == "bad" && o.suffices;
        let is_harmless = |o: &Outcome| matches!(o.expected, "harmless" | "inconclusive");
        let regressed = |o: &Outcome| o.verdict == "regressed";
        let bad = count(&is_bad);
        let caught = count(&|o| is_bad(o) && regressed(o));
        let false_alarms = count(&|o| is_harmless(o) && regressed(o));
        let named = count(&|o| is_bad(o) && o.culprit_right == Some(true));
        let mut seconds: Vec<f64> =
            outcomes.iter().filter(|o| is_bad(o) && regressed(o)).filter_map(|o| o.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| seconds.get(((seconds.len() as f64 * share).ceil() as usize).max(1) - 1).copied();
        Self {
            bad,
            caught,
            inconclusive: count(&|o| is_bad(o) && o.verdict == "inconclusive"),
            harmless: count(&is_harmless),
            false_alarms,
            passed: count(&|o| o.expected == "harmless" && o.verdict == "pass"),
            precision: share(caught, caught + false_alarms),
            recall: share(caught, bad),
            culprit_first: share(named, caught),
            seconds_median: at(0.5),
            seconds_p90: at(0.9),
            pages_right: count(&|o| o.pages_right),
            pages: outcomes.len(),
        }
    }
}
