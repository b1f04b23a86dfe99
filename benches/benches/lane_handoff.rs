//! From receivers to the committer: the lanes, and the queue behind a mutex that they replace.
//!
//! *What is measured.* Items a second from two producers through to one consumer that takes whatever waits and is then away for as
//! long as a sync of the disk takes, as group commit is; a round ends when every item came through. One item is about the
//! size of a decoded request.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_ingest::lanes::Lanes;

const PRODUCERS: u64 = 2;
const ITEMS: u64 = 50_000;
const DEPTH: usize = 1_024;

/// How long the consumer is away with each group.
const SYNC: Duration = Duration::from_micros(100);

type Item = [u64; 24];

fn through_lanes() {
    let lanes = Lanes::<Item>::new(PRODUCERS as usize, DEPTH);
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let lanes = &lanes;
            scope.spawn(move || {
                for n in 0..ITEMS {
                    let mut item = [n; 24];
                    while let Err(back) = lanes.push(producer as usize, item) {
                        item = back;
                        thread::yield_now();
                    }
                }
            });
        }
        let (mut group, mut seen) = (Vec::new(), 0);
        while seen < PRODUCERS * ITEMS && lanes.wait() {
            lanes.drain(&mut group, |_| false);
            seen += group.len() as u64;
            black_box(&group);
            thread::sleep(SYNC);
            group.clear();
        }
    });
}

/// The obvious way.
#[derive(Default)]
struct Locked {
    queue: Mutex<VecDeque<Item>>,
    filled: Condvar,
}

fn through_a_mutex() {
    let locked = Locked::default();
    let queue = || locked.queue.lock().expect("nobody panics while holding it");
    thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                for n in 0..ITEMS {
                    loop {
                        let mut queue = queue();
                        if queue.len() < DEPTH * PRODUCERS as usize {
                            queue.push_back([n; 24]);
                            locked.filled.notify_one();
                            break;
                        }
                        drop(queue);
                        thread::yield_now();
                    }
                }
            });
        }
        let (mut group, mut seen) = (Vec::new(), 0);
        while seen < PRODUCERS * ITEMS {
            let mut queue = queue();
            while queue.is_empty() {
                queue = locked.filled.wait(queue).expect("nobody panics while holding it");
            }
            group.extend(queue.drain(..));
            drop(queue);
            seen += group.len() as u64;
            black_box(&group);
            thread::sleep(SYNC);
            group.clear();
        }
    });
}

fn handoff(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane_handoff");
    group.throughput(Throughput::Elements(PRODUCERS * ITEMS)).sample_size(20);
    group.bench_function("lanes", |bencher| bencher.iter(through_lanes));
    group.bench_function("mutex", |bencher| bencher.iter(through_a_mutex));
    group.finish();
}

criterion_group!(benches, handoff);
criterion_main!(benches);
