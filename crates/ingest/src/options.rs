//! What the receivers may take, hold and wait for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_otlp::REQUEST_BYTES_MAX;

use crate::body::FIRST_STEP;
use crate::fingerprints::Fingerprints;

/// The frame size that HTTP/2 speaks of before anything is negotiated; no window may be smaller than this.
pub(crate) const WINDOW_BYTES_MIN: u32 = 65_535;

/// How the receivers listen, how much they may hold and how long they wait.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Where OTLP/gRPC is served.
    pub otlp_grpc: SocketAddr,
    /// Where OTLP/HTTP is served.
    pub otlp_http: SocketAddr,
    /// Largest request, checked before and again after decompression.
    pub request_bytes_max: usize,
    /// Bytes of requests and of their rows that may be held from the first body byte until the ack.
    pub in_flight_bytes: usize,
    /// Memory of the store's tail above which requests are parked, then refused.
    pub tail_bytes_max: usize,
    /// Bounded queues between the receivers and the committer.
    pub lanes: usize,
    /// Requests that one lane may hold.
    pub lane_depth: usize,
    /// How long a request waits for room before it is refused retryably.
    pub park: Duration,
    /// Bytes of requests that one journal commit takes at most; one request is always taken.
    pub group_bytes_max: usize,
    /// Requests smaller than this are decoded where they were read; larger ones on a thread that may take its time.
    pub inline_bytes_max: usize,
    /// Requests up to this share columns with others of their signal that come at the same time; longer ones have their own.
    pub joined_bytes_max: usize,
    /// Bytes of requests, and of rows, that may be in the columns that requests of one lane and signal share.
    pub joined_bytes: usize,
    /// Requests under way, of all connections together: each takes some memory from its headers on, before a byte of it is reserved for.
    pub requests_max: usize,
    /// How long a client may take to send one body.
    pub body_timeout: Duration,
    /// How long a client that is sending a body may say nothing.
    pub stall_timeout: Duration,
    /// How long a body that holds memory may be slower than it must be while others wait for memory.
    pub body_grace: Duration,
    /// How long the headers of a request over HTTP/1 may take from their first byte, an HTTP/2 preface, and the first of either on a new connection.
    pub handshake_timeout: Duration,
    /// How long an HTTP/1 connection may wait for its next request, and that one's headers.
    pub header_timeout: Duration,
    /// Open connections, of both listeners together.
    pub connections_max: usize,
    /// HTTP/2 receive windows of all connections together: what clients may have sent before anyone read it. Connections
    /// share it; each is given 64 KiB at the least.
    pub transport_bytes: usize,
    /// The requests that are stored already, so that repeats of them are not stored again; by default all are.
    pub fingerprints: Arc<Fingerprints>,
    /// HTTP/2 settings.
    pub http2: Http2Options,
}

/// HTTP/2 settings of both listeners.
#[derive(Debug, Clone)]
pub struct Http2Options {
    /// Largest receive window of a stream.
    pub stream_window_bytes: u32,
    /// Largest receive window of a connection.
    pub connection_window_bytes: u32,
    /// Streams that a client may have reset before they were accepted.
    pub pending_resets_max: usize,
    /// Size of a request's headers, uncompressed.
    pub header_list_bytes_max: u32,
    /// How long a connection may be silent before it is pinged.
    pub keepalive_interval: Duration,
    /// How long the answer to a ping may take.
    pub keepalive_timeout: Duration,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            stream_window_bytes: 8 << 20,
            connection_window_bytes: 24 << 20,
            pending_resets_max: 20,
            header_list_bytes_max: 16 << 10,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            otlp_grpc: SocketAddr::from(([127, 0, 0, 1], 4317)),
            otlp_http: SocketAddr::from(([127, 0, 0, 1], 4318)),
            request_bytes_max: 64 << 20,
            in_flight_bytes: 128 << 20,
            tail_bytes_max: 256 << 20,
            lanes: std::thread::available_parallelism().map_or(2, usize::from),
            lane_depth: 1024,
            park: Duration::from_secs(2),
            group_bytes_max: 16 << 20,
            inline_bytes_max: 1 << 20,
            joined_bytes_max: 64 << 10,
            joined_bytes: 1 << 20,
            requests_max: 4096,
            body_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(10),
            body_grace: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(60),
            connections_max: 1024,
            transport_bytes: 48 << 20,
            fingerprints: Fingerprints::off(),
            http2: Http2Options::default(),
        }
    }
}

impl IngestOptions {
    /// Returns how much of an announced body is reserved for before it comes.
    pub(crate) fn ahead_bytes(&self) -> usize {
        (self.in_flight_bytes / 8).max(FIRST_STEP)
    }

    /// Returns every problem of these options, in words that name the setting to change; what the server has no setting for is
    /// called as the field is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut positive = |name: &str, zero: bool| {
            if zero {
                problems.push(format!("`{name}` is zero: nothing could be received; set it higher"));
            }
        };
        positive("ingest.request_bytes_max", self.request_bytes_max == 0);
        positive("memory.in_flight", self.in_flight_bytes == 0);
        positive("memory.tail", self.tail_bytes_max == 0);
        positive("ingest.lanes", self.lanes == 0);
        positive("lane_depth", self.lane_depth == 0);
        positive("group_bytes_max", self.group_bytes_max == 0);
        positive("ingest.connections_max", self.connections_max == 0);
        positive("requests_max", self.requests_max == 0);
        positive("body_timeout", self.body_timeout.is_zero());
        positive("stall_timeout", self.stall_timeout.is_zero());
        positive("handshake_timeout", self.handshake_timeout.is_zero());
        positive("header_timeout", self.header_timeout.is_zero());
        if self.in_flight_bytes < self.request_bytes_max {
            problems.push(format!(
                "`memory.in_flight` is {} and one request may be {}: set `memory.in_flight` higher or `ingest.request_bytes_max` lower",
                self.in_flight_bytes, self.request_bytes_max
            ));
        }
        if self.request_bytes_max > REQUEST_BYTES_MAX {
            problems.push(format!(
                "`ingest.request_bytes_max` is {} and nothing above {REQUEST_BYTES_MAX} is decoded: set it lower",
                self.request_bytes_max
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problems() {
        assert_eq!(IngestOptions::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let options = IngestOptions { lanes: 0, in_flight_bytes: 10, ..IngestOptions::default() };
        let problems = options.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("`ingest.lanes`"), "{problems:?}");
        assert!(problems[1].contains("`memory.in_flight`"), "{problems:?}");
    }
}
