//! One metric point, whatever its type, as what it adds to its series.

use plimsoll_model::metric::{ExactSum, MetricCell, MetricShape};
use plimsoll_model::signal::{HISTOGRAM_SCALE, Histogram};

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
    /// Returns what was added since `before`; `None` where that cannot be, because something became less.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        if self.value < before.value && self.count <= before.count || self.count < before.count {
            return None;
        }
        let mut buckets = Vec::with_capacity(self.buckets.len());
        let mut old = before.buckets.iter().peekable();
        for (index, count) in &self.buckets {
            while old.next_if(|(i, _)| i < index).is_some() {}
            let counted = old.next_if(|(i, _)| i == index).map_or(0, |(_, count)| *count);
            // Less than before: the buckets were drawn anew, and nothing can be said of the distribution.
            let Some(added) = count.checked_sub(counted) else {
                buckets.clear();
                break;
            };
            if added > 0 {
                buckets.push((*index, added));
            }
        }
        Some(Self {
            value: self.value - before.value,
            count: self.count - before.count,
            zeros: self.zeros.saturating_sub(before.zeros),
            buckets,
            // Those of the whole life say nothing about the last stretch.
            min: None,
            max: None,
        })
    }

    /// Adds it to a cell.
    pub(crate) fn add_to(&self, cell: &mut MetricCell, shape: MetricShape) {
        cell.points += 1;
        cell.sum.add(ExactSum::of(self.value));
        match shape {
            MetricShape::Gauge | MetricShape::Counter => cell.count += 1,
            MetricShape::Histogram => cell.count += self.count,
        }
        let (min, max) = match shape {
            MetricShape::Gauge => (Some(self.value), Some(self.value)),
            MetricShape::Counter => (None, None),
            MetricShape::Histogram => (self.min, self.max),
        };
        cell.min = min.map_or(cell.min, |value| Some(cell.min.map_or(value, |known| known.min(value))));
        cell.max = max.map_or(cell.max, |value| Some(cell.max.map_or(value, |known| known.max(value))));
        cell.zeros += self.zeros;
        for (index, count) in &self.buckets {
            *cell.values.0.entry(*index).or_default() += count;
        }
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
    pub(crate) fn take_explicit(&mut self, bounds: &[f64], counts: &[u64]) {
        for (at, count) in counts.iter().enumerate() {
            match bounds.get(at) {
                Some(bound) => match Histogram::index_of_value(*bound) {
                    Some(index) => self.add_bucket(index, *count),
                    None => self.zeros += count,
                },
                None => {
                    let last = bounds.last().and_then(|bound| Histogram::index_of_value(*bound));
                    match last {
                        Some(last) => self.add_bucket(last.saturating_add(1), *count),
                        // Everything in one bucket: nothing is known of the distribution.
                        None => return,
                    }
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_histogram_is_exact_at_its_own_bounds() {
        let mut reading = Reading::default();
        reading.take_explicit(&[0.0, 0.005, 0.1, 2.5], &[1, 10, 20, 5, 2]);
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
        assert_eq!(after.since(&before).expect("it grew"), at(6.0, 3, &[(3, 1), (4, 2)]));
        assert!(before.since(&after).is_none());
        assert!(at(3.0, 0, &[]).since(&at(7.0, 0, &[])).is_none());
    }
}
