//! What a receiver said, in one vocabulary for gRPC and HTTP: taken, taken in part, refused for now, refused for good.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

/// The answer to one export request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Taken, but for `rejected` records.
    Accepted {
        /// Records that `partial_success` says were left out.
        rejected: u64,
    },
    /// Not taken.
    Refused {
        /// True where the same request may be sent again.
        retryable: bool,
        /// How long to wait before that, where the receiver said.
        retry_after: Option<Duration>,
        /// Status and words.
        problem: String,
    },
}

/// No answer came; whether the request was taken is unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SendError(pub String);

impl SendError {
    pub(super) fn of(problem: impl std::error::Error) -> Self {
        // hyper's own message hides the cause behind `source`.
        let mut words = problem.to_string();
        let mut cause = problem.source();
        while let Some(inner) = cause {
            words = format!("{words}: {inner}");
            cause = inner.source();
        }
        Self(words)
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Span>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    /// Returns the delay of a `RetryInfo` among the details.
    pub(super) fn retry_delay(&self) -> Option<Duration> {
        let info = self.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(&info.value[..]).ok()?.retry_delay.unwrap_or_default();
        Some(Duration::new(delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?))
    }
}

/// Reads the body of a success. The three responses have one shape on the wire.
pub(super) fn accepted(response: &[u8]) -> Result<Reply, SendError> {
    let response = ExportTraceServiceResponse::decode(response).map_err(SendError::of)?;
    let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
    Ok(Reply::Accepted { rejected: u64::try_from(rejected).unwrap_or(0) })
}

/// Says whether OTLP lets a client send again after this gRPC status.
pub(super) fn grpc_retryable(code: u32, has_retry_info: bool) -> bool {
    // cancelled, deadline exceeded, aborted, out of range, unavailable, data loss; resource exhausted if it says when.
    matches!(code, 1 | 4 | 10 | 11 | 14 | 15) || code == 8 && has_retry_info
}
