//! A reference: the judge of automated canary analysis by the Mann-Whitney test, as its users run it.
//!
//! Each metric (share of failed requests, mean latency) becomes one value a minute and arm. The 98 % confidence interval of
//! the Hodges-Lehmann shift is held against a tolerance of a quarter of the shift itself; a metric that is high fails the
//! canary. It is looked at every minute over all minutes so far, once there are [`POINTS_MIN`].
//!
//! *Source.* Graff and Sanden, "Automated canary analysis at Netflix with Kayenta" (2018); the published defaults of its
//! judge. Written anew from that description.

use std::collections::BTreeMap;

use plimsoll_model::signal::LOG_UNIT;
use plimsoll_verdict::JudgeInput;

use super::fleet::START;

const POINTS_MIN: usize = 5;
const TOLERANCE: f64 = 0.25;
/// Normal quantile of a two-sided interval of 98 %.
const Z: f64 = 2.326_347_9;

/// Seconds until the reference calls the deploy bad; `None` where it never does.
pub(crate) fn detects(input: &JudgeInput) -> Option<u64> {
    let mut minutes: BTreeMap<(bool, u64), [f64; 3]> = BTreeMap::new();
    for series in &input.series {
        for (bucket, cell) in series.cells.iter().filter(|(b, _)| b.0 >= START) {
            let sums = minutes.entry((series.key.version == "2", (bucket.0 - START) / 6)).or_default();
            sums[0] += cell.requests as f64;
            sums[1] += cell.errors as f64;
            sums[2] += cell.log_latency_sum as f64 / LOG_UNIT;
        }
    }
    let metric = |arm: bool, until: u64, of: usize| -> Vec<f64> {
        let inside = minutes.iter().filter(|((b, minute), _)| *b == arm && *minute < until);
        inside.map(|(_, sums)| if of == 1 { sums[1] / sums[0] } else { (sums[2] / sums[0]).exp() }).collect()
    };
    let last = minutes.keys().map(|(_, minute)| minute + 1).max().unwrap_or(0);
    (POINTS_MIN as u64..=last)
        .find(|until| [1, 2].into_iter().any(|of| high(&metric(true, *until, of), &metric(false, *until, of))))
        .map(|minutes| minutes * 60)
}

/// Says whether the first sample is higher than tolerated.
fn high(canary: &[f64], control: &[f64]) -> bool {
    let (n, m) = (canary.len() as f64, control.len() as f64);
    if canary.len() < POINTS_MIN || control.len() < POINTS_MIN {
        return false;
    }
    let mut shifts: Vec<f64> = canary.iter().flat_map(|b| control.iter().map(move |a| b - a)).collect();
    shifts.sort_by(f64::total_cmp);
    let middle = shifts[shifts.len() / 2];
    let below = (n * m / 2.0 - Z * (n * m * (n + m + 1.0) / 12.0).sqrt()).floor().max(0.0) as usize;
    shifts[below.min(shifts.len() - 1)] > TOLERANCE * middle.abs()
}
