//! Sampled spans: each stands for as many requests as its weight says (`ot=th:` in tracestate).
//!
//! Where all spans of a version have one weight, plain counts already have the right rates, and their own, larger, variance:
//! they are used as they are. Where failures were kept more often than the rest, the share of failed requests is that of the
//! weights; then each bucket's requests become as many as failures of their weight would have been drawn from. What was
//! counted, the failures, keeps its number: a weight adds no evidence.
//!
//! Latency is counted as it was sampled, on both sides alike.

use std::collections::BTreeMap;

use plimsoll_model::signal::WEIGHT_UNIT;

use crate::input::JudgeInput;
use crate::quality;

/// Failures of a version without which its weights are not told apart.
const FAILURES_MIN: u64 = 5;
/// Weights that differ by less are the same.
const UNEVEN: f64 = 1.05;

/// Returns the same question with requests counted by weight, where failures were sampled otherwise than the rest.
pub(crate) fn evened(input: &JudgeInput) -> Option<JudgeInput> {
    if input.weighted {
        return None;
    }
    // Errors, requests and their weights, by version.
    let mut sums: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for series in input.series.iter().filter(|s| s.key.service == input.deploy.service) {
        let sum = sums.entry(&series.key.version).or_default();
        for (_, cell) in &series.cells {
            for (sum, n) in
                sum.iter_mut().zip([cell.errors, cell.requests, cell.weighted_errors, cell.weighted_requests])
            {
                *sum = sum.saturating_add(n);
            }
        }
    }
    let weight = |weighted: u64, n: u64| weighted as f64 / WEIGHT_UNIT as f64 / n.max(1) as f64;
    let uneven = |[errors, requests, weighted_errors, weighted]: &[u64; 4]| {
        let (failed, all) = (weight(*weighted_errors, *errors), weight(*weighted, *requests));
        *errors >= FAILURES_MIN && failed > 0.0 && all > 0.0 && !(1.0 / UNEVEN..UNEVEN).contains(&(failed / all))
    };
    if !sums.values().any(uneven) {
        return None;
    }
    // Of a version with too few failures, those of all versions tell.
    let all = sums.values().fold([0; 4], |a: [u64; 4], b| [0, 1, 2, 3].map(|i| a[i].saturating_add(b[i])));
    let weights: BTreeMap<String, f64> = sums
        .iter()
        .map(|(version, sum)| {
            let [errors, _, weighted, _] = if sum[0] >= FAILURES_MIN { *sum } else { all };
            ((*version).to_owned(), weight(weighted, errors).max(1.0))
        })
        .collect();
    let mut asked = input.clone();
    asked.weighted = true;
    asked.data_quality.push(quality::WEIGHTED_SPANS.to_owned());
    if weight(all[3], all[1]) >= UNEVEN {
        asked.data_quality.push(quality::SAMPLED_SPANS.to_owned());
    }
    for series in asked.series.iter_mut().filter(|s| s.key.service == input.deploy.service) {
        let Some(weight) = weights.get(&series.key.version) else { continue };
        for (_, cell) in series.cells.iter_mut().filter(|(_, cell)| cell.weighted_requests > 0) {
            let drawn = cell.weighted_requests as f64 / WEIGHT_UNIT as f64 / weight;
            cell.requests = (drawn.round() as u64).max(cell.errors).max(1);
        }
    }
    Some(asked)
}
