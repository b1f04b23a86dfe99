//! Nothing grows with what senders choose to send.

use std::time::Duration;

use plimsoll_signals::{OTHER, SignalLimits, SignalState};

use crate::build::{SERVER, always, key, send, span, total};
use crate::memory::held;

fn named(from: u64, to: u64, received: u64) -> Vec<crate::build::Sent> {
    let letters = |i: u64| i.to_string().bytes().map(|b| char::from(b - b'0' + b'a')).collect::<String>();
    (from..to).map(|i| span("a", SERVER, &letters(i), i + 1, 0, received, received).trace(u128::from(i) + 1)).collect()
}

#[test]
fn a_million_operation_names_cost_what_a_thousand_do() {
    let limits = SignalLimits { names_max: 5_000, open_spans_max: 4_000, ..SignalLimits::default() };
    let before = held();
    let mut state = SignalState::new(limits);
    let mut after_some = 0;
    for chunk in 0..250_u64 {
        send(&mut state, 100, &named(chunk * 4_000, (chunk + 1) * 4_000, 100));
        if chunk == 49 {
            after_some = held() - before;
        }
    }
    let after_all = held() - before;
    assert!(after_all <= after_some + after_some / 50, "{after_some} bytes after 200,000, {after_all} after a million");
    assert!(after_all < 24 << 20, "{after_all} bytes");
    let size = state.size();
    assert!(size.operations <= 1_001 && size.series <= 1_001 && size.names <= 5_000, "{size:?}");
    assert!(size.open_spans <= 4_000 && size.pending_cells <= 1_001, "{size:?}");
    let counted: u64 = state.series(&key("a"), always()).iter().flat_map(|s| &s.cells).map(|(_, c)| c.requests).sum();
    assert_eq!((counted, state.counters().requests), (1_000_000, 1_000_000));
    assert_eq!(total(&state, "a", OTHER).requests, 999_000);
}

#[test]
fn names_no_longer_used_make_room_again() {
    let limits =
        SignalLimits { operations_per_service_max: 10, retention: Duration::from_secs(60), ..SignalLimits::default() };
    let mut state = SignalState::new(limits);
    send(&mut state, 0, &named(0, 20, 0));
    state.take_rows();
    for second in [100, 200, 300_u64] {
        send(&mut state, second * 1_000, &named(0, 1, second * 1_000));
        state.take_rows();
    }
    // The first that finds no room has room made.
    send(&mut state, 400_000, &named(50, 55, 400_000));
    assert_eq!((total(&state, "a", "fa").requests, total(&state, "a", OTHER).requests), (0, 5));
    send(&mut state, 401_000, &named(50, 55, 401_000));
    assert_eq!(total(&state, "a", "fa").requests, 1);
}

#[test]
fn a_huge_trace_is_counted_but_not_kept() {
    let mut state = SignalState::new(SignalLimits { spans_per_trace_max: 100, ..SignalLimits::default() });
    let spans: Vec<_> = (1..=1_000).map(|i| span("a", SERVER, "x", i, i - 1, 0, 10)).collect();
    send(&mut state, 100, &spans);
    assert_eq!(state.size().open_spans, 100);
    state.close_traces();
    let cell = total(&state, "a", "x");
    assert_eq!((cell.requests, cell.assembled), (1_000, 0));
    assert_eq!(state.counters().spans_unassembled, 900);
    assert_eq!((state.size().open_spans, state.size().open_traces), (0, 0));
}

#[test]
fn cells_are_bounded_and_the_oldest_go_first() {
    let mut state = SignalState::new(SignalLimits { rolling_cells_max: 100, ..SignalLimits::default() });
    for bucket in 0..300_u64 {
        send(&mut state, bucket * 10_000, &named(0, 1, bucket * 10_000));
        state.take_rows();
    }
    let series = state.series(&key("a"), always());
    assert!(state.size().rolling_cells <= 100);
    let last = state.watermark().bucket();
    assert_eq!(series[0].cells.last().expect("some").0, last);
    assert_eq!(state.counters().evicted_cells + state.size().rolling_cells as u64, 300);
}

#[test]
fn what_awaits_a_checkpoint_is_bounded_and_what_is_left_out_is_counted() {
    let mut state = SignalState::new(SignalLimits { pending_cells_max: 10, ..SignalLimits::default() });
    send(&mut state, 100, &named(0, 30, 100));
    assert_eq!((state.size().pending_cells, state.counters().requests), (10, 10));
    assert!(state.counters().dropped >= 20);
}

#[test]
fn buckets_older_than_the_retention_go() {
    let mut state = SignalState::new(SignalLimits { retention: Duration::from_secs(60), ..SignalLimits::default() });
    send(&mut state, 0, &named(0, 1, 0));
    state.take_rows();
    send(&mut state, 100_000, &named(0, 1, 100_000));
    assert_eq!(total(&state, "a", "a").requests, 1);
}
