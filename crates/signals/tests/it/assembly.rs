//! Blame and time of whole traces.

use std::collections::BTreeMap;

use plimsoll_model::signal::{OperationCell, Party};
use plimsoll_signals::SignalState;

use crate::build::{CLIENT, CONSUMER, INTERNAL, MS, SERVER, Sent, send, span, state, total};

fn party(service: &str, operation: &str) -> Party {
    Party {
        namespace: String::new(),
        service: service.to_owned(),
        version: "1".to_owned(),
        operation: operation.to_owned(),
    }
}

/// front -> checkout -> payment, each call through a client span; payment takes `pay` milliseconds.
fn chain(pay: u64) -> Vec<Sent> {
    vec![
        span("front", SERVER, "GET /", 1, 0, 0, pay + 80),
        span("front", CLIENT, "checkout", 2, 1, 10, pay + 70),
        span("checkout", SERVER, "POST /checkout", 3, 2, 15, pay + 65),
        span("checkout", INTERNAL, "place", 4, 3, 20, pay + 60),
        span("checkout", CLIENT, "payment", 5, 4, 25, pay + 55),
        span("payment", SERVER, "POST /charge", 6, 5, 30, pay + 30),
    ]
}

fn failing(mut spans: Vec<Sent>, ids: &[u64]) -> Vec<Sent> {
    spans.iter_mut().filter(|s| ids.contains(&s.id)).for_each(|s| s.failed = true);
    spans
}

fn closed(spans: &[Sent]) -> SignalState {
    let mut state = state();
    send(&mut state, 1_000, spans);
    state.close_traces();
    state
}

fn blamed(cell: &OperationCell) -> Vec<(&str, u64)> {
    cell.blame.iter().map(|(party, count)| (party.service.as_str(), *count)).collect()
}

#[test]
fn a_failing_chain_blames_the_deepest_service() {
    let state = closed(&failing(chain(40), &[1, 2, 3, 5, 6]));
    for (service, operation) in [("front", "GET /"), ("checkout", "POST /checkout"), ("payment", "POST /charge")] {
        let cell = total(&state, service, operation);
        assert_eq!(cell.blame.get(&party("payment", "POST /charge")), Some(&1), "{service}");
        assert_eq!((cell.errors, cell.assembled), (1, 1));
        assert_eq!(cell.error_origins, u64::from(service == "payment"));
    }
}

#[test]
fn a_failed_call_without_a_callee_blames_the_request_that_made_it() {
    let spans = failing(chain(40), &[1, 2, 3, 5]).into_iter().filter(|s| s.id != 6).collect::<Vec<_>>();
    let state = closed(&spans);
    let cell = total(&state, "checkout", "POST /checkout");
    assert_eq!(cell.blame.get(&party("checkout", "POST /checkout")), Some(&1));
    assert_eq!(cell.error_origins, 1);
    assert_eq!(blamed(&total(&state, "front", "GET /")), [("checkout", 1)]);
}

#[test]
fn slowness_shows_as_self_time_where_it_arises() {
    let (fast, slow) = (closed(&chain(40)), closed(&chain(540)));
    let own = |state: &SignalState, service: &str, operation: &str| total(state, service, operation).self_time_ns;
    assert_eq!(own(&fast, "payment", "POST /charge"), 40 * MS);
    assert_eq!(own(&slow, "payment", "POST /charge"), 540 * MS);
    for (service, operation) in [("front", "GET /"), ("checkout", "POST /checkout")] {
        assert_eq!(own(&fast, service, operation), own(&slow, service, operation), "{service}");
    }
    let callee = total(&slow, "checkout", "POST /checkout").callees[&party("payment", "POST /charge")];
    assert_eq!((callee.calls, callee.critical_ns), (1, 540 * MS));
}

#[test]
fn a_call_that_went_well_when_tried_again_takes_no_blame() {
    let spans = [
        span("checkout", SERVER, "POST /checkout", 1, 0, 0, 100).failed(),
        span("checkout", CLIENT, "pay", 2, 1, 10, 20).failed(),
        span("payment", SERVER, "POST /charge", 3, 2, 12, 18).failed(),
        span("checkout", CLIENT, "pay", 4, 1, 30, 40),
        span("payment", SERVER, "POST /charge", 5, 4, 32, 38),
    ];
    assert_eq!(blamed(&total(&closed(&spans), "checkout", "POST /checkout")), [("checkout", 1)]);
    assert_eq!(
        total(&closed(&spans), "checkout", "POST /checkout").callees[&party("payment", "POST /charge")].calls,
        2
    );
}

#[test]
fn a_failure_that_was_handled_stops_at_the_request_that_handled_it() {
    let state = closed(&failing(chain(40), &[5, 6]));
    assert!(total(&state, "front", "GET /").blame.is_empty());
    assert!(total(&state, "checkout", "POST /checkout").blame.is_empty());
    assert_eq!(total(&state, "payment", "POST /charge").error_origins, 1);
}

#[test]
fn parallel_callees_share_the_time_once() {
    let spans = [
        span("front", SERVER, "GET /", 1, 0, 0, 100),
        span("cart", SERVER, "GET /cart", 2, 1, 10, 60),
        span("stock", SERVER, "GET /stock", 3, 1, 10, 90),
        span("mail", CONSUMER, "mail", 4, 1, 50, 5_000),
    ];
    let cell = total(&closed(&spans), "front", "GET /");
    assert_eq!(cell.self_time_ns, 20 * MS);
    assert_eq!(cell.callees[&party("stock", "GET /stock")].critical_ns, 80 * MS);
    assert_eq!(cell.callees[&party("cart", "GET /cart")].critical_ns, 0);
    assert_eq!(cell.callees[&party("mail", "mail")].critical_ns, 0);
}

#[test]
fn a_callee_with_a_wrong_clock_is_moved_into_its_call() {
    let mut spans = chain(40);
    for span in spans.iter_mut().filter(|s| s.service == "payment") {
        span.at += 7_000;
        span.end += 7_000;
    }
    let cell = total(&closed(&spans), "checkout", "POST /checkout");
    assert_eq!(cell.callees[&party("payment", "POST /charge")].critical_ns, 40 * MS);
}

#[test]
fn any_order_of_arrival_gives_the_same_cells() {
    let forward = failing(chain(40), &[1, 2, 3, 5, 6]);
    let expected = closed(&forward).pending_rows();
    let mut state = state();
    for (i, span) in forward.iter().rev().enumerate() {
        send(&mut state, 1_000 + i as u64 * 500, std::slice::from_ref(span));
    }
    state.close_traces();
    assert_eq!(state.pending_rows(), expected);
}

#[test]
fn circles_own_parents_and_times_that_run_backwards_do_no_harm() {
    let spans = [
        span("a", SERVER, "one", 1, 3, 0, 10),
        span("a", SERVER, "two", 2, 1, 0, 10).failed(),
        span("a", SERVER, "three", 3, 2, 10, 4),
        span("a", SERVER, "self", 4, 4, 0, 10),
        span("a", SERVER, "orphan", 5, 99, 0, 10),
    ];
    let state = closed(&spans);
    let counters = state.counters();
    assert_eq!((counters.requests, counters.parent_cycles, counters.negative_durations), (5, 1, 1));
    for name in ["one", "two", "three", "self", "orphan"] {
        assert_eq!(total(&state, "a", name).assembled, 1, "{name}");
    }
}

#[test]
fn a_span_sent_twice_is_assembled_once() {
    let mut spans = chain(40);
    spans.extend(chain(40));
    let state = closed(&spans);
    assert_eq!(state.counters().duplicate_spans, 6);
    let cell = total(&state, "payment", "POST /charge");
    assert_eq!((cell.requests, cell.assembled), (2, 1));
}

#[test]
fn a_trace_closes_when_the_watermark_passes_and_a_straggler_takes_no_blame() {
    let mut state = state();
    let spans = failing(chain(40), &[1, 2, 3, 5, 6]);
    send(&mut state, 1_000, &spans[1..]);
    send(&mut state, 12_000, &[span("other", SERVER, "tick", 1, 0, 11_000, 11_001).trace(8)]);
    assert_eq!(total(&state, "payment", "POST /charge").assembled, 1);
    send(&mut state, 12_500, &spans[..1]);
    state.close_traces();
    let cell = total(&state, "front", "GET /");
    assert_eq!((cell.requests, cell.errors, cell.assembled), (1, 1, 0));
    assert_eq!(state.counters().traces_partial, 1);
}

#[test]
fn related_services_are_those_on_either_side() {
    let state = closed(&chain(40));
    let names = |service| state.related(&crate::build::key(service)).into_iter().map(|k| k.service).collect::<Vec<_>>();
    assert_eq!(names("checkout"), ["front", "payment"]);
    assert_eq!(names("payment"), ["checkout"]);
    assert_eq!(state.callers_of(&crate::build::key("checkout")), [crate::build::key("front")]);
}

#[test]
fn unrelated_services_are_those_that_no_chain_of_calls_connects() {
    let mut spans = chain(40);
    // A shop window beside it: it is reached from nowhere and reaches nobody.
    spans.push(span("window", SERVER, "GET /window", 90, 0, 0, 5).failed().trace(99));
    spans.push(span("billing", SERVER, "GET /bill", 91, 0, 0, 5).trace(98));
    // It calls what checkout calls, which checkout may wear out.
    spans.push(span("kiosk", SERVER, "POST /buy", 92, 0, 0, 5).trace(97));
    spans.push(span("payment", SERVER, "POST /pay", 93, 92, 1, 4).trace(97));
    let state = closed(&spans);
    let touched = BTreeMap::from([(crate::build::key("billing"), plimsoll_model::UnixNanos(0))]);
    let found = |service: &str| {
        let vitals =
            state.unrelated(&crate::build::key(service), &|key| touched.get(key).copied(), crate::build::always());
        vitals.into_iter().map(|series| (series.service.service.clone(), series.cells)).collect::<Vec<_>>()
    };
    for kin in ["front", "checkout", "payment"] {
        let others = found(kin);
        assert_eq!(others.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["window"], "of {kin}");
        let (_, vitals) = others[0].1[0];
        assert_eq!((vitals.requests, vitals.errors), (1, 1));
    }
    let names: Vec<String> = found("window").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["checkout", "front", "kiosk", "payment"]);
    // Up to its own deploy it tells what happens to others.
    let at = state.unrelated(&crate::build::key("front"), &|_| None, crate::build::always());
    let last = at.iter().find(|series| series.service.service == "window").and_then(|series| series.cells.last());
    let bucket = last.expect("it served").0;
    for (until, told) in [(bucket, false), (plimsoll_model::Bucket(bucket.0 + 1), true)] {
        let touched = BTreeMap::from([(crate::build::key("window"), until.start())]);
        let others =
            state.unrelated(&crate::build::key("front"), &|key| touched.get(key).copied(), crate::build::always());
        assert_eq!(others.iter().any(|o| o.service.service == "window" && o.until == Some(until)), told);
    }
}
