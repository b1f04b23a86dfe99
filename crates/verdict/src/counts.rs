//! What one bucket of one arm counts for the tests: a few numbers in place of a histogram.

use plimsoll_model::Bucket;
use plimsoll_model::signal::{AgeClass, HISTOGRAM_SCALE, Histogram, LOG_UNIT, OperationCell};

use crate::tolerances::Tolerances;

/// Quantiles of the control's past at which "slower" is looked for; the first two are the body, the others the tail.
pub(crate) const QUANTILES: [f64; 5] = [0.5, 0.75, 0.9, 0.95, 0.99];
/// Index of the p95, and the first of those watched for whether an excess lasts.
pub(crate) const P95: usize = 3;

/// Edges fixed by the control's past, as indices of histogram buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Edges {
    pub(crate) at: [i16; QUANTILES.len()],
    /// Buckets by which the tolerated growth shifts an observation ..
    pub(crate) shift: i16,
    /// .. and half of it.
    pub(crate) half: i16,
    /// The tolerated growth, as a factor.
    pub(crate) scale: f64,
    /// Share of the past above each edge.
    pub(crate) above: [f64; QUANTILES.len()],
}

impl Edges {
    /// Fixes edges; `None` where nothing was recorded.
    pub(crate) fn of(past: &Histogram, tolerances: &Tolerances) -> Option<Self> {
        let mut at = [0; QUANTILES.len()];
        for (edge, q) in at.iter_mut().zip(QUANTILES) {
            *edge = past.quantile_index(q)?;
        }
        let p95_ms = past.quantile(0.95)? / 1e6;
        let scale = (1.0 + tolerances.latency_ratio).max(1.0 + tolerances.latency_floor_ms / p95_ms.max(1e-6));
        let total = past.count() as f64;
        let above = at.map(|edge| past.count_above(edge) as f64 / total);
        Some(Self { at, shift: shift_of(scale), half: shift_of(1.0 + 0.5 * (scale - 1.0)), scale, above })
    }
}

/// What the tests need of one or more cells.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Counts {
    pub(crate) requests: f64,
    pub(crate) errors: f64,
    /// Observations of latency.
    pub(crate) timed: f64,
    /// Of those, above each edge ..
    pub(crate) above: [f64; QUANTILES.len()],
    /// .. above it shifted by the tolerated growth ..
    pub(crate) beyond: [f64; QUANTILES.len()],
    /// .. above that of the p95 with nothing excused ..
    pub(crate) plain: f64,
    /// .. and above the p95 and the p99 shifted by half of that.
    pub(crate) tail: [f64; 2],
    /// Sums of the natural logarithm of nanoseconds and of its square.
    pub(crate) log_sum: f64,
    pub(crate) log_sum_sq: f64,
}

impl Counts {
    /// Counts one cell.
    pub(crate) fn of(cell: &OperationCell, edges: Option<&Edges>) -> Self {
        Self::excused(cell, edges, 0)
    }

    /// Counts one cell of which a growth by `excused` buckets of the histogram is explained otherwise.
    pub(crate) fn excused(cell: &OperationCell, edges: Option<&Edges>, excused: i16) -> Self {
        let mut counts = Self {
            requests: cell.requests as f64,
            errors: cell.errors.min(cell.requests) as f64,
            log_sum: cell.log_latency_sum as f64 / LOG_UNIT,
            log_sum_sq: cell.log_latency_sum_sq as f64 / LOG_UNIT,
            ..Self::default()
        };
        let Some(edges) = edges else { return counts };
        // Indices and edges ascend: of each observation it is enough to know how many edges it is above.
        let far = |edge: i16| edge.saturating_add(edges.shift);
        let (beyond, half) = (edges.at.map(far), [P95, P95 + 1].map(|edge| edges.at[edge].saturating_add(edges.half)));
        let (mut above, mut further, mut tail) = (Above::new(edges.at), Above::new(beyond), Above::new(half));
        let (mut all, mut plain) = (0, 0);
        for (index, count) in &cell.latency.0 {
            all += count;
            plain += if *index > beyond[P95] { *count } else { 0 };
            let index = index.saturating_sub(excused);
            above.add(index, *count);
            further.add(index, *count);
            tail.add(index, *count);
        }
        (counts.timed, counts.plain) = (all as f64, plain as f64);
        (counts.above, counts.beyond, counts.tail) = (above.sums(), further.sums(), tail.sums());
        counts
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.timed += other.timed;
        self.above.iter_mut().zip(other.above).for_each(|(sum, n)| *sum += n);
        self.beyond.iter_mut().zip(other.beyond).for_each(|(sum, n)| *sum += n);
        self.plain += other.plain;
        self.tail.iter_mut().zip(other.tail).for_each(|(sum, n)| *sum += n);
        self.log_sum += other.log_sum;
        self.log_sum_sq += other.log_sum_sq;
    }
}

/// A cell before the start and what it counts.
pub(crate) type Counted<'a> = (Bucket, AgeClass, &'a OperationCell, Counts);

/// Counts cells, ascending by bucket, bucket by bucket.
pub(crate) fn summed(cells: &[Counted<'_>]) -> Vec<Counts> {
    let mut buckets: Vec<Counts> = Vec::new();
    let mut last = None;
    for (bucket, _, _, counts) in cells {
        match buckets.last_mut() {
            Some(sum) if last == Some(*bucket) => sum.add(counts),
            _ => buckets.push(*counts),
        }
        last = Some(*bucket);
    }
    buckets
}

/// Observations that come ascending, by how many ascending edges they are above.
struct Above<const N: usize> {
    edges: [i16; N],
    /// Edges that the last one was above.
    passed: usize,
    /// Those above so many edges and no more, less one; those above none are not kept.
    counts: [u64; N],
}

impl<const N: usize> Above<N> {
    fn new(edges: [i16; N]) -> Self {
        Self { edges, passed: 0, counts: [0; N] }
    }

    fn add(&mut self, index: i16, count: u64) {
        while self.passed < N && index > self.edges[self.passed] {
            self.passed += 1;
        }
        if let Some(last) = self.passed.checked_sub(1) {
            self.counts[last] += count;
        }
    }

    /// Returns how many were above each edge.
    fn sums(self) -> [f64; N] {
        let (mut sums, mut sum) = ([0.0; N], 0);
        for (above, count) in sums.iter_mut().zip(self.counts).rev() {
            sum += count;
            *above = sum as f64;
        }
        sums
    }
}

/// Histogram buckets by which a growth of the logarithm by `growth` moves an observation, to the nearest.
pub(crate) fn nearest_shift(growth: f64) -> i16 {
    (growth / std::f64::consts::LN_2 * f64::from(1_u32 << HISTOGRAM_SCALE)).round().clamp(0.0, 600.0) as i16
}

/// Histogram buckets by which a growth by `scale` moves an observation, rounded up.
pub(crate) fn shift_of(scale: f64) -> i16 {
    (scale.log2() * f64::from(1_u32 << HISTOGRAM_SCALE) - 1e-9).ceil().clamp(0.0, 600.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_counted_above_an_edge_is_what_lies_above_it(
            past in prop::collection::btree_map(200_i16..500, 1_u64..50, 1..60),
            now in prop::collection::btree_map(-1_i16..1_100, 1_u64..50, 0..60), excused in 0_i16..700,
        ) {
            let edges = Edges::of(&Histogram(past), &Tolerances::default()).expect("not empty");
            let cell = OperationCell { latency: Histogram(now), ..OperationCell::default() };
            let counts = Counts::excused(&cell, Some(&edges), excused);
            let above = |edge: i16, excused: i16| {
                let those = cell.latency.0.iter().filter(|(index, _)| index.saturating_sub(excused) > edge);
                those.map(|(_, count)| *count as f64).sum::<f64>()
            };
            prop_assert_eq!(counts.above, edges.at.map(|edge| above(edge, excused)));
            prop_assert_eq!(counts.beyond, edges.at.map(|edge| above(edge + edges.shift, excused)));
            prop_assert_eq!(counts.tail, [P95, P95 + 1].map(|i| above(edges.at[i] + edges.half, excused)));
            prop_assert_eq!((counts.plain, counts.timed), (above(edges.at[P95] + edges.shift, 0), above(-2, 0)));
        }
    }
}
