//! Files of OTLP/JSON lines, merged by time; a line stands at the latest event in it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::compute::max;
use arrow::datatypes::TimestampNanosecondType;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::schema::UTC;
use plimsoll_otlp::{Signal, Table, decode, json_to_protobuf};

/// The rows of one line.
pub(crate) struct Rows {
    pub(crate) table: Table,
    pub(crate) batch: RecordBatch,
    pub(crate) at: UnixNanos,
}

/// Several files, read side by side.
pub(crate) struct Recordings(Vec<(Box<dyn BufRead>, Option<Rows>)>);

impl Recordings {
    pub(crate) fn open(directory: &Path) -> Self {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .expect("the directory is readable")
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.to_string_lossy().contains(".jsonl"))
            .collect();
        files.sort();
        let open = |path: &std::path::PathBuf| -> (Box<dyn BufRead>, Option<Rows>) {
            let file = File::open(path).expect("the recording is readable");
            let plain: Box<dyn Read> = match path.extension().is_some_and(|extension| extension == "zst") {
                true => Box::new(zstd::Decoder::new(file).expect("the recording is compressed by zstd")),
                false => Box::new(file),
            };
            (Box::new(BufReader::with_capacity(1 << 20, plain)), None)
        };
        Self(files.iter().map(open).collect())
    }

    /// Returns the earliest rows that have not been returned yet.
    pub(crate) fn next(&mut self) -> Option<Rows> {
        for (reader, head) in &mut self.0 {
            let mut text = String::new();
            while head.is_none() {
                text.clear();
                if reader.read_line(&mut text).expect("the recording is text") == 0 {
                    break;
                }
                *head = rows(text.trim());
            }
        }
        let heads = self.0.iter_mut().map(|(_, head)| head).filter(|head| head.is_some());
        heads.min_by_key(|head| head.as_ref().map(|rows| rows.at)).and_then(Option::take)
    }
}

fn rows(line: &str) -> Option<Rows> {
    let (signal, time) = match line.split('"').nth(1)? {
        "resourceSpans" => (Signal::Traces, "end_time"),
        "resourceLogs" => (Signal::Logs, "time"),
        _ => (Signal::Metrics, "time"),
    };
    let request = json_to_protobuf(signal, line.as_bytes()).ok()?;
    let batch = decode(signal, &request, UnixNanos(0)).ok()?.batch;
    let latest = max(batch.column_by_name(time)?.as_primitive::<TimestampNanosecondType>())?;
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_value(latest, batch.num_rows()).with_timezone(UTC));
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of("received_time").ok()?] = times;
    let batch = RecordBatch::try_new(batch.schema(), columns).ok()?;
    Some(Rows { table: signal.table(), batch, at: UnixNanos(u64::try_from(latest).ok()?) })
}
