//! Requests against the rows they become.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType, UInt8Type, UInt32Type};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Decoded, Signal, decode};
use prost::Message;

pub(crate) const RECEIVED: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(crate) fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(crate) fn span(name: &str) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![9; 8],
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_250_000_000,
        ..Span::default()
    }
}

pub(crate) fn request(attributes: Vec<KeyValue>, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = Some(InstrumentationScope {
        name: "shop".to_owned(),
        version: "0.3".to_owned(),
        ..InstrumentationScope::default()
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope, spans, schema_url: String::new() }],
            schema_url: "https://opentelemetry.io/schemas/1.30.0".to_owned(),
        }],
    }
}

pub(crate) fn traces(request: &ExportTraceServiceRequest) -> Decoded {
    decode(Signal::Traces, &request.encode_to_vec(), RECEIVED).expect("a well-formed request")
}

pub(crate) fn logs(records: Vec<LogRecord>) -> Decoded {
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    };
    decode(Signal::Logs, &request.encode_to_vec(), RECEIVED).expect("a well-formed request")
}

/// The text of a column at a row, whether it is a dictionary or not; null is `None`.
pub(crate) fn cell(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let array = batch.column_by_name(column).expect("the column exists");
    if let DataType::Dictionary(..) = array.data_type() {
        let array = array.as_dictionary::<UInt32Type>();
        let key = array.keys().value(row) as usize;
        return array.is_valid(row).then(|| array.values().as_string::<i32>().value(key).to_owned());
    }
    let array = array.as_string::<i32>();
    array.is_valid(row).then(|| array.value(row).to_owned())
}

/// The entries of a map column at a row.
pub(crate) fn map(batch: &RecordBatch, column: &str, row: usize) -> Vec<(String, Option<String>)> {
    let entries = batch.column_by_name(column).expect("the column exists").as_map().value(row);
    let (keys, values) = (entries.column(0).as_dictionary::<UInt32Type>(), entries.column(1).as_string::<i32>());
    let names = keys.values().as_string::<i32>();
    let keys = keys.keys().values().iter().map(|key| names.value(*key as usize).to_owned());
    keys.zip(values).map(|(key, value)| (key, value.map(str::to_owned))).collect()
}

/// Checks every array of a batch as if it came from a stranger.
pub(crate) fn validate(batch: &RecordBatch) {
    for column in batch.columns() {
        column.to_data().validate_full().expect("the array is valid");
    }
}

#[test]
fn a_span_becomes_one_row_with_its_resource_and_scope() {
    let mut checkout = span("POST /checkout");
    checkout.attributes = vec![
        string("http.method", "GET"),
        string("http.request.method", "POST"),
        string("http.route", "/checkout"),
        attribute("http.response.status_code", Value::IntValue(503)),
        string("twice", "a"),
        string("twice", "b"),
    ];
    checkout.status = Some(Status { message: "no stock".to_owned(), code: 2 });
    let resource = vec![
        string("deployment.environment", "old"),
        string("service.name", "checkout"),
        string("deployment.environment.name", "prod"),
        attribute("service.version", Value::DoubleValue(1.5)),
    ];
    let Decoded { batch, rejected, .. } = traces(&request(resource, vec![checkout]));
    validate(&batch);
    assert_eq!(rejected.count, 0);
    assert_eq!(batch.num_rows(), 1);
    let text = |column: &str| cell(&batch, column, 0);
    assert_eq!(text("service_name").as_deref(), Some("checkout"));
    assert_eq!(text("service_version").as_deref(), Some("1.5"));
    assert_eq!(text("environment").as_deref(), Some("prod"));
    assert_eq!(text("service_namespace").as_deref(), Some(""));
    assert_eq!(text("scope_name").as_deref(), Some("shop"));
    assert_eq!(text("http_request_method").as_deref(), Some("POST"));
    assert_eq!(text("http_route").as_deref(), Some("/checkout"));
    assert_eq!(text("error_type"), None);
    assert_eq!(text("status_message").as_deref(), Some("no stock"));
    assert_eq!(text("attribute_types").as_deref(), Some("sssiss"));
    assert_eq!(
        text("resource_attributes").as_deref(),
        Some(
            r#"{"deployment.environment":"old","service.name":"checkout","deployment.environment.name":"prod","service.version":1.5}"#
        )
    );
    assert_eq!(
        map(&batch, "attributes", 0)[4..],
        [("twice".to_owned(), Some("a".to_owned())), ("twice".to_owned(), Some("b".to_owned()))]
    );
    let column = |name: &str| batch.column_by_name(name).expect("the column exists").clone();
    assert_eq!(column("http_response_status_code").as_primitive::<Int32Type>().value(0), 503);
    assert_eq!(column("status_code").as_primitive::<Int32Type>().value(0), 2);
    assert_eq!(column("duration_ns").as_primitive::<Int64Type>().value(0), 250_000_000);
    assert!(column("parent_span_id").is_null(0));
}

#[test]
fn a_resource_behind_its_spans_still_belongs_to_them() {
    let whole = request(vec![string("service.name", "cart")], vec![span("a"), span("b")]);
    let scopes = ResourceSpans { scope_spans: whole.resource_spans[0].scope_spans.clone(), ..ResourceSpans::default() };
    let resource = ResourceSpans { scope_spans: Vec::new(), ..whole.resource_spans[0].clone() };
    let mut level = scopes.encode_to_vec();
    level.extend(resource.encode_to_vec());
    let mut bytes = vec![0x0a];
    prost::encoding::encode_varint(level.len() as u64, &mut bytes);
    bytes.extend(level);
    let turned = decode(Signal::Traces, &bytes, RECEIVED).expect("a well-formed request");
    assert_eq!(turned.batch, traces(&whole).batch);
}

#[test]
fn a_log_without_a_time_takes_the_next_best_and_says_so() {
    let record = |time_unix_nano, observed_time_unix_nano| LogRecord {
        time_unix_nano,
        observed_time_unix_nano,
        trace_id: vec![1; 15],
        span_id: vec![2; 8],
        ..LogRecord::default()
    };
    let batch = logs(vec![record(5, 6), record(0, 6), record(0, 0)]).batch;
    validate(&batch);
    let column = |name: &str| batch.column_by_name(name).expect("the column exists").clone();
    assert_eq!(column("time").as_primitive::<TimestampNanosecondType>().values()[..], [5, 6, RECEIVED.as_i64()]);
    assert_eq!(column("time_source").as_primitive::<UInt8Type>().values()[..], [0, 1, 2]);
    assert!(column("trace_id").is_null(0), "an id of the wrong length associates with nothing");
    assert!(column("span_id").is_valid(0));
    assert_eq!(cell(&batch, "service_name", 0).as_deref(), Some("unknown_service"));
    assert_eq!(cell(&batch, "body", 0), None);
}

#[test]
fn columns_of_the_resource_share_one_key_buffer() {
    let batch = traces(&request(vec![], vec![span("a"), span("b")])).batch;
    let keys = |name: &str| {
        let column = batch.column_by_name(name).expect("the column exists").as_dictionary::<UInt32Type>();
        column.keys().values().inner().as_ptr()
    };
    for name in ["service_namespace", "service_version", "environment", "resource_attributes", "resource"] {
        assert_eq!(keys(name), keys("service_name"), "{name}");
    }
    assert_eq!(keys("scope"), keys("scope_name"));
}
