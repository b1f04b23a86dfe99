//! OTLP/HTTP over one kept-alive HTTP/1.1 connection, as exporters use it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;

use super::answer::{self, Reply, RpcStatus, SendError};
use crate::records::Signal;
use crate::template;

pub(super) struct Channel {
    requests: http1::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Channel {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, SendError> {
        let stream = TcpStream::connect(address).await.map_err(SendError::of)?;
        stream.set_nodelay(true).map_err(SendError::of)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(SendError::of)?;
        // Its end shows as the failure of the next request.
        tokio::spawn(connection);
        Ok(Self { requests, authority: address.to_string() })
    }

    pub(super) async fn send(
        &mut self,
        signal: Signal,
        encoding: Option<&'static str>,
        json: bool,
        body: BytesMut,
    ) -> Result<Reply, SendError> {
        let mut request = Request::builder()
            .method("POST")
            .uri(signal.http_path())
            .header("host", &self.authority)
            .header("content-type", if json { "application/json" } else { "application/x-protobuf" });
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let request = request.body(Full::new(template::without_prefix(body))).map_err(SendError::of)?;
        self.requests.ready().await.map_err(SendError::of)?;
        let response = self.requests.send_request(request).await.map_err(SendError::of)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(SendError::of)?.to_bytes();
        let status = head.status.as_u16();
        if status == 200 {
            return if json { accepted_json(&body) } else { answer::accepted(&body) };
        }
        let words = if json {
            String::from_utf8_lossy(&body).into_owned()
        } else {
            RpcStatus::decode(&body[..])
                .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |status| status.message)
        };
        Ok(Reply::Refused {
            retryable: matches!(status, 429 | 502 | 503 | 504),
            retry_after: retry_after(&head.headers),
            problem: format!("HTTP {status}: {words}"),
        })
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn accepted_json(body: &[u8]) -> Result<Reply, SendError> {
    let response: serde_json::Value = serde_json::from_slice(body).map_err(SendError::of)?;
    let partial = &response["partialSuccess"];
    let rejected = ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"]
        .iter()
        .find_map(|key| partial[*key].as_u64().or_else(|| partial[*key].as_str()?.parse().ok()))
        .unwrap_or(0);
    Ok(Reply::Accepted { rejected })
}
