//! What was folded since the last checkpoint, as rows, and what was stored before, read back.

use arrow::array::RecordBatch;
use plimsoll_model::signal::OperationKind;
use plimsoll_model::{Bucket, UnixNanos};
use plimsoll_otlp::Table;

use crate::cell::{Cell, Recorded};
use crate::columns::SchemaError;
use crate::registry::SeriesKey;
use crate::rows::{OperationRow, decode_operations, encode_operations};
use crate::side::Part;
use crate::side_rows::Recall;
use crate::state::SignalState;

impl SignalState {
    /// Returns what was folded since the last checkpoint, in the stored schemas of `operations` and `signals`; no table
    /// comes without rows. The same cells always give the same bytes.
    pub fn pending_rows(&self) -> Vec<(Table, RecordBatch)> {
        let operations = self.pending_operations().map(|rows| (Table::Operations, rows));
        let signals = self.signals_of(Part::Pending).map(|rows| (Table::Signals, rows));
        operations.into_iter().chain(signals).collect()
    }

    fn pending_operations(&self) -> Option<RecordBatch> {
        if self.cells.pending_len() == 0 {
            return None;
        }
        // Keys are spelt out and compared once a series: a series has many buckets.
        let mut series: Vec<_> =
            self.cells.pending_series().map(|(id, cells)| (self.registry.operation_key(id), cells)).collect();
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut rows: Vec<OperationRow> = Vec::with_capacity(self.cells.pending_len());
        for (key, cells) in series {
            let spell = |(bucket, cell): &(u64, Cell)| (key.clone(), Bucket(*bucket), self.registry.spell(cell));
            rows.extend(cells.iter().map(spell));
        }
        Some(encode_operations(&rows))
    }

    /// Takes those rows: from here on they are the caller's to keep. What the watcher sees stays as it is.
    pub fn take_rows(&mut self) -> Vec<(Table, RecordBatch)> {
        let rows = self.pending_rows();
        self.settle();
        rows
    }

    /// Lets go of those rows without making them: for whoever keeps none. What the watcher sees stays as it is.
    pub fn settle(&mut self) {
        for (id, second, cell) in self.pending_history() {
            self.sides.history.settle(id, second, &cell);
        }
        for (id, second, cell) in self.pending_metric_past() {
            self.sides.metric_past.settle(id, second, &cell);
        }
        self.sides.settle_pending();
        self.cells.settle_pending();
        self.bound_cells();
    }

    /// Adds rows stored before, after a restart: they are seen by the watcher and never become pending again. Buckets
    /// older than the retention may be among them and go when time passes.
    ///
    /// # Errors
    /// The batch is not in the stored schema; nothing of it was added.
    pub fn load(&mut self, table: Table, batch: &RecordBatch) -> Result<(), SchemaError> {
        match table {
            Table::Operations => self.load_operations(batch, false),
            Table::Signals => self.load_signals(batch, Recall::All),
            Table::Spans | Table::Logs | Table::Metrics => Ok(()),
        }
    }

    /// Adds rows of `signals`, but of those about the weeks before only what starts at `since` or later.
    ///
    /// # Errors
    /// The batch is not in the stored schema; nothing of it was added.
    pub fn load_recent(&mut self, batch: &RecordBatch, since: UnixNanos) -> Result<(), SchemaError> {
        self.load_signals(batch, Recall::HistorySince(since))
    }

    /// Adds of rows of `signals` only those about the weeks before, of wide buckets that start before `before`: the others
    /// came with [`Self::load_recent`].
    ///
    /// # Errors
    /// The batch is not in the stored schema; nothing of it was added.
    pub fn load_history(&mut self, batch: &RecordBatch, before: UnixNanos) -> Result<(), SchemaError> {
        self.load_signals(batch, Recall::HistoryBefore(before))
    }

    /// Rows that come `again` were counted before.
    pub(crate) fn load_operations(&mut self, batch: &RecordBatch, again: bool) -> Result<(), SchemaError> {
        for (key, bucket, cell) in decode_operations(batch)? {
            let (version, _) = self.registry.version_id(&key.service, &key.version);
            let service = self.registry.versions.key(version).service;
            let name = self.registry.name_id(&key.operation);
            let operation = self.registry.operation_id(service, key.kind, name);
            if key.kind != OperationKind::Internal {
                self.registry.service[service as usize].serves = true;
            }
            let seen = &mut self.registry.version[version as usize];
            let (first, last) = (bucket.start(), bucket.end());
            seen.first_seen = if seen.first_seen == UnixNanos(0) { first } else { seen.first_seen.min(first) };
            seen.last_seen = seen.last_seen.max(last);
            seen.requests += if again { 0 } else { cell.requests };
            for fingerprint in cell.exceptions.keys().filter(|fingerprint| fingerprint.0 != 0) {
                let name = self.registry.version_name(version);
                self.registry.remember(service, &name, *fingerprint, first);
            }
            let series = self.registry.series_id(SeriesKey { version, operation, age: key.age });
            let cell = self.registry.shorten(cell);
            for party in cell.parties() {
                self.registry.note_edge(version, party, bucket.0, Recorded::First);
            }
            self.heard.hear(bucket.0);
            self.cells.settle(series, bucket.0, &cell);
        }
        self.bound_cells();
        Ok(())
    }
}
