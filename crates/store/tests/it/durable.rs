//! Reopening, files that should not be there, files that should, and disks without space.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, RecordBatch};
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::{Signal, Table};
use plimsoll_store::{Fold, Published, SegmentFiles, Store, StoreError};

use crate::rows::{frame, total};
use crate::world::{Counting, World, expected, expected_requests, publish};

#[tokio::test]
async fn closing_stores_everything_and_reopening_shows_it() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 25);
    store.close().await.expect("closed");
    store.close().await.expect("closing again is no error");
    assert!(matches!(store.flush().await, Err(StoreError::Closed)));
    drop(store);
    let store = world.open().await;
    assert_eq!(store.checkpoint(), SequenceNumber(24));
    let snapshot = store.snapshot();
    for table in [Table::Spans, Table::Logs, Table::Metrics] {
        assert_eq!(world.rows(&snapshot, table), expected(table, 25));
    }
    assert_eq!(world.requests(&snapshot), expected_requests(25));
    assert_eq!(store.status().published, SequenceNumber(24));
}

#[tokio::test]
async fn files_that_nothing_names_are_removed_and_strangers_are_left() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    store.close().await.expect("closed");
    drop(store);
    let orphan = world.root().join("spans/2020-01-01/seg_orphan.parquet");
    let unfinished = world.root().join("spans/2020-01-01/seg_half.parquet.tmp");
    let stranger = world.root().join("notes.txt");
    std::fs::create_dir_all(orphan.parent().expect("a parent")).expect("made");
    for file in [&orphan, &unfinished, &stranger] {
        std::fs::write(file, b"PAR1").expect("written");
    }
    let store = world.open().await;
    assert!(!orphan.exists() && !unfinished.exists() && stranger.exists());
    assert_eq!(store.status().orphan_files, 1);
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), expected(Table::Logs, 10));
}

#[tokio::test]
async fn a_missing_segment_is_said_loudly_and_counts_again_once_it_is_back() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    store.flush().await.expect("flushed");
    publish(&store, 10, 20);
    store.close().await.expect("closed");
    let lost = store.snapshot().segments(Table::Spans)[0].clone();
    drop(store);
    let (file, aside) = (world.root().join(&lost.path), world.directory.path().join("aside"));
    std::fs::rename(&file, &aside).expect("moved");

    let store = world.open().await;
    let status = store.status();
    assert_eq!((status.missing_segments, status.missing_rows), (1, lost.rows));
    let left = world.rows(&store.snapshot(), Table::Spans);
    assert_eq!(total(&left) as u64 + lost.rows, total(&expected(Table::Spans, 20)) as u64, "the rest can be queried");
    drop(store);

    std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
    std::fs::write(&file, b"cut short").expect("written");
    let store = world.open().await;
    assert_eq!(store.status().missing_segments, 1, "a file of another size is not the segment");
    assert_eq!(store.snapshot().segments(Table::Spans).len(), 1);
    drop(store);

    std::fs::copy(&aside, &file).expect("copied");
    let store = world.open().await;
    assert_eq!(store.status().missing_segments, 0);
    assert_eq!(world.rows(&store.snapshot(), Table::Spans), expected(Table::Spans, 20));
}

#[tokio::test]
async fn a_missing_segment_leaves_the_catalog_when_it_is_too_old() {
    let mut world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    store.close().await.expect("closed");
    let lost = store.snapshot().segments(Table::Spans)[0].clone();
    drop(store);
    std::fs::remove_file(world.root().join(&lost.path)).expect("removed");
    world.options.retention = Duration::from_secs(7_200);
    let store = world.open().await;
    world.advance(Duration::from_secs(3_600 + 7_201));
    store.maintain().await.expect("maintained");
    assert!(world.catalog().await.segments().await.expect("read").is_empty());
}

#[tokio::test]
async fn a_full_disk_is_said_keeps_rows_and_passes_once_there_is_space() {
    let mut world = World::new();
    world.options.disk_reserve_bytes = 1_000;
    world.files.free.store(999, Ordering::SeqCst);
    let store = world.open().await;
    store.maintain().await.expect("maintained");
    assert!(store.status().disk_full, "less than the reserve is free");
    world.files.free.store(1_000, Ordering::SeqCst);
    store.maintain().await.expect("maintained");
    assert!(!store.status().disk_full);

    publish(&store, 1, 10);
    world.files.full.store(true, Ordering::SeqCst);
    let problem = store.flush().await.expect_err("no space");
    assert!(
        matches!(&problem, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{problem}"
    );
    assert!(store.status().disk_full, "whatever the system says is free");
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), expected(Table::Logs, 10));
    world.files.behave();
    store.flush().await.expect("flushed");
    assert!(!store.status().disk_full);
}

#[tokio::test]
async fn however_long_the_disk_was_full_it_is_known_within_seconds_that_there_is_space() {
    let world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    world.files.full.store(true, Ordering::SeqCst);
    // The seventh pause would be 32 seconds.
    for _ in 0..7 {
        store.flush().await.expect_err("no space");
    }
    world.files.behave();
    let since = Instant::now();
    while store.status().disk_full {
        assert!(since.elapsed() < Duration::from_secs(10), "still said to be full");
        store.maintain().await.expect("maintained");
    }
    assert_eq!(store.checkpoint(), SequenceNumber(9), "what could not be written then is now");
}

#[tokio::test]
async fn a_failed_flush_is_tried_again_without_being_asked() {
    let mut world = World::new();
    world.options.tail_bytes_flush = 1;
    world.files.full.store(true, Ordering::SeqCst);
    let store = world.open().await;
    publish(&store, 1, 10);
    while store.status().flush_failures == 0 {
        store.maintain().await.expect("maintained");
    }
    world.files.behave();
    // The pause after the first failure is half a second.
    while store.checkpoint() < SequenceNumber(9) {
        store.maintain().await.expect("maintained");
    }
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), expected(Table::Logs, 10));
}

#[tokio::test]
async fn a_tail_is_flushed_in_parts_that_the_encoder_has_room_for() {
    let mut world = World::new();
    let store = world.open().await;
    publish(&store, 1, 31);
    store.folded().await;
    let tail = store.status().tail_bytes;
    drop(store);
    world.options.encoder_bytes = usize::try_from(tail / 4).expect("it fits");
    let store = world.open().await;
    publish(&store, 1, 31);
    store.folded().await;
    // Small batches become larger ones on the way, and none of them reaches into two parts.
    store.maintain().await.expect("maintained");
    assert_eq!(store.flush().await.expect("flushed"), SequenceNumber(30));
    let flushes = store.status().flushes;
    assert!((4..=5).contains(&flushes), "{flushes} parts");
    let mut logs = store.snapshot().segments(Table::Logs);
    logs.sort_by_key(|segment| segment.frames);
    assert!(logs.windows(2).all(|pair| pair[0].frames.1 < pair[1].frames.0), "each part has its own frames");
    for table in [Table::Spans, Table::Logs, Table::Metrics] {
        assert_eq!(world.rows(&store.snapshot(), table), expected(table, 31), "{}", table.name());
    }
    assert_eq!(world.requests(&store.snapshot()), expected_requests(31));
}

#[tokio::test]
async fn a_full_tail_gives_up_its_whole_parts_and_keeps_what_has_just_come() {
    let mut world = World::new();
    let store = world.open().await;
    publish(&store, 1, 31);
    let tail = store.status().tail_bytes;
    drop(store);
    world.options.tail_bytes_flush = usize::try_from(tail / 3).expect("it fits");
    let store = world.open().await;
    publish(&store, 1, 31);
    while store.status().tail_bytes >= tail / 3 {
        store.folded().await;
        store.maintain().await.expect("maintained");
    }
    assert!(store.checkpoint() < SequenceNumber(30), "the last part is not full");
    assert_eq!(world.rows(&store.snapshot(), Table::Spans), expected(Table::Spans, 31));
    assert_eq!(world.requests(&store.snapshot()), expected_requests(31));
}

#[tokio::test]
async fn a_new_catalog_takes_in_the_segments_on_disk() {
    let mut world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    store.flush().await.expect("flushed");
    publish(&store, 10, 20);
    store.close().await.expect("closed");
    let before = world.catalog().await.segments().await.expect("read");
    drop(store);
    // Another file: the connections to the old one may close a little later, and take its companions with them.
    world.forgotten += 1;
    let store = world.open().await;
    assert_eq!(store.status().adopted_segments, 10);
    assert_eq!(store.checkpoint(), SequenceNumber(19));
    assert_eq!(world.catalog().await.segments().await.expect("read"), before, "the footers hold what the catalog knew");
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), expected(Table::Logs, 20));
    assert_eq!(world.requests(&store.snapshot()), expected_requests(20));
}

#[tokio::test]
async fn a_new_catalog_leaves_an_interrupted_flush_to_the_journal() {
    let mut world = World::new();
    let store = world.open().await;
    publish(&store, 1, 10);
    store.flush().await.expect("flushed");
    publish(&store, 10, 20);
    store.close().await.expect("closed");
    let last = store.snapshot().segments(Table::Operations)[1].clone();
    drop(store);
    std::fs::remove_file(world.root().join(&last.path)).expect("removed");
    // Another file: the connections to the old one may close a little later, and take its companions with them.
    world.forgotten += 1;
    let store = world.open().await;
    assert_eq!(store.checkpoint(), SequenceNumber(9));
    assert_eq!(store.status().adopted_segments, 5);
    publish(&store, 10, 20);
    store.folded().await;
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), expected(Table::Logs, 20));
    assert_eq!(world.requests(&store.snapshot()), expected_requests(20));
}

#[tokio::test]
async fn memory_is_counted_once_where_columns_share_it() {
    let world = World::new();
    let store = world.open().await;
    let mut rows = frame(1, Signal::Logs, 10_000);
    let place = |name: &str| rows.batch.schema_ref().index_of(name).expect("is a column");
    let (first, second) = (place("severity_text"), place("event_name"));
    let mut columns = rows.batch.columns().to_vec();
    // Columns in which no row has a value are one array.
    columns[second] = ArrayRef::clone(&columns[first]);
    // Beside its buffers every column counts with what it takes itself.
    let weight = |column: &ArrayRef| column.get_buffer_memory_size() + 256;
    let claimed: usize = columns.iter().map(weight).sum();
    let again = weight(&columns[second]);
    rows.batch = RecordBatch::try_new(rows.batch.schema(), columns).expect("both are text");
    store.publish(vec![rows]);
    let counted = store.status().tail_bytes as usize;
    // Ten columns share one buffer of keys, four bytes a row.
    assert_eq!(claimed - counted, 9 * 10_000 * 4 + again);
}

/// Panics on one frame.
#[derive(Default)]
struct Flawed(Counting);

impl Fold for Flawed {
    fn fold(&mut self, rows: &Published) {
        assert!(rows.sequence != SequenceNumber(5), "the flaw");
        self.0.fold(rows);
    }

    fn pending(&self) -> Vec<(Table, RecordBatch)> {
        self.0.pending()
    }

    fn take(&mut self) -> Vec<(Table, RecordBatch)> {
        self.0.take()
    }
}

#[tokio::test]
async fn a_fold_that_panics_on_a_frame_is_counted_and_stops_nothing_else() {
    let world = World::new();
    let files = Arc::clone(&world.files) as Arc<dyn SegmentFiles>;
    let (options, catalog) = (world.options.clone(), world.catalog().await);
    let store = Store::open_with(options, files, catalog, Box::<Flawed>::default(), Box::new(|_| {}), world.clock())
        .await
        .expect("the store opens");
    publish(&store, 1, 10);
    store.folded().await;
    assert_eq!(store.flush().await.expect("flushed"), SequenceNumber(9));
    let snapshot = store.snapshot();
    for table in [Table::Spans, Table::Logs, Table::Metrics] {
        assert_eq!(world.rows(&snapshot, table), expected(table, 10));
    }
    assert_eq!(world.requests(&snapshot), expected_requests(10) - frame_rows(5));
    assert_eq!(store.status().fold_failures, 1);
}

/// Folds nothing until it is let go.
struct Waiting(Counting, std::sync::mpsc::Receiver<()>);

impl Fold for Waiting {
    fn fold(&mut self, rows: &Published) {
        // Whoever let go may be gone.
        let _ = self.1.recv();
        self.0.fold(rows);
    }

    fn pending(&self) -> Vec<(Table, RecordBatch)> {
        self.0.pending()
    }

    fn take(&mut self) -> Vec<(Table, RecordBatch)> {
        self.0.take()
    }
}

#[tokio::test]
async fn a_fold_that_lags_behind_says_for_how_long() {
    let world = World::new();
    let files = Arc::clone(&world.files) as Arc<dyn SegmentFiles>;
    let (options, catalog) = (world.options.clone(), world.catalog().await);
    let (go, gone) = std::sync::mpsc::channel();
    let fold = Box::new(Waiting(Counting::default(), gone));
    let store = Store::open_with(options, files, catalog, fold, Box::new(|_| {}), world.clock())
        .await
        .expect("the store opens");
    assert!(store.status().fold_lag.is_zero());
    publish(&store, 1, 3);
    let first = store.status().fold_lag;
    assert!(!first.is_zero() && store.status().fold_lag > first, "it waits on");
    drop(go);
    store.folded().await;
    assert!(store.status().fold_lag.is_zero());
}

fn frame_rows(sequence: u64) -> u64 {
    expected_requests(sequence + 1) - expected_requests(sequence)
}
