//! Group commit: one commit for many, and no ack before it.

use plimsoll_ingest::{Protocol, Readiness, Reason};
use plimsoll_otlp::Signal;

use crate::fakes::{Mode, Rig, options, until};
use crate::requests::span_bytes;
use crate::wire::{PROTOBUF, grpc, http1, message, post};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_its_commit_and_nothing_is_visible() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let call = tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(3))).await });
    rig.journal.someone_waits().await;
    assert!(!call.is_finished());
    assert_eq!(rig.sink.rows(), 0);
    rig.journal.set(Mode::Work);
    assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    assert_eq!(rig.sink.rows(), 3, "acknowledged is visible");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_one_commit_and_are_published_in_order() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Wait);
    let (grpc_to, http_to) = (rig.grpc(), rig.http());
    let first = tokio::spawn(async move { grpc(grpc_to, &[], message(false, &span_bytes(2))).await });
    rig.journal.someone_waits().await;
    let mut calls = Vec::new();
    for n in 0..40 {
        calls.push(tokio::spawn(async move {
            if n % 2 == 0 {
                grpc(grpc_to, &[], message(false, &span_bytes(2))).await.header("grpc-status") == "0"
            } else {
                http1(http_to, post("/v1/traces", &[PROTOBUF], span_bytes(2))).await.status == 200
            }
        }));
    }
    // One waits in its commit, the others for theirs.
    until(|| rig.ingest.status().queued == 40).await;
    rig.journal.set(Mode::Work);
    assert_eq!(first.await.expect("does not panic").header("grpc-status"), "0");
    for call in calls {
        assert!(call.await.expect("does not panic"));
    }
    assert_eq!(rig.journal.commits(), 2, "one for the first, one for all that waited");
    assert_eq!(rig.sink.sequences(), (1..=41).collect::<Vec<_>>());
    assert_eq!(rig.ingest.counters().group_requests.sum(), 41);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_as_large_as_allowed_and_no_larger() {
    let mut options = options();
    options.group_bytes_max = 1;
    let rig = Rig::start(options).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let calls: Vec<_> =
        (0..6).map(|_| tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(1))).await })).collect();
    until(|| rig.ingest.status().queued == 5).await;
    rig.journal.set(Mode::Work);
    for call in calls {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
    assert_eq!(rig.journal.commits(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_journal_acknowledges_nothing_ever_again_and_says_so_once() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Poison);
    for _ in 0..3 {
        let answer = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
        assert_eq!(answer.header("grpc-status"), "14");
        // A journal that seems to work again is not believed.
        rig.journal.set(Mode::Work);
    }
    assert_eq!(rig.ingest.status().readiness, Readiness::Poisoned);
    assert_eq!(rig.sink.rows(), 0);
    assert!(rig.journal.frames().is_empty());
    let fatal = rig.fatal.lock().clone();
    assert_eq!(fatal.len(), 1, "{fatal:?}");
    assert!(fatal[0].contains("as told"), "{fatal:?}");
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).refused(Reason::Poisoned), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_can_begin_no_file_refuses_until_it_can_and_is_no_reason_to_end() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Unavailable);
    for _ in 0..2 {
        let answer = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
        assert_eq!(answer.header("grpc-status"), "14");
        let answer = http1(rig.http(), post("/v1/traces", &[PROTOBUF], span_bytes(1))).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    }
    let counters = rig.ingest.counters();
    assert_eq!(counters.journal_unavailable.get(), 1);
    assert_eq!(counters.of(Signal::Traces, Protocol::Grpc).refused(Reason::JournalUnavailable), 2);
    assert_eq!(rig.ingest.status().readiness, Readiness::Ready);
    rig.journal.set(Mode::Work);
    assert_eq!(grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await.header("grpc-status"), "0");
    assert_eq!(counters.journal_unavailable.get(), 0);
    assert!(rig.fatal.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committer_that_dies_is_not_mistaken_for_a_healthy_one() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Panic);
    let to = rig.grpc();
    let calls: Vec<_> =
        (0..20).map(|_| tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(1))).await })).collect();
    for call in calls {
        let answer = call.await.expect("does not panic");
        assert_eq!(answer.header("grpc-status"), "14", "{answer:?}");
    }
    assert_eq!(rig.ingest.status().readiness, Readiness::Poisoned);
    assert_eq!(rig.fatal.lock().len(), 1);
    rig.nothing_in_flight().await;
    rig.ingest.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_too_long_for_the_journal_is_refused_alone() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let call = move |spans| tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(spans))).await });
    let first = call(1);
    rig.journal.someone_waits().await;
    let (small, large) = (call(2), call(400));
    until(|| rig.ingest.status().queued == 2).await;
    rig.journal.set(Mode::TooLarge(2_000));
    for good in [first, small] {
        assert_eq!(good.await.expect("does not panic").header("grpc-status"), "0");
    }
    let refused = large.await.expect("does not panic");
    assert_eq!(refused.header("grpc-status"), "8");
    assert_eq!(refused.grpc_details(), None);
    assert_eq!(rig.sink.rows(), 3);
    rig.nothing_in_flight().await;
}
