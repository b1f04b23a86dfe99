//! With the real journal, catalog and store: what was acknowledged is there after a restart, once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use plimsoll_catalog::SqliteCatalog;
use plimsoll_ingest::frame::FrameHeader;
use plimsoll_ingest::{Ingest, IngestOptions};
use plimsoll_journal::{Journal, JournalOptions, LocalJournal};
use plimsoll_otlp::{MESSAGE_PARTS_MAX, Signal, Table};
use plimsoll_store::{Fold, Published, Store, StoreOptions};
use prost::Message;

use crate::fakes::{FakeJournal, FakeSink, Mode, RECEIVED, Rig, clock, options, until};
use crate::requests::{gzip, logs, points, span_bytes, zlib, zstd};
use crate::wire::{PROTOBUF, grpc, http1, message, post};

/// The payload of a frame of `count` spans.
pub(crate) fn frame(count: usize) -> Vec<u8> {
    [&FrameHeader { signal: Signal::Traces, received: RECEIVED, packed: None }.encode()[..], &span_bytes(count)]
        .concat()
}

struct NoFold;

impl Fold for NoFold {
    fn fold(&mut self, _rows: &Published) {}

    fn pending(&self) -> Vec<(Table, RecordBatch)> {
        Vec::new()
    }

    fn take(&mut self) -> Vec<(Table, RecordBatch)> {
        Vec::new()
    }
}

pub(crate) struct Node {
    pub(crate) ingest: Ingest,
    pub(crate) store: Store,
}

/// Opens everything durable in `dir`; log files of the journal grow to `file_bytes`.
pub(crate) async fn node(dir: &Path, options: IngestOptions, file_bytes: u64) -> Node {
    let catalog = SqliteCatalog::open(dir.join("catalog.db")).await.expect("the catalog opens");
    let journal_options = JournalOptions { file_bytes_max: file_bytes, ..JournalOptions::new(dir.join("journal")) };
    let journal = Arc::new(LocalJournal::open(journal_options).expect("the journal opens"));
    let (trimmed, fingerprints) = (Arc::clone(&journal), Arc::clone(&options.fingerprints));
    let trim = Box::new(move |through| {
        fingerprints.save(through);
        trimmed.trim(through).expect("trims");
    });
    let store_options = StoreOptions {
        root: dir.join("store"),
        tail_bytes_flush: 64 << 20,
        encoder_bytes: 64 << 20,
        encoders: 1,
        tail_age_flush: Duration::from_secs(3_600),
        retention: Duration::from_secs(30 * 86_400),
        retention_rules: Vec::new(),
        disk_bytes_max: u64::MAX,
        disk_reserve_bytes: 0,
    };
    let store = Store::open(store_options, Arc::new(catalog), Box::new(NoFold), trim, clock()).await;
    let store = store.expect("the store opens");
    let fatal = |problem: &str| panic!("{problem}");
    let ingest = Ingest::start(options, journal, store.clone(), clock(), fatal).await.expect("starts");
    Node { ingest, store }
}

pub(crate) fn tail(store: &Store, table: Table) -> RecordBatch {
    let batches = store.snapshot().tail(table);
    concat_batches(table.schema(), &batches).expect("one schema")
}

pub(crate) fn segment_rows(store: &Store, table: Table) -> u64 {
    store.snapshot().segments(table).iter().map(|segment| segment.rows).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_visible_at_once_and_the_same_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = node(dir.path(), options(), JournalOptions::FILE_BYTES_MAX).await;
    before.ingest.replayed().await.expect("nothing to replay");
    let addrs = before.ingest.local_addrs();
    for n in 1..=5 {
        let answer = grpc(addrs.otlp_grpc, &[], message(false, &span_bytes(n))).await;
        assert_eq!(answer.header("grpc-status"), "0");
    }
    for (path, body) in [("/v1/logs", logs(7).encode_to_vec()), ("/v1/metrics", points(9).encode_to_vec())] {
        assert_eq!(http1(addrs.otlp_http, post(path, &[PROTOBUF], body)).await.status, 200);
    }
    let tables = [Table::Spans, Table::Logs, Table::Metrics];
    let seen = tables.map(|table| tail(&before.store, table));
    assert_eq!(seen.each_ref().map(RecordBatch::num_rows), [15, 7, 9]);
    // Nothing is flushed: what comes back comes from the journal.
    before.ingest.drain().await;
    drop(before);

    let after = node(dir.path(), options(), JournalOptions::FILE_BYTES_MAX).await;
    let summary = after.ingest.replayed().await.expect("replays");
    assert_eq!((summary.journal.frames, summary.rows, summary.undecodable), (7, 31, 0));
    assert_eq!(tables.map(|table| tail(&after.store, table)), seen);
    assert_eq!(after.ingest.counters().replayed_rows.get(), 31);
    after.ingest.drain().await;
    after.store.close().await.expect("closes");
}

/// Plain, it takes more than a block of the disk; compressed, a fraction of it.
const SPANS: usize = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_came_compressed_is_kept_compressed_and_comes_back_as_the_same_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = node(dir.path(), options(), JournalOptions::FILE_BYTES_MAX).await;
    before.ingest.replayed().await.expect("nothing to replay");
    let addrs = before.ingest.local_addrs();
    let plain = span_bytes(SPANS);
    type Compress = fn(&[u8]) -> Vec<u8>;
    let encodings: [(&str, Compress); 2] = [("gzip", gzip), ("zstd", zstd)];
    for (encoding, compress) in encodings {
        let headers = [("grpc-encoding", encoding)];
        let answer = grpc(addrs.otlp_grpc, &headers, message(true, &compress(&plain))).await;
        assert_eq!(answer.header("grpc-status"), "0", "{encoding}");
    }
    let encodings: [(&str, Compress); 2] = [("deflate", zlib), ("gzip", gzip)];
    for (count, (encoding, compress)) in encodings.into_iter().enumerate() {
        let body = compress(&logs(SPANS + count).encode_to_vec());
        let headers = [PROTOBUF, ("content-encoding", encoding)];
        assert_eq!(http1(addrs.otlp_http, post("/v1/logs", &headers, body)).await.status, 200, "{encoding}");
    }
    let tables = [Table::Spans, Table::Logs];
    let seen = tables.map(|table| tail(&before.store, table));
    assert_eq!(seen.each_ref().map(RecordBatch::num_rows), [2 * SPANS, 2 * SPANS + 1]);
    before.ingest.drain().await;
    drop(before);

    let after = node(dir.path(), options(), JournalOptions::FILE_BYTES_MAX).await;
    let summary = after.ingest.replayed().await.expect("replays");
    assert_eq!((summary.journal.frames, summary.undecodable), (4, 0));
    assert!(summary.journal.bytes < plain.len() as u64, "{} bytes of frames", summary.journal.bytes);
    assert_eq!(tables.map(|table| tail(&after.store, table)), seen);
    after.ingest.drain().await;
    after.store.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_segments_is_not_replayed_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = node(dir.path(), options(), JournalOptions::FILE_BYTES_MAX).await;
    before.ingest.replayed().await.expect("nothing to replay");
    let to = before.ingest.local_addrs().otlp_grpc;
    assert_eq!(grpc(to, &[], message(false, &span_bytes(4))).await.header("grpc-status"), "0");
    before.store.flush().await.expect("flushes");
    assert_eq!(grpc(to, &[], message(false, &span_bytes(2))).await.header("grpc-status"), "0");
    before.ingest.drain().await;
    drop(before);

    let after = node(dir.path(), options(), JournalOptions::FILE_BYTES_MAX).await;
    assert_eq!(after.ingest.replayed().await.expect("replays").rows, 2);
    assert_eq!((segment_rows(&after.store, Table::Spans), tail(&after.store, Table::Spans).num_rows()), (4, 2));
    let to = after.ingest.local_addrs().otlp_grpc;
    assert_eq!(grpc(to, &[], message(false, &span_bytes(1))).await.header("grpc-status"), "0");
    assert_eq!(tail(&after.store, Table::Spans).num_rows(), 3);
    after.ingest.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_cannot_be_read_is_counted_and_passed_over() {
    let journal = FakeJournal::new(Mode::Work);
    let mut newer = frame(1);
    newer[0] = 99;
    let mut garbled = frame(1);
    garbled.extend_from_slice(b"\xff\xff\xff");
    let mut parts = frame(1);
    // A resource in as many parts as is refused.
    prost::encoding::bytes::encode(1, &b"\x0a\x00".repeat(MESSAGE_PARTS_MAX + 1), &mut parts);
    journal.preload(vec![frame(2), newer, garbled, vec![], parts, frame(3)]);
    let rig = Rig::begin(options(), journal, Arc::default()).await;
    let summary = rig.ingest.replayed().await.expect("is no reason to stop");
    assert_eq!((summary.rows, summary.undecodable), (5, 4));
    assert_eq!(rig.sink.sequences(), [1, 6]);
    let answer = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    assert_eq!(answer.header("grpc-status"), "0");
    assert_eq!(rig.sink.sequences(), [1, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_larger_than_the_tail_waits_for_segments_to_be_written() {
    let journal = FakeJournal::new(Mode::Work);
    journal.preload(vec![frame(20_000); 6]);
    let sink = Arc::<FakeSink>::default();
    sink.tail_bytes.store(u64::MAX, Ordering::SeqCst);
    let rig = Rig::begin(options(), journal, sink).await;
    until(|| rig.ingest.counters().replayed_frames.get() > 0).await;
    assert_eq!(rig.sink.rows(), 0, "the tail is over its budget");
    rig.sink.tail_bytes.store(0, Ordering::SeqCst);
    assert_eq!(rig.ingest.replayed().await.expect("went on").rows, 120_000);
    assert!(rig.sink.published.lock().len() == 6 && rig.sink.rows() == 120_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_interrupts_a_replay_that_waits_and_is_no_failure() {
    let journal = FakeJournal::new(Mode::Work);
    journal.preload(vec![frame(1)]);
    let sink = Arc::<FakeSink>::default();
    sink.tail_bytes.store(u64::MAX, Ordering::SeqCst);
    let rig = Rig::begin(options(), journal, sink).await;
    rig.ingest.drain().await;
    assert!(rig.ingest.replayed().await.is_err());
    assert!(rig.fatal.lock().is_empty());
}
