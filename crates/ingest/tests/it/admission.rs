//! Overload: parked first, then refused with a delay; never more held than declared.

use std::sync::atomic::Ordering;
use std::time::Duration;

use plimsoll_ingest::{Protocol, Readiness, Reason};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fakes::{Mode, Rig, options, until};
use crate::requests::{gzip, span_bytes, wordy_span_bytes};
use crate::wire::{JSON, PROTOBUF, TRACES, grpc, grpc_request, h2, http1, message, post, whole};

#[tokio::test(flavor = "multi_thread")]
async fn overload_parks_then_refuses_retryably_over_both_protocols() {
    let mut options = options();
    options.request_bytes_max = 64 << 10;
    options.in_flight_bytes = 64 << 10;
    let rig = Rig::start(options).await;
    rig.journal.set(Mode::Wait);
    let (to, body) = (rig.http(), span_bytes(500));
    let holder = tokio::spawn(async move { http1(to, post("/v1/traces", &[PROTOBUF], body)).await });
    rig.journal.someone_waits().await;

    let refused = grpc(rig.grpc(), &[], message(false, &span_bytes(500))).await;
    assert_eq!(refused.header("grpc-status"), (tonic::Code::Unavailable as i32).to_string(), "{refused:?}");
    let details = refused.grpc_details().expect("says when");
    assert_eq!((details.code, details.retry_seconds()), (14, Some(1)));

    let refused = http1(rig.http(), post("/v1/traces", &[PROTOBUF], span_bytes(500))).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.rpc_status().retry_seconds(), Some(1));
    let refused = http1(rig.http(), post("/v1/traces", &[JSON], vec![b' '; 30_000])).await;
    assert_eq!((refused.status.as_u16(), refused.header("content-type")), (429, "application/json"));

    let counters = rig.ingest.counters();
    assert!(counters.parked_total.get() >= 3);
    assert_eq!(counters.parked.get(), 0);
    assert_eq!(counters.of(Signal::Traces, Protocol::Grpc).refused(Reason::InFlight), 1);
    rig.journal.set(Mode::Work);
    assert_eq!(holder.await.expect("does not panic").status, 200, "what was admitted is acknowledged");
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_request_is_taken_as_soon_as_there_is_room() {
    let mut options = options();
    options.request_bytes_max = 64 << 10;
    options.in_flight_bytes = 400 << 10;
    options.park = Duration::from_secs(60);
    let rig = Rig::start(options).await;
    let to = rig.grpc();
    // How much such a request becomes is learned from the first of them, as far as it is believed at once.
    assert_eq!(grpc(to, &[], message(false, &span_bytes(500))).await.header("grpc-status"), "0");
    rig.journal.set(Mode::Wait);
    let calls: Vec<_> =
        (0..8).map(|_| tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(500))).await })).collect();
    until(|| rig.ingest.counters().parked.get() >= 5).await;
    // One may be over by what it became, and columns that are shared have room for up to twice as much.
    let rows = decode(Signal::Traces, &span_bytes(500), UnixNanos(0)).expect("decodes").batch;
    let most = (400 << 10) + (span_bytes(500).len() + 2 * rows.get_array_memory_size()) as u64;
    let held = rig.ingest.status().in_flight_bytes;
    assert!(held <= most, "{held} bytes are held of {most}");
    rig.journal.set(Mode::Work);
    for call in calls {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_refuses_retryably() {
    let mut options = options();
    options.lanes = 1;
    options.lane_depth = 1;
    options.joined_bytes_max = 0;
    let rig = Rig::start(options).await;
    rig.journal.set(Mode::Wait);
    let to = rig.grpc();
    let call = move || tokio::spawn(async move { grpc(to, &[], message(false, &span_bytes(1))).await });
    let first = call();
    rig.journal.someone_waits().await;
    let second = call();
    until(|| rig.ingest.status().queued == 1).await;
    let third = call().await.expect("does not panic");
    assert_eq!(third.header("grpc-status"), "14");
    assert_eq!(third.grpc_details().expect("says when").retry_seconds(), Some(1));
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).refused(Reason::Lanes), 1);
    rig.journal.set(Mode::Work);
    for call in [first, second] {
        assert_eq!(call.await.expect("does not panic").header("grpc-status"), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_over_its_budget_holds_requests_back_until_segments_are_written() {
    let rig = Rig::start(options()).await;
    rig.sink.tail_bytes.store(u64::MAX, Ordering::SeqCst);
    until(|| rig.ingest.status().readiness == Readiness::TailFull).await;
    let refused = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    assert_eq!(refused.header("grpc-status"), "14");
    assert!(refused.grpc_details().is_some_and(|details| details.message.contains("segments")));
    assert!(rig.ingest.status().readiness.is_ready(), "a full tail passes: it is no reason to be taken out of service");
    rig.sink.tail_bytes.store(0, Ordering::SeqCst);
    until(|| rig.ingest.status().readiness == Readiness::Ready).await;
    let taken = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    assert_eq!(taken.header("grpc-status"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_space_for_segments_refuses_at_once_and_is_not_ready() {
    let mut options = options();
    options.park = Duration::from_secs(3_600);
    let rig = Rig::start(options).await;
    rig.sink.disk_full.store(1, Ordering::SeqCst);
    until(|| rig.ingest.status().readiness == Readiness::DiskFull).await;
    let refused = http1(rig.http(), post("/v1/traces", &[PROTOBUF], span_bytes(1))).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "2"));
    assert!(!rig.ingest.status().readiness.is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_do_not_stand_in_the_way_of_those_that_have_room() {
    let mut options = options();
    let body = span_bytes(4_000);
    options.transport_bytes = 1;
    // Room for one of them at a time, and more of each than a connection may have sent unread.
    options.request_bytes_max = body.len();
    options.in_flight_bytes = 3 * body.len();
    assert!(body.len() > 3 * 65_535);
    // None is refused because it waited for long: either it is done, or this takes an hour.
    options.park = Duration::from_secs(3_600);
    let rig = Rig::start(options).await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut sender = h2(rig.grpc()).await;
        // The windows hold once the client has read them.
        let first = sender.send_request(grpc_request(TRACES, &[], message(false, &span_bytes(1)))).await;
        assert_eq!(whole(first.expect("is answered")).await.header("grpc-status"), "0");
        for _ in 0..8 {
            let (mut sender, request) = (sender.clone(), grpc_request(TRACES, &[], message(false, &body)));
            calls.push(tokio::spawn(async move {
                let answer = whole(sender.send_request(request).await.expect("is answered")).await;
                answer.header("grpc-status").to_owned()
            }));
        }
    }
    let mut taken = 0;
    for call in calls {
        let status = call.await.expect("does not panic");
        assert!(status == "0" || status == "14", "taken, or to be sent again: {status}");
        taken += u64::from(status == "0");
    }
    let counters = rig.ingest.counters().of(Signal::Traces, Protocol::Grpc);
    assert!(taken >= 4, "one of each connection at the least: {taken}");
    assert_eq!(counters.refused(Reason::InFlight), 32 - taken);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_that_are_there_at_the_same_moment_are_served_one_after_another() {
    const CLIENTS: u64 = 8;
    let mut options = options();
    options.request_bytes_max = 6 << 20;
    let hours = Duration::from_secs(3_600);
    // None is refused because it waited for long, or sent slowly: either it is done, or this takes an hour.
    (options.park, options.stall_timeout, options.body_timeout, options.body_grace) = (hours, hours, hours, hours);
    let in_flight = options.in_flight_bytes as u64;
    let rig = Rig::start(options).await;
    let plain = wordy_span_bytes(1_900);
    let body = gzip(&plain);
    let holds = 5 * body.len() as u64;
    assert!(
        holds < in_flight * 3 / 8 && holds + 3 * plain.len() as u64 > in_flight,
        "{} of {}",
        body.len(),
        plain.len()
    );
    let (last, most) = body.split_last().expect("is not empty");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(rig.http()).await.expect("connects");
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
             content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await.expect("writes");
        clients.push(client);
    }
    let counters = rig.ingest.counters();
    until(|| counters.in_progress.get() == CLIENTS && rig.ingest.status().in_flight_bytes >= holds).await;
    let calls: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (most, last) = (most.to_vec(), *last);
            tokio::spawn(async move {
                client.write_all(&most).await.expect("writes");
                client.write_all(&[last]).await.expect("writes");
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.expect("is answered");
                answer.lines().next().unwrap_or_default().to_owned()
            })
        })
        .collect();
    until(|| {
        let held = rig.ingest.status().in_flight_bytes;
        assert!(held <= in_flight * 3 / 2, "{held} bytes are held");
        calls.iter().all(tokio::task::JoinHandle::is_finished)
    })
    .await;
    for call in calls {
        assert_eq!(call.await.expect("does not panic"), "HTTP/1.1 200 OK");
    }
    assert_eq!(rig.sink.rows() as u64, CLIENTS * 1_900);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_announces_nothing_reserves_no_rows_until_it_is_whole() {
    let mut options = options();
    options.request_bytes_max = 4 << 20;
    let hours = Duration::from_secs(3_600);
    (options.stall_timeout, options.body_timeout, options.body_grace) = (hours, hours, hours);
    let rig = Rig::start(options).await;
    let body = span_bytes(50_000);
    assert!((2 << 20..4 << 20).contains(&body.len()), "with its rows more than there is: {}", body.len());
    let mut client = TcpStream::connect(rig.http()).await.expect("connects");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
                transfer-encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("writes");
    let (last, most) = body.split_last().expect("is not empty");
    client.write_all(format!("{:x}\r\n", most.len()).as_bytes()).await.expect("writes");
    client.write_all(most).await.expect("writes");
    until(|| rig.ingest.status().in_flight_bytes > 2 << 20).await;
    for _ in 0..10 {
        let small = http1(rig.http(), post("/v1/traces", &[PROTOBUF], span_bytes(1))).await;
        assert_eq!(small.status, 200, "there is room beside it");
        let held = rig.ingest.status().in_flight_bytes;
        assert!(held <= 4 << 20, "{held} bytes are held");
    }
    client.write_all(b"\r\n1\r\n").await.expect("writes");
    client.write_all(&[*last]).await.expect("writes");
    client.write_all(b"\r\n0\r\n\r\n").await.expect("writes");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("is answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_that_comes_leaves_room_for_ordinary_ones() {
    let mut options = options();
    options.request_bytes_max = 32 << 20;
    options.in_flight_bytes = 32 << 20;
    let hours = Duration::from_secs(3_600);
    (options.stall_timeout, options.body_timeout, options.body_grace) = (hours, hours, hours);
    let rig = Rig::start(options).await;
    let ordinary = span_bytes(3_000);
    assert!((128 << 10..512 << 10).contains(&ordinary.len()), "it is announced: {}", ordinary.len());
    for chunked in [false, true] {
        let mut client = TcpStream::connect(rig.http()).await.expect("connects");
        let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n";
        let length = if chunked { "transfer-encoding: chunked" } else { "content-length: 25165824" };
        let mut begun = format!("{head}{length}\r\n\r\n").into_bytes();
        if chunked {
            begun.extend(b"1800000\r\n");
        }
        begun.resize(begun.len() + (17 << 20), 0);
        client.write_all(&begun).await.expect("writes");
        until(|| rig.ingest.status().in_flight_bytes > 17 << 20).await;
        let held = rig.ingest.status().in_flight_bytes;
        assert!(held <= 22 << 20, "an eighth more than what came at the most: {held}");
        let answer = http1(rig.http(), post("/v1/traces", &[PROTOBUF], ordinary.clone())).await;
        assert_eq!(answer.status, 200, "chunked: {chunked}: there is room beside it");
        drop(client);
        rig.nothing_in_flight().await;
    }
}
