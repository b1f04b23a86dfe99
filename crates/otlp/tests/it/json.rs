//! OTLP/JSON against the rows it becomes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use plimsoll_otlp::{Signal, decode, encode, json_to_protobuf};
use prost::Message;

use crate::rows::{RECEIVED, cell, map, validate};

fn rows(signal: Signal, json: &str) -> RecordBatch {
    let request = json_to_protobuf(signal, json.as_bytes()).expect("well-formed OTLP/JSON");
    let batch = decode(signal, &request, RECEIVED).expect("what is written can be read").batch;
    validate(&batch);
    batch
}

fn problem(signal: Signal, json: &str) -> String {
    json_to_protobuf(signal, json.as_bytes()).expect_err("malformed OTLP/JSON").to_string()
}

const TRACES: &str = r#"{
  "resourceSpans": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart \u00e9\ud83d\ude00"}}]},
    "schemaUrl": "https://example.com/1",
    "scopeSpans": [{
      "scope": {"name": "shop", "version": "1"},
      "spans": [{
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "eee19b7ec3c1b174",
        "parentSpanId": "",
        "name": "I'm a server span",
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": 1544712661000000000,
        "kind": "SPAN_KIND_SERVER",
        "droppedAttributesCount": null,
        "status": {"code": 2, "message": "no"},
        "somethingNew": {"deep": [1, {"x": null}]},
        "attributes": [
          {"key": "big", "value": {"intValue": "-9223372036854775808"}},
          {"key": "number", "value": {"intValue": 503}},
          {"key": "http.status_code", "value": {"intValue": "503"}},
          {"key": "raw", "value": {"bytesValue": "-_8"}},
          {"key": "nan", "value": {"doubleValue": "NaN"}},
          {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": true}, {}, {"kvlistValue": {"values": [{"key": "k", "value": {"doubleValue": 2}}]}}]}}},
          {"key": "none"}
        ]
      }]
    }]
  }]
}"#;

#[test]
fn a_json_span_becomes_the_row_it_describes() {
    let batch = rows(Signal::Traces, TRACES);
    let column = |name: &str| batch.column_by_name(name).expect("the column exists").clone();
    assert_eq!(batch.num_rows(), 1);
    assert_eq!(cell(&batch, "service_name", 0).as_deref(), Some("cart é😀"));
    assert_eq!(column("trace_id").as_fixed_size_binary().value(0)[..3], [0x5b, 0x8e, 0xff]);
    assert!(column("parent_span_id").is_null(0));
    assert_eq!(column("start_time").as_primitive::<TimestampNanosecondType>().value(0), 1_544_712_660_000_000_000);
    assert_eq!(column("duration_ns").as_primitive::<Int64Type>().value(0), 1_000_000_000);
    assert_eq!(column("kind").as_primitive::<Int32Type>().value(0), 2);
    assert_eq!(column("http_response_status_code").as_primitive::<Int32Type>().value(0), 503);
    assert_eq!(cell(&batch, "attribute_types", 0).as_deref(), Some("iiiydan"));
    let values: Vec<_> = map(&batch, "attributes", 0).into_iter().map(|(_, value)| value).collect();
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(
        values,
        [
            text("-9223372036854775808"),
            text("503"),
            text("503"),
            text("+/8="),
            text("NaN"),
            text(r#"[true,null,{"k":2.0}]"#),
            None
        ]
    );
}

#[test]
fn snake_case_names_mean_the_same() {
    let snake = TRACES
        .replace("resourceSpans", "resource_spans")
        .replace("scopeSpans", "scope_spans")
        .replace("traceId", "trace_id")
        .replace("startTimeUnixNano", "start_time_unix_nano")
        .replace("stringValue", "string_value");
    assert_eq!(rows(Signal::Traces, &snake), rows(Signal::Traces, TRACES));
}

#[test]
fn json_points_keep_presence_and_64_bits() {
    let batch = rows(
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
            {"name":"hits","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","isMonotonic":true,
                "dataPoints":[{"asInt":"9007199254740993","timeUnixNano":"5"},{"asDouble":1}]}},
            {"name":"size","histogram":{"aggregationTemporality":2,"dataPoints":[
                {"count":"18446744073709551615","sum":0,"bucketCounts":["1",2],"explicitBounds":[1.5,"Infinity"]}]}},
            {"name":"expo","exponentialHistogram":{"dataPoints":[{"scale":-3,"positive":{"offset":-7,"bucketCounts":["4"]}}]}}
        ]}]}]}"#,
    );
    let column = |name: &str| batch.column_by_name(name).expect("the column exists").clone();
    assert_eq!(batch.num_rows(), 4);
    assert_eq!(column("value_int").as_primitive::<Int64Type>().value(0), 9_007_199_254_740_993);
    assert!(column("value_int").is_null(1));
    assert_eq!(column("value").as_primitive::<Float64Type>().value(1), 1.0);
    assert_eq!(column("temporality").as_primitive::<Int32Type>().value(0), 1);
    assert_eq!(column("count").as_primitive::<UInt64Type>().value(2), u64::MAX);
    assert!(column("sum").is_valid(2) && column("min").is_null(2));
    let bounds = column("explicit_bounds").as_list::<i32>().value(2);
    assert_eq!(bounds.as_primitive::<Float64Type>().values()[..], [1.5, f64::INFINITY]);
    assert_eq!(column("scale").as_primitive::<Int32Type>().value(3), -3);
    assert_eq!(column("positive_offset").as_primitive::<Int32Type>().value(3), -7);
    assert!(column("negative_offset").is_null(3));
}

#[test]
fn json_and_protobuf_of_one_request_are_the_same_request() {
    let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[
        {"timeUnixNano":"7","severityNumber":"SEVERITY_NUMBER_WARN2","severityText":"W","body":{"stringValue":""},
         "eventName":"e","flags":1,"traceId":"00000000000000000000000000000001","spanId":"0000000000000002"}]}]}]}"#;
    let request = json_to_protobuf(Signal::Logs, json.as_bytes()).expect("well-formed OTLP/JSON");
    let upstream = ExportLogsServiceRequest::decode(request.as_slice()).expect("upstream reads it");
    let record = &upstream.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.time_unix_nano, record.severity_number, record.flags), (7, 14, 1));
    let again = encode(Signal::Logs, &[rows(Signal::Logs, json)]).expect("rows encode");
    assert_eq!(ExportLogsServiceRequest::decode(again.as_slice()).expect("upstream reads it"), upstream);
}

#[test]
fn an_empty_object_is_an_empty_request() {
    assert_eq!(rows(Signal::Traces, " {} ").num_rows(), 0);
    assert_eq!(rows(Signal::Traces, r#"{"resourceSpans":null}"#).num_rows(), 0);
}

#[test]
fn an_error_names_the_path_of_the_field() {
    let spans = |inner: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{}},{inner}]}}]}}]}}"#);
    for (json, expected) in [
        (
            spans(r#"{"traceId":"xyz"}"#),
            "at `resourceSpans[0].scopeSpans[0].spans[1].traceId`: `xyz` is not hexadecimal",
        ),
        (spans(r#"{"kind":"SERVER"}"#), "spans[1].kind`: `SERVER` is neither a number nor a name"),
        (spans(r#"{"startTimeUnixNano":"-1"}"#), "startTimeUnixNano`: `-1` is not an integer of 64 bits"),
        (spans(r#"{"droppedLinksCount":1.5}"#), "`1.5` is not an integer of 32 bits"),
        (spans(r#"{"attributes":{}}"#), "spans[1].attributes`: it must be an array"),
        (spans(r#"{"attributes":[{"key":1}]}"#), "attributes[0].key`: it must be a string"),
        (spans(r#"{"status":[]}"#), "status`: `Status` must be an object"),
        (spans(r#"{"name":"\ud800"}"#), "half a character"),
        (spans(r#"{"name":"a"#), "is not closed"),
        (r#"{"resourceSpans":[]} x"#.to_owned(), "expected the end"),
        (r#"{"resourceSpans":[],}"#.to_owned(), "expected"),
        (String::new(), "expected a JSON value"),
        ("[]".to_owned(), "must be an object"),
    ] {
        let problem = problem(Signal::Traces, &json);
        assert!(problem.contains(expected), "{problem} does not say {expected}");
    }
    let error = json_to_protobuf(Signal::Logs, b"{\"a\":\"\xff\"}").expect_err("not UTF-8").to_string();
    assert!(error.contains("not valid UTF-8 from byte 6 on"), "{error}");
}

#[test]
fn nesting_bombs_are_refused_in_known_and_unknown_fields() {
    let unknown = format!(r#"{{"x":{}"#, "[".repeat(100_000));
    assert!(problem(Signal::Traces, &unknown).contains("nests too deep"));
    let value = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(50_000), r#"]}}"#.repeat(50_000));
    let known = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{value}}}]}}]}}]}}"#);
    assert!(problem(Signal::Logs, &known).contains("values nest deeper than 64 levels"));
}

#[test]
fn of_values_and_names_as_long_as_the_request_a_message_tells_the_beginning() {
    let long = "é".repeat(1 << 19);
    let span = |field: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{field}}}]}}]}}]}}"#);
    for (field, words) in [
        (format!(r#""traceId":"{long}""#), "is not hexadecimal"),
        (format!(r#""startTimeUnixNano":"{long}""#), "is not an integer of 64 bits"),
        (format!(r#""startTimeUnixNano":1{}.5"#, "0".repeat(1 << 20)), "is not an integer of 64 bits"),
        (format!(r#""kind":"{long}""#), "is neither a number nor a name"),
        (format!(r#""attributes":[{{"key":"k","value":{{"doubleValue":"{long}"}}}}]"#), "is not a number"),
        (format!(r#""attributes":[{{"key":"k","value":{{"bytesValue":"{long}"}}}}]"#), "is not base64"),
    ] {
        let problem = problem(Signal::Traces, &span(&field));
        assert!(problem.len() < 300 && problem.contains(words), "{} bytes: {problem:.400}", problem.len());
        assert!(problem.contains("..` of 10485"), "how long it is: {problem:.400}");
    }
    let problem = problem(Signal::Traces, &span(&format!(r#""{long}":nonsense"#)));
    assert!(problem.len() < 300 && problem.contains("spans[0].éé"), "{} bytes: {problem:.400}", problem.len());
}
