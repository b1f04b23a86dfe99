//! From tests to an answer: regressed, pass or inconclusive, and how far along.
//!
//! - *Suspected* from the moment the gate has opened and a finding's lower bound exceeds its tolerance.
//! - *Confirmed*, and only then `regressed`, once the time after that still shows more than half the tolerance; at once
//!   where at least [`LARGE_ERRORS`] errors occurred at [`LARGE_RATIO`] times the control's rate.
//! - *Recovered* once a confirmed regression has been below half the tolerance for [`Tolerances::recovery_s`], or the
//!   candidate has had no traffic for so long while the control had some.
//! - *Pass* only where the service as a whole and each of its larger operations are shown to be within tolerance.
//!
//! Everything is computed from the series afresh, so an evaluation that was missed or repeated changes nothing; the former
//! verdict only keeps what was once decided from being taken back.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, UnixNanos};

use crate::design::{self, Comparison};
use crate::e_process::{Path, Stratum};
use crate::gate::{self, Detail, Test};
use crate::input::JudgeInput;
use crate::rate::Rates;
use crate::tolerances::Tolerances;

/// Errors from which a large regression is not waited for.
pub const LARGE_ERRORS: f64 = 50.0;
/// Times the control's rate from which a regression is large.
pub const LARGE_RATIO: f64 = 10.0;
/// Share of requests from which an operation must itself be shown to be well.
const LARGER_OPERATION: f64 = 0.1;
/// Requests that show whether an excess lasts.
const LASTING_REQUESTS_MIN: f64 = 5.0;

/// The answer in its raw form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decision {
    pub(crate) phase: Phase,
    /// When it was confirmed.
    pub(crate) confirmed_at: Option<UnixNanos>,
    pub(crate) pass: bool,
    pub(crate) time_to_decide_s: Option<u64>,
}

/// Decides.
pub(crate) fn decide(input: &JudgeInput, comparison: &Comparison<'_>, tests: &[Test<'_>]) -> Decision {
    let tolerances = &input.tolerances;
    let level = (1.0 / tolerances.alpha).ln();
    let gate = gate::gate(tests);
    let triggered: Vec<(&Test<'_>, Bucket)> = if comparison.paired < tolerances.requests_min {
        Vec::new()
    } else {
        tests.iter().filter_map(|test| Some((test, gate::triggered_at(test, &gate, level)?))).collect()
    };
    let end = comparison.candidate_span.to.bucket();
    let confirmed = triggered.iter().filter_map(|(test, at)| confirmed(test, *at, end)).min();
    let phase = match confirmed {
        Some(_) if recovered(comparison, &triggered, end, tolerances) => Phase::Recovered,
        Some(_) => Phase::Confirmed,
        None if triggered.is_empty() => Phase::Clear,
        None if triggered.iter().any(|(test, at)| pending(test, *at, end)) => Phase::Suspected,
        None => Phase::Clear,
    };
    let watched = comparison.first.map_or(0, |first| input.now.since(first.start()).as_secs());
    let shown = phase == Phase::Clear && shown_well(comparison, tests, tolerances, &gate);
    Decision {
        phase,
        confirmed_at: confirmed.map(|bucket| bucket.end().min(input.now)),
        pass: shown && watched >= tolerances.watch_min_s,
        time_to_decide_s: if shown {
            Some(tolerances.watch_min_s.saturating_sub(watched))
        } else {
            projected(comparison, tests, watched, tolerances)
        },
    }
}

/// Returns when the time after `at` first showed that the excess lasts.
fn confirmed(test: &Test<'_>, at: Bucket, end: Bucket) -> Option<Bucket> {
    let assessment = test.assessment();
    if matches!(test.detail, Detail::Errors(_)) {
        let rates = Rates::of(&assessment.strata);
        let floor = rates.rate_a.max(0.5 / rates.n_a.max(1.0));
        if rates.bad_b >= LARGE_ERRORS && rates.rate_b() >= LARGE_RATIO * floor {
            return Some(at);
        }
    }
    let after = Bucket(at.0 + 1);
    (after.0..end.0).map(Bucket).find(|last| {
        let (excess, requests) = assessment.excess(after, Bucket(last.0 + 1));
        let long_enough = requests >= 20.0 || last.0 >= at.0 + 3;
        excess && requests >= LASTING_REQUESTS_MIN && long_enough
    })
}

/// Says whether a trigger still waits to be confirmed, rather than having been refuted by what came after.
fn pending(test: &Test<'_>, at: Bucket, end: Bucket) -> bool {
    let (excess, requests) = test.assessment().excess(Bucket(at.0 + 1), end);
    excess || requests < 20.0
}

fn recovered(
    comparison: &Comparison<'_>,
    triggered: &[(&Test<'_>, Bucket)],
    end: Bucket,
    tolerances: &Tolerances,
) -> bool {
    let from = Bucket(end.0.saturating_sub(tolerances.recovery_s.div_ceil(10)));
    let inside = |cells: &design::Cells<'_>| -> u64 {
        cells.iter().filter(|(bucket, ..)| *bucket >= from).map(|(_, _, cell)| cell.requests).sum()
    };
    let candidate: u64 = comparison.operations.iter().map(|op| inside(&op.candidate)).sum();
    if candidate == 0 {
        return comparison.operations.iter().any(|op| inside(&op.control) > 0);
    }
    triggered.iter().all(|(test, at)| {
        let (excess, requests) = test.assessment().excess(from, end);
        *at < from && !excess && requests >= 20.0
    })
}

/// Strata of all operations' errors, with the dispersion of the largest.
fn service_errors(tests: &[Test<'_>]) -> (Vec<Stratum>, f64) {
    let mut all = Vec::new();
    let (mut weighted, mut weight) = (0.0, 0.0);
    for test in tests {
        if let Detail::Errors(errors) = &test.detail {
            let caution = errors.strata.iter().map(|s| s.caution).fold(1.0, f64::max);
            let bad = 1.0 + errors.strata.iter().map(|s| s.bad_a + s.bad_b).sum::<f64>();
            weighted += bad * errors.dispersion * caution;
            weight += bad;
            all.extend_from_slice(&errors.strata);
        }
    }
    (all, if weight > 0.0 { weighted / weight } else { 1.0 })
}

fn shown_well(comparison: &Comparison<'_>, tests: &[Test<'_>], tolerances: &Tolerances, gate: &Path) -> bool {
    if comparison.paired < tolerances.requests_min || comparison.paired * 2 < comparison.requests {
        return false;
    }
    let (strata, dispersion) = service_errors(tests);
    let rates = Rates::of(&strata);
    let whole = rates.difference(dispersion, tolerances.bound_alpha).1 < tolerances.error_points;
    // Evidence short of an alarm is still no ground to promote.
    let doubt = (1.0 / tolerances.bound_alpha).ln();
    let suspicious =
        |test: &Test<'_>| test.assessment().exceeded_at.is_some() && test.assessment().gate.sup() >= 2.0 * doubt;
    let calm = gate.last() < doubt && !tests.iter().any(suspicious);
    let larger = tests.iter().filter(|test| test.share >= LARGER_OPERATION);
    let measured = tests.iter().any(|test| matches!(test.detail, Detail::Latency(_)));
    whole && calm && measured && larger.into_iter().all(|test| test.assessment().shown_well)
}

/// Seconds until the present traffic would show the service to be well.
fn projected(comparison: &Comparison<'_>, tests: &[Test<'_>], watched: u64, tolerances: &Tolerances) -> Option<u64> {
    if watched == 0 || comparison.paired == 0 {
        return None;
    }
    let (strata, dispersion) = service_errors(tests);
    let rates = Rates::of(&strata);
    let within =
        |times: f64| rates.scaled(times).difference(dispersion, tolerances.bound_alpha).1 < tolerances.error_points;
    let mut growth = (0..24).map(|i| 1.3_f64.powi(i)).find(|times| within(*times))?;
    growth = growth.max(tolerances.requests_min as f64 / comparison.paired as f64);
    for test in tests.iter().filter(|test| test.share >= LARGER_OPERATION && !test.assessment().shown_well) {
        growth = growth.max(test.assessment().growth?);
    }
    let needed = (watched as f64 * growth).min(1e7) as u64;
    Some(needed.max(tolerances.watch_min_s).saturating_sub(watched))
}
