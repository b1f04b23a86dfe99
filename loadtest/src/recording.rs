//! Recordings: files of OTLP/JSON lines, as the Collector's `file` exporter writes them, read line by line.
//!
//! *Invariants.* One line of each file is held at a time. Lines of one file keep their order; between files, the one whose
//! records ended first comes first.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Error;
use crate::records::Signal;

/// The longest line that is read: what a receiver should take at most.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// One export request of a recording.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it carries.
    pub signal: Signal,
    /// The request.
    pub request: Value,
    /// Records in it.
    pub records: u64,
    /// The first and last time in it, in nanoseconds since 1970; `None` where it has none.
    pub times: Option<(u64, u64)>,
    /// Times that cannot be said in OTLP, being before 1970, and were unset: recorders write such for "no time".
    pub times_unset: u64,
}

/// Several files read as one.
pub struct Recording {
    files: Vec<LineReader>,
}

struct LineReader {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    number: u64,
    next: Option<Line>,
}

impl Recording {
    /// Opens files and directories; a directory means every `.jsonl` or `.ndjson` file in it, also as
    /// `.gz` or `.zst`.
    ///
    /// # Errors
    /// One cannot be read, its first line is not a request, or there is none at all.
    pub fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() {
                let mut inside = Vec::new();
                for entry in std::fs::read_dir(path).map_err(Error::file(path))? {
                    inside.push(entry.map_err(Error::file(path))?.path());
                }
                inside.retain(|path| is_recording(path));
                inside.sort();
                files.extend(inside);
            } else {
                files.push(path.clone());
            }
        }
        if files.is_empty() {
            let named = paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ");
            return Err(Error::Usage(format!("no `.jsonl` file (or `.jsonl.zst`, `.jsonl.gz`) in {named}")));
        }
        let files = files.into_iter().map(LineReader::open).collect::<Result<_, _>>()?;
        Ok(Self { files })
    }

    /// The earliest time among the first lines of the files: when the recording begins.
    pub fn begins(&self) -> Option<u64> {
        self.files.iter().filter_map(|file| file.next.as_ref()?.times).map(|(first, _)| first).min()
    }

    /// Takes the next line; `None` at the end of all files.
    ///
    /// # Errors
    /// A file cannot be read or holds something that is no request.
    pub fn next_line(&mut self) -> Result<Option<Line>, Error> {
        let ends = |file: &LineReader| file.next.as_ref().map(|line| line.times.map_or(0, |(_, last)| last));
        let first = self.files.iter().enumerate().filter_map(|(at, file)| Some((ends(file)?, at))).min();
        match first {
            Some((_, at)) => self.files[at].take(),
            None => Ok(None),
        }
    }
}

fn is_recording(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".zst").or_else(|| name.strip_suffix(".gz")).unwrap_or(name);
    [".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending))
}

impl LineReader {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(Error::file(&path))?;
        let lines: Box<dyn BufRead + Send> = match path.extension().and_then(|ending| ending.to_str()) {
            Some("zst") => Box::new(BufReader::with_capacity(
                1 << 20,
                zstd::stream::read::Decoder::new(file).map_err(Error::file(&path))?,
            )),
            Some("gz") => {
                Box::new(BufReader::with_capacity(1 << 20, flate2::read::MultiGzDecoder::new(BufReader::new(file))))
            }
            _ => Box::new(BufReader::with_capacity(1 << 20, file)),
        };
        let mut reader = Self { path, lines, number: 0, next: None };
        reader.take()?;
        Ok(reader)
    }

    /// Returns the line held and reads the one behind it.
    fn take(&mut self) -> Result<Option<Line>, Error> {
        let behind = self.read()?;
        Ok(std::mem::replace(&mut self.next, behind))
    }

    fn read(&mut self) -> Result<Option<Line>, Error> {
        let mut text = Vec::new();
        loop {
            text.clear();
            self.number += 1;
            let read =
                (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut text).map_err(Error::file(&self.path))?;
            if read == 0 {
                return Ok(None);
            }
            if text.last() != Some(&b'\n') && text.len() as u64 == LINE_BYTES_MAX {
                return Err(self.problem(format!("longer than {LINE_BYTES_MAX} bytes")));
            }
            if !text.trim_ascii().is_empty() {
                break;
            }
        }
        let mut request: Value = serde_json::from_slice(&text).map_err(|problem| self.problem(problem.to_string()))?;
        let Some(signal) = signal_of(&request) else {
            return Err(self.problem("has none of resourceSpans, resourceLogs and resourceMetrics".into()));
        };
        let records = count(signal, &request);
        let times_unset = unset_before_1970(&mut request);
        let mut times = None;
        each_time(&request, &mut |time| {
            let (first, last) = times.unwrap_or((time, time));
            times = Some((first.min(time), last.max(time)));
        });
        Ok(Some(Line { signal, request, records, times, times_unset }))
    }

    fn problem(&self, problem: String) -> Error {
        Error::Line { path: self.path.clone(), line: self.number, problem }
    }
}

fn signal_of(request: &Value) -> Option<Signal> {
    [("resourceSpans", Signal::Traces), ("resourceLogs", Signal::Logs), ("resourceMetrics", Signal::Metrics)]
        .into_iter()
        .find(|(key, _)| request.get(key).is_some_and(Value::is_array))
        .map(|(_, signal)| signal)
}

/// Counts spans, log records or points.
fn count(signal: Signal, request: &Value) -> u64 {
    fn items<'a>(objects: impl Iterator<Item = &'a Value>, key: &'static str) -> impl Iterator<Item = &'a Value> {
        objects.filter_map(move |object| object.get(key)?.as_array()).flatten()
    }
    let top = std::iter::once(request);
    match signal {
        Signal::Traces => items(items(items(top, "resourceSpans"), "scopeSpans"), "spans").count() as u64,
        Signal::Logs => items(items(items(top, "resourceLogs"), "scopeLogs"), "logRecords").count() as u64,
        Signal::Metrics => items(items(items(top, "resourceMetrics"), "scopeMetrics"), "metrics")
            .filter_map(Value::as_object)
            .flat_map(|metric| metric.values())
            .filter_map(|data| data.get("dataPoints")?.as_array())
            .map(|points| points.len() as u64)
            .sum(),
    }
}

fn is_time(key: &str) -> bool {
    key.ends_with("UnixNano")
}

fn time(value: &Value) -> Option<u64> {
    // Zero says that there is no time.
    crate::sql::integer(value).filter(|time| *time != 0)
}

fn each_time(value: &Value, visit: &mut impl FnMut(u64)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match time(value) {
                    Some(time) if is_time(key) => visit(time),
                    _ => each_time(value, visit),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_time(item, visit)),
        _ => {}
    }
}

/// Sets every time below zero to zero, which says that there is none, and counts them.
fn unset_before_1970(value: &mut Value) -> u64 {
    match value {
        Value::Object(map) => map
            .iter_mut()
            .map(|(key, value)| {
                let below =
                    |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).is_some_and(|t| t < 0);
                if is_time(key) && below(value) {
                    *value = Value::String("0".into());
                    return 1;
                }
                unset_before_1970(value)
            })
            .sum(),
        Value::Array(items) => items.iter_mut().map(unset_before_1970).sum(),
        _ => 0,
    }
}

/// Adds `by_ns` to every time in a request; what has no time stays without.
pub(crate) fn shift(value: &mut Value, by_ns: i64) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match time(value) {
                    Some(time) if is_time(key) => {
                        *value = Value::String(time.saturating_add_signed(by_ns).to_string());
                    }
                    _ => shift(value, by_ns),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shift(item, by_ns)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    fn span(at: u64) -> String {
        let times = json!({"startTimeUnixNano": at.to_string(), "endTimeUnixNano": (at + 5).to_string()});
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [times]}]}]}).to_string()
    }

    fn log(at: u64) -> String {
        json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": at, "observedTimeUnixNano": "0"}]}]}]})
            .to_string()
    }

    #[test]
    fn files_plain_and_compressed_are_merged_by_time_and_keep_their_order() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("a.jsonl"), format!("{}\n\n{}\n", span(10), span(40))).expect("written");
        let packed = zstd::encode_all(format!("{}\n", log(20)).as_bytes(), 1).expect("packed");
        std::fs::write(dir.path().join("b.jsonl.zst"), packed).expect("written");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(format!("{}\n{}", log(30), log(25)).as_bytes()).expect("packed");
        std::fs::write(dir.path().join("c.jsonl.gz"), gzip.finish().expect("packed")).expect("written");
        std::fs::write(dir.path().join("notes.json"), "[]").expect("written");

        let mut recording = Recording::open(&[dir.path().to_owned()]).expect("three files");
        assert_eq!(recording.begins(), Some(10));
        let mut order = Vec::new();
        while let Some(line) = recording.next_line().expect("all lines are requests") {
            order.push((line.signal, line.times.map(|(first, _)| first)));
        }
        let traces = |at| (Signal::Traces, Some(at));
        let logs = |at| (Signal::Logs, Some(at));
        assert_eq!(order, [traces(10), logs(20), logs(30), logs(25), traces(40)]);
    }

    #[test]
    fn a_line_that_is_no_request_is_named_with_file_and_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, format!("{}\n{{\"x\":1}}\n", span(10))).expect("written");
        let mut recording = Recording::open(&[path]).expect("the first line is a request");
        let problem = recording.next_line().expect_err("the second is not").to_string();
        assert!(problem.contains("a.jsonl` line 2"), "{problem}");
    }

    #[test]
    fn times_before_1970_are_unset_and_counted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a.jsonl");
        // What a zero `time.Time` of Go becomes.
        std::fs::write(&path, log(7).replace(":7", ":\"-6795364578871345152\"")).expect("written");
        let line = Recording::open(&[path]).and_then(|mut recording| recording.next_line()).expect("a request");
        let line = line.expect("one line");
        assert_eq!((line.times_unset, line.times), (1, None));
        assert!(crate::to_protobuf(line.signal, &line.request).is_ok());
    }

    #[test]
    fn shifting_moves_every_time_but_those_that_are_not_set() {
        let mut request: Value = serde_json::from_str(&log(1_000)).expect("json");
        shift(&mut request, -400);
        let record = &request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record, &json!({"timeUnixNano": "600", "observedTimeUnixNano": "0"}));
    }
}
