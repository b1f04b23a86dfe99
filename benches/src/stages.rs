//! The stages whose instructions are counted: each a name, the records that one run works through, and the work.

use std::hint::black_box;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{RowBuilder, Signal, Table, decode};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_store::encode_segment;

use crate::records::{KINDS, Kind, RECORDS, START};
use crate::{naive, walk};

/// Requests that one run decodes or walks: each variant of the generator once.
const REQUESTS: u64 = 4;
/// Requests that are folded before the count begins, so that names are known as they are in a running server.
const FOLDED_BEFORE: u64 = 4;
/// Requests in one segment.
const SEGMENT_REQUESTS: u64 = 16;

/// Records of the small requests.
const SMALL: [usize; 4] = [1, 15, 100, 1_000];
/// Small requests that come at once.
const GROUP: usize = 16;
/// Records of one run over small requests, at the least.
const SMALL_RECORDS: usize = 960;

/// A stage, ready to run.
pub struct Stage {
    work: Box<dyn FnMut()>,
    /// True where the first run differs from later ones and only it is counted.
    once: bool,
}

impl Stage {
    /// Runs it once before what is counted, where a second run does the same work as the first.
    pub fn warm_up(&mut self) {
        if !self.once {
            (self.work)();
        }
    }

    /// Runs it.
    pub fn run(&mut self) {
        (self.work)();
    }
}

/// The names of all stages, in the order of the table.
pub fn names() -> Vec<String> {
    let of = |stage: &str| KINDS.iter().map(|kind| format!("{stage}/{}", kind.name)).collect::<Vec<_>>();
    let mut names = Vec::new();
    for stage in ["decode", "decode by prost, then append", "decode by prost", "walk"] {
        names.extend(of(stage));
    }
    for size in SMALL {
        names.extend(
            ["spans", "points"]
                .iter()
                .flat_map(|kind| ["alone", "joined"].map(|way| format!("requests of {size} {way}/{kind}"))),
        );
    }
    names.extend(of("fold"));
    names.extend(of("segment"));
    names.extend(of("parquet defaults"));
    names.extend(["inflate gzip/spans".to_owned(), "inflate zstd/spans".to_owned()]);
    names
}

/// Returns how many records one run of the stage of this name works through.
pub fn records(name: &str) -> u64 {
    if let Some((size, _)) = small(name) {
        return (small_requests(size) * size) as u64;
    }
    let requests =
        if name.starts_with("segment/") || name.starts_with("parquet ") { SEGMENT_REQUESTS } else { REQUESTS };
    requests * RECORDS as u64
}

/// Reads how many records the requests of a stage over small ones have, and whether they share columns.
fn small(name: &str) -> Option<(usize, bool)> {
    let (stage, _) = name.strip_prefix("requests of ")?.split_once('/')?;
    let (size, way) = stage.split_once(' ')?;
    Some((size.parse().ok()?, way == "joined"))
}

fn small_requests(size: usize) -> usize {
    SMALL_RECORDS.div_ceil(size).max(4)
}

/// Requests that become batches, which are freed: each by itself, or those that come at once together.
fn requests_of(kind: Kind, size: usize, joined: bool) -> Stage {
    let requests = kind.requests_of(size, small_requests(size) as u64);
    let well_formed = "the generator sends what is well formed";
    let work: Box<dyn FnMut()> = if joined {
        let mut builder = RowBuilder::new(kind.signal);
        Box::new(move || {
            for group in requests.chunks(GROUP) {
                for request in group {
                    builder.push(black_box(request), UnixNanos(START)).expect(well_formed);
                }
                black_box(builder.take());
            }
        })
    } else {
        Box::new(move || {
            for request in &requests {
                black_box(decode(kind.signal, black_box(request), UnixNanos(START)).expect(well_formed));
            }
        })
    };
    Stage { work, once: false }
}

/// Prepares the stage of this name.
pub fn stage(name: &str) -> Option<Stage> {
    let small = small(name);
    let (stage, kind) = name.split_once('/')?;
    let kind = *KINDS.iter().find(|known| known.name == kind)?;
    let requests = || kind.requests(REQUESTS);
    let many = |work: Box<dyn FnMut()>| Stage { work, once: false };
    if let Some((size, joined)) = small {
        return Some(requests_of(kind, size, joined));
    }
    Some(match stage {
        "decode" => {
            let requests = requests();
            many(Box::new(move || {
                for request in &requests {
                    let decoded = decode(kind.signal, black_box(request), UnixNanos(START));
                    black_box(decoded.expect("the generator sends what is well formed"));
                }
            }))
        }
        "decode by prost, then append" => {
            let requests = requests();
            many(Box::new(move || {
                for request in &requests {
                    black_box(naive::append(kind.signal, black_box(request)));
                }
            }))
        }
        "decode by prost" => {
            let requests = requests();
            many(Box::new(move || {
                for request in &requests {
                    black_box(naive::decode_only(kind.signal, black_box(request)));
                }
            }))
        }
        "walk" => {
            let requests = requests();
            let message = match kind.signal {
                Signal::Traces => &walk::TRACES,
                Signal::Logs => &walk::LOGS,
                Signal::Metrics => &walk::METRICS,
            };
            many(Box::new(move || {
                for request in &requests {
                    black_box(walk::fields(message, black_box(request)));
                }
            }))
        }
        "fold" => fold(kind),
        "segment" => {
            let batches = kind.batches(SEGMENT_REQUESTS);
            let table = table(kind.signal);
            many(Box::new(move || {
                let batches: Vec<&RecordBatch> = batches.iter().collect();
                let mut file = Vec::new();
                encode_segment(table, &batches, UnixNanos(START), &[], &mut file).expect("memory takes it");
                black_box(file);
            }))
        }
        "parquet defaults" => {
            let batches = kind.batches(SEGMENT_REQUESTS);
            many(Box::new(move || {
                let schema = batches[0].schema();
                let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).expect("the schema has a Parquet form");
                for batch in &batches {
                    writer.write(batch).expect("memory takes it");
                }
                black_box(writer.into_inner().expect("memory takes it"));
            }))
        }
        "inflate gzip" => inflate(kind, plimsoll_loadtest::Compression::Gzip),
        "inflate zstd" => inflate(kind, plimsoll_loadtest::Compression::Zstd),
        _ => return None,
    })
}

fn fold(kind: Kind) -> Stage {
    let batches = kind.batches(FOLDED_BEFORE + REQUESTS);
    let table = table(kind.signal);
    let mut state = SignalState::new(SignalLimits::default());
    let (before, counted) = batches.split_at(FOLDED_BEFORE as usize);
    for batch in before {
        state.fold(table, batch).expect("the stored schema");
    }
    state.close_traces();
    let counted = counted.to_vec();
    let work = Box::new(move || {
        for batch in &counted {
            state.fold(table, black_box(batch)).expect("the stored schema");
        }
        state.close_traces();
    });
    Stage { work, once: true }
}

/// What the libraries take for opening the bodies: below any receiver of compressed requests.
fn inflate(kind: Kind, compression: plimsoll_loadtest::Compression) -> Stage {
    let bodies: Vec<Vec<u8>> = kind.requests(REQUESTS).iter().map(|body| compression.compress(body)).collect();
    let work = Box::new(move || {
        for body in &bodies {
            black_box(compression.decompress(black_box(body)).expect("it was compressed a moment ago"));
        }
    });
    Stage { work, once: false }
}

fn table(signal: Signal) -> Table {
    match signal {
        Signal::Traces => Table::Spans,
        Signal::Logs => Table::Logs,
        Signal::Metrics => Table::Metrics,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_that_is_named_can_be_run() {
        for name in names() {
            let mut stage = stage(&name).unwrap_or_else(|| panic!("`{name}` is named and not there"));
            assert!(records(&name) > 0);
            stage.run();
        }
        assert!(stage("decode/nothing").is_none());
    }
}
