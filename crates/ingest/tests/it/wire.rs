//! Clients without manners: requests put together by hand, answers read to the last trailer.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) delay: Option<prost_types::Duration>,
}

impl RpcStatus {
    /// Seconds of the `RetryInfo`, if there is one.
    pub(crate) fn retry_seconds(&self) -> Option<i64> {
        let any = self.details.iter().find(|any| any.type_url == "type.googleapis.com/google.rpc.RetryInfo")?;
        RetryInfo::decode(&any.value[..]).expect("is a RetryInfo").delay.map(|delay| delay.seconds)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).or_else(|| self.trailers.get(name));
        value.map_or("", |value| value.to_str().expect("is text"))
    }

    pub(crate) fn rpc_status(&self) -> RpcStatus {
        assert_eq!(self.header("content-type"), "application/x-protobuf");
        RpcStatus::decode(&self.body[..]).expect("is a google.rpc.Status")
    }

    /// The status in `grpc-status-details-bin`.
    pub(crate) fn grpc_details(&self) -> Option<RpcStatus> {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        let bytes = engine.decode(self.header("grpc-status-details-bin").trim_end_matches('=')).expect("is base64");
        (!bytes.is_empty()).then(|| RpcStatus::decode(&bytes[..]).expect("is a google.rpc.Status"))
    }
}

/// Reads an answer to its end.
pub(crate) async fn whole(response: Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the answer is read");
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
}

/// A connection for one HTTP/1.1 request after another.
pub(crate) async fn kept_alive(to: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(to).await.expect("connects");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("shakes hands");
    tokio::spawn(connection);
    sender
}

/// One HTTP/1.1 request on a connection of its own.
pub(crate) async fn http1<B>(to: SocketAddr, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let stream = TcpStream::connect(to).await.expect("connects");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("shakes hands");
    tokio::spawn(connection);
    whole(sender.send_request(request).await.expect("is answered")).await
}

pub(crate) type H2<B> = http2::SendRequest<B>;

pub(crate) async fn h2<B>(to: SocketAddr) -> H2<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let stream = TcpStream::connect(to).await.expect("connects");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("shakes hands");
    tokio::spawn(connection);
    sender
}

/// One HTTP/2 request on a connection of its own.
pub(crate) async fn http2<B>(to: SocketAddr, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let mut sender = h2(to).await;
    whole(sender.send_request(request).await.expect("is answered")).await
}

pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A gRPC message with its prefix.
pub(crate) fn message(compressed: bool, bytes: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(bytes.len() + 5);
    framed.put_u8(u8::from(compressed));
    framed.put_u32(u32::try_from(bytes.len()).expect("is short"));
    framed.extend_from_slice(bytes);
    framed
}

pub(crate) fn grpc_request(path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("http://plimsoll{path}")).header("te", "trailers");
    let named = |name: &str| headers.iter().any(|(given, _)| *given == name);
    if !named("content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body))).expect("is a request")
}

/// One gRPC call on a connection of its own.
pub(crate) async fn grpc(to: SocketAddr, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    http2(to, grpc_request(TRACES, headers, body)).await
}

pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("http://plimsoll{path}")).header("host", "plimsoll");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).expect("is a request")
}

pub(crate) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
