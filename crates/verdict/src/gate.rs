//! Every test that is run on a deploy, and the gate over all of them.

use plimsoll_model::{Bucket, SignalKind};

use crate::culprit::{self, Origin};
use crate::design::{self, Comparison};
use crate::e_process::{self, Path};
use crate::errors::{self, Assessment};
use crate::input::JudgeInput;
use crate::latency::{self, LatencyAssessment};
use crate::novelty::{self, NewException};

/// What is specific to the signal.
#[derive(Debug)]
pub(crate) enum Detail<'a> {
    Errors(Assessment),
    Latency(LatencyAssessment<'a>),
    Exception(Box<NewException>),
}

/// One test of one signal of one operation.
#[derive(Debug)]
pub(crate) struct Test<'a> {
    pub(crate) operation: usize,
    /// Share of the gate; all shares sum to at most one.
    pub(crate) weight: f64,
    /// Share of the candidate's requests that the operation has.
    pub(crate) share: f64,
    pub(crate) detail: Detail<'a>,
    /// Known only where the tolerance was exceeded.
    pub(crate) origin: Option<Origin>,
}

impl Test<'_> {
    pub(crate) fn assessment(&self) -> &Assessment {
        match &self.detail {
            Detail::Errors(test) => test,
            Detail::Latency(latency) => &latency.test,
            Detail::Exception(exception) => &exception.test,
        }
    }

    pub(crate) fn signal(&self) -> SignalKind {
        match &self.detail {
            Detail::Errors(_) => SignalKind::ErrorRate,
            Detail::Latency(_) => SignalKind::Latency,
            Detail::Exception(_) => SignalKind::NewException,
        }
    }

    /// True where the deploy is not to blame.
    pub(crate) fn elsewhere(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.elsewhere)
    }
}

const ERRORS_SHARE: f64 = 0.4;
const LATENCY_SHARE: f64 = 0.4;
const EXCEPTIONS_SHARE: f64 = 0.2;

/// Runs every test.
pub(crate) fn run<'a>(input: &JudgeInput, comparison: &Comparison<'a>) -> Vec<Test<'a>> {
    let service = &input.deploy.service.service;
    let tolerances = &input.tolerances;
    let compared: Vec<usize> =
        (0..comparison.operations.len()).filter(|i| !comparison.operations[*i].pairs.is_empty()).collect();
    let total = comparison.requests.max(1) as f64;
    let mut tests = Vec::new();
    let mut worst_dispersion = 1.0_f64;
    for index in &compared {
        let op = &comparison.operations[*index];
        let share = design::requests(&op.candidate) as f64 / total;
        // Half by traffic, half evenly: a busy operation is judged fast and a quiet one is still judged.
        let weight = 0.5 * share + 0.5 / compared.len() as f64;
        let errors = errors::assess(op, tolerances);
        worst_dispersion = worst_dispersion.max(errors.dispersion);
        let origin = errors.exceeded_at.map(|_| culprit::of_errors(service, comparison, op));
        tests.push(Test {
            operation: *index,
            weight: ERRORS_SHARE * weight,
            share,
            detail: Detail::Errors(errors),
            origin,
        });
        if let Some(latency) = latency::assess(op, comparison.first, tolerances) {
            let origin = latency.test.exceeded_at.map(|_| culprit::of_latency(service, comparison, op));
            tests.push(Test {
                operation: *index,
                weight: LATENCY_SHARE * weight,
                share,
                detail: Detail::Latency(latency),
                origin,
            });
        }
    }
    let (exceptions, seen) = novelty::find(comparison, &input.known_fingerprints, worst_dispersion, tolerances);
    for exception in exceptions {
        let index = exception.operation;
        let share = design::requests(&comparison.operations[index].candidate) as f64 / total;
        let origin = exception.test.exceeded_at.map(|_| Origin {
            culprit: plimsoll_model::Culprit {
                service: service.clone(),
                version: comparison.version.to_owned(),
                operation: comparison.operations[index].name.to_owned(),
            },
            elsewhere: false,
            traced: true,
        });
        tests.push(Test {
            operation: index,
            weight: EXCEPTIONS_SHARE / (seen as f64 + 1.0),
            share,
            detail: Detail::Exception(Box::new(exception)),
            origin,
        });
    }
    tests
}

/// The weighted mean of all tests whose excess, if any, is the deploy's own doing.
pub(crate) fn gate(tests: &[Test<'_>]) -> Path {
    let paths: Vec<(f64, &Path)> = tests
        .iter()
        // Excluded are only those that point elsewhere: leaving out evidence never raises the mean.
        .filter(|test| !test.elsewhere())
        .map(|test| (test.weight, &test.assessment().gate))
        .collect();
    e_process::weighted_mean(&paths)
}

/// Returns when the gate opened with this test's own help: gate, test and tolerance were all exceeded.
pub(crate) fn triggered_at(test: &Test<'_>, gate: &Path, log_level: f64) -> Option<Bucket> {
    if test.elsewhere() {
        return None;
    }
    let opened = gate.first_above(log_level)?;
    let own = test.assessment().gate.first_above(log_level)?;
    let exceeded = test.assessment().exceeded_at?;
    Some(opened.max(own).max(exceeded))
}
