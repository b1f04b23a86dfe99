//! Mergeable aggregates: what the verdict is computed from.
//!
//! *Invariants.* Merging is addition of integers and union of ordered maps, so any order of merging, any sharding and any
//! replay give identical values and identical serialised bytes. Floating point is never accumulated.
//!
//! *Layout of a histogram.* OpenTelemetry's base-2 exponential histogram at scale 4, over nanoseconds: bucket `i` holds
//! `2^(i/16) < x <= 2^((i+1)/16)`, so a bucket's middle is within 2.2 % of all it holds. The edges never move.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drill::{Draws, Values, merge_values};
use crate::service::ServiceKey;
use crate::time::Bucket;

/// Subdivisions of an octave, as a power of two: 2^4 = 16.
pub const HISTOGRAM_SCALE: u32 = 4;

/// One unit of [`OperationCell::log_latency_sum`]: 2^-20 of a natural logarithm.
pub const LOG_UNIT: f64 = 1_048_576.0;

/// The weight of one request that was not sampled: weights are in units of 1/1024.
pub const WEIGHT_UNIT: u64 = 1_024;

/// A sparse, fixed-edge exponential histogram of nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(pub BTreeMap<i16, u64>);

impl Histogram {
    /// Returns the index of the bucket that holds `nanos`; zero counts as one nanosecond.
    #[inline]
    pub fn index_of(nanos: u64) -> i16 {
        crate::logarithm::bucket(nanos)
    }

    /// Returns the index of the bucket that holds `value`, in whatever unit it has; `None` where it is not positive.
    pub fn index_of_value(value: f64) -> Option<i16> {
        (value > 0.0 && value.is_finite())
            .then(|| (value.log2() * f64::from(1_u32 << HISTOGRAM_SCALE)).ceil() as i16)
            .map(|above| above.saturating_sub(1))
    }

    /// Returns the upper edge of bucket `index`, in nanoseconds.
    pub fn upper_edge(index: i16) -> f64 {
        ((f64::from(index) + 1.0) / f64::from(1_u32 << HISTOGRAM_SCALE)).exp2()
    }

    /// Counts one observation.
    pub fn record(&mut self, nanos: u64) {
        *self.0.entry(Self::index_of(nanos)).or_default() += 1;
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in &other.0 {
            *self.0.entry(*index).or_default() += count;
        }
    }

    /// Returns the number of observations.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns how many observations lie in buckets above `index`.
    pub fn count_above(&self, index: i16) -> u64 {
        self.0.range(index.saturating_add(1)..).map(|(_, count)| count).sum()
    }

    /// Returns the index of the bucket in which the `q`-quantile lies; `None` where nothing was recorded.
    pub fn quantile_index(&self, q: f64) -> Option<i16> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, count) in &self.0 {
            seen += count;
            if seen >= rank {
                return Some(*index);
            }
        }
        None
    }

    /// Returns the `q`-quantile in nanoseconds, as the geometric middle of its bucket.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let index = self.quantile_index(q)?;
        Some(Self::upper_edge(index) / (0.5 / f64::from(1_u32 << HISTOGRAM_SCALE)).exp2())
    }
}

/// What role a span plays in its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Answers a request.
    Server,
    /// Handles a message.
    Consumer,
    /// Neither, where a service has nothing else.
    Internal,
}

impl OperationKind {
    /// Returns the name used in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Consumer => "consumer",
            Self::Internal => "internal",
        }
    }

    /// Reads the name used in SQL.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Server, Self::Consumer, Self::Internal].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How long an instance had been running: compared only with its like, because a cold start is not a regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgeClass {
    /// Less than a minute.
    Cold,
    /// One to five minutes.
    Warming,
    /// More than five minutes, or unknown.
    Warm,
}

impl AgeClass {
    /// Returns the name used in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warming => "warming",
            Self::Warm => "warm",
        }
    }

    /// Reads the name used in SQL.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Cold, Self::Warming, Self::Warm].into_iter().find(|age| age.as_str() == text)
    }
}

/// What one cell of the aggregates is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationKey {
    /// Who did the work.
    pub service: ServiceKey,
    /// `service.version`; empty where unknown.
    pub version: String,
    /// Name of the operation, for instance `POST /charge`; `{other}` once a service has too many.
    pub operation: String,
    /// Role of the spans counted.
    pub kind: OperationKind,
    /// Age of the instances counted.
    pub age: AgeClass,
}

/// A party to a trace: whom a failure or a delay is traced back to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Party {
    /// Namespace of the service; empty where it has none.
    #[serde(default)]
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// Its version; empty where unknown.
    pub version: String,
    /// Its operation.
    pub operation: String,
}

impl Party {
    /// Stands as `operation` of calls that nobody answered and that their request got over: it called again, or did without.
    pub const OVERCOME: &str = "{overcome}";

    /// Says whether it stands for failed calls that nobody answered: it has the name by which the caller knows whom they were meant
    /// for, and nothing else but [`OVERCOME`](Self::OVERCOME).
    pub fn is_unanswered(&self) -> bool {
        let nothing_else = self.version.is_empty() && self.namespace.is_empty();
        let nowhere = self.operation.is_empty() || self.is_overcome();
        nothing_else && nowhere && !self.service.is_empty() && self.service != "{other}"
    }

    /// Says whether it stands for calls that nobody answered and that no request failed of.
    pub fn is_overcome(&self) -> bool {
        self.operation == Self::OVERCOME
    }
}

/// Identity of an exception: a hash of its type and its normalised in-application frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u64);

/// How often an exception was seen, and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExceptionCount {
    /// `exception.type`.
    pub exception_type: String,
    /// One of its messages: of those seen, the first in text order, so that merging is order-free.
    pub message: String,
    /// Occurrences.
    pub count: u64,
}

/// Calls to one callee made while handling the operation's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CalleeTime {
    /// Calls.
    pub calls: u64,
    /// Time on the critical path of the request, summed, in nanoseconds.
    pub critical_ns: u64,
}

/// Trace ids kept as examples: of those seen the smallest few, so that merging is order-free.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exemplars(pub Vec<[u8; 16]>);

impl Exemplars {
    /// How many are kept.
    pub const MAX: usize = 3;

    /// Offers one trace id.
    #[inline]
    pub fn offer(&mut self, trace_id: [u8; 16]) {
        // Most offers come too late, and are turned away by one comparison of numbers.
        if let [.., last] = self.0.as_slice()
            && self.0.len() >= Self::MAX
            && u128::from_be_bytes(trace_id) >= u128::from_be_bytes(*last)
        {
            return;
        }
        if let Err(at) = self.0.binary_search(&trace_id)
            && at < Self::MAX
        {
            self.0.insert(at, trace_id);
            self.0.truncate(Self::MAX);
        }
    }

    /// Adds those of `other`.
    pub fn merge(&mut self, other: &Self) {
        for id in &other.0 {
            self.offer(*id);
        }
    }
}

/// What happened to one operation in one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperationCell {
    /// Requests handled.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests by weight, in units of 1/[`WEIGHT_UNIT`]: a sampled span stands for those that were not kept. Equal to
    /// `requests` times the unit where nothing was sampled.
    pub weighted_requests: u64,
    /// Failed requests by weight, in the same units.
    pub weighted_errors: u64,
    /// Requests that failed here, with no failing child to pass the blame to. Known only once a trace is whole.
    pub error_origins: u64,
    /// Sum of natural logarithms of latency in nanoseconds, in units of 1/[`LOG_UNIT`].
    pub log_latency_sum: i64,
    /// Sum of squares of the same, in the same units.
    pub log_latency_sum_sq: i64,
    /// Latency of all requests.
    pub latency: Histogram,
    /// Time on the critical path spent here and not in a callee. Known only once a trace is whole.
    pub self_time: Histogram,
    /// Sum of the same, in nanoseconds.
    pub self_time_ns: u64,
    /// Requests whose trace was whole enough to assign blame: the denominator of `self_time_ns`, `callees` and `blame`.
    pub assembled: u64,
    /// Failed requests by class, `error.type` or status.
    pub errors_by_class: BTreeMap<String, u64>,
    /// Exceptions recorded on this operation's spans and logs.
    pub exceptions: BTreeMap<Fingerprint, ExceptionCount>,
    /// Failed requests by the party where the failure began.
    pub blame: BTreeMap<Party, u64>,
    /// Time spent in callees, and in calls in which a failed request's failure began and that nobody answered
    /// ([`Party::is_unanswered`]).
    pub callees: BTreeMap<Party, CalleeTime>,
    /// Requests by values of allow-listed attributes.
    pub values: Values,
    /// A few of the failed requests with all their values, at most [`Draws::FAILED_MAX`].
    #[serde(default)]
    pub failed_draws: Draws,
    /// A few of the others, at most [`Draws::GOOD_MAX`].
    #[serde(default)]
    pub good_draws: Draws,
    /// Traces of requests that failed.
    pub failed_exemplars: Exemplars,
    /// Traces of requests that did not.
    pub good_exemplars: Exemplars,
    /// Traces of requests in the slowest latency bucket seen.
    pub slow_exemplars: Exemplars,
}

impl OperationCell {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        let slower = other.latency.0.last_key_value().map(|(i, _)| *i);
        let slowest = self.latency.0.last_key_value().map(|(i, _)| *i);
        match slower.cmp(&slowest) {
            std::cmp::Ordering::Greater => self.slow_exemplars = other.slow_exemplars.clone(),
            std::cmp::Ordering::Equal => self.slow_exemplars.merge(&other.slow_exemplars),
            std::cmp::Ordering::Less => {}
        }
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.weighted_requests = self.weighted_requests.saturating_add(other.weighted_requests);
        self.weighted_errors = self.weighted_errors.saturating_add(other.weighted_errors);
        self.error_origins = self.error_origins.saturating_add(other.error_origins);
        self.log_latency_sum = self.log_latency_sum.saturating_add(other.log_latency_sum);
        self.log_latency_sum_sq = self.log_latency_sum_sq.saturating_add(other.log_latency_sum_sq);
        self.latency.merge(&other.latency);
        self.self_time.merge(&other.self_time);
        self.self_time_ns = self.self_time_ns.saturating_add(other.self_time_ns);
        self.assembled = self.assembled.saturating_add(other.assembled);
        for (class, count) in &other.errors_by_class {
            *self.errors_by_class.entry(class.clone()).or_default() += count;
        }
        for (fingerprint, seen) in &other.exceptions {
            let mine =
                self.exceptions.entry(*fingerprint).or_insert_with(|| ExceptionCount { count: 0, ..seen.clone() });
            mine.count += seen.count;
            if seen.message < mine.message {
                mine.message.clone_from(&seen.message);
            }
        }
        for (party, count) in &other.blame {
            *self.blame.entry(party.clone()).or_default() += count;
        }
        for (party, time) in &other.callees {
            let mine = self.callees.entry(party.clone()).or_default();
            mine.calls += time.calls;
            mine.critical_ns += time.critical_ns;
        }
        merge_values(&mut self.values, &other.values);
        self.failed_draws.merge(&other.failed_draws, Draws::FAILED_MAX);
        self.good_draws.merge(&other.good_draws, Draws::GOOD_MAX);
        self.failed_exemplars.merge(&other.failed_exemplars);
        self.good_exemplars.merge(&other.good_exemplars);
    }
}

/// One operation over time; buckets ascend and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationSeries {
    /// What it is about.
    pub key: OperationKey,
    /// What happened, bucket by bucket.
    pub cells: Vec<(Bucket, OperationCell)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_of_two_are_the_upper_edges_of_their_buckets() {
        for exponent in 5..63_u32 {
            let index = Histogram::index_of(1_u64 << exponent);
            assert_eq!(i32::from(index), i32::try_from(exponent * 16).expect("small") - 1);
            assert!(Histogram::index_of((1_u64 << exponent) + (1_u64 << exponent) / 16) > index);
        }
    }

    proptest! {
        #[test]
        fn a_quantile_of_one_value_is_within_its_precision(nanos in 2_u64..1 << 50) {
            let mut histogram = Histogram::default();
            histogram.record(nanos);
            let middle = histogram.quantile(0.5).expect("not empty");
            prop_assert!((middle / nanos as f64 - 1.0).abs() < 0.0222, "{} against {}", middle, nanos);
        }

        #[test]
        fn merging_is_free_of_order(parts in prop::collection::vec(prop::collection::vec((1_u64..1 << 40, any::<[u8; 16]>()), 1..8), 1..6)) {
            let cells: Vec<OperationCell> = parts.iter().map(|part| {
                let mut cell = OperationCell::default();
                let slowest = part.iter().map(|(ns, _)| Histogram::index_of(*ns)).max();
                for (ns, trace) in part {
                    cell.requests += 1;
                    cell.latency.record(*ns);
                    cell.failed_exemplars.offer(*trace);
                    if Some(Histogram::index_of(*ns)) == slowest {
                        cell.slow_exemplars.offer(*trace);
                    }
                }
                cell
            }).collect();
            let mut forward = OperationCell::default();
            let mut backward = OperationCell::default();
            cells.iter().for_each(|cell| forward.merge(cell));
            cells.iter().rev().for_each(|cell| backward.merge(cell));
            prop_assert_eq!(&forward, &backward);
            prop_assert_eq!(serde_json::to_vec(&forward).expect("serialises"), serde_json::to_vec(&backward).expect("serialises"));
        }
    }
}
