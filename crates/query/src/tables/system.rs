//! The schema `plimsoll`: what the server knows of itself, read when a query scans it.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use plimsoll_catalog::SegmentRecord;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::Table;
use plimsoll_otlp::schema::timestamp;
use serde::Serialize;

use super::Tables;
use super::facts::rows;
use crate::queries::{Query, State};

/// What the journal says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JournalFacts {
    /// The next frame's number.
    pub next_frame: u64,
    /// The oldest frame still held; equal to `next_frame` where none is.
    pub oldest_frame: u64,
    /// Log files on disk, oldest first.
    pub files: Vec<JournalFile>,
    /// True after a failed sync.
    pub poisoned: bool,
    /// Groups committed since the server started.
    pub commits: u64,
    /// Nanoseconds spent in `fdatasync` since then.
    pub sync_ns: u64,
}

/// A log file of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalFile {
    /// Its name.
    pub file: String,
    /// Number of its first frame, or of the frame that it waits for.
    pub first_frame: u64,
    /// The number behind its last frame.
    pub end_frame: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Asks the journal what it says of itself.
pub type JournalSource = Arc<dyn Fn() -> JournalFacts + Send + Sync>;

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Segments,
    Journal,
    Queries,
}

/// A table of the schema `plimsoll`.
struct SystemTable {
    system: System,
    tables: Tables,
}

/// Returns the table called `name`.
pub(super) fn table(name: &str, tables: &Tables) -> Option<Arc<dyn TableProvider>> {
    let system = match name {
        "segments" => System::Segments,
        "journal" => System::Journal,
        "queries" => System::Queries,
        _ => return None,
    };
    Some(Arc::new(SystemTable { system, tables: tables.clone() }))
}

impl SystemTable {
    fn read(&self) -> Result<RecordBatch> {
        let schema = self.schema();
        match self.system {
            System::Segments => {
                let snapshot = &self.tables.snapshot;
                let all: Vec<(SegmentRecord, &'static str)> = Table::ALL
                    .into_iter()
                    .flat_map(|table| {
                        let live = snapshot.segments(table).into_iter().map(|segment| (segment, "live"));
                        live.chain(snapshot.missing(table).into_iter().map(|segment| (segment, "missing")))
                    })
                    .collect();
                rows(schema, &all.iter().map(|(segment, state)| SegmentRow::of(segment, state)).collect::<Vec<_>>())
            }
            System::Journal => {
                let status = self.tables.store.status();
                let facts = self.tables.journal.as_ref().map(|journal| journal()).unwrap_or_default();
                let last = facts.files.len().saturating_sub(1);
                let files = facts.files.iter().enumerate().map(|(at, file)| JournalRow {
                    file,
                    state: match (at == last, file.end_frame > status.checkpoint.0.saturating_add(1)) {
                        (true, _) => "written",
                        (false, true) => "needed",
                        (false, false) => "flushed",
                    },
                    next_frame: facts.next_frame,
                    oldest_frame: facts.oldest_frame,
                    poisoned: facts.poisoned,
                    commits: facts.commits,
                    sync_ns: facts.sync_ns,
                    published_frame: status.published.0,
                    folded_frame: status.folded.0,
                    checkpoint_frame: status.checkpoint.0,
                    tail_rows: status.tail_rows,
                    tail_bytes: status.tail_bytes,
                });
                rows(schema, &files.collect::<Vec<_>>())
            }
            System::Queries => {
                let all = self.tables.queries.all();
                rows(schema, &all.iter().map(|query| QueryRow::of(query)).collect::<Vec<_>>())
            }
        }
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SystemTable").field(&self.system).finish()
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(match self.system {
            System::Segments => &SEGMENTS,
            System::Journal => &JOURNAL,
            System::Queries => &QUERIES,
        })
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let source = MemorySourceConfig::try_new(&[vec![self.read()?]], self.schema(), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source))
    }
}

fn is(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn text(name: &str) -> Field {
    is(name, DataType::Utf8)
}

fn number(name: &str) -> Field {
    is(name, DataType::UInt64)
}

static SEGMENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("table_name"),
        text("id"),
        text("path"),
        text("state"),
        number("rows"),
        number("bytes"),
        is("time_from", timestamp()),
        is("time_to", timestamp()),
        is("received_to", timestamp()),
        is("sealed_at", timestamp()),
        number("first_frame"),
        number("last_frame"),
    ]))
});

#[derive(Serialize)]
struct SegmentRow<'a> {
    table_name: &'a str,
    id: &'a str,
    path: &'a str,
    state: &'static str,
    rows: u64,
    bytes: u64,
    time_from: UnixNanos,
    time_to: UnixNanos,
    received_to: UnixNanos,
    sealed_at: UnixNanos,
    first_frame: u64,
    last_frame: u64,
}

impl<'a> SegmentRow<'a> {
    fn of(segment: &'a SegmentRecord, state: &'static str) -> Self {
        Self {
            table_name: &segment.table,
            id: segment.id.as_str(),
            path: &segment.path,
            state,
            rows: segment.rows,
            bytes: segment.bytes,
            time_from: segment.times.from,
            time_to: segment.times.to,
            received_to: segment.received_to,
            sealed_at: segment.created_at,
            first_frame: segment.frames.0.0,
            last_frame: segment.frames.1.0,
        }
    }
}

static JOURNAL: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("file"),
        text("state"),
        number("first_frame"),
        number("end_frame"),
        number("bytes"),
        number("next_frame"),
        number("oldest_frame"),
        is("poisoned", DataType::Boolean),
        number("commits"),
        number("sync_ns"),
        number("published_frame"),
        number("folded_frame"),
        number("checkpoint_frame"),
        number("tail_rows"),
        number("tail_bytes"),
    ]))
});

#[derive(Serialize)]
struct JournalRow<'a> {
    #[serde(flatten)]
    file: &'a JournalFile,
    /// `written` to, `needed` for rows that are in no segment yet, or `flushed`: its rows are in segments.
    state: &'static str,
    next_frame: u64,
    oldest_frame: u64,
    poisoned: bool,
    commits: u64,
    sync_ns: u64,
    published_frame: u64,
    folded_frame: u64,
    checkpoint_frame: u64,
    tail_rows: u64,
    tail_bytes: u64,
}

static QUERIES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        number("id"),
        text("state"),
        text("source"),
        is("started", timestamp()),
        is("elapsed_ms", DataType::Float64),
        is("cpu_ms", DataType::Float64),
        number("rows"),
        number("memory_bytes"),
        number("memory_peak_bytes"),
        number("spilled_bytes"),
        text("query"),
        Field::new("error", DataType::Utf8, true),
    ]))
});

#[derive(Serialize)]
struct QueryRow<'a> {
    id: u64,
    state: &'static str,
    source: &'a str,
    started: UnixNanos,
    elapsed_ms: f64,
    cpu_ms: f64,
    rows: u64,
    memory_bytes: u64,
    memory_peak_bytes: u64,
    spilled_bytes: u64,
    query: &'a str,
    error: Option<String>,
}

impl<'a> QueryRow<'a> {
    fn of(query: &'a Query) -> Self {
        let look = query.look();
        Self {
            id: query.id,
            state: look.state.name(),
            source: query.source,
            started: query.started,
            elapsed_ms: look.elapsed.as_secs_f64() * 1e3,
            cpu_ms: look.cpu.as_secs_f64() * 1e3,
            rows: look.rows,
            memory_bytes: look.memory as u64,
            memory_peak_bytes: look.memory_peak as u64,
            spilled_bytes: look.spilled,
            query: &query.text,
            error: match look.state {
                State::Failed(error) => Some(error),
                _ => None,
            },
        }
    }
}
