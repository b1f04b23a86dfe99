//! Tests that found something, as findings with their evidence.

use plimsoll_model::log::{Level, LogSeries};
use plimsoll_model::signal::{Exemplars, Histogram, OperationCell};
use plimsoll_model::verdict::LEVEL;
use plimsoll_model::{Culprit, Design, Explanation, Finding, FindingId, Interval, Sample, SignalKind};

use crate::alone;
use crate::by_zone::ByZone;
use crate::design::{Cells, Role};
use crate::evidence::{self, Scope};
use crate::explain;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::latency;
use crate::measured;
use crate::paths;
use crate::rate::{self, EFFECT_ALPHA};
use crate::restarts::Starts;
use crate::scopes::{control_of, ever, level, source, whole};
use crate::standing::Standing;
use crate::subject::Subject;
use crate::summary;
use crate::tolerances::Tolerances;
use crate::totals;
use crate::view::{self, View, of_operation};

const EXEMPLARS_MAX: usize = 5;

/// One test as it stands, with whom it points at.
#[derive(Debug, Clone)]
pub(crate) struct Test {
    pub(crate) subject: Subject,
    pub(crate) standing: Standing,
    /// Known only where the tolerance was exceeded.
    pub(crate) culprit: Option<Culprit>,
    /// False where no trace was whole enough to tell.
    pub(crate) traced: bool,
}

/// Lists every test.
pub(crate) fn tests(fold: &Fold, tolerances: &Tolerances) -> Vec<Test> {
    let each = fold.subjects().into_iter().map(|(subject, _)| {
        let standing = *fold.standing(subject);
        let origin = standing.exceeded_at.map(|_| fold.origin(subject, tolerances));
        let traced = origin.as_ref().is_none_or(|origin| origin.traced);
        Test { subject, standing, culprit: origin.map(|origin| origin.culprit), traced }
    });
    each.collect()
}

/// What is specific to a signal.
struct Numbers {
    /// Where it shows, if that is not the deployed service.
    service: Option<String>,
    operation: String,
    baseline: Sample,
    candidate: Sample,
    unit: &'static str,
    interval: [f64; 2],
    sql: String,
    /// What the sentence says beside the numbers.
    explanation: Explanation,
    identity: String,
    exemplars: Vec<String>,
}

/// Makes the finding of a test.
pub(crate) fn of_test(input: &JudgeInput, fold: &Fold, test: &Test) -> Finding {
    let deploy = &input.deploy;
    let mut numbers = numbers(input, fold, test);
    // Where the baseline is zero the effect has no value; half an observation stands in for it.
    let floor = if numbers.unit == "ms" { 1e-6 } else { 0.5 / numbers.baseline.n.max(1) as f64 };
    let e_value = test.standing.sup.min(690.0).exp();
    let read = match test.subject {
        Subject::Errors(index) | Subject::Alone(index) | Subject::Latency(index) => Some(index),
        _ => None,
    };
    let mut signal = test.subject.signal();
    let read = read.map(|index| &fold.operations[index]);
    if let Some((op, source)) = read.and_then(|op| Some((op, source(input, op)?))) {
        let slow = matches!(test.subject, Subject::Latency(_));
        let what = if slow { "the p95 in ms" } else { "failed requests" };
        signal = SignalKind::Metric;
        numbers.explanation.subject = format!("{what} of `{}` by `{}`", numbers.operation, source.name);
        numbers.sql = evidence::measured(&of_operation(input, fold, op), &source, slow);
        numbers.exemplars.clear();
    }
    // What has no control is held against an objective, whatever the others are held against.
    let design = if matches!(test.subject, Subject::Alone(_)) { Design::Slo } else { fold.design() };
    let service = numbers.service.as_ref().unwrap_or(&deploy.service.service);
    let mut finding = Finding {
        id: FindingId::derive(&deploy.id, signal.as_str(), service, &numbers.operation, &numbers.identity),
        signal,
        service: service.clone(),
        culprit: test.culprit.clone().unwrap_or_else(|| Culprit {
            service: deploy.service.service.clone(),
            version: fold.frame.version.clone(),
            operation: numbers.operation.clone(),
        }),
        operation: numbers.operation,
        baseline: numbers.baseline,
        candidate: numbers.candidate,
        unit: numbers.unit.to_owned(),
        effect: numbers.candidate.value / Some(numbers.baseline.value).filter(|value| *value > 0.0).unwrap_or(floor),
        interval: numbers.interval,
        e_value,
        p_value: match test.subject {
            Subject::Throughput => fold.flow.rank().unwrap_or((1.0 / e_value).min(1.0)),
            _ => (1.0 / e_value).min(1.0),
        },
        exemplars: numbers.exemplars,
        sql: numbers.sql,
        summary: String::new(),
        symptom: test.standing.elsewhere,
        explanation: if numbers.service.is_some() {
            numbers.explanation
        } else {
            Explanation {
                version: fold.frame.version.clone(),
                against: [summary::against(input, design, &fold.frame.control_versions), numbers.explanation.against]
                    .join(" ")
                    .trim_end()
                    .to_owned(),
                flag: input.flag.clone().unwrap_or_default(),
                ..numbers.explanation
            }
        },
    };
    if finding.baseline.value > 0.0 && finding.baseline.n > 0 {
        // Strata may agree on less than the totals show: what is told holds both.
        finding.interval = [finding.interval[0].min(finding.effect), finding.interval[1].max(finding.effect)];
    }
    finding.summary = finding.sentence();
    finding
}

fn numbers(input: &JudgeInput, fold: &Fold, test: &Test) -> Numbers {
    match test.subject {
        Subject::Errors(index) | Subject::Alone(index) => {
            let op = &fold.operations[index];
            let mut view = View::of(input, fold, index);
            if let (Subject::Alone(_), Some(since)) = (test.subject, op.alone.burns_since()) {
                view.scope.candidate_span.from = since.start();
                view.candidate.retain(|(bucket, ..)| *bucket >= since);
            }
            let by_zone = ByZone::told(input, fold, test.subject, &view);
            let (baseline, interval) = if let Subject::Alone(_) = test.subject {
                let usual = op.usual_errors(fold.usual_errors());
                let usual = Sample { value: alone::objective(usual, &input.tolerances), n: 0 };
                (usual, op.alone.share_interval(EFFECT_ALPHA).map(|share| share / usual.value))
            } else {
                let interval = rate::ratio_interval(&op.errors.strata(), op.errors.standing.dispersion, EFFECT_ALPHA);
                let plain = || totals::failed(&view.control, input.weighted);
                (by_zone.as_ref().map_or_else(plain, |by_zone| by_zone.baseline), interval)
            };
            let mut explanation = explain::errors(&view.candidate, &view.control, fold.design(), by_zone.as_ref());
            if by_zone.is_some() {
                explanation.against = "in the zones that it serves".to_owned();
            }
            if let Some(place) = &mut explanation.place {
                place.sql = evidence::place(&view.scope, place);
            }
            Numbers {
                operation: op.name.clone(),
                baseline,
                candidate: totals::failed(&view.candidate, input.weighted),
                unit: "ratio",
                interval,
                sql: match &by_zone {
                    Some(by_zone) => evidence::errors_by_zone(&view.scope, by_zone),
                    None => evidence::errors(&view.scope),
                },
                explanation,
                identity: op.kind.as_str().to_owned(),
                exemplars: exemplars(view.candidate.iter().map(|c| c.2), false),
                service: None,
            }
        }
        Subject::Latency(index) => {
            let view = View::of(input, fold, index);
            let op = &fold.operations[index];
            let merged = |cells: &Cells<'_>| {
                let mut all = Histogram::default();
                cells.iter().for_each(|(_, _, cell)| all.merge(&cell.latency));
                all
            };
            Numbers {
                operation: op.name.clone(),
                baseline: p95(&view.control),
                candidate: p95(&view.candidate),
                unit: "ms",
                interval: latency::growth(
                    &merged(&view.candidate),
                    &merged(&view.control),
                    test.standing.dispersion,
                    EFFECT_ALPHA,
                ),
                sql: evidence::latency(&view.scope),
                explanation: explain::latency(&view.candidate, &view.control),
                identity: op.kind.as_str().to_owned(),
                exemplars: exemplars(view.candidate.iter().map(|c| c.2), true),
                service: None,
            }
        }
        Subject::Calls(index, callee) => {
            let view = View::of(input, fold, index);
            let op = &fold.operations[index];
            let test = &op.calls.tests[callee];
            // Spans alone tell of calls, whatever counts requests.
            let sample = |role: Role| {
                let cells = view::cells(fold, measured::spans(input), op, role);
                let n: u64 = cells.iter().map(|(_, _, cell)| cell.assembled).sum();
                let calls: u64 = cells
                    .iter()
                    .flat_map(|(_, _, cell)| &cell.callees)
                    .filter(|(p, _)| p.service == test.service && p.operation == test.operation)
                    .map(|(_, time)| time.calls)
                    .sum();
                Sample { value: calls as f64 / n.max(1) as f64, n }
            };
            Numbers {
                operation: op.name.clone(),
                baseline: sample(control_of(fold)),
                candidate: sample(Role::Candidate),
                unit: "calls/request",
                interval: test.interval(EFFECT_ALPHA),
                sql: evidence::calls(&view.scope, &test.service, &test.operation),
                explanation: explain::about(format!("{} `{}`", test.service, test.operation)),
                identity: format!("{} {} {}", op.kind.as_str(), test.service, test.operation),
                exemplars: exemplars(view.candidate.iter().map(|c| c.2), true),
                service: None,
            }
        }
        Subject::New(fingerprint) => {
            let seen = &fold.novelty.all[&fingerprint];
            let operation = fold.operations.get(seen.operation());
            let cells = operation.map(|op| fold.frame.cells(&input.series, &op.name, op.kind, Role::Candidate));
            let sample = |roles: &[Role]| totals::exceptions(input, fold, roles, fingerprint);
            Numbers {
                operation: operation.map_or_else(String::new, |op| op.name.clone()),
                baseline: sample(&[Role::Before, Role::Control]),
                candidate: sample(&[Role::Candidate]),
                unit: "ratio",
                interval: fold.novelty.interval(seen, EFFECT_ALPHA),
                sql: evidence::exception(&ever(input, fold), fingerprint),
                explanation: explain::about(explain::exception_name(&seen.kind, &seen.message)),
                identity: fingerprint.0.to_string(),
                exemplars: exemplars(cells.iter().flatten().map(|c| c.2), false),
                service: None,
            }
        }
        Subject::NewLog(fingerprint) => {
            let seen = &fold.logs.all[&fingerprint];
            let same = |log: &LogSeries| log.level >= Level::Error && log.template == seen.message;
            let traces =
                input.aggregates.logs.iter().filter(|s| s.version == fold.frame.version && s.template == seen.message);
            Numbers {
                operation: String::new(),
                baseline: totals::messages(input, fold, &[Role::Before, Role::Control], same),
                candidate: totals::messages(input, fold, &[Role::Candidate], same),
                unit: "ratio",
                interval: fold.logs.interval(seen, EFFECT_ALPHA),
                sql: evidence::logs(&ever(input, fold), Some(&seen.message)),
                explanation: explain::about(explain::exception_name("", &seen.message)),
                identity: fingerprint.0.to_string(),
                exemplars: traces
                    .flat_map(|s| &s.cells)
                    .flat_map(|(_, cell)| &cell.exemplars.0)
                    .map(hex)
                    .take(EXEMPLARS_MAX)
                    .collect(),
                service: None,
            }
        }
        Subject::LogErrors => {
            let test = &fold.log_errors.test;
            let sample = |role: Role| totals::messages(input, fold, &[role], |log| log.level >= Level::Error);
            Numbers {
                operation: String::new(),
                baseline: sample(control_of(fold)),
                candidate: sample(Role::Candidate),
                unit: "messages/request",
                interval: rate::ratio_interval(&test.strata(), test.standing.dispersion, EFFECT_ALPHA),
                sql: evidence::logs(&whole(input, fold), None),
                explanation: Explanation::default(),
                identity: "error_messages".to_owned(),
                exemplars: Vec::new(),
                service: None,
            }
        }
        Subject::LogFlow(index) => {
            let test = &fold.log_flow.tests.tests[index];
            let (level, template) = (test.service.as_str(), test.operation.as_str());
            let same = |log: &LogSeries| log.template == template && log.level.as_str() == level;
            let sample = |role: Role| totals::messages(input, fold, &[role], same);
            Numbers {
                operation: String::new(),
                baseline: sample(control_of(fold)),
                candidate: sample(Role::Candidate),
                unit: "messages/request",
                interval: test.interval(EFFECT_ALPHA),
                sql: evidence::messages(&whole(input, fold), level, template),
                explanation: explain::about(explain::exception_name("", &test.operation)),
                identity: format!("flow {} {}", test.service, test.operation),
                exemplars: Vec::new(),
                service: None,
            }
        }
        Subject::Action(index) => {
            let test = &fold.actions.tests[index];
            let sample = |role: Role| totals::actions(input, fold, role, &test.action);
            Numbers {
                operation: String::new(),
                baseline: sample(control_of(fold)),
                candidate: sample(Role::Candidate),
                unit: "actions/request",
                interval: test.interval(EFFECT_ALPHA),
                sql: evidence::actions(&whole(input, fold), &test.action),
                explanation: explain::about(format!("`{}`", test.action)),
                identity: format!("action {}", test.action),
                exemplars: Vec::new(),
                service: None,
            }
        }
        Subject::Path(index) => path(input, fold, index),
        Subject::Metric(index) => {
            let metric = &fold.metrics[index];
            let (b, a) = (metric.candidate.0, metric.baseline.0);
            let usual = a.abs().max(1e-12);
            let attributes: Vec<String> = metric.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let about = match attributes.as_slice() {
                [] => format!("`{}`", metric.name),
                some => format!("`{}` ({})", metric.name, some.join(", ")),
            };
            Numbers {
                operation: String::new(),
                baseline: Sample { value: a, n: metric.baseline.1 },
                candidate: Sample { value: b, n: metric.candidate.1 },
                unit: LEVEL,
                interval: [((b - metric.band) / usual).max(0.0), ((b + metric.band) / usual).min(1e4)],
                sql: level(input, fold, metric),
                identity: about.clone(),
                explanation: explain::about(metric.worded(about)),
                exemplars: Vec::new(),
                service: None,
            }
        }
        Subject::Restarts => {
            let [candidate, control] = [&fold.restarts.candidate, &fold.restarts.control];
            let sample = |arm: &Starts| Sample { value: arm.an_hour(), n: arm.starts as u64 };
            Numbers {
                service: None,
                operation: String::new(),
                baseline: sample(control),
                candidate: sample(candidate),
                unit: "restarts/h",
                interval: fold.restarts.interval(EFFECT_ALPHA),
                sql: evidence::restarts(&ever(input, fold)),
                explanation: Explanation::default(),
                identity: "restarts".to_owned(),
                exemplars: Vec::new(),
            }
        }
        Subject::Throughput | Subject::Silence => {
            let (before, since) = (fold.frame.before_span(), fold.frame.candidate_span());
            let past =
                fold.past_from.map_or(before, |first| Interval { from: first.start().max(before.from), ..before });
            let silence = matches!(test.subject, Subject::Silence);
            let roles: &[Role] = if silence { &[Role::Candidate] } else { &[Role::Candidate, Role::Control] };
            let mut scope = Scope { control_span: past, ..whole(input, fold) };
            if !silence {
                let beside: Vec<&str> = scope.control.iter().copied().collect();
                scope.candidate.extend(beside);
            }
            let sample = |roles: &[Role], span: Interval| {
                let n = totals::requests(input, fold, roles);
                Sample { value: n as f64 / evidence::seconds(span), n }
            };
            let (baseline, candidate) = (sample(&[Role::Before], past), sample(roles, since));
            let counted = |of: Sample, span: Interval| (of.n as f64, evidence::seconds(span));
            Numbers {
                operation: String::new(),
                baseline,
                candidate,
                unit: "requests/s",
                interval: if silence {
                    fold.flow.silence_interval(counted(candidate, since), counted(baseline, past), EFFECT_ALPHA)
                } else {
                    fold.flow.interval(EFFECT_ALPHA)
                },
                sql: evidence::requests(&scope),
                explanation: explain::about(fold.flow.last_seen.map_or_else(String::new, |at| at.end().to_rfc3339())),
                identity: String::new(),
                exemplars: Vec::new(),
                service: None,
            }
        }
    }
}

/// Requests at the top of traces that the candidate took part in, against those with the control in its place.
fn path(input: &JudgeInput, fold: &Fold, index: usize) -> Numbers {
    let (frame, top) = (&fold.frame, &fold.paths.tests[index]);
    let concurrent = fold.design() == Design::Concurrent;
    let control = control_of(fold);
    let mut sums = [(0_u64, 0_u64); 2];
    let mut traces = Exemplars::default();
    for series in input.aggregates.paths.iter().filter(|s| s.entry == top.entry && s.operation == top.operation) {
        let own = paths::split(&series.path, &frame.service.namespace, &frame.service.service);
        let Some((version, _)) = own else { continue };
        for (bucket, cell) in &series.cells {
            let role = frame.role(&version, *bucket);
            let arm = if role == Some(Role::Candidate) { 0 } else { 1 };
            if arm == 0 || role == Some(control) {
                sums[arm] = (sums[arm].0 + cell.failed, sums[arm].1 + cell.traces);
            }
            if arm == 0 {
                traces.merge(&cell.failed_exemplars);
            }
        }
    }
    let [candidate, baseline] = sums.map(|(failed, n)| Sample { value: failed as f64 / n.max(1) as f64, n });
    let who = |version: &str| format!("{} {version}", frame.service.service).trim_end().to_owned();
    let versions: Vec<String> = frame.control_versions.iter().map(|version| who(version)).collect();
    let against = if concurrent { format!("with {}", versions.join(" or ")) } else { "before the deploy".to_owned() };
    Numbers {
        service: Some(top.entry.service.clone()),
        operation: top.operation.clone(),
        baseline,
        candidate,
        unit: "ratio",
        interval: rate::ratio_interval(&top.test.strata(), top.test.standing.dispersion, EFFECT_ALPHA),
        sql: evidence::paths(&whole(input, fold), &top.entry, &top.operation),
        explanation: Explanation {
            against,
            subject: format!("with {}", who(&frame.version)),
            ..Explanation::default()
        },
        identity: "path".to_owned(),
        exemplars: traces.0.iter().map(hex).collect(),
    }
}

/// Pools latency, as the finding's query does.
pub(crate) fn p95(cells: &Cells<'_>) -> Sample {
    let mut all = Histogram::default();
    cells.iter().for_each(|(_, _, cell)| all.merge(&cell.latency));
    Sample { value: all.quantile(0.95).unwrap_or(0.0) / 1e6, n: all.count() }
}

/// Picks traces that show it.
pub(crate) fn exemplars<'a>(cells: impl Iterator<Item = &'a OperationCell>, slow: bool) -> Vec<String> {
    let mut kept: Vec<&Exemplars> = Vec::new();
    let mut slowest = None;
    for cell in cells {
        if !slow {
            kept.push(&cell.failed_exemplars);
            continue;
        }
        let top = cell.latency.0.last_key_value().map(|(index, _)| *index);
        if top > slowest {
            slowest = top;
            kept.clear();
        }
        if top == slowest {
            kept.push(&cell.slow_exemplars);
        }
    }
    let mut found = Vec::new();
    // The latest first: they are the likeliest to be complete and still at hand.
    for id in kept.iter().rev().flat_map(|exemplars| &exemplars.0) {
        let hex = hex(id);
        if !found.contains(&hex) {
            found.push(hex);
        }
        if found.len() == EXEMPLARS_MAX {
            break;
        }
    }
    found
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
