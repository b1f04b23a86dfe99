//! Failed calls that nobody answered, counted by whom they were meant for.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use plimsoll_model::signal::{CalleeTime, Party};

use crate::build::{CLIENT, INTERNAL, MS, SERVER, Sent, send, span, state, text, total};

/// A failed call of a request that failed with it, from 10 to 60 ms.
fn call() -> Sent {
    span("checkout", CLIENT, "POST", 2, 1, 10, 60).failed()
}

/// What is counted of a request with such spans: targets with calls and milliseconds, and whether the request itself is blamed.
fn counted(spans: &[Sent]) -> (Vec<(String, u64, u64)>, bool) {
    let mut state = state();
    send(&mut state, 1_000, &[span("checkout", SERVER, "POST /checkout", 1, 0, 0, 100).failed()]);
    send(&mut state, 1_100, spans);
    state.close_traces();
    let cell = total(&state, "checkout", "POST /checkout");
    let unanswered = cell.callees.iter().filter(|(party, _)| party.is_unanswered());
    let told =
        unanswered.map(|(party, CalleeTime { calls, critical_ns })| (party.service.clone(), *calls, critical_ns / MS));
    (told.collect(), cell.blame.keys().all(|party| party.service == "checkout") && cell.error_origins == 1)
}

fn status(code: i64) -> Value {
    Value::IntValue(code)
}

#[test]
fn a_failed_call_that_nobody_answered_counts_by_whom_it_was_meant_for() {
    let named = |name: &str, ms: u64| (vec![(name.to_owned(), 1, ms)], true);
    assert_eq!(counted(&[call().with("server.address", text("pay.shop.svc"))]), named("pay.shop.svc", 50));
    let both = call().with("server.address", text("10.0.0.7")).with("peer.service", text("pay"));
    assert_eq!(counted(&[both]), named("pay", 50));
    // A gateway that answers in its place, and a client that says of itself that nothing came.
    let to_pay = || call().with("peer.service", text("pay"));
    assert_eq!(counted(&[to_pay().with("http.response.status_code", status(503))]), named("pay", 50));
    assert_eq!(counted(&[to_pay().with("rpc.grpc.status_code", status(14))]), named("pay", 50));
    // What fails below the call is part of it, and attempts before it are waited for as well.
    let connect = span("checkout", INTERNAL, "tcp.connect", 3, 2, 12, 20).failed();
    assert_eq!(counted(&[to_pay(), connect]), named("pay", 50));
    let first = Sent { id: 5, at: 2, end: 6, ..to_pay() };
    assert_eq!(counted(&[first, to_pay()]), named("pay", 58));
}

#[test]
fn a_call_that_was_answered_or_that_no_span_ever_answers_is_the_callers_own() {
    let to_pay = || call().with("peer.service", text("pay"));
    assert_eq!(counted(&[call()]), (vec![], true), "nobody knows whom it was meant for");
    assert_eq!(counted(&[to_pay().with("http.response.status_code", status(404))]), (vec![], true));
    assert_eq!(counted(&[to_pay().with("rpc.grpc.status_code", status(3))]), (vec![], true));
    assert_eq!(counted(&[to_pay().with("db.system.name", text("postgresql"))]), (vec![], true));
    assert_eq!(counted(&[to_pay().with("db.system", text("redis"))]), (vec![], true));
    // The callee served it, well or not.
    let served = span("pay", SERVER, "POST /charge", 4, 2, 15, 50);
    assert_eq!(counted(&[to_pay(), served.clone()]), (vec![], true));
    assert_eq!(counted(&[to_pay(), served.failed()]), (vec![], false));
    // What fails by itself, its calls being well, fails by itself.
    let well = Sent { failed: false, ..to_pay() };
    assert_eq!(counted(&[well]), (vec![], true));
}

/// A request of 0 to 100 ms that failed, with such spans below: calls to the bank that are counted, those that count as unanswered with
/// their milliseconds, and the request's own milliseconds.
fn told(spans: &[Sent]) -> (u64, Vec<(u64, u64)>, u64) {
    let mut state = state();
    send(&mut state, 1_000, &[span("checkout", SERVER, "POST /checkout", 1, 0, 0, 100).failed()]);
    send(&mut state, 1_100, spans);
    state.close_traces();
    let cell = total(&state, "checkout", "POST /checkout");
    let (meant, made): (Vec<_>, Vec<_>) = cell.callees.iter().partition(|(party, _)| party.is_unanswered());
    assert!(meant.iter().chain(&made).all(|(party, _)| party.service == "pay"), "{meant:?} {made:?}");
    let waited = meant.iter().map(|(_, time)| (time.calls, time.critical_ns / MS)).collect();
    (made.iter().map(|(_, time)| time.calls).sum(), waited, cell.self_time_ns / MS)
}

#[test]
fn a_call_that_was_given_up_before_whoever_serves_it_was_done_counts_as_unanswered() {
    // The caller knows an address, and whoever was too late tells its name.
    let given_up = || call().with("server.address", text("10.0.0.7")).with("error.type", text("timeout"));
    let served = |id: u64, call: u64, at: u64, end: u64| span("pay", SERVER, "POST /charge", id, call, at, end);
    assert_eq!(told(&[given_up(), served(4, 2, 15, 400)]), (0, vec![(1, 50)], 100));
    // By a clock that is late by an hour as well.
    assert_eq!(told(&[given_up(), served(4, 2, 3_600_015, 3_600_400)]), (0, vec![(1, 50)], 100));
    // All attempts but the last were given up as well.
    let first = Sent { id: 5, at: 2, end: 6, ..given_up() };
    assert_eq!(told(&[first, served(6, 5, 3, 390), given_up(), served(4, 2, 15, 400)]), (0, vec![(1, 58)], 100));
    // It was served in time, or a status came back: something else is wrong with it.
    assert_eq!(told(&[given_up(), served(4, 2, 15, 55)]), (1, vec![], 60));
    let answered = given_up().with("http.response.status_code", status(404));
    assert_eq!(told(&[answered, served(4, 2, 15, 400)]).0, 1);
}

#[test]
fn a_call_that_was_given_up_and_done_without_is_a_call_as_any() {
    let mut state = state();
    let given_up = call().with("peer.service", text("pay"));
    let spans = [given_up, span("pay", SERVER, "POST /charge", 4, 2, 15, 400)];
    send(&mut state, 1_000, &[span("checkout", SERVER, "POST /checkout", 1, 0, 0, 100)]);
    send(&mut state, 1_100, &spans);
    state.close_traces();
    let cell = total(&state, "checkout", "POST /checkout");
    let callees: Vec<_> = cell.callees.iter().map(|(party, time)| (party.operation.as_str(), time.calls)).collect();
    assert_eq!(callees, [("POST /charge", 1)]);
}

/// What a request of 0 to 100 ms that went well got over: targets with calls and milliseconds, and the calls that were answered.
fn overcome(spans: &[Sent]) -> (Vec<(String, u64, u64)>, u64) {
    let mut state = state();
    send(&mut state, 1_000, &[span("checkout", SERVER, "POST /checkout", 1, 0, 0, 100)]);
    send(&mut state, 1_100, spans);
    state.close_traces();
    let cell = total(&state, "checkout", "POST /checkout");
    let (in_vain, made): (Vec<_>, Vec<_>) = cell.callees.iter().partition(|(party, _)| party.is_unanswered());
    assert!(in_vain.iter().all(|(party, _)| party.is_overcome()) && cell.error_origins == 0, "{in_vain:?}");
    let told = in_vain.iter().map(|(party, time)| (party.service.clone(), time.calls, time.critical_ns / MS));
    (told.collect(), made.iter().map(|(_, time)| time.calls).sum())
}

#[test]
fn calls_that_nobody_answered_and_that_a_request_got_over_count_apart() {
    let to_pay = || call().with("peer.service", text("pay"));
    let pay = |calls: u64, ms: u64| vec![("pay".to_owned(), calls, ms)];
    // Done without.
    assert_eq!(overcome(&[to_pay()]), (pay(1, 50), 0));
    // Called again: what passes until the next attempt is waited for as well.
    let first = Sent { id: 5, at: 2, end: 6, ..to_pay() };
    let third = Sent { id: 6, at: 65, end: 90, failed: false, ..to_pay() };
    let served = span("pay", SERVER, "POST /charge", 7, 6, 67, 88);
    assert_eq!(overcome(&[first, to_pay(), third, served]), (pay(2, 63), 1));
    // What was answered, or is meant for nobody who is known, is not it.
    assert_eq!(overcome(&[to_pay(), span("pay", SERVER, "POST /charge", 4, 2, 15, 50).failed()]), (vec![], 1));
    assert_eq!(overcome(&[call()]), (vec![], 0));
    assert_eq!(overcome(&[to_pay().with("http.response.status_code", status(404))]), (vec![], 0));
}

/// Calls to parties that are `meant`, as stored rows tell them of a request and a failed call of its own.
fn stored(request: Sent, meant: impl Fn(&Party) -> bool) -> u64 {
    let mut before = state();
    send(&mut before, 1_000, &[request, call().with("peer.service", text("pay"))]);
    before.close_traces();
    let mut after = state();
    for (table, batch) in before.take_rows() {
        after.load(table, &batch).expect("in the stored schema");
    }
    let cell = total(&after, "checkout", "POST /checkout");
    cell.callees.iter().filter(|(party, _)| meant(party)).map(|(_, time)| time.calls).sum()
}

#[test]
fn rows_keep_whom_a_call_was_meant_for_and_whether_its_request_got_over_it() {
    let request = || span("checkout", SERVER, "POST /checkout", 1, 0, 0, 100);
    let pay = |party: &Party| party.is_unanswered() && party.service == "pay";
    assert_eq!(stored(request().failed(), |party| pay(party) && !party.is_overcome()), 1);
    assert_eq!(stored(request(), |party| pay(party) && party.is_overcome()), 1);
}
