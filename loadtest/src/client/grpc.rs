//! OTLP/gRPC framed by hand over one HTTP/2 connection: a request costs one body frame queue and no service stack.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::GRPC_PREFIX_BYTES;
use super::answer::{self, Reply, RpcStatus, SendError};
use crate::compression::Compression;
use crate::records::Signal;

#[derive(Clone)]
pub(super) struct Channel {
    requests: http2::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Channel {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, SendError> {
        let stream = TcpStream::connect(address).await.map_err(SendError::of)?;
        stream.set_nodelay(true).map_err(SendError::of)?;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .max_send_buf_size(4 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(SendError::of)?;
        // Its end shows as the failure of whatever is in flight.
        tokio::spawn(connection);
        Ok(Self { requests, authority: address.to_string() })
    }

    pub(super) async fn send(
        &mut self,
        signal: Signal,
        encoding: Option<&'static str>,
        mut body: BytesMut,
    ) -> Result<Reply, SendError> {
        let length = u32::try_from(body.len() - GRPC_PREFIX_BYTES).map_err(SendError::of)?;
        body[0] = u8::from(encoding.is_some());
        (&mut body[1..GRPC_PREFIX_BYTES]).put_u32(length);

        let mut request = Request::builder()
            .method("POST")
            .version(Version::HTTP_2)
            .uri(format!("http://{}{}", self.authority, signal.grpc_path()))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let request = request.body(Full::new(body.freeze())).map_err(SendError::of)?;
        self.requests.ready().await.map_err(SendError::of)?;
        let response = self.requests.send_request(request).await.map_err(SendError::of)?;
        if response.status() != 200 {
            return Err(SendError(format!("HTTP status {} from a gRPC endpoint", response.status())));
        }
        let (head, body) = response.into_parts();
        let encoded = head.headers.get("grpc-encoding").and_then(|name| Compression::named(name.to_str().ok()?));
        let collected = body.collect().await.map_err(SendError::of)?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        // A refusal may come as headers alone.
        let status = if trailers.contains_key("grpc-status") { trailers } else { head.headers };
        match code(&status)? {
            0 => {
                let framed = collected.to_bytes();
                let (prefix, message) =
                    framed.split_at_checked(GRPC_PREFIX_BYTES).ok_or_else(|| SendError("no message".into()))?;
                if prefix[0] == 0 {
                    return answer::accepted(message);
                }
                // Servers may answer in the encoding of the request without being asked for it.
                let open = encoded.ok_or_else(|| SendError("an answer in an encoding of its own".into()))?;
                answer::accepted(&open.decompress(message).map_err(SendError::of)?)
            }
            code => Ok(refused(code, &status)),
        }
    }
}

fn code(status: &HeaderMap) -> Result<u32, SendError> {
    let text = status.get("grpc-status").and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| SendError("the answer has no grpc-status".into()))
}

fn refused(code: u32, status: &HeaderMap) -> Reply {
    use base64::Engine;
    use base64::engine::DecodePaddingMode;
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

    // gRPC strips the padding, some servers do not.
    let engine = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let details = status
        .get("grpc-status-details-bin")
        .and_then(|value| engine.decode(value.as_bytes()).ok())
        .and_then(|bytes| <RpcStatus as prost::Message>::decode(&bytes[..]).ok())
        .unwrap_or_default();
    let retry_after = details.retry_delay();
    let words = status.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Reply::Refused {
        retryable: answer::grpc_retryable(code, retry_after.is_some()),
        retry_after,
        problem: format!("grpc-status {code}: {words}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn resource_exhausted_is_retryable_only_with_retry_info() {
        let mut status = HeaderMap::new();
        status.insert("grpc-message", "full".parse().expect("a header"));
        let problem = "grpc-status 8: full".to_owned();
        let plain = Reply::Refused { retryable: false, retry_after: None, problem: problem.clone() };
        assert_eq!(refused(8, &status), plain);
        // A `google.rpc.Status` of code 8 with a `RetryInfo` of a second and a nanosecond, as base64 without padding.
        let details = "CAgSBGZ1bGwaMgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIGCgQIARAB";
        status.insert("grpc-status-details-bin", details.parse().expect("a header"));
        let delay = Some(Duration::new(1, 1));
        assert_eq!(refused(8, &status), Reply::Refused { retryable: true, retry_after: delay, problem });
    }
}
