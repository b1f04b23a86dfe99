//! Who was there: what tells silence, restarts and shares of traffic.
//!
//! *Invariants.* Merging is addition, minimum, maximum and union, so it is free of order.

use serde::{Deserialize, Serialize};

use crate::time::{Bucket, UnixNanos};

/// How many distinct things were seen: exact up to [`Distinct::MAX`], an estimate beyond.
///
/// Keeps the smallest hashes seen; the share of the hash space that they cover says how many there are (the k minimum
/// values of Bar-Yossef et al., RANDOM 2002). The same thing offered twice counts once, whoever offers it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Distinct(pub Vec<u64>);

impl Distinct {
    /// How many hashes are kept.
    pub const MAX: usize = 32;

    /// Offers the hash of one thing; hashes have to be spread evenly over 64 bits.
    pub fn offer(&mut self, hash: u64) {
        if let Err(at) = self.0.binary_search(&hash)
            && at < Self::MAX
        {
            self.0.insert(at, hash);
            self.0.truncate(Self::MAX);
        }
    }

    /// Adds those of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|hash| self.offer(*hash));
    }

    /// Returns how many distinct things there were; within about a fifth where there were more than [`Self::MAX`].
    pub fn count(&self) -> u64 {
        match self.0.last() {
            Some(largest) if self.0.len() >= Self::MAX => {
                ((Self::MAX - 1) as f64 * (u64::MAX as f64 / (*largest).max(1) as f64)).round() as u64
            }
            _ => self.0.len() as u64,
        }
    }
}

/// What one version of a service emitted in one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PresenceCell {
    /// Spans.
    pub spans: u64,
    /// Log records.
    pub logs: u64,
    /// Metric points.
    pub points: u64,
    /// Instances that emitted any of them.
    pub instances: Distinct,
    /// Starts of instances: each pair of instance and time of start once. It stands in the bucket of the start.
    pub starts: Distinct,
    /// Earliest event time seen; `None` where nothing but a start is known.
    pub first: Option<UnixNanos>,
    /// Latest event time seen.
    pub last: Option<UnixNanos>,
}

impl PresenceCell {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.spans += other.spans;
        self.logs += other.logs;
        self.points += other.points;
        self.instances.merge(&other.instances);
        self.starts.merge(&other.starts);
        self.first = match (self.first, other.first) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self.last = self.last.max(other.last);
    }
}

/// One version of a service over time; buckets ascend and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceSeries {
    /// The version; empty where the service tells none.
    pub version: String,
    /// What it emitted, bucket by bucket.
    pub cells: Vec<(Bucket, PresenceCell)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    proptest! {
        #[test]
        fn any_split_of_the_things_counts_the_same(things in prop::collection::vec(0_u64..200, 0..300), at in any::<prop::sample::Index>()) {
            let of = |part: &[u64]| {
                let mut distinct = Distinct::default();
                part.iter().for_each(|thing| distinct.offer(xxh3_64(&thing.to_le_bytes())));
                distinct
            };
            let cut = at.index(things.len() + 1);
            let (mut left, right) = (of(&things[..cut]), of(&things[cut..]));
            left.merge(&right);
            prop_assert_eq!(&left, &of(&things));
            let truth = things.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
            if truth < Distinct::MAX as u64 {
                prop_assert_eq!(left.count(), truth);
            } else {
                prop_assert!(left.count() as f64 > 0.4 * truth as f64 && (left.count() as f64) < 2.0 * truth as f64);
            }
        }
    }
}
