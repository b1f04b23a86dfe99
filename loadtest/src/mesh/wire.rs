//! OTLP as an exporter writes it: resources, spans, log records and points of one instance.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::records::Signal;
pub(super) use crate::shop::{number, said as body, text};

/// What one instance has to export.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) resource: Resource,
    pub(super) spans: Vec<Span>,
    pub(super) logs: Vec<LogRecord>,
    pub(super) metrics: Vec<Metric>,
}

/// Takes everything out of the outboxes and encodes one request a signal, where there is anything.
pub(super) fn drain<'a>(outboxes: impl Iterator<Item = &'a mut Outbox>) -> Vec<(Signal, Vec<u8>)> {
    let scope = || Some(InstrumentationScope { name: "shop".into(), version: "1".into(), ..Default::default() });
    let (mut spans, mut logs, mut metrics) = (Vec::new(), Vec::new(), Vec::new());
    for outbox in outboxes {
        let resource = || Some(outbox.resource.clone());
        if !outbox.spans.is_empty() {
            let scope_spans = vec![ScopeSpans {
                scope: scope(),
                spans: std::mem::take(&mut outbox.spans),
                schema_url: String::new(),
            }];
            spans.push(ResourceSpans { resource: resource(), scope_spans, schema_url: String::new() });
        }
        if !outbox.logs.is_empty() {
            let log_records = std::mem::take(&mut outbox.logs);
            let scope_logs = vec![ScopeLogs { scope: scope(), log_records, schema_url: String::new() }];
            logs.push(ResourceLogs { resource: resource(), scope_logs, schema_url: String::new() });
        }
        if !outbox.metrics.is_empty() {
            let taken = std::mem::take(&mut outbox.metrics);
            let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics: taken, schema_url: String::new() }];
            metrics.push(ResourceMetrics { resource: resource(), scope_metrics, schema_url: String::new() });
        }
    }
    let mut requests = Vec::new();
    if !spans.is_empty() {
        requests.push((Signal::Traces, ExportTraceServiceRequest { resource_spans: spans }.encode_to_vec()));
    }
    if !logs.is_empty() {
        requests.push((Signal::Logs, ExportLogsServiceRequest { resource_logs: logs }.encode_to_vec()));
    }
    if !metrics.is_empty() {
        requests.push((Signal::Metrics, ExportMetricsServiceRequest { resource_metrics: metrics }.encode_to_vec()));
    }
    requests
}
