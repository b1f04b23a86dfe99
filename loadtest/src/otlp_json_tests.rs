//! Held against the upstream serde reader where that one is right, and against the specification where it is not.

use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use serde_json::json;

use super::*;

#[test]
fn upstream_requests_written_as_json_come_back_as_they_were() {
    let shape = crate::Shape { run: "run".into(), instance: "a".into(), small: false, trace_len: 4 };
    for signal in Signal::ALL {
        for variant in 0..4 {
            let bytes = crate::records::request(signal, &shape, 100, variant);
            let json = match signal {
                Signal::Traces => serde_json::to_value(ExportTraceServiceRequest::decode(&bytes[..]).expect("ours")),
                Signal::Logs => serde_json::to_value(ExportLogsServiceRequest::decode(&bytes[..]).expect("ours")),
                Signal::Metrics => serde_json::to_value(ExportMetricsServiceRequest::decode(&bytes[..]).expect("ours")),
            };
            let json = json.expect("upstream types have a JSON form");
            assert_eq!(to_protobuf(signal, &json).as_ref(), Ok(&bytes), "{signal} {variant}");
        }
    }
}

fn point(point: Value) -> Read<Option<number_data_point::Value>> {
    let request = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [point]}}]}]}]});
    let bytes = to_protobuf(Signal::Metrics, &request)?;
    let request = ExportMetricsServiceRequest::decode(&bytes[..]).expect("we wrote it");
    match &request.resource_metrics[0].scope_metrics[0].metrics[0].data {
        Some(Data::Gauge(gauge)) => Ok(gauge.data_points[0].value),
        other => panic!("the gauge became {other:?}"),
    }
}

#[test]
fn sixty_four_bit_integers_are_exact_as_text_and_as_numbers() {
    let exact = 9_007_199_254_740_993_i64;
    assert_eq!(point(json!({"asInt": exact.to_string()})), Ok(Some(number_data_point::Value::AsInt(exact))));
    assert_eq!(point(json!({"asInt": exact})), Ok(Some(number_data_point::Value::AsInt(exact))));
    assert_eq!(point(json!({"asInt": "-5"})), Ok(Some(number_data_point::Value::AsInt(-5))));
    assert_eq!(point(json!({"asDouble": "Infinity"})), Ok(Some(number_data_point::Value::AsDouble(f64::INFINITY))));
    assert_eq!(point(json!({"asDouble": 3})), Ok(Some(number_data_point::Value::AsDouble(3.0))));
}

#[test]
fn a_number_that_cannot_be_read_is_an_error_that_says_where() {
    let problem = point(json!({"asInt": "12x"})).expect_err("12x is no integer");
    assert_eq!(problem.at, "resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[0].asInt", "{problem}");
    assert!(point(json!({"asInt": "9223372036854775808"})).is_err(), "one past the largest");
    assert!(point(json!({"timeUnixNano": -1})).is_err(), "times have no sign");
}

#[test]
fn nulls_are_absent_and_unknown_names_are_passed_over() {
    assert_eq!(point(json!({"asInt": null, "timeUnixNano": null, "later": {"x": [1]}})), Ok(None));
}

#[test]
fn values_of_every_kind_are_read() {
    let value = |value: Value| any_value(&value).map(|read| read.value);
    use any_value::Value as Any;
    assert_eq!(value(json!({"intValue": "7"})), Ok(Some(Any::IntValue(7))));
    assert_eq!(value(json!({"bytesValue": "aGk="})), Ok(Some(Any::BytesValue(b"hi".to_vec()))));
    assert_eq!(value(json!({"arrayValue": {}})), Ok(Some(Any::ArrayValue(ArrayValue { values: vec![] }))));
    assert_eq!(value(json!({"newValue": 1})), Ok(None));
    assert_eq!(value(json!({})), Ok(None));
    assert!(value(json!({"boolValue": "true"})).is_err());
}
