//! Rows never vanish and never show twice, whatever happens behind the readers' backs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::{Signal, Table};

use crate::rows::{frame, multiset, nth, total};
use crate::world::{World, expected, expected_requests, publish};

const TELEMETRY: [Table; 3] = [Table::Spans, Table::Logs, Table::Metrics];

#[tokio::test]
async fn published_rows_are_seen_at_once_and_folded_soon() {
    let world = World::new();
    let store = world.open().await;
    store.publish(vec![nth(1), nth(2), nth(3)]);
    let snapshot = store.snapshot();
    for table in TELEMETRY {
        assert_eq!(world.rows(&snapshot, table), expected(table, 4));
        assert!(snapshot.segments(table).is_empty());
    }
    store.folded().await;
    assert_eq!(world.requests(&store.snapshot()), expected_requests(4));
    let status = store.status();
    assert_eq!((status.published, status.folded), (SequenceNumber(3), SequenceNumber(3)));
    assert_eq!(status.tail_rows, expected_requests(4));
    assert_eq!(status.tail_batches, 3);
}

#[tokio::test]
async fn a_flush_moves_rows_and_a_snapshot_taken_before_keeps_its_own() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 30);
    let before = store.snapshot();
    assert_eq!(store.flush().await.expect("flushed"), SequenceNumber(29));
    let after = store.snapshot();
    for table in TELEMETRY {
        assert_eq!(world.rows(&before, table), expected(table, 30));
        assert_eq!(world.rows(&after, table), expected(table, 30));
        assert!(before.segments(table).is_empty() && after.tail(table).is_empty());
        assert_eq!(after.segments(table).len(), 1);
    }
    assert_eq!(world.requests(&after), expected_requests(30));
    assert!(after.tail(Table::Operations).is_empty());
    assert_eq!(world.trimmed.load(Ordering::SeqCst), 29, "the journal may let go of what is in segments");
    let status = store.status();
    assert_eq!((status.tail_rows, status.tail_bytes, status.tail_batches, status.flushes), (0, 0, 0, 1));
    assert_eq!(store.checkpoint(), SequenceNumber(29));
    assert_eq!(store.flush().await.expect("nothing to do"), SequenceNumber(29));
    assert_eq!(store.status().flushes, 1, "nothing new makes no segment");
}

#[tokio::test]
async fn segments_say_what_is_in_them() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 30);
    let tail = store.snapshot().tail(Table::Spans);
    store.flush().await.expect("flushed");
    let segments = store.snapshot().segments(Table::Spans);
    let record = &segments[0];
    let times = |name: &str| -> Vec<u64> {
        let column = |batch: &arrow::array::RecordBatch| {
            use arrow::array::AsArray;
            let column = batch.column_by_name(name).expect("a column");
            column.as_primitive::<arrow::datatypes::TimestampNanosecondType>().values().to_vec()
        };
        tail.iter().flat_map(column).map(|at| at as u64).collect()
    };
    assert_eq!(record.rows, times("start_time").len() as u64);
    assert_eq!(Some(record.times.from.0), times("start_time").into_iter().min());
    assert_eq!(Some(record.times.to.0 - 1), times("start_time").into_iter().max());
    assert_eq!(Some(record.received_to.0), times("received_time").into_iter().max());
    assert_eq!(record.frames, (SequenceNumber(3), SequenceNumber(29)), "frame 3 is the first with spans");
    let file = world.root().join(&record.path);
    assert_eq!(record.bytes, std::fs::metadata(&file).expect("it is there").len());
    assert_eq!(record.path, format!("spans/2023-11-14/{}.parquet", record.id));
}

#[tokio::test]
async fn the_footer_says_what_the_catalog_says() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    store.flush().await.expect("flushed");
    for table in Table::ALL {
        let record = store.snapshot().segments(table)[0].clone();
        let file = std::fs::File::open(world.root().join(&record.path)).expect("it is there");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
        let facts = reader.metadata().file_metadata().key_value_metadata().expect("there are facts");
        let ours = facts.iter().filter(|fact| fact.key.starts_with("plimsoll."));
        let mut ours: Vec<String> =
            ours.map(|fact| format!("{}={}", fact.key, fact.value.as_deref().unwrap_or(""))).collect();
        ours.sort();
        let expected = [
            "plimsoll.flush=9/5".to_owned(),
            "plimsoll.format=1".to_owned(),
            format!("plimsoll.frames={}-9", record.frames.0),
            format!("plimsoll.received_to={}", record.received_to.0),
            format!("plimsoll.sealed_at={}", record.created_at.0),
            "plimsoll.sums=8192".to_owned(),
            format!("plimsoll.table={}", table.name()),
            format!("plimsoll.times={}-{}", record.times.from.0, record.times.to.0),
        ];
        assert_eq!(ours, expected);
    }
}

#[tokio::test]
async fn segments_are_read_through_the_object_store_of_the_snapshot() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    store.flush().await.expect("flushed");
    let snapshot = store.snapshot();
    for table in Table::ALL {
        let record = snapshot.segments(table)[0].clone();
        let meta = snapshot.object_store().head(&record.path.as_str().into()).await.expect("it is there");
        assert_eq!(meta.size, record.bytes);
    }
}

#[tokio::test]
async fn frames_without_rows_move_the_checkpoint_all_the_same() {
    let world = World::new();
    let store = world.open().await;
    store.publish(vec![frame(1, Signal::Logs, 0), frame(2, Signal::Traces, 0)]);
    store.folded().await;
    assert_eq!(store.flush().await.expect("flushed"), SequenceNumber(2));
    assert!(store.snapshot().segments(Table::Logs).is_empty());
    assert_eq!(world.catalog().await.checkpoint().await.expect("read"), SequenceNumber(2));
}

#[tokio::test]
async fn many_small_batches_become_few_with_the_same_rows_and_less_memory() {
    let world = World::new();
    let store = world.open().await;
    let rows = multiset((1..=1_000).map(|n| frame(n, Signal::Logs, 5).batch).collect::<Vec<_>>().iter());
    for sequence in 1..=1_000 {
        store.publish(vec![frame(sequence, Signal::Logs, 5)]);
    }
    store.folded().await;
    let before = store.status();
    store.maintain().await.expect("maintained");
    let after = store.status();
    assert!(after.tail_batches < 64 && after.tail_batches < before.tail_batches.max(65), "{after:?}");
    assert_eq!(after.tail_rows, 5_000);
    assert!(after.tail_bytes <= before.tail_bytes);
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), rows);
    store.flush().await.expect("flushed");
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), rows);
}

#[tokio::test]
async fn a_tail_that_is_large_or_old_is_flushed_without_being_asked() {
    let mut world = World::new();
    world.options.tail_bytes_flush = 1_000_000;
    let store = world.open().await;
    publish(&store, 1, 10);
    store.folded().await;
    store.maintain().await.expect("maintained");
    assert_eq!(store.checkpoint(), SequenceNumber::ZERO);
    world.advance(world.options.tail_age_flush);
    store.maintain().await.expect("maintained");
    assert_eq!(store.checkpoint(), SequenceNumber(9), "old");

    store.publish((10..40).map(|n| frame(n, Signal::Traces, 300)).collect());
    assert!(store.status().tail_bytes > 1_000_000);
    store.folded().await;
    store.maintain().await.expect("maintained");
    assert!(store.checkpoint() > SequenceNumber(9) && store.status().tail_bytes < 1_000_000, "large");
}

#[test]
fn readers_that_poll_all_the_while_see_every_row_exactly_once() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let world = Arc::new(World::new());
    let store = runtime.block_on(world.open());
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = TELEMETRY
        .into_iter()
        .map(|table| {
            let (world, store, done) = (Arc::clone(&world), store.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let (mut polls, mut seen) = (0_u64, 0);
                while !done.load(Ordering::SeqCst) {
                    let snapshot = store.snapshot();
                    let published = snapshot.published().0;
                    let rows = world.rows(&snapshot, table);
                    assert_eq!(rows, expected(table, published + 1), "{} at {published}", table.name());
                    assert!(published >= seen, "a later snapshot shows no less");
                    seen = published;
                    polls += 1;
                }
                polls
            })
        })
        .collect();
    for round in 0..12_u64 {
        publish(&store, 1 + round * 20, 1 + (round + 1) * 20);
        runtime.block_on(async {
            match round % 3 {
                0 => store.maintain().await.expect("maintained"),
                1 => drop(store.flush().await.expect("flushed")),
                _ => store.folded().await,
            }
        });
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.join().expect("no reader saw a gap or a duplicate") > 0);
    }
    runtime.block_on(store.close()).expect("closed");
    let snapshot = store.snapshot();
    assert_eq!(world.requests(&snapshot), expected_requests(241));
    assert_eq!(total(&world.rows(&snapshot, Table::Spans)), total(&expected(Table::Spans, 241)));
}

#[tokio::test]
async fn retired_files_stay_until_the_last_snapshot_is_gone() {
    let mut world = World::new();
    world.options.retention = Duration::from_secs(7_200);
    let store = world.open().await;
    publish(&store, 1, 20);
    store.flush().await.expect("flushed");
    let old = store.snapshot();
    // The rows were received within an hour of the clock's start.
    world.advance(Duration::from_secs(3_600 + 7_201));
    store.maintain().await.expect("maintained");
    let now = store.snapshot();
    assert!(TELEMETRY.iter().all(|table| now.segments(*table).is_empty()));
    for table in TELEMETRY {
        assert_eq!(world.rows(&old, table), expected(table, 20), "what a query began with, it ends with");
    }
    let status = store.status();
    assert_eq!(status.retired_segments, 5);
    assert_eq!(status.retired_rows, expected_requests(20) + 2 * 19);
    let file = world.root().join(&old.segments(Table::Logs)[0].path);
    store.maintain().await.expect("maintained");
    assert!(file.exists());
    drop(old);
    store.maintain().await.expect("maintained");
    assert!(!file.exists());
    assert!(world.catalog().await.segments().await.expect("read").is_empty());
    assert_eq!(store.checkpoint(), SequenceNumber(19), "what is too old is not replayed either");
}
