//! Wire to Arrow: [`decode`] beside the naive way (prost, then a few columns), beside prost alone, and beside a bare walk over
//! the fields, which is the least that reading can cost.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_benches::records::{KINDS, RECORDS, START};
use plimsoll_benches::{naive, walk};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, decode};

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for kind in KINDS {
        let requests: Vec<Vec<u8>> = kind.requests(8);
        let bytes = requests.iter().map(Vec::len).sum::<usize>() / (requests.len() * RECORDS);
        let name = format!("{}/{bytes}B", kind.name);
        let message = match kind.signal {
            Signal::Traces => &walk::TRACES,
            Signal::Logs => &walk::LOGS,
            Signal::Metrics => &walk::METRICS,
        };
        // Each iteration reads another request, as a server does.
        let mut side = |which: &str, read: &mut dyn FnMut(&[u8])| {
            let mut turn = 0;
            group.bench_function(BenchmarkId::new(which, &name), |bencher| {
                bencher.iter(|| {
                    turn += 1;
                    read(black_box(&requests[turn % requests.len()]));
                });
            });
        };
        side("plimsoll", &mut |request| {
            black_box(decode(kind.signal, request, UnixNanos(START)).expect("well-formed"));
        });
        side("prost, append", &mut |request| {
            black_box(naive::append(kind.signal, request));
        });
        side("prost", &mut |request| {
            black_box(naive::decode_only(kind.signal, request));
        });
        side("walk", &mut |request| {
            black_box(walk::fields(message, request));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
