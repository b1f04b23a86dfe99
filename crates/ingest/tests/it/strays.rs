//! What comes to the wrong door: every refusal has a counter, also where there is no signal to count it for.

use plimsoll_ingest::{Protocol, Reason};
use plimsoll_otlp::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fakes::{Rig, options, until};
use crate::requests::span_bytes;
use crate::wire::{JSON, PROTOBUF, TRACES, grpc_request, http1, http2, message, post};

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_name_no_signal_are_counted_by_protocol_and_reason() {
    let rig = Rig::start(options()).await;
    for path in ["/v1/traces/v1/traces", "/v1/logs/", "/"] {
        assert_eq!(http1(rig.http(), post(path, &[PROTOBUF], span_bytes(1))).await.status, 404);
    }
    assert_eq!(http1(rig.http(), post("/v1/profiles", &[JSON], "{}")).await.status, 404);
    for path in ["/opentelemetry.proto.collector.trace.v1.TraceService/Import", "/some.Service/Export", "/none"] {
        let answer = http2(rig.grpc(), grpc_request(path, &[], message(false, &span_bytes(1)))).await;
        assert_eq!(answer.header("grpc-status"), "12", "{path}");
    }
    let json = [("content-type", "application/grpc+json")];
    assert_eq!(http2(rig.grpc(), grpc_request(TRACES, &json, vec![])).await.status, 415);
    let get = grpc_request(TRACES, &[], vec![]);
    let (mut head, body) = get.into_parts();
    head.method = http::Method::GET;
    assert_eq!(http2(rig.grpc(), http::Request::from_parts(head, body)).await.status, 405);

    let counters = rig.ingest.counters();
    assert_eq!(counters.unserved(Protocol::HttpProtobuf, Reason::NotFound), 3);
    assert_eq!(counters.unserved(Protocol::HttpJson, Reason::NotFound), 1);
    assert_eq!(counters.unserved(Protocol::Grpc, Reason::NotFound), 3);
    assert_eq!(counters.unserved(Protocol::Grpc, Reason::ContentType), 1);
    assert_eq!(counters.unserved(Protocol::Grpc, Reason::Method), 1);
    let requests: u64 = counters.by_request().map(|(_, _, of)| of.requests.get()).sum();
    assert_eq!(requests, 0, "they are counted once");
    // Those that do are counted with it.
    let answer = http1(rig.http(), post("/v1/traces", &[("content-type", "text/plain")], "x")).await;
    assert_eq!(answer.status, 415);
    assert_eq!(counters.of(Signal::Traces, Protocol::HttpJson).refused(Reason::ContentType), 1);
}

/// Sends bytes on a connection of their own, and reads to its end.
async fn send(to: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.expect("connects");
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_speak_something_else_are_counted_and_those_that_go_away_are_not() {
    let rig = Rig::start(options()).await;
    let counters = rig.ingest.counters();
    let hello = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 190]].concat();
    let long = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let mut broken = 0;
    for (to, bytes) in [
        (rig.http(), &hello[..]),
        (rig.grpc(), &hello[..]),
        (rig.http(), b"NOT HTTP\r\n\r\n"),
        (rig.http(), long.as_bytes()),
        // HTTP/2 whose first frame is no SETTINGS.
        (rig.grpc(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\x08\0\0\0\0\0\0\0\0\0"),
    ] {
        send(to, bytes).await;
        broken += 1;
        until(|| counters.connections_broken.get() == broken).await;
    }
    for to in [rig.grpc(), rig.http()] {
        for bytes in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /v1/traces HTTP/1.1\r\n"] {
            let mut stream = TcpStream::connect(to).await.expect("connects");
            stream.write_all(bytes).await.expect("writes");
        }
    }
    until(|| counters.connections_total.get() == broken + 6 && counters.connections.get() == 0).await;
    assert!(counters.connections_broken.get() <= broken + 1, "half an HTTP/1 request is no HTTP/2");
    assert_eq!(counters.connections_timed_out.get(), 0);
}
