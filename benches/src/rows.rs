//! Rows as a busy server's tail holds them: spans of about 440 bytes with ten attributes, logs of 360, points of 200.
//!
//! Nothing is random, so that every run is the same; what is called scattered looks so. Eight services send from twelve
//! instances each, a request is one service's, and requests overlap in time.

use arrow::array::RecordBatch;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use plimsoll_loadtest::shop::{ROUTES, SERVICES, number, said, text};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, decode};
use prost::Message;

/// The time of the first request.
pub const START: u64 = 1_700_000_000_000_000_000;
/// From one request to the next.
const APART: u64 = 2_000_000;

/// Returns the bytes on the wire and the rows of so many requests.
///
/// # Panics
/// A request that was just encoded cannot be decoded.
pub fn rows(signal: Signal, requests: u64, records: u64) -> (usize, Vec<RecordBatch>) {
    let requests: Vec<Vec<u8>> = (0..requests).map(|number| request(signal, number, records)).collect();
    let received = |number: usize| UnixNanos(START + number as u64 * APART + 40_000_000);
    let batches = requests.iter().enumerate();
    let batches = batches.map(|(number, bytes)| decode(signal, bytes, received(number)).expect("it decodes").batch);
    (requests.iter().map(Vec::len).sum(), batches.collect())
}

/// A number that looks random.
fn scattered(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ mixed >> 32
}

fn resource(request: u64) -> Resource {
    let service = SERVICES[request as usize % SERVICES.len()];
    let instance = scattered(request) % 12;
    Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", "1.4.2"),
            text("service.instance.id", format!("{service}-{instance}")),
            text("deployment.environment.name", "prod"),
            text("k8s.pod.name", format!("{service}-5d9c7b8f6-{instance}")),
        ],
        ..Resource::default()
    }
}

fn trace_id(record: u64) -> Vec<u8> {
    let (high, low) = (scattered(record / 8), scattered(!(record / 8)));
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes().to_vec()
}

fn request(signal: Signal, number: u64, records: u64) -> Vec<u8> {
    let resource = Some(resource(number));
    let at = START + number * APART;
    let all = (0..records).map(|index| (number * records + index, index));
    match signal {
        Signal::Traces => {
            let spans = all.map(|(id, index)| span(id, at + index * 20_000)).collect();
            let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
            let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
            ExportTraceServiceRequest { resource_spans }.encode_to_vec()
        }
        Signal::Logs => {
            let log_records = all.map(|(id, index)| log(id, at + index * 20_000)).collect();
            let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
            let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        }
        Signal::Metrics => {
            let metrics = (0..records / 20).map(|index| metric(number * records / 20 + index, at)).collect();
            let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
            let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
            ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
        }
    }
}

fn span(id: u64, at: u64) -> Span {
    let random = scattered(id);
    let route = ROUTES[random as usize % ROUTES.len()];
    let root = id.is_multiple_of(8);
    let failed = random % 100 == 7;
    Span {
        trace_id: trace_id(id),
        span_id: random.to_be_bytes().to_vec(),
        parent_span_id: if root { Vec::new() } else { scattered(id / 8 * 8).to_be_bytes().to_vec() },
        name: format!("{} {route}", if root { "GET" } else { "call" }),
        kind: if root { 2 } else { 3 },
        start_time_unix_nano: at + random % 17_000,
        end_time_unix_nano: at + random % 90_000_000,
        attributes: vec![
            text("http.request.method", ["GET", "POST", "PUT"][random as usize % 3]),
            text("http.route", route),
            text("url.path", format!("{}/{}", route.split('{').next().unwrap_or(route), random % 9_000)),
            number("http.response.status_code", if failed { 503 } else { 200 }),
            text("server.address", ["checkout.shop.svc", "payment.shop.svc", "cart.shop.svc"][random as usize % 3]),
            number("server.port", 8080),
            text("client.address", format!("10.{}.{}.7", random % 99, random % 255)),
            text("user_agent.original", ["shop-ios/5.2 (17.4)", "shop-android/5.1"][random as usize % 2]),
            text("network.protocol.version", "1.1"),
            text("shop.tenant", format!("tenant-{:03}", random % 200)),
        ],
        status: Some(Status { code: if failed { 2 } else { 0 }, message: String::new() }),
        ..Span::default()
    }
}

fn log(id: u64, at: u64) -> LogRecord {
    let random = scattered(id);
    let error = random % 50 == 3;
    let body = format!(
        "order {:08x} of tenant-{:03} processed in {} ms: {} items reserved, payment authorized, confirmation queued",
        random >> 32,
        random % 200,
        random % 900,
        random % 20,
    );
    LogRecord {
        time_unix_nano: at + random % 17_000,
        observed_time_unix_nano: at + 20_000,
        severity_number: if error { 17 } else { 9 },
        severity_text: if error { "ERROR" } else { "INFO" }.to_owned(),
        body: said(body),
        attributes: vec![
            text("code.function.name", "OrderService.process"),
            number("code.line.number", (random % 380) as i64),
            text("thread.name", format!("worker-{}", random % 16)),
            text("http.route", ROUTES[random as usize % ROUTES.len()]),
            text("shop.tenant", format!("tenant-{:03}", random % 200)),
        ],
        trace_id: trace_id(id),
        span_id: random.to_be_bytes().to_vec(),
        ..LogRecord::default()
    }
}

/// Twenty points of a gauge, a sum or a histogram.
fn metric(id: u64, at: u64) -> Metric {
    let points = 0..20_u64;
    let attributes = |point: u64| {
        vec![
            text("http.route", ROUTES[point as usize % ROUTES.len()]),
            text("shop.tenant", format!("tenant-{:03}", (id * 20 + point) % 200)),
            text("series", format!("{:016x}", scattered(id * 20 + point) % 5_000)),
        ]
    };
    let number_point = |value, point| NumberDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: START,
        time_unix_nano: at,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let random = |point: u64| scattered(id * 20 + point);
    let (name, data) = match id % 3 {
        0 => {
            let value = |point: u64| number_data_point::Value::AsDouble(random(point) as f64 / u64::MAX as f64);
            let data_points = points.map(|point| number_point(value(point), point)).collect();
            ("process.cpu.utilization", Data::Gauge(Gauge { data_points }))
        }
        1 => {
            let value = |point: u64| number_data_point::Value::AsInt((random(point) >> 24) as i64);
            let data_points = points.map(|point| number_point(value(point), point)).collect();
            let sum = Sum { data_points, aggregation_temporality: 2, is_monotonic: true };
            ("http.server.request.total", Data::Sum(sum))
        }
        _ => {
            let data_points = points.map(|point| {
                let bucket_counts: Vec<u64> = (0..6).map(|bucket| random(point) >> (bucket * 8) & 0x3ff).collect();
                HistogramDataPoint {
                    attributes: attributes(point),
                    start_time_unix_nano: START,
                    time_unix_nano: at,
                    count: bucket_counts.iter().sum(),
                    sum: Some(random(point) as f64 / 1e16),
                    bucket_counts,
                    explicit_bounds: vec![0.005, 0.05, 0.25, 1.0, 5.0],
                    ..HistogramDataPoint::default()
                }
            });
            let histogram = Histogram { data_points: data_points.collect(), aggregation_temporality: 2 };
            ("http.server.request.duration", Data::Histogram(histogram))
        }
    };
    Metric { name: name.to_owned(), unit: "1".to_owned(), data: Some(data), ..Metric::default() }
}
