//! What one bucket of one arm counts for the tests: a few numbers in place of a histogram.

use plimsoll_model::signal::{HISTOGRAM_SCALE, Histogram, LOG_UNIT, OperationCell};

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
        for (index, count) in &cell.latency.0 {
            let n = *count as f64;
            counts.plain += if *index > edges.at[P95].saturating_add(edges.shift) { n } else { 0.0 };
            let index = &index.saturating_sub(excused);
            counts.timed += n;
            for (sum, edge) in counts.above.iter_mut().zip(edges.at) {
                *sum += if *index > edge { n } else { 0.0 };
            }
            for (sum, edge) in counts.beyond.iter_mut().zip(edges.at) {
                *sum += if *index > edge.saturating_add(edges.shift) { n } else { 0.0 };
            }
            for (sum, edge) in counts.tail.iter_mut().zip(&edges.at[P95..]) {
                *sum += if *index > edge.saturating_add(edges.half) { n } else { 0.0 };
            }
        }
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

/// Histogram buckets by which a growth of the logarithm by `growth` moves an observation, to the nearest.
pub(crate) fn nearest_shift(growth: f64) -> i16 {
    (growth / std::f64::consts::LN_2 * f64::from(1_u32 << HISTOGRAM_SCALE)).round().clamp(0.0, 600.0) as i16
}

/// Histogram buckets by which a growth by `scale` moves an observation, rounded up.
pub(crate) fn shift_of(scale: f64) -> i16 {
    (scale.log2() * f64::from(1_u32 << HISTOGRAM_SCALE) - 1e-9).ceil().clamp(0.0, 600.0) as i16
}
