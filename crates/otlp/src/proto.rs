//! The messages of OTLP as one table: field numbers, names and kinds, from which reader, writer and JSON all work.
//!
//! *Invariants.* Every field of the three export requests stands here once. The two `*_strindex` fields of the common
//! messages do not: they belong to profiles, and the specification has other signals treat them as absent.
//!
//! *Source.* opentelemetry-proto 1.11, `common`, `resource`, `trace`, `logs` and `metrics`, all `v1`.

/// How a field's value stands on the wire, and what it means.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Bool,
    UInt32,
    UInt64,
    Int64,
    SInt32,
    /// A number; in JSON also one of the names.
    Enum(&'static [(&'static str, i32)]),
    Fixed32,
    Fixed64,
    SFixed64,
    Double,
    Text,
    Bytes,
    /// Bytes that are hexadecimal in JSON.
    Id,
    Message(&'static Message),
}

/// One message.
pub(crate) struct Message {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

/// One field of a message.
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Its name in lowerCamelCase, as JSON has it.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) repeated: bool,
}

impl Message {
    /// Returns the field with this number, if the message has one.
    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

impl Kind {
    /// Returns the wire type of one value.
    pub(crate) const fn wire_type(self) -> u32 {
        match self {
            Self::Bool | Self::UInt32 | Self::UInt64 | Self::Int64 | Self::SInt32 | Self::Enum(_) => VARINT,
            Self::Fixed64 | Self::SFixed64 | Self::Double => FIXED64,
            Self::Fixed32 => FIXED32,
            Self::Text | Self::Bytes | Self::Id | Self::Message(_) => LEN,
        }
    }
}

/// Wire type of a varint.
pub(crate) const VARINT: u32 = 0;
/// Wire type of eight bytes.
pub(crate) const FIXED64: u32 = 1;
/// Wire type of a length and that many bytes.
pub(crate) const LEN: u32 = 2;
/// Wire type of four bytes.
pub(crate) const FIXED32: u32 = 5;

/// Returns the tag of a repeated scalar field in its packed form.
pub(crate) const fn packed(tag: u32) -> u32 {
    tag & !7 | LEN
}

const SPAN_KINDS: &[(&str, i32)] = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];
const STATUS_CODES: &[(&str, i32)] = &[("STATUS_CODE_UNSET", 0), ("STATUS_CODE_OK", 1), ("STATUS_CODE_ERROR", 2)];
const TEMPORALITIES: &[(&str, i32)] = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];
const SEVERITIES: &[(&str, i32)] = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];

/// Writes a module with one tag constant a field and the message's table.
macro_rules! message {
    ($module:ident $name:literal { $($tag:ident $number:literal $field:literal $kind:expr $(, $repeated:ident)?;)* }) => {
        #[allow(dead_code, reason = "the table is whole, whether or not a tag is matched by name")]
        pub(crate) mod $module {
            use super::*;
            $(pub(crate) const $tag: u32 = $number << 3 | $kind.wire_type();)*
            pub(crate) static MESSAGE: Message = Message {
                name: $name,
                fields: &[$(Field {
                    number: $number,
                    name: $field,
                    kind: $kind,
                    repeated: message!(@repeated $($repeated)?),
                }),*],
            };
        }
    };
    (@repeated repeated) => { true };
    (@repeated) => { false };
}

use Kind::{Bool, Bytes, Double, Enum, Fixed32, Fixed64, Id, Int64, SFixed64, SInt32, Text, UInt32, UInt64};

message!(any_value "AnyValue" {
    STRING 1 "stringValue" Text;
    BOOL 2 "boolValue" Bool;
    INT 3 "intValue" Int64;
    DOUBLE 4 "doubleValue" Double;
    ARRAY 5 "arrayValue" Kind::Message(&array_value::MESSAGE);
    KVLIST 6 "kvlistValue" Kind::Message(&key_value_list::MESSAGE);
    BYTES 7 "bytesValue" Bytes;
});

message!(array_value "ArrayValue" {
    VALUES 1 "values" Kind::Message(&any_value::MESSAGE), repeated;
});

message!(key_value_list "KeyValueList" {
    VALUES 1 "values" Kind::Message(&key_value::MESSAGE), repeated;
});

message!(key_value "KeyValue" {
    KEY 1 "key" Text;
    VALUE 2 "value" Kind::Message(&any_value::MESSAGE);
});

message!(resource "Resource" {
    ATTRIBUTES 1 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    DROPPED_ATTRIBUTES_COUNT 2 "droppedAttributesCount" UInt32;
    ENTITY_REFS 3 "entityRefs" Kind::Message(&entity_ref::MESSAGE), repeated;
});

message!(entity_ref "EntityRef" {
    SCHEMA_URL 1 "schemaUrl" Text;
    TYPE 2 "type" Text;
    ID_KEYS 3 "idKeys" Text, repeated;
    DESCRIPTION_KEYS 4 "descriptionKeys" Text, repeated;
});

message!(scope "InstrumentationScope" {
    NAME 1 "name" Text;
    VERSION 2 "version" Text;
    ATTRIBUTES 3 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    DROPPED_ATTRIBUTES_COUNT 4 "droppedAttributesCount" UInt32;
});

message!(trace_request "ExportTraceServiceRequest" {
    RESOURCES 1 "resourceSpans" Kind::Message(&resource_spans::MESSAGE), repeated;
});

message!(resource_spans "ResourceSpans" {
    RESOURCE 1 "resource" Kind::Message(&resource::MESSAGE);
    SCOPES 2 "scopeSpans" Kind::Message(&scope_spans::MESSAGE), repeated;
    SCHEMA_URL 3 "schemaUrl" Text;
});

message!(scope_spans "ScopeSpans" {
    SCOPE 1 "scope" Kind::Message(&scope::MESSAGE);
    RECORDS 2 "spans" Kind::Message(&span::MESSAGE), repeated;
    SCHEMA_URL 3 "schemaUrl" Text;
});

message!(span "Span" {
    TRACE_ID 1 "traceId" Id;
    SPAN_ID 2 "spanId" Id;
    TRACE_STATE 3 "traceState" Text;
    PARENT_SPAN_ID 4 "parentSpanId" Id;
    NAME 5 "name" Text;
    KIND 6 "kind" Enum(SPAN_KINDS);
    START_TIME 7 "startTimeUnixNano" Fixed64;
    END_TIME 8 "endTimeUnixNano" Fixed64;
    ATTRIBUTES 9 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    DROPPED_ATTRIBUTES_COUNT 10 "droppedAttributesCount" UInt32;
    EVENTS 11 "events" Kind::Message(&event::MESSAGE), repeated;
    DROPPED_EVENTS_COUNT 12 "droppedEventsCount" UInt32;
    LINKS 13 "links" Kind::Message(&link::MESSAGE), repeated;
    DROPPED_LINKS_COUNT 14 "droppedLinksCount" UInt32;
    STATUS 15 "status" Kind::Message(&status::MESSAGE);
    FLAGS 16 "flags" Fixed32;
});

message!(event "Event" {
    TIME 1 "timeUnixNano" Fixed64;
    NAME 2 "name" Text;
    ATTRIBUTES 3 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    DROPPED_ATTRIBUTES_COUNT 4 "droppedAttributesCount" UInt32;
});

message!(link "Link" {
    TRACE_ID 1 "traceId" Id;
    SPAN_ID 2 "spanId" Id;
    TRACE_STATE 3 "traceState" Text;
    ATTRIBUTES 4 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    DROPPED_ATTRIBUTES_COUNT 5 "droppedAttributesCount" UInt32;
    FLAGS 6 "flags" Fixed32;
});

message!(status "Status" {
    MESSAGE_TEXT 2 "message" Text;
    CODE 3 "code" Enum(STATUS_CODES);
});

message!(logs_request "ExportLogsServiceRequest" {
    RESOURCES 1 "resourceLogs" Kind::Message(&resource_logs::MESSAGE), repeated;
});

message!(resource_logs "ResourceLogs" {
    RESOURCE 1 "resource" Kind::Message(&resource::MESSAGE);
    SCOPES 2 "scopeLogs" Kind::Message(&scope_logs::MESSAGE), repeated;
    SCHEMA_URL 3 "schemaUrl" Text;
});

message!(scope_logs "ScopeLogs" {
    SCOPE 1 "scope" Kind::Message(&scope::MESSAGE);
    RECORDS 2 "logRecords" Kind::Message(&log_record::MESSAGE), repeated;
    SCHEMA_URL 3 "schemaUrl" Text;
});

message!(log_record "LogRecord" {
    TIME 1 "timeUnixNano" Fixed64;
    SEVERITY_NUMBER 2 "severityNumber" Enum(SEVERITIES);
    SEVERITY_TEXT 3 "severityText" Text;
    BODY 5 "body" Kind::Message(&any_value::MESSAGE);
    ATTRIBUTES 6 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    DROPPED_ATTRIBUTES_COUNT 7 "droppedAttributesCount" UInt32;
    FLAGS 8 "flags" Fixed32;
    TRACE_ID 9 "traceId" Id;
    SPAN_ID 10 "spanId" Id;
    OBSERVED_TIME 11 "observedTimeUnixNano" Fixed64;
    EVENT_NAME 12 "eventName" Text;
});

message!(metrics_request "ExportMetricsServiceRequest" {
    RESOURCES 1 "resourceMetrics" Kind::Message(&resource_metrics::MESSAGE), repeated;
});

message!(resource_metrics "ResourceMetrics" {
    RESOURCE 1 "resource" Kind::Message(&resource::MESSAGE);
    SCOPES 2 "scopeMetrics" Kind::Message(&scope_metrics::MESSAGE), repeated;
    SCHEMA_URL 3 "schemaUrl" Text;
});

message!(scope_metrics "ScopeMetrics" {
    SCOPE 1 "scope" Kind::Message(&scope::MESSAGE);
    RECORDS 2 "metrics" Kind::Message(&metric::MESSAGE), repeated;
    SCHEMA_URL 3 "schemaUrl" Text;
});

message!(metric "Metric" {
    NAME 1 "name" Text;
    DESCRIPTION 2 "description" Text;
    UNIT 3 "unit" Text;
    GAUGE 5 "gauge" Kind::Message(&gauge::MESSAGE);
    SUM 7 "sum" Kind::Message(&sum::MESSAGE);
    HISTOGRAM 9 "histogram" Kind::Message(&histogram::MESSAGE);
    EXPONENTIAL_HISTOGRAM 10 "exponentialHistogram" Kind::Message(&exponential_histogram::MESSAGE);
    SUMMARY 11 "summary" Kind::Message(&summary::MESSAGE);
    METADATA 12 "metadata" Kind::Message(&key_value::MESSAGE), repeated;
});

message!(gauge "Gauge" {
    POINTS 1 "dataPoints" Kind::Message(&number_point::MESSAGE), repeated;
});

message!(sum "Sum" {
    POINTS 1 "dataPoints" Kind::Message(&number_point::MESSAGE), repeated;
    TEMPORALITY 2 "aggregationTemporality" Enum(TEMPORALITIES);
    IS_MONOTONIC 3 "isMonotonic" Bool;
});

message!(histogram "Histogram" {
    POINTS 1 "dataPoints" Kind::Message(&histogram_point::MESSAGE), repeated;
    TEMPORALITY 2 "aggregationTemporality" Enum(TEMPORALITIES);
});

message!(exponential_histogram "ExponentialHistogram" {
    POINTS 1 "dataPoints" Kind::Message(&exponential_point::MESSAGE), repeated;
    TEMPORALITY 2 "aggregationTemporality" Enum(TEMPORALITIES);
});

message!(summary "Summary" {
    POINTS 1 "dataPoints" Kind::Message(&summary_point::MESSAGE), repeated;
});

message!(number_point "NumberDataPoint" {
    START_TIME 2 "startTimeUnixNano" Fixed64;
    TIME 3 "timeUnixNano" Fixed64;
    AS_DOUBLE 4 "asDouble" Double;
    EXEMPLARS 5 "exemplars" Kind::Message(&exemplar::MESSAGE), repeated;
    AS_INT 6 "asInt" SFixed64;
    ATTRIBUTES 7 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    FLAGS 8 "flags" UInt32;
});

message!(histogram_point "HistogramDataPoint" {
    START_TIME 2 "startTimeUnixNano" Fixed64;
    TIME 3 "timeUnixNano" Fixed64;
    COUNT 4 "count" Fixed64;
    SUM 5 "sum" Double;
    BUCKET_COUNTS 6 "bucketCounts" Fixed64, repeated;
    EXPLICIT_BOUNDS 7 "explicitBounds" Double, repeated;
    EXEMPLARS 8 "exemplars" Kind::Message(&exemplar::MESSAGE), repeated;
    ATTRIBUTES 9 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    FLAGS 10 "flags" UInt32;
    MIN 11 "min" Double;
    MAX 12 "max" Double;
});

message!(exponential_point "ExponentialHistogramDataPoint" {
    ATTRIBUTES 1 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    START_TIME 2 "startTimeUnixNano" Fixed64;
    TIME 3 "timeUnixNano" Fixed64;
    COUNT 4 "count" Fixed64;
    SUM 5 "sum" Double;
    SCALE 6 "scale" SInt32;
    ZERO_COUNT 7 "zeroCount" Fixed64;
    POSITIVE 8 "positive" Kind::Message(&buckets::MESSAGE);
    NEGATIVE 9 "negative" Kind::Message(&buckets::MESSAGE);
    FLAGS 10 "flags" UInt32;
    EXEMPLARS 11 "exemplars" Kind::Message(&exemplar::MESSAGE), repeated;
    MIN 12 "min" Double;
    MAX 13 "max" Double;
    ZERO_THRESHOLD 14 "zeroThreshold" Double;
});

message!(buckets "Buckets" {
    OFFSET 1 "offset" SInt32;
    BUCKET_COUNTS 2 "bucketCounts" UInt64, repeated;
});

message!(summary_point "SummaryDataPoint" {
    START_TIME 2 "startTimeUnixNano" Fixed64;
    TIME 3 "timeUnixNano" Fixed64;
    COUNT 4 "count" Fixed64;
    SUM 5 "sum" Double;
    QUANTILES 6 "quantileValues" Kind::Message(&value_at_quantile::MESSAGE), repeated;
    ATTRIBUTES 7 "attributes" Kind::Message(&key_value::MESSAGE), repeated;
    FLAGS 8 "flags" UInt32;
});

message!(value_at_quantile "ValueAtQuantile" {
    QUANTILE 1 "quantile" Double;
    VALUE 2 "value" Double;
});

message!(exemplar "Exemplar" {
    TIME 2 "timeUnixNano" Fixed64;
    AS_DOUBLE 3 "asDouble" Double;
    SPAN_ID 4 "spanId" Id;
    TRACE_ID 5 "traceId" Id;
    AS_INT 6 "asInt" SFixed64;
    FILTERED_ATTRIBUTES 7 "filteredAttributes" Kind::Message(&key_value::MESSAGE), repeated;
});
