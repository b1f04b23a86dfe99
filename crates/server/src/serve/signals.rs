//! The aggregates, shared: the store folds into them, the watcher reads them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use plimsoll_model::{Interval, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_query::DataFusionEngine;
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_store::{Fold, Published, Store, StoreError};

use crate::api::PastRoom;
use crate::backtest::kept_for;
use crate::config::WatchConfig;
use crate::stored::KNOWN;

/// Memory of one pending cell with its histograms and values, as a round figure on the safe side.
const CELL_BYTES: u64 = 768;
/// The same of one that has settled, which is a few bytes for each of its numbers.
const SETTLED_CELL_BYTES: u64 = 320;
/// Memory of one span of an open trace.
const SPAN_BYTES: u64 = 104;
/// Memory of one cell beside operations.
const SIDE_CELL_BYTES: u64 = 256;
/// How far back the past of operations is read at start: a week, and a day for those that release on a weekday.
const HISTORY: Duration = Duration::from_secs(8 * 86_400);

/// Makes a state that stays within `bytes`: a fifth for open traces, a fifth for what is beside operations, the rest for
/// their cells.
pub(super) fn state(bytes: u64, watch: &WatchConfig) -> Arc<Mutex<SignalState>> {
    let defaults = SignalLimits::default();
    let limits = SignalLimits {
        actions: watch.actions.clone(),
        drill_attributes: defaults.drill_attributes.iter().chain(&watch.attributes).cloned().collect(),
        rolling_cells_max: fit(bytes, 40, SETTLED_CELL_BYTES),
        pending_cells_max: fit(bytes, 20, CELL_BYTES),
        open_spans_max: fit(bytes, 20, SPAN_BYTES),
        side_cells_max: fit(bytes, 20, SIDE_CELL_BYTES),
        retention: kept_for(&defaults, &watch.tolerances),
        ..defaults
    };
    Arc::new(Mutex::new(SignalState::new(limits)))
}

/// Makes room for judging the past: half of what queries may hold, and taken from that while it is used.
pub(super) fn past_room(engine: Arc<DataFusionEngine>, query_bytes: u64) -> PastRoom {
    let bytes = query_bytes / 2;
    let limits = SignalLimits {
        rolling_cells_max: fit(bytes, 70, SETTLED_CELL_BYTES),
        side_cells_max: fit(bytes, 30, SIDE_CELL_BYTES),
        ..SignalLimits::default()
    };
    PastRoom::new(limits, move || engine.hold(usize::try_from(bytes).unwrap_or(usize::MAX)))
}

fn fit(bytes: u64, percent: u64, each: u64) -> usize {
    usize::try_from(bytes / 100 * percent / each).unwrap_or(usize::MAX)
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

/// Fills the state from stored rows, as far back as it looks; the weeks before follow while it already serves.
pub(super) async fn recover(state: &Arc<Mutex<SignalState>>, store: &Store, now: UnixNanos) -> Result<(), StoreError> {
    let since = now - SignalLimits::default().retention.max(Duration::from_secs(3_600));
    let (recent, past) = ((state.clone(), store.clone()), (state.clone(), store.clone()));
    let read = tokio::task::spawn_blocking(move || {
        let (state, store) = recent;
        let (mut rows, mut unreadable) = (0, 0);
        for table in [Table::Operations, Table::Signals] {
            unreadable += store.read_segments(table, since, &mut |batch| {
                rows += batch.num_rows();
                let mut state = state.lock();
                let loaded = match table {
                    Table::Signals => state.load_recent(batch, since),
                    _ => state.load(table, batch),
                };
                if let Err(error) = loaded {
                    tracing::error!(%error, table = table.name(), "stored aggregates could not be read");
                }
            });
        }
        if rows > 0 || unreadable > 0 {
            tracing::info!(rows, unreadable, "aggregates recovered");
        }
    });
    read.await.map_err(|_| StoreError::Closed)?;
    tokio::task::spawn_blocking(move || {
        let (state, store) = past;
        let known = Interval { from: now - KNOWN, to: since };
        store.read_segments_within(Table::Operations, known, &mut |batch| {
            if let Err(error) = state.lock().load_exceptions(batch) {
                tracing::error!(%error, "stored exceptions could not be read");
            }
        });
        store.read_segments(Table::Signals, now - HISTORY, &mut |batch| {
            if let Err(error) = state.lock().load_history(batch, since) {
                tracing::error!(%error, "the stored past could not be read");
            }
        });
    });
    Ok(())
}
