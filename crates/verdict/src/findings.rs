//! Tests that found something, as findings with their evidence.

use std::collections::BTreeSet;

use plimsoll_model::signal::{Exemplars, Histogram, OperationCell};
use plimsoll_model::{Culprit, Design, Finding, FindingId, Sample};

use crate::design::{Cells, Comparison};
use crate::evidence::{self, Scope};
use crate::gate::{Detail, Test};
use crate::input::JudgeInput;
use crate::rate;
use crate::summary;

const EXEMPLARS_MAX: usize = 5;

/// Makes the finding of a test.
pub(crate) fn of_test(input: &JudgeInput, comparison: &Comparison<'_>, test: &Test<'_>) -> Finding {
    let deploy = &input.deploy;
    let service = &deploy.service;
    let op = &comparison.operations[test.operation];
    let control = match comparison.design {
        Design::Concurrent => &op.control,
        _ => &op.before,
    };
    let scope = Scope {
        service,
        operation: Some((op.name, op.kind)),
        candidate: BTreeSet::from([comparison.version]),
        candidate_span: comparison.candidate_span,
        control: comparison.control_versions.clone(),
        control_span: comparison.control_span,
    };
    let assessment = test.assessment();
    let alpha = 0.05;
    let (baseline, candidate, unit, interval, sql, subject, slow) = match &test.detail {
        Detail::Errors(errors) => (
            error_rate(control),
            error_rate(&op.candidate),
            "ratio",
            rate::ratio_interval(&errors.strata, errors.dispersion, alpha),
            evidence::errors(&scope),
            String::new(),
            false,
        ),
        Detail::Latency(latency) => (
            p95(control),
            p95(&op.candidate),
            "ms",
            latency.interval(alpha, &input.tolerances),
            evidence::latency(&scope),
            String::new(),
            true,
        ),
        Detail::Exception(exception) => {
            let n = comparison.requests;
            let everywhere = Scope { operation: None, ..scope };
            (
                Sample { value: 0.0, n: comparison.control_requests },
                Sample { value: exception.count as f64 / n.max(1) as f64, n },
                "ratio",
                rate::ratio_interval(&exception.test.strata, exception.test.dispersion, alpha),
                evidence::exception(&everywhere, exception.fingerprint),
                exception_name(&exception.exception_type, &exception.message),
                false,
            )
        }
    };
    // Where the baseline is zero the effect has no value; half an observation stands in for it.
    let floor = if unit == "ratio" { 0.5 / baseline.n.max(1) as f64 } else { 1e-6 };
    let e_value = assessment.gate.sup().min(690.0).exp();
    let origin = test.origin.as_ref();
    let identity = match &test.detail {
        Detail::Exception(exception) => exception.fingerprint.0.to_string(),
        _ => op.kind.as_str().to_owned(),
    };
    let mut finding = Finding {
        id: FindingId::derive(&deploy.id, test.signal().as_str(), &service.service, op.name, &identity),
        signal: test.signal(),
        service: service.service.clone(),
        operation: op.name.to_owned(),
        culprit: origin.map_or_else(
            || Culprit {
                service: service.service.clone(),
                version: comparison.version.to_owned(),
                operation: op.name.to_owned(),
            },
            |origin| origin.culprit.clone(),
        ),
        baseline,
        candidate,
        unit: unit.to_owned(),
        effect: candidate.value / baseline.value.max(floor),
        interval,
        e_value,
        p_value: (1.0 / e_value).min(1.0),
        exemplars: exemplars(op.candidate.iter().map(|c| c.2), slow),
        sql,
        summary: String::new(),
        symptom: test.elsewhere(),
    };
    let versions: Vec<&str> = comparison.control_versions.iter().copied().collect();
    let against = summary::against(comparison.design, &versions);
    finding.summary = summary::finding(&finding, comparison.version, &against, &subject);
    finding
}

fn exception_name(kind: &str, message: &str) -> String {
    let short: String = message.chars().take(80).collect();
    match (kind.is_empty(), short.is_empty()) {
        (false, false) => format!("`{kind}: {short}`"),
        (false, true) => format!("`{kind}`"),
        _ => format!("`{short}`"),
    }
}

/// Pools failed requests, as the finding's query does.
pub(crate) fn error_rate(cells: &Cells<'_>) -> Sample {
    let (errors, n) = cells.iter().fold((0, 0), |sum, (_, _, c)| (sum.0 + c.errors, sum.1 + c.requests));
    Sample { value: if n > 0 { errors as f64 / n as f64 } else { 0.0 }, n }
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
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        if !found.contains(&hex) {
            found.push(hex);
        }
        if found.len() == EXEMPLARS_MAX {
            break;
        }
    }
    found
}
