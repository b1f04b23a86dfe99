//! Stored rows of `operations` and `signals` into a state.
//!
//! *Cost.* One segment is held at a time; of its rows only those wanted are looked at further, and of the others who calls whom and when
//! anything was heard.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use plimsoll_model::{Interval, ServiceKey, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_signals::SignalState;
use plimsoll_store::Store;

/// Which rows are wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Of these tables.
    pub(super) tables: &'static [Table],
    /// Of these environments.
    pub(super) environments: BTreeSet<String>,
    /// Of these services; of all, where it is empty.
    pub(super) services: BTreeSet<ServiceKey>,
    /// Rows of ten seconds that start within.
    pub(super) cells: Interval,
    /// Rows about the weeks before that start within.
    pub(super) history: Interval,
}

/// All tables of aggregates.
pub(super) const AGGREGATES: &[Table] = &[Table::Operations, Table::Signals];

/// What rows are to whoever asked for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Wanted,
    /// Of services that are not wanted, at the same times: rows of `operations` of the same environments, and who was there of any.
    Others,
}

/// What was found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loaded {
    pub(super) rows: u64,
    /// Segments that could not be read.
    pub(super) unreadable: usize,
}

impl Loaded {
    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.unreadable += other.unreadable;
    }
}

/// Says what is missing from a state that held less than was loaded into it.
pub(super) fn missing(state: &SignalState) -> Option<String> {
    let cells = state.counters().evicted_cells;
    (cells > 0).then(|| {
        format!("{cells} stored cells of ten seconds did not fit and are missing, the oldest first: set `memory.query` higher")
    })
}

/// Hands out what is wanted. Blocks.
///
/// # Errors
/// Stored rows are in another schema than this release's.
pub(super) fn load(
    store: &Store,
    wanted: &Wanted,
    add: &mut dyn FnMut(Part, Table, &RecordBatch) -> Result<(), String>,
) -> Result<Loaded, String> {
    let mut loaded = Loaded::default();
    let mut failure = None;
    for table in wanted.tables.iter().copied() {
        let within = match table {
            Table::Signals if wanted.history.from < wanted.history.to => Interval {
                from: wanted.cells.from.min(wanted.history.from),
                to: wanted.cells.to.max(wanted.history.to),
            },
            _ => wanted.cells,
        };
        if within.from >= within.to {
            continue;
        }
        loaded.unreadable += store.read_segments_within(table, within, &mut |batch| {
            let added = pick(table, batch, wanted).map_err(|error| error.to_string()).and_then(|[rows, others]| {
                loaded.rows += rows.num_rows() as u64;
                add(Part::Wanted, table, &rows)?;
                if others.num_rows() > 0 { add(Part::Others, table, &others) } else { Ok(()) }
            });
            if let Err(error) = added {
                failure.get_or_insert(error);
            }
        });
    }
    failure.map_or(Ok(loaded), Err)
}

/// Reads the stored rows of a service's operations of some time. Blocks.
///
/// # Errors
/// Stored rows are in another schema than this release's, or some cannot be read.
pub(crate) fn operations_of(store: &Store, service: &ServiceKey, within: Interval) -> Result<Vec<RecordBatch>, String> {
    let wanted = Wanted {
        tables: &[Table::Operations],
        environments: BTreeSet::from([service.environment.clone()]),
        services: BTreeSet::from([service.clone()]),
        cells: within,
        history: Interval { from: within.to, to: within.to },
    };
    let mut found = Vec::new();
    let loaded = load(store, &wanted, &mut |part, _, rows| {
        if part == Part::Wanted && rows.num_rows() > 0 {
            found.push(rows.clone());
        }
        Ok(())
    })?;
    if loaded.unreadable > 0 {
        return Err(format!("{} segments cannot be read", loaded.unreadable));
    }
    Ok(found)
}

/// Adds rows to a state.
pub(super) fn into(state: &mut SignalState, part: Part, table: Table, rows: &RecordBatch) -> Result<(), String> {
    let added = match part {
        Part::Wanted => state.load(table, rows),
        Part::Others if table == Table::Signals => state.load_heard(rows),
        Part::Others => state.load_edges(rows).map(drop),
    };
    added.map_err(|error| error.to_string())
}

/// Picks the rows that are wanted, and those of the other services.
fn pick(table: Table, batch: &RecordBatch, wanted: &Wanted) -> Result<[RecordBatch; 2], ArrowError> {
    let text = |name: &str| -> Result<StringArray, ArrowError> {
        let column =
            batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))?;
        Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
    };
    let start = batch.column_by_name("bucket_start");
    let start = start.ok_or_else(|| ArrowError::SchemaError("no column `bucket_start`".to_owned()))?;
    let start = cast(start, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
    let start = start.as_primitive::<TimestampNanosecondType>();
    let (environment, namespace, service) = (text("environment")?, text("service_namespace")?, text("service_name")?);
    let kind = if table == Table::Signals { Some(text("kind")?) } else { None };
    let value = |column: &StringArray, row: usize| if column.is_null(row) { "" } else { column.value(row) }.to_owned();
    let mut picked = [Vec::with_capacity(batch.num_rows()), Vec::with_capacity(batch.num_rows())];
    for row in 0..batch.num_rows() {
        let at = UnixNanos(u64::try_from(start.value(row)).unwrap_or(0));
        let kind = kind.as_ref().map_or("", |kind| kind.value(row));
        let past = matches!(kind, "history" | "metric_history");
        let within = if past { wanted.history } else { wanted.cells };
        let environment = value(&environment, row);
        let then = at >= within.from && at < within.to;
        let there = then && wanted.environments.contains(&environment);
        // A path bears on every service that it leads through.
        let fits = there
            && (wanted.services.is_empty() || kind == "path" || {
                let key = ServiceKey { environment, namespace: value(&namespace, row), service: value(&service, row) };
                wanted.services.contains(&key)
            });
        picked[0].push(fits);
        picked[1].push(!fits && if table == Table::Operations { there } else { then && kind == "presence" });
    }
    let [wanted, others] = picked.map(BooleanArray::from);
    Ok([filter_record_batch(batch, &wanted)?, filter_record_batch(batch, &others)?])
}
