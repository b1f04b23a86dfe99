//! Many histograms added up: counts by place, where a tree would be searched for each.
//!
//! *Layout.* One count for each index from the least to the greatest that was met.

use plimsoll_model::signal::Histogram;

/// Places that are made in front of the least index and behind the greatest.
const MARGIN: i32 = 32;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Index of the first place.
    first: i32,
    counts: Vec<u64>,
    /// Places from the first to the last that holds any; none where the first is the greater.
    used: Option<(usize, usize)>,
    all: u64,
}

impl Tally {
    /// Adds the counts of a histogram.
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        let (Some((low, _)), Some((high, _))) = (histogram.0.first_key_value(), histogram.0.last_key_value()) else {
            return;
        };
        let (low, high) = (i32::from(*low), i32::from(*high));
        self.reach(low, high);
        let (from, to) = ((low - self.first) as usize, (high - self.first) as usize);
        self.used = Some(self.used.map_or((from, to), |used| (used.0.min(from), used.1.max(to))));
        for (index, count) in &histogram.0 {
            self.counts[(i32::from(*index) - self.first) as usize] += count;
            self.all += count;
        }
    }

    /// Makes places for indices from `low` to `high`.
    fn reach(&mut self, low: i32, high: i32) {
        if self.counts.is_empty() {
            self.first = low - MARGIN;
        }
        if low < self.first {
            let more = (self.first - low + MARGIN) as usize;
            self.counts.splice(..0, std::iter::repeat_n(0, more));
            self.first -= more as i32;
            self.used = self.used.map(|(from, to)| (from + more, to + more));
        }
        let places = (high - self.first) as usize + 1;
        if places > self.counts.len() {
            self.counts.resize(places + MARGIN as usize, 0);
        }
    }

    /// Returns the number of observations.
    pub(crate) fn count(&self) -> u64 {
        self.all
    }

    /// Returns what [`Histogram::quantile_index`] does.
    pub(crate) fn quantile_index(&self, q: f64) -> Option<i16> {
        let (from, to) = self.used.filter(|_| self.all > 0)?;
        let rank = ((q * self.all as f64).ceil() as u64).clamp(1, self.all);
        // From above, because what is asked is near the top.
        let (mut at, mut above) = (to, 0);
        while at > from && above + self.counts[at] <= self.all - rank {
            above += self.counts[at];
            at -= 1;
        }
        i16::try_from(self.first + at as i32).ok()
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        if let Some((from, to)) = self.used.take() {
            self.counts[from..=to].fill(0);
        }
        self.all = 0;
    }

    /// Returns it as a histogram.
    pub(crate) fn histogram(&self) -> Histogram {
        let places = self.counts.iter().zip(self.first..).filter(|(count, _)| **count > 0);
        Histogram(places.filter_map(|(count, index)| Some((i16::try_from(index).ok()?, *count))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_merging_makes(
            parts in prop::collection::vec(prop::collection::btree_map(any::<i16>(), 1_u64..1_000, 0..6), 0..8),
            near in prop::collection::vec(prop::collection::btree_map(300_i16..420, 1_u64..1_000, 0..20), 0..8),
            q in 0.0..=1.0_f64,
        ) {
            let mut tally = Tally::default();
            for parts in [&near, &parts, &near] {
                tally.clear();
                let mut merged = Histogram::default();
                for part in parts {
                    let part = Histogram(part.clone());
                    tally.add(&part);
                    merged.merge(&part);
                    prop_assert_eq!(tally.count(), merged.count());
                    prop_assert_eq!(tally.quantile_index(q), merged.quantile_index(q));
                }
                prop_assert_eq!(tally.histogram(), merged);
            }
        }
    }
}
