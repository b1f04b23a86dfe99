//! Sampled spans: each stands for as many requests as its weight says (`ot=th:` in tracestate).
//!
//! Where all spans of a version have one weight, plain counts already have the right rates, and their own, larger, variance:
//! they are used as they are. Where failures were kept more often than the rest, the share of failed requests is that of the
//! weights; then each bucket's requests become as many as failures of their weight would have been drawn from. What was
//! counted, the failures, keeps its number: a weight adds no evidence.
//!
//! Latency is counted as it was sampled, on both sides alike.
//!
//! *Invariants.* The weights that hold in a bucket follow from the time before the start and from buckets before it, so what
//! is said of a bucket does not depend on when one looks. Until failures are enough to show that they were kept more
//! often, requests are counted as they are, in both arms alike; from then on both by weight, the time before the start too.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::signal::{OperationCell, WEIGHT_UNIT};

use crate::input::JudgeInput;
use crate::quality;

/// Failures of a version without which its weights are not told apart.
const FAILURES_MIN: u64 = 5;
/// Weights that differ by less are the same.
const UNEVEN: f64 = 1.05;

/// Errors and requests, and their weights.
type Sums = [u64; 4];
/// The same by version.
type Versions<'a> = BTreeMap<&'a str, Sums>;

fn add(sums: &mut Sums, cell: &OperationCell) {
    let counts = [cell.errors, cell.requests, cell.weighted_errors, cell.weighted_requests];
    sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum = sum.saturating_add(n));
}

fn mean_weight(weighted: u64, n: u64) -> f64 {
    weighted as f64 / WEIGHT_UNIT as f64 / n.max(1) as f64
}

/// Says whether every request stands for itself, or no weight is known of any.
fn are_even<'a>(mut cells: impl Iterator<Item = &'a OperationCell>) -> bool {
    let alone = |weighted: u64, n: u64| n.checked_mul(WEIGHT_UNIT) == Some(weighted);
    let (mut plain, mut unknown) = (true, true);
    cells.all(|cell| {
        plain &= alone(cell.weighted_requests, cell.requests) && alone(cell.weighted_errors, cell.errors);
        unknown &= cell.weighted_requests == 0 && cell.weighted_errors == 0;
        plain || unknown
    })
}

/// Returns the weight of each version's failures; `None` where failures were sampled like the rest, as far as is known.
fn weights<'a>(sums: &Versions<'a>) -> Option<BTreeMap<&'a str, f64>> {
    let uneven = |[errors, requests, weighted_errors, weighted]: &Sums| {
        let (failed, all) = (mean_weight(*weighted_errors, *errors), mean_weight(*weighted, *requests));
        *errors >= FAILURES_MIN && failed > 0.0 && all > 0.0 && !(1.0 / UNEVEN..UNEVEN).contains(&(failed / all))
    };
    if !sums.values().any(uneven) {
        return None;
    }
    // Of a version with too few failures, those of all versions tell.
    let all = sums.values().fold([0; 4], |a: Sums, b| [0, 1, 2, 3].map(|i| a[i].saturating_add(b[i])));
    let of = |sum: &Sums| {
        let [errors, _, weighted, _] = if sum[0] >= FAILURES_MIN { *sum } else { all };
        mean_weight(weighted, errors).max(1.0)
    };
    let mut weights: BTreeMap<&str, f64> = sums.iter().map(|(version, sum)| (*version, of(sum))).collect();
    weights.insert(OTHERS, of(&[0; 4]));
    Some(weights)
}

/// Stands for versions of which nothing is known yet.
const OTHERS: &str = "\0";

/// Returns the same question with requests counted by weight, where failures were sampled otherwise than the rest.
pub(crate) fn evened(input: &JudgeInput) -> Option<JudgeInput> {
    if input.weighted {
        return None;
    }
    let start = input.deploy.started_at.bucket();
    let own = || input.series.iter().filter(|s| s.key.service == input.deploy.service);
    if are_even(own().flat_map(|series| &series.cells).map(|(_, cell)| cell)) {
        return None;
    }
    let (mut before, mut since) = (Versions::new(), BTreeMap::<Bucket, Versions<'_>>::new());
    for series in own() {
        for (bucket, cell) in &series.cells {
            let sums = if *bucket < start { &mut before } else { since.entry(*bucket).or_default() };
            add(sums.entry(&series.key.version).or_default(), cell);
        }
    }
    // What holds in a bucket is what was known before it: all of the time before the start, and then bucket by bucket.
    let mut sums = before;
    let past = weights(&sums);
    let mut known: BTreeMap<Bucket, BTreeMap<&str, f64>> = BTreeMap::new();
    for (bucket, here) in since {
        known.extend(weights(&sums).map(|weights| (bucket, weights)));
        for (version, more) in here {
            let sum = sums.entry(version).or_default();
            *sum = [0, 1, 2, 3].map(|i| sum[i].saturating_add(more[i]));
        }
    }
    if past.is_none() && known.is_empty() {
        return None;
    }
    let all = sums.values().fold([0; 4], |a: Sums, b| [0, 1, 2, 3].map(|i| a[i].saturating_add(b[i])));
    let sampled = mean_weight(all[3], all[1]) >= UNEVEN;
    let mut asked = input.clone();
    if past.is_none() {
        asked.past_weights = past_weights(input, &known);
    }
    asked.weighted = true;
    asked.data_quality.push(quality::WEIGHTED_SPANS.to_owned());
    if sampled {
        asked.data_quality.push(quality::SAMPLED_SPANS.to_owned());
    }
    for series in asked.series.iter_mut().filter(|s| s.key.service == input.deploy.service) {
        for (bucket, cell) in series.cells.iter_mut().filter(|(_, cell)| cell.weighted_requests > 0) {
            let weights = if *bucket < start { past.as_ref() } else { known.get(bucket) };
            let weight = weights.and_then(|w| w.get(series.key.version.as_str()).or_else(|| w.get(OTHERS)));
            let Some(weight) = weight else { continue };
            let drawn = cell.weighted_requests as f64 / WEIGHT_UNIT as f64 / weight;
            cell.requests = (drawn.round() as u64).max(cell.errors).max(1);
        }
    }
    Some(asked)
}

/// Returns for how many times its requests the time before the start counts by the weights known in each bucket.
fn past_weights(input: &JudgeInput, known: &BTreeMap<Bucket, BTreeMap<&str, f64>>) -> BTreeMap<Bucket, f64> {
    let start = input.deploy.started_at.bucket();
    let mut before: Versions<'_> = Versions::new();
    for series in input.series.iter().filter(|s| s.key.service == input.deploy.service) {
        for (_, cell) in series.cells.iter().filter(|(bucket, _)| *bucket < start) {
            add(before.entry(&series.key.version).or_default(), cell);
        }
    }
    let requests: u64 = before.values().map(|sums| sums[1]).sum();
    let drawn = |weights: &BTreeMap<&str, f64>| -> f64 {
        let of = |version: &str| weights.get(version).or_else(|| weights.get(OTHERS)).copied().unwrap_or(1.0);
        let each = before.iter().map(|(version, sums)| sums[3] as f64 / WEIGHT_UNIT as f64 / of(version));
        each.sum()
    };
    let mut times: BTreeMap<Bucket, f64> =
        known.iter().map(|(bucket, weights)| (*bucket, (drawn(weights) / requests.max(1) as f64).max(1e-3))).collect();
    // Where they turn out to be sampled like the rest, both are counted as they are again.
    let after = known.keys().map(|bucket| Bucket(bucket.0 + 1)).filter(|next| !known.contains_key(next));
    times.extend(after.map(|bucket| (bucket, 1.0)));
    times
}
