//! Rows go by age, by environment and for want of space, and no others do.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use plimsoll_otlp::Table;
use plimsoll_store::{RetentionRule, Store};

use crate::rows::total;
use crate::world::{World, expected, publish};

#[tokio::test]
async fn rows_of_an_environment_go_when_their_own_time_is_up_and_the_rest_stays() {
    let mut world = World::new();
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    world.options.retention = hours(100);
    let store = world.open().await;
    publish(&store, 1, 30);
    store.flush().await.expect("flushed");
    let all = world.rows(&store.snapshot(), Table::Logs);
    let before = environments(&world, &store);
    assert!(before.len() >= 2, "{before:?}");
    let (short, others) = before.split_first().expect("there are some");
    let (short, others) = (short.clone(), others.to_vec());
    store.close().await.expect("closed");
    drop(store);

    let rule = RetentionRule { table: Some(Table::Logs), environment: Some(short), keep: hours(10) };
    world.options.retention_rules = vec![rule];
    world.advance(hours(20));
    let store = world.open().await;
    // One pass asks for the rewriting, the next does it.
    for _ in 0..3 {
        store.maintain().await.expect("maintained");
    }
    let left = world.rows(&store.snapshot(), Table::Logs);
    assert_eq!(environments(&world, &store), others);
    assert!(total(&left) < total(&all) && left.iter().all(|(row, count)| all.get(row) == Some(count)));
    assert_eq!(store.status().retired_rows, (total(&all) - total(&left)) as u64);
    assert_eq!(
        total(&world.rows(&store.snapshot(), Table::Spans)),
        total(&expected(Table::Spans, 30)),
        "the rule is of logs"
    );
}

#[tokio::test]
async fn a_clock_that_is_set_ahead_by_years_removes_nothing_at_once() {
    let mut world = World::new();
    world.options.retention = Duration::from_secs(7 * 86_400);
    let store = world.open().await;
    publish(&store, 1, 30);
    store.flush().await.expect("flushed");
    world.advance(Duration::from_secs(1_000 * 86_400));
    publish(&store, 30, 40);
    // Retention is looked after before a flush is answered.
    store.flush().await.expect("flushed");
    assert_eq!(total(&world.rows(&store.snapshot(), Table::Spans)), total(&expected(Table::Spans, 40)));
    assert!(store.status().clock_doubted);
    assert_eq!(store.status().retired_rows, 0);
    store.close().await.expect("closed");
    drop(store);
    // Nor at a start with that clock, or after a long while without one.
    world.advance(Duration::from_secs(1_000 * 86_400));
    let store = world.open().await;
    publish(&store, 40, 50);
    store.flush().await.expect("flushed");
    assert_eq!(total(&world.rows(&store.snapshot(), Table::Spans)), total(&expected(Table::Spans, 50)));
    // Whoever asks for it has looked at the clock.
    store.maintain().await.expect("maintained");
    assert!(total(&world.rows(&store.snapshot(), Table::Spans)) < total(&expected(Table::Spans, 50)));
    assert!(!store.status().clock_doubted);
}

#[tokio::test]
async fn a_segment_that_a_full_disk_kept_from_being_trimmed_is_trimmed_once_there_is_space() {
    // The file cannot be made; it cannot be written.
    for full in [true, false] {
        let mut world = World::new();
        let hours = |n: u64| Duration::from_secs(n * 3_600);
        world.options.retention = hours(100);
        let store = world.open().await;
        publish(&store, 1, 30);
        store.flush().await.expect("flushed");
        let before = environments(&world, &store);
        let all = world.rows(&store.snapshot(), Table::Logs);
        let (short, others) = before.split_first().expect("there are some");
        assert!(!others.is_empty(), "{before:?}");
        store.close().await.expect("closed");
        drop(store);

        let rule = RetentionRule { table: Some(Table::Logs), environment: Some(short.clone()), keep: hours(10) };
        world.options.retention_rules = vec![rule];
        // Opened while nothing is due: what fails is the trimming.
        let store = world.open().await;
        store.maintain().await.expect("maintained");
        match full {
            true => world.files.full.store(true, Ordering::SeqCst),
            false => world.files.fail_after(1),
        }
        world.advance(hours(20));
        for _ in 0..3 {
            store.maintain().await.expect("maintained");
        }
        assert_eq!(world.rows(&store.snapshot(), Table::Logs), all, "nothing is lost");
        assert_eq!(store.status().unreadable_segments, 0, "the input can be read");
        world.files.behave();
        for _ in 0..3 {
            store.maintain().await.expect("maintained");
        }
        assert_eq!(environments(&world, &store), others);
    }
}

fn environments(world: &World, store: &Store) -> Vec<String> {
    let mut found = BTreeSet::new();
    for segment in store.snapshot().segments(Table::Logs) {
        for batch in world.segment(&segment.path) {
            let column = batch.column_by_name("environment").expect("a column");
            let texts = cast(column, &DataType::Utf8).expect("text");
            found.extend(texts.as_string::<i32>().iter().map(|name| name.unwrap_or("").to_owned()));
        }
    }
    found.into_iter().collect()
}

#[tokio::test]
async fn the_oldest_segments_go_where_there_are_too_many_bytes_and_aggregates_last() {
    let mut world = World::new();
    let store = world.open().await;
    for round in 0..6 {
        publish(&store, 1 + round * 5, 6 + round * 5);
        store.flush().await.expect("flushed");
    }
    let bytes = |store: &Store| store.status().segments.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
    let before = bytes(&store);
    let newest = |store: &Store| {
        let snapshot = store.snapshot();
        let telemetry = [Table::Spans, Table::Logs, Table::Metrics].into_iter().flat_map(|t| snapshot.segments(t));
        telemetry.max_by_key(|segment| segment.received_to).map(|segment| segment.id)
    };
    let (last, aggregates) = (newest(&store), store.snapshot().segments(Table::Operations).len());
    store.close().await.expect("closed");
    drop(store);
    world.options.disk_bytes_max = before / 2;
    let store = world.open().await;
    store.maintain().await.expect("maintained");
    let status = store.status();
    assert!(bytes(&store) <= before / 2 && bytes(&store) > before / 4, "{} of {before}", bytes(&store));
    assert!(status.evicted_segments > 0 && status.evicted_rows > 0 && status.retired_rows == 0);
    assert_eq!(newest(&store), last, "the newest stays");
    assert_eq!(store.snapshot().segments(Table::Operations).len(), aggregates);
}
