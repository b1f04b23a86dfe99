//! The OTLP services as protobuf descriptors, for server reflection: what lets `grpcurl` and its like list and call them.
//!
//! *Layout.* One line a message or enum. A field is its number, `*` where repeated, `?` where presence is explicit, its name and its
//! type; `a|b` before a name puts it in the oneof `a`. Types with a capital letter are messages or enums of the same
//! package, those with a dot of another one below `opentelemetry.proto`.
//!
//! *Source.* OTLP 1.10, opentelemetry/proto/**.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
};

const ROOT: &str = "opentelemetry.proto";

/// Package, packages it uses, lines. A name with a dot is nested in the message before the dot, which stands above it.
const FILES: [(&str, &[&str], &[&str]); 5] = [
    (
        "common.v1",
        &[],
        &[
            "AnyValue: 1 value|string_value string, 2 value|bool_value bool, 3 value|int_value int64, 4 value|double_value double, 5 value|array_value ArrayValue, 6 value|kvlist_value KeyValueList, 7 value|bytes_value bytes, 8 value|string_value_strindex int32",
            "ArrayValue: 1* values AnyValue",
            "KeyValueList: 1* values KeyValue",
            "KeyValue: 1 key string, 2 value AnyValue, 3 key_strindex int32",
            "InstrumentationScope: 1 name string, 2 version string, 3* attributes KeyValue, 4 dropped_attributes_count uint32",
            "EntityRef: 1 schema_url string, 2 type string, 3* id_keys string, 4* description_keys string",
        ],
    ),
    (
        "resource.v1",
        &["common.v1"],
        &[
            "Resource: 1* attributes common.v1.KeyValue, 2 dropped_attributes_count uint32, 3* entity_refs common.v1.EntityRef",
        ],
    ),
    (
        "trace.v1",
        &["common.v1", "resource.v1"],
        &[
            "enum SpanKind SPAN_KIND_: UNSPECIFIED INTERNAL SERVER CLIENT PRODUCER CONSUMER",
            "enum StatusCode STATUS_CODE_: UNSET OK ERROR",
            "ResourceSpans: 1 resource resource.v1.Resource, 2* scope_spans ScopeSpans, 3 schema_url string",
            "ScopeSpans: 1 scope common.v1.InstrumentationScope, 2* spans Span, 3 schema_url string",
            "Span: 1 trace_id bytes, 2 span_id bytes, 3 trace_state string, 4 parent_span_id bytes, 16 flags fixed32, 5 name string, 6 kind enum:Span.SpanKind, 7 start_time_unix_nano fixed64, 8 end_time_unix_nano fixed64, 9* attributes common.v1.KeyValue, 10 dropped_attributes_count uint32, 11* events Span.Event, 12 dropped_events_count uint32, 13* links Span.Link, 14 dropped_links_count uint32, 15 status Status",
            "Span.Event: 1 time_unix_nano fixed64, 2 name string, 3* attributes common.v1.KeyValue, 4 dropped_attributes_count uint32",
            "Span.Link: 1 trace_id bytes, 2 span_id bytes, 3 trace_state string, 4* attributes common.v1.KeyValue, 5 dropped_attributes_count uint32, 6 flags fixed32",
            "Status: 2 message string, 3 code enum:Status.StatusCode",
        ],
    ),
    (
        "logs.v1",
        &["common.v1", "resource.v1"],
        &[
            "enum SeverityNumber SEVERITY_NUMBER_: UNSPECIFIED TRACE TRACE2 TRACE3 TRACE4 DEBUG DEBUG2 DEBUG3 DEBUG4 INFO INFO2 INFO3 INFO4 WARN WARN2 WARN3 WARN4 ERROR ERROR2 ERROR3 ERROR4 FATAL FATAL2 FATAL3 FATAL4",
            "ResourceLogs: 1 resource resource.v1.Resource, 2* scope_logs ScopeLogs, 3 schema_url string",
            "ScopeLogs: 1 scope common.v1.InstrumentationScope, 2* log_records LogRecord, 3 schema_url string",
            "LogRecord: 1 time_unix_nano fixed64, 11 observed_time_unix_nano fixed64, 2 severity_number enum:SeverityNumber, 3 severity_text string, 5 body common.v1.AnyValue, 6* attributes common.v1.KeyValue, 7 dropped_attributes_count uint32, 8 flags fixed32, 9 trace_id bytes, 10 span_id bytes, 12 event_name string",
        ],
    ),
    (
        "metrics.v1",
        &["common.v1", "resource.v1"],
        &[
            "enum AggregationTemporality AGGREGATION_TEMPORALITY_: UNSPECIFIED DELTA CUMULATIVE",
            "ResourceMetrics: 1 resource resource.v1.Resource, 2* scope_metrics ScopeMetrics, 3 schema_url string",
            "ScopeMetrics: 1 scope common.v1.InstrumentationScope, 2* metrics Metric, 3 schema_url string",
            "Metric: 1 name string, 2 description string, 3 unit string, 5 data|gauge Gauge, 7 data|sum Sum, 9 data|histogram Histogram, 10 data|exponential_histogram ExponentialHistogram, 11 data|summary Summary, 12* metadata common.v1.KeyValue",
            "Gauge: 1* data_points NumberDataPoint",
            "Sum: 1* data_points NumberDataPoint, 2 aggregation_temporality enum:AggregationTemporality, 3 is_monotonic bool",
            "Histogram: 1* data_points HistogramDataPoint, 2 aggregation_temporality enum:AggregationTemporality",
            "ExponentialHistogram: 1* data_points ExponentialHistogramDataPoint, 2 aggregation_temporality enum:AggregationTemporality",
            "Summary: 1* data_points SummaryDataPoint",
            "NumberDataPoint: 7* attributes common.v1.KeyValue, 2 start_time_unix_nano fixed64, 3 time_unix_nano fixed64, 4 value|as_double double, 6 value|as_int sfixed64, 5* exemplars Exemplar, 8 flags uint32",
            "HistogramDataPoint: 9* attributes common.v1.KeyValue, 2 start_time_unix_nano fixed64, 3 time_unix_nano fixed64, 4 count fixed64, 5? sum double, 6* bucket_counts fixed64, 7* explicit_bounds double, 8* exemplars Exemplar, 10 flags uint32, 11? min double, 12? max double",
            "ExponentialHistogramDataPoint: 1* attributes common.v1.KeyValue, 2 start_time_unix_nano fixed64, 3 time_unix_nano fixed64, 4 count fixed64, 5? sum double, 6 scale sint32, 7 zero_count fixed64, 8 positive ExponentialHistogramDataPoint.Buckets, 9 negative ExponentialHistogramDataPoint.Buckets, 10 flags uint32, 11* exemplars Exemplar, 12? min double, 13? max double, 14 zero_threshold double",
            "ExponentialHistogramDataPoint.Buckets: 1 offset sint32, 2* bucket_counts uint64",
            "SummaryDataPoint: 7* attributes common.v1.KeyValue, 2 start_time_unix_nano fixed64, 3 time_unix_nano fixed64, 4 count fixed64, 5 sum double, 6* quantile_values SummaryDataPoint.ValueAtQuantile, 8 flags uint32",
            "SummaryDataPoint.ValueAtQuantile: 1 quantile double, 2 value double",
            "Exemplar: 7* filtered_attributes common.v1.KeyValue, 2 time_unix_nano fixed64, 3 value|as_double double, 6 value|as_int sfixed64, 4 span_id bytes, 5 trace_id bytes",
        ],
    ),
];

/// Where an enum is nested, if it is.
const NESTED_ENUMS: [(&str, &str); 2] = [("SpanKind", "Span"), ("StatusCode", "Status")];

/// Package, service stem, request field, its type, what a partial success counts.
const COLLECTORS: [(&str, &str, &str, &str, &str); 3] = [
    ("trace.v1", "Trace", "resource_spans", "ResourceSpans", "rejected_spans"),
    ("logs.v1", "Logs", "resource_logs", "ResourceLogs", "rejected_log_records"),
    ("metrics.v1", "Metrics", "resource_metrics", "ResourceMetrics", "rejected_data_points"),
];

/// Returns the descriptors of the three services and of every message they speak.
pub(crate) fn otlp() -> FileDescriptorSet {
    let mut file: Vec<_> = FILES.iter().map(|(package, uses, lines)| plain_file(package, uses, lines)).collect();
    file.extend(COLLECTORS.iter().map(collector_file));
    FileDescriptorSet { file }
}

fn path(package: &str) -> String {
    format!("opentelemetry/proto/{}.proto", package.replace('.', "/"))
}

fn empty_file(package: &str, uses: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(path(package)),
        package: Some(format!("{ROOT}.{package}")),
        dependency: uses.iter().map(|package| path(package)).collect(),
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn plain_file(package: &str, uses: &[&str], lines: &[&str]) -> FileDescriptorProto {
    let mut file = empty_file(package, uses);
    for line in lines {
        let Some((name, rest)) = line.split_once(": ") else { continue };
        match name.strip_prefix("enum ") {
            Some(name) => add_enum(&mut file, name, rest),
            None => add_message(&mut file, package, name, rest),
        }
    }
    // Enums stand before the messages that hold them.
    for (name, holder) in NESTED_ENUMS {
        let Some(at) = file.enum_type.iter().position(|one| one.name() == name) else { continue };
        let nested = file.enum_type.remove(at);
        if let Some(holder) = file.message_type.iter_mut().find(|one| one.name() == holder) {
            holder.enum_type.push(nested);
        }
    }
    file
}

fn add_enum(file: &mut FileDescriptorProto, name: &str, values: &str) {
    let (name, prefix) = name.split_once(' ').unwrap_or((name, ""));
    let value = (0..).zip(values.split(' ')).map(|(number, value)| EnumValueDescriptorProto {
        name: Some(format!("{prefix}{value}")),
        number: Some(number),
        options: None,
    });
    file.enum_type.push(EnumDescriptorProto {
        name: Some(name.to_owned()),
        value: value.collect(),
        ..EnumDescriptorProto::default()
    });
}

fn add_message(file: &mut FileDescriptorProto, package: &str, name: &str, fields: &str) {
    let message = |name: &str| message(package, name, fields);
    match name.split_once('.') {
        None => file.message_type.push(message(name)),
        Some((holder, name)) => {
            if let Some(holder) = file.message_type.iter_mut().find(|one| one.name() == holder) {
                holder.nested_type.push(message(name));
            }
        }
    }
}

fn message(package: &str, name: &str, fields: &str) -> DescriptorProto {
    let mut message = DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() };
    let mut optional = Vec::new();
    for text in fields.split(", ") {
        let mut words = text.split(' ');
        let (Some(number), Some(name), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        let (oneof, name) = name.split_once('|').map_or((None, name), |(oneof, name)| (Some(oneof), name));
        let mut field = field(package, name, number.trim_end_matches(['*', '?']), kind);
        if number.ends_with('*') {
            field.set_label(Label::Repeated);
        }
        if let Some(oneof) = oneof {
            field.oneof_index = Some(oneof_index(&mut message, oneof));
        }
        if number.ends_with('?') {
            field.proto3_optional = Some(true);
            optional.push(message.field.len());
        }
        message.field.push(field);
    }
    // The oneofs that stand for explicit presence come after all others.
    for at in optional {
        let name = format!("_{}", message.field[at].name());
        message.field[at].oneof_index = Some(oneof_index(&mut message, &name));
    }
    message
}

fn oneof_index(message: &mut DescriptorProto, name: &str) -> i32 {
    let known = message.oneof_decl.iter().position(|one| one.name() == name);
    let index = known.unwrap_or_else(|| {
        message.oneof_decl.push(OneofDescriptorProto { name: Some(name.to_owned()), options: None });
        message.oneof_decl.len() - 1
    });
    i32::try_from(index).unwrap_or(0)
}

fn field(package: &str, name: &str, number: &str, kind: &str) -> FieldDescriptorProto {
    let mut field =
        FieldDescriptorProto { name: Some(name.to_owned()), number: number.parse().ok(), ..Default::default() };
    field.set_label(Label::Optional);
    let scalar = match kind {
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "bool" => Type::Bool,
        "double" => Type::Double,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "uint32" => Type::Uint32,
        "uint64" => Type::Uint64,
        "sint32" => Type::Sint32,
        "fixed32" => Type::Fixed32,
        "fixed64" => Type::Fixed64,
        "sfixed64" => Type::Sfixed64,
        _ => {
            let (kind, named) = kind.strip_prefix("enum:").map_or((Type::Message, kind), |named| (Type::Enum, named));
            let local = named.starts_with(char::is_uppercase);
            field.type_name =
                Some(if local { format!(".{ROOT}.{package}.{named}") } else { format!(".{ROOT}.{named}") });
            kind
        }
    };
    field.set_type(scalar);
    field
}

fn collector_file(
    (package, stem, carried, carried_type, rejected): &(&str, &str, &str, &str, &str),
) -> FileDescriptorProto {
    let own = format!("collector.{package}");
    let (request, response) = (format!("Export{stem}ServiceRequest"), format!("Export{stem}ServiceResponse"));
    let partial = format!("Export{stem}PartialSuccess");
    let mut file = empty_file(&own, &[package]);
    file.message_type = vec![
        message(&own, &request, &format!("1* {carried} {package}.{carried_type}")),
        message(&own, &response, &format!("1 partial_success {partial}")),
        message(&own, &partial, &format!("1 {rejected} int64, 2 error_message string")),
    ];
    file.service = vec![ServiceDescriptorProto {
        name: Some(format!("{stem}Service")),
        method: vec![MethodDescriptorProto {
            name: Some("Export".to_owned()),
            input_type: Some(format!(".{ROOT}.{own}.{request}")),
            output_type: Some(format!(".{ROOT}.{own}.{response}")),
            ..MethodDescriptorProto::default()
        }],
        options: None,
    }];
    file
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1 as metrics;
    use opentelemetry_proto::tonic::trace::v1 as trace;
    use prost::Message;
    use protox::prost_reflect::{DescriptorPool, DynamicMessage};

    use super::*;

    fn pool() -> DescriptorPool {
        DescriptorPool::from_file_descriptor_set(otlp()).expect("the descriptors agree with one another")
    }

    fn text(name: &str, encoded: &[u8]) -> String {
        let message = pool().get_message_by_name(&format!("{ROOT}.{name}")).expect("is described");
        let message = DynamicMessage::decode(message, encoded).expect("is read by its description");
        assert_eq!(message.encode_to_vec(), encoded, "nothing was unknown or of another type");
        let unknown: usize = message.unknown_fields().count();
        assert_eq!(unknown, 0);
        format!("{message:?}")
    }

    #[test]
    fn a_span_written_by_the_upstream_types_is_read_by_its_description() {
        let span = trace::Span {
            trace_id: vec![1; 16],
            name: "GET /cart".to_owned(),
            kind: 3,
            flags: 257,
            events: vec![trace::span::Event { name: "retry".to_owned(), ..Default::default() }],
            status: Some(trace::Status { code: 2, message: "late".to_owned() }),
            ..Default::default()
        };
        let scope_spans = vec![trace::ScopeSpans { spans: vec![span], ..Default::default() }];
        let resource_spans = vec![trace::ResourceSpans { scope_spans, ..Default::default() }];
        let encoded = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let text = text("collector.trace.v1.ExportTraceServiceRequest", &encoded);
        for word in ["GET /cart", "retry", "late"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn a_histogram_written_by_the_upstream_types_is_read_by_its_description() {
        let point = metrics::ExponentialHistogramDataPoint {
            sum: Some(1.5),
            scale: -3,
            positive: Some(metrics::exponential_histogram_data_point::Buckets {
                offset: -7,
                bucket_counts: vec![1, 2],
            }),
            ..Default::default()
        };
        let data = metrics::ExponentialHistogram { data_points: vec![point], aggregation_temporality: 2 };
        let metric = metrics::Metric {
            name: "latency".to_owned(),
            data: Some(metrics::metric::Data::ExponentialHistogram(data)),
            ..Default::default()
        };
        let scope_metrics = vec![metrics::ScopeMetrics { metrics: vec![metric], ..Default::default() }];
        let resource_metrics = vec![metrics::ResourceMetrics { scope_metrics, ..Default::default() }];
        let encoded = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
        let text = text("collector.metrics.v1.ExportMetricsServiceRequest", &encoded);
        assert!(text.contains("latency"), "{text}");
    }
}
