//! One judgement: compare, test, decide, explain.

use plimsoll_model::sentence::lasting;
use plimsoll_model::verdict::Phase;
use plimsoll_model::{
    Comparison, Culprit, Design, Finding, Recommendation, SignalKind, UnixNanos, Verdict, VerdictKind,
};

use crate::aftermath;
use crate::comparison;
use crate::decision::{self, Decision};
use crate::design::Frame;
use crate::findings::{self, Test};
use crate::flag;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::measured;
use crate::quality;
use crate::records;
use crate::summary;
use crate::surprise;
use crate::symptoms;
use crate::weights;

/// Judges one deploy at one moment.
///
/// The answer is computed from the series alone; the former verdict keeps a `regressed` from being taken back, keeps a
/// `pass` unless a regression is confirmed after all, and lets `revision` grow only where something changed.
pub fn judge(input: &JudgeInput) -> Verdict {
    if let Some(asked) = asked_otherwise(input) {
        return judge(&asked);
    }
    let mut fold = Fold::new(Frame::of(input), input);
    fold.advance(input);
    conclude(input, &fold)
}

/// Returns how unusual the service is since the start of the deploy, by what it emits against its own past, and which of its
/// series is the most unusual.
///
/// It ranks services by what happened to them at one moment, whether or not any test has the traffic to decide; no error
/// probability belongs to it.
pub fn suspicion(input: &JudgeInput) -> (f64, String) {
    // Who served when is known by what else was emitted where there are no requests.
    let by_others = measured::by_metrics(input).or_else(|| records::by_records(input));
    let most = surprise::largest(by_others.as_ref().unwrap_or(input));
    most.map_or((0.0, String::new()), |most| (most.log, most.about))
}

/// Returns the same question put better, where there is a better one: of a flag's arms, of request metrics, of
/// log records, of weights.
pub(crate) fn asked_otherwise(input: &JudgeInput) -> Option<JudgeInput> {
    let by_metrics = || measured::by_metrics(input).or_else(|| records::by_records(input));
    flag::by_arms(input).or_else(by_metrics).or_else(|| weights::evened(input))
}

/// Says what the folded tests amount to.
pub(crate) fn conclude(input: &JudgeInput, fold: &Fold) -> Verdict {
    let tests = findings::tests(fold, &input.tolerances);
    let decision = decision::decide(input, fold);
    let mut found = found(input, fold, &tests, &decision);
    if let Some(flag) = &input.flag {
        // The arms are judged as versions are; whoever is to undo it needs to know of which flag.
        let deploy = &input.deploy;
        let own = |culprit: &Culprit| culprit.service == deploy.service.service && culprit.version == deploy.version;
        found
            .iter_mut()
            .filter(|finding| own(&finding.culprit))
            .for_each(|finding| finding.culprit.version = format!("{flag}={}", deploy.version));
    }
    let former = input.previous.as_ref();
    let was = |kind: VerdictKind| former.is_some_and(|v| v.decided && v.verdict == kind);

    // What is still to come of the watch time may show something.
    let watched = input.known_until() >= input.deploy.started_at + input.tolerances.watch_max();
    let ended = watched || input.superseded_at.is_some();
    let confirmed = matches!(decision.phase, Phase::Confirmed | Phase::Recovered);
    let (verdict, decided, phase) = if confirmed {
        (VerdictKind::Regressed, true, decision.phase)
    } else if was(VerdictKind::Regressed) {
        // What was confirmed stays said, though the series that showed it may be gone. Silence is over with what serves.
        if let Some(former) = former {
            found.clone_from(&former.findings);
        }
        let silent = |f: &Finding| f.signal == SignalKind::Silence && f.operation.is_empty() && f.unit == "requests/s";
        let refuted = fold.flow.serves(fold.frame.end, &input.tolerances)
            && former.is_some_and(|v| v.findings.iter().filter(|f| !f.symptom).all(silent));
        let phase = if refuted {
            Phase::Recovered
        } else {
            former.map_or(Phase::Confirmed, |v| aftermath::phase(input, fold, v))
        };
        (VerdictKind::Regressed, true, phase)
    } else if decision.pass || (was(VerdictKind::Pass) && decision.phase == Phase::Clear) {
        (VerdictKind::Pass, true, Phase::Clear)
    } else {
        (VerdictKind::Inconclusive, ended, decision.phase)
    };
    let decided_at = decided.then(|| match former.filter(|v| v.decided && v.verdict == verdict) {
        Some(former) => former.decided_at.unwrap_or(former.evaluated_at),
        None => decision.confirmed_at.filter(|_| confirmed).unwrap_or(input.now),
    });
    let mut result = Verdict {
        deploy_id: input.deploy.id.clone(),
        verdict,
        decided,
        recommendation: recommendation(verdict, phase),
        design: fold.design(),
        comparison: comparison::of(fold),
        started_at: input.deploy.started_at,
        decided_at,
        time_to_decide_s: decision.time_to_decide_s.filter(|_| !decided),
        findings: found,
        data_quality: quality::words(input, fold, &tests),
        phase,
        summary: String::new(),
        evaluated_at: input.now,
        revision: 0,
    };
    result.summary = sentence(input, fold, &result);
    result.revision = match former {
        Some(former) if same_answer(former, &result) => former.revision,
        Some(former) => former.revision + 1,
        None => 1,
    };
    result
}

/// Says whether two verdicts tell a reader the same: numbers may have moved a little, the answer has not.
///
/// What counts is the answer, its phase, which findings there are and whom they blame, the words about the data, and
/// whether a finding's candidate value moved by more than half.
pub fn same_answer(one: &Verdict, other: &Verdict) -> bool {
    let identity = |v: &Verdict| -> Vec<(String, String)> {
        let mut ids: Vec<_> =
            v.findings.iter().map(|f| (f.id.to_string(), format!("{:?} {}", f.culprit, f.symptom))).collect();
        ids.sort();
        ids
    };
    let moved = |finding: &Finding| {
        other.findings.iter().find(|f| f.id == finding.id).is_some_and(|f| {
            let (a, b) = (finding.candidate.value.max(1e-9), f.candidate.value.max(1e-9));
            a / b > 1.5 || b / a > 1.5
        })
    };
    // How often it is looked at says nothing of the answer.
    fn of_the_data(verdict: &Verdict) -> impl Iterator<Item = &String> {
        verdict.data_quality.iter().filter(|word| *word != quality::MANY_DEPLOYS)
    }
    one.verdict == other.verdict
        && one.decided == other.decided
        && one.phase == other.phase
        && one.recommendation == other.recommendation
        && one.design == other.design
        && of_the_data(one).eq(of_the_data(other))
        && identity(one) == identity(other)
        && !one.findings.iter().any(moved)
}

fn recommendation(verdict: VerdictKind, phase: Phase) -> Recommendation {
    match (verdict, phase) {
        (VerdictKind::Pass, _) => Recommendation::Promote,
        (VerdictKind::Regressed, Phase::Confirmed) => Recommendation::Rollback,
        _ => Recommendation::Hold,
    }
}

/// Lists what exceeded its tolerance, worst first, then the callers that suffer from it.
fn found(input: &JudgeInput, fold: &Fold, tests: &[Test], decision: &Decision) -> Vec<Finding> {
    // e-BH over what may be read at this moment: of K tests the k-th largest must reach K / (k * fdr).
    const FALSE_SHARE: f64 = 0.05;
    let mut exceeded: Vec<&Test> = tests.iter().filter(|test| test.standing.exceeded_at.is_some()).collect();
    exceeded.retain(|test| !fold.is_suppressed(test.subject));
    let many = fold.paired() >= input.tolerances.requests_min;
    exceeded.retain(|test| many || test.standing.triggered_at.is_some());
    exceeded.sort_by(|a, b| b.standing.adjusted().total_cmp(&a.standing.adjusted()));
    let level = |rank: usize| (tests.len() as f64 / (rank as f64 * FALSE_SHARE)).ln();
    let kept = (1..=exceeded.len()).rev().find(|k| exceeded[k - 1].standing.adjusted() >= level(*k)).unwrap_or(0);
    // What was confirmed stays listed: the gate has answered for it.
    let mut rank_of = 0;
    exceeded.retain(|test| {
        rank_of += 1;
        rank_of <= kept || test.standing.confirmed_at.is_some()
    });
    if decision.phase == Phase::Clear {
        // Without an alarm only what points elsewhere is worth showing.
        exceeded.retain(|test| test.standing.elsewhere);
    }
    let mut found: Vec<Finding> = exceeded.into_iter().map(|test| findings::of_test(input, fold, test)).collect();
    // What shows at the top where the service's own numbers show it too is a symptom of those.
    let own = &input.deploy.service.service;
    if found.iter().any(|f| !f.symptom && f.service == *own) {
        for finding in found.iter_mut().filter(|f| f.service != *own) {
            finding.symptom = true;
            finding.summary = finding.sentence();
        }
    }
    found.sort_by(|a, b| (a.symptom, rank(a)).cmp(&(b.symptom, rank(b))).then_with(|| b.e_value.total_cmp(&a.e_value)));
    if let Some(culprit) = found.iter().find(|f| !f.symptom).map(|f| f.culprit.clone()) {
        let told = |f: &Finding| (f.service.clone(), f.operation.clone(), f.signal);
        let known: Vec<_> = found.iter().map(told).collect();
        let more = symptoms::find(input, &fold.frame, &culprit);
        found.extend(more.into_iter().filter(|f| !known.contains(&told(f))));
    }
    found
}

fn rank(finding: &Finding) -> u8 {
    match finding.signal {
        SignalKind::ErrorRate => 0,
        SignalKind::Latency => 1,
        SignalKind::NewException => 2,
        _ => 3,
    }
}

fn sentence(input: &JudgeInput, fold: &Fold, verdict: &Verdict) -> String {
    let (service, version) = (&input.deploy.service.service, &input.deploy.version);
    let name = match &input.flag {
        Some(flag) => format!("{service} with `{flag}` {version}"),
        None => format!("{service} {version}"),
    };
    let against = summary::against(input, verdict.design, &fold.frame.control_versions);
    let calls = summary::grouped(fold.requests());
    let fatal = summary::fatal(fold);
    let passed = |text: String| match &fatal {
        Some(fatal) => format!("{text}; since then it {fatal}"),
        None => text,
    };
    match (verdict.verdict, verdict.phase, verdict.findings.iter().find(|f| !f.symptom)) {
        (VerdictKind::Pass, ..) if fold.by_levels() => {
            let logged = if input.by_records {
                format!(", and {calls} records show nothing that is new")
            } else {
                String::new()
            };
            passed(format!("{name} is no worse than {against}, by {} of its metrics{logged}", fold.metrics.len()))
        }
        (VerdictKind::Pass, ..) if verdict.design == Design::Slo => {
            passed(format!("{name} fails no more than is tolerated, over {calls} calls"))
        }
        (VerdictKind::Pass, ..) => passed(format!("{name} is no worse than {against}, over {calls} calls")),
        (VerdictKind::Regressed, Phase::Recovered, Some(finding)) if input.superseded_at.is_some() => {
            format!("recovered since a later deploy replaced it: {}", finding.summary)
        }
        (VerdictKind::Regressed, Phase::Recovered, Some(finding)) => format!("recovered: {}", finding.summary),
        (VerdictKind::Regressed, _, Some(finding)) => finding.summary.clone(),
        (VerdictKind::Regressed, ..) if verdict.design == Design::Slo => {
            format!("{name} fails more than is tolerated")
        }
        (VerdictKind::Regressed, ..) => format!("{name} is worse than {against}"),
        (_, Phase::Suspected, Some(finding)) => match &fatal {
            Some(fatal) if finding.signal != SignalKind::NewLog => {
                format!("suspected: {}; besides it {fatal}", finding.summary)
            }
            _ => format!("suspected: {}", finding.summary),
        },
        (VerdictKind::Inconclusive, ..) => {
            let reason = if let Some(fatal) = &fatal {
                let unserved = if fold.requests() == 0 { "no traffic has reached it yet, and " } else { "" };
                format!("{unserved}it {fatal}, which forbids a pass")
            } else if fold.by_levels() {
                "its metrics do not show yet whether it is worse".to_owned()
            } else if verdict.data_quality.iter().any(|word| word == quality::SEEN_ELSEWHERE) {
                let environment = match input.deploy.service.environment.as_str() {
                    "" => "without an environment".to_owned(),
                    environment => format!("in `{environment}`"),
                };
                format!(
                    "no telemetry names it {environment} as its marker does, only with another environment or namespace"
                )
            } else if fold.requests() == 0 {
                "no traffic has reached it yet".to_owned()
            } else if fold.control_requests() == 0 {
                "there is nothing to compare it with".to_owned()
            } else if input.by_records {
                format!("only its logs are known, and {calls} records show nothing that is new")
            } else if let Some(symptom) = verdict.findings.iter().find(|f| f.symptom) {
                match &symptom.culprit {
                    own if own.service == *service => {
                        format!("what is worse began with {} {}", own.service, own.version)
                    }
                    other => format!("what is worse began in {}", other.service),
                }
            } else if let Some((share, meant)) = fold.share.mismatch(&input.tolerances) {
                let percent = plimsoll_model::sentence::percent;
                format!("it gets {} of the requests where {} are meant for it", percent(share), percent(meant))
            } else if fold.paired() < input.tolerances.requests_min {
                format!("{} comparable calls are too few", summary::grouped(fold.paired()))
            } else {
                format!("{calls} calls do not show yet whether it is worse")
            };
            match (verdict.decided, verdict.time_to_decide_s) {
                (false, Some(seconds)) if seconds > 0 => {
                    format!("{name}: {reason}; it takes about {} more at the present traffic", lasting(seconds))
                }
                _ => format!("{name}: {reason}"),
            }
        }
    }
}

/// The verdict on a deploy of which nothing has been seen.
pub fn unseen(deploy: &plimsoll_model::Deploy, now: UnixNanos) -> Verdict {
    Verdict {
        deploy_id: deploy.id.clone(),
        verdict: VerdictKind::Inconclusive,
        decided: false,
        recommendation: Recommendation::Hold,
        design: Design::BeforeAfter,
        comparison: Comparison::default(),
        started_at: deploy.started_at,
        decided_at: None,
        time_to_decide_s: None,
        findings: Vec::new(),
        data_quality: vec![quality::NO_CANDIDATE_TRAFFIC.to_owned()],
        phase: Phase::Clear,
        summary: format!("{} {} has not been judged yet", deploy.service.service, deploy.version),
        evaluated_at: now,
        revision: 0,
    }
}
