//! Recorded telemetry: files of OTLP/JSON lines, merged by time.
//!
//! A line stands at the latest event in it, as if it had arrived that moment; an event that is ten minutes ahead of the middle
//! one is not believed.
//!
//! *Cost.* One line of each file is held at a time; text is read into the same buffer and decoded from there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::TimestampNanosecondType;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::schema::UTC;
use plimsoll_otlp::{Signal, Table, decode, json_to_protobuf};
use serde::de::IgnoredAny;

use crate::object::Object;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// An event so far ahead of the middle one of its line is not believed.
const AHEAD_NS: u64 = 600_000_000_000;

/// The rows of one line.
pub(super) struct Rows {
    pub(super) table: Table,
    pub(super) batch: RecordBatch,
    /// The latest event in it.
    pub(super) at: UnixNanos,
}

/// Several files, read side by side.
pub(super) struct Recordings {
    files: Vec<Recording>,
    rows: u64,
}

impl Recordings {
    /// Opens files, and all recordings of directories.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, String> {
        let mut all = Vec::new();
        for path in paths {
            if path.is_dir() {
                let entries = std::fs::read_dir(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
                let mut inside: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
                inside.retain(|file| is_recording(file));
                if inside.is_empty() {
                    return Err(format!(
                        "`{}` holds no `.jsonl` or `.json` files, plain, `.gz` or `.zst`",
                        path.display()
                    ));
                }
                inside.sort();
                all.extend(inside);
            } else {
                all.push(path.clone());
            }
        }
        let files = all.iter().map(|path| Recording::open(path)).collect::<Result<_, _>>()?;
        Ok(Self { files, rows: 0 })
    }

    /// Returns the earliest rows that have not been returned yet.
    pub(super) fn next(&mut self) -> Result<Option<Rows>, String> {
        for file in &mut self.files {
            file.fill()?;
        }
        let earliest = self
            .files
            .iter_mut()
            .filter(|file| file.head.is_some())
            .min_by_key(|file| file.head.as_ref().map(|r| r.at));
        let rows = earliest.and_then(|file| file.head.take());
        self.rows += rows.as_ref().map_or(0, |rows| rows.batch.num_rows() as u64);
        Ok(rows)
    }

    /// Returns how many rows there were so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns one sentence for each file of which something could not be read.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|file| file.refused > 0).map(|file| file.problem.as_str())
    }
}

fn is_recording(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".zst").or_else(|| name.strip_suffix(".gz")).unwrap_or(name);
    name.ends_with(".jsonl") || name.ends_with(".json")
}

struct Recording {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    text: Vec<u8>,
    line: u64,
    head: Option<Rows>,
    ended: bool,
    refused: u64,
    problem: String,
}

impl Recording {
    fn open(path: &Path) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("`{}`: {error}", path.display());
        let file = File::open(path).map_err(unreadable)?;
        let plain: Box<dyn Read + Send> = match path.extension().and_then(|extension| extension.to_str()) {
            Some("zst") => Box::new(zstd::Decoder::new(file).map_err(unreadable)?),
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
            _ => Box::new(file),
        };
        let reader = Box::new(BufReader::with_capacity(1 << 20, plain));
        Ok(Self {
            path: path.to_owned(),
            reader,
            text: Vec::new(),
            line: 0,
            head: None,
            ended: false,
            refused: 0,
            problem: String::new(),
        })
    }

    /// Reads on until a line has rows that count, or the file ends.
    fn fill(&mut self) -> Result<(), String> {
        while self.head.is_none() && !self.ended {
            self.text.clear();
            let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.text);
            let failed = |error| format!("`{}` after line {}: {error}", self.path.display(), self.line);
            if read.map_err(failed)? == 0 {
                self.ended = true;
                break;
            }
            self.line += 1;
            if self.text.len() as u64 >= LINE_BYTES_MAX && self.text.last() != Some(&b'\n') {
                return Err(format!(
                    "`{}` line {} is longer than {} MiB: write one export request a line",
                    self.path.display(),
                    self.line,
                    LINE_BYTES_MAX >> 20
                ));
            }
            match self.text.trim_ascii() {
                [] => {}
                text => match rows(text) {
                    Ok(rows) => self.head = rows,
                    Err(problem) => self.refuse(&problem),
                },
            }
        }
        Ok(())
    }

    fn refuse(&mut self, problem: &str) {
        self.refused += 1;
        if self.refused == 1 {
            self.problem = format!("`{}` line {}: {problem}", self.path.display(), self.line);
        } else {
            let first = self.problem.split(" (and ").next().unwrap_or_default().to_owned();
            self.problem = format!("{first} (and {} more lines of that file)", self.refused - 1);
        }
    }
}

/// Decodes one line; `None` where it has no rows.
fn rows(line: &[u8]) -> Result<Option<Rows>, String> {
    let known = [
        ("resourceSpans", Signal::Traces, "end_time"),
        ("resourceLogs", Signal::Logs, "time"),
        ("resourceMetrics", Signal::Metrics, "time"),
    ];
    // The request's only key stands at its beginning; the rest is left to the decoder.
    let key = line.split(|byte| *byte == b'"').nth(1).unwrap_or_default();
    let Some((_, signal, time)) = known.into_iter().find(|(name, _, _)| name.as_bytes() == key) else {
        const EXPECTED: &str = "`resourceSpans`, `resourceLogs` or `resourceMetrics`";
        // The line of the error is the only one it was given.
        let said = |error: serde_json::Error| error.to_string().replace(" at line 1 column ", " at column ");
        return Err(match serde_json::from_slice::<Object<BTreeMap<String, IgnoredAny>>>(line) {
            Err(error) if error.is_data() => format!("not an object with {EXPECTED}: {}", said(error)),
            Err(error) => format!("not JSON: {}", said(error)),
            Ok(Object(request)) if request.is_empty() => format!("an object without {EXPECTED}"),
            Ok(_) => {
                let key: String = String::from_utf8_lossy(key).chars().take(80).collect();
                format!("begins with `{key}`, not with {EXPECTED}")
            }
        });
    };
    let request = json_to_protobuf(signal, line).map_err(|error| error.to_string())?;
    let decoded = decode(signal, &request, UnixNanos(0)).map_err(|error| error.to_string())?;
    let Some(at) = latest(&decoded.batch, time) else { return Ok(None) };
    let batch = received(decoded.batch, at)?;
    Ok(Some(Rows { table: signal.table(), batch, at: UnixNanos(at) }))
}

/// Finds the latest event of a line.
fn latest(batch: &RecordBatch, time: &str) -> Option<u64> {
    let column = batch.column_by_name(time)?.as_primitive::<TimestampNanosecondType>();
    let mut times: Vec<u64> =
        column.iter().flatten().filter_map(|at| u64::try_from(at).ok()).filter(|at| *at > 0).collect();
    if times.is_empty() {
        return None;
    }
    let middle = times.len() / 2;
    let (_, middle, after) = times.select_nth_unstable(middle);
    let believed = middle.saturating_add(AHEAD_NS);
    after.iter().copied().filter(|at| *at <= believed).max().or(Some(*middle))
}

/// Sets the time of receipt of all rows.
fn received(batch: RecordBatch, at: u64) -> Result<RecordBatch, String> {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_value(at, batch.num_rows()).with_timezone(UTC));
    let mut columns = batch.columns().to_vec();
    let position = batch.schema().index_of("received_time").map_err(|error| error.to_string())?;
    columns[position] = times;
    RecordBatch::try_new(batch.schema(), columns).map_err(|error| error.to_string())
}
