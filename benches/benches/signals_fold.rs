//! Spans folded into cells: a mesh's, beside the obvious way, one map from strings to numbers, and the load generator's.
//!
//! *Mesh.* Requests of 1,000 traces of six spans: front end, checkout and payment, each call through a client span.
//!
//! *Load.* Requests of 1,000 spans of 440 bytes with ten attributes, in traces of eight.
//!
//! The state has been filled before, as that of a server that runs: as many traces close as come, and as many were closed as are
//! remembered. Each request is decoded right before it is folded, on the same core; folding is what takes the time.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use plimsoll_loadtest::Samples;
use plimsoll_loadtest::shop::text;
use plimsoll_model::UnixNanos;
use plimsoll_model::signal::OperationCell;
use plimsoll_otlp::{Signal, Table, decode};
use plimsoll_signals::{SignalLimits, SignalState};
use prost::Message;

// The server's, so that allocations cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const T0: u64 = 1_700_000_000_000_000_000;
const TRACES: u64 = 1_000;
const SPANS: u64 = TRACES * 6;
const MS: u64 = 1_000_000;
/// Spans of one request of the load generator.
const RECORDS: usize = 1_000;

/// The request of a mesh that is sent as the one of this number, one a second: traces of its own.
fn mesh(batch: u64) -> Vec<u8> {
    const SHAPE: [(&str, i32, &str, u64, u64); 6] = [
        ("front", 2, "GET /", 0, 100),
        ("front", 3, "POST", 10, 90),
        ("checkout", 2, "POST /checkout", 15, 85),
        ("checkout", 1, "place order", 20, 80),
        ("checkout", 3, "POST", 25, 75),
        ("payment", 2, "POST /charge", 30, 70),
    ];
    let received = T0 + batch * 1_000 * MS;
    let resource_spans = ["front", "checkout", "payment"].map(|service| {
        let spans = (0..TRACES).flat_map(|trace| {
            let shape = SHAPE.iter().enumerate().filter(|(_, shape)| shape.0 == service);
            shape.map(move |(at, (_, kind, name, start, end))| Span {
                trace_id: (u128::from(batch * TRACES + trace + 1) << 64 | 7).to_be_bytes().to_vec(),
                span_id: (at as u64 + 1).to_be_bytes().to_vec(),
                parent_span_id: if at == 0 { Vec::new() } else { (at as u64).to_be_bytes().to_vec() },
                name: (*name).to_owned(),
                kind: *kind,
                start_time_unix_nano: received - 200 * MS + start * MS + trace * 97,
                end_time_unix_nano: received - 200 * MS + end * MS + trace * 1_009,
                ..Span::default()
            })
        });
        ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", service), text("service.version", "1")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.into() }.encode_to_vec()
}

/// Requests only: no traces, no bounds, no blame.
fn naive(into: &mut HashMap<(String, String, String, u64), OperationCell>, batch: &RecordBatch) {
    let column = |name: &str| batch.column_by_name(name).expect("the stored schema");
    let shared = |name: &str| column(name).as_dictionary::<UInt32Type>();
    let (service, version) = (shared("service_name"), shared("service_version"));
    let (services, versions) = (service.values().as_string::<i32>(), version.values().as_string::<i32>());
    let name = column("name").as_string::<i32>();
    let kind = column("kind").as_primitive::<Int32Type>();
    let end = column("end_time").as_primitive::<TimestampNanosecondType>();
    let took = column("duration_ns").as_primitive::<Int64Type>();
    for row in (0..batch.num_rows()).filter(|row| kind.value(*row) == 2) {
        let key = (
            services.value(service.keys().value(row) as usize).to_owned(),
            versions.value(version.keys().value(row) as usize).to_owned(),
            name.value(row).to_owned(),
            end.value(row) as u64 / 10_000_000_000,
        );
        let cell = into.entry(key).or_default();
        cell.requests += 1;
        cell.latency.record(took.value(row) as u64);
    }
}

/// A stream of requests, of which the first fill a state.
struct Stream<'a> {
    request: &'a dyn Fn(u64) -> Vec<u8>,
    apart_ms: u64,
    filling: u64,
    timed: u64,
}

impl Stream<'_> {
    /// Returns how long `fold` takes of all but those that fill the state.
    fn time(&self, mut fold: impl FnMut(&RecordBatch)) -> Duration {
        let mut took = Duration::ZERO;
        for number in 0..self.filling + self.timed {
            let received = UnixNanos(T0 + number * self.apart_ms * MS);
            let batch = decode(Signal::Traces, &(self.request)(number), received).expect("well-formed").batch;
            let begun = Instant::now();
            fold(black_box(&batch));
            took += if number < self.filling { Duration::ZERO } else { begun.elapsed() };
        }
        took
    }

    /// Returns how long a state takes to fold it; `evicts` says whether traces have to make room for others.
    fn fold(&self, limits: SignalLimits, evicts: bool) -> Duration {
        let mut state = SignalState::new(limits);
        let took = self.time(|batch| state.fold(Table::Spans, batch).expect("the stored schema"));
        let counted = state.counters();
        assert!(counted.traces_assembled > 0 && (counted.traces_evicted > 0) == evicts, "{counted:?}");
        took
    }
}

fn fold(c: &mut Criterion) {
    let (filling, timed) = (80, 15);
    let mut group = c.benchmark_group("signals_fold, mesh");
    group.throughput(Throughput::Elements(SPANS * timed)).sample_size(10);
    let requests: Vec<Vec<u8>> = (0..filling + timed).map(mesh).collect();
    let stream = Stream { request: &|number| requests[number as usize].clone(), apart_ms: 1_000, filling, timed };
    group.bench_function("state, traces assembled", |b| {
        b.iter_custom(|n| (0..n).map(|_| stream.fold(SignalLimits::default(), false)).sum());
    });
    group.bench_function("map of strings, requests only", |b| {
        b.iter_custom(|n| {
            let once = |_| {
                let mut cells = HashMap::new();
                stream.time(|batch| naive(&mut cells, batch))
            };
            (0..n).map(once).sum()
        });
    });
    group.finish();

    let samples = Samples::new(plimsoll_loadtest::Signal::Traces, false, RECORDS, 4);
    let mut group = c.benchmark_group("signals_fold, load");
    group.sample_size(10);
    let mut load = |name, apart_ms, (filling, timed), evicts| {
        let request = |number| samples.request(number, T0 + number * apart_ms * MS);
        let stream = Stream { request: &request, apart_ms, filling, timed };
        // Room as in a server with its defaults.
        let limits = || SignalLimits { open_spans_max: 110_000, ..SignalLimits::default() };
        group.throughput(Throughput::Elements(RECORDS as u64 * timed));
        group.bench_function(name, |b| b.iter_custom(|n| (0..n).map(|_| stream.fold(limits(), evicts)).sum()));
    };
    load("6,700 a second, all traces assembled", 150, (620, 60), false);
    load("30,000 a second, most traces evicted", 33, (900, 60), true);
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
