//! Everything beside the operations that is known of a service over a stretch of time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::log::LogSeries;
use crate::metric::{ExactSum, MetricSeries, MetricShape};
use crate::presence::PresenceSeries;
use crate::service::ServiceKey;
use crate::signal::{Exemplars, OperationKind, OperationSeries};
use crate::time::{Bucket, UnixNanos};

/// Requests of one operation under one variant of a feature flag.
///
/// They are also counted in the operation itself: arms are another cut of the same requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmSeries {
    /// `feature_flag.key`.
    pub flag: String,
    /// `feature_flag.result.variant`; `{other}` once a flag has too many.
    pub variant: String,
    /// The requests: counts, classes of errors, latency and exemplars; what needs whole traces is not kept by arm.
    pub series: OperationSeries,
}

/// A user action in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActionCell {
    /// How often it happened.
    pub count: u64,
    /// How often with an error: on a failed span, or as a log record of severity error or worse.
    pub failed: u64,
}

impl ActionCell {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.failed += other.failed;
    }
}

/// One user action of one version over time: a span event or log record whose name is configured as an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionSeries {
    /// The version; empty where the service tells none.
    pub version: String,
    /// Name of the event.
    pub action: String,
    /// How often, bucket by bucket.
    pub cells: Vec<(Bucket, ActionCell)>,
}

/// A service in the version in which it took part in a trace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Participant {
    /// `service.namespace`.
    #[serde(default)]
    pub namespace: String,
    /// `service.name`.
    pub service: String,
    /// `service.version`; empty where unknown.
    pub version: String,
}

/// Traces that took one path, in one bucket: one cell of a Mantel-Haenszel table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathCell {
    /// Traces.
    pub traces: u64,
    /// Traces whose entry failed.
    pub failed: u64,
    /// Sum of natural logarithms of the entry's latency in nanoseconds, in units of 1/[`crate::signal::LOG_UNIT`].
    pub log_latency_sum: i64,
    /// Sum of squares of the same, in the same units.
    pub log_latency_sum_sq: i64,
    /// Some that failed.
    pub failed_exemplars: Exemplars,
    /// Traces in which a request of a service failed, by [`PathCell::party`], whether or not the entry did.
    pub failed_within: BTreeMap<String, u64>,
    /// Those of them whose entry failed as well.
    #[serde(default)]
    pub failed_both: BTreeMap<String, u64>,
}

impl PathCell {
    /// Names a service in [`Self::failed_within`] and [`Self::failed_both`]: its namespace, where it has one, a slash and its name.
    pub fn party(namespace: &str, service: &str) -> String {
        if namespace.is_empty() { service.to_owned() } else { format!("{namespace}/{service}") }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.traces += other.traces;
        self.failed += other.failed;
        self.log_latency_sum = self.log_latency_sum.saturating_add(other.log_latency_sum);
        self.log_latency_sum_sq = self.log_latency_sum_sq.saturating_add(other.log_latency_sum_sq);
        self.failed_exemplars.merge(&other.failed_exemplars);
        for (mine, more) in
            [(&mut self.failed_within, &other.failed_within), (&mut self.failed_both, &other.failed_both)]
        {
            for (party, traces) in more {
                *mine.entry(party.clone()).or_default() += traces;
            }
        }
    }
}

/// Traces of one entry that took one path over time.
///
/// The path is the set of all services that took part, each in its version: to weigh two versions of one service against
/// each other, compare paths that are equal in everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathSeries {
    /// The service of the topmost request.
    pub entry: ServiceKey,
    /// Its operation.
    pub operation: String,
    /// Every service that took part, the entry's among them, in order, without repetition. Empty for those that no longer
    /// fitted under the bound on paths.
    pub path: Vec<Participant>,
    /// How they went, bucket by bucket.
    pub cells: Vec<(Bucket, PathCell)>,
}

/// Requests of one operation, all versions together, in one wide bucket of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistoryCell {
    /// Requests.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests by weight, in units of 1/[`crate::signal::WEIGHT_UNIT`].
    pub weighted_requests: u64,
    /// Sum of natural logarithms of latency in nanoseconds, in units of 1/[`crate::signal::LOG_UNIT`].
    pub log_latency_sum: i64,
    /// Sum of squares of the same, in the same units.
    pub log_latency_sum_sq: i64,
}

impl HistoryCell {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.weighted_requests = self.weighted_requests.saturating_add(other.weighted_requests);
        self.log_latency_sum = self.log_latency_sum.saturating_add(other.log_latency_sum);
        self.log_latency_sum_sq = self.log_latency_sum_sq.saturating_add(other.log_latency_sum_sq);
    }
}

/// One operation over the past days and weeks: same hours before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySeries {
    /// Name of the operation.
    pub operation: String,
    /// Role of the spans counted.
    pub kind: OperationKind,
    /// Width of the buckets in seconds: 60 for the last day, 600 for the last weeks.
    pub width_s: u32,
    /// How the requests went, by start of the bucket, ascending; none is empty.
    pub cells: Vec<(UnixNanos, HistoryCell)>,
}

/// One metric of one service, all its versions together, in one wide bucket of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MetricHistoryCell {
    /// Points that came in.
    pub points: u64,
    /// As [`crate::metric::MetricCell::count`].
    pub count: u64,
    /// As [`crate::metric::MetricCell::sum`].
    pub sum: ExactSum,
}

impl MetricHistoryCell {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.points += other.points;
        self.count += other.count;
        self.sum.add(other.sum);
    }
}

/// One metric over the past days: same hours before. Only those are kept whose name tells which direction is bad
/// ([`crate::metric::worse_upwards`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricHistorySeries {
    /// Which metric.
    pub metric: MetricHistoryKey,
    /// Width of the buckets in seconds.
    pub width_s: u32,
    /// Its values, by start of the bucket, ascending; none is empty.
    pub cells: Vec<(UnixNanos, MetricHistoryCell)>,
}

/// What tells one metric of a service from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MetricHistoryKey {
    /// Its name.
    pub name: String,
    /// Its unit, as it came.
    pub unit: String,
    /// What its values mean.
    pub shape: MetricShape,
    /// Those attributes of the points that are allow-listed.
    pub attributes: BTreeMap<String, String>,
}

/// How one service fared in one bucket, all its operations and versions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Vitals {
    /// Requests.
    pub requests: u64,
    /// Requests that failed here; where traces tell, without those that failed because of a callee.
    pub errors: u64,
    /// Sum of natural logarithms of latency in nanoseconds, in units of 1/[`crate::signal::LOG_UNIT`].
    pub log_latency_sum: i64,
}

impl Vitals {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.log_latency_sum = self.log_latency_sum.saturating_add(other.log_latency_sum);
    }
}

/// One service over time, at a glance; buckets ascend and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VitalsSeries {
    /// The service.
    pub service: ServiceKey,
    /// From here on it was touched, and nothing is told of it.
    #[serde(default)]
    pub until: Option<Bucket>,
    /// How it fared, bucket by bucket.
    pub cells: Vec<(Bucket, Vitals)>,
}

/// How calls to one target fared in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Served {
    /// Calls that it answered, well or not.
    pub answered: u64,
    /// Calls that nobody answered.
    pub unanswered: u64,
}

/// How an operation of a target served some callers over time; buckets ascend and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedSeries {
    /// The service, or the name by which callers know whom calls were meant for that nobody answered.
    pub target: String,
    /// Its operation; empty for calls that nobody answered.
    pub operation: String,
    /// Calls to it, bucket by bucket.
    pub cells: Vec<(Bucket, Served)>,
}

/// All of them, of one service within one stretch of event time. Every list is in order of its keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceAggregates {
    /// What each version emitted.
    pub presence: Vec<PresenceSeries>,
    /// Log records by template.
    pub logs: Vec<LogSeries>,
    /// Metrics.
    pub metrics: Vec<MetricSeries>,
    /// Requests by variant of feature flags.
    pub arms: Vec<ArmSeries>,
    /// User actions.
    pub actions: Vec<ActionSeries>,
    /// Traces that the service took part in, by the versions that took part.
    pub paths: Vec<PathSeries>,
    /// The weeks before, whatever stretch was asked for.
    pub history: Vec<HistorySeries>,
    /// Metrics of the days before, whatever stretch was asked for.
    #[serde(default)]
    pub metric_history: Vec<MetricHistorySeries>,
}
