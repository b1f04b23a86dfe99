//! Metrics as mergeable 10 s aggregates: what every OTLP type comes down to.
//!
//! | OTLP | becomes |
//! |---|---|
//! | gauge, sum that is not monotonic and cumulative | [`MetricShape::Gauge`]: points, their sum, least and greatest |
//! | monotonic sum, delta or cumulative | [`MetricShape::Counter`]: what was added since the point before |
//! | histogram, exponential histogram, summary | [`MetricShape::Histogram`]: observations since the point before |
//!
//! *Invariants.* Sums are integers of 2^-40 of the unit, so that adding is free of order. Histograms are base-2 exponential
//! at scale 4 like those of latency, but over the metric's own unit; a count of a wider bucket stands at its upper edge, so
//! that what is asked at an edge of the source is exact.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::service::ServiceKey;
use crate::signal::{AgeClass, Histogram};
use crate::time::Bucket;

/// A sum of floating point numbers that does not depend on their order: a count of 2^-40.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExactSum(pub i128);

impl ExactSum {
    const UNIT: f64 = 1_099_511_627_776.0;

    /// Takes one number; what is not a number counts as zero, and what is beyond 1.5e26 as that.
    pub fn of(value: f64) -> Self {
        // `as` saturates and turns NaN into zero.
        Self((value * Self::UNIT).round() as i128)
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// Returns the sum.
    pub fn value(self) -> f64 {
        self.0 as f64 / Self::UNIT
    }
}

/// What a metric's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricShape {
    /// A level: its mean is what counts.
    Gauge,
    /// Something that adds up: its rate is what counts.
    Counter,
    /// Observations: how they are distributed is what counts.
    Histogram,
}

impl MetricShape {
    /// Returns the name used in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }

    /// Reads the name used in SQL.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Gauge, Self::Counter, Self::Histogram].into_iter().find(|shape| shape.as_str() == text)
    }
}

/// What one series of metric cells is about. Instances are added up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MetricKey {
    /// Who emitted it.
    pub service: ServiceKey,
    /// `service.version`; empty where unknown.
    pub version: String,
    /// Age of the instances at the time.
    pub age: AgeClass,
    /// Name of the metric; `{other}` once a service has too many.
    pub name: String,
    /// Its unit, as it came.
    pub unit: String,
    /// What its values mean.
    pub shape: MetricShape,
    /// Those attributes of the points that are allow-listed; others are summed over.
    pub attributes: BTreeMap<String, String>,
}

/// One metric series in one bucket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MetricCell {
    /// Points that came in.
    pub points: u64,
    /// Observations (histogram); otherwise the number of points that `sum` is made of.
    pub count: u64,
    /// Sum of levels (gauge), of what was added (counter), or of observations (histogram).
    pub sum: ExactSum,
    /// Least level or observation, where known.
    pub min: Option<f64>,
    /// Greatest.
    pub max: Option<f64>,
    /// Observations by size, for histograms. Zero and less stands in `zeros` instead.
    pub values: Histogram,
    /// Observations that were zero or negative.
    pub zeros: u64,
    /// Counters that began anew.
    pub resets: u64,
}

impl MetricCell {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        let least = |a: Option<f64>, b: Option<f64>, pick: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(pick(a, b)),
            (a, b) => a.or(b),
        };
        self.points += other.points;
        self.count += other.count;
        self.sum.add(other.sum);
        self.min = least(self.min, other.min, f64::min);
        self.max = least(self.max, other.max, f64::max);
        self.values.merge(&other.values);
        self.zeros += other.zeros;
        self.resets += other.resets;
    }

    /// Returns the mean level (gauge) or observation (histogram); `None` where there is none.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.value() / self.count as f64)
    }
}

/// One metric series over time; buckets ascend and none is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSeries {
    /// What it is about.
    pub key: MetricKey,
    /// Its values, bucket by bucket. A point stands in the bucket of its time, whatever stretch it reports on.
    pub cells: Vec<(Bucket, MetricCell)>,
}

/// Words of failure and delay, by how they begin: more of them is worse, whatever they are of.
const HARM: [&str; 14] = [
    "error",
    "fail",
    "fault",
    "latenc",
    "delay",
    "timeout",
    "exception",
    "reject",
    "evict",
    "restart",
    "throttl",
    "unavailab",
    "unsuccess",
    "unhealthy",
];
/// The same, where only the whole word says so.
const HARMS: [&str; 22] = [
    "duration",
    "response_time",
    "queue",
    "queued",
    "lag",
    "backlog",
    "retry",
    "retried",
    "timed_out",
    "pause",
    "5xx",
    "drop",
    "dropped",
    "saturation",
    "unready",
    "not_ready",
    "abandoned",
    "oom",
    "lost",
    "panic",
    "crash",
    "denied",
];
/// Words of what should be there: less of it is worse.
const HEALTH: [&str; 13] = [
    "success",
    "successful",
    "succeeded",
    "available",
    "availability",
    "conversion",
    "hit_ratio",
    "hit_rate",
    "throughput",
    "apdex",
    "ready",
    "healthy",
    "uptime",
];
/// What is used up: more is worse.
const USED: [&str; 6] = ["memory", "heap", "rss", "cpu", "gc", "mem"];
/// What a business counts: less is worse.
const EARNED: [&str; 5] = ["order", "checkout", "revenue", "purchase", "sale"];

/// Says by the name of a metric whether more of it is worse; `None` where nobody can say.
///
/// Names are read word by word, `camelCase` and plurals included. What failed or is late is worse whatever it is of, what
/// should be there comes next, then what is used up, and what a business counts last: `orders.failed` is worse with more of
/// it, `memory.available` with less.
pub fn worse_upwards(name: &str) -> Option<bool> {
    let words = words(name);
    let says = |list: &[&str]| list.iter().any(|word| words.contains(&format!("_{word}_")));
    if HARM.iter().any(|stem| words.contains(&format!("_{stem}"))) {
        return Some(true);
    }
    let directions = [(HARMS.as_slice(), true), (&HEALTH, false), (&USED, true), (&EARNED, false)];
    directions.into_iter().find(|(list, _)| says(list)).map(|(_, up)| up)
}

/// Says whether a metric is a share of what should be there, by its name: of what succeeds, of what is available. A cache that misses has lost
/// nothing, so that of hits is none.
pub fn is_share(name: &str) -> bool {
    let words = words(name);
    let says = |word: &str| words.contains(&format!("_{word}_"));
    !says("hit") && ["ratio", "share", "percent", "percentage", "availability", "success_rate"].into_iter().any(says)
}

/// What goes with the work that there is to do. Memory does not: what is kept is not what comes in.
const BUSY: [&str; 8] = ["cpu", "queue", "queued", "pending", "backlog", "inflight", "lag", "busy"];

/// Says by its name whether a level grows with the work that a service has to do, however well it does it.
pub fn goes_with_load(name: &str) -> bool {
    let words = words(name);
    BUSY.iter().any(|word| words.contains(&format!("_{word}_")))
}

/// Returns the words of a name in small letters and without a plural's `s`, each between underscores.
fn words(name: &str) -> String {
    let mut words = String::from("_");
    let mut word = String::new();
    let end = |word: &mut String, words: &mut String| {
        let plural = word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us");
        if plural {
            word.pop();
        }
        if plural && word.ends_with("ie") {
            // `latencies`, `retries`.
            word.truncate(word.len() - 2);
            word.push('y');
        }
        if !word.is_empty() {
            words.push_str(word);
            words.push('_');
            word.clear();
        }
    };
    let mut before = ' ';
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        // `cpuUsage`, `HTTPErrors`, `errors5xx`.
        let next_is_small = chars.peek().is_some_and(|next| next.is_lowercase());
        let begins = c.is_uppercase() && (!before.is_uppercase() || next_is_small);
        if !c.is_alphanumeric() || begins || (c.is_numeric() && before.is_alphabetic()) {
            end(&mut word, &mut words);
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    end(&mut word, &mut words);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sum_does_not_depend_on_the_order_of_its_parts(mut values in prop::collection::vec(-1e9_f64..1e9, 1..50)) {
            let sum = |values: &[f64]| {
                let mut sum = ExactSum::default();
                values.iter().for_each(|value| sum.add(ExactSum::of(*value)));
                sum
            };
            let forward = sum(&values);
            let plain: f64 = values.iter().sum();
            values.reverse();
            prop_assert_eq!(forward, sum(&values));
            prop_assert!((forward.value() - plain).abs() <= 1e-6 * plain.abs().max(1.0));
        }
    }

    #[test]
    fn a_name_says_by_whole_words_that_it_is_a_share_of_what_should_be_there() {
        for share in ["checkout.success_ratio", "http.availability", "ordersSuccessRate", "checkout.success_percent"] {
            assert!(is_share(share), "{share}");
        }
        for other in ["throughput.operations", "iterations", "cache.hit_ratio", "cache.hitRate", "migrations.done"] {
            assert!(!is_share(other), "{other}");
        }
    }

    #[test]
    fn a_name_says_the_direction_by_whole_words_and_failure_comes_before_what_failed() {
        let up = [
            "orders.failed",
            "order.processing.errors",
            "checkout.latency",
            "unavailable_replicas",
            "kube_deployment_status_replicas_unavailable",
            "unsuccessful_logins",
            "http.server.request.duration",
            "jvm.gc.pause",
            "process.cpuUtilization",
            "jvm_memory_used_bytes",
            "kafka.consumer.records_lag",
            "order.queue.size",
            "checkout.memory.usage",
            "HTTPErrors5xx",
            "http_5xx_total",
            "rpc.retries",
            "request_latencies_p99",
        ];
        for name in up {
            assert_eq!(worse_upwards(name), Some(true), "{name}");
        }
        let down = [
            "orders.placed",
            "checkout.completed",
            "login.success.count",
            "system.memory.available",
            "replicas_available",
            "kube_pod_status_ready",
            "cache.hit_ratio",
            "cache.hitRatio",
            "revenue_total",
            "consumer.throughput",
        ];
        for name in down {
            assert_eq!(worse_upwards(name), Some(false), "{name}");
        }
        for name in ["feature.flag.evaluations", "already.seen", "border.crossings", "progress", "sorting", "threads"] {
            assert_eq!(worse_upwards(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_used_for_each_request_goes_with_load_and_what_is_kept_does_not() {
        for busy in ["process.cpu.utilization", "executor.queued", "order.queue.size", "kafka.consumer.records_lag"] {
            assert!(goes_with_load(busy), "{busy}");
        }
        for other in ["process.memory.usage", "jvm.heap.used", "orders.failed", "cpuid.lagoon", "http.server.errors"] {
            assert!(!goes_with_load(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_number_counts_as_nothing_and_what_is_too_large_is_held() {
        assert_eq!(ExactSum::of(f64::NAN), ExactSum::default());
        let mut sum = ExactSum::of(f64::INFINITY);
        sum.add(ExactSum::of(1.0));
        assert_eq!(sum.0, i128::MAX);
    }
}
