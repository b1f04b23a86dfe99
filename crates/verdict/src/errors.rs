//! Failed requests of one operation, candidate against control.

use plimsoll_model::Bucket;

use crate::design::{COLD_BUCKETS, Operation, Pair};
use crate::dispersion;
use crate::e_process::{self, Path, Stratum};
use crate::rate::Rates;
use crate::tolerances::Tolerances;

/// Buckets from the candidate's first in which an excess may be mere warming up ..
const YOUNG_BUCKETS: u64 = 30;
/// .. and without which there is no trend to see.
const TREND_BUCKETS: u64 = 5;

/// What is known of one countable thing in one operation.
#[derive(Debug, Clone)]
pub(crate) struct Assessment {
    pub(crate) strata: Vec<Stratum>,
    pub(crate) dispersion: f64,
    /// The test of "no worse at all": what the gate is made of.
    pub(crate) gate: Path,
    /// The test of "no worse than tolerated", where there is one.
    pub(crate) beyond: Option<Path>,
    /// When the lower confidence bound first exceeded the tolerance.
    pub(crate) exceeded_at: Option<Bucket>,
    /// True where the upper confidence bound lies within the tolerance.
    pub(crate) shown_well: bool,
    /// The candidate bucket by bucket, `(bucket, bad, all)`, held against `reference` to see whether it lasts.
    pub(crate) recent: Vec<(Bucket, f64, f64)>,
    pub(crate) reference: f64,
    /// Half the tolerated excess over `reference`.
    pub(crate) half: f64,
    /// Since when there are instances that may be warming up; `None` where the control is as young.
    pub(crate) young_since: Option<Bucket>,
}

impl Assessment {
    /// Says whether the candidate was worse than half the tolerance in `from..to`, and on how many requests that rests.
    pub(crate) fn excess(&self, from: Bucket, to: Bucket) -> (bool, f64) {
        let (bad, all) = self
            .recent
            .iter()
            .filter(|(bucket, ..)| *bucket >= from && *bucket < to)
            .fold((0.0, 0.0), |sum, (_, bad, all)| (sum.0 + bad, sum.1 + all));
        (all > 0.0 && bad / all - self.reference > self.half, all)
    }

    /// Says whether the evidence still stands after `last`, rather than having been worn down by what came since.
    pub(crate) fn stands(&self, last: Bucket, log_level: f64, log_bound: f64) -> bool {
        self.gate.at(last) >= log_level && self.beyond.as_ref().is_none_or(|path| path.at(last) >= log_bound)
    }

    /// Says whether young instances are still getting better: the last two buckets show less than the minute before.
    ///
    /// In the first minute any decline counts, and before there are enough buckets to tell one, it is assumed; from then
    /// on it has to exceed half its own uncertainty. Doubt delays, it does not acquit: after five minutes nothing is young.
    pub(crate) fn settling(&self, last: Bucket) -> bool {
        let Some(age) = self.young_since.map(|first| last.0.saturating_sub(first.0)) else { return false };
        if age >= YOUNG_BUCKETS {
            return false;
        }
        if age + 1 < TREND_BUCKETS {
            return true;
        }
        let share = |from: u64, to: u64| {
            let inside = self.recent.iter().filter(|(bucket, ..)| bucket.0 > from && bucket.0 <= to);
            let (bad, all) = inside.fold((0.0, 0.0), |sum, (_, bad, all)| (sum.0 + bad, sum.1 + all));
            (bad / f64::max(all, 1.0), all)
        };
        let (now, n) = share(last.0.saturating_sub(2), last.0);
        let (before, m) = share(last.0.saturating_sub(8), last.0.saturating_sub(2));
        if n < 1.0 || m < 1.0 {
            return age < COLD_BUCKETS;
        }
        let error = (before * (1.0 - before) * (1.0 / n + 1.0 / m)).sqrt();
        before - now > if age < COLD_BUCKETS { 0.0 } else { 0.5 * error }
    }
}

/// Makes a stratum of a pair by counting in both arms.
pub(crate) fn stratum(pair: &Pair<'_>, tolerances: &Tolerances, candidate: (u64, u64), control: (u64, u64)) -> Stratum {
    let (drift, caution) =
        if pair.side_by_side { (1.0, 1.0) } else { (tolerances.drift_ratio, tolerances.drift_caution) };
    Stratum {
        bucket: pair.bucket,
        bad_b: candidate.0 as f64,
        n_b: candidate.1 as f64,
        bad_a: control.0 as f64,
        n_a: control.1 as f64,
        handicap: drift,
        caution,
    }
}

/// Growth of the share of failed requests that is tolerated at a control's share of `rate`.
pub(crate) fn tolerated(rate: f64, tolerances: &Tolerances) -> f64 {
    tolerances.error_points.min((rate * (tolerances.error_ratio - 1.0)).max(tolerances.error_floor))
}

/// Measures and tests one operation.
pub(crate) fn assess(op: &Operation<'_>, tolerances: &Tolerances) -> Assessment {
    let count = |cells: &[&plimsoll_model::signal::OperationCell]| {
        cells.iter().fold((0, 0), |sum, c| (sum.0 + c.errors.min(c.requests), sum.1 + c.requests))
    };
    let strata: Vec<Stratum> =
        op.pairs.iter().map(|p| stratum(p, tolerances, count(&p.candidate), count(&p.control))).collect();
    let before: Vec<(f64, f64)> = op.before.iter().map(|(_, _, c)| (c.errors as f64, c.requests as f64)).collect();
    let dispersion =
        dispersion::joined(dispersion::of_arm(&before), dispersion::of_share(&strata), tolerances.dispersion_max);
    let rates = Rates::of(&strata);
    // The control's share as well as it is known: before the start and beside the candidate.
    let reference = if rates.n_a > 0.0 {
        rates.rate_a
    } else {
        let sum = before.iter().fold((0.0, 0.0), |sum, b| (sum.0 + b.0, sum.1 + b.1));
        if sum.1 > 0.0 { sum.0 / sum.1 } else { 0.0 }
    };
    let delta = tolerated(reference, tolerances);
    let caution = strata.iter().map(|s| s.caution).fold(1.0, f64::max);
    let level = (1.0 / tolerances.bound_alpha).ln();
    let beyond = (reference > 0.0 && delta / reference < 20.0)
        .then(|| e_process::run(&strata, 1.0 + delta / reference, dispersion));
    let exceeded_at = match &beyond {
        _ if rates.rate_b() - rates.rate_a <= delta => None,
        Some(path) => path.first_above(level),
        None => first_difference_above(&strata, delta, dispersion * caution, tolerances.bound_alpha),
    };
    let within =
        |rates: &Rates| rates.difference(dispersion * caution, tolerances.bound_alpha).1 < tolerances.error_points;
    let enough = rates.n_b >= tolerances.requests_min as f64;
    let shown_well = enough && within(&rates);
    Assessment {
        gate: e_process::run(&strata, 1.0, dispersion),
        dispersion,
        beyond,
        exceeded_at,
        shown_well,
        recent: op.candidate.iter().map(|(b, _, c)| (*b, c.errors as f64, c.requests as f64)).collect(),
        reference,
        half: 0.5 * delta,
        young_since: None,
        strata,
    }
}

/// Finds when the lower bound of the difference first exceeded `delta`: for controls without a rate to multiply.
fn first_difference_above(strata: &[Stratum], delta: f64, dispersion: f64, alpha: f64) -> Option<Bucket> {
    (1..=strata.len())
        .filter(|end| strata[*end - 1].bad_b > 0.0)
        .find(|end| Rates::of(&strata[..*end]).difference(dispersion, alpha).0 > delta)
        .map(|end| strata[end - 1].bucket)
}
