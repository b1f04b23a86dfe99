//! Rows of a few services from a bucket on, as bytes and back: what stored rows have to be completed with to give again what
//! was seen at a moment.
//!
//! Stored rows of long ago do not change any more. Those of the last minutes do: traces close late, requests come late. An
//! excerpt keeps the latter as they were.
//!
//! *Layout.* For each table: a byte for the table, a length (u64, little endian), and that many bytes of an Arrow IPC stream.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use plimsoll_model::signal::OperationCell;
use plimsoll_model::{Bucket, ServiceKey, UnixNanos};
use plimsoll_otlp::Table;

use crate::cell::Cell;
use crate::columns::SchemaError;
use crate::recall::first_wide;
use crate::rows::{OperationRow, encode_operations};
use crate::side::Part;
use crate::state::SignalState;

/// Tables by the byte that stands for them.
const TABLES: [(u8, Table); 2] = [(1, Table::Operations), (2, Table::Signals)];

/// Rows of the tables `operations` and `signals`, in their stored schemas.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Excerpt {
    /// The rows; no table comes without any.
    pub tables: Vec<(Table, RecordBatch)>,
}

/// Bytes that are no excerpt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kept rows cannot be read: {0}")]
pub struct ExcerptError(String);

impl Excerpt {
    /// Writes it.
    ///
    /// # Errors
    /// A batch cannot be written, which only a mistake here causes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ExcerptError> {
        let failed = |error: arrow::error::ArrowError| ExcerptError(error.to_string());
        let mut bytes = Vec::new();
        for (mark, table) in TABLES {
            for (_, batch) in self.tables.iter().filter(|(of, _)| *of == table) {
                let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(failed)?;
                writer.write(batch).map_err(failed)?;
                let stream = writer.into_inner().map_err(failed)?;
                bytes.push(mark);
                bytes.extend_from_slice(&(stream.len() as u64).to_le_bytes());
                bytes.extend_from_slice(&stream);
            }
        }
        Ok(bytes)
    }

    /// Reads it.
    ///
    /// # Errors
    /// The bytes are none that [`Self::to_bytes`] wrote.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, ExcerptError> {
        let mut tables = Vec::new();
        while let Some((mark, rest)) = bytes.split_first() {
            let table = TABLES.iter().find(|(known, _)| known == mark).map(|(_, table)| *table);
            let table = table.ok_or_else(|| ExcerptError(format!("no table is number {mark}")))?;
            let (length, rest) =
                rest.split_first_chunk().ok_or_else(|| ExcerptError("a length is cut off".to_owned()))?;
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let (stream, rest) =
                rest.split_at_checked(length).ok_or_else(|| ExcerptError("rows are cut off".to_owned()))?;
            let batches = StreamReader::try_new(stream, None).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let batches = batches.map_err(|error| ExcerptError(error.to_string()))?;
            tables.extend(batches.into_iter().map(|batch| (table, batch)));
            bytes = rest;
        }
        Ok(Self { tables })
    }

    /// Returns how many rows it has.
    pub fn rows(&self) -> usize {
        self.tables.iter().map(|(_, batch)| batch.num_rows()).sum()
    }
}

impl SignalState {
    /// Returns everything known of a service from a bucket on, as rows; of the past in wide buckets, that which starts at
    /// [`Self::history_from`] or later. Of its neighbours, what says whether they suffer from it, and nothing else.
    pub fn excerpt(&self, service: &ServiceKey, neighbours: &[ServiceKey], from: Bucket) -> Excerpt {
        let known = |key: &ServiceKey| self.registry.services.get(key);
        let own: Vec<u32> = known(service).into_iter().collect();
        let others: Vec<u32> = neighbours.iter().filter(|key| *key != service).filter_map(known).collect();
        let operations = self.operations_since(&own, &others, from).map(|rows| (Table::Operations, rows));
        let part = Part::Since { bucket: from.0, services: &own };
        let signals = self.signals_of(part).map(|rows| (Table::Signals, rows));
        Excerpt { tables: operations.into_iter().chain(signals).collect() }
    }

    /// Returns the start of the first wide bucket of the past that an excerpt from `from` on holds.
    pub fn history_from(from: Bucket) -> UnixNanos {
        UnixNanos::from_secs(first_wide(from.0))
    }

    /// Adds the rows of an excerpt, as [`Self::load`] does.
    ///
    /// # Errors
    /// A batch is not in the stored schema.
    pub fn load_excerpt(&mut self, excerpt: &Excerpt) -> Result<(), SchemaError> {
        excerpt.tables.iter().try_for_each(|(table, batch)| self.load(*table, batch))
    }

    fn operations_since(&self, own: &[u32], others: &[u32], from: Bucket) -> Option<RecordBatch> {
        let mut rows: Vec<OperationRow> = Vec::new();
        let series = |services: &'_ [u32]| -> Vec<u32> {
            services.iter().flat_map(|service| &self.registry.service[*service as usize].series).copied().collect()
        };
        let all = series(own).into_iter().map(|id| (id, true)).chain(series(others).into_iter().map(|id| (id, false)));
        for (id, whole) in all {
            let Some(cells) = self.cells.series(id) else { continue };
            let pending = cells.pending.iter().map(|(bucket, cell)| (*bucket, cell));
            let key = self.registry.operation_key(id);
            let spell = |cell: &Cell| {
                let cell = self.registry.spell(cell);
                if whole { cell } else { outline(cell) }
            };
            let pending = pending.filter(|(bucket, _)| *bucket >= from.0);
            rows.extend(pending.map(|(bucket, cell)| (key.clone(), Bucket(bucket), spell(cell))));
            let mut room = Cell::default();
            rows.extend(cells.rolling.range(from.0..).map(|(bucket, packed)| {
                packed.put_into(&mut room);
                (key.clone(), Bucket(*bucket), spell(&room))
            }));
        }
        // Stable: of two rows with one key the one that awaits a checkpoint comes first.
        rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        (!rows.is_empty()).then(|| encode_operations(&rows))
    }
}

/// What a neighbour's cell says of whether it suffers: how it fared, whom it calls and whom it blames, and traces that show it.
fn outline(cell: OperationCell) -> OperationCell {
    OperationCell {
        requests: cell.requests,
        errors: cell.errors,
        latency: cell.latency,
        self_time_ns: cell.self_time_ns,
        assembled: cell.assembled,
        blame: cell.blame,
        callees: cell.callees,
        failed_exemplars: cell.failed_exemplars,
        slow_exemplars: cell.slow_exemplars,
        ..OperationCell::default()
    }
}
