//! Counted once: byte-identical retries are acknowledged and not stored again.

use std::time::Duration;

use plimsoll_ingest::{FingerprintOptions, Fingerprints, IngestOptions, Protocol, Reason};
use plimsoll_otlp::{Signal, Table};
use prost::Message;

use crate::durable::{node, segment_rows, tail};
use crate::fakes::{Mode, Rig, clock, options, until};
use crate::requests::{gzip, logs, span_bytes, spans, zstd};
use crate::wire::{Answer, JSON, PROTOBUF, grpc, http1, message, post};

fn remembering(dir: &tempfile::TempDir) -> IngestOptions {
    let fingerprints = Fingerprints::open(FingerprintOptions {
        dir: dir.path().join("fingerprints"),
        window: Duration::from_secs(600),
        bytes: 1 << 20,
        entropy: 7,
        clock: clock(),
    });
    IngestOptions { fingerprints: fingerprints.expect("opens"), ..options() }
}

fn ok(answer: &Answer) -> bool {
    answer.status == 200 && matches!(answer.header("grpc-status"), "" | "0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_acknowledged_and_stored_once_whatever_way_it_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(remembering(&dir)).await;
    let bytes = span_bytes(3);
    let encoded = |encoding| [PROTOBUF, ("content-encoding", encoding)];
    let answers = [
        grpc(rig.grpc(), &[], message(false, &bytes)).await,
        grpc(rig.grpc(), &[], message(false, &bytes)).await,
        grpc(rig.grpc(), &[("grpc-encoding", "gzip")], message(true, &gzip(&bytes))).await,
        http1(rig.http(), post("/v1/traces", &[PROTOBUF], bytes.clone())).await,
        http1(rig.http(), post("/v1/traces", &encoded("zstd"), zstd(&bytes))).await,
    ];
    assert!(answers.iter().all(ok), "{answers:?}");
    assert_eq!((rig.sink.rows(), rig.journal.frames().len()), (3, 1));
    let json = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5"}]}]}]}"#;
    for _ in 0..2 {
        assert!(ok(&http1(rig.http(), post("/v1/logs", &[JSON], json.to_vec())).await));
    }
    assert_eq!(rig.sink.rows(), 4);
    assert!(ok(&grpc(rig.grpc(), &[], message(false, &span_bytes(4))).await), "other bytes are another request");
    assert_eq!(rig.sink.rows(), 8);

    let counted = |signal, protocol| {
        let counters = rig.ingest.counters().of(signal, protocol);
        (counters.accepted.get(), counters.repeated.get(), counters.records.get())
    };
    assert_eq!(counted(Signal::Traces, Protocol::Grpc), (4, 2, 7));
    assert_eq!(counted(Signal::Traces, Protocol::HttpProtobuf), (2, 2, 0));
    assert_eq!(counted(Signal::Logs, Protocol::HttpJson), (2, 1, 1));
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_what_is_on_its_way_is_acknowledged_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(remembering(&dir)).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let call = || tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(2))).await });
    let mut calls = vec![call()];
    rig.journal.someone_waits().await;
    calls.extend((0..5).map(|_| call()));
    until(|| rig.ingest.counters().in_progress.get() == 6).await;
    assert!(calls.iter().all(|call| !call.is_finished()), "nothing is durable yet");
    assert_eq!(rig.ingest.status().queued, 0, "and only one is to be");
    rig.journal.set(Mode::Work);
    for call in calls {
        assert!(ok(&call.await.expect("does not panic")));
    }
    assert_eq!((rig.sink.rows(), rig.journal.frames().len()), (2, 1));
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).repeated.get(), 5);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_what_failed_is_not_acknowledged_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(remembering(&dir)).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let call = || tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(2))).await });
    let first = call();
    rig.journal.someone_waits().await;
    let second = call();
    until(|| rig.ingest.counters().in_progress.get() == 2).await;
    rig.journal.set(Mode::Full);
    for call in [first, second] {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "14");
    }
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).refused(Reason::DiskFull), 2);
    rig.journal.set(Mode::Work);
    for _ in 0..2 {
        assert!(ok(&call().await.expect("does not panic")));
    }
    assert_eq!((rig.sink.rows(), rig.journal.frames().len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_client_left_before_the_ack_is_not_stored_again_when_it_returns() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(remembering(&dir)).await;
    rig.journal.set(Mode::Wait);
    let to = rig.http();
    let impatient = tokio::spawn(async move { http1(to, post("/v1/traces", &[PROTOBUF], span_bytes(2))).await });
    rig.journal.someone_waits().await;
    impatient.abort();
    let _ = impatient.await;
    rig.journal.set(Mode::Work);
    assert!(ok(&http1(to, post("/v1/traces", &[PROTOBUF], span_bytes(2))).await));
    assert_eq!((rig.sink.rows(), rig.journal.frames().len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_repeat_names_again_what_was_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(remembering(&dir)).await;
    let mut request = spans(3);
    request.resource_spans[0].scope_spans[0].spans[1].span_id.clear();
    let bytes = request.encode_to_vec();
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let answer = http1(rig.http(), post("/v1/traces", &[PROTOBUF], bytes.clone())).await;
        assert!(ok(&answer));
        bodies.push(answer.body);
    }
    assert!(!bodies[0].is_empty(), "partial success is said");
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(rig.sink.rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_empty_requests_are_told_the_same_each_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::start(remembering(&dir)).await;
    for _ in 0..2 {
        assert_eq!(http1(rig.http(), post("/v1/traces", &[PROTOBUF], vec![0xff; 9])).await.status, 400);
        assert!(ok(&http1(rig.http(), post("/v1/traces", &[PROTOBUF], vec![])).await));
    }
    assert!(rig.journal.frames().is_empty());
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::HttpProtobuf).repeated.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_known_after_a_restart_whether_its_frame_is_in_the_journal_or_not() {
    let dir = tempfile::tempdir().expect("a directory");
    // Large enough that each request fills a log file, so that trimming gives files back.
    let large = |n: u8| {
        let mut request = logs(1);
        request.resource_logs[0].scope_logs[0].log_records[0].severity_text =
            char::from(b'a' + n).to_string().repeat(1 << 20);
        request.encode_to_vec()
    };
    let send = async |to, body: Vec<u8>| ok(&http1(to, post("/v1/logs", &[PROTOBUF], body)).await);
    let spacious = |dir: &tempfile::TempDir| IngestOptions { request_bytes_max: 4 << 20, ..remembering(dir) };
    let mut rows = 0;
    for round in 0..4_u8 {
        let node = node(dir.path(), spacious(&dir), 1 << 20).await;
        node.ingest.replayed().await.expect("replays");
        let to = node.ingest.local_addrs().otlp_http;
        for n in 0..3 * round {
            assert!(send(to, large(n)).await, "a repeat is acknowledged");
        }
        assert_eq!(segment_rows(&node.store, Table::Logs) + tail(&node.store, Table::Logs).num_rows() as u64, rows);
        for n in 3 * round..3 * round + 2 {
            assert!(send(to, large(n)).await);
        }
        // In segments, its log files trimmed but for the last.
        node.store.flush().await.expect("flushes");
        assert!(send(to, large(3 * round + 2)).await, "and one that is only in the journal");
        rows += 3;
        node.ingest.drain().await;
        // Without a last flush, as if killed.
    }
    let trimmed = std::fs::read_dir(dir.path().join("journal")).expect("lists").count();
    assert!(trimmed < 9, "{trimmed} log files are there: nothing was trimmed, and so nothing was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_stored_where_repeats_are_not_told() {
    let rig = Rig::start(options()).await;
    for _ in 0..2 {
        assert!(ok(&grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await));
    }
    assert_eq!(rig.sink.rows(), 2);
}
