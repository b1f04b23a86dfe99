//! OTLP/gRPC: the three export services on raw message bytes, health and reflection beside them.
//!
//! *Why not generated services.* They would build a tree of messages only for us to take it apart, and answer an oversized
//! message with a code that clients retry.
//!
//! *Source.* gRPC over HTTP/2 (PROTOCOL-HTTP2.md), compression.md; OTLP 1.11, "OTLP/gRPC".

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use plimsoll_otlp::{Rejected, Signal};
use tokio::time::Instant;
use tonic::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::body::Gather;
use crate::connection::Peer;
use crate::counters::Protocol;
use crate::haste::Haste;
use crate::health::InTime;
use crate::inflate::{self, Encoding};
use crate::pipeline::{Arrival, Limits, Pipeline, Received};
use crate::refusal::{Reason, Refusal};
use crate::seat::Seat;
use crate::status;

/// The services served, by signal.
pub(crate) const SERVICES: [(Signal, &str); 3] = [
    (Signal::Traces, "opentelemetry.proto.collector.trace.v1.TraceService"),
    (Signal::Logs, "opentelemetry.proto.collector.logs.v1.LogsService"),
    (Signal::Metrics, "opentelemetry.proto.collector.metrics.v1.MetricsService"),
];

/// Length of what stands before a message: a flag and the message's length.
const PREFIX_LEN: usize = 5;

/// A tonic service beside ours.
pub(crate) type SideService = BoxCloneSyncService<Request<InTime>, Response<Body>, Infallible>;

/// See the module.
pub(crate) struct GrpcFace {
    pub(crate) pipeline: Arc<Pipeline>,
    /// By service name.
    pub(crate) side: Vec<(&'static str, SideService)>,
}

impl GrpcFace {
    pub(crate) async fn handle(&self, peer: Peer, seat: &Seat, request: Request<Incoming>) -> Response<Body> {
        let grpc = request.headers().get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()));
        let unserved = |reason| self.pipeline.counters.leave_unserved(Protocol::Grpc, reason);
        if !grpc {
            unserved(Reason::ContentType);
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        if request.method() != Method::POST {
            unserved(Reason::Method);
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let path = request.uri().path();
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            unserved(Reason::NotFound);
            return refused(&unknown(path));
        };
        if let Some((_, side)) = self.side.iter().find(|(name, _)| *name == service) {
            let request = request.map(|body| InTime::new(body, self.pipeline.limits.body_timeout));
            // Its work is done in no time; what it may take is the client's.
            let _waits = seat.waits();
            let Ok(response) = Box::pin(side.clone().oneshot(request)).await;
            return response;
        }
        match SERVICES.iter().find(|(_, name)| *name == service) {
            Some((signal, _)) if method == "Export" => {
                let arrival = Arrival { signal: *signal, protocol: Protocol::Grpc, peer, seat };
                match self.pipeline.answer(arrival, Box::pin(self.export(arrival, request))).await {
                    Ok(rejected) => accepted(&rejected),
                    Err(refusal) => refused(&refusal),
                }
            }
            _ => {
                unserved(Reason::NotFound);
                refused(&unknown(path))
            }
        }
    }

    async fn export(&self, arrival: Arrival<'_>, request: Request<Incoming>) -> Result<Rejected, Refusal> {
        let (head, body) = request.into_parts();
        let encoding = encoding(&head.headers)?;
        let deadline = timeout(&head.headers)?;
        // Tens of KiB for as long as the request lives, which may be a minute: nothing of it is needed any more.
        drop(head);
        let work = async {
            let arrival = self.pipeline.admit(arrival).await?;
            let received = self.pipeline.body(self.message(arrival, body, encoding)).await?;
            self.pipeline.take(arrival, received).await
        };
        match deadline {
            None => work.await,
            Some(time) => tokio::time::timeout(time, work)
                .await
                .unwrap_or_else(|_| Err(Refusal::new(Reason::Deadline, "the client's `grpc-timeout` is up"))),
        }
    }

    /// Reads the one message of the stream.
    async fn message(&self, arrival: Arrival<'_>, mut body: Incoming, encoding: Encoding) -> Result<Received, Refusal> {
        let mut prefix = BytesMut::new();
        // Nothing is reserved yet, and a stream has its place all the same.
        let Limits { body_timeout, body_grace, .. } = self.pipeline.limits;
        let haste = Haste::new(PREFIX_LEN, arrival.peer.stream_bytes, body_timeout, body_grace, Instant::now());
        while prefix.len() < PREFIX_LEN {
            let Some(piece) = self.next(&mut body, &haste, arrival.seat).await? else {
                return Err(Refusal::malformed("the stream ended before a message"));
            };
            if prefix.len() + piece.len() < PREFIX_LEN {
                self.pipeline.hurry_up(&haste, Instant::now())?;
            }
            // Most messages are smaller than a piece: no copy then.
            prefix = if prefix.is_empty() {
                piece.try_into_mut().unwrap_or_else(|piece| BytesMut::from(&piece[..]))
            } else {
                prefix.extend_from_slice(&piece);
                prefix
            };
        }
        let compressed = match prefix.get_u8() {
            0 => false,
            1 => true,
            flag => {
                return Err(Refusal::malformed(format_args!("the message's compressed flag is {flag}, not 0 or 1")));
            }
        };
        if compressed && encoding == Encoding::Identity {
            return Err(Refusal::malformed("the message is marked compressed, but there is no `grpc-encoding`"));
        }
        let encoding = if compressed { encoding } else { Encoding::Identity };
        let length = prefix.get_u32() as usize;
        let mut gather = Gather::begin(&self.pipeline, arrival, Some(length), compressed).await?;
        let mut piece = prefix.freeze();
        loop {
            if gather.len() + piece.len() > length {
                return Err(Refusal::malformed("more follows the message, and an export request is one message"));
            }
            gather.push(piece).await?;
            match self.next(&mut body, gather.haste(), arrival.seat).await? {
                Some(more) => piece = more,
                None if gather.len() == length => break,
                None => {
                    return Err(Refusal::malformed(format_args!(
                        "the stream ended after {} of the message's {length} bytes",
                        gather.len()
                    )));
                }
            }
        }
        let (body, reservation) = gather.finish().await?;
        Ok(Received { body, encoding, reservation })
    }

    async fn next(&self, body: &mut Incoming, haste: &Haste, seat: &Seat) -> Result<Option<Bytes>, Refusal> {
        loop {
            match self.pipeline.piece(body.frame(), haste, seat).await? {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => return Err(Refusal::new(Reason::ClientGone, "the client broke the stream off")),
            }
        }
    }
}

/// `application/grpc`, `application/grpc+proto`, with or without parameters; not `application/grpc-web`, not `+json`.
fn is_grpc(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/grpc") || essence.eq_ignore_ascii_case(b"application/grpc+proto")
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let Some(value) = headers.get("grpc-encoding") else { return Ok(Encoding::Identity) };
    value.to_str().ok().and_then(Encoding::parse).ok_or_else(|| {
        Refusal::new(Reason::Encoding, format!("`grpc-encoding` {value:?} is not one of {}", inflate::ACCEPTED))
    })
}

/// Reads `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let n: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(n * 3_600),
            "M" => Duration::from_secs(n * 60),
            "S" => Duration::from_secs(n),
            "m" => Duration::from_millis(n),
            "u" => Duration::from_micros(n),
            "n" => Duration::from_nanos(n),
            _ => return None,
        })
    };
    match parsed() {
        Some(time) => Ok(Some(time)),
        None => Err(Refusal::malformed(format_args!("`grpc-timeout` {value:?} is not up to eight digits and a unit"))),
    }
}

fn unknown(path: &str) -> Refusal {
    Refusal::new(Reason::NotFound, format!("no method `{path}` here"))
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A message of no bytes, which says that everything was taken.
const ALL_TAKEN: &[u8] = &[0; PREFIX_LEN];

fn accepted(rejected: &Rejected) -> Response<Body> {
    let message = status::response_protobuf(rejected);
    let data = if message.is_empty() {
        Bytes::from_static(ALL_TAKEN)
    } else {
        let mut data = BytesMut::with_capacity(PREFIX_LEN + message.len());
        data.put_u8(0);
        data.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        data.extend_from_slice(&message);
        data.freeze()
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(data).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let code = refusal.reason.grpc_code();
    let mut response = match refusal.reason.retry_after() {
        Some(_) => {
            let details = Bytes::from(status::status_protobuf(refusal));
            tonic::Status::with_details(code, refusal.message.clone(), details)
        }
        None => tonic::Status::new(code, refusal.message.clone()),
    }
    .into_http();
    if refusal.reason == Reason::Encoding {
        response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(inflate::ACCEPTED));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(text).expect("is a header value"));
            timeout(&headers).ok().flatten()
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "S", "123456789S", "5", "5s", "-1S", "+1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn grpc_web_and_json_are_other_protocols() {
        assert!(is_grpc(b"application/grpc"));
        assert!(is_grpc(b"application/grpc+proto; charset=utf-8"));
        assert!(!is_grpc(b"application/grpc-web"));
        assert!(!is_grpc(b"application/grpc+json"));
        assert!(!is_grpc(b"application/json"));
    }
}
