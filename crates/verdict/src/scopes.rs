//! Which rows belong to the arms of a finding.

use std::collections::BTreeSet;

use plimsoll_model::Design;

use crate::design::Role;
use crate::evidence::{self, Scope};
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::measured::{self, Measured, Source};
use crate::metrics::MetricTest;
use crate::operation::Operation;
use crate::totals;

/// All requests of the service, of the candidate and of the control that most of them were compared with.
pub(crate) fn whole<'a>(input: &'a JudgeInput, fold: &'a Fold) -> Scope<'a> {
    let frame = &fold.frame;
    let concurrent = fold.design() == Design::Concurrent;
    Scope {
        service: &frame.service,
        operations: Vec::new(),
        kind: None,
        flag: input.flag.as_deref(),
        weighted: input.weighted,
        records: input.by_records,
        metric: input.measured.as_ref().and_then(Measured::source),
        named: input.measured.as_ref().and_then(Measured::named),
        candidate: BTreeSet::from([frame.version.as_str()]),
        candidate_span: frame.candidate_span(),
        control: frame.control_versions.iter().map(String::as_str).collect(),
        control_span: if concurrent { frame.candidate_span() } else { frame.before_span() },
        without: Vec::new(),
    }
}

/// The same, with the control before the start and since.
pub(crate) fn ever<'a>(input: &'a JudgeInput, fold: &'a Fold) -> Scope<'a> {
    Scope { control_span: totals::throughout(&fold.frame), ..whole(input, fold) }
}

/// The role of the control that most requests were compared with.
pub(crate) fn control_of(fold: &Fold) -> Role {
    if fold.design() == Design::Concurrent { Role::Control } else { Role::Before }
}

/// Returns the metric that an operation was read from, under its present name and the former.
pub(crate) fn source(input: &JudgeInput, op: &Operation) -> Option<Source> {
    let sources = &input.measured.as_ref()?.sources;
    let mut source = sources.get(&op.name)?.clone();
    if let Some(former) = op.former.as_ref().and_then(|former| sources.get(former)) {
        source.merge(former);
    }
    Some(source)
}

/// The query of a metric, over the minutes that were compared last.
pub(crate) fn level(input: &JudgeInput, fold: &Fold, metric: &MetricTest) -> String {
    let places = input.aggregates.metrics.iter().enumerate().filter(|(_, series)| metric.tests(&series.key));
    let details = places.map(|(place, _)| measured::detail(input, place)).collect();
    let frame = &fold.frame;
    let control_span = if metric.beside { frame.candidate_span() } else { frame.before_span() };
    let scope = Scope {
        candidate_span: totals::within(metric.compared[0], frame.candidate_span()),
        control_span: totals::within(metric.compared[1], control_span),
        ..whole(input, fold)
    };
    evidence::metric(&scope, (&metric.name, &metric.unit, metric.shape, metric.each), &details)
}
