//! Bytes that are no request, and records that cannot be stored.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{DecodeError, Decoded, RowBuilder, Signal, decode, encode, json_to_protobuf};
use proptest::prelude::*;
use prost::Message;

use crate::generate;
use crate::rows::{RECEIVED, cell, logs, map, request, span, string, traces, validate};

/// Wraps bytes as field `number` of a message.
pub(crate) fn nest(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
    bytes.extend_from_slice(inner);
    bytes
}

/// A trace request whose one span consists of these bytes.
fn span_of(fields: &[u8]) -> Vec<u8> {
    nest(1, &nest(2, &nest(2, fields)))
}

fn error(signal: Signal, bytes: &[u8]) -> DecodeError {
    decode(signal, bytes, RECEIVED).expect_err("malformed")
}

#[track_caller]
fn assert_error(bytes: &[u8], message: &str, offset: usize, problem: &str) {
    let error = error(Signal::Traces, bytes);
    assert_eq!((error.message, error.offset), (message, offset), "{error}");
    assert!(error.problem.contains(problem), "{error} does not say {problem}");
}

#[test]
fn a_truncated_varint_is_refused() {
    assert_error(&span_of(&[0x30, 0xff, 0xff]), "Span", 7, "ends within a varint");
    assert_error(&[0x8a], "ExportTraceServiceRequest", 0, "ends within a varint");
}

#[test]
fn an_overlong_varint_is_refused() {
    let mut fields = vec![0x30];
    fields.extend([0xff; 10]);
    fields.push(0x01);
    assert_error(&span_of(&fields), "Span", 7, "longer than 64 bits");
    let mut tenth = vec![0x30];
    tenth.extend([0xff; 9]);
    tenth.push(0x02);
    assert_error(&span_of(&tenth), "Span", 7, "longer than 64 bits");
}

#[test]
fn a_wrong_wire_type_names_the_field() {
    assert_error(&span_of(&[0x28, 1]), "Span", 7, "field 5 `name` has wire type 0, not 2");
    assert_error(&span_of(&[0x3a, 0]), "Span", 7, "field 7 `startTimeUnixNano` has wire type 2, not 1");
    assert_error(&[0x09], "ExportTraceServiceRequest", 1, "field 1 `resourceSpans` has wire type 1, not 2");
}

#[test]
fn groups_field_zero_and_wire_types_that_do_not_exist_are_refused() {
    assert_error(&span_of(&[0xfb, 1, 0xfc, 1]), "Span", 8, "is a group");
    assert_error(&span_of(&[0x00, 0]), "Span", 6, "field number 0");
    assert_error(&span_of(&[0xfe, 1, 0]), "Span", 8, "wire type 6, which does not exist");
    let mut huge = vec![0xfa, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
    huge.push(0);
    assert_error(&huge, "ExportTraceServiceRequest", 0, "is too large");
}

#[test]
fn unknown_fields_are_skipped() {
    let mut fields = span("kept").encode_to_vec();
    fields.extend([0xf8, 6, 5, 0xf9, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 6, 2, 0xff, 0xff, 0xfd, 6, 1, 2, 3, 4]);
    let batch = decode(Signal::Traces, &span_of(&fields), RECEIVED).expect("unknown fields are fine").batch;
    assert_eq!(cell(&batch, "name", 0).as_deref(), Some("kept"));
}

#[test]
fn a_gigabyte_length_prefix_is_refused() {
    assert_error(&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x04], "ExportTraceServiceRequest", 6, "1073741824 bytes are needed");
    let mut all = vec![0x0a];
    all.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert_error(&all, "ExportTraceServiceRequest", 11, "18446744073709551615 bytes are needed");
    // A length that fits the request but not the message it stands in.
    let mut overlapping = span_of(&[0x2a, 5, b'a']);
    overlapping.extend(nest(1, &[]));
    assert_error(&overlapping, "Span", 8, "5 bytes are needed, and 1 remain in the message");
}

#[test]
fn text_that_is_not_utf8_names_its_field_wherever_it_stands() {
    let good = span("x").encode_to_vec();
    let with = |extra: &[u8]| {
        let mut fields = good.clone();
        fields.extend_from_slice(extra);
        error(Signal::Traces, &span_of(&fields))
    };
    let entry = |key: &[u8], value: &[u8]| [nest(1, key), nest(2, &nest(1, value))].concat();
    for (extra, message, field) in [
        (nest(5, b"\xff"), "Span", "name"),
        (nest(3, b"a\xc3"), "Span", "traceState"),
        (nest(9, &entry(b"\x80", b"x")), "KeyValue", "key"),
        (nest(9, &entry(b"x", b"\xe2\x82")), "AnyValue", "stringValue"),
        (nest(15, &nest(2, b"\xf0")), "Status", "message"),
        (nest(11, &nest(2, b"\xf0")), "Event", "name"),
        (nest(13, &nest(3, b"\xf0")), "Link", "traceState"),
        (
            nest(9, &[nest(1, b"k"), nest(2, &nest(6, &nest(1, &entry(b"a", b"\xff"))))].concat()),
            "AnyValue",
            "stringValue",
        ),
    ] {
        let error = with(&extra);
        assert_eq!(error.message, message, "{error}");
        assert_eq!(error.problem, format!("`{field}` is not valid UTF-8"));
    }
    // Two strings that are UTF-8 only when put together.
    let halves = [nest(9, &entry(b"a", b"\xc3")), nest(9, &entry(b"b", b"\xa9"))].concat();
    assert_eq!(with(&halves).message, "AnyValue");
    for (bytes, field) in [
        (nest(1, &nest(1, &nest(1, &entry(b"service.name", b"\xff")))), "stringValue"),
        (nest(1, &nest(3, b"\xff")), "schemaUrl"),
        (nest(1, &nest(2, &nest(1, &nest(1, b"\xff")))), "name"),
        (nest(1, &nest(1, &nest(3, &nest(1, b"\xff")))), "schemaUrl"),
    ] {
        assert_eq!(error(Signal::Traces, &bytes).problem, format!("`{field}` is not valid UTF-8"));
    }
}

fn nested_body(levels: usize) -> Vec<u8> {
    let mut value = AnyValue { value: Some(Value::BoolValue(true)) }.encode_to_vec();
    for _ in 0..levels {
        value = nest(5, &nest(1, &value));
    }
    nest(1, &nest(2, &nest(2, &nest(5, &value))))
}

#[test]
fn a_nesting_bomb_is_refused_and_says_so() {
    let batch = decode(Signal::Logs, &nested_body(64), RECEIVED).expect("64 levels are fine").batch;
    let out = encode(Signal::Logs, &[batch]).expect("and come back");
    assert!(ExportLogsServiceRequest::decode(out.as_slice()).is_err(), "upstream stops at 100 messages, not we");
    for levels in [65, 5_000] {
        let error = error(Signal::Logs, &nested_body(levels));
        assert!(error.problem.contains("nest deeper than 64 levels"), "{error}");
    }
}

#[test]
fn spans_with_bad_ids_are_left_out_and_counted() {
    let broken = |change: &dyn Fn(&mut Span)| {
        let mut broken = span("broken");
        broken.attributes = vec![string("http.route", "/x"), string("a", "b")];
        broken.events = vec![Event { name: "e".to_owned(), ..Event::default() }];
        broken.links = vec![Link { trace_state: "t".to_owned(), ..Link::default() }];
        change(&mut broken);
        broken
    };
    for (change, reason) in [
        (
            &(|span: &mut Span| span.trace_id = vec![1; 15]) as &dyn Fn(&mut Span),
            "`trace_id` of a span has 15 bytes, not 16",
        ),
        (&|span: &mut Span| span.trace_id = vec![0; 16], "`trace_id` of a span is all zero"),
        (&|span: &mut Span| span.trace_id = vec![], "`trace_id` of a span has 0 bytes, not 16"),
        (&|span: &mut Span| span.span_id = vec![1; 9], "`span_id` of a span has 9 bytes, not 8"),
        (&|span: &mut Span| span.span_id = vec![0; 8], "`span_id` of a span is all zero"),
        (&|span: &mut Span| span.parent_span_id = vec![1; 7], "`parent_span_id` of a span has 7 bytes, not 8"),
        (
            &|span: &mut Span| span.start_time_unix_nano = 1 << 63,
            "`start_time_unix_nano` is 9223372036854775808, which is past",
        ),
        (&|span: &mut Span| span.end_time_unix_nano = u64::MAX, "`end_time_unix_nano` is"),
        (&|span: &mut Span| span.events[0].time_unix_nano = u64::MAX, "`events.time_unix_nano` is"),
    ] {
        let mut good = span("good");
        good.attributes = vec![string("k", "v")];
        good.events = vec![Event { name: "kept".to_owned(), ..Event::default() }];
        let Decoded { batch, rejected, .. } =
            traces(&request(vec![], vec![good.clone(), broken(change), good.clone(), broken(change)]));
        validate(&batch);
        assert_eq!((batch.num_rows(), rejected.count), (2, 2), "{reason}");
        assert!(rejected.reason.contains(reason), "{} does not say {reason}", rejected.reason);
        assert_eq!(
            batch,
            traces(&request(vec![], vec![good.clone(), good])).batch,
            "the rest is as if it had been alone"
        );
    }
}

#[test]
fn logs_and_points_of_the_far_future_are_left_out_and_counted() {
    let late = |time_unix_nano, observed_time_unix_nano| LogRecord {
        time_unix_nano,
        observed_time_unix_nano,
        attributes: vec![string("a", "b")],
        ..LogRecord::default()
    };
    let Decoded { batch, rejected, .. } = logs(vec![late(u64::MAX, 0), late(1, 1), late(1, 1 << 63)]);
    validate(&batch);
    assert_eq!((batch.num_rows(), rejected.count), (1, 2));
    assert!(rejected.reason.contains("past the year 2262"), "{}", rejected.reason);

    let point = |time_unix_nano| NumberDataPoint {
        time_unix_nano,
        attributes: vec![string("a", "b")],
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "m".to_owned(),
        metadata: vec![string("m", "n")],
        data: Some(Data::Gauge(Gauge { data_points: vec![point(u64::MAX), point(0), point(3)] })),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let request = opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest { resource_metrics };
    let Decoded { batch, rejected, .. } =
        decode(Signal::Metrics, &request.encode_to_vec(), RECEIVED).expect("well-formed");
    validate(&batch);
    assert_eq!((batch.num_rows(), rejected.count), (2, 1));
}

#[test]
fn times_of_zero_are_kept_and_a_span_may_end_before_it_starts() {
    let mut backwards = span("b");
    backwards.end_time_unix_nano = 0;
    let Decoded { batch, rejected, .. } = traces(&request(vec![], vec![backwards]));
    assert_eq!((batch.num_rows(), rejected.count), (1, 0));
    let duration = batch.column_by_name("duration_ns").expect("the column exists");
    use arrow::array::AsArray;
    assert_eq!(duration.as_primitive::<arrow::datatypes::Int64Type>().value(0), -1_700_000_000_000_000_000);
}

#[test]
fn duplicate_keys_keep_their_order() {
    let mut twice = span("t");
    twice.attributes = vec![
        string("k", "1"),
        string("j", "2"),
        string("k", "3"),
        string("http.route", "/a"),
        string("http.route", "/b"),
    ];
    let batch = traces(&request(vec![], vec![twice])).batch;
    let keys: Vec<_> = map(&batch, "attributes", 0).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["k", "j", "k", "http.route", "http.route"]);
    assert_eq!(cell(&batch, "http_route", 0).as_deref(), Some("/a"), "the first counts");
}

#[test]
fn an_array_keeps_bytes_and_odd_doubles_apart_from_lists_that_look_like_them() {
    let value = |value| AnyValue { value: Some(value) };
    let look_alike = Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList {
        values: vec![string("$bytes", "AQI=")],
    });
    let body = value(Value::ArrayValue(ArrayValue {
        values: vec![
            value(Value::BytesValue(vec![1, 2])),
            value(look_alike),
            value(Value::DoubleValue(f64::NEG_INFINITY)),
        ],
    }));
    let batch = logs(vec![LogRecord { body: Some(body), ..LogRecord::default() }]).batch;
    let text = cell(&batch, "body", 0).expect("there is a body");
    assert_eq!(text, r#"[{"$bytes":"AQI="},{"$$bytes":"AQI="},{"$double":"-Infinity"}]"#);
    assert_eq!(cell(&batch, "body_type", 0).as_deref(), Some("a"));
}

/// Whatever the bytes, there is an answer; rows that come of them are valid and encode again.
fn survives(signal: Signal, bytes: &[u8]) {
    if let Ok(decoded) = decode(signal, bytes, UnixNanos(1)) {
        validate(&decoded.batch);
        let out = encode(signal, std::slice::from_ref(&decoded.batch)).expect("decoded rows encode");
        let again = decode(signal, &out, UnixNanos(1)).expect("what is encoded decodes");
        assert_eq!(again.batch.num_rows(), decoded.batch.num_rows());
    }
}

/// Changes to a request: at a place (of 2^16 along it), do one of four things with a byte.
pub(crate) fn mutations() -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    proptest::collection::vec((any::<u16>(), 0..5_u8, any::<u8>()), 1..6)
}

pub(crate) fn mutate(bytes: &mut Vec<u8>, changes: &[(u16, u8, u8)]) {
    for (place, change, byte) in changes {
        if bytes.is_empty() {
            return;
        }
        let at = usize::from(*place) * bytes.len() / (1 << 16);
        match change {
            0 => bytes[at] = *byte,
            1 => bytes[at] ^= 1 << (byte & 7),
            2 => bytes.insert(at, *byte),
            3 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
}

/// How many mutations are tried: 1024, times `PLIMSOLL_MUTATIONS`.
fn cases() -> u32 {
    let times = std::env::var("PLIMSOLL_MUTATIONS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    1024_u32.saturating_mul(times)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn random_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        Signal::ALL.into_iter().for_each(|signal| {
            survives(signal, &bytes);
            drop(json_to_protobuf(signal, &bytes));
        });
    }

    #[test]
    fn mutated_traces_get_an_answer(request in generate::traces(), changes in mutations()) {
        let mut bytes = request.encode_to_vec();
        mutate(&mut bytes, &changes);
        survives(Signal::Traces, &bytes);
    }

    #[test]
    fn mutated_logs_get_an_answer(request in generate::logs(), changes in mutations()) {
        let mut bytes = request.encode_to_vec();
        mutate(&mut bytes, &changes);
        survives(Signal::Logs, &bytes);
    }

    #[test]
    fn mutated_metrics_get_an_answer(request in generate::metrics(), changes in mutations()) {
        let mut bytes = request.encode_to_vec();
        mutate(&mut bytes, &changes);
        survives(Signal::Metrics, &bytes);
    }
}

#[test]
fn millions_of_empty_records_are_refused_before_they_fill_memory() {
    let records = [0x12, 0].repeat(plimsoll_otlp::REQUEST_ROWS_MAX + 1);
    let error = error(Signal::Logs, &nest(1, &nest(2, &records)));
    assert!(error.problem.contains("more than 262144 records; send smaller batches"), "{error}");
    let events = span_of(&[[0x5a, 0].repeat(plimsoll_otlp::REQUEST_ROWS_MAX + 1), span("x").encode_to_vec()].concat());
    let error = decode(Signal::Traces, &events, RECEIVED).expect_err("too many events");
    assert!(error.problem.contains("send smaller batches"), "{error}");
}

/// A request of one gauge with these fields beside its points, which say nothing.
fn gauge_of(fields: &[Vec<u8>], points: usize) -> Vec<u8> {
    let gauge = nest(5, &[0x0a, 0].repeat(points));
    nest(1, &nest(2, &nest(2, &[fields.concat(), gauge].concat())))
}

#[test]
fn a_metric_whose_text_would_fill_memory_on_all_its_points_is_refused_before_it_does() {
    let text = vec![b'a'; 1 << 20];
    let metadata = nest(12, &nest(1, &text));
    let entries = nest(12, &[]).repeat(1 << 12);
    for (what, fields) in [
        ("name", nest(1, &text)),
        ("description", nest(2, &text)),
        ("unit", nest(3, &text)),
        ("metadata", metadata),
        ("metadata without text", entries),
    ] {
        let bytes = gauge_of(&[fields], 1 << 17);
        let error = error(Signal::Metrics, &bytes);
        assert_eq!(error.message, "Metric", "{what}");
        assert!(error.problem.ends_with("shorten them or send fewer points in a request"), "{what}: {error}");
        let mut joined = RowBuilder::new(Signal::Metrics);
        joined.push(&bytes, RECEIVED).expect_err("shared columns know the same bound");
        assert_eq!((joined.rows(), joined.bytes()), (0, 0), "{what}");
    }
    let many = gauge_of(&[nest(1, b"http.server.request.duration")], 1 << 17);
    assert_eq!(decode(Signal::Metrics, &many, RECEIVED).expect("an ordinary name").batch.num_rows(), 1 << 17);
}

/// A request of one metric whose data, field `data`, has one point of these fields.
fn point_of(data: u8, fields: &[u8]) -> Vec<u8> {
    nest(1, &nest(2, &nest(2, &nest(data, &nest(1, fields)))))
}

#[test]
fn records_with_millions_of_parts_are_refused_before_they_fill_memory() {
    let most = plimsoll_otlp::REQUEST_PARTS_MAX;
    let attribute = nest(9, &[]).repeat(most + 2);
    let halves: Vec<u8> = (0..3).flat_map(|_| nest(2, &nest(6, &[]).repeat(most / 2))).collect();
    for (what, signal, bytes) in [
        ("counts of an exponential histogram", Signal::Metrics, point_of(10, &nest(8, &nest(2, &vec![0; most + 2])))),
        ("its counts one by one", Signal::Metrics, point_of(10, &nest(9, &[0x10, 0].repeat(most + 2)))),
        ("counts of a histogram", Signal::Metrics, point_of(9, &nest(6, &vec![0; 8 * (most + 2)]))),
        ("its bounds", Signal::Metrics, point_of(9, &nest(7, &vec![0; 8 * (most + 2)]))),
        ("quantiles", Signal::Metrics, point_of(11, &nest(6, &[]).repeat(most + 2))),
        ("attributes of a span", Signal::Traces, span_of(&attribute)),
        ("attributes of several records", Signal::Logs, nest(1, &nest(2, &halves))),
        ("attributes of an event", Signal::Traces, span_of(&nest(11, &nest(3, &[]).repeat(most + 2)))),
    ] {
        let error = decode(signal, &bytes, RECEIVED).map(|decoded| decoded.batch.num_rows()).expect_err(what);
        assert!(error.is_too_large, "{what}: {error}");
        assert!(
            error.problem.contains("more than 2097152 attributes, buckets and quantiles; send smaller"),
            "{what}: {error}"
        );
        RowBuilder::new(signal).push(&bytes, RECEIVED).expect_err("shared columns know the same bound");
    }
    let fine = point_of(10, &nest(8, &nest(2, &vec![0; most])));
    let rows = decode(Signal::Metrics, &fine, RECEIVED).expect("no more than may be").batch.num_rows();
    assert_eq!(rows, 1);
}

#[test]
fn arrays_of_numbers_in_json_become_no_more_than_twice_their_text() {
    let json = |data: &str| format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{data}}}]}}]}}]}}"#);
    let histogram = |counts: &str| json(&format!(r#""histogram":{{"dataPoints":[{{"bucketCounts":[{counts}]}}]}}"#));
    let exponential = |counts: &str| {
        let point = format!(r#"{{"positive":{{"bucketCounts":[{counts}]}}}}"#);
        json(&format!(r#""exponentialHistogram":{{"dataPoints":[{point}]}}"#))
    };
    let counts = |n: usize| vec!["0"; n].join(",");
    let convert = |text: String| json_to_protobuf(Signal::Metrics, text.as_bytes());
    for few in [histogram(&counts(5)), exponential(&counts(5))] {
        let few = convert(few).expect("five numbers");
        assert_eq!(decode(Signal::Metrics, &few, RECEIVED).expect("decodes").batch.num_rows(), 1);
        assert!(few.len() < 60, "{} bytes: packed", few.len());
    }
    let problem = |text: String| convert(text).map(|bytes| bytes.len()).expect_err("too much").problem;
    let grown = problem(histogram(&counts(1 << 20)));
    assert!(grown.contains("may become; send smaller batches"), "{grown}");
    let long = problem(exponential(&counts((1 << 21) + 1)));
    assert!(long.contains("more than 2097152 numbers"), "{long}");
}

#[test]
fn a_log_with_an_id_of_the_wrong_length_is_kept_without_it_and_that_is_said() {
    let record = |trace: usize, span: usize| LogRecord {
        trace_id: vec![1; trace],
        span_id: vec![2; span],
        ..LogRecord::default()
    };
    let records = vec![record(16, 8), record(15, 8), record(16, 7), record(0, 0)];
    let decoded = logs(records);
    assert_eq!(decoded.batch.num_rows(), 4);
    assert_eq!((decoded.rejected.count, decoded.rejected.without_id), (0, 2));
    assert!(
        decoded.rejected.reason.starts_with("`trace_id` has 15 bytes and `span_id` 8"),
        "{}",
        decoded.rejected.reason
    );
}

#[test]
fn what_shared_columns_take_has_the_text_in_it_that_rows_have_copies_of() {
    let metadata = |text: &[u8]| nest(12, &[nest(1, b"k"), nest(2, &nest(1, text))].concat());
    let mut joined = RowBuilder::new(Signal::Metrics);
    let mut bytes = |field: Vec<u8>| joined.push(&gauge_of(&[field], 1_000), RECEIVED).expect("well-formed").bytes;
    let (short, long) = (bytes(metadata(b"a")), bytes(metadata(&[b'a'; 1_000])));
    assert!((999_000..1_001_000 + 3_000).contains(&(long - short)), "{short} and {long}");
    // A name stands once, however many points have it.
    let (brief, named) = (bytes(nest(1, b"a")), bytes(nest(1, &[b'a'; 1_000])));
    assert!((999..1_100).contains(&(named - brief)), "{brief} and {named}");
    assert_eq!(joined.bytes(), short + long + brief + named);
    assert!(joined.take().get_array_memory_size() >= 1_000_000);
}

#[test]
fn every_prefix_of_a_request_gets_an_answer() {
    let whole = Span { attributes: vec![string("http.route", "/a")], ..span("x") };
    let bytes = request(vec![string("service.name", "s")], vec![whole]).encode_to_vec();
    for end in 1..bytes.len() {
        assert!(decode(Signal::Traces, &bytes[..end], RECEIVED).is_err(), "cut at {end}");
    }
    let empty = ResourceLogs { scope_logs: vec![ScopeLogs::default()], ..ResourceLogs::default() };
    let bytes = ExportLogsServiceRequest { resource_logs: vec![empty] }.encode_to_vec();
    assert_eq!(decode(Signal::Logs, &bytes, RECEIVED).expect("empty levels are fine").batch.num_rows(), 0);
}
