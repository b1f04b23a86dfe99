//! OTLP/gRPC.

use bytes::Bytes;
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use plimsoll_ingest::{Protocol, Reason};
use plimsoll_otlp::Signal;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::fakes::{FakeJournal, Mode, Rig, options};
use crate::requests::{self, gzip, span_bytes, ten_gigabytes, zlib, zstd};
use crate::wire::{Answer, grpc, grpc_request, http2, message};

pub(crate) async fn channel(to: std::net::SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}")).expect("is an address").connect().await.expect("connects")
}

fn refused(answer: &Answer, code: tonic::Code, words: &str) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status"), (code as i32).to_string(), "{answer:?}");
    let text = answer.header("grpc-message").replace("%20", " ").replace("%60", "`");
    assert!(text.contains(words), "{words:?} in {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_is_taken_from_the_upstream_clients_plain_and_gzipped() {
    let rig = Rig::start(options()).await;
    let channel = channel(rig.grpc()).await;
    let traces = TraceServiceClient::new(channel.clone());
    let logs = LogsServiceClient::new(channel.clone());
    let metrics = MetricsServiceClient::new(channel);
    let answer = traces.clone().export(requests::spans(3)).await.expect("is taken").into_inner();
    assert_eq!(answer.partial_success, None, "full success says nothing");
    logs.clone().export(requests::logs(4)).await.expect("is taken");
    metrics.clone().export(requests::points(5)).await.expect("is taken");
    let gzip = CompressionEncoding::Gzip;
    traces.send_compressed(gzip).export(requests::spans(3)).await.expect("is taken");
    logs.send_compressed(gzip).export(requests::logs(4)).await.expect("is taken");
    metrics.send_compressed(gzip).export(requests::points(5)).await.expect("is taken");
    let rows: Vec<_> = rig.sink.published.lock().iter().map(|one| (one.signal, one.batch.num_rows())).collect();
    let once = [(Signal::Traces, 3), (Signal::Logs, 4), (Signal::Metrics, 5)];
    assert_eq!(rows, [once, once].concat());
    let counters = rig.ingest.counters();
    assert_eq!(counters.of(Signal::Metrics, Protocol::Grpc).records.get(), 10);
    assert_eq!(counters.of(Signal::Logs, Protocol::Grpc).accepted.get(), 2);
    assert_eq!(counters.ack_ns.count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_undone() {
    let rig = Rig::start(options()).await;
    let plain = span_bytes(50);
    for (encoding, body) in [("gzip", gzip(&plain)), ("deflate", zlib(&plain)), ("zstd", zstd(&plain))] {
        let answer = grpc(rig.grpc(), &[("grpc-encoding", encoding)], message(true, &body)).await;
        assert_eq!(answer.header("grpc-status"), "0", "{encoding}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/grpc");
        assert_eq!(ExportTraceServiceResponse::decode(&answer.body[5..]).expect("reads").partial_success, None);
    }
    let unflagged = grpc(rig.grpc(), &[("grpc-encoding", "gzip")], message(false, &plain)).await;
    assert_eq!(unflagged.header("grpc-status"), "0", "the flag, not the header, says what is compressed");
    assert_eq!(rig.sink.rows(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_refused_for_good_before_and_after_decompression() {
    let rig = Rig::start(options()).await;
    let large = vec![0; (1 << 20) + 1];
    for (headers, body) in [
        (vec![], message(false, &large)),
        (vec![("grpc-encoding", "zstd")], message(true, &zstd(&large))),
        (vec![("grpc-encoding", "gzip")], message(true, &gzip(&large))),
        // Announced only: nothing of it is sent.
        (vec![], vec![0, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let answer = grpc(rig.grpc(), &headers, body).await;
        refused(&answer, tonic::Code::ResourceExhausted, "`ingest.request_bytes_max`");
        assert_eq!(answer.grpc_details(), None, "no RetryInfo: the same message will never be taken");
    }
    assert_eq!(rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).refused(Reason::TooLarge), 4);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_gigabytes_of_zeros_are_refused_within_the_budget() {
    let mut options = options();
    options.request_bytes_max = 16 << 20;
    options.in_flight_bytes = 48 << 20;
    let rig = Rig::start(options).await;
    for (encoding, compress) in [("zstd", zstd as fn(&[u8]) -> Vec<u8>), ("gzip", gzip)] {
        let bomb = ten_gigabytes(compress);
        let answer = grpc(rig.grpc(), &[("grpc-encoding", encoding)], message(true, &bomb)).await;
        refused(&answer, tonic::Code::ResourceExhausted, "once decompressed");
    }
    let inflated = rig.ingest.counters().of(Signal::Traces, Protocol::Grpc).body_bytes.get();
    assert_eq!(inflated, 0, "nothing of it came to be decoded");
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_one_whole_message_is_an_invalid_argument() {
    let rig = Rig::start(options()).await;
    let good = span_bytes(1);
    let cut = message(false, &good)[..good.len()].to_vec();
    let two = [message(false, &good), message(false, &good)].concat();
    for (headers, body, words) in [
        (vec![], message(false, b"\xff\xff\xff"), "malformed"),
        (vec![], vec![], "before a message"),
        (vec![], vec![0, 0], "before a message"),
        (vec![], cut, "the stream ended after"),
        (vec![], two, "more follows the message"),
        (vec![], message(true, &good), "no `grpc-encoding`"),
        (vec![], [2].into_iter().chain(message(false, &good).into_iter().skip(1)).collect(), "flag is 2"),
        (vec![("grpc-encoding", "gzip")], message(true, &good), "not Gzip data"),
        (vec![("grpc-timeout", "soon")], message(false, &good), "`grpc-timeout`"),
    ] {
        let answer = grpc(rig.grpc(), &headers, body).await;
        refused(&answer, tonic::Code::InvalidArgument, words);
        assert_eq!(answer.grpc_details(), None);
    }
    assert_eq!(rig.sink.rows(), 0);
    assert!(rig.journal.frames().is_empty(), "nothing malformed is made durable");
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_spoken_here_is_named() {
    let rig = Rig::start(options()).await;
    let good = message(false, &span_bytes(1));
    let brotli = grpc(rig.grpc(), &[("grpc-encoding", "br")], good.clone()).await;
    refused(&brotli, tonic::Code::Unimplemented, "`grpc-encoding`");
    assert_eq!(brotli.header("grpc-accept-encoding"), "identity,gzip,deflate,zstd");
    for path in ["/opentelemetry.proto.collector.trace.v1.TraceService/Import", "/no.such.Service/Export", "/x"] {
        let answer = http2(rig.grpc(), grpc_request(path, &[], good.clone())).await;
        refused(&answer, tonic::Code::Unimplemented, path);
    }
    let web = grpc(rig.grpc(), &[("content-type", "application/grpc-web")], good.clone()).await;
    assert_eq!(web.status, 415);
    let mut get = grpc_request(crate::wire::TRACES, &[], vec![]);
    *get.method_mut() = http::Method::GET;
    let get = http2(rig.grpc(), get).await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, "POST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_arrives_byte_by_byte_is_put_together() {
    let rig = Rig::start(options()).await;
    let framed = message(false, &span_bytes(2));
    let pieces =
        framed.into_iter().map(|byte| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(vec![byte]))));
    let body = http_body_util::StreamBody::new(tokio_stream::iter(pieces));
    let request = grpc_request(crate::wire::TRACES, &[], vec![]).map(|_: Full<Bytes>| body);
    let answer = http2(rig.grpc(), request).await;
    assert_eq!(answer.header("grpc-status"), "0", "{answer:?}");
    assert_eq!(rig.sink.rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_request_is_taken_and_makes_no_frame() {
    let rig = Rig::start(options()).await;
    let answer = grpc(rig.grpc(), &[], message(false, &[])).await;
    assert_eq!(answer.header("grpc-status"), "0");
    assert!(rig.journal.frames().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_deadline_is_kept() {
    let rig = Rig::start(options()).await;
    rig.journal.set(Mode::Wait);
    let answer = grpc(rig.grpc(), &[("grpc-timeout", "20m")], message(false, &span_bytes(1))).await;
    refused(&answer, tonic::Code::DeadlineExceeded, "`grpc-timeout`");
    rig.journal.set(Mode::Work);
    rig.nothing_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_of_every_service_and_turns_with_the_state() {
    let rig = Rig::start(options()).await;
    let mut client = HealthClient::new(channel(rig.grpc()).await);
    let services = ["", "opentelemetry.proto.collector.trace.v1.TraceService"];
    let mut watch =
        client.watch(HealthCheckRequest { service: services[1].to_owned() }).await.expect("is known").into_inner();
    while watch.next().await.expect("goes on").expect("is told").status() != ServingStatus::Serving {}
    for service in services {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.expect("is known");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    rig.journal.set(Mode::Poison);
    let _ = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    while watch.next().await.expect("goes on").expect("is told").status() != ServingStatus::NotServing {}
    let unknown = client.check(HealthCheckRequest { service: "no.such.Service".to_owned() }).await;
    assert_eq!(unknown.expect_err("is not known").code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_and_describes_their_messages() {
    let rig = Rig::start(options()).await;
    let mut client = ServerReflectionClient::new(channel(rig.grpc()).await);
    let ask = |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
    let questions = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("opentelemetry.proto.metrics.v1.Exemplar".to_owned())),
    ]);
    let answers = client.server_reflection_info(questions).await.expect("is served").into_inner();
    let answers: Vec<ServerReflectionResponse> = answers.map(|answer| answer.expect("is told")).collect().await;
    let Some(MessageResponse::ListServicesResponse(list)) = &answers[0].message_response else {
        panic!("not a list: {answers:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "grpc.health.v1.Health",
        "opentelemetry.proto.collector.logs.v1.LogsService",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        "opentelemetry.proto.collector.trace.v1.TraceService",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let Some(MessageResponse::FileDescriptorResponse(_)) = &answers[1].message_response else {
        panic!("not described: {answers:?}")
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_journal_is_replayed_clients_are_told_to_come_back() {
    let journal = FakeJournal::new(Mode::Work);
    journal.preload(vec![crate::durable::frame(1)]);
    let sink = std::sync::Arc::<crate::fakes::FakeSink>::default();
    sink.tail_bytes.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    let rig = Rig::begin(options(), journal, sink).await;
    let answer = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    refused(&answer, tonic::Code::Unavailable, "the journal is being read");
    assert_eq!(answer.grpc_details().expect("says when").retry_seconds(), Some(1));
    assert!(!rig.ingest.status().readiness.is_ready());
    rig.sink.tail_bytes.store(0, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(rig.ingest.replayed().await.expect("is done").rows, 1);
    let answer = grpc(rig.grpc(), &[], message(false, &span_bytes(1))).await;
    assert_eq!(answer.header("grpc-status"), "0");
}
