//! Wire to Arrow: [`decode`] beside the naive way, which is to decode with prost and append a few columns.
//!
//! The naive side is generous to itself: it keeps eight columns of spans (and fewer of the rest) and drops what the tables
//! keep, so that what is compared is reading, not the amount that is written.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryBuilder, Int64Builder, MapBuilder, StringBuilder};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, decode};
use prost::Message;

const RECORDS: u64 = 2048;
const START: u64 = 1_700_000_000_000_000_000;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn resource() -> Option<Resource> {
    let attributes = vec![
        text("service.name", "checkout"),
        text("service.version", "1.4.2"),
        text("service.instance.id", "627cc493-f310-47de-96bd-71410b7dec09"),
        text("deployment.environment.name", "prod"),
        text("k8s.pod.name", "checkout-5d9c7b8f6-x2x9q"),
    ];
    Some(Resource { attributes, ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "shop".to_owned(), version: "0.3".to_owned(), ..InstrumentationScope::default() })
}

/// Spans of about 440 bytes with ten attributes, eight of them text.
fn traces() -> Vec<u8> {
    let span = |index: u64| Span {
        trace_id: (u128::from(index) << 64 | 0x0123_4567_89ab_cdef).to_be_bytes().to_vec(),
        span_id: (index + 1).to_be_bytes().to_vec(),
        parent_span_id: (index + 2).to_be_bytes().to_vec(),
        name: "POST /api/checkout/{cart}".to_owned(),
        kind: 2,
        start_time_unix_nano: START + index * 1000,
        end_time_unix_nano: START + index * 1000 + 2_500_000,
        attributes: vec![
            text("http.request.method", "POST"),
            text("http.route", "/api/checkout/{cart}"),
            text("url.path", format!("/api/checkout/{index:08}")),
            text("server.address", "checkout.shop.svc"),
            attribute("http.response.status_code", Value::IntValue(200)),
            text("network.protocol.version", "1.1"),
            text("user_agent.original", "okhttp/4.12.0"),
            attribute("server.port", Value::IntValue(8080)),
            text("client.address", "10.42.7.113"),
            text("app.cart.id", format!("cart-{index:010}")),
        ],
        status: Some(Status::default()),
        flags: 0x101,
        ..Span::default()
    };
    let spans = (0..RECORDS).map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn logs() -> Vec<u8> {
    let record = |index: u64| LogRecord {
        time_unix_nano: START + index * 1000,
        observed_time_unix_nano: START + index * 1000 + 7,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(format!("order {index} placed for 3 items"))) }),
        attributes: vec![text("code.function.name", "place_order"), text("thread.name", "worker-7")],
        trace_id: (u128::from(index) << 64 | 0x0123_4567_89ab_cdef).to_be_bytes().to_vec(),
        span_id: (index + 1).to_be_bytes().to_vec(),
        ..LogRecord::default()
    };
    let log_records = (0..RECORDS).map(record).collect();
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// Sums of sixteen points each, three attributes a point.
fn metrics() -> Vec<u8> {
    let point = |index: u64| NumberDataPoint {
        start_time_unix_nano: START,
        time_unix_nano: START + index,
        attributes: vec![
            text("http.request.method", "POST"),
            text("http.route", "/api/checkout/{cart}"),
            attribute("http.response.status_code", Value::IntValue(200)),
        ],
        value: Some(number_data_point::Value::AsInt(index as i64)),
        ..NumberDataPoint::default()
    };
    let metric = |index: u64| Metric {
        name: "http.server.requests".to_owned(),
        unit: "{request}".to_owned(),
        data: Some(Data::Sum(Sum {
            data_points: (index * 16..index * 16 + 16).map(point).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative as i32,
            is_monotonic: true,
        })),
        ..Metric::default()
    };
    let metrics = (0..RECORDS / 16).map(metric).collect();
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource: resource(), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn append_attributes(into: &mut MapBuilder<StringBuilder, StringBuilder>, attributes: &[KeyValue]) {
    for entry in attributes {
        into.keys().append_value(&entry.key);
        match entry.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(value)) => into.values().append_value(value),
            Some(Value::IntValue(value)) => into.values().append_value(value.to_string()),
            _ => into.values().append_null(),
        }
    }
    into.append(true).expect("keys and values are as many");
}

fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    MapBuilder::new(None, StringBuilder::new(), StringBuilder::new())
}

fn naive_traces(bytes: &[u8]) -> Vec<ArrayRef> {
    let request = ExportTraceServiceRequest::decode(bytes).expect("well-formed");
    let (mut trace_id, mut span_id) = (FixedSizeBinaryBuilder::new(16), FixedSizeBinaryBuilder::new(8));
    let (mut start, mut end, mut kind) = (Int64Builder::new(), Int64Builder::new(), Int64Builder::new());
    let (mut name, mut service, mut attributes) = (StringBuilder::new(), StringBuilder::new(), map_builder());
    for resource in &request.resource_spans {
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            trace_id.append_value(&span.trace_id).expect("16 bytes");
            span_id.append_value(&span.span_id).expect("8 bytes");
            start.append_value(span.start_time_unix_nano as i64);
            end.append_value(span.end_time_unix_nano as i64);
            kind.append_value(i64::from(span.kind));
            name.append_value(&span.name);
            service.append_value("checkout");
            append_attributes(&mut attributes, &span.attributes);
        }
    }
    vec![
        Arc::new(trace_id.finish()),
        Arc::new(span_id.finish()),
        Arc::new(start.finish()),
        Arc::new(end.finish()),
        Arc::new(kind.finish()),
        Arc::new(name.finish()),
        Arc::new(service.finish()),
        Arc::new(attributes.finish()),
    ]
}

fn naive_logs(bytes: &[u8]) -> Vec<ArrayRef> {
    let request = ExportLogsServiceRequest::decode(bytes).expect("well-formed");
    let (mut time, mut severity) = (Int64Builder::new(), Int64Builder::new());
    let (mut body, mut attributes) = (StringBuilder::new(), map_builder());
    for resource in &request.resource_logs {
        for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            time.append_value(record.time_unix_nano as i64);
            severity.append_value(i64::from(record.severity_number));
            match record.body.as_ref().and_then(|body| body.value.as_ref()) {
                Some(Value::StringValue(text)) => body.append_value(text),
                _ => body.append_null(),
            }
            append_attributes(&mut attributes, &record.attributes);
        }
    }
    vec![Arc::new(time.finish()), Arc::new(severity.finish()), Arc::new(body.finish()), Arc::new(attributes.finish())]
}

fn naive_metrics(bytes: &[u8]) -> Vec<ArrayRef> {
    let request = ExportMetricsServiceRequest::decode(bytes).expect("well-formed");
    let (mut time, mut value) = (Int64Builder::new(), Int64Builder::new());
    let (mut name, mut attributes) = (StringBuilder::new(), map_builder());
    for resource in &request.resource_metrics {
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(Data::Sum(sum)) = &metric.data else { continue };
            for point in &sum.data_points {
                name.append_value(&metric.name);
                time.append_value(point.time_unix_nano as i64);
                match point.value {
                    Some(number_data_point::Value::AsInt(int)) => value.append_value(int),
                    _ => value.append_null(),
                }
                append_attributes(&mut attributes, &point.attributes);
            }
        }
    }
    vec![Arc::new(name.finish()), Arc::new(time.finish()), Arc::new(value.finish()), Arc::new(attributes.finish())]
}

fn bench(criterion: &mut Criterion) {
    type Naive = fn(&[u8]) -> Vec<ArrayRef>;
    let sides: [(Signal, Vec<u8>, Naive); 3] = [
        (Signal::Traces, traces(), naive_traces),
        (Signal::Logs, logs(), naive_logs),
        (Signal::Metrics, metrics(), naive_metrics),
    ];
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(RECORDS));
    for (signal, request, naive) in &sides {
        let name = format!("{signal}/{}B", request.len() as u64 / RECORDS);
        group.bench_with_input(BenchmarkId::new("plimsoll", &name), request, |bencher, request| {
            bencher.iter(|| decode(*signal, black_box(request), UnixNanos(START)).expect("well-formed"));
        });
        group.bench_with_input(BenchmarkId::new("prost", &name), request, |bencher, request| {
            bencher.iter(|| naive(black_box(request)));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
