//! Small requests that come at once: one set of columns, and each its own fate.

use arrow::compute::concat_batches;
use plimsoll_ingest::frame::FrameHeader;
use plimsoll_ingest::{IngestOptions, Protocol, Reason};
use plimsoll_otlp::{Signal, decode};
use prost::Message;
use tokio::task::JoinHandle;

use crate::fakes::{Mode, Rig, options, until};
use crate::requests::{gzip, logs, points, span_bytes};
use crate::wire::{Answer, JSON, PROTOBUF, grpc, http1, message, post};

/// One lane: whatever shares columns shares one set of them.
fn one_lane() -> IngestOptions {
    IngestOptions { lanes: 1, ..options() }
}

/// Starts with a commit that waits, so that what comes next is one group.
async fn held(options: IngestOptions) -> (Rig, JoinHandle<Answer>) {
    let rig = Rig::start(options).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let first = tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(1))).await });
    rig.journal.someone_waits().await;
    (rig, first)
}

fn spans(rig: &Rig, count: usize) -> JoinHandle<Answer> {
    let to = rig.grpc();
    tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(count))).await })
}

/// Every batch holds the rows of its frames, in their order, and nothing else; every frame is in one.
fn batches_are_what_their_frames_hold(rig: &Rig) {
    let frames = rig.journal.frames();
    let published = rig.sink.published.lock();
    let mut next = 1;
    for batch in published.iter() {
        assert_eq!(batch.sequence.0, next, "no gap, and no frame twice");
        next = batch.last.0 + 1;
        let rows: Vec<_> = (batch.sequence.0..=batch.last.0)
            .map(|number| {
                let (header, rest) = FrameHeader::decode(&frames[number as usize - 1]).expect("one of ours");
                assert_eq!(header.signal, batch.signal);
                let request = header.request(rest).expect("inflates");
                decode(header.signal, &request, header.received).expect("was decoded before").batch
            })
            .collect();
        assert_eq!(batch.batch, concat_batches(batch.signal.table().schema(), &rows).expect("one schema"));
    }
    assert_eq!(next, frames.len() as u64 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_all_kinds_that_come_at_once_are_one_batch_a_signal() {
    let (rig, first) = held(one_lane()).await;
    let (grpc_to, http_to) = (rig.grpc(), rig.http());
    let mut calls = Vec::new();
    for n in 1..=8 {
        calls.push(spans(&rig, n));
        calls.push(tokio::spawn(async move {
            grpc(grpc_to, &[("grpc-encoding", "gzip")], message(true, &gzip(&span_bytes(10 + n)))).await
        }));
        calls.push(tokio::spawn(async move {
            http1(http_to, post("/v1/logs", &[PROTOBUF], logs(n).encode_to_vec())).await
        }));
        calls.push(tokio::spawn(async move {
            let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{n}"}}]}}]}}]}}"#);
            http1(http_to, post("/v1/logs", &[JSON], json.into_bytes())).await
        }));
        calls.push(tokio::spawn(async move {
            http1(http_to, post("/v1/metrics", &[PROTOBUF], points(n).encode_to_vec())).await
        }));
    }
    until(|| rig.ingest.status().queued == 40).await;
    assert_eq!(rig.sink.rows(), 0, "nothing is visible before it is durable");
    rig.journal.set(Mode::Work);
    for call in calls.into_iter().chain([first]) {
        let answer = call.await.expect("does not panic");
        assert!(answer.status == 200 && matches!(answer.header("grpc-status"), "" | "0"), "{answer:?}");
    }
    assert_eq!(rig.journal.commits(), 2);
    assert_eq!(rig.sink.published.lock().len(), 1 + Signal::ALL.len(), "the first, and one a signal");
    assert_eq!(rig.sink.rows(), 1 + 36 + 116 + 36 + 8 + 36);
    batches_are_what_their_frames_hold(&rig);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_turns_out_malformed_leaves_nothing_in_the_columns_that_it_shared() {
    let (rig, first) = held(one_lane()).await;
    let to = rig.grpc();
    let mut good = Vec::new();
    for n in 1..=5 {
        good.push(spans(&rig, n));
        until(|| rig.ingest.status().queued == n).await;
        // Two whole spans and a third, whose last field is of a kind that there is not.
        let mut broken = span_bytes(3);
        let tag = broken.len() - 9;
        assert_eq!(broken[tag], 0x41, "the tag of the end");
        broken[tag] = 0x43;
        let answer = grpc(to, &[], message(false, &broken)).await;
        assert_eq!(answer.header("grpc-status"), "3", "{answer:?}");
    }
    rig.journal.set(Mode::Work);
    for call in good.into_iter().chain([first]) {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
    assert_eq!(rig.sink.rows(), 1 + 15);
    batches_are_what_their_frames_hold(&rig);
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).refused(Reason::Malformed), 5);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_fails_takes_its_own_rows_with_it_and_no_others() {
    let (rig, first) = held(one_lane()).await;
    let lost: Vec<_> = (1..=6).map(|n| spans(&rig, n)).collect();
    until(|| rig.ingest.status().queued == 6).await;
    rig.journal.set(Mode::Full);
    for call in lost.into_iter().chain([first]) {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "14");
    }
    assert_eq!(rig.sink.rows(), 0);
    rig.journal.set(Mode::Work);
    for n in 1..=3 {
        assert_eq!(spans(&rig, n).await.expect("does not panic").header("grpc-status"), "0");
    }
    assert_eq!(rig.sink.rows(), 6);
    batches_are_what_their_frames_hold(&rig);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_never_takes_is_cut_out_of_the_midst_of_others() {
    let (rig, first) = held(one_lane()).await;
    let mut calls = Vec::new();
    for (n, count) in [2, 90, 3, 4, 91, 92, 5].into_iter().enumerate() {
        calls.push((count, spans(&rig, count)));
        until(|| rig.ingest.status().queued == n + 1).await;
    }
    rig.journal.set(Mode::TooLarge(2_000));
    assert_eq!(first.await.expect("does not panic").header("grpc-status"), "0");
    for (count, call) in calls {
        let status = call.await.expect("does not panic").header("grpc-status").to_owned();
        assert_eq!(status, if count >= 90 { "8" } else { "0" });
    }
    assert_eq!(rig.sink.rows(), 1 + 2 + 3 + 4 + 5);
    batches_are_what_their_frames_hold(&rig);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_no_room_among_others_has_a_batch_of_its_own() {
    let (rig, first) = held(IngestOptions { joined_bytes: 1, ..one_lane() }).await;
    let calls: Vec<_> = (1..=4).map(|n| spans(&rig, n)).collect();
    until(|| rig.ingest.status().queued == 4).await;
    rig.journal.set(Mode::Work);
    for call in calls.into_iter().chain([first]) {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
    assert_eq!((rig.journal.commits(), rig.sink.rows()), (2, 11));
    assert_eq!(rig.sink.published.lock().len(), 5);
    batches_are_what_their_frames_hold(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_neither_columns_nor_lanes_have_room_a_request_is_refused_retryably() {
    let (rig, first) = held(IngestOptions { lane_depth: 1, ..one_lane() }).await;
    let mut calls = vec![first];
    for n in 1..=2 {
        calls.push(spans(&rig, n));
        until(|| rig.ingest.status().queued == n).await;
    }
    let refused = spans(&rig, 3).await.expect("does not panic");
    assert_eq!(refused.header("grpc-status"), "14");
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).refused(Reason::Lanes), 1);
    rig.journal.set(Mode::Work);
    for call in calls {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
    assert_eq!(rig.sink.rows(), 1 + 1 + 2);
    batches_are_what_their_frames_hold(&rig);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_requests_have_batches_of_their_own() {
    let (rig, first) = held(IngestOptions { joined_bytes_max: 500, ..one_lane() }).await;
    let calls: Vec<_> = [1, 40, 2, 41].map(|n| spans(&rig, n)).into_iter().collect();
    until(|| rig.ingest.status().queued == 4).await;
    rig.journal.set(Mode::Work);
    for call in calls.into_iter().chain([first]) {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
    let mut rows: Vec<usize> = rig.sink.published.lock().iter().skip(1).map(|one| one.batch.num_rows()).collect();
    rows.sort_unstable();
    assert_eq!(rows, [3, 40, 41]);
    batches_are_what_their_frames_hold(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_small_requests_are_replayed_as_few_batches() {
    let (rig, first) = held(one_lane()).await;
    let calls: Vec<_> = (1..=20).map(|n| spans(&rig, n)).collect();
    until(|| rig.ingest.status().queued == 20).await;
    rig.journal.set(Mode::Work);
    for call in calls.into_iter().chain([first]) {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
    let mut frames = rig.journal.frames();
    // One that no release reads, in the midst of the others.
    frames[7][0] = 77;
    let journal = crate::fakes::FakeJournal::new(Mode::Work);
    journal.preload(frames);
    let sink = std::sync::Arc::<crate::fakes::FakeSink>::default();
    let again = Rig::begin(one_lane(), journal, std::sync::Arc::clone(&sink)).await;
    let summary = again.ingest.replayed().await.expect("replays");
    assert_eq!((summary.journal.frames, summary.undecodable), (21, 1));
    assert_eq!(summary.rows, sink.rows() as u64);
    let batches = sink.published.lock().len();
    assert!(batches < 5, "{batches} batches for 20 small frames");
}
