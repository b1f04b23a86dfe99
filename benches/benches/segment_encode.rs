//! Rows to a sorted Parquet segment: [`encode_segment`] beside the library's defaults on the same rows, unsorted.
//!
//! The rows are spans of about 440 bytes on the wire with ten attributes, from twelve processes of four services, decoded
//! from requests of 512 as a tail holds them. The size of each file is printed once: the defaults are what is to be beaten
//! on size, and what sorting, interning and bloom filters are paid with on time.

use std::hint::black_box;

use arrow::array::RecordBatch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use parquet::arrow::ArrowWriter;
use plimsoll_loadtest::shop::text;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, Table, decode};
use plimsoll_store::encode_segment;
use prost::Message;

const REQUESTS: u64 = 64;
const SPANS: u64 = 512;
const START: u64 = 1_700_000_000_000_000_000;

fn request(number: u64) -> Vec<u8> {
    let span = |index: u64| {
        // Scattered as ids are, and the same in every run.
        let id = (number * SPANS + index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Span {
            trace_id: (u128::from(id) << 64 | u128::from(id.rotate_left(17))).to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: id.rotate_left(31).to_be_bytes().to_vec(),
            name: format!("POST /api/checkout/{}", id % 20),
            kind: 2,
            start_time_unix_nano: START + number * 50_000_000 + id % 50_000_000,
            end_time_unix_nano: START + number * 50_000_000 + id % 50_000_000 + id % 9_000_000,
            attributes: vec![
                text("http.request.method", "POST"),
                text("http.route", format!("/api/checkout/{}", id % 20)),
                text("url.path", format!("/api/checkout/{:08}", id % 100_000)),
                text("server.address", "checkout.shop.svc"),
                text("http.response.status_code", "200"),
                text("network.protocol.version", "1.1"),
                text("user_agent.original", "okhttp/4.12.0"),
                text("client.address", format!("10.0.{}.{}", id % 7, id % 251)),
                text("thread.name", format!("worker-{}", id % 16)),
                text("shop.cart", format!("{:016x}", id % 5_000)),
            ],
            ..Span::default()
        }
    };
    let resource = Resource {
        attributes: vec![
            text("service.name", format!("service-{}", number % 4)),
            text("service.version", "1.4.2"),
            text("service.instance.id", format!("instance-{}", number % 12)),
            text("deployment.environment.name", "prod"),
            text("k8s.pod.name", format!("service-5d9c7b8f6-{}", number % 12)),
        ],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..SPANS).map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn ours(batches: &[&RecordBatch]) -> Vec<u8> {
    let mut file = Vec::new();
    let encoded = encode_segment(Table::Spans, batches, UnixNanos(START), &[], &mut file).expect("encodes");
    assert_eq!(encoded.rows, REQUESTS * SPANS);
    file
}

fn defaults(batches: &[&RecordBatch]) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), Table::Spans.schema().clone(), None).expect("starts");
    for batch in batches {
        writer.write(batch).expect("encodes");
    }
    writer.into_inner().expect("ends")
}

#[expect(clippy::print_stdout, reason = "the sizes are half of the result, and Criterion reports times only")]
fn segment_encode(criterion: &mut Criterion) {
    let requests: Vec<Vec<u8>> = (0..REQUESTS).map(request).collect();
    let decoded = requests.iter().map(|bytes| decode(Signal::Traces, bytes, UnixNanos(START)).expect("decodes").batch);
    let batches: Vec<RecordBatch> = decoded.collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let wire: usize = requests.iter().map(Vec::len).sum();
    println!("wire {wire} bytes, segment {}, defaults {}", ours(&batches).len(), defaults(&batches).len());

    let mut group = criterion.benchmark_group("segment_encode");
    group.throughput(Throughput::Elements(REQUESTS * SPANS)).sample_size(10);
    group.bench_function("segment", |bencher| bencher.iter(|| black_box(ours(&batches))));
    group.bench_function("parquet defaults", |bencher| bencher.iter(|| black_box(defaults(&batches))));
    group.finish();
}

criterion_group!(benches, segment_encode);
criterion_main!(benches);
