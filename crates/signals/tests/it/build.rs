//! Spans and logs as a sender would make them.

use arrow::array::RecordBatch;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use plimsoll_model::signal::{AgeClass, OperationCell, OperationKind};
use plimsoll_model::{Interval, ServiceKey, UnixNanos};
use plimsoll_otlp::{Signal, Table, decode};
use plimsoll_signals::{SignalLimits, SignalState};
use prost::Message;

pub(crate) const SERVER: i32 = 2;
pub(crate) const CLIENT: i32 = 3;
pub(crate) const CONSUMER: i32 = 5;
pub(crate) const INTERNAL: i32 = 1;
/// The start of a bucket.
pub(crate) const T0: u64 = 1_700_000_000_000_000_000;
pub(crate) const MS: u64 = 1_000_000;

/// One span to send; `at` and `end` are milliseconds after [`T0`].
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) service: &'static str,
    pub(crate) version: String,
    pub(crate) instance: &'static str,
    pub(crate) trace: u128,
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) kind: i32,
    pub(crate) name: String,
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) exceptions: Vec<(&'static str, &'static str, String)>,
    /// Other events: name and attributes.
    pub(crate) events: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
    pub(crate) trace_state: &'static str,
    /// More attributes of the resource.
    pub(crate) resource: Vec<(&'static str, String)>,
}

pub(crate) fn span(service: &'static str, kind: i32, name: &str, id: u64, parent: u64, at: u64, end: u64) -> Sent {
    Sent {
        service,
        version: "1".to_owned(),
        instance: "",
        trace: 7,
        id,
        parent,
        kind,
        name: name.to_owned(),
        at,
        end,
        failed: false,
        attributes: Vec::new(),
        exceptions: Vec::new(),
        events: Vec::new(),
        trace_state: "",
        resource: Vec::new(),
    }
}

impl Sent {
    pub(crate) fn failed(mut self) -> Self {
        self.failed = true;
        self
    }

    pub(crate) fn trace(mut self, trace: u128) -> Self {
        self.trace = trace;
        self
    }

    pub(crate) fn with(mut self, key: &'static str, value: Value) -> Self {
        self.attributes.push((key, value));
        self
    }

    pub(crate) fn throws(mut self, exception_type: &'static str, message: &'static str, stack: &str) -> Self {
        self.exceptions.push((exception_type, message, stack.to_owned()));
        self
    }
}

pub(crate) fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

pub(crate) fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(crate) fn resource(service: &str, version: &str, instance: &str) -> Option<Resource> {
    let mut attributes = vec![pair("service.name", text(service)), pair("deployment.environment.name", text("prod"))];
    if !version.is_empty() {
        attributes.push(pair("service.version", text(version)));
    }
    if !instance.is_empty() {
        attributes.push(pair("service.instance.id", text(instance)));
    }
    Some(Resource { attributes, ..Resource::default() })
}

fn exception_pairs(exception_type: &str, message: &str, stack: &str) -> Vec<KeyValue> {
    vec![
        pair("exception.type", text(exception_type)),
        pair("exception.message", text(message)),
        pair("exception.stacktrace", text(stack)),
    ]
}

/// Sends spans, received `received` milliseconds after [`T0`].
pub(crate) fn send(state: &mut SignalState, received: u64, spans: &[Sent]) {
    state.fold(Table::Spans, &batch(received, spans)).expect("the stored schema");
}

/// Returns the rows of spans received `received` milliseconds after [`T0`].
pub(crate) fn batch(received: u64, spans: &[Sent]) -> RecordBatch {
    let resource_spans = spans
        .iter()
        .map(|sent| {
            let span = Span {
                trace_id: sent.trace.to_be_bytes().to_vec(),
                span_id: sent.id.to_be_bytes().to_vec(),
                parent_span_id: if sent.parent == 0 { Vec::new() } else { sent.parent.to_be_bytes().to_vec() },
                name: sent.name.clone(),
                kind: sent.kind,
                start_time_unix_nano: T0 + sent.at * MS,
                end_time_unix_nano: T0 + sent.end * MS,
                attributes: sent.attributes.iter().map(|(key, value)| pair(key, value.clone())).collect(),
                events: sent
                    .exceptions
                    .iter()
                    .map(|(exception_type, message, stack)| Event {
                        time_unix_nano: T0 + sent.end * MS,
                        name: "exception".to_owned(),
                        attributes: exception_pairs(exception_type, message, stack),
                        ..Event::default()
                    })
                    .chain(sent.events.iter().map(|(name, attributes)| Event {
                        time_unix_nano: T0 + sent.end * MS,
                        name: (*name).to_owned(),
                        attributes: attributes.iter().map(|(key, value)| pair(key, text(value))).collect(),
                        ..Event::default()
                    }))
                    .collect(),
                trace_state: sent.trace_state.to_owned(),
                status: sent.failed.then(|| Status { code: 2, ..Status::default() }),
                ..Span::default()
            };
            let mut resource = resource(sent.service, &sent.version, sent.instance).unwrap_or_default();
            resource.attributes.extend(sent.resource.iter().map(|(key, value)| pair(key, text(value))));
            ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }
        })
        .collect();
    let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    decode(Signal::Traces, &request, UnixNanos(T0 + received * MS)).expect("well-formed").batch
}

/// Sends one log record with an exception.
pub(crate) fn log(
    state: &mut SignalState,
    received: u64,
    service: &str,
    ids: Option<(u128, u64)>,
    exception: (&str, &str, &str),
) {
    let record = LogRecord {
        time_unix_nano: T0 + received * MS,
        trace_id: ids.map(|(trace, _)| trace.to_be_bytes().to_vec()).unwrap_or_default(),
        span_id: ids.map(|(_, span)| span.to_be_bytes().to_vec()).unwrap_or_default(),
        attributes: exception_pairs(exception.0, exception.1, exception.2),
        ..LogRecord::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(service, "1", ""),
            scope_logs: vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec();
    let decoded = decode(Signal::Logs, &request, UnixNanos(T0 + received * MS)).expect("well-formed");
    state.fold(Table::Logs, &decoded.batch).expect("the stored schema");
}

pub(crate) fn state() -> SignalState {
    SignalState::new(SignalLimits::default())
}

pub(crate) fn key(service: &str) -> ServiceKey {
    ServiceKey::new("prod", service)
}

pub(crate) fn always() -> Interval {
    Interval { from: UnixNanos(0), to: UnixNanos::MAX }
}

/// Everything counted of one operation, all versions and buckets together.
pub(crate) fn total(state: &SignalState, service: &str, operation: &str) -> OperationCell {
    let mut sum = OperationCell::default();
    for series in state.series(&key(service), always()) {
        if series.key.operation == operation {
            series.cells.iter().for_each(|(_, cell)| sum.merge(cell));
        }
    }
    sum
}

pub(crate) fn operations(state: &SignalState, service: &str) -> Vec<(String, OperationKind, AgeClass)> {
    state.series(&key(service), always()).into_iter().map(|s| (s.key.operation, s.key.kind, s.key.age)).collect()
}
