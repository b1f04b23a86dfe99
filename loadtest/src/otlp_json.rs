//! OTLP/JSON read strictly into the upstream protobuf types.
//!
//! The serde face of `opentelemetry-proto` lets values it cannot read fall away without a word: a whole metric whose one
//! number is spelled as text, for instance. Here every field is read by name and what cannot be read is an error that
//! says where. The mapping: lowerCamelCase names, hex ids, 64-bit integers as text or number, enums as numbers,
//! unknown names passed over, null the same as absent.
//!
//! *Source.* OTLP specification, "JSON Protobuf Encoding"; ProtoJSON for numbers and bytes.

use base64::Engine;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;
use serde_json::Value;

use crate::records::Signal;

/// Where and why a JSON value is not what OTLP says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{at}`: {problem}")]
pub struct OtlpJsonError {
    /// The names that lead there.
    pub at: String,
    /// What is wrong.
    pub problem: String,
}

type Read<T> = Result<T, OtlpJsonError>;

/// Turns one export request from JSON into protobuf bytes.
///
/// # Errors
/// A field is of the wrong type or out of range.
pub fn to_protobuf(signal: Signal, request: &Value) -> Read<Vec<u8>> {
    Ok(match signal {
        Signal::Traces => ExportTraceServiceRequest { resource_spans: list(request, "resourceSpans", resource_spans)? }
            .encode_to_vec(),
        Signal::Logs => {
            ExportLogsServiceRequest { resource_logs: list(request, "resourceLogs", resource_logs)? }.encode_to_vec()
        }
        Signal::Metrics => {
            ExportMetricsServiceRequest { resource_metrics: list(request, "resourceMetrics", resource_metrics)? }
                .encode_to_vec()
        }
    })
}

fn error<T>(at: &str, problem: impl Into<String>) -> Read<T> {
    Err(OtlpJsonError { at: at.into(), problem: problem.into() })
}

/// The value of `key`, where there is one that is not null.
fn get<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn list<T>(object: &Value, key: &str, read: impl Fn(&Value) -> Read<T>) -> Read<Vec<T>> {
    let Some(value) = get(object, key) else {
        return Ok(Vec::new());
    };
    let Some(items) = value.as_array() else {
        return error(key, "not an array");
    };
    items
        .iter()
        .enumerate()
        .map(|(nth, item)| {
            read(item).map_err(|inner| OtlpJsonError { at: format!("{key}[{nth}].{}", inner.at), ..inner })
        })
        .collect()
}

fn message<T>(object: &Value, key: &str, read: impl Fn(&Value) -> Read<T>) -> Read<Option<T>> {
    let Some(value) = get(object, key) else {
        return Ok(None);
    };
    if !value.is_object() {
        return error(key, "not an object");
    }
    read(value).map(Some).map_err(|inner| OtlpJsonError { at: format!("{key}.{}", inner.at), ..inner })
}

fn text(object: &Value, key: &str) -> Read<String> {
    match get(object, key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => error(key, "not text"),
    }
}

fn flag(object: &Value, key: &str) -> Read<bool> {
    match get(object, key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => error(key, "neither true nor false"),
    }
}

/// An integer given as a number or as text.
fn integer<T>(value: &Value, key: &str) -> Read<T>
where
    T: std::str::FromStr + TryFrom<i128>,
{
    let whole = match value {
        Value::Number(number) => {
            let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            // ProtoJSON lets an integer be written as 1.0 or 1e3.
            exact.or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i128))
        }
        Value::String(text) => text.parse::<i128>().ok(),
        _ => None,
    };
    match whole.and_then(|whole| T::try_from(whole).ok()) {
        Some(whole) => Ok(whole),
        None => error(key, format!("`{value}` is not an integer that fits")),
    }
}

fn int<T>(object: &Value, key: &str) -> Read<T>
where
    T: std::str::FromStr + TryFrom<i128> + Default,
{
    get(object, key).map_or_else(|| Ok(T::default()), |value| integer(value, key))
}

fn ints(object: &Value, key: &str) -> Read<Vec<u64>> {
    list(object, key, |value| integer(value, ""))
}

fn float(value: &Value, key: &str) -> Read<f64> {
    let read = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    };
    read.map_or_else(|| error(key, format!("`{value}` is not a number")), Ok)
}

fn double(object: &Value, key: &str) -> Read<f64> {
    Ok(optional_double(object, key)?.unwrap_or_default())
}

fn optional_double(object: &Value, key: &str) -> Read<Option<f64>> {
    get(object, key).map(|value| float(value, key)).transpose()
}

fn id(object: &Value, key: &str) -> Read<Vec<u8>> {
    let digits = text(object, key)?;
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match pair {
            [high, low] => {
                let high = char::from(*high).to_digit(16)?;
                let low = char::from(*low).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()
            }
            _ => None,
        })
        .collect();
    bytes.map_or_else(|| error(key, format!("`{digits}` is not hex")), Ok)
}

fn any_value(object: &Value) -> Read<AnyValue> {
    use any_value::Value as Any;
    let Some(map) = object.as_object() else {
        return error("", "not an object");
    };
    for (key, value) in map {
        let read = match key.as_str() {
            _ if value.is_null() => continue,
            "stringValue" => Any::StringValue(text(object, key)?),
            "boolValue" => Any::BoolValue(flag(object, key)?),
            "intValue" => Any::IntValue(integer(value, key)?),
            "doubleValue" => Any::DoubleValue(float(value, key)?),
            "arrayValue" => Any::ArrayValue(ArrayValue { values: list(value, "values", any_value)? }),
            "kvlistValue" => Any::KvlistValue(KeyValueList { values: attributes(value, "values")? }),
            "bytesValue" => {
                let coded = text(object, key)?;
                let bytes = base64::engine::general_purpose::STANDARD.decode(coded);
                Any::BytesValue(bytes.or_else(|problem| error(key, problem.to_string()))?)
            }
            _ => continue,
        };
        return Ok(AnyValue { value: Some(read) });
    }
    Ok(AnyValue { value: None })
}

fn attributes(object: &Value, key: &str) -> Read<Vec<KeyValue>> {
    list(object, key, |entry| {
        Ok(KeyValue { key: text(entry, "key")?, value: message(entry, "value", any_value)?, ..Default::default() })
    })
}

fn texts(object: &Value, key: &str) -> Read<Vec<String>> {
    list(object, key, |item| item.as_str().map_or_else(|| error("", "not text"), |text| Ok(text.to_owned())))
}

fn resource(object: &Value) -> Read<Resource> {
    Ok(Resource {
        attributes: attributes(object, "attributes")?,
        dropped_attributes_count: int(object, "droppedAttributesCount")?,
        entity_refs: list(object, "entityRefs", |entity| {
            Ok(EntityRef {
                schema_url: text(entity, "schemaUrl")?,
                r#type: text(entity, "type")?,
                id_keys: texts(entity, "idKeys")?,
                description_keys: texts(entity, "descriptionKeys")?,
            })
        })?,
    })
}

fn scope(object: &Value) -> Read<InstrumentationScope> {
    Ok(InstrumentationScope {
        name: text(object, "name")?,
        version: text(object, "version")?,
        attributes: attributes(object, "attributes")?,
        dropped_attributes_count: int(object, "droppedAttributesCount")?,
    })
}

fn resource_spans(object: &Value) -> Read<ResourceSpans> {
    Ok(ResourceSpans {
        resource: message(object, "resource", resource)?,
        scope_spans: list(object, "scopeSpans", |scoped| {
            Ok(ScopeSpans {
                scope: message(scoped, "scope", scope)?,
                spans: list(scoped, "spans", span)?,
                schema_url: text(scoped, "schemaUrl")?,
            })
        })?,
        schema_url: text(object, "schemaUrl")?,
    })
}

fn span(object: &Value) -> Read<Span> {
    Ok(Span {
        trace_id: id(object, "traceId")?,
        span_id: id(object, "spanId")?,
        trace_state: text(object, "traceState")?,
        parent_span_id: id(object, "parentSpanId")?,
        flags: int(object, "flags")?,
        name: text(object, "name")?,
        kind: int(object, "kind")?,
        start_time_unix_nano: int(object, "startTimeUnixNano")?,
        end_time_unix_nano: int(object, "endTimeUnixNano")?,
        attributes: attributes(object, "attributes")?,
        dropped_attributes_count: int(object, "droppedAttributesCount")?,
        events: list(object, "events", |event| {
            Ok(span::Event {
                time_unix_nano: int(event, "timeUnixNano")?,
                name: text(event, "name")?,
                attributes: attributes(event, "attributes")?,
                dropped_attributes_count: int(event, "droppedAttributesCount")?,
            })
        })?,
        dropped_events_count: int(object, "droppedEventsCount")?,
        links: list(object, "links", |link| {
            Ok(span::Link {
                trace_id: id(link, "traceId")?,
                span_id: id(link, "spanId")?,
                trace_state: text(link, "traceState")?,
                attributes: attributes(link, "attributes")?,
                dropped_attributes_count: int(link, "droppedAttributesCount")?,
                flags: int(link, "flags")?,
            })
        })?,
        dropped_links_count: int(object, "droppedLinksCount")?,
        status: message(object, "status", |status| {
            Ok(Status { message: text(status, "message")?, code: int(status, "code")? })
        })?,
    })
}

fn resource_logs(object: &Value) -> Read<ResourceLogs> {
    Ok(ResourceLogs {
        resource: message(object, "resource", resource)?,
        scope_logs: list(object, "scopeLogs", |scoped| {
            Ok(ScopeLogs {
                scope: message(scoped, "scope", scope)?,
                log_records: list(scoped, "logRecords", log_record)?,
                schema_url: text(scoped, "schemaUrl")?,
            })
        })?,
        schema_url: text(object, "schemaUrl")?,
    })
}

fn log_record(object: &Value) -> Read<LogRecord> {
    Ok(LogRecord {
        time_unix_nano: int(object, "timeUnixNano")?,
        observed_time_unix_nano: int(object, "observedTimeUnixNano")?,
        severity_number: int(object, "severityNumber")?,
        severity_text: text(object, "severityText")?,
        body: message(object, "body", any_value)?,
        attributes: attributes(object, "attributes")?,
        dropped_attributes_count: int(object, "droppedAttributesCount")?,
        flags: int(object, "flags")?,
        trace_id: id(object, "traceId")?,
        span_id: id(object, "spanId")?,
        event_name: text(object, "eventName")?,
    })
}

fn resource_metrics(object: &Value) -> Read<metrics::ResourceMetrics> {
    Ok(metrics::ResourceMetrics {
        resource: message(object, "resource", resource)?,
        scope_metrics: list(object, "scopeMetrics", |scoped| {
            Ok(metrics::ScopeMetrics {
                scope: message(scoped, "scope", scope)?,
                metrics: list(scoped, "metrics", metric)?,
                schema_url: text(scoped, "schemaUrl")?,
            })
        })?,
        schema_url: text(object, "schemaUrl")?,
    })
}

fn metric(object: &Value) -> Read<metrics::Metric> {
    use metrics::metric::Data;
    let temporality = |object: &Value| int(object, "aggregationTemporality");
    let mut data = None;
    if let Some(gauge) =
        message(object, "gauge", |gauge| Ok(metrics::Gauge { data_points: list(gauge, "dataPoints", number_point)? }))?
    {
        data = Some(Data::Gauge(gauge));
    }
    if let Some(sum) = message(object, "sum", |sum| {
        Ok(metrics::Sum {
            data_points: list(sum, "dataPoints", number_point)?,
            aggregation_temporality: temporality(sum)?,
            is_monotonic: flag(sum, "isMonotonic")?,
        })
    })? {
        data = Some(Data::Sum(sum));
    }
    if let Some(histogram) = message(object, "histogram", |histogram| {
        Ok(metrics::Histogram {
            data_points: list(histogram, "dataPoints", histogram_point)?,
            aggregation_temporality: temporality(histogram)?,
        })
    })? {
        data = Some(Data::Histogram(histogram));
    }
    if let Some(histogram) = message(object, "exponentialHistogram", |histogram| {
        Ok(metrics::ExponentialHistogram {
            data_points: list(histogram, "dataPoints", exponential_point)?,
            aggregation_temporality: temporality(histogram)?,
        })
    })? {
        data = Some(Data::ExponentialHistogram(histogram));
    }
    if let Some(summary) = message(object, "summary", |summary| {
        Ok(metrics::Summary { data_points: list(summary, "dataPoints", summary_point)? })
    })? {
        data = Some(Data::Summary(summary));
    }
    Ok(metrics::Metric {
        name: text(object, "name")?,
        description: text(object, "description")?,
        unit: text(object, "unit")?,
        metadata: attributes(object, "metadata")?,
        data,
    })
}

fn number_point(object: &Value) -> Read<metrics::NumberDataPoint> {
    use metrics::number_data_point::Value as Number;
    let whole = get(object, "asInt").map(|value| integer(value, "asInt")).transpose()?;
    let value = match whole {
        Some(whole) => Some(Number::AsInt(whole)),
        None => optional_double(object, "asDouble")?.map(Number::AsDouble),
    };
    Ok(metrics::NumberDataPoint {
        attributes: attributes(object, "attributes")?,
        start_time_unix_nano: int(object, "startTimeUnixNano")?,
        time_unix_nano: int(object, "timeUnixNano")?,
        exemplars: list(object, "exemplars", exemplar)?,
        flags: int(object, "flags")?,
        value,
    })
}

fn histogram_point(object: &Value) -> Read<metrics::HistogramDataPoint> {
    Ok(metrics::HistogramDataPoint {
        attributes: attributes(object, "attributes")?,
        start_time_unix_nano: int(object, "startTimeUnixNano")?,
        time_unix_nano: int(object, "timeUnixNano")?,
        count: int(object, "count")?,
        sum: optional_double(object, "sum")?,
        bucket_counts: ints(object, "bucketCounts")?,
        explicit_bounds: list(object, "explicitBounds", |value| float(value, ""))?,
        exemplars: list(object, "exemplars", exemplar)?,
        flags: int(object, "flags")?,
        min: optional_double(object, "min")?,
        max: optional_double(object, "max")?,
    })
}

fn exponential_point(object: &Value) -> Read<metrics::ExponentialHistogramDataPoint> {
    use metrics::exponential_histogram_data_point::Buckets;
    let buckets = |buckets: &Value| -> Read<Buckets> {
        Ok(Buckets { offset: int(buckets, "offset")?, bucket_counts: ints(buckets, "bucketCounts")? })
    };
    Ok(metrics::ExponentialHistogramDataPoint {
        attributes: attributes(object, "attributes")?,
        start_time_unix_nano: int(object, "startTimeUnixNano")?,
        time_unix_nano: int(object, "timeUnixNano")?,
        count: int(object, "count")?,
        sum: optional_double(object, "sum")?,
        scale: int(object, "scale")?,
        zero_count: int(object, "zeroCount")?,
        positive: message(object, "positive", buckets)?,
        negative: message(object, "negative", buckets)?,
        flags: int(object, "flags")?,
        exemplars: list(object, "exemplars", exemplar)?,
        min: optional_double(object, "min")?,
        max: optional_double(object, "max")?,
        zero_threshold: double(object, "zeroThreshold")?,
    })
}

fn summary_point(object: &Value) -> Read<metrics::SummaryDataPoint> {
    Ok(metrics::SummaryDataPoint {
        attributes: attributes(object, "attributes")?,
        start_time_unix_nano: int(object, "startTimeUnixNano")?,
        time_unix_nano: int(object, "timeUnixNano")?,
        count: int(object, "count")?,
        sum: double(object, "sum")?,
        quantile_values: list(object, "quantileValues", |value| {
            Ok(metrics::summary_data_point::ValueAtQuantile {
                quantile: double(value, "quantile")?,
                value: double(value, "value")?,
            })
        })?,
        flags: int(object, "flags")?,
    })
}

fn exemplar(object: &Value) -> Read<metrics::Exemplar> {
    use metrics::exemplar::Value as Number;
    let whole = get(object, "asInt").map(|value| integer(value, "asInt")).transpose()?;
    let value = match whole {
        Some(whole) => Some(Number::AsInt(whole)),
        None => optional_double(object, "asDouble")?.map(Number::AsDouble),
    };
    Ok(metrics::Exemplar {
        filtered_attributes: attributes(object, "filteredAttributes")?,
        time_unix_nano: int(object, "timeUnixNano")?,
        span_id: id(object, "spanId")?,
        trace_id: id(object, "traceId")?,
        value,
    })
}

#[cfg(test)]
#[path = "otlp_json_tests.rs"]
mod tests;
