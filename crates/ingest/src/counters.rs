//! What ingest counts: nothing that is accepted, refused or lost goes without a number.
//!
//! *Cost.* Relaxed additions, a few a request, none a record. Readers see each number whole, not all of them at one instant.

use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_otlp::Signal;

use crate::refusal::Reason;

/// A number that only goes up, unless it is a gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Returns the number now.
    pub fn get(&self) -> u64 {
        // Relaxed, here and below: the numbers order nothing.
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a gauge, and returns what it was.
    pub(crate) fn set(&self, n: u64) -> u64 {
        self.0.swap(n, Ordering::Relaxed)
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Counts one up for as long as the answer lives.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }
}

pub(crate) struct Held<'a>(&'a Counter);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// A histogram with buckets at powers of two times a base.
#[derive(Debug)]
pub struct Histogram {
    base: u64,
    /// Bucket `i` holds what is at most `base << i`; the last one all the rest.
    counts: [Counter; Self::BUCKETS],
    sum: Counter,
}

impl Histogram {
    /// Buckets, the unbounded last one included.
    pub const BUCKETS: usize = 20;

    fn new(base: u64) -> Self {
        Self { base, counts: Default::default(), sum: Counter::default() }
    }

    pub(crate) fn record(&self, value: u64) {
        let above = value.div_ceil(self.base).max(1);
        let index = (u64::BITS - (above - 1).leading_zeros()) as usize;
        self.counts[index.min(Self::BUCKETS - 1)].add(1);
        self.sum.add(value);
    }

    /// Returns the upper edge and the count of every bucket, lowest first, not cumulated; the last has no edge.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.counts.iter().enumerate().map(|(index, count)| {
            let edge = (index + 1 < Self::BUCKETS).then(|| self.base << index);
            (edge, count.get())
        })
    }

    /// Returns the number of values recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }

    /// Returns the sum of the values recorded.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP, protobuf.
    HttpProtobuf,
    /// OTLP/HTTP, JSON.
    HttpJson,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Grpc, Self::HttpProtobuf, Self::HttpJson];

    /// Returns the value of the label `protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http_protobuf",
            Self::HttpJson => "http_json",
        }
    }
}

/// Counted once a signal and protocol.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// Requests that reached a handler.
    pub requests: Counter,
    /// Requests acknowledged in full or in part.
    pub accepted: Counter,
    /// Requests among those acknowledged that were stored before, byte for byte, and are not stored again.
    pub repeated: Counter,
    /// Records acknowledged: durable and visible.
    pub records: Counter,
    /// Records left out of requests that were otherwise taken.
    pub rejected_records: Counter,
    /// Records of acknowledged requests that were taken without an id of a wrong length.
    pub records_without_id: Counter,
    /// Body bytes as they came.
    pub wire_bytes: Counter,
    /// Body bytes once inflated.
    pub body_bytes: Counter,
    refused: [Counter; Reason::ALL.len()],
}

impl RequestCounters {
    /// Returns the requests refused for `reason`.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].get()
    }

    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused[reason as usize].add(1);
    }
}

/// Everything that ingest counts.
#[derive(Debug)]
pub struct Counters {
    requests: [[RequestCounters; Protocol::ALL.len()]; Signal::ALL.len()],
    unserved: [[Counter; Reason::ALL.len()]; Protocol::ALL.len()],
    /// Nanoseconds spent inflating, converting and decoding.
    pub decode_ns: Counter,
    /// Nanoseconds from the first look at a request to its ack; acknowledged requests only.
    pub ack_ns: Histogram,
    /// Gauge: requests that wait for room right now.
    pub parked: Counter,
    /// Requests that had to wait for room.
    pub parked_total: Counter,
    /// Nanoseconds that requests were held up because the tail was filling.
    pub paced_ns: Counter,
    /// Gauge: requests between the first look and the answer.
    pub in_progress: Counter,
    /// Groups made durable.
    pub commits: Counter,
    /// Groups that the journal refused.
    pub commit_failures: Counter,
    /// Gauge: 1 while the journal can begin no new log file.
    pub journal_unavailable: Counter,
    /// Requests a group.
    pub group_requests: Histogram,
    /// Bytes a group.
    pub group_bytes: Histogram,
    /// Gauge: open connections.
    pub connections: Counter,
    /// Connections accepted.
    pub connections_total: Counter,
    /// Connections that ended because their client did not speak the protocol: HTTP/1 that cannot be parsed or has too long a head,
    /// HTTP/2 against its rules, TLS.
    pub connections_broken: Counter,
    /// Connections that were ended because nothing came, or not fast enough.
    pub connections_timed_out: Counter,
    /// Connections without a request at work that were closed because `connections_max` were open and another one came.
    pub connections_closed_for_others: Counter,
    /// Connections turned away because `connections_max` were open, each with a request under way.
    pub connections_refused: Counter,
    /// Frames read again at start.
    pub replayed_frames: Counter,
    /// Bytes of them.
    pub replayed_bytes: Counter,
    /// Rows published from them.
    pub replayed_rows: Counter,
    /// Frames read again that could not be decoded.
    pub replay_undecodable: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            unserved: Default::default(),
            decode_ns: Counter::default(),
            // 62.5 us to 16 s.
            ack_ns: Histogram::new(62_500),
            parked: Counter::default(),
            parked_total: Counter::default(),
            paced_ns: Counter::default(),
            in_progress: Counter::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            journal_unavailable: Counter::default(),
            group_requests: Histogram::new(1),
            // 256 B to 64 MiB.
            group_bytes: Histogram::new(256),
            connections: Counter::default(),
            connections_total: Counter::default(),
            connections_broken: Counter::default(),
            connections_timed_out: Counter::default(),
            connections_closed_for_others: Counter::default(),
            connections_refused: Counter::default(),
            replayed_frames: Counter::default(),
            replayed_bytes: Counter::default(),
            replayed_rows: Counter::default(),
            replay_undecodable: Counter::default(),
        }
    }
}

impl Counters {
    /// Returns what is counted for one signal over one protocol.
    pub fn of(&self, signal: Signal, protocol: Protocol) -> &RequestCounters {
        &self.requests[signal as usize][protocol as usize]
    }

    /// Returns the requests over a protocol that named no signal, and were refused for `reason`.
    pub fn unserved(&self, protocol: Protocol, reason: Reason) -> u64 {
        self.unserved[protocol as usize][reason as usize].get()
    }

    pub(crate) fn leave_unserved(&self, protocol: Protocol, reason: Reason) {
        self.unserved[protocol as usize][reason as usize].add(1);
    }

    /// Returns every combination of signal and protocol with what is counted for it.
    pub fn by_request(&self) -> impl Iterator<Item = (Signal, Protocol, &RequestCounters)> {
        Signal::ALL
            .into_iter()
            .flat_map(move |signal| Protocol::ALL.into_iter().map(move |p| (signal, p, self.of(signal, p))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_first_bucket_whose_edge_it_does_not_pass() {
        let histogram = Histogram::new(10);
        for value in [0, 10, 11, 20, 21, 40, u64::MAX / 2] {
            histogram.record(value);
        }
        let counts: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(Some(10), 2), (Some(20), 2), (Some(40), 2), (None, 1)]);
        assert_eq!(histogram.count(), 7);
    }
}
