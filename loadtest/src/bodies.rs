//! The bodies that a load sends: no two requests and no two records are equal.
//!
//! *How.* Uncompressed ones are a template, patched for each send. Compressing costs the generator more than it has beside the server it
//! drives, so that compressed ones are prepared before the load begins: all records but one of each request, with ids of
//! their own; the last record is added as the request is sent, uncompressed but inside the same stream.
//!
//! *Invariants.* As many are prepared as the load is expected to send, within [`PREPARED_BYTES_MAX`]. A load that sends more repeats records,
//! and [`Bodies::repeated`] says how many.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use rand::Rng;

use crate::compression::{Compression, Sealed};
use crate::generate::{Load, Pace, Until};
use crate::records::Signal;
use crate::template::{Template, whole, without_prefix};

/// Bodies that differ in content and service; enough that a compressor finds no help in repetition.
const VARIANTS: u64 = 8;
/// What is prepared for a second of a closed loop, in records: more than any receiver takes of those that are prepared.
const CLOSED_RECORDS_PER_SECOND: f64 = 900_000.0;
/// What prepared bodies may take together.
const PREPARED_BYTES_MAX: usize = 1 << 30;

/// What is sent, in turn.
pub(crate) struct Bodies {
    /// Whole requests; where bodies are compressed, the one record that is added to each.
    templates: Vec<Template>,
    /// The other records, by number of the request.
    heads: Vec<Sealed>,
    /// Records in each request.
    records: u64,
    /// Added to the number of a request to make the number of its batch, so that runs do not share ids.
    first_batch: u64,
    age_ns: u64,
    /// Requests whose head was sent before.
    again: AtomicU64,
}

impl Bodies {
    pub(crate) fn new(load: &Load) -> Self {
        let mut bodies = Self {
            templates: Vec::new(),
            heads: Vec::new(),
            records: load.batch as u64,
            first_batch: (1 + u64::from(rand::rng().random::<u32>())) << 12,
            age_ns: load.age.as_nanos() as u64,
            again: AtomicU64::new(0),
        };
        let templates = |records: usize| -> Vec<Template> {
            let all = (0..VARIANTS).flat_map(|variant| load.mix.signals().iter().map(move |signal| (variant, *signal)));
            all.map(|(variant, signal)| Template::new(signal, &load.shape, records, variant)).collect()
        };
        let compression = load.endpoint.compression;
        if compression == Compression::None || load.batch < 2 {
            bodies.templates = templates(load.batch);
        } else {
            bodies.templates = templates(1);
            bodies.heads = prepare(&templates(load.batch - 1), expected(load), &bodies, compression);
        }
        bodies
    }

    /// Returns the `number`th request, behind room for the gRPC prefix.
    pub(crate) fn request(&self, number: u64, compression: Compression) -> (Signal, u64, BytesMut) {
        let template = &self.templates[(number % self.templates.len() as u64) as usize];
        let rendered = template.render(self.batch(number), now_ns() - self.age_ns);
        let body = match self.heads.len() as u64 {
            0 => whole(rendered, compression),
            heads => {
                if number >= heads {
                    // Relaxed: a count for itself.
                    self.again.fetch_add(1, Ordering::Relaxed);
                }
                self.heads[(number % heads) as usize].with_tail(&without_prefix(rendered))
            }
        };
        (template.signal, self.records, body)
    }

    /// Returns how many records were sent that had been sent before.
    pub(crate) fn repeated(&self) -> u64 {
        self.again.load(Ordering::Relaxed) * (self.records - 1)
    }

    fn batch(&self, number: u64) -> u64 {
        self.first_batch + number
    }
}

/// Returns how many requests a load is expected to send.
fn expected(load: &Load) -> u64 {
    match (load.until, load.pace) {
        (Until::Requests(requests), _) => requests,
        (Until::Elapsed(time), pace) => {
            let rate = match pace {
                Pace::Closed => CLOSED_RECORDS_PER_SECOND,
                Pace::RecordsPerSecond(rate) => rate,
            };
            ((rate * time.as_secs_f64() / load.batch as f64).ceil() as u64).max(1)
        }
    }
}

/// Compresses the heads of so many requests, on all processors, within the bound on bytes.
fn prepare(templates: &[Template], count: u64, bodies: &Bodies, compression: Compression) -> Vec<Sealed> {
    // A tail numbers its records as the head does: heads have batches of their own, above all others.
    let first = bodies.first_batch + (1 << 46);
    // Whole turns of the templates, so that a head that comes again meets a tail of its signal.
    let count = count.next_multiple_of(templates.len() as u64);
    let (next, bytes) = (AtomicU64::new(0), AtomicUsize::new(0));
    let sealed: Mutex<Vec<(u64, Sealed)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count
                        || number >= templates.len() as u64 && bytes.load(Ordering::Relaxed) >= PREPARED_BYTES_MAX
                    {
                        break;
                    }
                    let template = &templates[(number % templates.len() as u64) as usize];
                    let head = template.seal(first + number, now_ns() - bodies.age_ns, compression);
                    bytes.fetch_add(head.len(), Ordering::Relaxed);
                    sealed.lock().expect("no thread panics while it holds this").push((number, head));
                }
            });
        }
    });
    let mut sealed = sealed.into_inner().expect("no thread panicked");
    sealed.sort_unstable_by_key(|(number, _)| *number);
    sealed.truncate((sealed.len() - sealed.len() % templates.len()).max(templates.len()));
    sealed.into_iter().map(|(_, head)| head).collect()
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    use super::*;
    use crate::client::{Endpoint, GRPC_PREFIX_BYTES, Protocol};
    use crate::generate::Mix;
    use crate::records::Shape;

    fn load(compression: Compression, requests: u64) -> Load {
        Load {
            endpoint: Endpoint {
                address: ([127, 0, 0, 1], 4317).into(),
                protocol: Protocol::Grpc,
                compression,
                timeout: Duration::from_secs(1),
            },
            mix: Mix::Mixed,
            shape: Shape { run: "run".into(), instance: "instance".into(), small: false, trace_len: 8 },
            batch: 20,
            connections: 1,
            in_flight: 1,
            pace: Pace::Closed,
            until: Until::Requests(requests),
            age: Duration::ZERO,
            respect_retry: true,
            server_pid: None,
            sql: None,
            probe_freshness: false,
        }
    }

    /// The ids of a request's spans, or how many log records it has.
    fn records(signal: Signal, plain: &[u8]) -> (Vec<Vec<u8>>, usize) {
        if signal == Signal::Logs {
            let request = ExportLogsServiceRequest::decode(plain).expect("two messages merge into one");
            let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
            return (Vec::new(), scopes.map(|scope| scope.log_records.len()).sum());
        }
        let request = ExportTraceServiceRequest::decode(plain).expect("two messages merge into one");
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let ids: Vec<Vec<u8>> = scopes.flat_map(|scope| scope.spans).map(|span| span.span_id).collect();
        let count = ids.len();
        (ids, count)
    }

    #[test]
    fn no_two_records_share_an_id_however_bodies_are_compressed() {
        const REQUESTS: u64 = 100;
        for compression in Compression::ALL {
            let bodies = Bodies::new(&load(compression, REQUESTS));
            let (mut ids, mut spans) = (HashSet::new(), 0);
            for number in 0..REQUESTS {
                let (signal, said, body) = bodies.request(number, compression);
                let plain = compression.decompress(&body[GRPC_PREFIX_BYTES..]).expect("what was sealed can be opened");
                let (found, count) = records(signal, &plain);
                assert_eq!((said, count), (20, 20), "{compression} {signal}");
                spans += found.len();
                ids.extend(found);
            }
            assert_eq!((ids.len(), spans), (1_000, 1_000), "{compression}");
            assert_eq!(bodies.repeated(), 0);
        }
    }

    #[test]
    fn what_is_sent_again_is_counted_and_keeps_its_signal() {
        let bodies = Bodies::new(&load(Compression::Zstd, 32));
        for number in 0..50 {
            let (signal, _, body) = bodies.request(number, Compression::Zstd);
            let plain =
                Compression::Zstd.decompress(&body[GRPC_PREFIX_BYTES..]).expect("what was sealed can be opened");
            assert_eq!(records(signal, &plain).1, 20);
        }
        assert_eq!(bodies.repeated(), 18 * 19);
    }
}
