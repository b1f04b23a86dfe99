//! Requests: which spans count, under which name, in which bucket.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use plimsoll_model::signal::{AgeClass, OperationKind};
use plimsoll_model::{Bucket, UnixNanos};
use plimsoll_otlp::Table;

use crate::build::{CLIENT, INTERNAL, MS, SERVER, T0, always, batch, key, operations, send, span, state, text, total};

#[test]
fn a_slow_request_counts_in_the_bucket_in_which_it_ends() {
    let mut state = state();
    send(&mut state, 26_000, &[span("a", SERVER, "GET /", 1, 0, 0, 25_000)]);
    let series = state.series(&key("a"), always());
    assert_eq!(series[0].cells[0].0, Bucket(UnixNanos(T0 + 25_000 * MS).bucket().0));
    assert_eq!(series[0].cells[0].1.latency.count(), 1);
}

#[test]
fn a_batch_in_parts_counts_as_the_whole() {
    let spans = (0..300_u64).map(|id| {
        let kind = if id % 3 == 0 { SERVER } else { CLIENT };
        let span = span("a", kind, &format!("op{}", id % 7), id + 1, id / 3 * 3, id, id + 5);
        let status = Value::IntValue(200 + 300 * i64::from(id % 4 == 0));
        if id % 2 == 0 { span.with("http.response.status_code", status) } else { span }
    });
    let rows = batch(400, &spans.collect::<Vec<_>>());
    let counted = |parts: &[usize]| {
        let mut state = state();
        let mut from = 0;
        for part in parts {
            state.fold(Table::Spans, &rows.slice(from, *part)).expect("the stored schema");
            from += part;
        }
        assert_eq!(from, rows.num_rows());
        state.close_traces();
        format!("{:?} {:?}", state.counters(), state.series(&key("a"), always()))
    };
    let whole = counted(&[300]);
    assert!(whole.contains("op6"), "{whole}");
    assert_eq!(counted(&[0, 64, 0, 65, 128, 1, 42, 0]), whole);
}

#[test]
fn errors_have_the_class_that_says_most() {
    let mut state = state();
    send(
        &mut state,
        100,
        &[
            span("a", SERVER, "x", 1, 0, 0, 1).failed().with("error.type", text("timeout")),
            span("a", SERVER, "x", 2, 0, 0, 1).with("http.response.status_code", Value::IntValue(503)),
            span("a", SERVER, "x", 3, 0, 0, 1).failed().throws("Boom", "m", ""),
            span("a", SERVER, "x", 4, 0, 0, 1).failed(),
            span("a", SERVER, "x", 5, 0, 0, 1).with("http.response.status_code", Value::IntValue(404)),
        ],
    );
    let cell = total(&state, "a", "x");
    let classes: Vec<_> = cell.errors_by_class.iter().map(|(class, count)| (class.as_str(), *count)).collect();
    assert_eq!(classes, [("503", 1), ("Boom", 1), ("error", 1), ("timeout", 1)]);
    assert_eq!((cell.requests, cell.errors), (5, 4));
}

#[test]
fn internal_spans_are_operations_only_where_a_service_serves_nothing() {
    let mut state = state();
    let spans = [
        span("worker", INTERNAL, "tick", 1, 0, 0, 10),
        span("worker", INTERNAL, "step", 2, 1, 1, 9),
        span("worker", 0, "/orders/42", 3, 77, 1, 9),
        span("web", SERVER, "GET /", 4, 0, 0, 10).trace(8),
        span("web", INTERNAL, "job", 5, 0, 0, 10).trace(9),
        span("cron", CLIENT, "call", 6, 0, 0, 10),
    ];
    send(&mut state, 100, &spans);
    state.close_traces();
    let expected = |name: &str, kind| (name.to_owned(), kind, AgeClass::Warm);
    assert_eq!(
        operations(&state, "worker"),
        [expected("/orders/{id}", OperationKind::Internal), expected("tick", OperationKind::Internal)]
    );
    assert_eq!(operations(&state, "web"), [expected("GET /", OperationKind::Server)]);
    assert!(operations(&state, "cron").is_empty());
}

#[test]
fn a_young_instance_is_counted_apart_and_an_old_one_is_not_taken_for_young() {
    let mut state = state();
    let mut old = span("a", SERVER, "x", 1, 0, 0, 1);
    old.instance = "old";
    send(&mut state, 10, std::slice::from_ref(&old));
    let mut young = span("a", SERVER, "x", 2, 0, 100_000, 100_001);
    young.instance = "young";
    (old.at, old.end) = (100_000, 100_001);
    send(&mut state, 100_010, &[old, young.clone()]);
    (young.at, young.end) = (200_000, 200_001);
    send(&mut state, 200_010, &[young]);
    let ages: Vec<_> = operations(&state, "a").into_iter().map(|(_, _, age)| age).collect();
    assert_eq!(ages, [AgeClass::Cold, AgeClass::Warming, AgeClass::Warm]);
    assert_eq!(total(&state, "a", "x").requests, 4);
}

#[test]
fn times_that_cannot_be_believed_count_when_received() {
    let mut state = state();
    let hour = 3_600_000;
    send(
        &mut state,
        30 * hour,
        &[
            span("a", SERVER, "past", 1, 0, 0, 1),
            span("a", SERVER, "late", 2, 0, 28 * hour, 28 * hour),
            span("a", SERVER, "future", 3, 0, 40 * hour, 40 * hour),
        ],
    );
    let now = UnixNanos(T0 + 30 * hour * MS).bucket();
    let buckets: Vec<_> =
        state.series(&key("a"), always()).into_iter().map(|s| (s.key.operation, s.cells[0].0 == now)).collect();
    assert_eq!(buckets, [("future".to_owned(), true), ("late".to_owned(), false), ("past".to_owned(), true)]);
    assert_eq!((state.counters().late_spans, state.counters().misdated_spans), (1, 2));
    assert_eq!(state.data_quality(&key("a")), ["late_spans", "misdated_spans"]);
}

#[test]
fn a_new_version_is_told_once() {
    let mut state = state();
    let mut next = span("a", SERVER, "x", 2, 0, 5, 6);
    next.version = "2".to_owned();
    send(&mut state, 10, &[span("a", SERVER, "x", 1, 0, 0, 1), next.clone()]);
    let seen: Vec<_> = state.take_new_versions().into_iter().map(|v| (v.version, v.first_seen.0 - T0)).collect();
    assert_eq!(seen, [("1".to_owned(), 0), ("2".to_owned(), 5 * MS)]);
    send(&mut state, 20, &[next]);
    assert!(state.take_new_versions().is_empty());
    let traffic: Vec<_> = state.versions(&key("a")).into_iter().map(|v| (v.version, v.requests)).collect();
    assert_eq!(traffic, [("1".to_owned(), 1), ("2".to_owned(), 2)]);
}
