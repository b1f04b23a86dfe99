//! Telemetry of a made-up shop: spans of about 440 bytes with ten attributes, logs of about 360, points of about 200; and small
//! spans and logs of about 137 bytes with two attributes, field for field those that Mira's load generator sends.
//!
//! *Invariants.* What differs from send to send (ids, times) holds a sentinel of the width it has on the wire, in the
//! order of the records, for [`crate::template`] to find and patch.

use clap::ValueEnum;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::shop::{ROUTES, SERVICES, number, pick, said, text};

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metric points.
    Metrics,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    /// Returns the table its records become rows of.
    pub fn table(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// Returns the path of OTLP/HTTP.
    pub fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// Returns the method of OTLP/gRPC.
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        })
    }
}

/// Whose records they are, and how large.
#[derive(Debug, Clone)]
pub struct Shape {
    /// `service.namespace` of every resource: what a run finds its own records by.
    pub run: String,
    /// `service.instance.id` of every resource.
    pub instance: String,
    /// True for records of about 137 bytes with two attributes.
    pub small: bool,
    /// Spans or logs that share a trace id.
    pub trace_len: usize,
}

pub(crate) const TRACE_ID: [u8; 16] = *b"\xf1\xe2TRACE-ID-16\xd3\xc4\xb5";
pub(crate) const SPAN_ID: [u8; 8] = *b"\xf1\xe2SPN\xd3\xc4\xb5";
pub(crate) const PARENT_ID: [u8; 8] = *b"\xf1\xe2PAR\xd3\xc4\xb5";
pub(crate) const START: u64 = 0xf1e2_0053_5441_d3c4;
pub(crate) const END: u64 = 0xf1e2_0045_4e44_d3c4;
pub(crate) const RECORD_TEXT: &str = "~record-id-text~";
pub(crate) const BATCH_TEXT: &str = "~batch-id--text~";
/// Part of a text that is new in every record, as numbers of orders are.
pub(crate) const ORDER_TEXT: &str = "~order~~";
/// The same in a path.
pub(crate) const PATH_TEXT: &str = "~pa~";

/// Makes one encoded export request of `records` records, the `variant`th of its kind: the same variant is the same bytes.
pub(crate) fn request(signal: Signal, shape: &Shape, records: usize, variant: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(variant);
    let service = SERVICES[variant as usize % SERVICES.len()];
    let resource = Some(resource(shape, service));
    let scope =
        Some(InstrumentationScope { name: format!("shop/{service}"), version: "1.4.2".into(), ..Default::default() });
    match signal {
        Signal::Traces => {
            let spans = (0..records).map(|at| span(shape, at, &mut rng)).collect();
            let scope_spans = vec![ScopeSpans { scope, spans, schema_url: String::new() }];
            let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
            ExportTraceServiceRequest { resource_spans }.encode_to_vec()
        }
        Signal::Logs => {
            let log_records = (0..records).map(|_| log(shape, service, &mut rng)).collect();
            let scope_logs = vec![ScopeLogs { scope, log_records, schema_url: String::new() }];
            let resource_logs = vec![ResourceLogs { resource, scope_logs, schema_url: String::new() }];
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        }
        Signal::Metrics => {
            let metrics = metrics(shape, records, &mut rng);
            let scope_metrics = vec![ScopeMetrics { scope, metrics, schema_url: String::new() }];
            let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, schema_url: String::new() }];
            ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
        }
    }
}

fn resource(shape: &Shape, service: &str) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", service),
            text("service.namespace", &shape.run),
            text("service.version", "1.4.2"),
            text("service.instance.id", &shape.instance),
            text("deployment.environment.name", "loadtest"),
            text("telemetry.sdk.language", "rust"),
        ],
        ..Default::default()
    }
}

fn span(shape: &Shape, at: usize, rng: &mut ChaCha8Rng) -> Span {
    let route = pick(rng, &ROUTES);
    let root = at.is_multiple_of(shape.trace_len);
    let failed = rng.random_ratio(1, 100);
    if shape.small {
        return small_span(shape, at, rng);
    }
    let attributes = vec![
        text("http.request.method", pick(rng, &["GET", "POST", "PUT"])),
        text("http.route", route),
        text("url.path", format!("{}/{PATH_TEXT}", route.split('{').next().unwrap_or(route))),
        number("http.response.status_code", if failed { 503 } else { 200 }),
        text("server.address", pick(rng, &["checkout.shop.svc", "payment.shop.svc", "cart.shop.svc"])),
        number("server.port", 8080),
        text("client.address", format!("10.{}.{}.7", rng.random_range(0..99), rng.random_range(0..255))),
        text("user_agent.original", pick(rng, &["shop-ios/5.2 (17.4)", "shop-android/5.1", "Mozilla/5.0 (X11)"])),
        text("network.protocol.version", "1.1"),
        text("shop.tenant", format!("tenant-{:03}", rng.random_range(0..200))),
    ];
    Span {
        trace_id: TRACE_ID.to_vec(),
        span_id: SPAN_ID.to_vec(),
        parent_span_id: if root { Vec::new() } else { PARENT_ID.to_vec() },
        name: format!("{} {route}", if root { "GET" } else { "call" }),
        kind: if root { 2 } else { 3 },
        start_time_unix_nano: START,
        end_time_unix_nano: END,
        attributes,
        status: Some(Status { code: if failed { 2 } else { 0 }, message: String::new() }),
        ..Default::default()
    }
}

const SMALL_ROUTES: [&str; 5] = ["GET /cart", "POST /checkout", "GET /items", "POST /pay", "GET /health"];

fn small_span(shape: &Shape, at: usize, rng: &mut ChaCha8Rng) -> Span {
    let root = at.is_multiple_of(shape.trace_len);
    let route = pick(rng, &SMALL_ROUTES);
    let failed = rng.random_ratio(1, 50);
    let message = if failed { "timeout" } else { "" };
    Span {
        trace_id: TRACE_ID.to_vec(),
        span_id: SPAN_ID.to_vec(),
        parent_span_id: if root { Vec::new() } else { PARENT_ID.to_vec() },
        name: route.into(),
        kind: if root { 2 } else { 3 },
        start_time_unix_nano: START,
        end_time_unix_nano: END,
        attributes: vec![
            text("http.route", route),
            text("net.peer.name", pick(rng, &["checkout", "payments", "inventory", "frontend"])),
        ],
        status: Some(Status { code: if failed { 2 } else { 1 }, message: message.into() }),
        ..Default::default()
    }
}

fn log(shape: &Shape, service: &str, rng: &mut ChaCha8Rng) -> LogRecord {
    let (severity_number, severity_text) = if rng.random_ratio(1, 50) { (17, "ERROR") } else { (9, "INFO") };
    let (body, attributes) = if shape.small {
        let route = pick(rng, &SMALL_ROUTES);
        let failed = severity_number == 17;
        let body = if failed {
            format!("{route} failed: upstream timeout after 30s")
        } else {
            format!("{route} 200 in {}ms", rng.random_range(3..93))
        };
        (body, vec![text("http.route", route), text("http.status_code", if failed { "504" } else { "200" })])
    } else {
        let tenant = rng.random_range(0..200);
        (
            format!(
                "[{service}] order {ORDER_TEXT} of tenant-{tenant:03} processed in {} ms: {} items reserved, payment \
                 authorized, confirmation queued",
                rng.random_range(1..900),
                rng.random_range(1..20)
            ),
            vec![
                text("code.function.name", "OrderService.process"),
                number("code.line.number", rng.random_range(20..400)),
                text("thread.name", format!("worker-{}", rng.random_range(0..16))),
                text("http.route", pick(rng, &ROUTES)),
                text("shop.tenant", format!("tenant-{tenant:03}")),
            ],
        )
    };
    LogRecord {
        time_unix_nano: START,
        observed_time_unix_nano: END,
        severity_number,
        severity_text: severity_text.into(),
        body: said(body),
        attributes,
        trace_id: TRACE_ID.to_vec(),
        span_id: SPAN_ID.to_vec(),
        ..Default::default()
    }
}

/// Points of the five types in turn, twenty of one metric at a time.
fn metrics(shape: &Shape, points: usize, rng: &mut ChaCha8Rng) -> Vec<Metric> {
    const POINTS_EACH: usize = 20;
    let mut left = points;
    let mut made = Vec::new();
    for at in 0.. {
        let count = left.min(POINTS_EACH);
        if count == 0 {
            break;
        }
        left -= count;
        made.push(metric(shape, at, count, rng));
    }
    made
}

fn metric(shape: &Shape, at: usize, points: usize, rng: &mut ChaCha8Rng) -> Metric {
    let many = 0..points;
    let (name, unit, data) = match at % 5 {
        0 => {
            let data_points = many
                .map(|_| number_point(shape, number_data_point::Value::AsDouble(rng.random_range(0.0..1.0)), rng))
                .collect();
            ("process.cpu.utilization", "1", Data::Gauge(Gauge { data_points }))
        }
        1 => {
            let data_points = many
                .map(|_| number_point(shape, number_data_point::Value::AsInt(rng.random_range(0..1 << 40)), rng))
                .collect();
            let sum = Sum { data_points, aggregation_temporality: 2, is_monotonic: true };
            ("http.server.request.total", "{request}", Data::Sum(sum))
        }
        2 => {
            let data_points = many.map(|_| histogram_point(shape, rng)).collect();
            let histogram = Histogram { data_points, aggregation_temporality: 2 };
            ("http.server.request.duration", "s", Data::Histogram(histogram))
        }
        3 => {
            let data_points = many.map(|_| exponential_point(shape, rng)).collect();
            let histogram = ExponentialHistogram { data_points, aggregation_temporality: 1 };
            ("rpc.client.duration", "ms", Data::ExponentialHistogram(histogram))
        }
        _ => {
            let data_points = many.map(|_| summary_point(shape, rng)).collect();
            ("jvm.gc.duration", "s", Data::Summary(Summary { data_points }))
        }
    };
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Default::default() }
}

fn point_attributes(shape: &Shape, rng: &mut ChaCha8Rng) -> Vec<KeyValue> {
    let mut attributes = vec![text("loadtest.batch", BATCH_TEXT), text("loadtest.record", RECORD_TEXT)];
    if !shape.small {
        attributes.push(text("http.route", pick(rng, &ROUTES)));
    }
    attributes
}

fn number_point(shape: &Shape, value: number_data_point::Value, rng: &mut ChaCha8Rng) -> NumberDataPoint {
    NumberDataPoint {
        attributes: point_attributes(shape, rng),
        start_time_unix_nano: START,
        time_unix_nano: END,
        value: Some(value),
        ..Default::default()
    }
}

fn histogram_point(shape: &Shape, rng: &mut ChaCha8Rng) -> HistogramDataPoint {
    let bucket_counts: Vec<u64> = (0..6).map(|_| rng.random_range(0..1000)).collect();
    HistogramDataPoint {
        attributes: point_attributes(shape, rng),
        start_time_unix_nano: START,
        time_unix_nano: END,
        count: bucket_counts.iter().sum(),
        sum: Some(rng.random_range(0.0..1e4)),
        bucket_counts,
        explicit_bounds: vec![0.005, 0.05, 0.25, 1.0, 5.0],
        min: Some(0.001),
        max: Some(rng.random_range(5.0..9.0)),
        ..Default::default()
    }
}

fn exponential_point(shape: &Shape, rng: &mut ChaCha8Rng) -> ExponentialHistogramDataPoint {
    let bucket_counts: Vec<u64> = (0..12).map(|_| rng.random_range(0..500)).collect();
    ExponentialHistogramDataPoint {
        attributes: point_attributes(shape, rng),
        start_time_unix_nano: START,
        time_unix_nano: END,
        count: bucket_counts.iter().sum::<u64>() + 3,
        sum: Some(rng.random_range(0.0..1e4)),
        scale: 3,
        zero_count: 3,
        positive: Some(Buckets { offset: -4, bucket_counts }),
        ..Default::default()
    }
}

fn summary_point(shape: &Shape, rng: &mut ChaCha8Rng) -> SummaryDataPoint {
    let quantile = |quantile, value| ValueAtQuantile { quantile, value };
    let median: f64 = rng.random_range(0.0..1.0);
    SummaryDataPoint {
        attributes: point_attributes(shape, rng),
        start_time_unix_nano: START,
        time_unix_nano: END,
        count: rng.random_range(1..1000),
        sum: median * 100.0,
        quantile_values: vec![quantile(0.5, median), quantile(0.99, median * 3.0)],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_each(signal: Signal, small: bool) -> usize {
        let shape = Shape { run: "run".into(), instance: "a".into(), small, trace_len: 8 };
        (0..4).map(|variant| request(signal, &shape, 1000, variant).len()).sum::<usize>() / 4000
    }

    #[test]
    fn records_have_the_sizes_that_the_published_numbers_name() {
        for (signal, small, wanted) in [
            (Signal::Traces, false, 440),
            (Signal::Logs, false, 360),
            (Signal::Metrics, false, 200),
            (Signal::Traces, true, 137),
            (Signal::Logs, true, 137),
        ] {
            let bytes = bytes_each(signal, small);
            assert!(bytes.abs_diff(wanted) * 10 <= wanted, "{signal} small={small}: {bytes} bytes, not {wanted}");
        }
    }

    #[test]
    fn every_metric_type_is_in_a_request_of_a_hundred_points() {
        let shape = Shape { run: "run".into(), instance: "a".into(), small: false, trace_len: 8 };
        let bytes = request(Signal::Metrics, &shape, 100, 1);
        let decoded = ExportMetricsServiceRequest::decode(&bytes[..]).expect("upstream reads what upstream wrote");
        let kinds: std::collections::BTreeSet<_> = decoded.resource_metrics[0].scope_metrics[0]
            .metrics
            .iter()
            .map(|metric| format!("{:?}", metric.data).chars().take(12).collect::<String>())
            .collect();
        assert_eq!(kinds.len(), 5, "{kinds:?}");
    }
}
