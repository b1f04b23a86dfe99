//! Arbitrary export requests of the upstream types.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Text with what breaks quoting: quotes, escapes, controls, several bytes a character, and the empty string.
pub(crate) fn text() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "[a-z.]{0,12}",
        1 => "[a-z]{125,200}",
        1 => proptest::string::string_regex("[\\x00-\\x1f\"\\\\$é漢😀/a]{0,6}").expect("a valid pattern"),
        1 => Just(String::new()),
    ]
    .boxed()
}

fn key() -> BoxedStrategy<String> {
    prop_oneof![
        3 => text(),
        1 => prop::sample::select(vec!["$bytes", "$double", "$", "$$x", "http.route", "http.method", "http.request.method", "http.status_code", "service.name", "deployment.environment"])
            .prop_map(str::to_owned),
    ]
    .boxed()
}

fn double() -> BoxedStrategy<f64> {
    prop_oneof![
        any::<f64>().prop_map(|value| if value.is_nan() { f64::NAN } else { value }),
        prop::sample::select(vec![0.0, -0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, 5e-324, 0.1]),
    ]
    .boxed()
}

fn bytes(lengths: std::ops::Range<usize>) -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), lengths).boxed()
}

pub(crate) fn any_value() -> BoxedStrategy<AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|value| Some(Value::StringValue(value))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        double().prop_map(|value| Some(Value::DoubleValue(value))),
        bytes(0..9).prop_map(|value| Some(Value::BytesValue(value))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 24, 4, |inner| {
        let entry = (key(), option::weighted(0.9, inner.clone())).prop_map(|(key, value)| KeyValue {
            key,
            value,
            ..KeyValue::default()
        });
        prop_oneof![
            vec(inner, 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(entry, 0..4).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
    .boxed()
}

pub(crate) fn attributes() -> BoxedStrategy<Vec<KeyValue>> {
    let plain = text().prop_map(|value| Some(AnyValue { value: Some(Value::StringValue(value)) }));
    let value = prop_oneof![3 => plain, 2 => option::weighted(0.9, any_value())];
    vec((key(), value).prop_map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }), 0..5).boxed()
}

fn time() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), 0..=i64::MAX as u64].boxed()
}

fn number() -> BoxedStrategy<i32> {
    prop_oneof![4 => 0..26, 1 => any::<i32>()].boxed()
}

fn id(length: usize) -> BoxedStrategy<Vec<u8>> {
    (any::<u8>(), bytes(length..length + 1))
        .prop_map(|(last, mut id)| {
            *id.last_mut().expect("ids are not empty") = last | 1;
            id
        })
        .boxed()
}

fn optional_id(length: usize) -> BoxedStrategy<Vec<u8>> {
    prop_oneof![Just(Vec::new()), id(length)].boxed()
}

pub(crate) fn resource() -> BoxedStrategy<Option<Resource>> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..2)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys },
    );
    option::weighted(
        0.8,
        (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(
            |(attributes, dropped_attributes_count, entity_refs)| Resource {
                attributes,
                dropped_attributes_count,
                entity_refs,
            },
        ),
    )
    .boxed()
}

pub(crate) fn scope() -> BoxedStrategy<Option<InstrumentationScope>> {
    option::weighted(
        0.8,
        (text(), text(), attributes(), any::<u32>()).prop_map(
            |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
                name,
                version,
                attributes,
                dropped_attributes_count,
            },
        ),
    )
    .boxed()
}

fn event() -> BoxedStrategy<Event> {
    (time(), text(), attributes(), any::<u32>())
        .prop_map(|(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        })
        .boxed()
}

fn link() -> BoxedStrategy<Link> {
    (bytes(0..18), bytes(0..10), text(), attributes(), any::<u32>(), any::<u32>())
        .prop_map(|(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        })
        .boxed()
}

pub(crate) fn span() -> BoxedStrategy<Span> {
    let status = option::of((text(), number()).prop_map(|(message, code)| Status { message, code }));
    (
        (id(16), id(8), optional_id(8), text(), text(), any::<u32>(), number()),
        (time(), time(), attributes(), any::<u32>()),
        (vec(event(), 0..3), any::<u32>(), vec(link(), 0..3), any::<u32>(), status),
    )
        .prop_map(|(head, middle, tail)| Span {
            trace_id: head.0,
            span_id: head.1,
            parent_span_id: head.2,
            trace_state: head.3,
            name: head.4,
            flags: head.5,
            kind: head.6,
            start_time_unix_nano: middle.0,
            end_time_unix_nano: middle.1,
            attributes: middle.2,
            dropped_attributes_count: middle.3,
            events: tail.0,
            dropped_events_count: tail.1,
            links: tail.2,
            dropped_links_count: tail.3,
            status: tail.4,
        })
        .boxed()
}

pub(crate) fn log_record() -> BoxedStrategy<LogRecord> {
    (
        (time(), time(), number(), text(), option::of(any_value())),
        (attributes(), any::<u32>(), any::<u32>(), optional_id(16), optional_id(8), text()),
    )
        .prop_map(|(head, tail)| LogRecord {
            time_unix_nano: head.0,
            observed_time_unix_nano: head.1,
            severity_number: head.2,
            severity_text: head.3,
            body: head.4,
            attributes: tail.0,
            dropped_attributes_count: tail.1,
            flags: tail.2,
            trace_id: tail.3,
            span_id: tail.4,
            event_name: tail.5,
        })
        .boxed()
}

fn exemplar() -> BoxedStrategy<Exemplar> {
    let value = option::of(prop_oneof![
        double().prop_map(exemplar::Value::AsDouble),
        any::<i64>().prop_map(exemplar::Value::AsInt)
    ]);
    (attributes(), time(), bytes(0..10), bytes(0..18), value)
        .prop_map(|(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        })
        .boxed()
}

fn number_point() -> BoxedStrategy<NumberDataPoint> {
    let value = option::weighted(
        0.9,
        prop_oneof![
            double().prop_map(number_data_point::Value::AsDouble),
            any::<i64>().prop_map(number_data_point::Value::AsInt)
        ],
    );
    (attributes(), time(), time(), vec(exemplar(), 0..2), 0..2_u32, value)
        .prop_map(|(attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value)| NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            exemplars,
            flags,
            value,
        })
        .boxed()
}

fn histogram_point() -> BoxedStrategy<HistogramDataPoint> {
    (
        (attributes(), time(), time(), any::<u64>(), option::of(double()), vec(any::<u64>(), 0..5)),
        (vec(double(), 0..5), vec(exemplar(), 0..2), any::<u32>(), option::of(double()), option::of(double())),
    )
        .prop_map(|(head, tail)| HistogramDataPoint {
            attributes: head.0,
            start_time_unix_nano: head.1,
            time_unix_nano: head.2,
            count: head.3,
            sum: head.4,
            bucket_counts: head.5,
            explicit_bounds: tail.0,
            exemplars: tail.1,
            flags: tail.2,
            min: tail.3,
            max: tail.4,
        })
        .boxed()
}

fn buckets() -> BoxedStrategy<Option<Buckets>> {
    let buckets = (any::<i32>(), vec(any::<u64>(), 0..5));
    option::of(buckets.prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts })).boxed()
}

fn exponential_point() -> BoxedStrategy<ExponentialHistogramDataPoint> {
    (
        (attributes(), time(), time(), any::<u64>(), option::of(double()), any::<i32>(), any::<u64>()),
        (buckets(), buckets(), any::<u32>(), vec(exemplar(), 0..2)),
        (option::of(double()), option::of(double()), double()),
    )
        .prop_map(|(head, middle, tail)| ExponentialHistogramDataPoint {
            attributes: head.0,
            start_time_unix_nano: head.1,
            time_unix_nano: head.2,
            count: head.3,
            sum: head.4,
            scale: head.5,
            zero_count: head.6,
            positive: middle.0,
            negative: middle.1,
            flags: middle.2,
            exemplars: middle.3,
            min: tail.0,
            max: tail.1,
            zero_threshold: tail.2,
        })
        .boxed()
}

fn summary_point() -> BoxedStrategy<SummaryDataPoint> {
    let quantile = (double(), double()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (attributes(), time(), time(), any::<u64>(), double(), vec(quantile, 0..3), any::<u32>())
        .prop_map(|(attributes, start_time_unix_nano, time_unix_nano, count, sum, quantile_values, flags)| {
            SummaryDataPoint { attributes, start_time_unix_nano, time_unix_nano, count, sum, quantile_values, flags }
        })
        .boxed()
}

pub(crate) fn metric() -> BoxedStrategy<Metric> {
    let data = prop_oneof![
        vec(number_point(), 0..3).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (vec(number_point(), 0..3), number(), any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic
            })
        ),
        (vec(histogram_point(), 0..3), number()).prop_map(|(data_points, aggregation_temporality)| Data::Histogram(
            Histogram { data_points, aggregation_temporality }
        )),
        (vec(exponential_point(), 0..3), number()).prop_map(|(data_points, aggregation_temporality)| {
            Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
        }),
        vec(summary_point(), 0..3).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ];
    (text(), text(), text(), attributes(), option::weighted(0.9, data))
        .prop_map(|(name, description, unit, metadata, data)| Metric { name, description, unit, metadata, data })
        .boxed()
}

pub(crate) fn traces() -> BoxedStrategy<ExportTraceServiceRequest> {
    let scope_spans = (scope(), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    });
    let resource_spans = (resource(), vec(scope_spans, 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..4).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans }).boxed()
}

pub(crate) fn logs() -> BoxedStrategy<ExportLogsServiceRequest> {
    let scope_logs = (scope(), vec(log_record(), 0..4), text())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    let resource_logs = (resource(), vec(scope_logs, 0..3), text())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url });
    vec(resource_logs, 0..4).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs }).boxed()
}

pub(crate) fn metrics() -> BoxedStrategy<ExportMetricsServiceRequest> {
    let scope_metrics = (scope(), vec(metric(), 0..4), text()).prop_map(|(scope, metrics, schema_url)| ScopeMetrics {
        scope,
        metrics,
        schema_url,
    });
    let resource_metrics = (resource(), vec(scope_metrics, 0..3), text())
        .prop_map(|(resource, scope_metrics, schema_url)| ResourceMetrics { resource, scope_metrics, schema_url });
    vec(resource_metrics, 0..4).prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics }).boxed()
}
