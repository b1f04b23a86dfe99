//! One segment of each kind written over and over, for counting instructions: `benches/instructions.sh` runs it.
//!
//! Usage: `encode_rows SIGNAL WAY TIMES` with `traces|logs|metrics`, `segment|library|nothing|keep`. Prints rows, bytes on the wire, bytes
//! written; what the same command counts for `nothing` is the cost of making the rows and belongs to neither way.

use std::hint::black_box;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use plimsoll_benches::{START, rows};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::Signal;
use plimsoll_store::encode_segment;

const REQUESTS: u64 = 96;
const RECORDS: u64 = 1_000;

fn library(signal: Signal, batches: &[&RecordBatch]) -> usize {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level"));
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), signal.table().schema().clone(), Some(properties)).expect("starts");
    for batch in batches {
        writer.write(batch).expect("encodes");
    }
    writer.into_inner().expect("ends").len()
}

fn segment(signal: Signal, batches: &[&RecordBatch]) -> usize {
    let mut file = Vec::new();
    encode_segment(signal.table(), batches, UnixNanos(START), &[], &mut file).expect("encodes");
    file.len()
}

#[expect(clippy::print_stdout, reason = "what was written is the other half of what it cost")]
fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [signal, way, times] = given.as_slice() else {
        println!("usage: encode_rows traces|logs|metrics segment|library|nothing TIMES");
        return;
    };
    let signal = Signal::ALL.into_iter().find(|known| known.to_string() == *signal).expect("a signal");
    let (wire, batches) = rows(signal, REQUESTS, RECORDS);
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let mut bytes = 0;
    for _ in 0..times.parse::<usize>().expect("a number") {
        bytes = black_box(match way.as_str() {
            "segment" => segment(signal, &batches),
            "library" => library(signal, &batches),
            _ => 0,
        });
    }
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    println!("rows {rows} wire {wire} bytes {bytes}");
    // For other readers to look at.
    if way == "keep" {
        let mut file = Vec::new();
        encode_segment(signal.table(), &batches, UnixNanos(START), &[], &mut file).expect("encodes");
        std::fs::write(format!("{signal}.parquet"), file).expect("written");
    }
}
