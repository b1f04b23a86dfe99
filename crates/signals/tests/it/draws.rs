//! Requests drawn of each cell: which values come together.

use arrow::array::RecordBatch;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use plimsoll_model::drill::Draws;
use plimsoll_otlp::Table;
use plimsoll_signals::decode_operations;

use crate::build::{SERVER, Sent, send, span, state, text, total};

fn rows(state: &mut plimsoll_signals::SignalState) -> RecordBatch {
    let rows = state.take_rows().into_iter().find(|(table, _)| *table == Table::Operations);
    rows.expect("something was folded").1
}

#[test]
fn a_few_requests_are_drawn_with_all_their_values_by_outcome() {
    let mut state = state();
    let spans: Vec<_> = (1..=400_u64)
        .map(|i| {
            let mut sent = span("a", SERVER, "x", i, 0, 0, 10)
                .trace(u128::from(i))
                .with("tenant", text(["red", "green"][usize::from(i % 3 == 0)]))
                .with("http.response.status_code", Value::IntValue(if i % 4 == 0 { 500 } else { 200 }))
                .with("error.type", text("Boom"));
            sent.resource.push(("region", ["eu", "us"][usize::from(i % 2 == 0)].to_owned()));
            sent
        })
        .collect();
    send(&mut state, 100, &spans);
    let cell = total(&state, "a", "x");
    assert_eq!((cell.failed_draws.0.len(), cell.good_draws.0.len()), (Draws::FAILED_MAX, Draws::GOOD_MAX));
    for (draws, only) in [(&cell.failed_draws, Some("us")), (&cell.good_draws, None)] {
        for draw in &draws.0 {
            let names: Vec<&str> = draw.values.iter().map(|(attribute, _)| &**attribute).collect();
            assert_eq!(names, ["region", "tenant"], "what says that it failed is left out");
            assert!(only.is_none_or(|only| *draw.values[0].1 == *only), "{draw:?}");
        }
        assert!(draws.0.is_sorted_by_key(|draw| draw.number));
    }
    let tenants: std::collections::BTreeSet<_> = cell.failed_draws.0.iter().map(|draw| &draw.values[1].1).collect();
    assert_eq!(tenants.len(), 2, "they are drawn from all of them");
}

#[test]
fn a_bomb_of_combinations_takes_no_more_room_than_a_few() {
    let held = |combinations: u64| {
        let before = crate::memory::held();
        let mut state = state();
        for chunk in 0..20_u64 {
            let spans: Vec<_> = (1..=500_u64)
                .map(|i| {
                    let n = chunk * 500 + i;
                    let tenant = format!("t{}", n % combinations);
                    let mut sent =
                        span("a", SERVER, "x", n, 0, 0, 10).trace(u128::from(n)).with("tenant", text(&tenant));
                    sent.resource.push(("host.name", format!("h{}", n / 7 % combinations)));
                    if i % 2 == 0 { sent.failed() } else { sent }
                })
                .collect();
            send(&mut state, 100, &spans);
            state.close_traces();
        }
        let draws = total(&state, "a", "x");
        assert_eq!((draws.failed_draws.0.len(), draws.good_draws.0.len()), (Draws::FAILED_MAX, Draws::GOOD_MAX));
        let rows = state.take_rows();
        drop(rows);
        crate::memory::held() - before
    };
    // The texts themselves are held in either case.
    let (few, many) = (held(12), held(90));
    assert!(many < few + (64 << 10), "{few} bytes of 144 combinations, {many} of 8,100");
}

#[test]
fn a_request_that_tells_an_attribute_a_thousand_times_is_drawn_with_a_few_values() {
    let mut state = state();
    let mut bomb = span("a", SERVER, "x", 1, 0, 0, 10).failed();
    for n in 0..1_000 {
        bomb = bomb.with("tenant", text(&format!("t{n}")));
    }
    send(&mut state, 100, &[bomb]);
    let drawn = total(&state, "a", "x").failed_draws.0;
    assert_eq!(drawn.iter().map(|draw| draw.values.len()).collect::<Vec<_>>(), [32]);
}

/// Requests of one bucket, a fifth of which fails.
fn requests(numbers: std::ops::Range<u64>) -> Vec<Sent> {
    let request = |i: u64| {
        let sent = span("a", SERVER, "x", i, 0, 0, 10)
            .trace(u128::from(i * 7))
            .with("tenant", text(["red", "green", "blue"][(i % 3) as usize]));
        if i.is_multiple_of(5) { sent.failed() } else { sent }
    };
    numbers.map(request).collect()
}

#[test]
fn what_is_drawn_is_the_same_in_parts_and_after_a_restart() {
    let mut whole = state();
    send(&mut whole, 100, &requests(1..600));
    let expected = total(&whole, "a", "x");
    assert_eq!((expected.failed_draws.0.len(), expected.good_draws.0.len()), (Draws::FAILED_MAX, Draws::GOOD_MAX));
    // Stored at each of three moments, the last of them first, and read by another process.
    let (mut parts, mut restarted) = (state(), state());
    for part in [400..600, 150..400, 1..150] {
        send(&mut parts, 100, &requests(part));
        restarted.load(Table::Operations, &rows(&mut parts)).expect("own rows");
    }
    for state in [&parts, &restarted] {
        let found = total(state, "a", "x");
        assert_eq!((&found.failed_draws, &found.good_draws), (&expected.failed_draws, &expected.good_draws));
    }
}

#[test]
fn rows_of_builds_that_drew_none_are_read() {
    let mut state = state();
    send(&mut state, 100, &requests(1..60));
    let whole = rows(&mut state);
    let older: Vec<usize> =
        (0..whole.num_columns()).filter(|at| !whole.schema().field(*at).name().ends_with("_draws")).collect();
    assert_eq!(older.len() + 2, whole.num_columns());
    let (_, _, cell) = &decode_operations(&whole.project(&older).expect("columns")).expect("older rows")[0];
    assert_eq!((cell.requests, cell.failed_draws.0.len(), cell.good_draws.0.len()), (59, 0, 0));
    assert!(!cell.values.is_empty());
}
