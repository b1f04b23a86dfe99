//! OTLP/HTTP: `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, protobuf and JSON, over HTTP/1.1 and h2c.
//!
//! *Invariants.* Every answer is in the request's content type, success and `google.rpc.Status` alike; a request that has no
//! content type spoken here is answered in JSON.
//!
//! *Source.* OTLP 1.11, "OTLP/HTTP".

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use plimsoll_otlp::{Rejected, Signal};
use tonic::body::Body;

use crate::body::Gather;
use crate::connection::Peer;
use crate::counters::Protocol;
use crate::inflate::{self, Encoding};
use crate::pipeline::{Arrival, Pipeline, Received};
use crate::refusal::{Reason, Refusal};
use crate::seat::Seat;
use crate::status;

/// How long the rest of a refused body is read and thrown away: a client still sending would otherwise meet a reset before
/// it read the answer.
const LINGER: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct HttpFace {
    pub(crate) pipeline: Arc<Pipeline>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

impl HttpFace {
    pub(crate) async fn handle(&self, peer: Peer, seat: &Seat, request: Request<Incoming>) -> Response<Body> {
        let format = format(request.headers());
        let protocol = match format {
            Some(Format::Protobuf) => Protocol::HttpProtobuf,
            _ => Protocol::HttpJson,
        };
        let signal = match request.uri().path() {
            "/v1/traces" => Signal::Traces,
            "/v1/logs" => Signal::Logs,
            "/v1/metrics" => Signal::Metrics,
            path => {
                self.pipeline.counters.leave_unserved(protocol, Reason::NotFound);
                let message =
                    format!("nothing at `{path}`: OTLP is taken at `/v1/traces`, `/v1/logs` and `/v1/metrics`");
                return refused(&Refusal::new(Reason::NotFound, message), format.unwrap_or(Format::Json));
            }
        };
        let arrival = Arrival { signal, protocol, peer, seat };
        let answer = self.pipeline.answer(arrival, Box::pin(self.export(arrival, format, request))).await;
        let format = format.unwrap_or(Format::Json);
        match answer {
            Ok(rejected) => accepted(signal, &rejected, format),
            Err(refusal) => refused(&refusal, format),
        }
    }

    async fn export(
        &self,
        arrival: Arrival<'_>,
        format: Option<Format>,
        request: Request<Incoming>,
    ) -> Result<Rejected, Refusal> {
        let (head, mut body) = request.into_parts();
        let version = head.version;
        let received = async {
            if head.method != Method::POST {
                return Err(Refusal::new(Reason::Method, format!("`{}` is not taken here: use `POST`", head.method)));
            }
            if format.is_none() {
                let message = "`content-type` is neither `application/x-protobuf` nor `application/json`";
                return Err(Refusal::new(Reason::ContentType, message));
            }
            let encoding = encoding(&head.headers)?;
            let announced = content_length(&head.headers);
            // Tens of KiB for as long as the request lives, which may be a minute: nothing of it is needed any more.
            drop(head);
            let arrival = self.pipeline.admit(arrival).await?;
            self.pipeline.body(self.read(arrival, &mut body, encoding, announced)).await
        }
        .await;
        match received {
            Ok(received) => self.pipeline.take(arrival, received).await,
            Err(refusal) => {
                if version <= Version::HTTP_11 && refusal.reason != Reason::ClientGone {
                    linger(body);
                }
                Err(refusal)
            }
        }
    }

    async fn read(
        &self,
        arrival: Arrival<'_>,
        body: &mut Incoming,
        encoding: Encoding,
        announced: Option<usize>,
    ) -> Result<Received, Refusal> {
        let mut gather = Gather::begin(&self.pipeline, arrival, announced, encoding != Encoding::Identity).await?;
        while let Some(frame) = gather.wait(body.frame()).await? {
            let frame = frame.map_err(|_| Refusal::new(Reason::ClientGone, "the client broke the body off"))?;
            if let Ok(data) = frame.into_data() {
                gather.push(data).await?;
            }
        }
        let (body, reservation) = gather.finish().await?;
        Ok(Received { body, encoding, reservation })
    }
}

/// Reads on and throws away, for a moment, while the answer is on its way. Holds no memory but a piece at a time.
fn linger(mut body: Incoming) {
    tokio::spawn(tokio::time::timeout(LINGER, async move { while let Some(Ok(_)) = body.frame().await {} }));
}

fn format(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-protobuf") {
        return Some(Format::Protobuf);
    }
    essence.eq_ignore_ascii_case("application/json").then_some(Format::Json)
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    value.to_str().ok().and_then(Encoding::parse).ok_or_else(|| {
        Refusal::new(Reason::Encoding, format!("`content-encoding` {value:?} is not one of {}", inflate::ACCEPTED))
    })
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    // hyper has checked the form; what does not fit is too large whatever it is.
    let value = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    Some(value.parse().unwrap_or(usize::MAX))
}

fn accepted(signal: Signal, rejected: &Rejected, format: Format) -> Response<Body> {
    body(
        format,
        match format {
            Format::Protobuf => status::response_protobuf(rejected),
            Format::Json => status::response_json(signal, rejected),
        },
    )
}

fn refused(refusal: &Refusal, format: Format) -> Response<Body> {
    let mut response = body(
        format,
        match format {
            Format::Protobuf => status::status_protobuf(refusal),
            Format::Json => status::status_json(refusal),
        },
    );
    *response.status_mut() = refusal.reason.http_status();
    let headers = response.headers_mut();
    if let Some(delay) = refusal.reason.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs().max(1)));
    }
    match refusal.reason {
        Reason::Method => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
        Reason::Encoding => drop(headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(inflate::ACCEPTED))),
        _ => {}
    }
    response
}

fn body(format: Format, bytes: Vec<u8>) -> Response<Body> {
    let content_type = match format {
        Format::Protobuf => "application/x-protobuf",
        Format::Json => "application/json",
    };
    let mut response = Response::new(Body::new(Full::new(Bytes::from(bytes))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
