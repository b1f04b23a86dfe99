//! The stored tables as Arrow schemas: the one place where a column's name, type and meaning are fixed.
//!
//! *Invariants.*
//! - Columns that come from the resource share one key buffer, and so do those that come from the scope: they are
//!   dictionaries over `UInt32`, which cannot overflow, and a row costs four bytes whatever the resource holds.
//! - What points of a metric have in common (name, description, unit, type) is such a dictionary too, with a key buffer of its own.
//! - Absent text in a column of resource or scope is the empty string, never null; everywhere else absent is null.
//! - An attribute map keeps its entries as they came: order, repeated keys, empty values. Its keys are a dictionary, its
//!   values text; the type of
//!   each stands in the `_types` column beside it, one letter an entry ([`crate::value`]), null where all are strings.
//! - Nothing an export request says is lost: [`crate::encode`] gives it back.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

pub use crate::nested::{
    attribute_entry, attributes, event_fields, exemplar_fields, link_fields, plain_attributes, quantile_fields,
};
use crate::nested::{event_item, exemplar_item, f64_item, link_item, quantile_item, u64_item, utc};

/// Time zone of every timestamp column.
pub const UTC: &str = "UTC";

/// The stored tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row a span; events and links are nested in it.
    Spans,
    /// One row a log record.
    Logs,
    /// One row a metric data point.
    Metrics,
    /// One row an operation, version, age class and 10 s bucket; several rows of one key add up.
    Operations,
    /// One row of any other aggregate and bucket, as its column `kind` says; several rows of one key add up.
    Signals,
}

impl Table {
    /// Every stored table.
    pub const ALL: [Self; 5] = [Self::Spans, Self::Logs, Self::Metrics, Self::Operations, Self::Signals];

    /// Returns the name used in SQL, in paths and in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Operations => "operations",
            Self::Signals => "signals",
        }
    }

    /// Reads a name that [`Self::name`] gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Returns the stored schema.
    pub fn schema(self) -> &'static SchemaRef {
        match self {
            Self::Spans => &SPANS,
            Self::Logs => &LOGS,
            Self::Metrics => &METRICS,
            Self::Operations => &OPERATIONS,
            Self::Signals => &SIGNALS,
        }
    }

    /// Returns the column that says when a row's fact happened.
    pub fn time_column(self) -> &'static str {
        match self {
            Self::Spans => "start_time",
            Self::Logs | Self::Metrics => "time",
            Self::Operations | Self::Signals => "bucket_start",
        }
    }
}

/// Nanosecond timestamp in UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(utc()))
}

/// Text that comes from a resource or a scope and repeats over many rows.
pub fn shared_text() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

/// Bytes that come from a resource or a scope and repeat over many rows.
pub fn shared_bytes() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Binary))
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

pub(crate) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

pub(crate) fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// Columns that every telemetry table begins with.
///
/// `resource` and `scope` are the wire bytes of `ResourceSpans` and `ScopeSpans` (or their like) without the records in
/// them: resource, scope and both schema URLs, exactly as they came. `resource_attributes` is the same as a JSON object.
pub fn common_fields() -> Vec<Field> {
    vec![
        field("received_time", timestamp()),
        field("service_name", shared_text()),
        field("service_namespace", shared_text()),
        field("service_version", shared_text()),
        field("environment", shared_text()),
        field("service_instance_id", shared_text()),
        field("resource_attributes", shared_text()),
        field("resource", shared_bytes()),
        field("scope_name", shared_text()),
        field("scope_version", shared_text()),
        field("scope", shared_bytes()),
    ]
}

/// Span attributes that have a column of their own, in the order of the columns, each with the attribute names it is
/// filled from (the stable name first, then those it had before). The attribute also stays in `attributes`.
pub const SPAN_CONVENTIONS: &[(&str, &[&str])] = &[
    ("http_request_method", &["http.request.method", "http.method"]),
    ("http_route", &["http.route"]),
    ("url_path", &["url.path", "http.target"]),
    ("server_address", &["server.address", "net.peer.name"]),
    ("rpc_system", &["rpc.system.name", "rpc.system"]),
    ("rpc_service", &["rpc.service"]),
    ("rpc_method", &["rpc.method"]),
    ("db_system_name", &["db.system.name", "db.system"]),
    ("db_operation_name", &["db.operation.name", "db.operation"]),
    ("messaging_system", &["messaging.system"]),
    ("messaging_destination_name", &["messaging.destination.name", "messaging.destination"]),
    ("error_type", &["error.type"]),
];

/// Attribute names that fill `http_response_status_code`.
pub const HTTP_STATUS_NAMES: &[&str] = &["http.response.status_code", "http.status_code"];

static SPANS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = common_fields();
    fields.extend([
        field("trace_id", DataType::FixedSizeBinary(16)),
        field("span_id", DataType::FixedSizeBinary(8)),
        optional("parent_span_id", DataType::FixedSizeBinary(8)),
        optional("trace_state", DataType::Utf8),
        field("flags", DataType::UInt32),
        field("name", DataType::Utf8),
        field("kind", DataType::Int32),
        field("start_time", timestamp()),
        field("end_time", timestamp()),
        field("duration_ns", DataType::Int64),
        // Null where the span has no `Status`, which is not the same on the wire as an unset one.
        optional("status_code", DataType::Int32),
        optional("status_message", DataType::Utf8),
        optional("http_response_status_code", DataType::Int32),
    ]);
    fields.extend(SPAN_CONVENTIONS.iter().map(|(column, _)| optional(column, DataType::Utf8)));
    fields.extend([
        field("attributes", attributes()),
        optional("attribute_types", DataType::Utf8),
        field("dropped_attributes_count", DataType::UInt32),
        field("events", DataType::List(event_item())),
        field("dropped_events_count", DataType::UInt32),
        field("links", DataType::List(link_item())),
        field("dropped_links_count", DataType::UInt32),
    ]);
    Arc::new(Schema::new(fields))
});

static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = common_fields();
    fields.extend([
        // When it happened: the record's time, else its observed time, else the time it was received.
        field("time", timestamp()),
        // Which of the three `time` is: 0, 1 or 2.
        field("time_source", DataType::UInt8),
        field("observed_time", timestamp()),
        field("severity_number", DataType::Int32),
        optional("severity_text", DataType::Utf8),
        // A string body as it is, any other as JSON; `body_type` is its letter, null where there is no body.
        optional("body", DataType::Utf8),
        optional("body_type", DataType::Utf8),
        optional("event_name", DataType::Utf8),
        optional("trace_id", DataType::FixedSizeBinary(16)),
        optional("span_id", DataType::FixedSizeBinary(8)),
        field("flags", DataType::UInt32),
        field("attributes", attributes()),
        optional("attribute_types", DataType::Utf8),
        field("dropped_attributes_count", DataType::UInt32),
    ]);
    Arc::new(Schema::new(fields))
});

static METRICS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = common_fields();
    fields.extend([
        field("time", timestamp()),
        field("start_time", timestamp()),
        // What a metric's points share: these four have one key buffer.
        field("metric_name", shared_text()),
        optional("metric_description", shared_text()),
        optional("unit", shared_text()),
        // gauge, sum, histogram, exponential_histogram or summary
        field("metric_type", shared_text()),
        // Null for gauges and summaries.
        optional("temporality", DataType::Int32),
        // Null but for sums.
        optional("is_monotonic", DataType::Boolean),
        // The number as a float; `value_int` holds it exactly where it came as an integer.
        optional("value", DataType::Float64),
        optional("value_int", DataType::Int64),
        optional("count", DataType::UInt64),
        optional("sum", DataType::Float64),
        optional("min", DataType::Float64),
        optional("max", DataType::Float64),
        optional("explicit_bounds", DataType::List(f64_item())),
        optional("bucket_counts", DataType::List(u64_item())),
        optional("scale", DataType::Int32),
        optional("zero_count", DataType::UInt64),
        optional("zero_threshold", DataType::Float64),
        optional("positive_offset", DataType::Int32),
        optional("positive_bucket_counts", DataType::List(u64_item())),
        optional("negative_offset", DataType::Int32),
        optional("negative_bucket_counts", DataType::List(u64_item())),
        optional("quantiles", DataType::List(quantile_item())),
        field("flags", DataType::UInt32),
        field("attributes", attributes()),
        optional("attribute_types", DataType::Utf8),
        field("metadata", attributes()),
        optional("metadata_types", DataType::Utf8),
        field("exemplars", DataType::List(exemplar_item())),
    ]);
    Arc::new(Schema::new(fields))
});

/// A sparse histogram: parallel lists of bucket index and count.
fn histogram(prefix: &str) -> [Field; 2] {
    [
        field(&format!("{prefix}_buckets"), list(DataType::Int16)),
        field(&format!("{prefix}_counts"), list(DataType::UInt64)),
    ]
}

fn party_fields() -> Vec<Field> {
    vec![field("service", DataType::Utf8), field("version", DataType::Utf8), field("operation", DataType::Utf8)]
}

/// The fields of one entry of `exceptions`, in order.
pub fn exception_fields() -> Fields {
    Fields::from(vec![
        field("fingerprint", DataType::UInt64),
        field("type", DataType::Utf8),
        field("message", DataType::Utf8),
        field("count", DataType::UInt64),
    ])
}

/// The fields of one entry of `blame`, in order.
pub fn blame_fields() -> Fields {
    let mut fields = party_fields();
    fields.extend([field("count", DataType::UInt64), optional("namespace", DataType::Utf8)]);
    Fields::from(fields)
}

/// The fields of one entry of `callees`, in order.
pub fn callee_fields() -> Fields {
    let mut fields = party_fields();
    fields.extend([
        field("calls", DataType::UInt64),
        field("critical_ns", DataType::UInt64),
        optional("namespace", DataType::Utf8),
    ]);
    Fields::from(fields)
}

/// The fields of one entry of `values`, in order.
pub fn value_fields() -> Fields {
    Fields::from(vec![
        field("attribute", DataType::Utf8),
        field("value", DataType::Utf8),
        field("requests", DataType::UInt64),
        field("errors", DataType::UInt64),
        field("log_latency_sum", DataType::Int64),
    ])
}

/// The fields of one entry of `failed_draws` and `good_draws`, in order: one value of one request.
pub fn draw_fields() -> Fields {
    Fields::from(vec![
        field("request", DataType::UInt64),
        field("attribute", DataType::Utf8),
        field("value", DataType::Utf8),
    ])
}

/// The fields of one entry of `path`, in order.
pub fn participant_fields() -> Fields {
    Fields::from(vec![
        field("namespace", DataType::Utf8),
        field("service", DataType::Utf8),
        field("version", DataType::Utf8),
    ])
}

/// The fields of one entry of `errors_by_class`, in order.
pub fn error_class_fields() -> Fields {
    Fields::from(vec![field("class", DataType::Utf8), field("count", DataType::UInt64)])
}

static OPERATIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        field("bucket_start", timestamp()),
        field("service_name", DataType::Utf8),
        field("service_namespace", DataType::Utf8),
        field("service_version", DataType::Utf8),
        field("environment", DataType::Utf8),
        field("operation", DataType::Utf8),
        // server, consumer or internal
        field("kind", DataType::Utf8),
        // cold, warming or warm
        field("instance_age", DataType::Utf8),
        field("requests", DataType::UInt64),
        field("errors", DataType::UInt64),
        field("error_origins", DataType::UInt64),
        field("log_latency_sum", DataType::Int64),
        field("log_latency_sum_sq", DataType::Int64),
    ];
    fields.extend(histogram("latency"));
    fields.extend(histogram("self_time"));
    fields.extend([
        field("self_time_ns", DataType::UInt64),
        field("assembled", DataType::UInt64),
        field("errors_by_class", list(DataType::Struct(error_class_fields()))),
        field("exceptions", list(DataType::Struct(exception_fields()))),
        field("blame", list(DataType::Struct(blame_fields()))),
        field("callees", list(DataType::Struct(callee_fields()))),
        field("failed_exemplars", list(DataType::FixedSizeBinary(16))),
        field("slow_exemplars", list(DataType::FixedSizeBinary(16))),
        // Null in rows written before these columns were.
        optional("weighted_requests", DataType::UInt64),
        optional("weighted_errors", DataType::UInt64),
        optional("values", list(DataType::Struct(value_fields()))),
        optional("good_exemplars", list(DataType::FixedSizeBinary(16))),
        optional("failed_draws", list(DataType::Struct(draw_fields()))),
        optional("good_draws", list(DataType::Struct(draw_fields()))),
    ]);
    Arc::new(Schema::new(fields))
});

static SIGNALS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        field("bucket_start", timestamp()),
        field("width_s", DataType::UInt32),
        field("service_name", DataType::Utf8),
        field("service_namespace", DataType::Utf8),
        field("service_version", DataType::Utf8),
        field("environment", DataType::Utf8),
        // presence, log, metric, arm, action, path, history or metric_history
        field("kind", DataType::Utf8),
        // Template, metric, operation or action.
        field("name", DataType::Utf8),
        // Level of a log, shape of a metric, kind of an operation.
        field("role", DataType::Utf8),
        // Attributes of a metric as JSON, or flag of an arm.
        field("detail", DataType::Utf8),
        // Variant of the flag.
        field("variant", DataType::Utf8),
        field("unit", DataType::Utf8),
        field("instance_age", DataType::Utf8),
        field("count", DataType::UInt64),
        field("errors", DataType::UInt64),
        field("weighted_count", DataType::UInt64),
        field("weighted_errors", DataType::UInt64),
        field("log_latency_sum", DataType::Int64),
        field("log_latency_sum_sq", DataType::Int64),
        field("spans", DataType::UInt64),
        field("logs", DataType::UInt64),
        field("points", DataType::UInt64),
        field("zeros", DataType::UInt64),
        field("resets", DataType::UInt64),
        optional("sum", DataType::Float64),
        // The same, exactly: a signed count of 2^-40, most significant byte first.
        optional("sum_exact", DataType::FixedSizeBinary(16)),
        optional("min", DataType::Float64),
        optional("max", DataType::Float64),
        optional("first_seen", timestamp()),
        optional("last_seen", timestamp()),
    ];
    fields.extend(histogram("value"));
    fields.extend([
        field("instances", list(DataType::UInt64)),
        field("starts", list(DataType::UInt64)),
        field("errors_by_class", list(DataType::Struct(error_class_fields()))),
        field("path", list(DataType::Struct(participant_fields()))),
        field("failed_exemplars", list(DataType::FixedSizeBinary(16))),
        field("slow_exemplars", list(DataType::FixedSizeBinary(16))),
        field("good_exemplars", list(DataType::FixedSizeBinary(16))),
    ]);
    Arc::new(Schema::new(fields))
});
