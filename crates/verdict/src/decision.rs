//! From tests to an answer: regressed, pass or inconclusive, and how far along.
//!
//! - *Suspected* from the moment the gate has opened and a finding's lower bound exceeds its tolerance.
//! - *Confirmed*, and only then `regressed`, once the time after that still shows more than half the tolerance; at once
//!   where at least [`LARGE_ERRORS`] errors occurred at [`LARGE_RATIO`] times the control's rate.
//! - *Recovered* once a confirmed regression has been below half the tolerance for [`Tolerances::recovery_s`], or the
//!   candidate has had no traffic for so long while the control had some.
//! - *Pass* only where errors and latency of the service as a whole are shown to be within tolerance, averaged over its
//!   operations by traffic, none of its larger operations looks worse, and those without a control do not fail.
//!
//! Everything is computed from the series afresh, so an evaluation that was missed or repeated changes nothing; the former
//! verdict only keeps what was once decided from being taken back.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, UnixNanos};

use crate::design::Comparison;
use crate::e_process::{Path, Stratum};
use crate::gate::{self, Detail, Test};
use crate::input::JudgeInput;
use crate::rate::Rates;
use crate::tolerances::Tolerances;

/// Errors from which a large regression is not waited for.
pub const LARGE_ERRORS: f64 = 50.0;
/// Times the control's rate from which a regression is large.
pub const LARGE_RATIO: f64 = 10.0;
/// Share of requests from which an operation that looks worse forbids a pass.
const LARGER_OPERATION: f64 = 0.1;
/// Buckets of the last window, which shows whether an excess lasts.
const LASTING_BUCKETS: u64 = 3;
/// Requests that such a window should have ..
const LASTING_REQUESTS: f64 = 20.0;
/// .. and without which nothing is confirmed.
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
    let confirmed = triggered.iter().filter_map(|(test, at)| confirmed(test, *at, end, tolerances)).min();
    let phase = match confirmed {
        Some(_) if recovered(input, comparison, &triggered, end) => Phase::Recovered,
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
fn confirmed(test: &Test<'_>, at: Bucket, end: Bucket, tolerances: &Tolerances) -> Option<Bucket> {
    let assessment = test.assessment();
    let (level, bound) = ((1.0 / tolerances.alpha).ln(), (1.0 / tolerances.bound_alpha).ln());
    if matches!(test.detail, Detail::Errors(_)) {
        let rates = Rates::of(&assessment.strata);
        let floor = rates.rate_a.max(0.5 / rates.n_a.max(1.0));
        if rates.bad_b >= LARGE_ERRORS && rates.rate_b() >= LARGE_RATIO * floor {
            return Some(at);
        }
    }
    let after = Bucket(at.0 + 1);
    (after.0..end.0).map(Bucket).find(|last| {
        let to = Bucket(last.0 + 1);
        let window = Bucket(after.0.max(to.0.saturating_sub(LASTING_BUCKETS)));
        let (mut excess, mut requests) = assessment.excess(window, to);
        if requests < LASTING_REQUESTS {
            // Little traffic: all that came since has to do.
            (excess, requests) = assessment.excess(after, to);
        }
        let long_enough = requests >= LASTING_REQUESTS || last.0 >= at.0 + LASTING_BUCKETS;
        excess
            && requests >= LASTING_REQUESTS_MIN
            && long_enough
            && !assessment.settling(*last)
            && assessment.stands(*last, level, bound)
    })
}

/// Says whether a trigger still waits to be confirmed, rather than having been refuted by what came after.
fn pending(test: &Test<'_>, at: Bucket, end: Bucket) -> bool {
    let (excess, requests) = test.assessment().excess(Bucket(at.0 + 1), end);
    excess || requests < LASTING_REQUESTS
}

fn recovered(input: &JudgeInput, comparison: &Comparison<'_>, triggered: &[(&Test<'_>, Bucket)], end: Bucket) -> bool {
    let window = input.tolerances.recovery_s.div_ceil(10);
    // Looked at up to the present, though a later deploy may have ended the time in which this one is compared.
    let since = Bucket((input.now.bucket().0 + 1).saturating_sub(window));
    let started = comparison.candidate_span.from.bucket();
    let served = |candidate: bool| -> bool {
        input
            .series
            .iter()
            .filter(|s| s.key.service == input.deploy.service && (s.key.version == comparison.version) == candidate)
            .flat_map(|s| &s.cells)
            .any(|(bucket, cell)| *bucket >= since && cell.requests > 0)
    };
    if since >= started && !served(true) {
        return served(false);
    }
    let from = Bucket(end.0.saturating_sub(window));
    triggered.iter().all(|(test, at)| {
        let (excess, requests) = test.assessment().excess(from, end);
        *at < from && !excess && requests >= LASTING_REQUESTS
    })
}

/// One signal over the whole service: strata of all operations and the dispersion of those that count.
struct Whole {
    rates: Rates,
    dispersion: f64,
    /// Largest tolerated difference of the rates.
    tolerated: f64,
}

impl Whole {
    fn of<'a>(parts: impl Iterator<Item = (&'a [Stratum], f64)>, tolerated: f64) -> Option<Self> {
        let mut all = Vec::new();
        let (mut weighted, mut weight) = (0.0, 0.0);
        for (strata, dispersion) in parts {
            let caution = strata.iter().map(|s| s.caution).fold(1.0, f64::max);
            let bad = strata.iter().map(|s| s.bad_a + s.bad_b).sum::<f64>() + 1e-9;
            weighted += bad * dispersion * caution;
            weight += bad;
            all.extend_from_slice(strata);
        }
        (weight > 0.0).then(|| Self { rates: Rates::of(&all), dispersion: weighted / weight, tolerated })
    }

    /// Says whether the upper bound would be within tolerance with `times` the data.
    fn within(&self, times: f64, alpha: f64) -> bool {
        self.rates.scaled(times).difference(self.dispersion, alpha).1 < self.tolerated
    }
}

/// The two things that must be shown of the service as a whole: errors, and latency against the tolerated growth.
///
/// Strata are standardised one by one, so operations are averaged by the candidate's traffic and never pooled.
fn wholes(tests: &[Test<'_>], tolerances: &Tolerances) -> Option<[Whole; 2]> {
    let errors = tests.iter().filter_map(|test| match &test.detail {
        Detail::Errors(errors) => Some((errors.strata.as_slice(), errors.dispersion)),
        _ => None,
    });
    let latency = tests.iter().filter_map(|test| match &test.detail {
        Detail::Latency(latency) => Some((latency.tolerated.as_slice(), latency.test.dispersion)),
        _ => None,
    });
    Some([Whole::of(errors, tolerances.error_points)?, Whole::of(latency, 0.0)?])
}

fn shown_well(comparison: &Comparison<'_>, tests: &[Test<'_>], tolerances: &Tolerances, gate: &Path) -> bool {
    if comparison.paired < tolerances.requests_min || comparison.paired * 2 < comparison.requests {
        return false;
    }
    // What nothing can be held against may be as it should; where it fails it is no ground to promote.
    let unpaired = comparison.operations.iter().filter(|op| op.pairs.is_empty()).flat_map(|op| &op.candidate);
    let failed: u64 = unpaired.map(|(_, _, cell)| cell.errors).sum();
    if failed as f64 > tolerances.error_points * comparison.requests as f64 {
        return false;
    }
    let Some(wholes) = wholes(tests, tolerances) else { return false };
    // Evidence short of an alarm is still no ground to promote.
    let doubt = (1.0 / tolerances.bound_alpha).ln();
    let worse = |test: &Test<'_>| {
        let assessment = test.assessment();
        assessment.exceeded_at.is_some() && (test.share >= LARGER_OPERATION || assessment.gate.last() >= 2.0 * doubt)
    };
    gate.last() < doubt
        && !tests.iter().any(worse)
        && wholes.iter().all(|whole| whole.within(1.0, tolerances.bound_alpha))
}

/// Seconds until the present traffic would show the service to be well.
fn projected(comparison: &Comparison<'_>, tests: &[Test<'_>], watched: u64, tolerances: &Tolerances) -> Option<u64> {
    if watched == 0 || comparison.paired == 0 {
        return None;
    }
    let mut growth = tolerances.requests_min as f64 / comparison.paired as f64;
    for whole in wholes(tests, tolerances)? {
        let needed = (0..32).map(|i| 1.25_f64.powi(i)).find(|times| whole.within(*times, tolerances.bound_alpha))?;
        growth = growth.max(needed);
    }
    let needed = (watched as f64 * growth).min(1e7) as u64;
    Some(needed.max(tolerances.watch_min_s).saturating_sub(watched))
}
