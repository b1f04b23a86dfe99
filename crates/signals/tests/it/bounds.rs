//! Nothing grows with what senders choose to send.

use std::time::Duration;

use plimsoll_model::{Bucket, UnixNanos};
use plimsoll_signals::{OTHER, SignalLimits, SignalState};

use crate::build::{CLIENT, SERVER, always, key, send, span, total};
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

/// A failing call of `a` to `b`: what `a` sends of it, and what `b` does.
fn call(number: u64, at: u64) -> [Vec<crate::build::Sent>; 2] {
    let trace = |spans: Vec<crate::build::Sent>| {
        spans.into_iter().map(|span| span.failed().trace(u128::from(number) << 64 | 7)).collect()
    };
    let mine = vec![span("a", SERVER, "x", 1, 0, at, at + 30), span("a", CLIENT, "b", 2, 1, at + 5, at + 25)];
    [trace(mine), trace(vec![span("b", SERVER, "y", 3, 2, at + 10, at + 20)])]
}

#[test]
fn where_room_is_short_a_share_of_traces_stays_whole() {
    // A hundred traces of three spans a second, four seconds from one service to the other: 3,000 spans would wait.
    let mut state = SignalState::new(SignalLimits { open_spans_max: 600, ..SignalLimits::default() });
    let (mut number, mut late) = (0, std::collections::VecDeque::new());
    for second in 0..90_u64 {
        for tenth in 0..10 {
            let at = second * 1_000 + tenth * 100;
            let calls: Vec<_> = (0..10).map(|i| call(number + i, at)).collect();
            number += 10;
            let (mine, theirs): (Vec<_>, Vec<_>) = calls.into_iter().map(|[mine, theirs]| (mine, theirs)).unzip();
            send(&mut state, at + 100, &mine.concat());
            late.push_back(theirs.concat());
            if late.len() > 40 {
                send(&mut state, at + 100, &late.pop_front().expect("forty"));
            }
            assert!(state.size().open_spans <= 600, "{:?}", state.size());
        }
    }
    // An eighth of what comes in ten seconds fits, and of what stays open for fourteen a sixteenth.
    assert!([0.125, 0.0625].contains(&state.traces_kept()), "{}", state.traces_kept());
    // Nothing of the first twenty seconds, in which the share was found, nor of the last, whose traces are open.
    let all = state.series(&key("a"), always());
    let settled =
        Bucket(UnixNanos(crate::build::T0).bucket().0 + 2)..Bucket(UnixNanos(crate::build::T0).bucket().0 + 7);
    let cells = || {
        all.iter().flat_map(|series| &series.cells).filter(|(bucket, _)| settled.contains(bucket)).map(|(_, cell)| cell)
    };
    let [requests, assembled]: [u64; 2] =
        [cells().map(|cell| cell.requests).sum(), cells().map(|cell| cell.assembled).sum()];
    assert_eq!(requests, 5_000);
    assert!((250..=750).contains(&assembled), "{assembled} of {requests} are whole");
    let (calls, blamed) = cells().fold((0, 0), |(calls, blamed), cell| {
        let of_b = |service: &str| service == "b";
        let made =
            cell.callees.iter().filter(|(party, _)| of_b(&party.service)).map(|(_, time)| time.calls).sum::<u64>();
        let failed = cell.blame.iter().filter(|(party, _)| of_b(&party.service)).map(|(_, n)| n).sum::<u64>();
        (calls + made, blamed + failed)
    });
    assert_eq!((calls, blamed), (assembled, assembled), "each of them with its call, and with whose failure it was");
    assert_eq!(state.data_quality(&key("a")), ["drawn_traces"]);
}

#[test]
fn where_all_fit_after_all_every_trace_stays_whole() {
    // 1,700 of 2,000 spans wait: more than is aimed at, and none has to go.
    let limits = SignalLimits { open_spans_max: 2_000, spans_per_trace_max: 100, ..SignalLimits::default() };
    let mut state = SignalState::new(limits);
    for tenth in 0..600_u64 {
        let at = tenth * 100;
        let sent: Vec<_> =
            (0..17).map(|i| span("a", SERVER, "x", 1, 0, at, at).trace(u128::from(tenth * 17 + i + 1) << 64)).collect();
        send(&mut state, at + 100, &sent);
    }
    assert!(state.traces_kept() < 1.0);
    // What gets no place takes none from others.
    let endless: Vec<_> = (1..=5_000).map(|i| span("b", SERVER, "y", i, 0, 60_000, 60_010)).collect();
    let mut roomy =
        SignalState::new(SignalLimits { open_spans_max: 2_000, spans_per_trace_max: 100, ..SignalLimits::default() });
    send(&mut roomy, 60_100, &endless);
    assert_eq!(roomy.traces_kept(), 1.0);
    for (state, partial) in [(&mut state, 0), (&mut roomy, 1)] {
        state.close_traces();
        assert_eq!((state.counters().traces_partial, state.counters().traces_evicted), (partial, 0));
    }
    assert!(state.data_quality(&key("a")).is_empty());
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
    assert_eq!(state.data_quality(&key("a")), ["dropped_cells"]);
}

#[test]
fn buckets_older_than_the_retention_go() {
    let mut state = SignalState::new(SignalLimits { retention: Duration::from_secs(60), ..SignalLimits::default() });
    send(&mut state, 0, &named(0, 1, 0));
    state.take_rows();
    send(&mut state, 100_000, &named(0, 1, 100_000));
    assert_eq!(total(&state, "a", "a").requests, 1);
}

/// One request of each of `services` in each of `buckets`, settled.
fn served(state: &mut SignalState, services: &[&'static str], buckets: std::ops::Range<u64>) {
    for bucket in buckets {
        let at = bucket * 10_000;
        let spans: Vec<_> = services
            .iter()
            .zip(1..)
            .map(|(service, i)| {
                span(service, SERVER, "x", i, 0, at, at).trace(u128::from(bucket) << 64 | u128::from(i))
            })
            .collect();
        send(state, at, &spans);
        state.take_rows();
    }
}

fn buckets(state: &SignalState, service: &str) -> usize {
    state.series(&key(service), always()).iter().map(|series| series.cells.len()).sum()
}

#[test]
fn what_a_deploy_is_judged_by_goes_last_and_what_went_is_said() {
    let mut state = SignalState::new(SignalLimits { rolling_cells_max: 300, ..SignalLimits::default() });
    served(&mut state, &["a", "b", "c"], 0..60);
    let start = Bucket(UnixNanos(crate::build::T0).bucket().0 + 30).start();
    state.keep(&[(key("a"), start)].into());
    served(&mut state, &["a", "b", "c"], 60..200);
    assert!(state.size().rolling_cells <= 300, "{:?}", state.size());
    let all = state.series(&key("a"), always());
    let first = all.iter().flat_map(|series| &series.cells).map(|(bucket, _)| *bucket).min().expect("some");
    assert!(first <= start.bucket(), "what is needed is there");
    assert!(buckets(&state, "a") >= 170 && buckets(&state, "b") < 70 && buckets(&state, "c") < 70);
    assert!(state.forgotten(&key("a")) <= start && state.forgotten(&key("b")) > start);
    // Once nobody needs it, the oldest go of all alike.
    state.keep(&[].into());
    served(&mut state, &["a", "b", "c"], 200..320);
    assert!(buckets(&state, "a") <= 100 && state.forgotten(&key("a")) > start);
    // More is needed than there is room for: that is said as well.
    state.keep(&[(key("a"), start), (key("b"), start), (key("c"), start)].into());
    let before = state.forgotten(&key("a"));
    served(&mut state, &["a", "b", "c"], 320..420);
    assert!(state.size().rolling_cells <= 300 && state.forgotten(&key("a")) > before);
}

#[test]
fn what_services_beside_a_deploy_served_goes_before_its_own_and_after_all_others() {
    let mut state = SignalState::new(SignalLimits { rolling_cells_max: 250, ..SignalLimits::default() });
    send(
        &mut state,
        0,
        &[
            span("b", SERVER, "x", 1, 0, 0, 9),
            span("b", crate::build::CLIENT, "call", 2, 1, 1, 8),
            span("a", SERVER, "x", 3, 2, 2, 7),
        ],
    );
    state.close_traces();
    served(&mut state, &["a", "b", "c"], 0..2);
    state.keep(&[(key("a"), UnixNanos(crate::build::T0))].into());
    served(&mut state, &["a", "b", "c"], 2..110);
    let [a, b, c] = ["a", "b", "c"].map(|service| buckets(&state, service));
    assert!(a == 110 && b == 110 && c < 40, "{a} {b} {c}");
    served(&mut state, &["a", "b", "c"], 110..160);
    let [a, b, c] = ["a", "b", "c"].map(|service| buckets(&state, service));
    assert!(a == 160 && b < 100 && c < 20, "{a} {b} {c}");
}

#[test]
fn what_a_deploy_is_judged_by_outlives_the_retention() {
    let limits = SignalLimits { retention: Duration::from_secs(600), ..SignalLimits::default() };
    let mut state = SignalState::new(limits);
    served(&mut state, &["a", "b"], 0..30);
    state.keep(&[(key("a"), UnixNanos(crate::build::T0 + 100_000_000_000))].into());
    served(&mut state, &["a", "b"], 30..200);
    assert_eq!((buckets(&state, "a"), buckets(&state, "b")), (190, 61));
    assert_eq!(state.forgotten(&key("b")), UnixNanos(0), "it was kept as long as it is to be");
    state.keep(&[].into());
    served(&mut state, &["a", "b"], 200..201);
    assert_eq!((buckets(&state, "a"), buckets(&state, "b")), (61, 61));
}

#[test]
fn what_had_to_go_comes_back_from_stored_rows_as_it_was() {
    let limits = SignalLimits { rolling_cells_max: 200, ..SignalLimits::default() };
    let (mut state, mut roomy) = (SignalState::new(limits), SignalState::new(SignalLimits::default()));
    let mut stored = Vec::new();
    for bucket in 0..150 {
        served(&mut roomy, &["a", "b"], bucket..bucket + 1);
        let at = bucket * 10_000;
        let spans: Vec<_> = ["a", "b"]
            .iter()
            .zip(1..)
            .map(|(service, i)| {
                span(service, SERVER, "x", i, 0, at, at).trace(u128::from(bucket) << 64 | u128::from(i))
            })
            .collect();
        send(&mut state, at, &spans);
        let rows = state.take_rows().into_iter().filter(|(table, _)| *table == plimsoll_otlp::Table::Operations);
        stored.extend(rows.map(|(_, batch)| batch));
    }
    let from = Bucket(UnixNanos(crate::build::T0).bucket().0 + 20).start();
    state.keep(&[(key("a"), from)].into());
    let until = state.forgotten(&key("a"));
    assert!(until > from);
    // As a store hands them out: of the service, and of the time in question.
    let wanted: Vec<_> = stored
        .iter()
        .flat_map(|batch| plimsoll_signals::decode_operations(batch).expect("the stored schema"))
        .filter(|(of, bucket, _)| of.service == key("a") && bucket.start() >= from && bucket.start() < until)
        .collect();
    let rows = [plimsoll_signals::encode_operations(&wanted)];
    for _ in 0..2 {
        state.recall(&key("a"), from, &rows).expect("the stored schema");
        assert!(state.forgotten(&key("a")) <= from && state.size().rolling_cells <= 200);
        let within = plimsoll_model::Interval { from, to: UnixNanos::MAX };
        assert_eq!(state.series(&key("a"), within), roomy.series(&key("a"), within));
    }
}
