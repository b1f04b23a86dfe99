//! Spans folded into cells, beside the obvious way: one map from strings to numbers.
//!
//! A batch holds 1,000 traces of six spans: front end, checkout and payment, each call through a client span.

use std::collections::HashMap;
use std::hint::black_box;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
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

/// Batches of different traces, a second apart, so that old traces close while new ones come.
fn batches(count: u64) -> Vec<RecordBatch> {
    const SHAPE: [(&str, i32, &str, u64, u64); 6] = [
        ("front", 2, "GET /", 0, 100),
        ("front", 3, "POST", 10, 90),
        ("checkout", 2, "POST /checkout", 15, 85),
        ("checkout", 1, "place order", 20, 80),
        ("checkout", 3, "POST", 25, 75),
        ("payment", 2, "POST /charge", 30, 70),
    ];
    let make = |batch: u64| {
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
        let request = ExportTraceServiceRequest { resource_spans: resource_spans.into() }.encode_to_vec();
        decode(Signal::Traces, &request, UnixNanos(received)).expect("well-formed").batch
    };
    (0..count).map(make).collect()
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

fn fold(c: &mut Criterion) {
    let batches = batches(30);
    let mut group = c.benchmark_group("signals_fold");
    group.throughput(Throughput::Elements(SPANS * batches.len() as u64)).sample_size(10);
    group.bench_function("state, traces assembled", |b| {
        b.iter_batched_ref(
            || SignalState::new(SignalLimits::default()),
            |state| {
                for batch in &batches {
                    state.fold(Table::Spans, black_box(batch)).expect("the stored schema");
                }
                state.close_traces();
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("map of strings, requests only", |b| {
        b.iter_batched_ref(
            HashMap::new,
            |cells| batches.iter().for_each(|batch| naive(cells, black_box(batch))),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
