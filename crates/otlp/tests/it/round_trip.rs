//! OTLP in, rows, OTLP out, equal.
//!
//! Requests are compared by their bytes, as upstream encodes them: NaN is not equal to itself.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, Metric};
use plimsoll_otlp::{Signal, decode, encode};
use proptest::prelude::*;
use prost::Message;

use crate::generate;
use crate::rows::{RECEIVED, validate};

fn fill_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(fill_value),
        Some(Value::KvlistValue(list)) => fill(&mut list.values),
        _ => {}
    }
}

/// An entry without a value means one with an empty value.
fn fill(attributes: &mut [KeyValue]) {
    attributes.iter_mut().for_each(|entry| fill_value(entry.value.get_or_insert_default()));
}

fn fill_exemplars(exemplars: &mut [Exemplar]) {
    exemplars.iter_mut().for_each(|exemplar| fill(&mut exemplar.filtered_attributes));
}

/// Merges neighbours and strangers alike: items with one key become one, in the order of the first.
fn merge<T>(items: Vec<T>, key: impl Fn(&T) -> Vec<u8>, join: impl Fn(&mut T, T)) -> Vec<T> {
    let mut merged: Vec<(Vec<u8>, T)> = Vec::new();
    for item in items {
        let name = key(&item);
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some((_, first)) => join(first, item),
            None => merged.push((name, item)),
        }
    }
    merged.into_iter().map(|(_, item)| item).collect()
}

macro_rules! canonical {
    ($request:ident, $resources:ident, $scopes:ident, $records:ident) => {{
        for resource in &mut $request.$resources {
            resource.$scopes.retain(|scope| !scope.$records.is_empty());
            resource.$scopes = merge(
                std::mem::take(&mut resource.$scopes),
                |scope| {
                    let mut head = scope.clone();
                    head.$records.clear();
                    head.encode_to_vec()
                },
                |first, more| first.$records.extend(more.$records),
            );
        }
        $request.$resources.retain(|resource| !resource.$scopes.is_empty());
        $request.$resources = merge(
            $request.$resources,
            |resource| {
                let mut head = resource.clone();
                head.$scopes.clear();
                head.encode_to_vec()
            },
            |first, more| {
                first.$scopes.extend(more.$scopes);
                first.$scopes = merge(
                    std::mem::take(&mut first.$scopes),
                    |scope| {
                        let mut head = scope.clone();
                        head.$records.clear();
                        head.encode_to_vec()
                    },
                    |first, more| first.$records.extend(more.$records),
                );
            },
        );
    }};
}

fn canonical_traces(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    canonical!(request, resource_spans, scope_spans, spans);
    let scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
    for span in scopes.flat_map(|scope| &mut scope.spans) {
        fill(&mut span.attributes);
        span.events.iter_mut().for_each(|event| fill(&mut event.attributes));
        span.links.iter_mut().for_each(|link| fill(&mut link.attributes));
    }
    request
}

fn canonical_logs(mut request: ExportLogsServiceRequest) -> ExportLogsServiceRequest {
    canonical!(request, resource_logs, scope_logs, log_records);
    let scopes = request.resource_logs.iter_mut().flat_map(|resource| &mut resource.scope_logs);
    for record in scopes.flat_map(|scope| &mut scope.log_records) {
        fill(&mut record.attributes);
        record.body.iter_mut().for_each(fill_value);
    }
    request
}

fn points(data: &Data) -> usize {
    match data {
        Data::Gauge(data) => data.data_points.len(),
        Data::Sum(data) => data.data_points.len(),
        Data::Histogram(data) => data.data_points.len(),
        Data::ExponentialHistogram(data) => data.data_points.len(),
        Data::Summary(data) => data.data_points.len(),
    }
}

fn clear(data: &mut Data) {
    match data {
        Data::Gauge(data) => data.data_points.clear(),
        Data::Sum(data) => data.data_points.clear(),
        Data::Histogram(data) => data.data_points.clear(),
        Data::ExponentialHistogram(data) => data.data_points.clear(),
        Data::Summary(data) => data.data_points.clear(),
    }
}

fn join(first: &mut Metric, more: Metric) {
    match (first.data.as_mut().expect("it has points"), more.data.expect("it has points")) {
        (Data::Gauge(first), Data::Gauge(more)) => first.data_points.extend(more.data_points),
        (Data::Sum(first), Data::Sum(more)) => first.data_points.extend(more.data_points),
        (Data::Histogram(first), Data::Histogram(more)) => first.data_points.extend(more.data_points),
        (Data::ExponentialHistogram(first), Data::ExponentialHistogram(more)) => {
            first.data_points.extend(more.data_points);
        }
        (Data::Summary(first), Data::Summary(more)) => first.data_points.extend(more.data_points),
        _ => panic!("metrics of one key have one type"),
    }
}

fn fill_metric(metric: &mut Metric) {
    fill(&mut metric.metadata);
    match metric.data.as_mut().expect("it has points") {
        Data::Gauge(data) => data.data_points.iter_mut().for_each(|point| {
            fill(&mut point.attributes);
            fill_exemplars(&mut point.exemplars);
        }),
        Data::Sum(data) => data.data_points.iter_mut().for_each(|point| {
            fill(&mut point.attributes);
            fill_exemplars(&mut point.exemplars);
        }),
        Data::Histogram(data) => data.data_points.iter_mut().for_each(|point| {
            fill(&mut point.attributes);
            fill_exemplars(&mut point.exemplars);
        }),
        Data::ExponentialHistogram(data) => data.data_points.iter_mut().for_each(|point| {
            fill(&mut point.attributes);
            fill_exemplars(&mut point.exemplars);
        }),
        Data::Summary(data) => data.data_points.iter_mut().for_each(|point| fill(&mut point.attributes)),
    }
}

fn canonical_metrics(mut request: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest {
    for scope in request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics) {
        scope.metrics.retain(|metric| metric.data.as_ref().is_some_and(|data| points(data) > 0));
        scope.metrics.iter_mut().for_each(fill_metric);
    }
    canonical!(request, resource_metrics, scope_metrics, metrics);
    for scope in request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics) {
        scope.metrics = merge(
            std::mem::take(&mut scope.metrics),
            |metric| {
                let mut head = metric.clone();
                head.data.iter_mut().for_each(clear);
                head.encode_to_vec()
            },
            join,
        );
    }
    request
}

fn rows(signal: Signal, request: &[u8]) -> RecordBatch {
    let decoded = decode(signal, request, RECEIVED).expect("an encoder's request is well-formed");
    assert_eq!(decoded.rejected.count, 0, "{}", decoded.rejected.reason);
    validate(&decoded.batch);
    decoded.batch
}

/// Encodes rows whole, in slices, and put together again, which must all be one.
fn back<M: Message + Default + PartialEq>(signal: Signal, batch: &RecordBatch) -> M {
    let whole = encode(signal, std::slice::from_ref(batch)).expect("decoded rows encode");
    let middle = batch.num_rows() / 2;
    let slices = [batch.slice(0, middle), batch.slice(middle, batch.num_rows() - middle)];
    assert_eq!(encode(signal, &slices).expect("slices encode"), whole);
    let joined = concat_batches(batch.schema_ref(), &slices).expect("slices of one batch join");
    assert_eq!(encode(signal, &[joined]).expect("joined rows encode"), whole);
    M::decode(whole.as_slice()).expect("upstream reads what was encoded")
}

proptest! {
    #[test]
    fn traces_come_back_as_they_went_in(request in generate::traces()) {
        let batch = rows(Signal::Traces, &request.encode_to_vec());
        let out: ExportTraceServiceRequest = back(Signal::Traces, &batch);
        let expected = canonical_traces(request);
        prop_assert!(out.encode_to_vec() == expected.encode_to_vec(), "{out:#?}\n{expected:#?}");
    }

    #[test]
    fn logs_come_back_as_they_went_in(request in generate::logs()) {
        let batch = rows(Signal::Logs, &request.encode_to_vec());
        let out: ExportLogsServiceRequest = back(Signal::Logs, &batch);
        let expected = canonical_logs(request);
        prop_assert!(out.encode_to_vec() == expected.encode_to_vec(), "{out:#?}\n{expected:#?}");
    }

    #[test]
    fn metrics_come_back_as_they_went_in(request in generate::metrics()) {
        let batch = rows(Signal::Metrics, &request.encode_to_vec());
        let out: ExportMetricsServiceRequest = back(Signal::Metrics, &batch);
        let expected = canonical_metrics(request);
        prop_assert!(out.encode_to_vec() == expected.encode_to_vec(), "{out:#?}\n{expected:#?}");
    }
}
