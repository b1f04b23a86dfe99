//! Histograms of every kind as one value that merges: what `histogram_merge` gives and `quantile` takes.
//!
//! - *Exponential*: OTLP's base-2 histograms, and the latencies of `operations`, which are such histograms at scale 4 over
//!   nanoseconds (`factor` turns their values into milliseconds). Of two scales the coarser counts, as OTLP says.
//! - *Explicit*: OTLP's histograms with bounds. Of two sets of bounds those that both have count: nothing is invented about
//!   where within a bucket values lie.
//!
//! *Invariants.* Merging is exact, and gives the same whatever the order: counts are added, never divided.
//!
//! *Source.* OTLP `ExponentialHistogramDataPoint`, `HistogramDataPoint`; `plimsoll_model::signal::Histogram`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Builder, Int32Builder, ListBuilder, StructArray, UInt64Builder};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue, exec_err};

use crate::error::QueryError;

/// Nanoseconds to milliseconds.
pub(super) const LATENCY_FACTOR: f64 = 1e-6;
/// Buckets of one sign: beyond so many the scale is halved.
const BUCKETS_MAX: usize = 2_048;

/// A histogram that others can be added to.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Merged {
    /// Nothing was added yet.
    #[default]
    Empty,
    /// Buckets between bounds: one count more than there are bounds.
    Explicit { bounds: Vec<f64>, counts: Vec<u64> },
    /// Buckets of growing width on both sides of zero.
    Exponential { scale: i32, factor: f64, zero: u64, positive: BTreeMap<i32, u64>, negative: BTreeMap<i32, u64> },
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
    Fields::from(vec![
        Field::new("scale", DataType::Int32, true),
        Field::new("factor", DataType::Float64, true),
        Field::new("zero_count", DataType::UInt64, true),
        Field::new("positive_buckets", list(DataType::Int32), true),
        Field::new("positive_counts", list(DataType::UInt64), true),
        Field::new("negative_buckets", list(DataType::Int32), true),
        Field::new("negative_counts", list(DataType::UInt64), true),
        Field::new("bounds", list(DataType::Float64), true),
        Field::new("counts", list(DataType::UInt64), true),
    ])
});

/// Returns the type of such values.
pub(crate) fn data_type() -> DataType {
    DataType::Struct(FIELDS.clone())
}

fn mixed(what: &str) -> QueryError {
    QueryError::Invalid(format!(
        "histograms of {what} cannot be merged: filter by `metric_name` and `metric_type`, or group by them"
    ))
}

impl Merged {
    /// Makes ready for buckets of `scale`: the coarser of both scales counts from now on.
    pub(super) fn rescale(&mut self, wanted: i32, wanted_factor: f64) -> Result<()> {
        match self {
            Self::Empty => {
                let (positive, negative) = (BTreeMap::new(), BTreeMap::new());
                *self = Self::Exponential { scale: wanted, factor: wanted_factor, zero: 0, positive, negative };
                Ok(())
            }
            Self::Exponential { factor, .. } if factor.to_bits() != wanted_factor.to_bits() => {
                Err(mixed("two units").into())
            }
            Self::Exponential { scale, positive, negative, .. } => {
                if wanted < *scale {
                    let by = scale.saturating_sub(wanted);
                    *positive = coarser(positive, by);
                    *negative = coarser(negative, by);
                    *scale = wanted;
                }
                Ok(())
            }
            Self::Explicit { .. } => Err(mixed("two kinds").into()),
        }
    }

    pub(super) fn add_zero(&mut self, count: u64) {
        if let Self::Exponential { zero, .. } = self {
            *zero = zero.saturating_add(count);
        }
    }

    pub(super) fn add_bucket(&mut self, sign: bool, from: i32, index: i32, count: u64) {
        if let Self::Exponential { scale, positive, negative, .. } = self
            && count > 0
        {
            let sum =
                if sign { positive } else { negative }.entry(shifted(index, from.saturating_sub(*scale))).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// Halves the scale until the buckets are few enough. What comes of it depends on the union of buckets alone.
    pub(super) fn shrink(&mut self) {
        if let Self::Exponential { scale, positive, negative, .. } = self {
            while positive.len().max(negative.len()) > BUCKETS_MAX {
                *positive = coarser(positive, 1);
                *negative = coarser(negative, 1);
                *scale = scale.saturating_sub(1);
            }
        }
    }

    pub(super) fn add_explicit(&mut self, other: &[f64], added: &[u64]) -> Result<()> {
        // A point may have a count and a sum, and no buckets.
        if added.len() != other.len() + 1 {
            return Ok(());
        }
        match self {
            Self::Empty => {
                *self = Self::Explicit { bounds: other.to_vec(), counts: added.to_vec() };
                Ok(())
            }
            Self::Explicit { bounds, counts } => {
                if bounds != other {
                    let common: Vec<f64> = bounds.iter().copied().filter(|bound| other.contains(bound)).collect();
                    *counts = folded(bounds, counts, &common);
                    *bounds = common;
                }
                for (sum, count) in counts.iter_mut().zip(folded(other, added, bounds)) {
                    *sum = sum.saturating_add(count);
                }
                Ok(())
            }
            Self::Exponential { .. } => Err(mixed("two kinds").into()),
        }
    }

    /// Adds the counts of `other`.
    #[cfg(test)]
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        match other {
            Self::Empty => Ok(()),
            Self::Explicit { bounds, counts } => self.add_explicit(bounds, counts),
            Self::Exponential { scale, factor, zero, positive, negative } => {
                self.rescale(*scale, *factor)?;
                self.add_zero(*zero);
                positive.iter().for_each(|(index, count)| self.add_bucket(true, *scale, *index, *count));
                negative.iter().for_each(|(index, count)| self.add_bucket(false, *scale, *index, *count));
                self.shrink();
                Ok(())
            }
        }
    }

    /// Returns the number of observations.
    pub(crate) fn count(&self) -> u64 {
        let sum = |counts: &mut dyn Iterator<Item = &u64>| counts.fold(0_u64, |sum, count| sum.saturating_add(*count));
        match self {
            Self::Empty => 0,
            Self::Explicit { counts, .. } => sum(&mut counts.iter()),
            Self::Exponential { zero, positive, negative, .. } => {
                sum(&mut positive.values().chain(negative.values())).saturating_add(*zero)
            }
        }
    }

    /// Returns the `q`-quantile: the geometric middle of an exponential bucket, or a place between two bounds as if values
    /// were spread evenly there; beyond the last bound, that bound. `None` where nothing was observed or `q` is not in 0 to 1.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let value = match self {
            Self::Empty => return None,
            Self::Explicit { bounds, counts } => between(bounds, counts, q * total as f64)?,
            Self::Exponential { scale, factor, zero, positive, negative } => {
                let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
                let middle = |index: i32| ((f64::from(index) + 0.5) * (-f64::from(*scale)).exp2()).exp2() * factor;
                let below = negative.iter().rev().map(|(index, count)| (-middle(*index), *count));
                let above = positive.iter().map(|(index, count)| (middle(*index), *count));
                let mut seen = 0_u64;
                below.chain([(0.0, *zero)]).chain(above).find_map(|(value, count)| {
                    seen = seen.saturating_add(count);
                    (seen >= rank).then_some(value)
                })?
            }
        };
        value.is_finite().then_some(value)
    }

    /// Returns roughly how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Explicit { bounds, counts } => (bounds.len() + counts.len()) * 8,
            Self::Exponential { positive, negative, .. } => (positive.len() + negative.len()) * 32,
        }
    }

    /// Returns it as a value of [`data_type`]; null where nothing was added.
    pub(crate) fn to_scalar(&self) -> Result<ScalarValue> {
        Ok(ScalarValue::Struct(Arc::new(to_array(std::slice::from_ref(self))?)))
    }
}

/// Refuses what is no quantile.
pub(crate) fn share(function: &str, q: f64) -> Result<()> {
    match (0.0..=1.0).contains(&q) {
        true => Ok(()),
        false => {
            exec_err!("`{function}` takes a number from 0 to 1, and {q} is none: write 0.95 for the 95th percentile")
        }
    }
}

fn shifted(index: i32, by: i32) -> i32 {
    index >> by.clamp(0, 31)
}

fn coarser(buckets: &BTreeMap<i32, u64>, by: i32) -> BTreeMap<i32, u64> {
    let mut merged = BTreeMap::new();
    for (index, count) in buckets {
        let sum: &mut u64 = merged.entry(shifted(*index, by)).or_default();
        *sum = sum.saturating_add(*count);
    }
    merged
}

/// Adds up counts between `bounds` so that they lie between `fewer`, which are among them.
fn folded(bounds: &[f64], counts: &[u64], fewer: &[f64]) -> Vec<u64> {
    let mut sums = vec![0_u64; fewer.len() + 1];
    for (at, count) in counts.iter().enumerate() {
        // The bucket ends at its upper bound; the last has none.
        let bucket = bounds.get(at).map_or(fewer.len(), |upper| fewer.partition_point(|bound| bound < upper));
        sums[bucket] = sums[bucket].saturating_add(*count);
    }
    sums
}

fn between(bounds: &[f64], counts: &[u64], rank: f64) -> Option<f64> {
    let mut seen = 0.0;
    for (at, count) in counts.iter().enumerate() {
        let count = *count as f64;
        if count == 0.0 || seen + count < rank {
            seen += count;
            continue;
        }
        let Some(upper) = bounds.get(at) else { return bounds.last().copied() };
        let lower = match at.checked_sub(1).and_then(|at| bounds.get(at)) {
            Some(lower) => *lower,
            // Below the first bound values are taken to begin at zero, where that is possible.
            None if *upper > 0.0 => 0.0,
            None => return Some(*upper),
        };
        return Some(lower + (upper - lower) * ((rank - seen) / count).clamp(0.0, 1.0));
    }
    bounds.last().copied()
}

/// Returns histograms as a column of [`data_type`].
pub(crate) fn to_array(rows: &[Merged]) -> Result<StructArray> {
    let (mut scales, mut factors, mut zeros) = (Int32Builder::new(), Float64Builder::new(), UInt64Builder::new());
    let mut indices = [ListBuilder::new(Int32Builder::new()), ListBuilder::new(Int32Builder::new())];
    let mut sums = [(); 3].map(|()| ListBuilder::new(UInt64Builder::new()));
    let mut limits = ListBuilder::new(Float64Builder::new());
    let mut valid = Vec::with_capacity(rows.len());
    for row in rows {
        valid.push(*row != Merged::Empty);
        match row {
            Merged::Exponential { scale, factor, zero, positive, negative } => {
                scales.append_value(*scale);
                factors.append_value(*factor);
                zeros.append_value(*zero);
                for (at, buckets) in [positive, negative].into_iter().enumerate() {
                    indices[at].append_value(buckets.keys().map(|index| Some(*index)));
                    sums[at].append_value(buckets.values().map(|count| Some(*count)));
                }
                limits.append_null();
                sums[2].append_null();
            }
            other => {
                scales.append_null();
                factors.append_null();
                zeros.append_null();
                for at in 0..2 {
                    indices[at].append_null();
                    sums[at].append_null();
                }
                match other {
                    Merged::Explicit { bounds, counts } => {
                        limits.append_value(bounds.iter().map(|bound| Some(*bound)));
                        sums[2].append_value(counts.iter().map(|count| Some(*count)));
                    }
                    _ => {
                        limits.append_null();
                        sums[2].append_null();
                    }
                }
            }
        }
    }
    let [mut positive, mut negative] = indices;
    let [mut positive_counts, mut negative_counts, mut counts] = sums;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(scales.finish()),
        Arc::new(factors.finish()),
        Arc::new(zeros.finish()),
        Arc::new(positive.finish()),
        Arc::new(positive_counts.finish()),
        Arc::new(negative.finish()),
        Arc::new(negative_counts.finish()),
        Arc::new(limits.finish()),
        Arc::new(counts.finish()),
    ];
    match StructArray::try_new(FIELDS.clone(), columns, Some(valid.into())) {
        Ok(array) => Ok(array),
        Err(error) => exec_err!("a histogram cannot be built: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::forms::{Columns, Form};
    use plimsoll_model::signal::Histogram;
    use proptest::prelude::*;

    fn explicit(bounds: &[f64], counts: &[u64]) -> Merged {
        Merged::Explicit { bounds: bounds.to_vec(), counts: counts.to_vec() }
    }

    fn exponential(scale: i32, buckets: &[(i32, u64)]) -> Merged {
        let (positive, negative) = (buckets.iter().copied().collect(), BTreeMap::new());
        Merged::Exponential { scale, factor: 1.0, zero: 0, positive, negative }
    }

    #[test]
    fn bounds_that_only_one_has_are_given_up_and_no_count_is_divided() {
        let mut merged = explicit(&[1.0, 2.0, 4.0], &[1, 2, 3, 4]);
        merged.merge(&explicit(&[2.0, 4.0, 8.0], &[10, 20, 30, 40])).expect("both are explicit");
        assert_eq!(merged, explicit(&[2.0, 4.0], &[13, 23, 74]));
        assert!(merged.merge(&exponential(0, &[(0, 1)])).is_err());
    }

    #[test]
    fn quantiles_between_bounds_are_those_of_an_even_spread() {
        // 100 values spread evenly over 0 to 100, in buckets of ten: the median is 50, the 95th percentile 95.
        let bounds: Vec<f64> = (1..=10).map(|n| f64::from(n) * 10.0).collect();
        let merged = explicit(&bounds, &[10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 0]);
        assert_eq!(merged.quantile(0.5), Some(50.0));
        assert_eq!(merged.quantile(0.95), Some(95.0));
        assert_eq!(merged.quantile(0.0), Some(0.0));
        assert_eq!(explicit(&[5.0], &[0, 3]).quantile(0.5), Some(5.0), "beyond the last bound");
        assert_eq!(merged.quantile(1.5), None);
    }

    #[test]
    fn negative_values_and_zeros_come_before_positive_ones() {
        let negative = BTreeMap::from([(0, 1), (2, 1)]);
        let merged =
            Merged::Exponential { scale: 0, factor: 1.0, zero: 2, positive: BTreeMap::from([(1, 1)]), negative };
        let at = |q: f64| merged.quantile(q).expect("is not empty");
        assert!((at(0.1) + 2_f64.powf(2.5)).abs() < 1e-9 && (at(0.3) + 2_f64.powf(0.5)).abs() < 1e-9);
        assert_eq!(at(0.6), 0.0);
        assert!((at(1.0) - 2_f64.powf(1.5)).abs() < 1e-9);
    }

    #[test]
    fn absurd_scales_and_offsets_are_survived() {
        let mut merged = exponential(i32::MAX, &[(i32::MIN, 1), (i32::MAX, 1)]);
        merged.merge(&exponential(i32::MIN, &[(i32::MAX, 1)])).expect("both are exponential");
        assert_eq!(merged.count(), 3);
        let _ = merged.quantile(0.5);
    }

    fn any_exponential() -> impl Strategy<Value = Merged> {
        (0..6_i32, prop::collection::vec((-200..200_i32, 1..100_u64), 0..20)).prop_map(|(s, b)| exponential(s, &b))
    }

    fn any_explicit() -> impl Strategy<Value = Merged> {
        prop::collection::btree_map(0..6_u8, 0..100_u64, 0..6).prop_map(|buckets| {
            let bounds: Vec<f64> = buckets.keys().map(|bound| f64::from(*bound)).collect();
            let counts: Vec<u64> = buckets.values().copied().chain([7]).collect();
            explicit(&bounds, &counts)
        })
    }

    fn sum(parts: &[&Merged]) -> Merged {
        let mut whole = Merged::Empty;
        parts.iter().for_each(|part| whole.merge(part).expect("of one kind"));
        whole
    }

    proptest! {
        #[test]
        fn merging_exponential_histograms_knows_no_order(a in any_exponential(), b in any_exponential(), c in any_exponential()) {
            let whole = sum(&[&a, &b, &c]);
            prop_assert_eq!(&whole, &sum(&[&c, &a, &b]));
            prop_assert_eq!(&whole, &sum(&[&a, &sum(&[&b, &c])]));
            prop_assert_eq!(whole.count(), a.count() + b.count() + c.count());
        }

        #[test]
        fn merging_explicit_histograms_knows_no_order(a in any_explicit(), b in any_explicit(), c in any_explicit()) {
            let whole = sum(&[&a, &b, &c]);
            prop_assert_eq!(&whole, &sum(&[&c, &a, &b]));
            prop_assert_eq!(&whole, &sum(&[&a, &sum(&[&b, &c])]));
            prop_assert_eq!(whole.count(), a.count() + b.count() + c.count());
        }

        #[test]
        fn a_value_comes_back_from_its_column(parts in prop::collection::vec(prop_oneof![any_explicit(), any_exponential()], 1..5)) {
            let column: ArrayRef = Arc::new(to_array(&parts).expect("builds"));
            let columns = Columns::new(Form::Merged, &[column]).expect("has the type");
            for (row, part) in parts.iter().enumerate() {
                let mut back = Merged::Empty;
                columns.add(row, &mut back).expect("of one kind");
                prop_assert_eq!(&back, part);
            }
        }

        #[test]
        fn quantiles_of_latencies_are_those_of_the_aggregates(values in prop::collection::vec(1..10_000_000_000_u64, 1..50), q in 0.0..1.0_f64) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|nanos| histogram.record(*nanos));
            let positive = histogram.0.iter().map(|(index, count)| (i32::from(*index), *count)).collect();
            let merged = Merged::Exponential { scale: 4, factor: LATENCY_FACTOR, zero: 0, positive, negative: BTreeMap::new() };
            let (ours, theirs) = (merged.quantile(q).expect("not empty"), histogram.quantile(q).expect("not empty") / 1e6);
            prop_assert!((ours - theirs).abs() <= theirs * 1e-12, "{} {}", ours, theirs);
        }
    }
}
