//! Why a request was not taken, and what that is in gRPC and in HTTP.
//!
//! *Invariants.* What a client should send again carries a delay (`RetryInfo`, `Retry-After`); what it must not send again
//! carries none, and a code that OTLP clients do not retry. A message has [`MESSAGE_BYTES_MAX`] at the most, whatever it quotes: answers that
//! nobody reads are held as long as their connections, and no budget counts them.
//!
//! *Source.* OTLP 1.11, "Failures" and "OTLP/gRPC Throttling", "OTLP/HTTP Throttling".

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use plimsoll_otlp::DecodeError;

/// How long a message may be.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// One reason to refuse: the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Larger than `request_bytes_max`, before or after decompression.
    TooLarge,
    /// Not the message it claims to be.
    Malformed,
    /// Compressed in a way that is not spoken here.
    Encoding,
    /// A content type that is not spoken here.
    ContentType,
    /// No such method or path.
    NotFound,
    /// The path takes `POST` only.
    Method,
    /// The client stopped sending, or took longer than `body_timeout`.
    BodyTimeout,
    /// The client sent slower than it must while others wait for memory.
    SlowBody,
    /// The client went away before its request was complete.
    ClientGone,
    /// The time the client gave was up.
    Deadline,
    /// No room in `in_flight_bytes` within `park`.
    InFlight,
    /// No room in a lane within `park`.
    Lanes,
    /// The store's tail stayed above `tail_bytes_max` for `park`.
    Tail,
    /// The disk is full: said by the store or by the journal.
    DiskFull,
    /// The journal can begin no new log file right now.
    JournalUnavailable,
    /// The journal failed.
    Poisoned,
    /// The journal is being read again after a start.
    Replaying,
    /// The process is going down.
    Draining,
}

impl Reason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 18] = [
        Self::TooLarge,
        Self::Malformed,
        Self::Encoding,
        Self::ContentType,
        Self::NotFound,
        Self::Method,
        Self::BodyTimeout,
        Self::SlowBody,
        Self::ClientGone,
        Self::Deadline,
        Self::InFlight,
        Self::Lanes,
        Self::Tail,
        Self::DiskFull,
        Self::JournalUnavailable,
        Self::Poisoned,
        Self::Replaying,
        Self::Draining,
    ];

    /// Returns the value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Encoding => "encoding",
            Self::ContentType => "content_type",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::BodyTimeout => "body_timeout",
            Self::SlowBody => "slow_body",
            Self::ClientGone => "client_gone",
            Self::Deadline => "deadline",
            Self::InFlight => "in_flight",
            Self::Lanes => "lanes",
            Self::Tail => "tail",
            Self::DiskFull => "disk_full",
            Self::JournalUnavailable => "journal_unavailable",
            Self::Poisoned => "poisoned",
            Self::Replaying => "replaying",
            Self::Draining => "draining",
        }
    }

    /// Returns the gRPC status code.
    pub(crate) fn grpc_code(self) -> tonic::Code {
        use tonic::Code;
        match self {
            Self::TooLarge => Code::ResourceExhausted,
            Self::Malformed => Code::InvalidArgument,
            Self::Encoding | Self::NotFound | Self::Method | Self::ContentType => Code::Unimplemented,
            Self::BodyTimeout | Self::Deadline => Code::DeadlineExceeded,
            Self::ClientGone => Code::Cancelled,
            Self::SlowBody
            | Self::InFlight
            | Self::Lanes
            | Self::Tail
            | Self::DiskFull
            | Self::JournalUnavailable
            | Self::Poisoned
            | Self::Replaying
            | Self::Draining => Code::Unavailable,
        }
    }

    /// Returns the HTTP status code.
    pub(crate) fn http_status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Encoding | Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ClientGone => StatusCode::REQUEST_TIMEOUT,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::InFlight | Self::Lanes | Self::Tail => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTimeout
            | Self::SlowBody
            | Self::DiskFull
            | Self::JournalUnavailable
            | Self::Poisoned
            | Self::Replaying
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns after how long the same request may be sent again; `None` where it must not be, or where the code says so.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::BodyTimeout
            | Self::SlowBody
            | Self::InFlight
            | Self::Lanes
            | Self::Tail
            | Self::JournalUnavailable
            | Self::Replaying
            | Self::Draining => Some(Duration::from_secs(1)),
            // The store looks for space again at least as often.
            Self::DiskFull => Some(Duration::from_secs(2)),
            Self::Poisoned => Some(Duration::from_secs(10)),
            _ => None,
        }
    }
}

/// A request that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let end = message.floor_char_boundary(MESSAGE_BYTES_MAX - 2);
            message = format!("{}..", &message[..end]).into();
        }
        Self { reason, message }
    }

    pub(crate) fn malformed(message: impl ToString) -> Self {
        Self::new(Reason::Malformed, message.to_string())
    }

    /// Says why a request was not decoded.
    pub(crate) fn undecodable(error: DecodeError) -> Self {
        let reason = if error.is_too_large { Reason::TooLarge } else { Reason::Malformed };
        Self::new(reason, error.to_string())
    }

    pub(crate) fn too_large(limit: usize, inflated: bool) -> Self {
        let when = if inflated { " once decompressed" } else { "" };
        Self::new(
            Reason::TooLarge,
            format!(
                "request is larger than {limit} bytes{when}: send smaller batches, or set `ingest.request_bytes_max` higher"
            ),
        )
    }

    pub(crate) fn overloaded(reason: Reason) -> Self {
        Self::new(
            reason,
            match reason {
                Reason::InFlight => "too many bytes in flight: send again later, or set `memory.in_flight` higher",
                Reason::Lanes => "too many requests wait for the journal: send again later",
                Reason::Tail => "rows come faster than they can be written to segments: send again later",
                Reason::DiskFull => {
                    "the disk is full: free some space, or set `store.retention` lower; send again later"
                }
                Reason::JournalUnavailable => {
                    "the journal can begin no new file right now, and the server's log says why: send again later"
                }
                Reason::Poisoned => "the journal failed and takes nothing more: restart to recover; send again later",
                Reason::Replaying => "the journal is being read after a start: send again later",
                _ => "shutting down: send again later",
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes that OTLP clients send again, from the specification.
    const RETRIED_GRPC: [tonic::Code; 6] = [
        tonic::Code::Cancelled,
        tonic::Code::DeadlineExceeded,
        tonic::Code::Aborted,
        tonic::Code::OutOfRange,
        tonic::Code::Unavailable,
        tonic::Code::DataLoss,
    ];
    const RETRIED_HTTP: [u16; 4] = [429, 502, 503, 504];

    #[test]
    fn a_delay_is_given_only_with_codes_that_clients_retry_over_both_protocols() {
        for reason in Reason::ALL.into_iter().filter(|reason| reason.retry_after().is_some()) {
            assert!(RETRIED_GRPC.contains(&reason.grpc_code()), "{reason:?}");
            assert!(RETRIED_HTTP.contains(&reason.http_status().as_u16()), "{reason:?}");
        }
    }

    #[test]
    fn a_request_that_can_never_be_taken_is_never_retried() {
        for reason in [Reason::TooLarge, Reason::Malformed, Reason::Encoding, Reason::ContentType] {
            assert_eq!(reason.retry_after(), None);
            assert!(!RETRIED_GRPC.contains(&reason.grpc_code()), "{reason:?}");
            assert!(!RETRIED_HTTP.contains(&reason.http_status().as_u16()), "{reason:?}");
        }
    }

    #[test]
    fn what_is_too_long_of_a_message_is_cut_off_between_characters() {
        for fits in ["short".to_owned(), "é".repeat(512)] {
            assert_eq!(Refusal::new(Reason::Malformed, fits.clone()).message, fits);
        }
        let cut = Refusal::malformed("€".repeat(1 << 20)).message;
        assert_eq!(cut, "€".repeat(340) + "..");
    }

    #[test]
    fn every_reason_stands_at_its_own_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
