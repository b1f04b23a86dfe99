//! Export requests, made by the upstream types, and their compressed forms.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::{logs::v1 as logs, metrics::v1 as metrics, trace::v1 as trace};
use prost::Message;

pub(crate) fn spans(count: usize) -> ExportTraceServiceRequest {
    let span = |n: usize| trace::Span {
        trace_id: vec![7; 16],
        span_id: (n as u64 + 1).to_be_bytes().to_vec(),
        name: format!("operation {n}"),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000 + n as u64,
        end_time_unix_nano: 1_700_000_000_000_001_000 + n as u64,
        ..trace::Span::default()
    };
    let scope_spans = vec![trace::ScopeSpans { spans: (0..count).map(span).collect(), ..Default::default() }];
    ExportTraceServiceRequest { resource_spans: vec![trace::ResourceSpans { scope_spans, ..Default::default() }] }
}

/// Spans that compress to about a quarter: their names, a KiB each, are of four letters.
pub(crate) fn wordy_span_bytes(count: usize) -> Vec<u8> {
    let mut request = spans(count);
    let mut random = 1_u64;
    for span in &mut request.resource_spans[0].scope_spans[0].spans {
        let letter = |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"aeio"[(random >> 62) as usize])
        };
        span.name = (0..1_024).map(letter).collect();
    }
    request.encode_to_vec()
}

pub(crate) fn logs(count: usize) -> ExportLogsServiceRequest {
    let record = |n: usize| logs::LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000 + n as u64,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        ..logs::LogRecord::default()
    };
    let scope_logs = vec![logs::ScopeLogs { log_records: (0..count).map(record).collect(), ..Default::default() }];
    ExportLogsServiceRequest { resource_logs: vec![logs::ResourceLogs { scope_logs, ..Default::default() }] }
}

pub(crate) fn points(count: usize) -> ExportMetricsServiceRequest {
    let point = |n: usize| metrics::NumberDataPoint {
        time_unix_nano: 1_700_000_000_000_000_000 + n as u64,
        value: Some(metrics::number_data_point::Value::AsInt(n as i64)),
        ..metrics::NumberDataPoint::default()
    };
    let gauge = metrics::Gauge { data_points: (0..count).map(point).collect() };
    let metric = metrics::Metric {
        name: "queue.length".to_owned(),
        data: Some(metrics::metric::Data::Gauge(gauge)),
        ..Default::default()
    };
    let scope_metrics = vec![metrics::ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![metrics::ResourceMetrics { scope_metrics, ..Default::default() }],
    }
}

pub(crate) fn span_bytes(count: usize) -> Vec<u8> {
    spans(count).encode_to_vec()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

pub(crate) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("writes to memory")
}

/// Ten gigabytes of zeros, compressed: a frame or member of 8 MiB, as often as it takes.
pub(crate) fn ten_gigabytes(compress: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    compress(&vec![0; 8 << 20]).repeat(1_280)
}
