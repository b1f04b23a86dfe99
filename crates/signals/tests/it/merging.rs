//! Any split, any order, any shard: the same cells and the same bytes.

use arrow::array::RecordBatch;
use plimsoll_otlp::Table;
use plimsoll_signals::{SignalState, decode_operations, encode_operations};
use proptest::prelude::*;

use crate::build::{CLIENT, INTERNAL, SERVER, Sent, always, key, send, span, state, text};

const SERVICES: [&str; 3] = ["front", "cart", "payment"];

prop_compose! {
    fn any_span()(
        service in 0..3_usize, kind in prop::sample::select(vec![SERVER, CLIENT, INTERNAL, 5]), name in 0..4_u8,
        trace in 0..6_u128, id in 1..20_u64, parent in 0..20_u64, at in 0..25_000_u64, took in 0..3_000_u64,
        failed in any::<bool>(), throws in 0..4_u8, version in 1..3_u8, places in prop::option::of((0..3_usize, 0..3_usize)),
    ) -> Sent {
        let mut sent = span(SERVICES[service], kind, &format!("op{name}"), id + 100 * name as u64 * 3, parent, at, at + took)
            .trace(trace + 1);
        sent.version = version.to_string();
        sent.failed = failed;
        if let Some((region, tenant)) = places {
            sent = sent.with("region", text(["eu", "us", "ap"][region])).with("tenant", text(["red", "green", "blue"][tenant]));
        }
        if throws == 0 {
            sent = sent.throws("Boom", "m", "at shop.Pay.charge(Pay.java:41)");
        }
        sent
    }
}

/// Every service serves from the start, so that which internal spans count does not hang on what came first.
fn primed() -> SignalState {
    let mut state = state();
    let spans: Vec<Sent> =
        (0_u64..).zip(SERVICES).map(|(i, s)| span(s, SERVER, "up", 1, 0, 0, 1).trace(900 + u128::from(i))).collect();
    send(&mut state, 30_000, &spans);
    state
}

fn operations_of(rows: Vec<(Table, RecordBatch)>) -> RecordBatch {
    rows.into_iter().find(|(table, _)| *table == Table::Operations).expect("something was folded").1
}

fn unique(spans: Vec<Sent>) -> Vec<Sent> {
    let mut seen = std::collections::HashSet::new();
    spans.into_iter().filter(|s| seen.insert((s.trace, s.id))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_split_and_order_gives_equal_cells_and_bytes(
        spans in prop::collection::vec(any_span(), 1..40).prop_map(unique),
        order in any::<prop::sample::Index>(), size in 1..9_usize,
    ) {
        let mut whole = primed();
        send(&mut whole, 30_000, &spans);
        whole.close_traces();
        let mut split = primed();
        let mut turned = spans.clone();
        turned.rotate_left(order.index(spans.len()));
        turned.reverse();
        for part in turned.chunks(size) {
            send(&mut split, 30_000, part);
        }
        split.close_traces();
        prop_assert_eq!(whole.pending_rows(), split.pending_rows());
    }

    #[test]
    fn rows_come_back_as_they_were(spans in prop::collection::vec(any_span(), 1..40).prop_map(unique)) {
        let mut state = primed();
        send(&mut state, 30_000, &spans);
        state.close_traces();
        let before: Vec<_> = SERVICES.iter().flat_map(|s| state.series(&key(s), always())).collect();
        let rows = operations_of(state.take_rows());
        prop_assert!(state.pending_rows().is_empty());
        let after: Vec<_> = SERVICES.iter().flat_map(|s| state.series(&key(s), always())).collect();
        prop_assert_eq!(&before, &after);
        prop_assert_eq!(&encode_operations(&decode_operations(&rows).expect("own rows")), &rows);

        let mut restarted = crate::build::state();
        restarted.load(Table::Operations, &rows).expect("own rows");
        prop_assert!(restarted.pending_rows().is_empty());
        let loaded: Vec<_> = SERVICES.iter().flat_map(|s| restarted.series(&key(s), always())).collect();
        prop_assert_eq!(&before, &loaded);
        prop_assert!(restarted.take_new_versions().is_empty());
    }

    #[test]
    fn shards_by_trace_merge_into_the_whole(spans in prop::collection::vec(any_span(), 1..40).prop_map(unique)) {
        let mut whole = primed();
        send(&mut whole, 30_000, &spans);
        whole.close_traces();
        whole.take_rows();
        let (even, odd): (Vec<Sent>, Vec<Sent>) = spans.into_iter().partition(|s| s.trace % 2 == 0);
        let mut merged = crate::build::state();
        let mut idle = primed();
        idle.close_traces();
        for part in [even, odd] {
            let mut shard = primed();
            send(&mut shard, 30_000, &part);
            shard.close_traces();
            merged.load(Table::Operations, &operations_of(shard.take_rows())).expect("own rows");
        }
        // Both shards were primed: the whole has to be twice.
        whole.load(Table::Operations, &operations_of(idle.take_rows())).expect("own rows");
        for service in SERVICES {
            prop_assert_eq!(whole.series(&key(service), always()), merged.series(&key(service), always()));
        }
    }
}
