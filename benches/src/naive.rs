//! The obvious way from wire to Arrow: decode with prost, then append a few columns.
//!
//! It is generous to itself: it keeps eight columns of spans (and fewer of the rest) and drops what the tables keep, so that
//! what is compared is reading, not the amount that is written.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryBuilder, Float64Builder, Int64Builder, MapBuilder, StringBuilder};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, number_data_point};
use plimsoll_otlp::Signal;
use prost::Message;

const WELL_FORMED: &str = "the generator sends what is well formed";

/// Decodes and appends a request of `signal`.
pub fn append(signal: Signal, bytes: &[u8]) -> Vec<ArrayRef> {
    match signal {
        Signal::Traces => traces(bytes),
        Signal::Logs => logs(bytes),
        Signal::Metrics => metrics(bytes),
    }
}

/// Decodes a request of `signal` and drops it; returns how many resources it had.
pub fn decode_only(signal: Signal, bytes: &[u8]) -> usize {
    match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(bytes).expect(WELL_FORMED).resource_spans.len(),
        Signal::Logs => ExportLogsServiceRequest::decode(bytes).expect(WELL_FORMED).resource_logs.len(),
        Signal::Metrics => ExportMetricsServiceRequest::decode(bytes).expect(WELL_FORMED).resource_metrics.len(),
    }
}

fn append_attributes(into: &mut MapBuilder<StringBuilder, StringBuilder>, attributes: &[KeyValue]) {
    for entry in attributes {
        into.keys().append_value(&entry.key);
        match entry.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(value)) => into.values().append_value(value),
            Some(Value::IntValue(value)) => into.values().append_value(value.to_string()),
            _ => into.values().append_null(),
        }
    }
    into.append(true).expect("keys and values are as many");
}

fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    MapBuilder::new(None, StringBuilder::new(), StringBuilder::new())
}

fn traces(bytes: &[u8]) -> Vec<ArrayRef> {
    let request = ExportTraceServiceRequest::decode(bytes).expect(WELL_FORMED);
    let (mut trace_id, mut span_id) = (FixedSizeBinaryBuilder::new(16), FixedSizeBinaryBuilder::new(8));
    let (mut start, mut end, mut kind) = (Int64Builder::new(), Int64Builder::new(), Int64Builder::new());
    let (mut name, mut service, mut attributes) = (StringBuilder::new(), StringBuilder::new(), map_builder());
    for resource in &request.resource_spans {
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            trace_id.append_value(&span.trace_id).expect("16 bytes");
            span_id.append_value(&span.span_id).expect("8 bytes");
            start.append_value(span.start_time_unix_nano as i64);
            end.append_value(span.end_time_unix_nano as i64);
            kind.append_value(i64::from(span.kind));
            name.append_value(&span.name);
            service.append_value("checkout");
            append_attributes(&mut attributes, &span.attributes);
        }
    }
    vec![
        Arc::new(trace_id.finish()),
        Arc::new(span_id.finish()),
        Arc::new(start.finish()),
        Arc::new(end.finish()),
        Arc::new(kind.finish()),
        Arc::new(name.finish()),
        Arc::new(service.finish()),
        Arc::new(attributes.finish()),
    ]
}

fn logs(bytes: &[u8]) -> Vec<ArrayRef> {
    let request = ExportLogsServiceRequest::decode(bytes).expect(WELL_FORMED);
    let (mut time, mut severity) = (Int64Builder::new(), Int64Builder::new());
    let (mut body, mut attributes) = (StringBuilder::new(), map_builder());
    for resource in &request.resource_logs {
        for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            time.append_value(record.time_unix_nano as i64);
            severity.append_value(i64::from(record.severity_number));
            match record.body.as_ref().and_then(|body| body.value.as_ref()) {
                Some(Value::StringValue(text)) => body.append_value(text),
                _ => body.append_null(),
            }
            append_attributes(&mut attributes, &record.attributes);
        }
    }
    vec![Arc::new(time.finish()), Arc::new(severity.finish()), Arc::new(body.finish()), Arc::new(attributes.finish())]
}

fn metrics(bytes: &[u8]) -> Vec<ArrayRef> {
    let request = ExportMetricsServiceRequest::decode(bytes).expect(WELL_FORMED);
    let mut points = Points::default();
    for resource in &request.resource_metrics {
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let name = &metric.name;
            match &metric.data {
                Some(Data::Gauge(gauge)) => points.numbers(name, &gauge.data_points),
                Some(Data::Sum(sum)) => points.numbers(name, &sum.data_points),
                Some(Data::Histogram(histogram)) => {
                    for point in &histogram.data_points {
                        points.push(name, point.time_unix_nano, point.sum, &point.attributes);
                    }
                }
                Some(Data::ExponentialHistogram(histogram)) => {
                    for point in &histogram.data_points {
                        points.push(name, point.time_unix_nano, point.sum, &point.attributes);
                    }
                }
                Some(Data::Summary(summary)) => {
                    for point in &summary.data_points {
                        points.push(name, point.time_unix_nano, Some(point.sum), &point.attributes);
                    }
                }
                None => {}
            }
        }
    }
    points.finish()
}

struct Points {
    name: StringBuilder,
    time: Int64Builder,
    value: Float64Builder,
    attributes: MapBuilder<StringBuilder, StringBuilder>,
}

impl Default for Points {
    fn default() -> Self {
        Self {
            name: StringBuilder::new(),
            time: Int64Builder::new(),
            value: Float64Builder::new(),
            attributes: map_builder(),
        }
    }
}

impl Points {
    fn numbers(&mut self, name: &str, points: &[NumberDataPoint]) {
        for point in points {
            let value = match point.value {
                Some(number_data_point::Value::AsDouble(value)) => Some(value),
                Some(number_data_point::Value::AsInt(value)) => Some(value as f64),
                None => None,
            };
            self.push(name, point.time_unix_nano, value, &point.attributes);
        }
    }

    fn push(&mut self, name: &str, time: u64, value: Option<f64>, attributes: &[KeyValue]) {
        self.name.append_value(name);
        self.time.append_value(time as i64);
        self.value.append_option(value);
        append_attributes(&mut self.attributes, attributes);
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.name.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.value.finish()),
            Arc::new(self.attributes.finish()),
        ]
    }
}
