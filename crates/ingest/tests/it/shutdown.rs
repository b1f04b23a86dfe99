//! Starting on a port that is taken, and going down without losing anything.

use std::sync::Arc;

use plimsoll_ingest::{Ingest, IngestError, Readiness};

use crate::fakes::{FakeJournal, FakeSink, Mode, Rig, Shared, clock, options};
use crate::requests::span_bytes;
use crate::wire::{grpc, message};

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_everything_that_was_begun_and_takes_nothing_new() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let calls: Vec<_> =
        (0..10).map(|_| tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(1))).await })).collect();
    rig.journal.someone_waits().await;
    crate::fakes::until(|| rig.ingest.counters().in_progress.get() == 10).await;
    let ingest = Arc::clone(&rig.ingest);
    let drained = tokio::spawn(async move { ingest.drain().await });
    let mut readiness = rig.ingest.readiness();
    readiness.wait_for(|now| *now == Readiness::Draining).await.expect("is told");
    assert!(!drained.is_finished(), "ten requests are in flight");
    rig.journal.set(Mode::Work);
    let mut taken = 0;
    for call in calls {
        // Those whose body was not begun yet may be told to come back; nobody is left without an answer.
        match call.await.expect("does not panic").header("grpc-status") {
            "0" => taken += 1,
            status => assert_eq!(status, "14"),
        }
    }
    drained.await.expect("does not panic");
    assert_eq!(rig.sink.rows(), taken);
    assert_eq!(rig.journal.frames().len(), taken);
    assert!(tokio::net::TcpStream::connect(to).await.is_err(), "nobody listens any more");
    rig.ingest.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_health_watch_does_not_hold_up_the_shutdown() {
    let rig = Rig::start(options()).await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(crate::grpc::channel(rig.grpc()).await);
    let _watch = client.watch(tonic_health::pb::HealthCheckRequest::default()).await.expect("is served");
    tokio::time::timeout(std::time::Duration::from_secs(30), rig.ingest.drain()).await.expect("comes to an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let rig = Rig::start(options()).await;
    let mut taken = options();
    taken.otlp_http = rig.http();
    let sink = Shared(Arc::<FakeSink>::default());
    let started = Ingest::start(taken, FakeJournal::new(Mode::Work) as _, sink, clock(), |_| {}).await;
    let error = started.err().expect("the port is taken");
    assert!(matches!(error, IngestError::Bind { .. }));
    let text = error.to_string();
    assert!(text.contains(&rig.http().to_string()) && text.contains("`--otlp-http`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_work_are_refused_before_a_port_is_opened() {
    let mut none = options();
    none.lanes = 0;
    let sink = Shared(Arc::<FakeSink>::default());
    let started = Ingest::start(none, FakeJournal::new(Mode::Work) as _, sink, clock(), |_| {}).await;
    assert!(started.err().expect("no lanes").to_string().contains("`ingest.lanes`"));
}
