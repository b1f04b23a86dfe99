//! The instances of a mesh: who they say they are, what they have to export, and the metrics that they keep.

use std::collections::{BTreeMap, HashMap};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::topology::SERVICES;
use super::wire::{Outbox, number, text};

/// Regions that every service has an instance in.
pub(super) const REGIONS: [&str; 2] = ["eu-west", "us-east"];
/// Upper bounds of the histogram of durations, in seconds.
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0];
const MIB: f64 = 1_048_576.0;
const CUMULATIVE: i32 = 2;
const DELTA: i32 = 1;

/// What tells one instance from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) service: usize,
    pub(super) version: &'static str,
    pub(super) region: usize,
    /// Grows with every restart.
    pub(super) generation: u32,
}

/// How the instances of a mesh say who they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) tells_start: bool,
    pub(super) versionless: Option<usize>,
    pub(super) version_per_pod: Option<usize>,
    /// Delta instead of cumulative.
    pub(super) delta: bool,
}

#[derive(Debug, Default, Clone)]
struct Durations {
    count: u64,
    sum: f64,
    buckets: [u64; BOUNDS.len() + 1],
}

/// One of them.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) identity: Identity,
    pub(super) outbox: Outbox,
    /// When it started, in nanoseconds since 1970.
    pub(super) started: u64,
    /// When it last took a request.
    pub(super) served: u64,
    durations: BTreeMap<(&'static str, &'static str, bool), Durations>,
    orders: f64,
    pub(super) memory_mib: f64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Instances {
    pub(super) all: Vec<Instance>,
    known: HashMap<Identity, usize>,
}

impl Instances {
    /// Finds an instance, or makes it.
    pub(super) fn of(&mut self, identity: Identity, started: u64, environment: &str, manners: &Manners) -> usize {
        if let Some(found) = self.known.get(&identity) {
            return *found;
        }
        let resource = resource(&identity, started, environment, manners);
        let outbox = Outbox { resource, spans: Vec::new(), logs: Vec::new(), metrics: Vec::new() };
        let durations = BTreeMap::new();
        self.all.push(Instance { identity, outbox, started, served: 0, durations, orders: 0.0, memory_mib: 0.0 });
        self.known.insert(identity, self.all.len() - 1);
        self.all.len() - 1
    }
}

fn resource(identity: &Identity, started: u64, environment: &str, manners: &Manners) -> Resource {
    let service = SERVICES[identity.service];
    let Identity { version, region, generation, .. } = *identity;
    let mut attributes = vec![
        text("service.name", service),
        text("service.instance.id", format!("{service}-{version}-{region}-{generation}")),
        text("deployment.environment.name", environment),
        text("cloud.region", REGIONS[region]),
        text("telemetry.sdk.language", "rust"),
    ];
    if manners.version_per_pod == Some(identity.service) {
        attributes
            .push(text("service.version", format!("{version}+{region}{generation}.{:x}", started / 1_000_000_000)));
    } else if manners.versionless != Some(identity.service) {
        attributes.push(text("service.version", version));
    }
    if manners.tells_start {
        let at = jiff::Timestamp::from_nanosecond(i128::from(started)).unwrap_or_default();
        attributes.push(text("process.creation.time", at.to_string()));
    }
    Resource { attributes, ..Default::default() }
}

impl Instance {
    /// Counts a request in its metrics, for `weight` of them.
    pub(super) fn count(&mut self, route: &'static str, method: &'static str, failed: bool, seconds: f64, weight: u64) {
        let kept = self.durations.entry((route, method, failed)).or_default();
        kept.count += weight;
        kept.sum += seconds * weight as f64;
        kept.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += weight;
    }

    /// Counts an order.
    pub(super) fn place_order(&mut self, weight: u64) {
        self.orders += weight as f64;
    }

    /// Writes its points at `at`, `since` being the time of the points before.
    pub(super) fn report(&mut self, at: u64, since: u64, delta: bool) {
        let start = if delta { since.max(self.started) } else { self.started };
        let aggregation_temporality = if delta { DELTA } else { CUMULATIVE };
        let mut points = Vec::new();
        for ((route, method, failed), kept) in &mut self.durations {
            let mut attributes = vec![text("http.route", *route), text("http.request.method", *method)];
            attributes.push(number("http.response.status_code", if *failed { 500 } else { 200 }));
            points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: at,
                count: kept.count,
                sum: Some(kept.sum),
                bucket_counts: kept.buckets.to_vec(),
                explicit_bounds: BOUNDS.to_vec(),
                ..Default::default()
            });
            if delta {
                *kept = Durations::default();
            }
        }
        let mut metrics = Vec::new();
        if !points.is_empty() {
            let data = Data::Histogram(Histogram { data_points: points, aggregation_temporality });
            metrics.push(metric("http.server.request.duration", "s", data));
        }
        if SERVICES[self.identity.service] == "checkout" {
            let point = value(start, at, self.orders);
            let data = Data::Sum(Sum { data_points: vec![point], aggregation_temporality, is_monotonic: true });
            metrics.push(metric("shop.orders.placed", "{order}", data));
            if delta {
                self.orders = 0.0;
            }
        }
        let data = Data::Gauge(Gauge { data_points: vec![value(0, at, (self.memory_mib * MIB).round())] });
        metrics.push(metric("process.memory.usage", "By", data));
        self.outbox.metrics.extend(metrics);
    }
}

fn value(start: u64, at: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: at,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..Default::default()
    }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Default::default() }
}
