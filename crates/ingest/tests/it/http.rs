//! OTLP/HTTP.

use bytes::Bytes;
use http::Method;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use plimsoll_ingest::{Protocol, Reason};
use plimsoll_otlp::Signal;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fakes::{Mode, Rig, options, until};
use crate::requests::{self, gzip, span_bytes, ten_gigabytes, zlib, zstd};
use crate::wire::{JSON, PROTOBUF, grpc, http1, http2, message, post};

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_is_taken_over_http_1_and_h2c() {
    let rig = Rig::start(options()).await;
    for (path, body) in [
        ("/v1/traces", requests::spans(2).encode_to_vec()),
        ("/v1/logs", requests::logs(3).encode_to_vec()),
        ("/v1/metrics", requests::points(4).encode_to_vec()),
    ] {
        for answer in [
            http1(rig.http(), post(path, &[PROTOBUF], body.clone())).await,
            http2(rig.http(), post(path, &[PROTOBUF], body)).await,
        ] {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("content-type"), "application/x-protobuf");
            assert!(answer.body.is_empty(), "full success is the empty message");
        }
    }
    let counters = rig.ingest.counters();
    assert_eq!(counters.of(Signal::Traces, Protocol::HttpProtobuf).records.get(), 4);
    assert_eq!(counters.of(Signal::Logs, Protocol::HttpProtobuf).records.get(), 6);
    assert_eq!(counters.of(Signal::Metrics, Protocol::HttpProtobuf).records.get(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_undone() {
    let rig = Rig::start(options()).await;
    let plain = span_bytes(50);
    for (encoding, body) in [
        ("identity", plain.clone()),
        ("gzip", gzip(&plain)),
        ("gzip", [gzip(&plain[..100]), gzip(&plain[100..])].concat()),
        ("deflate", zlib(&plain)),
        ("zstd", zstd(&plain)),
    ] {
        let answer = http1(rig.http(), post("/v1/traces", &[PROTOBUF, ("content-encoding", encoding)], body)).await;
        assert_eq!(answer.status, 200, "{encoding}: {answer:?}");
    }
    assert_eq!(rig.sink.rows(), 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_taken_and_answered_in_json() {
    let rig = Rig::start(options()).await;
    let body = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[
        {"timeUnixNano":"1700000000000000000","severityNumber":9,"body":{"stringValue":"a"},"newField":[1]},
        {"timeUnixNano":1700000000000000001,"severityNumber":17,"body":{"intValue":"5"}}]}]}]}"#;
    let answer = http1(rig.http(), post("/v1/logs", &[JSON], body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((answer.header("content-type"), &answer.body[..]), ("application/json", &b"{}"[..]));
    assert_eq!(rig.sink.rows(), 2);
    let bad = http1(rig.http(), post("/v1/logs", &[JSON], "{\"resourceLogs\":7}")).await;
    assert_eq!((bad.status.as_u16(), bad.header("content-type")), (400, "application/json"));
    let status: serde_json::Value = serde_json::from_slice(&bad.body).expect("is JSON");
    assert_eq!(status["code"], 3);
    assert!(status["message"].as_str().is_some_and(|text| !text.is_empty()), "{status}");
    assert_eq!(rig.ingest.counters().of(Signal::Logs, Protocol::HttpJson).refused(Reason::Malformed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_short_however_long_the_value_that_it_is_about() {
    let rig = Rig::start(options()).await;
    let long = "z".repeat((1 << 20) - 200);
    for span in [format!(r#""traceId":"{long}""#), format!(r#""{long}":nonsense"#)] {
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{span}}}]}}]}}]}}"#);
        let answer = http1(rig.http(), post("/v1/traces", &[JSON], body)).await;
        assert_eq!((answer.status.as_u16(), answer.body.len() < 4 << 10), (400, true), "{} bytes", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_an_empty_request() {
    let rig = Rig::start(options()).await;
    for headers in [vec![PROTOBUF], vec![JSON], vec![PROTOBUF, ("content-encoding", "gzip")]] {
        let answer = http1(rig.http(), post("/v1/logs", &headers, "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(rig.journal.frames().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_for_good_with_a_status_in_the_requests_own_form() {
    let rig = Rig::start(options()).await;
    let large = vec![0; (1 << 20) + 1];
    let encoded = |encoding| vec![PROTOBUF, ("content-encoding", encoding)];
    for (headers, body, status, code, words) in [
        (vec![PROTOBUF], b"\xff\xff".to_vec(), 400, 3, "malformed"),
        (vec![PROTOBUF], large.clone(), 413, 8, "`ingest.request_bytes_max`"),
        (encoded("zstd"), zstd(&large), 413, 8, "once decompressed"),
        (encoded("gzip"), gzip(&large), 413, 8, "once decompressed"),
        (encoded("gzip"), span_bytes(1), 400, 3, "not Gzip data"),
        (encoded("br"), span_bytes(1), 415, 12, "`content-encoding`"),
    ] {
        let answer = http1(rig.http(), post("/v1/traces", &headers, body)).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("retry-after"), "");
        let rpc = answer.rpc_status();
        assert_eq!(rpc.code, code);
        assert!(rpc.message.contains(words), "{words:?} in {:?}", rpc.message);
        assert_eq!(rpc.retry_seconds(), None);
    }
    assert!(rig.journal.frames().is_empty());
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_methods_and_paths_are_answered_in_json_that_says_what_is_right() {
    let rig = Rig::start(options()).await;
    let text = |body: &Bytes| String::from_utf8(body.to_vec()).expect("is text");
    for headers in [vec![("content-type", "text/plain")], vec![("content-type", "application/protobuf")], vec![]] {
        let answer = http1(rig.http(), post("/v1/traces", &headers, span_bytes(1))).await;
        assert_eq!(answer.status, 415);
        assert!(text(&answer.body).contains("application/x-protobuf"), "{answer:?}");
    }
    let mut get = post("/v1/traces", &[], "");
    *get.method_mut() = Method::GET;
    let get = http1(rig.http(), get).await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, "POST"));
    let lost = http1(rig.http(), post("/v1/spans", &[JSON], "{}")).await;
    assert_eq!(lost.status, 404);
    assert!(text(&lost.body).contains("/v1/traces"), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_announced_as_too_large_is_refused_before_it_is_sent() {
    let rig = Rig::start(options()).await;
    let mut stream = TcpStream::connect(rig.http()).await.expect("connects");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 104857600\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("is sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("is answered while nothing of the body was sent");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_without_an_announcement_stop_at_the_limit() {
    let rig = Rig::start(options()).await;
    let mut stream = TcpStream::connect(rig.http()).await.expect("connects");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("is sent");
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        let chunk = [b"10000\r\n".to_vec(), vec![0; 0x10000], b"\r\n".to_vec()].concat();
        // Ends early: the server hangs up.
        for _ in 0..1_600 {
            if writer.write_all(&chunk).await.is_err() {
                break;
            }
        }
    });
    let mut answer = [0; 12];
    reader.read_exact(&mut answer).await.expect("is answered");
    assert_eq!(&answer, b"HTTP/1.1 413");
    sending.await.expect("does not panic");
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_gigabytes_of_zeros_are_refused_within_the_budget() {
    let mut options = options();
    options.request_bytes_max = 16 << 20;
    options.in_flight_bytes = 48 << 20;
    let rig = Rig::start(options).await;
    for (encoding, compress) in [("zstd", zstd as fn(&[u8]) -> Vec<u8>), ("gzip", gzip)] {
        let headers = [PROTOBUF, ("content-encoding", encoding)];
        let answer = http1(rig.http(), post("/v1/traces", &headers, ten_gigabytes(compress))).await;
        assert_eq!(answer.status, 413, "{encoding}");
    }
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_mid_body_gives_everything_back_and_is_counted() {
    let rig = Rig::start(options()).await;
    let mut stream = TcpStream::connect(rig.http()).await.expect("connects");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 90000\r\n\r\nabc";
    stream.write_all(head.as_bytes()).await.expect("is sent");
    until(|| rig.ingest.status().in_flight_bytes >= 90_000).await;
    drop(stream);
    rig.nothing_in_flight().await;
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::HttpProtobuf).refused(Reason::ClientGone), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up() {
    let mut options = options();
    options.body_timeout = std::time::Duration::from_millis(50);
    let rig = Rig::start(options).await;
    let mut stream = TcpStream::connect(rig.http()).await.expect("connects");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 90000\r\n\r\nabc";
    stream.write_all(head.as_bytes()).await.expect("is sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("is answered");
    assert_eq!(&answer, b"HTTP/1.1 503");
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_or_dawdle_over_their_headers_are_closed() {
    let mut options = options();
    options.handshake_timeout = std::time::Duration::from_millis(50);
    options.header_timeout = std::time::Duration::from_millis(100);
    let rig = Rig::start(options).await;
    let mut silent = TcpStream::connect(rig.grpc()).await.expect("connects");
    let mut slow = TcpStream::connect(rig.http()).await.expect("connects");
    slow.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: plimsoll\r\nx-").await.expect("is sent");
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    let _ = slow.read_to_end(&mut rest).await;
    until(|| rig.ingest.counters().connections.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_are_turned_away_and_counted() {
    let mut options = options();
    options.connections_max = 2;
    let rig = Rig::start(options).await;
    rig.journal.set(Mode::Wait);
    let (to, other) = (rig.http(), rig.grpc());
    let first = tokio::spawn(async move { http1(to, post("/v1/traces", &[PROTOBUF], span_bytes(1))).await });
    let second = tokio::spawn(async move { grpc(other, &[], message(false, &span_bytes(2))).await });
    until(|| rig.ingest.counters().in_progress.get() == 2).await;
    assert!(!rig.ingest.status().connections_short);
    let mut third = TcpStream::connect(rig.http()).await.expect("is accepted by the system");
    let mut rest = Vec::new();
    let _ = third.read_to_end(&mut rest).await;
    assert_eq!(rig.ingest.counters().connections_refused.get(), 1);
    assert!(rig.ingest.status().connections_short);
    rig.journal.set(Mode::Work);
    assert_eq!(first.await.expect("does not panic").status, 200);
    assert_eq!(second.await.expect("does not panic").header("grpc-status"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_success_is_said_only_where_something_was_left_out() {
    let rig = Rig::start(options()).await;
    let mut request = requests::logs(2);
    request.resource_logs[0].scope_logs[0].log_records[1].trace_id = vec![1; 3];
    let answer = http1(rig.http(), post("/v1/logs", &[PROTOBUF], request.encode_to_vec())).await;
    assert_eq!(answer.status, 200);
    let said = ExportLogsServiceResponse::decode(answer.body).expect("reads").partial_success;
    let rejected = said.map_or(0, |partial| partial.rejected_log_records);
    assert_eq!(rejected as usize + rig.sink.rows(), 2, "every record is stored or said to be left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_503_that_says_when_to_come_back() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Full);
    let answer = http1(rig.http(), post("/v1/traces", &[PROTOBUF], span_bytes(1))).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"));
    assert_eq!(answer.rpc_status().retry_seconds(), Some(2));
    rig.journal.set(Mode::Work);
    let answer = http1(rig.http(), post("/v1/traces", &[PROTOBUF], span_bytes(1))).await;
    assert_eq!(answer.status, 200, "space came free");
}
