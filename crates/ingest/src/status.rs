//! The answers of OTLP: `google.rpc.Status` with its details, and the export response, in protobuf and in JSON.
//!
//! *Source.* google/rpc/status.proto, google/rpc/error_details.proto, google/protobuf/{any,duration}.proto;
//! opentelemetry/proto/collector/*/v1/*_service.proto: the three responses have one wire form and differ in JSON names.

use std::time::Duration;

use plimsoll_otlp::{Rejected, Signal};
use prost::Message;
use serde_json::json;

use crate::refusal::Refusal;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// Returns the encoded `google.rpc.Status` of a refusal.
pub(crate) fn status_protobuf(refusal: &Refusal) -> Vec<u8> {
    let details = refusal.reason.retry_after().map(retry_info).into_iter().collect();
    RpcStatus { code: refusal.reason.grpc_code() as i32, message: refusal.message.to_string(), details }.encode_to_vec()
}

fn retry_info(delay: Duration) -> Any {
    let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(delay.subsec_nanos()).unwrap_or(0);
    let info = RetryInfo { retry_delay: Some(RetryDelay { seconds, nanos }) };
    Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() }
}

/// Returns the same as [`status_protobuf`] in protobuf's JSON form.
pub(crate) fn status_json(refusal: &Refusal) -> Vec<u8> {
    let mut status = json!({"code": refusal.reason.grpc_code() as i32, "message": refusal.message});
    if let Some(delay) = refusal.reason.retry_after() {
        status["details"] = json!([{"@type": RETRY_INFO, "retryDelay": format!("{}s", delay.as_secs_f64())}]);
    }
    status.to_string().into_bytes()
}

/// Returns the encoded export response: empty, unless something was left out. None rejected and a message beside that is a warning, by OTLP.
pub(crate) fn response_protobuf(rejected: &Rejected) -> Vec<u8> {
    let partial_success = (!rejected.reason.is_empty()).then(|| PartialSuccess {
        rejected: i64::try_from(rejected.count).unwrap_or(i64::MAX),
        error_message: rejected.reason.clone(),
    });
    ExportResponse { partial_success }.encode_to_vec()
}

/// Returns the same as [`response_protobuf`] in OTLP's JSON form.
pub(crate) fn response_json(signal: Signal, rejected: &Rejected) -> Vec<u8> {
    if rejected.reason.is_empty() {
        return b"{}".to_vec();
    }
    let name = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Logs => "rejectedLogRecords",
        Signal::Metrics => "rejectedDataPoints",
    };
    // 64-bit integers are strings in protobuf's JSON.
    let partial = json!({name: rejected.count.to_string(), "errorMessage": rejected.reason});
    json!({"partialSuccess": partial}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reason;

    #[test]
    fn full_success_says_nothing_and_partial_success_says_how_many_and_why() {
        let none = Rejected::default();
        assert!(response_protobuf(&none).is_empty());
        assert_eq!(response_json(Signal::Logs, &none), b"{}");
        let some = Rejected { count: 3, reason: "bad".to_owned(), ..Rejected::default() };
        assert_eq!(response_protobuf(&some), [0x0a, 7, 0x08, 3, 0x12, 3, b'b', b'a', b'd']);
        let json = String::from_utf8(response_json(Signal::Metrics, &some)).expect("is text");
        assert_eq!(json, r#"{"partialSuccess":{"errorMessage":"bad","rejectedDataPoints":"3"}}"#);
        let warned = Rejected { without_id: 1, reason: "bad".to_owned(), ..Rejected::default() };
        assert_eq!(response_protobuf(&warned), [0x0a, 5, 0x12, 3, b'b', b'a', b'd']);
    }

    #[test]
    fn only_what_may_be_sent_again_says_when() {
        let text = |reason| String::from_utf8(status_json(&Refusal::new(reason, "why"))).expect("is text");
        assert_eq!(text(Reason::Malformed), r#"{"code":3,"message":"why"}"#);
        let again = r#"{"code":14,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}],"message":"why"}"#;
        assert_eq!(text(Reason::InFlight), again);
    }
}
