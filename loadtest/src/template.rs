//! A request encoded once, of which every send differs: the places of ids and times are known and patched in a copy.
//!
//! *Invariants.* The ids of batch `b` are a bijection of `(b, index)`: no two records of a run share one, and they look
//! random, as real ids do, so that stored sizes are honest.
//!
//! *Cost.* A render is one copy of the body and one eight-byte store a patch.

use bytes::{BufMut, Bytes, BytesMut};

use crate::client::GRPC_PREFIX_BYTES;
use crate::compression::{Compression, Sealed};
use crate::records::{self, Shape, Signal};

/// One encoded request and where it is to be patched.
pub(crate) struct Template {
    pub(crate) signal: Signal,
    pub(crate) records: u64,
    /// Five bytes of room for the gRPC prefix, then the body.
    bytes: Vec<u8>,
    patches: Vec<Patch>,
}

struct Patch {
    at: usize,
    what: What,
}

enum What {
    Trace(u16),
    Span(u16),
    RecordText(u16),
    BatchText,
    OrderText(u16),
    PathText(u16),
    /// Nanoseconds to add to the time of the send.
    Time(i64),
}

/// Records in one request at most: the index is the low 16 bits of what an id is made from.
pub(crate) const RECORDS_MAX: usize = 1 << 16;

impl Template {
    /// Encodes `records` records and finds what is to be patched in them.
    pub(crate) fn new(signal: Signal, shape: &Shape, records: usize, variant: u64) -> Self {
        assert!(records <= RECORDS_MAX, "a request holds at most {RECORDS_MAX} records");
        let mut bytes = vec![0; GRPC_PREFIX_BYTES];
        bytes.extend(records::request(signal, shape, records, variant));
        let mut patches = Vec::new();
        let mut add = |needle: &[u8], what: &dyn Fn(usize) -> What| {
            patches.extend(
                find_all(&bytes, needle).into_iter().enumerate().map(|(nth, at)| Patch { at, what: what(nth) }),
            );
        };
        add(&records::TRACE_ID, &|nth| What::Trace((nth / shape.trace_len) as u16));
        add(&records::SPAN_ID, &|nth| What::Span(nth as u16));
        // A root has no parent, so the nth parent id belongs to a later record; each points at the root of its trace.
        let children = shape.trace_len.saturating_sub(1).max(1);
        add(&records::PARENT_ID, &|nth| What::Span((nth / children * shape.trace_len) as u16));
        add(records::RECORD_TEXT.as_bytes(), &|nth| What::RecordText(nth as u16));
        add(records::BATCH_TEXT.as_bytes(), &|_| What::BatchText);
        add(records::ORDER_TEXT.as_bytes(), &|nth| What::OrderText(nth as u16));
        add(records::PATH_TEXT.as_bytes(), &|nth| What::PathText(nth as u16));
        add(&records::START.to_le_bytes(), &|nth| What::Time(-latency_ns(nth)));
        add(&records::END.to_le_bytes(), &|_| What::Time(0));
        patches.sort_by_key(|patch| patch.at);
        Self { signal, records: records as u64, bytes, patches }
    }

    /// Returns the body of batch `batch` sent at `now_ns`, behind room for the gRPC prefix.
    pub(crate) fn render(&self, batch: u64, now_ns: u64) -> BytesMut {
        let mut out = BytesMut::with_capacity(self.bytes.len());
        out.put_slice(&self.bytes);
        for patch in &self.patches {
            let mut put = |bytes: &[u8]| out[patch.at..patch.at + bytes.len()].copy_from_slice(bytes);
            match patch.what {
                What::Trace(index) => put(&trace_id(batch, index)),
                What::Span(index) => put(&span_id(batch, index)),
                What::RecordText(index) => put(&hex16(record_id(batch, index))),
                What::BatchText => put(&hex16(batch)),
                What::OrderText(index) => put(&hex16(record_id(batch, index))[..8]),
                What::PathText(index) => put(&digits4(record_id(batch, index))),
                What::Time(delta) => put(&now_ns.saturating_add_signed(delta).to_le_bytes()),
            }
        }
        out
    }

    /// Renders and compresses it once, as the head of bodies that differ by a small uncompressed tail: sending one costs no
    /// compression.
    pub(crate) fn seal(&self, batch: u64, now_ns: u64, compression: Compression) -> Sealed {
        Sealed::new(compression, &self.render(batch, now_ns)[GRPC_PREFIX_BYTES..])
    }
}

/// Requests as [`Load`](crate::Load) sends them, for benches that measure a stage on the records that the whole is measured on.
pub struct Samples {
    templates: Vec<Template>,
}

impl Samples {
    /// Prepares requests of `records` records each, in `variants` of service and content.
    pub fn new(signal: Signal, small: bool, records: usize, variants: u64) -> Self {
        let shape = Shape { run: "sample".into(), instance: "sample".into(), small, trace_len: 8 };
        Self {
            templates: (0..variants.max(1)).map(|variant| Template::new(signal, &shape, records, variant)).collect(),
        }
    }

    /// Returns the body of the `number`th request, sent at `now_ns`: two numbers share no id.
    pub fn request(&self, number: u64, now_ns: u64) -> Vec<u8> {
        let template = &self.templates[(number % self.templates.len() as u64) as usize];
        template.render(number, now_ns)[GRPC_PREFIX_BYTES..].to_vec()
    }
}

/// Compresses a rendered body; the room for the gRPC prefix stays in front.
pub(crate) fn whole(rendered: BytesMut, compression: Compression) -> BytesMut {
    if compression == Compression::None {
        return rendered;
    }
    let mut out = BytesMut::new();
    out.put_bytes(0, GRPC_PREFIX_BYTES);
    out.put_slice(&compression.compress(&rendered[GRPC_PREFIX_BYTES..]));
    out
}

/// Cuts the room for the gRPC prefix off.
pub(crate) fn without_prefix(mut rendered: BytesMut) -> Bytes {
    rendered.split_off(GRPC_PREFIX_BYTES).freeze()
}

/// The trace id of the `index`th trace of a batch.
pub(crate) fn trace_id(batch: u64, index: u16) -> [u8; 16] {
    let low = record_id(batch, index);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(!low).to_be_bytes());
    id[8..].copy_from_slice(&low.to_be_bytes());
    id
}

fn span_id(batch: u64, index: u16) -> [u8; 8] {
    record_id(batch, index).to_be_bytes()
}

fn record_id(batch: u64, index: u16) -> u64 {
    // Zero is not a valid id; the bijection maps only one input to it, which no run reaches.
    mix((batch << 16 | u64::from(index)) + 1)
}

/// The finaliser of SplitMix64: a bijection on 64 bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Between 1 and about 240 ms, skewed to the short side as request durations are.
fn latency_ns(nth: usize) -> i64 {
    let draw = (mix(nth as u64) % 1000) as i64;
    1_000_000 + draw * draw * 240
}

fn hex16(id: u64) -> [u8; 16] {
    let mut out = [0; 16];
    for (nth, digit) in out.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(id >> (60 - 4 * nth) & 15) as usize];
    }
    out
}

fn digits4(id: u64) -> [u8; 4] {
    [id / 1000, id / 100, id / 10, id].map(|number| b'0' + (number % 10) as u8)
}

fn find_all(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    let Some(&first) = needle.first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(step) = haystack[from..].iter().position(|byte| *byte == first) {
        let at = from + step;
        if haystack[at..].starts_with(needle) {
            found.push(at);
            from = at + needle.len();
        } else {
            from = at + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    use super::*;

    fn shape() -> Shape {
        Shape { run: "run".into(), instance: "a".into(), small: false, trace_len: 8 }
    }

    #[test]
    fn every_span_of_every_batch_has_an_id_of_its_own_and_a_parent_in_its_own_trace() {
        let template = Template::new(Signal::Traces, &shape(), 100, 3);
        let mut ids = HashSet::new();
        for batch in 0..50 {
            let body = without_prefix(template.render(batch, 1_700_000_000_000_000_000));
            let request = ExportTraceServiceRequest::decode(&body[..]).expect("patching keeps the message well formed");
            let spans = &request.resource_spans[0].scope_spans[0].spans;
            for span in spans {
                assert!(ids.insert(span.span_id.clone()), "a span id came twice");
                assert!(span.end_time_unix_nano == 1_700_000_000_000_000_000, "the end is the time of the send");
                assert!(span.start_time_unix_nano < span.end_time_unix_nano);
                if !span.parent_span_id.is_empty() {
                    let parent = spans.iter().find(|other| other.span_id == span.parent_span_id);
                    assert_eq!(parent.map(|parent| &parent.trace_id), Some(&span.trace_id));
                }
            }
        }
        assert_eq!(ids.len(), 5000);
    }

    #[test]
    fn no_sentinel_is_left_in_what_is_sent() {
        for signal in Signal::ALL {
            let body = Template::new(signal, &shape(), 100, 5).render(7, 1_700_000_000_000_000_000);
            for needle in [&records::TRACE_ID[..], &records::SPAN_ID, &records::PARENT_ID] {
                assert!(find_all(&body, needle).is_empty(), "{signal}");
            }
            for needle in [records::START, records::END] {
                assert!(find_all(&body, &needle.to_le_bytes()).is_empty(), "{signal}");
            }
            for needle in [records::BATCH_TEXT, records::RECORD_TEXT, records::ORDER_TEXT, records::PATH_TEXT] {
                assert!(find_all(&body, needle.as_bytes()).is_empty(), "{signal}");
            }
        }
    }

    #[test]
    fn sealed_bodies_of_one_template_differ_and_open_to_head_and_tail() {
        let template = Template::new(Signal::Metrics, &shape(), 100, 2);
        let tail = Template::new(Signal::Metrics, &shape(), 1, 2);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let sealed = template.seal(1, 1_700_000_000_000_000_000, compression);
            let bodies: HashSet<Vec<u8>> =
                (10..20).map(|batch| sealed.with_tail(&without_prefix(tail.render(batch, 1))).to_vec()).collect();
            assert_eq!(bodies.len(), 10);
            for body in bodies {
                let plain = compression.decompress(&body[GRPC_PREFIX_BYTES..]).expect("what was sealed can be opened");
                let request = ExportMetricsServiceRequest::decode(&plain[..]).expect("two messages merge into one");
                assert_eq!(request.resource_metrics.len(), 2);
            }
        }
    }
}
