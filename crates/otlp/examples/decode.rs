//! Runs one stage of reading a request over and over: for a clock to time, and for callgrind to look into.
//!
//! `decode SIGNAL STAGE REPEATS`, where the signal is `traces`, `logs` or `metrics` and the stage `memcpy`, `walk`, `decode` or
//! `prost`. Builds in seconds, because it needs nothing but the decoder; the counts that are kept are those of `plimsoll-instructions`.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

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

const RECORDS: u64 = 1024;
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
    ];
    Some(Resource { attributes, ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "shop".to_owned(), version: "0.3".to_owned(), ..InstrumentationScope::default() })
}

fn trace_id(index: u64) -> Vec<u8> {
    (u128::from(index) << 64 | 0x0123_4567_89ab_cdef).to_be_bytes().to_vec()
}

/// Spans of about 440 bytes with ten attributes, eight of them text.
fn traces() -> Vec<u8> {
    let span = |index: u64| Span {
        trace_id: trace_id(index),
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
    let scope_spans =
        vec![ScopeSpans { scope: scope(), spans: (0..RECORDS).map(span).collect(), ..Default::default() }];
    let resource_spans = vec![ResourceSpans { resource: resource(), scope_spans, ..Default::default() }];
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
        trace_id: trace_id(index),
        span_id: (index + 1).to_be_bytes().to_vec(),
        ..LogRecord::default()
    };
    let log_records = (0..RECORDS).map(record).collect();
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..Default::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, ..Default::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

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
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..Default::default() }];
    let resource_metrics = vec![ResourceMetrics { resource: resource(), scope_metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

/// Reads every tag and length down to the leaves and looks at nothing: what any decoder has to do at the least. Which fields
/// are messages it knows only from the nesting, so it descends where the content can be walked.
fn walk(mut bytes: &[u8], depth: u32) -> Option<u64> {
    let mut fields = 0;
    while let [tag, rest @ ..] = bytes {
        bytes = rest;
        match tag & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => bytes = bytes.get(8..)?,
            5 => bytes = bytes.get(4..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                // Request, resource, scope, record; below that what begins like a message and not like the text of these requests.
                let descend = depth < 3 || (length > 16 && matches!(inner[0], 0x09 | 0x0a | 0x11 | 0x12 | 0x39 | 0x3a));
                fields += if descend { walk(inner, depth + 1).unwrap_or(0) } else { 0 };
                bytes = rest;
            }
            _ => return None,
        }
        fields += 1;
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// What callgrind is told to count.
#[inline(never)]
fn counted(signal: Signal, stage: &str, request: &[u8], repeats: u64) {
    for _ in 0..repeats {
        let request = black_box(request);
        match stage {
            "memcpy" => drop(black_box(request.to_vec())),
            "walk" => drop(black_box(walk(request, 0))),
            "prost" => match signal {
                Signal::Traces => drop(black_box(ExportTraceServiceRequest::decode(request))),
                Signal::Logs => drop(black_box(ExportLogsServiceRequest::decode(request))),
                Signal::Metrics => drop(black_box(ExportMetricsServiceRequest::decode(request))),
            },
            _ => drop(black_box(decode(signal, request, UnixNanos(START)))),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (signal, request) = match arguments.first().map(String::as_str) {
        Some("traces") => (Signal::Traces, traces()),
        Some("logs") => (Signal::Logs, logs()),
        Some("metrics") => (Signal::Metrics, metrics()),
        _ => return ExitCode::from(2),
    };
    let (Some(stage), Some(repeats)) = (arguments.get(1), arguments.get(2).and_then(|text| text.parse().ok())) else {
        return ExitCode::from(2);
    };
    counted(signal, stage, &request, 1);
    let begun = Instant::now();
    counted(signal, stage, &request, repeats);
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::print_stdout, reason = "the result of the program")]
    {
        println!(
            "{signal} {stage}: {} B a record, {:.0} records/s",
            request.len() as u64 / RECORDS,
            (repeats * RECORDS) as f64 / seconds
        );
    }
    ExitCode::SUCCESS
}
