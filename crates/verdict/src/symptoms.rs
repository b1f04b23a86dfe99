//! Callers that suffer with the deployed service: shown beside the finding that explains them, never counted.
//!
//! A caller's operation is a symptom where its errors or latency rose with the start and the excess is traced to the
//! deployed service. The comparison is before/after and guarded accordingly.

use std::collections::BTreeMap;

use plimsoll_model::signal::{AgeClass, Histogram, OperationCell, OperationKind, Party};
use plimsoll_model::{Bucket, Culprit, Explanation, Finding, FindingId, Interval, ServiceKey, SignalKind};

use crate::design::{Cells, Frame};
use crate::e_process::{self, Stratum};
use crate::errors;
use crate::evidence::{self, Scope};
use crate::findings;
use crate::input::JudgeInput;
use crate::latency;
use crate::rate;
use crate::totals;
use crate::unanswered::is_name_of;

const DISPERSION: f64 = 2.0;
const LISTED_MAX: usize = 10;

#[derive(Default)]
struct Sides<'a> {
    before: Cells<'a>,
    after: Cells<'a>,
}

/// Finds symptoms of `culprit`.
pub(crate) fn find(input: &JudgeInput, frame: &Frame, culprit: &Culprit) -> Vec<Finding> {
    let (start, end, earliest) = (frame.from, frame.end, frame.earliest);
    let mut sides: BTreeMap<(&ServiceKey, &str, OperationKind), Sides<'_>> = BTreeMap::new();
    for series in input.related.iter().filter(|s| s.key.service != input.deploy.service) {
        let key = (&series.key.service, series.key.operation.as_str(), series.key.kind);
        let side = sides.entry(key).or_default();
        for (bucket, cell) in &series.cells {
            if *bucket >= start && *bucket < end {
                side.after.push((*bucket, series.key.age, cell));
            } else if *bucket >= earliest && *bucket < start {
                side.before.push((*bucket, series.key.age, cell));
            }
        }
    }
    let control_span = Interval { from: earliest.start(), to: start.start() };
    let mut found = Vec::new();
    for ((service, operation, kind), side) in &sides {
        let scope = Scope {
            service,
            operations: vec![operation],
            kind: Some(*kind),
            flag: None,
            weighted: false,
            records: false,
            metric: None,
            named: None,
            candidate: Default::default(),
            candidate_span: frame.candidate_span(),
            control: Default::default(),
            control_span,
            without: Vec::new(),
        };
        found.extend(errors_of(input, culprit, &scope, side));
        found.extend(latency_of(input, culprit, &scope, side));
    }
    found.sort_by(|a, b| b.e_value.total_cmp(&a.e_value).then_with(|| a.id.cmp(&b.id)));
    found.truncate(LISTED_MAX);
    found
}

fn errors_of(input: &JudgeInput, culprit: &Culprit, scope: &Scope<'_>, side: &Sides<'_>) -> Option<Finding> {
    let (baseline, candidate) = (totals::failed(&side.before, false), totals::failed(&side.after, false));
    if candidate.value - baseline.value <= errors::tolerated(baseline.value, &input.tolerances) {
        return None;
    }
    let blamed = |cells: &Cells<'_>| -> u64 {
        let blame = cells.iter().flat_map(|(_, _, cell)| &cell.blame);
        blame.filter(|(party, _)| party.service == culprit.service).map(|(_, count)| count).sum()
    };
    let all: u64 = side.after.iter().flat_map(|(_, _, cell)| cell.blame.values()).sum();
    if blamed(&side.after) * 2 < all || all == 0 {
        return None;
    }
    let stratum = stratum(
        (candidate.value * candidate.n as f64, candidate.n as f64),
        (baseline.value * baseline.n as f64, baseline.n as f64),
        input,
    );
    finish(input, culprit, scope, SignalKind::ErrorRate, stratum, (baseline, candidate), side, None)
}

fn latency_of(input: &JudgeInput, culprit: &Culprit, scope: &Scope<'_>, side: &Sides<'_>) -> Option<Finding> {
    let mut control = Histogram::default();
    side.before.iter().for_each(|(_, _, cell)| control.merge(&cell.latency));
    let edge = control.quantile_index(0.95)?;
    let mean = |cells: &Cells<'_>, of: &dyn Fn(&OperationCell) -> u64| {
        let assembled: u64 = cells.iter().map(|c| c.2.assembled).sum();
        (assembled > 0).then(|| cells.iter().map(|c| of(c.2)).sum::<u64>() as f64 / assembled as f64)
    };
    let through = |cell: &OperationCell| -> u64 {
        let meant =
            |p: &Party| p.service == culprit.service || (p.is_unanswered() && is_name_of(&p.service, &culprit.service));
        cell.callees.iter().filter(|(p, _)| meant(p)).map(|(_, time)| time.critical_ns).sum()
    };
    // What was waited for in vain counts as the caller's own.
    let in_vain = |cell: &OperationCell| -> u64 {
        let meant = cell.callees.iter().filter(|(p, _)| p.is_unanswered() && is_name_of(&p.service, &culprit.service));
        meant.map(|(_, time)| time.critical_ns).sum()
    };
    let rest = |cell: &OperationCell| cell.self_time_ns.saturating_sub(in_vain(cell));
    let grown = mean(&side.after, &through)? - mean(&side.before, &through)?;
    let own = mean(&side.after, &rest)? - mean(&side.before, &rest)?;
    let (baseline, candidate) = (findings::p95(&side.before), findings::p95(&side.after));
    let tolerances = &input.tolerances;
    let allowed = (baseline.value * tolerances.latency_ratio).max(tolerances.latency_floor_ms);
    if grown <= own.max(0.0) || candidate.value - baseline.value <= allowed {
        return None;
    }
    let above = |cells: &Cells<'_>| {
        cells.iter().fold((0.0, 0.0), |sum, (_, _, cell)| {
            (sum.0 + cell.latency.count_above(edge) as f64, sum.1 + cell.latency.count() as f64)
        })
    };
    let stratum = stratum(above(&side.after), above(&side.before), input);
    let mut after = Histogram::default();
    side.after.iter().for_each(|(_, _, cell)| after.merge(&cell.latency));
    let slower = Some((&after, &control));
    finish(input, culprit, scope, SignalKind::Latency, stratum, (baseline, candidate), side, slower)
}

fn stratum(candidate: (f64, f64), control: (f64, f64), input: &JudgeInput) -> Stratum {
    Stratum {
        bucket: Bucket(0),
        bad_b: candidate.0,
        n_b: candidate.1,
        bad_a: control.0,
        n_a: control.1,
        handicap: input.tolerances.drift_ratio,
        caution: 1.0,
    }
}

#[expect(clippy::too_many_arguments, reason = "one caller for each signal, all parts of one finding")]
fn finish(
    input: &JudgeInput,
    culprit: &Culprit,
    scope: &Scope<'_>,
    signal: SignalKind,
    stratum: Stratum,
    (baseline, candidate): (plimsoll_model::Sample, plimsoll_model::Sample),
    side: &Sides<'_>,
    slower: Option<(&Histogram, &Histogram)>,
) -> Option<Finding> {
    let log_e = e_process::run(&[stratum], 1.0, DISPERSION).sup();
    if log_e < (1.0 / input.tolerances.bound_alpha).ln() {
        return None;
    }
    let (operation, kind) = (*scope.operations.first()?, scope.kind?);
    let slow = slower.is_some();
    let floor = if slow { 1e-6 } else { 0.5 / baseline.n.max(1) as f64 };
    let effect = candidate.value / baseline.value.max(floor);
    let interval = match slower {
        Some((after, before)) => latency::growth(after, before, DISPERSION, rate::EFFECT_ALPHA),
        None => {
            let (after, before) = ((stratum.bad_b, stratum.n_b), (stratum.bad_a, stratum.n_a));
            rate::count_ratio(after, before, DISPERSION, rate::EFFECT_ALPHA)
        }
    };
    let mut finding = Finding {
        id: FindingId::derive(&input.deploy.id, signal.as_str(), &scope.service.service, operation, kind.as_str()),
        signal,
        service: scope.service.service.clone(),
        operation: operation.to_owned(),
        culprit: culprit.clone(),
        baseline,
        candidate,
        unit: if slow { "ms" } else { "ratio" }.to_owned(),
        effect,
        interval,
        e_value: log_e.min(690.0).exp(),
        p_value: (-log_e).exp().min(1.0),
        exemplars: findings::exemplars(side.after.iter().map(|c: &(Bucket, AgeClass, &OperationCell)| c.2), slow),
        sql: if slow { evidence::latency(scope) } else { evidence::errors(scope) },
        summary: String::new(),
        symptom: true,
        explanation: Explanation { against: "before the deploy".to_owned(), ..Explanation::default() },
    };
    finding.summary = finding.sentence();
    Some(finding)
}
