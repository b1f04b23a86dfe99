//! The aggregates, shared: the store folds into them, the watcher reads them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::Table;
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_store::{Fold, Published, Store, StoreError};

/// Memory of one rolling or pending cell with its histogram, as a round figure on the safe side.
const CELL_BYTES: u64 = 512;
/// Memory of one span of an open trace.
const SPAN_BYTES: u64 = 96;

/// Makes a state that stays within `bytes`: a quarter for open traces, the rest for cells.
pub(super) fn state(bytes: u64) -> Arc<Mutex<SignalState>> {
    let fit = |share: u64, each: u64| usize::try_from(bytes * share / 100 / each).unwrap_or(usize::MAX);
    let limits = SignalLimits {
        rolling_cells_max: fit(50, CELL_BYTES),
        pending_cells_max: fit(25, CELL_BYTES),
        open_spans_max: fit(25, SPAN_BYTES),
        ..SignalLimits::default()
    };
    Arc::new(Mutex::new(SignalState::new(limits)))
}

/// Lets the store fold into the state.
pub(super) struct Folding(pub(super) Arc<Mutex<SignalState>>);

impl Fold for Folding {
    fn fold(&mut self, rows: &Published) {
        if let Err(error) = self.0.lock().fold(rows.signal.table(), &rows.batch) {
            // Rows come from the decoder of the same build: only a mistake in this one gets here.
            tracing::error!(%error, frame = %rows.sequence, "rows could not be folded into aggregates");
        }
    }

    fn pending(&self) -> Vec<(Table, RecordBatch)> {
        self.0.lock().pending_rows()
    }

    fn take(&mut self) -> Vec<(Table, RecordBatch)> {
        self.0.lock().take_rows()
    }
}

/// Fills the state from stored rows, as far back as it looks.
pub(super) async fn recover(state: &Arc<Mutex<SignalState>>, store: &Store, now: UnixNanos) -> Result<(), StoreError> {
    let (state, store) = (state.clone(), store.clone());
    let since = now - SignalLimits::default().retention.max(Duration::from_secs(3_600));
    let read = tokio::task::spawn_blocking(move || {
        let (mut rows, mut unreadable) = (0, 0);
        for (table, since) in [(Table::Operations, since), (Table::Signals, since)] {
            unreadable += store.read_segments(table, since, &mut |batch| {
                rows += batch.num_rows();
                if let Err(error) = state.lock().load(table, batch) {
                    tracing::error!(%error, table = table.name(), "stored aggregates could not be read");
                }
            });
        }
        if rows > 0 || unreadable > 0 {
            tracing::info!(rows, unreadable, "aggregates recovered");
        }
    });
    read.await.map_err(|_| StoreError::Closed)
}
