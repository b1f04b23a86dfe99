//! The journal: frames made durable, by size of the group, beside one `fdatasync` for each frame, and beside one for each group through
//! the page cache.
//!
//! The directory is below the system's temporary one; `TMPDIR` names another disk. A file system in memory measures the code
//! and not the disk.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{IoSlice, Write};
use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_journal::{Frame, Journal, JournalOptions, LocalJournal};
use plimsoll_model::SequenceNumber;

const FRAME_BYTES: usize = 16 << 10;
const GROUPS: [usize; 4] = [1, 8, 64, 512];

fn open(dir: &Path) -> LocalJournal {
    LocalJournal::open(JournalOptions::new(dir)).expect("the temporary directory can be written")
}

/// Commits groups to the journal; what is written is trimmed as the store would do it.
fn group_commit(criterion: &mut Criterion) {
    let body = vec![0x5a; FRAME_BYTES];
    let mut group = criterion.benchmark_group("journal_append/group_commit");
    for frames in GROUPS {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let journal = open(dir.path());
        let batch = vec![Frame { header: b"sixteen bytes...", body: &body }; frames];
        group.throughput(Throughput::Bytes((frames * FRAME_BYTES) as u64));
        group.bench_function(BenchmarkId::from_parameter(frames), |bencher| {
            bencher.iter(|| {
                let range = journal.commit(black_box(&batch)).expect("there is space");
                if range.end().0 % 4096 < frames as u64 {
                    journal.trim(*range.end()).expect("files can be removed");
                }
            });
        });
    }
    group.finish();
}

/// The naive log: one write and one `fdatasync` for each frame of the group.
fn sync_per_frame(criterion: &mut Criterion) {
    let body = vec![0x5a; FRAME_BYTES];
    let mut group = criterion.benchmark_group("journal_append/sync_per_frame");
    group.sample_size(10);
    for frames in &GROUPS[..3] {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let path = dir.path().join("naive.log");
        let mut file = File::create(&path).expect("the temporary directory can be written");
        group.throughput(Throughput::Bytes((frames * FRAME_BYTES) as u64));
        group.bench_function(BenchmarkId::from_parameter(frames), |bencher| {
            bencher.iter(|| {
                for _ in 0..*frames {
                    file.write_all(black_box(&body)).expect("there is space");
                    file.sync_data().expect("the disk works");
                }
                if file.metadata().is_ok_and(|metadata| metadata.len() > JournalOptions::FILE_BYTES_MAX) {
                    file = File::create(&path).expect("the temporary directory can be written");
                }
            });
        });
    }
    group.finish();
}

/// The plain log: one write and one `fdatasync` for each group, through the page cache, without checksums.
fn page_cache(criterion: &mut Criterion) {
    let body = vec![0x5a; FRAME_BYTES];
    let mut group = criterion.benchmark_group("journal_append/page_cache");
    for frames in GROUPS {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let path = dir.path().join("plain.log");
        let mut file = File::create(&path).expect("the temporary directory can be written");
        let slices = vec![IoSlice::new(&body); frames];
        group.throughput(Throughput::Bytes((frames * FRAME_BYTES) as u64));
        group.bench_function(BenchmarkId::from_parameter(frames), |bencher| {
            bencher.iter(|| {
                let written = file.write_vectored(black_box(&slices)).expect("there is space");
                assert_eq!(written, frames * FRAME_BYTES, "as many slices as the system takes at once");
                file.sync_data().expect("the disk works");
                if file.metadata().is_ok_and(|metadata| metadata.len() > JournalOptions::FILE_BYTES_MAX) {
                    file = File::create(&path).expect("the temporary directory can be written");
                }
            });
        });
    }
    group.finish();
}

/// Opens and replays a log of 64 MiB.
fn replay(criterion: &mut Criterion) {
    let body = vec![0x5a; FRAME_BYTES];
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let journal = open(dir.path());
    let batch = vec![Frame { header: &[], body: &body }; 512];
    for _ in 0..8 {
        journal.commit(&batch).expect("there is space");
    }
    drop(journal);
    let bytes = fs::read_dir(dir.path()).expect("is there").flatten().filter_map(|entry| entry.metadata().ok());
    let mut group = criterion.benchmark_group("journal_append/replay");
    group.throughput(Throughput::Bytes(bytes.map(|metadata| metadata.len()).sum()));
    group.bench_function("64_mib", |bencher| {
        bencher.iter_batched(
            || open(dir.path()),
            |journal| {
                let mut seen = 0;
                let visit = &mut |_, payload: &[u8]| {
                    seen += payload.len();
                    Ok(())
                };
                journal.replay(SequenceNumber::ZERO, visit).expect("the log can be read");
                assert_eq!(seen, 8 * 512 * FRAME_BYTES);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, group_commit, sync_per_frame, page_cache, replay);
criterion_main!(benches);
