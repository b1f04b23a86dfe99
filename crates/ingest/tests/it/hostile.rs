//! Clients that are slow, silent, greedy or malicious: they lose their own connection and cost others nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use plimsoll_ingest::{Protocol, Reason};
use plimsoll_otlp::Signal;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fakes::{Mode, Rig, options, until};
use crate::requests::{gzip, logs, span_bytes};
use crate::wire::{PROTOBUF, TRACES, grpc, grpc_request, h2, http1, kept_alive, message, post, whole};

async fn serves_others(rig: &Rig) {
    assert_eq!(grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await.header("grpc-status"), "0");
    assert_eq!(http1(rig.http(), post("/v1/traces", &[PROTOBUF], span_bytes(1))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dribbles_its_headers_is_shown_out() {
    let mut options = options();
    options.header_timeout = Duration::from_millis(200);
    let rig = Rig::start(options).await;
    let mut slow = TcpStream::connect(rig.http()).await.expect("connects");
    slow.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n").await.expect("writes");
    let (mut read, mut write) = slow.into_split();
    let dribble = tokio::spawn(async move {
        while write.write_all(b"x-a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut answer = Vec::new();
    // Closed in order, with or without a 408, or reset: what matters is that it ends although bytes keep coming.
    let _ = read.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    drop(read);
    dribble.abort();
    serves_others(&rig).await;
    until(|| rig.ingest.counters().connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_on_which_nothing_comes_are_closed() {
    let mut options = options();
    options.handshake_timeout = Duration::from_millis(200);
    let rig = Rig::start(options).await;
    let mut silent = Vec::new();
    for to in [rig.grpc(), rig.http()] {
        silent.push(TcpStream::connect(to).await.expect("connects"));
        // Half a preface, or half a method.
        let mut half = TcpStream::connect(to).await.expect("connects");
        half.write_all(b"PRI * HT").await.expect("writes");
        silent.push(half);
    }
    until(|| rig.ingest.counters().connections_total.get() == 4).await;
    for mut one in silent {
        let mut rest = Vec::new();
        let _ = one.read_to_end(&mut rest).await;
    }
    until(|| rig.ingest.counters().connections.get() == 0).await;
    serves_others(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_coming_gives_its_room_back() {
    let mut options = options();
    options.stall_timeout = Duration::from_millis(200);
    options.body_timeout = Duration::from_secs(3_600);
    let rig = Rig::start(options).await;
    let mut stalled = TcpStream::connect(rig.http()).await.expect("connects");
    let head =
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 900000\r\n\r\n";
    stalled.write_all(head.as_bytes()).await.expect("writes");
    stalled.write_all(&[0; 1_000]).await.expect("writes");
    until(|| rig.ingest.status().in_flight_bytes > 900_000).await;
    let mut answer = vec![0; 12];
    stalled.read_exact(&mut answer).await.expect("is answered");
    assert_eq!(answer, b"HTTP/1.1 503", "to be sent again");
    rig.nothing_in_flight().await;

    let mut sender = h2::<NeverEnding>(rig.grpc()).await;
    let request = grpc_request(TRACES, &[], vec![])
        .map(|_| NeverEnding { first: Some(message(false, &[0; 500])[..50].to_vec()) });
    let answer = sender.send_request(request).await.expect("is answered");
    assert_eq!(answer.headers()["grpc-status"], (tonic::Code::DeadlineExceeded as i32).to_string().as_str());
    rig.nothing_in_flight().await;
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        assert_eq!(rig.ingest.counters().of(Signal::Traces, protocol).refused(Reason::BodyTimeout), 1);
    }
}

/// A body that begins and never goes on.
pub(crate) struct NeverEnding {
    pub(crate) first: Option<Vec<u8>>,
}

impl http_body::Body for NeverEnding {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        match self.first.take() {
            Some(first) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(first.into())))),
            None => std::task::Poll::Pending,
        }
    }
}

/// Clients that announce as much as they may, over both protocols, and send next to none of it.
async fn slow_announcers(rig: &Rig, announced: u32) -> (Vec<TcpStream>, Vec<tokio::task::JoinHandle<Option<String>>>) {
    let (mut over_http, mut over_grpc) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut slow = TcpStream::connect(rig.http()).await.expect("connects");
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {announced}\r\n\r\n"
        );
        slow.write_all(head.as_bytes()).await.expect("writes");
        over_http.push(slow);
        let mut sender = h2::<NeverEnding>(rig.grpc()).await;
        let mut prefix = vec![0];
        prefix.extend(announced.to_be_bytes());
        let request = grpc_request(TRACES, &[], vec![]).map(|_| NeverEnding { first: Some(prefix) });
        over_grpc.push(tokio::spawn(async move {
            let answer = sender.send_request(request).await.ok()?;
            Some(answer.headers()["grpc-status"].to_str().expect("is text").to_owned())
        }));
    }
    // One has the room, the others wait for it.
    until(|| rig.ingest.counters().in_progress.get() == 8 && rig.ingest.counters().parked.get() == 7).await;
    (over_http, over_grpc)
}

#[tokio::test(flavor = "multi_thread")]
async fn announcing_much_and_sending_little_is_not_in_the_way_of_small_requests() {
    let mut options = options();
    options.request_bytes_max = 6 << 20;
    let hours = Duration::from_secs(3_600);
    // Nothing ends the slow ones.
    (options.stall_timeout, options.body_timeout, options.body_grace) = (hours, hours, hours);
    options.park = hours;
    let rig = Rig::start(options).await;
    let slow = slow_announcers(&rig, 6 << 20).await;
    for _ in 0..10 {
        serves_others(&rig).await;
    }
    let counters = rig.ingest.counters();
    assert_eq!(counters.parked_total.get(), 7, "none of the others waited");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn announcing_much_and_sending_little_is_broken_off_once_others_wait() {
    let mut options = options();
    options.request_bytes_max = 6 << 20;
    let hours = Duration::from_secs(3_600);
    (options.stall_timeout, options.park) = (hours, hours);
    options.body_timeout = Duration::from_secs(60);
    options.body_grace = Duration::from_millis(750);
    let rig = Rig::start(options).await;
    let (mut over_http, over_grpc) = slow_announcers(&rig, 6 << 20).await;
    // One that does send what it announces has its turn behind them.
    let large = span_bytes(20_000);
    assert!(large.len() > 1 << 20);
    assert_eq!(http1(rig.http(), post("/v1/traces", &[PROTOBUF], large.clone())).await.status, 200);
    let broken_off = |protocol| rig.ingest.counters().of(Signal::Traces, protocol).refused(Reason::SlowBody);
    assert_eq!((broken_off(Protocol::HttpProtobuf), broken_off(Protocol::Grpc)), (4, 4));
    for slow in &mut over_http {
        let mut answer = Vec::new();
        slow.read_to_end(&mut answer).await.expect("is answered");
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    }
    for call in over_grpc {
        assert_eq!(call.await.expect("does not panic").as_deref(), Some("14"), "to be sent again");
    }
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_what_is_reserved_ahead_are_taken_as_they_come() {
    let mut options = options();
    options.request_bytes_max = 6 << 20;
    options.park = Duration::from_secs(3_600);
    let rig = Rig::start(options).await;
    let large = span_bytes(60_000);
    assert!(large.len() > 3 << 20, "several times what is reserved ahead");
    let calls: Vec<_> = (0..6)
        .map(|n| {
            let (to, other, large) = (rig.http(), rig.grpc(), large.clone());
            tokio::spawn(async move {
                if n % 2 == 0 {
                    return http1(to, post("/v1/traces", &[PROTOBUF], large)).await.status.as_u16() == 200;
                }
                grpc(other, &[], message(false, &large)).await.header("grpc-status") == "0"
            })
        })
        .collect();
    for call in calls {
        assert!(call.await.expect("does not panic"), "none is refused: each waits for its turn");
    }
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_do_not_hold_up_a_shutdown() {
    let mut options = options();
    options.stall_timeout = Duration::from_secs(3_600);
    options.body_timeout = Duration::from_secs(3_600);
    let rig = Rig::start(options).await;
    let mut unfinished = TcpStream::connect(rig.http()).await.expect("connects");
    let head =
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9000\r\n\r\n";
    unfinished.write_all(head.as_bytes()).await.expect("writes");
    let mut sender = h2::<NeverEnding>(rig.grpc()).await;
    let request = grpc_request(TRACES, &[], vec![]).map(|_| NeverEnding { first: None });
    let call = tokio::spawn(async move { sender.send_request(request).await });
    until(|| rig.ingest.counters().in_progress.get() == 2).await;
    // Without an end to bodies this would take the hour that they may.
    rig.ingest.drain().await;
    let mut answer = vec![0; 12];
    unfinished.read_exact(&mut answer).await.expect("is answered");
    assert_eq!(answer, b"HTTP/1.1 503", "to be sent again");
    let answer = call.await.expect("does not panic").expect("is answered");
    assert_eq!(answer.headers()["grpc-status"], "14", "to be sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_idle_connections_hold_nothing_and_stop_nobody() {
    let rig = Rig::start(options()).await;
    let mut idle = Vec::new();
    for n in 0..1_000 {
        let to = if n % 2 == 0 { rig.grpc() } else { rig.http() };
        idle.push(TcpStream::connect(to).await.expect("connects"));
    }
    until(|| rig.ingest.counters().connections.get() == 1_000).await;
    assert_eq!(rig.ingest.status().in_flight_bytes, 0);
    serves_others(&rig).await;
    drop(idle);
    until(|| rig.ingest.counters().connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_one_connection_does_not_make_another_wait_behind_it() {
    let mut options = options();
    // Room for one request at a time, so that the order is the order of admission.
    options.request_bytes_max = 100_000;
    options.in_flight_bytes = 100_000;
    options.park = Duration::from_secs(3_600);
    let rig = Rig::start(options).await;
    rig.journal.set(Mode::Wait);
    let flood = h2::<Full<Bytes>>(rig.grpc()).await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let mut sender = flood.clone();
            let request = grpc_request(TRACES, &[], message(false, &span_bytes(900)));
            tokio::spawn(async move { sender.send_request(request).await.map(drop) })
        })
        .collect();
    until(|| rig.ingest.counters().parked.get() == 19).await;
    let to = rig.http();
    let other = tokio::spawn(async move {
        http1(to, post("/v1/logs", &[PROTOBUF], prost::Message::encode_to_vec(&logs(900)))).await
    });
    until(|| rig.ingest.counters().parked.get() == 20).await;
    rig.journal.set(Mode::Work);
    assert_eq!(other.await.expect("does not panic").status, 200);
    for call in calls {
        call.await.expect("does not panic").expect("is answered");
    }
    let place = rig.sink.published.lock().iter().position(|one| one.signal == Signal::Logs).expect("was stored");
    // The one that held the room, the one whose turn it was, and then the other connection's.
    assert!(place <= 2, "{place} requests of the flood came first");
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_as_soon_as_they_are_opened_cost_their_client_its_connection_at_most() {
    let rig = Rig::start(options()).await;
    let mut sender = h2::<NeverEnding>(rig.grpc()).await;
    for _ in 0..5_000 {
        if sender.ready().await.is_err() {
            // Shown out for it.
            break;
        }
        let request = grpc_request(TRACES, &[], vec![]).map(|_| NeverEnding { first: Some(vec![0; 5]) });
        let call = sender.send_request(request);
        // Polled once, so that the stream is opened, and dropped, so that it is reset.
        let _ = tokio::time::timeout(Duration::ZERO, call).await;
    }
    serves_others(&rig).await;
    drop(sender);
    rig.nothing_in_flight().await;
    until(|| rig.ingest.counters().connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_requests_make_room_for_others_and_those_at_work_never_do() {
    let mut options = options();
    options.connections_max = 20;
    let rig = Rig::start(options).await;
    rig.journal.set(Mode::Wait);
    let to = rig.http();
    let at_work = tokio::spawn(async move { http1(to, post("/v1/traces", &[PROTOBUF], span_bytes(1))).await });
    rig.journal.someone_waits().await;
    let counters = rig.ingest.counters();
    let mut half_open = Vec::new();
    for n in 0..30 {
        let mut one = TcpStream::connect(rig.http()).await.expect("connects");
        one.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n").await.expect("writes");
        half_open.push(one);
        until(|| counters.connections_total.get() == n + 2).await;
    }
    assert!(rig.ingest.status().connections_short);
    rig.journal.set(Mode::Work);
    assert_eq!(at_work.await.expect("does not panic").status, 200, "it was the oldest of all, and at work");
    for _ in 0..3 {
        serves_others(&rig).await;
    }
    assert!(counters.connections_closed_for_others.get() >= 11);
    assert_eq!(counters.connections_refused.get(), 0);
    // The oldest were closed.
    let mut rest = Vec::new();
    let _ = half_open[0].read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_dribble_have_less_time_than_a_connection_that_waits() {
    let mut options = options();
    options.handshake_timeout = Duration::from_millis(200);
    options.header_timeout = Duration::from_secs(3_600);
    let rig = Rig::start(options).await;
    let mut sender = kept_alive(rig.http()).await;
    let answer = sender.send_request(post("/v1/traces", &[PROTOBUF], span_bytes(1))).await.expect("is answered");
    assert_eq!(whole(answer).await.status, 200);
    for served_before in [false, true] {
        let mut slow = TcpStream::connect(rig.http()).await.expect("connects");
        if served_before {
            slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
            let mut answer = vec![0; 12];
            slow.read_exact(&mut answer).await.expect("is answered");
            assert_eq!(answer, b"HTTP/1.1 404");
        }
        slow.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n").await.expect("writes");
        let (mut read, mut write) = slow.into_split();
        let dribble = tokio::spawn(async move {
            while write.write_all(b"x-a: b\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let mut rest = Vec::new();
        // It ends: that is all.
        let _ = read.read_to_end(&mut rest).await;
        dribble.abort();
    }
    // This one said nothing for longer than they did.
    let answer = sender.send_request(post("/v1/traces", &[PROTOBUF], span_bytes(1))).await.expect("is answered");
    assert_eq!(answer.status(), 200);
}

/// Opens a connection with one stream on it, on which nothing comes but its headers.
async fn silent_stream(rig: &Rig, method: &str) -> tokio::task::JoinHandle<Option<String>> {
    let mut sender = h2::<NeverEnding>(rig.grpc()).await;
    let request = grpc_request(method, &[], vec![]).map(|_| NeverEnding { first: None });
    tokio::spawn(async move {
        let answer = sender.send_request(request).await.ok()?;
        Some(answer.headers()["grpc-status"].to_str().expect("is text").to_owned())
    })
}

/// Options under which nothing ends a silent stream but that others need its place.
pub(crate) fn patient() -> plimsoll_ingest::IngestOptions {
    let mut options = options();
    let hours = Duration::from_secs(3_600);
    (options.stall_timeout, options.body_timeout, options.body_grace) = (hours, hours, hours);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_on_which_nothing_comes_make_room_for_a_new_connection() {
    for method in [TRACES, "/grpc.health.v1.Health/Check"] {
        silent_streams_make_room(method).await;
    }
}

async fn silent_streams_make_room(method: &str) {
    let mut options = patient();
    options.connections_max = 4;
    let rig = Rig::start(options).await;
    let mut silent = Vec::new();
    for n in 0..4 {
        silent.push(silent_stream(&rig, method).await);
        let counters = rig.ingest.counters();
        until(|| counters.connections_total.get() == n + 1).await;
        if method == TRACES {
            until(|| counters.in_progress.get() == n + 1).await;
        }
    }
    // They have a second to say something, in which new connections are turned away.
    let served = async {
        // Not so often that the machine is out of ports before that second is over.
        let mut again = tokio::time::interval(Duration::from_millis(50));
        loop {
            again.tick().await;
            let Ok(stream) = TcpStream::connect(rig.http()).await else { continue };
            let Ok((mut sender, connection)) =
                hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await
            else {
                continue;
            };
            tokio::spawn(connection);
            if let Ok(answer) = sender.send_request(post("/v1/traces", &[PROTOBUF], span_bytes(1))).await {
                return answer.status();
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(60), served).await.expect("one of them makes room");
    assert_eq!(status, 200);
    assert!(rig.ingest.counters().connections_closed_for_others.get() >= 1);
    let others = silent.iter().filter(|one| !one.is_finished()).count();
    assert_eq!(others, 3, "no more than one of them went");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_on_which_nothing_comes_are_broken_off_once_others_need_a_place() {
    let mut options = patient();
    // Those who come afterwards have this long as well, on a machine that may be busy.
    options.body_grace = Duration::from_millis(500);
    options.requests_max = 8;
    let rig = Rig::start(options).await;
    let mut silent = Vec::new();
    for n in 0..8 {
        silent.push(silent_stream(&rig, TRACES).await);
        until(|| rig.ingest.counters().in_progress.get() == n + 1).await;
    }
    // One more than may be under way is refused, over either protocol, and told to come again.
    let answer = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    assert_eq!(
        (answer.header("grpc-status"), answer.grpc_details().and_then(|it| it.retry_seconds())),
        ("14", Some(1))
    );
    let of = |protocol, reason| rig.ingest.counters().of(Signal::Traces, protocol).refused(reason);
    assert_eq!(of(Protocol::Grpc, Reason::InFlight), 1);
    for one in silent {
        assert_eq!(one.await.expect("does not panic").as_deref(), Some("14"), "to be sent again");
    }
    assert_eq!(of(Protocol::Grpc, Reason::SlowBody), 8);
    serves_others(&rig).await;
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_many_connections_are_open_each_may_have_a_few_streams_only() {
    let mut options = patient();
    options.transport_bytes = 0;
    let rig = Rig::start(options).await;
    let sender = h2::<NeverEnding>(rig.grpc()).await;
    for _ in 0..60 {
        let mut sender = sender.clone();
        let request = grpc_request(TRACES, &[], vec![]).map(|_| NeverEnding { first: None });
        tokio::spawn(async move { sender.send_request(request).await.map(drop) });
    }
    until(|| rig.ingest.counters().in_progress.get() >= u64::from(plimsoll_ingest::STREAMS_MIN)).await;
    // Another connection comes and goes: whatever the first could have sent meanwhile is there.
    serves_others(&rig).await;
    assert_eq!(rig.ingest.counters().in_progress.get(), u64::from(plimsoll_ingest::STREAMS_MIN));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_are_refused_by_the_name_of_their_attribute_before_they_are_made_text() {
    let mut options = options();
    (options.request_bytes_max, options.in_flight_bytes) = (16 << 20, 128 << 20);
    let rig = Rig::start(options).await;
    let value = Some(AnyValue { value: Some(Value::StringValue("\u{1}".repeat(15 << 20))) });
    let attributes = vec![KeyValue { key: "bomb".to_owned(), value, ..KeyValue::default() }];
    let (mut resource, mut scope) = (logs(1), logs(1));
    scope.resource_logs[0].scope_logs[0].scope =
        Some(InstrumentationScope { attributes: attributes.clone(), ..InstrumentationScope::default() });
    resource.resource_logs[0].resource = Some(Resource { attributes, ..Resource::default() });
    let gzipped = [PROTOBUF, ("content-encoding", "gzip")];
    let refused = http1(rig.http(), post("/v1/logs", &gzipped, gzip(&resource.encode_to_vec()))).await;
    let status = refused.rpc_status();
    assert_eq!((refused.status.as_u16(), status.code, status.retry_seconds()), (413, 8, None), "{status:?}");
    assert!(status.message.contains("attribute `bomb`: it is more than 50331648 bytes"), "{}", status.message);
    let taken = http1(rig.http(), post("/v1/logs", &gzipped, gzip(&scope.encode_to_vec()))).await;
    assert_eq!((taken.status.as_u16(), rig.sink.rows()), (200, 1), "no text is made of a scope's attributes");
    rig.nothing_in_flight().await;
}
