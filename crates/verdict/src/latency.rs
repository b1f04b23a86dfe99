//! Latency of one operation: how often the candidate is slower than edges fixed by the control beforehand.
//!
//! The edges are the control's p50, p90, p95 and p99 from before the start. "Slower than tolerated" shifts the candidate's
//! edge: a growth by the factor `2^(s/16)` moves every observation up by `s` buckets of the histogram, so counting the
//! candidate above `edge + s` against the control above `edge` tests "the growth is at most that factor". The shifts not
//! rejected, in both directions, are the confidence interval of the growth of the p95.
//!
//! Young instances are slow without being worse: where the control has none of the same age, the first
//! [`Tolerances::warm_up_s`] are left out, and for the first five minutes a growth that is still going away confirms
//! nothing ([`Assessment::settling`]).

use plimsoll_model::Bucket;
use plimsoll_model::signal::{AgeClass, HISTOGRAM_SCALE, Histogram, OperationCell};

use crate::design::{Operation, Pair};
use crate::dispersion;
use crate::e_process::{self, Stratum};
use crate::errors::{self, Assessment};
use crate::rate::Rates;
use crate::tolerances::Tolerances;

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
/// Observations from which edges are fixed.
const EDGE_COUNT_MIN: u64 = 100;
/// Quantiles whose edges the tolerated growth is tested at.
const BODY_QUANTILE: f64 = 0.75;

/// The assessment and what is needed to say how large the effect is.
#[derive(Debug, Clone)]
pub(crate) struct LatencyAssessment<'a> {
    pub(crate) test: Assessment,
    /// Candidate above the tolerated growth of the p95 against control above the p95.
    pub(crate) tolerated: Vec<Stratum>,
    pairs: Vec<Pair<'a>>,
    p95: i16,
}

/// Measures and tests one operation; `None` where the control has too few requests to fix edges.
pub(crate) fn assess<'a>(
    op: &Operation<'a>,
    first: Option<Bucket>,
    tolerances: &Tolerances,
) -> Option<LatencyAssessment<'a>> {
    let mut control = Histogram::default();
    op.before.iter().for_each(|(_, _, cell)| control.merge(&cell.latency));
    let mut skip = 0;
    while control.count() < EDGE_COUNT_MIN {
        // No history: the first control requests beside the candidate fix the edges and are not used again.
        op.pairs.get(skip)?.control.iter().for_each(|cell| control.merge(&cell.latency));
        skip += 1;
    }
    let edges: Vec<i16> = QUANTILES.iter().filter_map(|q| control.quantile_index(*q)).collect();
    let [_, p90, p95, _] = edges[..] else { return None };
    let p95_ms = control.quantile(0.95)? / 1e6;

    let warm_up = tolerances.warm_up_s / 10;
    let excused = |pair: &Pair<'_>| {
        !pair.same_age && pair.age == AgeClass::Cold && first.is_some_and(|first| pair.bucket.0 < first.0 + warm_up)
    };
    let pairs: Vec<Pair<'a>> = op.pairs[skip..].iter().filter(|pair| !excused(pair)).cloned().collect();
    let at = |edge: i16, shift: i16| exceedances(&pairs, edge, shift, tolerances);

    let scale = (1.0 + tolerances.latency_ratio).max(1.0 + tolerances.latency_floor_ms / p95_ms.max(1e-6));
    let shift = shift_of(scale);
    let strata = at(p95, 0);
    let before: Vec<(f64, f64)> =
        op.before.iter().map(|(_, _, c)| (c.latency.count_above(p90) as f64, c.latency.count() as f64)).collect();
    let dispersion =
        dispersion::joined(dispersion::of_arm(&before), dispersion::of_share(&at(p90, 0)), tolerances.dispersion_max);
    let gate: Vec<_> = edges.iter().map(|edge| e_process::run(&at(*edge, 0), 1.0, dispersion)).collect();
    let level = (1.0 / tolerances.bound_alpha).ln();
    let beyond: Vec<_> = [control.quantile_index(BODY_QUANTILE)?, p90, p95]
        .iter()
        .map(|edge| e_process::run(&at(*edge, shift), 1.0, dispersion))
        .collect();
    let beyond = e_process::mean_of(&beyond);
    let tolerated: Vec<Stratum> = at(p95, shift).iter().map(|s| Stratum { handicap: 1.0, ..*s }).collect();
    let rates = Rates::of(&tolerated);
    let caution = tolerated.iter().map(|s| s.caution).fold(1.0, f64::max);
    let half = shift_of(1.0 + 0.5 * (scale - 1.0));
    let tail =
        |cell: &OperationCell| (cell.latency.count_above(p95.saturating_add(half)) as f64, cell.latency.count() as f64);
    let control_tail = control.count_above(p95) as f64 / control.count() as f64;
    Some(LatencyAssessment {
        test: Assessment {
            gate: e_process::mean_of(&gate),
            exceeded_at: beyond.first_above(level),
            beyond: Some(beyond),
            shown_well: rates.n_b >= tolerances.requests_min as f64
                && rates.difference(dispersion * caution, tolerances.bound_alpha).1 < 0.0,
            recent: op
                .candidate
                .iter()
                .map(|(bucket, _, cell)| {
                    let (bad, all) = tail(cell);
                    (*bucket, bad, all)
                })
                .collect(),
            reference: control_tail,
            half: 0.0,
            young_since: first.filter(|_| pairs.iter().any(|p| !p.same_age)),
            dispersion,
            strata,
        },
        tolerated,
        pairs,
        p95,
    })
}

impl LatencyAssessment<'_> {
    /// Returns bounds of the growth of the p95, as a factor; each holds at all times with probability `1 - alpha`.
    pub(crate) fn interval(&self, alpha: f64, tolerances: &Tolerances) -> [f64; 2] {
        let level = (1.0 / alpha).ln();
        let test = |shift: i16, downwards: bool| {
            let strata = exceedances(&self.pairs, self.p95, shift, tolerances);
            let strata: Vec<Stratum> =
                strata.iter().map(|s| if downwards { s.swapped() } else { Stratum { handicap: 1.0, ..*s } }).collect();
            e_process::run(&strata, 1.0, self.test.dispersion).sup() >= level
        };
        let search = |downwards: bool| {
            // `test` holds at `rejected` and not at `kept`; the edge between them is the bound.
            let (mut rejected, mut kept) = if downwards { (160_i16, -160_i16) } else { (-160, 160) };
            while (rejected - kept).abs() > 1 {
                let middle = i16::midpoint(rejected, kept);
                if test(middle, downwards) {
                    rejected = middle;
                } else {
                    kept = middle;
                }
            }
            factor(rejected)
        };
        [search(false), search(true)]
    }
}

/// Returns bounds of the growth of the p95 between two pooled histograms, as a factor.
pub(crate) fn pooled_interval(
    candidate: &Histogram,
    control: &Histogram,
    edge: i16,
    dispersion: f64,
    alpha: f64,
) -> [f64; 2] {
    let level = (1.0 / alpha).ln();
    let stratum = |shift: i16| Stratum {
        bucket: Bucket(0),
        bad_b: candidate.count_above(edge.saturating_add(shift)) as f64,
        n_b: candidate.count() as f64,
        bad_a: control.count_above(edge) as f64,
        n_a: control.count() as f64,
        handicap: 1.0,
        caution: 1.0,
    };
    let above = |shift: i16| e_process::run(&[stratum(shift)], 1.0, dispersion).sup() >= level;
    let below = |shift: i16| e_process::run(&[stratum(shift).swapped()], 1.0, dispersion).sup() >= level;
    let low = (-160..=160).rev().find(|shift| above(*shift)).unwrap_or(-160);
    let high = (-160..=160).find(|shift| below(*shift)).unwrap_or(160);
    [factor(low), factor(high)]
}

fn exceedances(pairs: &[Pair<'_>], edge: i16, shift: i16, tolerances: &Tolerances) -> Vec<Stratum> {
    let count = |cells: &[&OperationCell], edge: i16| {
        cells.iter().fold((0, 0), |sum, c| (sum.0 + c.latency.count_above(edge), sum.1 + c.latency.count()))
    };
    pairs
        .iter()
        .map(|pair| {
            let shifted = count(&pair.candidate, edge.saturating_add(shift));
            errors::stratum(pair, tolerances, shifted, count(&pair.control, edge))
        })
        .collect()
}

/// Histogram buckets by which a growth by `scale` moves an observation, rounded up.
fn shift_of(scale: f64) -> i16 {
    (scale.log2() * f64::from(1_u32 << HISTOGRAM_SCALE) - 1e-9).ceil().clamp(0.0, 600.0) as i16
}

fn factor(shift: i16) -> f64 {
    (f64::from(shift) / f64::from(1_u32 << HISTOGRAM_SCALE)).exp2()
}
