//! Requests that share columns become the rows that each becomes alone, whatever comes between them.

use arrow::array::AsArray;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{RowBuilder, Signal, decode};
use proptest::prelude::*;
use prost::Message;

use crate::generate;
use crate::malformed::{mutate, mutations};
use crate::rows::{request, span, string, validate};

/// A request, and what damages it.
type Sent = (Vec<u8>, Option<Vec<(u16, u8, u8)>>);

/// Encoded requests of one signal, every third of them damaged.
fn requests(encoded: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<Vec<Sent>>> {
    let damage = prop_oneof![2 => Just(None), 1 => mutations().prop_map(Some)];
    // Groups: the columns are taken after each.
    proptest::collection::vec(proptest::collection::vec((encoded, damage), 0..6), 1..4)
}

fn same(signal: Signal, groups: Vec<Vec<Sent>>) {
    let mut builder = RowBuilder::new(signal);
    for group in groups {
        let mut expected = Vec::new();
        for (number, (mut bytes, damage)) in (1..).zip(group) {
            damage.iter().for_each(|damage| mutate(&mut bytes, damage));
            let received = UnixNanos(number);
            let before = builder.rows();
            match (builder.push(&bytes, received), decode(signal, &bytes, received)) {
                (Ok(pushed), Ok(alone)) => {
                    assert_eq!((pushed.rows, &pushed.rejected), (alone.batch.num_rows(), &alone.rejected));
                    assert_eq!(builder.rows(), before + pushed.rows);
                    expected.push(alone.batch);
                }
                (Err(joined), Err(alone)) => {
                    assert_eq!(joined, alone);
                    assert_eq!(builder.rows(), before, "nothing of it is left");
                }
                (joined, alone) => panic!("{joined:?} joined, {:?} alone", alone.map(|alone| alone.rejected)),
            }
        }
        let joined = builder.take();
        validate(&joined);
        let mut from = 0;
        for alone in expected {
            assert_eq!(joined.slice(from, alone.num_rows()), alone);
            from += alone.num_rows();
        }
        assert_eq!(joined.num_rows(), from);
        assert_eq!((builder.rows(), builder.bytes()), (0, 0));
    }
}

proptest! {
    #[test]
    fn traces_joined_are_those_alone(groups in requests(generate::traces().prop_map(|request| request.encode_to_vec()))) {
        same(Signal::Traces, groups);
    }

    #[test]
    fn logs_joined_are_those_alone(groups in requests(generate::logs().prop_map(|request| request.encode_to_vec()))) {
        same(Signal::Logs, groups);
    }

    #[test]
    fn metrics_joined_are_those_alone(groups in requests(generate::metrics().prop_map(|request| request.encode_to_vec()))) {
        same(Signal::Metrics, groups);
    }
}

#[test]
fn a_key_that_is_no_text_is_refused_whether_or_not_its_metric_has_points() {
    let key = |key: &str| KeyValue { key: key.to_owned(), ..KeyValue::default() };
    let metric = Metric { name: "m".to_owned(), metadata: vec![key("text")], ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    let mut bytes = ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec();
    let at = bytes.windows(4).position(|four| four == b"text").expect("it is in there");
    bytes[at] = 0xff;
    let alone = decode(Signal::Metrics, &bytes, UnixNanos(1)).expect_err("no text");
    assert!(alone.to_string().contains("`key` is not valid UTF-8"), "{alone}");
    let joined = RowBuilder::new(Signal::Metrics).push(&bytes, UnixNanos(1)).expect_err("no text");
    assert_eq!(joined, alone);
}

#[test]
fn resources_and_names_of_many_requests_are_there_once() {
    let mut builder = RowBuilder::new(Signal::Traces);
    for n in 0..60 {
        let mut one = span("GET /cart");
        one.attributes = vec![string("http.route", &format!("/{n}"))];
        let resource = vec![string("service.name", ["cart", "checkout", "payment"][n % 3])];
        builder.push(&request(resource, vec![one]).encode_to_vec(), UnixNanos(1)).expect("a well-formed request");
    }
    let batch = builder.take();
    let entries = |column: &str| {
        let column = batch.column_by_name(column).expect("the column exists");
        column.as_any_dictionary().values().len()
    };
    assert_eq!((batch.num_rows(), entries("service_name"), entries("resource"), entries("scope")), (60, 3, 3, 1));
    let attributes = batch.column_by_name("attributes").expect("the column exists").as_map();
    assert_eq!(attributes.keys().as_any_dictionary().values().len(), 1);
}

#[test]
fn what_is_remembered_from_batch_to_batch_is_in_those_that_bring_it_and_in_no_others() {
    let mut builder = RowBuilder::new(Signal::Traces);
    let keys = ["key", "a longer key", "a key of more than the thirty-two bytes that are compared first"];
    for n in 0..12 {
        let mut expected = Vec::new();
        for service in [n % 3, (n + 1) % 3] {
            let mut one = span("GET /cart");
            one.attributes = vec![string(keys[service], "value")];
            let name = ["cart", "checkout", "payment"][service];
            let bytes = request(vec![string("service.name", name), string("host", "one")], vec![one]).encode_to_vec();
            builder.push(&bytes, UnixNanos(1)).expect("a well-formed request");
            expected.push(decode(Signal::Traces, &bytes, UnixNanos(1)).expect("a well-formed request").batch);
        }
        let batch = builder.take();
        validate(&batch);
        assert_eq!((batch.slice(0, 1), batch.slice(1, 1)), (expected[0].clone(), expected[1].clone()));
        let resources = batch.column_by_name("resource").expect("the column exists").as_any_dictionary().values().len();
        let attributes = batch.column_by_name("attributes").expect("the column exists").as_map();
        assert_eq!((resources, attributes.keys().as_any_dictionary().values().len()), (2, 2), "batch {n}");
    }
}

#[test]
fn names_and_resources_without_number_are_told_apart_batch_after_batch() {
    let mut builder = RowBuilder::new(Signal::Traces).with_room(4 << 10);
    for n in 0..30 {
        let mut one = span("GET /cart");
        // Half of them are new in every batch.
        one.attributes = (0..100).map(|key| string(&format!("key {}", key + 50 * n), "value")).collect();
        let resource = vec![string("service.name", &format!("service {n}")), string("host", &"x".repeat(300))];
        let bytes = request(resource, vec![one]).encode_to_vec();
        builder.push(&bytes, UnixNanos(1)).expect("a well-formed request");
        let batch = builder.take();
        assert_eq!(batch, decode(Signal::Traces, &bytes, UnixNanos(1)).expect("a well-formed request").batch);
        let attributes = batch.column_by_name("attributes").expect("the column exists").as_map();
        assert_eq!(attributes.keys().as_any_dictionary().values().len(), 100, "batch {n}");
    }
}

#[test]
fn text_that_is_not_utf8_fails_its_own_request_and_leaves_no_name_behind() {
    let log = |key: &[u8], text: &[u8]| {
        let record = LogRecord {
            time_unix_nano: 1,
            attributes: vec![string("KEY", "TEXT")],
            severity_text: "INFO".to_owned(),
            ..LogRecord::default()
        };
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        let mut bytes = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
        for (find, put) in [(&b"KEY"[..], key), (b"TEXT", text)] {
            let at = bytes.windows(find.len()).position(|window| window == find).expect("is there");
            bytes[at..at + find.len()].copy_from_slice(put);
        }
        bytes
    };
    let mut builder = RowBuilder::new(Signal::Logs);
    // The second halves of characters make the whole column valid, and neither of its values.
    let bad = [log(b"a\xff ", b"TEXT"), log(b"key", b"abc\xc3"), log(b"key", b"\xa4bcd")];
    for (n, bytes) in bad.iter().enumerate() {
        let good = log(b"key", format!("te{n:02}").as_bytes());
        builder.push(&good, UnixNanos(1)).expect("a well-formed request");
        let error = builder.push(bytes, UnixNanos(1)).expect_err("is not text");
        assert!(error.problem.contains("UTF-8"), "{error}");
    }
    let batch = builder.take();
    validate(&batch);
    assert_eq!(batch.num_rows(), 3);
    let attributes = batch.column_by_name("attributes").expect("the column exists").as_map();
    assert_eq!(attributes.keys().as_any_dictionary().values().len(), 1);
}

#[test]
fn a_request_that_leaves_no_row_leaves_nothing_else() {
    let log = |key: &str, time: u64| {
        let record = LogRecord { time_unix_nano: time, attributes: vec![string(key, "value")], ..LogRecord::default() };
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    };
    let mut builder = RowBuilder::new(Signal::Logs);
    for n in 0..1_000 {
        let pushed = builder.push(&log(&format!("key {n}"), u64::MAX), UnixNanos(1)).expect("a well-formed request");
        assert_eq!((pushed.rows, pushed.rejected.count), (0, 1), "{}", pushed.rejected.reason);
    }
    let pushed = builder.push(&log("key", 1), UnixNanos(1)).expect("a well-formed request");
    assert_eq!((pushed.rows, pushed.rejected.count), (1, 0));
    let batch = builder.take();
    validate(&batch);
    let attributes = batch.column_by_name("attributes").expect("the column exists").as_map();
    assert_eq!(attributes.keys().as_any_dictionary().values().len(), 1);
}
