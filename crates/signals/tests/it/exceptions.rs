//! Exceptions: where they count, and that they count once.

use std::collections::BTreeSet;

use plimsoll_signals::exception;

use crate::build::{CLIENT, INTERNAL, SERVER, T0, key, log, send, span, state, total};

const STACK: &str = "at shop.Pay.charge(Pay.java:41)";

#[test]
fn an_exception_counts_once_a_request_wherever_it_was_recorded() {
    let mut state = state();
    log(&mut state, 5, "a", Some((7, 2)), ("Declined", "card 1", STACK));
    send(
        &mut state,
        10,
        &[
            span("a", SERVER, "x", 1, 0, 0, 9).failed().throws("Declined", "card 1", STACK),
            span("a", INTERNAL, "y", 2, 1, 1, 8).throws("Declined", "card 1", STACK),
            span("a", CLIENT, "z", 3, 2, 2, 7).throws("Other", "no", ""),
        ],
    );
    state.close_traces();
    let cell = total(&state, "a", "x");
    let (declined, seen) = exception("Declined", "card 1", STACK);
    assert_eq!(cell.exceptions[&declined], seen);
    assert_eq!(cell.exceptions.len(), 2);
    assert!(cell.exceptions.values().all(|seen| seen.count == 1));
}

#[test]
fn an_exception_without_a_request_counts_on_the_service() {
    let mut state = state();
    log(&mut state, 5, "a", None, ("Declined", "card 1", STACK));
    log(&mut state, 6, "a", Some((9, 9)), ("Declined", "card 2", STACK));
    state.close_traces();
    let cell = total(&state, "a", "");
    assert_eq!((cell.requests, cell.exceptions.values().map(|seen| seen.count).sum::<u64>()), (0, 2));
}

#[test]
fn the_first_time_an_exception_was_seen_is_known() {
    let mut state = state();
    let (fingerprint, _) = exception("Declined", "", STACK);
    log(&mut state, 50, "a", None, ("Declined", "", STACK));
    log(&mut state, 90, "a", None, ("Declined", "", STACK));
    let first = state.fingerprint_first_seen(&key("a"), fingerprint).expect("known");
    assert_eq!(first.0, T0 + 50 * crate::build::MS);
    assert!(state.known_fingerprints(&key("a"), first, &BTreeSet::new()).is_empty());
    assert_eq!(state.known_fingerprints(&key("a"), state.watermark(), &BTreeSet::new()).len(), 1);
    assert_eq!(state.fingerprint_first_seen(&key("b"), fingerprint), None);
    let own = state.versions(&key("a")).into_iter().map(|seen| seen.version).collect();
    assert!(state.known_fingerprints(&key("a"), state.watermark(), &own).is_empty(), "nobody else threw it");
}
