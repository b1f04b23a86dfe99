//! What is odd about the telemetry of a service is said of it, and of no other.

use plimsoll_model::UnixNanos;
use plimsoll_signals::{SignalLimits, SignalState};

use crate::build::{CLIENT, INTERNAL, MS, SERVER, Sent, T0, key, send, span, state, total};

fn words(spans: &[Sent]) -> Vec<String> {
    let mut state = state();
    send(&mut state, 100_000, spans);
    state.close_traces();
    state.data_quality(&key("a"))
}

#[test]
fn well_formed_traces_are_passed_without_a_word() {
    let spans = [
        span("a", SERVER, "x", 1, 77, 0, 100),
        span("a", CLIENT, "call", 2, 1, 10, 90),
        span("b", SERVER, "y", 3, 2, 20, 80),
    ];
    assert!(words(&spans).is_empty());
}

#[test]
fn each_oddity_has_its_word() {
    let root = || span("a", SERVER, "x", 1, 0, 50_000, 50_100);
    assert_eq!(words(&[root(), root()]), ["duplicate_spans"]);
    assert_eq!(words(&[root(), span("a", INTERNAL, "i", 2, 99, 50_010, 50_020)]), ["broken_parents"]);
    assert_eq!(words(&[span("a", SERVER, "x", 1, 0, 60_000, 50_000)]), ["negative_durations"]);
    assert_eq!(words(&[root(), span("a", CLIENT, "call", 2, 1, 60_000, 50_050)]), ["negative_durations"]);
    let inner = |id: u64, parent: u64| span("a", INTERNAL, "i", id, parent, 50_010, 50_020);
    assert_eq!(words(&[root(), inner(2, 3), inner(3, 2)]), ["broken_parents"]);
    // From its end to its receipt.
    let received_after = |minutes: u64| {
        let mut late = crate::build::state();
        send(&mut late, 50_100 + minutes * 60_000, &[root()]);
        assert_eq!(total(&late, "a", "x").requests, 1);
        late.data_quality(&key("a"))
    };
    assert!(received_after(59).is_empty());
    assert_eq!(received_after(70), ["late_spans"]);
    assert_eq!(received_after(2 * 24 * 60), ["misdated_spans"]);
    let mut sampled = root();
    sampled.trace_state = "ot=th:8";
    assert_eq!(words(&[sampled]), ["sampled_spans"]);
    let mut unversioned = root();
    unversioned.version = String::new();
    assert_eq!(words(&[unversioned]), ["unversioned_telemetry"]);
    // The callee's clock is three minutes behind: it is moved into the call that waited for it.
    let skewed = [
        span("a", SERVER, "x", 1, 0, 250_000, 250_100),
        span("a", CLIENT, "call", 2, 1, 250_010, 250_090),
        span("b", SERVER, "y", 3, 2, 70_000, 70_060),
    ];
    let mut state = state();
    send(&mut state, 300_000, &skewed);
    state.close_traces();
    assert_eq!(state.data_quality(&key("a")), ["clock_skew"]);
    assert_eq!(state.data_quality(&key("b")), ["clock_skew"]);
    assert_eq!(total(&state, "a", "x").self_time_ns, 40_000_000, "as if the clocks agreed");
}

#[test]
fn names_without_end_are_collapsed_and_that_is_said() {
    let mut state = SignalState::new(SignalLimits { operations_per_service_max: 5, ..SignalLimits::default() });
    let name = |i: u8| String::from_utf8(vec![b'a' + i; 3]).expect("letters");
    let spans: Vec<_> = (0..20_u8).map(|i| span("a", SERVER, &name(i), u64::from(i) + 1, 0, 0, 1)).collect();
    send(&mut state, 10, &spans);
    assert_eq!(total(&state, "a", plimsoll_signals::OTHER).requests, 15);
    assert_eq!(state.data_quality(&key("a")), ["collapsed_operations"]);
    // Ten minutes later it is forgotten.
    send(&mut state, 700_000, &[span("b", SERVER, "x", 1, 0, 700_000, 700_000)]);
    assert!(state.data_quality(&key("a")).is_empty());
}

#[test]
fn what_comes_minutes_after_its_bucket_is_told_once_by_version_and_bucket() {
    let mut state = state();
    let one = |at: u64| span("a", SERVER, "x", at, 0, at, at + 50);
    send(&mut state, 240_000, &[one(50_000), one(60_000)]);
    assert_eq!(state.take_belated(), [], "three minutes are none");
    let mut other = one(53_000);
    other.version = "2".to_owned();
    send(&mut state, 241_000, &[one(51_000), one(61_000), one(240_000)]);
    send(&mut state, 242_000, &[one(52_000), other]);
    let bucket = UnixNanos(T0 + 50_000 * MS).bucket();
    let told = state.take_belated();
    let of = |version: &str, received: u64| (version.to_owned(), vec![(bucket, UnixNanos(T0 + received * MS))]);
    let told: Vec<_> = told.into_iter().map(|of| (of.service, (of.version, of.buckets))).collect();
    assert_eq!(told, [(key("a"), of("1", 242_000)), (key("a"), of("2", 242_000))]);
    assert_eq!(state.take_belated(), [], "it is taken");
}
