//! One metric point, whatever its type, as what it adds to its series, and the cell that it is added to.

use plimsoll_model::metric::{ExactSum, MetricCell, MetricShape};
use plimsoll_model::signal::{HISTOGRAM_SCALE, Histogram};

use crate::cell::Sparse;

/// What a point says, in the shape of its series.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    /// Value of a number, sum of a histogram.
    pub(crate) value: f64,
    /// Observations of a histogram.
    pub(crate) count: u64,
    pub(crate) zeros: u64,
    /// By index of the bucket, ascending; empty where the point has no distribution.
    pub(crate) buckets: Vec<(i16, u64)>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl Reading {
    /// Makes it say nothing, and keeps its room.
    pub(crate) fn clear(&mut self) {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.clear();
        *self = Self { buckets, ..Self::default() };
    }

    /// Writes what was added since `before` into `added`; says no where that cannot be, because something became less.
    pub(crate) fn since(&self, before: &Self, added: &mut Self) -> bool {
        if self.value < before.value && self.count <= before.count || self.count < before.count {
            return false;
        }
        let buckets = &mut added.buckets;
        buckets.clear();
        let mut old = before.buckets.iter().peekable();
        for (index, count) in &self.buckets {
            while old.next_if(|(i, _)| i < index).is_some() {}
            let counted = old.next_if(|(i, _)| i == index).map_or(0, |(_, count)| *count);
            // Less than before: the buckets were drawn anew, and nothing can be said of the distribution.
            let Some(more) = count.checked_sub(counted) else {
                buckets.clear();
                break;
            };
            if more > 0 {
                buckets.push((*index, more));
            }
        }
        added.value = self.value - before.value;
        added.count = self.count - before.count;
        added.zeros = self.zeros.saturating_sub(before.zeros);
        // Those of the whole life say nothing about the last stretch.
        (added.min, added.max) = (None, None);
        true
    }

    fn add_bucket(&mut self, index: i16, count: u64) {
        if count == 0 {
            return;
        }
        match self.buckets.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            Some((last, _)) if *last > index => match self.buckets.binary_search_by_key(&index, |(i, _)| *i) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (index, count)),
            },
            _ => self.buckets.push((index, count)),
        }
    }

    /// Takes the buckets of an explicit histogram: each at its upper bound, the last just above the one before it.
    pub(crate) fn take_explicit(&mut self, edges: &Edges, counts: &[u64]) {
        for (at, count) in counts.iter().enumerate() {
            match (edges.indices.get(at), edges.indices.last()) {
                (Some(Some(index)), _) => self.add_bucket(*index, *count),
                (Some(None), _) => self.zeros += count,
                (None, Some(Some(last))) => self.add_bucket(last.saturating_add(1), *count),
                // Everything in one bucket: nothing is known of the distribution.
                (None, _) => return,
            }
        }
    }

    /// Takes the positive buckets of an exponential histogram.
    pub(crate) fn take_exponential(&mut self, scale: i32, offset: i32, counts: &[u64]) {
        let finer = scale - HISTOGRAM_SCALE as i32;
        for (at, count) in counts.iter().enumerate() {
            let index = i64::from(offset) + at as i64;
            let ours = if finer >= 0 { index >> finer.min(62) } else { ((index + 1) << (-finer).min(31)) - 1 };
            self.add_bucket(ours.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16, *count);
        }
    }
}

/// Bounds of an explicit histogram and the buckets they fall into: most points have those of the point before.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    bounds: Vec<f64>,
    /// `None` for bounds that are not positive.
    indices: Vec<Option<i16>>,
}

impl Edges {
    /// Makes them those of `bounds`.
    pub(crate) fn set(&mut self, bounds: &[f64]) -> &Self {
        if self.bounds != bounds {
            self.bounds.clear();
            self.bounds.extend_from_slice(bounds);
            self.indices.clear();
            self.indices.extend(bounds.iter().map(|bound| Histogram::index_of_value(*bound)));
        }
        self
    }
}

/// A [`MetricCell`] while it is being filled: its distribution is a vector.
#[derive(Debug, Clone, Default)]
pub(crate) struct PointCell {
    pub(crate) points: u64,
    pub(crate) count: u64,
    pub(crate) sum: ExactSum,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) values: Sparse<i16>,
    pub(crate) zeros: u64,
    pub(crate) resets: u64,
}

fn least(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.map_or(other, |one| Some(other.map_or(one, |other| other.min(one))))
}

fn greatest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.map_or(other, |one| Some(other.map_or(one, |other| other.max(one))))
}

impl PointCell {
    /// Adds what a point said.
    pub(crate) fn take(&mut self, reading: &Reading, shape: MetricShape) {
        self.points += 1;
        self.sum.add(ExactSum::of(reading.value));
        let (min, max) = match shape {
            MetricShape::Gauge => (Some(reading.value), Some(reading.value)),
            MetricShape::Counter => (None, None),
            MetricShape::Histogram => (reading.min, reading.max),
        };
        self.count += if shape == MetricShape::Histogram { reading.count } else { 1 };
        (self.min, self.max) = (least(min, self.min), greatest(max, self.max));
        self.zeros += reading.zeros;
        self.values.add_all(&reading.buckets);
    }

    /// Adds all of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.points += other.points;
        self.count += other.count;
        self.sum.add(other.sum);
        (self.min, self.max) = (least(other.min, self.min), greatest(other.max, self.max));
        self.values.add_all(&other.values.0);
        self.zeros += other.zeros;
        self.resets += other.resets;
    }

    pub(crate) fn spell(&self) -> MetricCell {
        MetricCell {
            points: self.points,
            count: self.count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            values: Histogram(self.values.0.iter().copied().collect()),
            zeros: self.zeros,
            resets: self.resets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_histogram_is_exact_at_its_own_bounds() {
        let mut reading = Reading::default();
        reading.take_explicit(Edges::default().set(&[0.0, 0.005, 0.1, 2.5]), &[1, 10, 20, 5, 2]);
        let histogram = Histogram(reading.buckets.iter().copied().collect());
        for (bound, above) in [(0.005, 27), (0.1, 7), (2.5, 2)] {
            assert_eq!(histogram.count_above(Histogram::index_of_value(bound).expect("positive")), above, "{bound}");
        }
        assert_eq!(reading.zeros, 1);
    }

    #[test]
    fn exponential_histograms_of_any_scale_keep_values_in_their_place() {
        for scale in [0, 2, 4, 8, 20] {
            let value: f64 = 0.37;
            let index = (value.log2() * 2_f64.powi(scale)).ceil() as i32 - 1;
            let mut reading = Reading::default();
            reading.take_exponential(scale, index, &[3]);
            let (at, count) = reading.buckets[0];
            let width = if scale < 4 { 2_f64.powf(2_f64.powi(-scale)) } else { 1.0 };
            let upper = Histogram::upper_edge(at);
            assert_eq!(count, 3);
            assert!(upper >= value * 0.9999 && upper <= value * width * 1.05, "{scale}: {upper}");
        }
    }

    #[test]
    fn what_was_added_is_the_difference_and_less_is_a_new_beginning() {
        let at = |value: f64, count: u64, buckets: &[(i16, u64)]| Reading {
            value,
            count,
            buckets: buckets.to_vec(),
            ..Reading::default()
        };
        let before = at(10.0, 5, &[(1, 2), (4, 3)]);
        let after = at(16.0, 8, &[(1, 2), (3, 1), (4, 5)]);
        let mut added = Reading { min: Some(1.0), ..Reading::default() };
        assert!(after.since(&before, &mut added));
        assert_eq!(added, at(6.0, 3, &[(3, 1), (4, 2)]));
        assert!(!before.since(&after, &mut added));
        assert!(!at(3.0, 0, &[]).since(&at(7.0, 0, &[]), &mut added));
    }
}
