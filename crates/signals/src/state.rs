//! The folded state: its parts, and the passing of time.
//!
//! *Concurrency.* A plain value: the caller guards it. The thread that folds holds the guard for one batch (a fraction of
//! a millisecond for a thousand spans), the watcher for one query; nothing in here waits.
//!
//! *Time.* No clock is read. The watermark is the latest time at which a folded row was received; traces close and old
//! buckets go as it passes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use plimsoll_model::signal::{AgeClass, OperationKind};
use plimsoll_model::{Bucket, ServiceKey, UnixNanos};
use plimsoll_otlp::Table;

use crate::belated::Noted;
use crate::cell::Cell;
use crate::cells::CellStore;
use crate::close::Closing;
use crate::columns::SchemaError;
use crate::drill::DrillKeys;
use crate::heard::Heard;
use crate::instances::Instances;
use crate::intern::{FixedMap, RecentHashes};
use crate::limits::{SignalCounters, SignalLimits};
use crate::lines::KnownLines;
use crate::quality::Word;
use crate::registry::{NO_NAME, Registry, SeriesKey};
use crate::resources::Emitter;
use crate::sides::{MetricNames, Sides};
use crate::streams::Streams;
use crate::traces::OpenTraces;

/// Nothing is freed more often than this, in nanoseconds of the watermark.
const GARBAGE_INTERVAL_NS: u64 = 60_000_000_000;
/// An end this long before receipt is said to be late.
pub(crate) const LATE_NS: u64 = 3_600_000_000_000;
/// An end this long before receipt is not believed.
const PAST_NS: u64 = 24 * 3_600_000_000_000;
/// An end this long after receipt is not believed.
pub(crate) const FUTURE_NS: u64 = 600_000_000_000;

/// A version that was seen for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionObservation {
    /// Who emitted it.
    pub service: ServiceKey,
    /// The version; empty where the service tells none.
    pub version: String,
    /// Event time of the first row folded of it.
    pub first_seen: UnixNanos,
}

/// Everything folded so far, within its bounds.
pub struct SignalState {
    pub(crate) registry: Registry,
    pub(crate) cells: CellStore,
    pub(crate) traces: OpenTraces,
    pub(crate) instances: Instances,
    /// `None` while traces are closed.
    pub(crate) closing: Option<Box<Closing>>,
    pub(crate) sides: Sides,
    pub(crate) metric_names: MetricNames,
    pub(crate) streams: Streams,
    /// Places of metric series by hash of everything that names them, and as of which epoch.
    pub(crate) known_series: RecentHashes,
    pub(crate) series_epoch: u64,
    pub(crate) drill_keys: DrillKeys,
    /// Numbers of the attributes that have a column: status of HTTP, type of error, address of the server.
    pub(crate) drill_columns: [u32; 3],
    /// Allow-listed attributes of resources by hash of their text.
    pub(crate) resource_values: FixedMap<u64, Arc<[(u32, u32)]>>,
    /// Numbers of attribute and value of the span at hand; made once.
    pub(crate) values_at_hand: Vec<(u32, u32)>,
    /// Text of the template at hand, and its skeleton.
    pub(crate) template_at_hand: String,
    pub(crate) skeleton_at_hand: Vec<u8>,
    pub(crate) lines: KnownLines,
    pub(crate) watermark: u64,
    pub(crate) heard: Heard,
    pub(crate) belated: Noted,
    pub(crate) new_versions: Vec<VersionObservation>,
    retired_before: u64,
    collected_at: u64,
}

impl SignalState {
    /// Makes an empty state.
    pub fn new(limits: SignalLimits) -> Self {
        let mut registry = Registry::new(limits);
        let keys = registry.limits.drill_attributes.clone();
        let drill_keys = DrillKeys::new(keys.into_iter().map(|key| {
            let number = registry.name_id(&key);
            (key, number)
        }));
        let drill_columns =
            ["http.response.status_code", "error.type", "server.address"].map(|key| registry.name_id(key));
        Self {
            registry,
            drill_columns,
            sides: Sides::default(),
            metric_names: MetricNames::new(),
            streams: Streams::default(),
            known_series: RecentHashes::new(),
            series_epoch: 0,
            drill_keys,
            resource_values: FixedMap::default(),
            values_at_hand: Vec::new(),
            template_at_hand: String::new(),
            skeleton_at_hand: Vec::new(),
            lines: KnownLines::new(),
            cells: CellStore::default(),
            traces: OpenTraces::new(),
            instances: Instances::default(),
            closing: Some(Box::default()),
            watermark: 0,
            heard: Heard::default(),
            belated: Noted::default(),
            new_versions: Vec::new(),
            retired_before: 0,
            collected_at: 0,
        }
    }

    /// Folds one stored batch. Rows of aggregates are passed over: [`Self::load`] takes them.
    ///
    /// # Errors
    /// The batch is not in the table's stored schema; nothing of it was folded.
    pub fn fold(&mut self, table: Table, batch: &RecordBatch) -> Result<(), SchemaError> {
        match table {
            Table::Spans => self.fold_spans(batch)?,
            Table::Logs => self.fold_logs(batch)?,
            Table::Metrics => self.fold_metrics(batch)?,
            Table::Operations | Table::Signals => return Ok(()),
        }
        self.pass_time();
        Ok(())
    }

    /// Lets time pass without any telemetry: traces close and old buckets go as if something had been received at `to`.
    pub fn pass(&mut self, to: UnixNanos) {
        self.watermark = self.watermark.max(to.0);
        self.pass_time();
    }

    /// Closes every open trace, as if nothing more could come: for the end of a recording.
    pub fn close_traces(&mut self) {
        self.close_until(u64::MAX);
    }

    /// Returns the latest time at which a folded row was received.
    pub fn watermark(&self) -> UnixNanos {
        UnixNanos(self.watermark)
    }

    /// Returns what was folded, and what did not fit.
    pub fn counters(&self) -> SignalCounters {
        self.registry.counters
    }

    fn pass_time(&mut self) {
        let limits = &self.registry.limits;
        let idle = limits.trace_idle;
        let room = [limits.open_spans_max as u64, limits.open_exceptions_max as u64];
        let [all, kept] = [self.traces.took_room(), self.traces.kept()];
        self.traces.keeping.look(self.watermark, [all, kept], room, idle);
        self.close_until(self.watermark.saturating_sub(idle.as_nanos() as u64));
        self.make_room();
        let retention = self.registry.limits.retention.as_nanos() as u64;
        let keep = UnixNanos(self.watermark.saturating_sub(retention)).bucket().0;
        if keep > self.retired_before {
            self.retired_before = keep;
            let registry = &self.registry;
            self.cells.retire(|series| registry.need_of_operation(registry.series.key(series).operation).floor(keep));
            self.sides.retire(keep, self.watermark, registry);
            self.registry.edges.retain(|_, last| *last >= keep);
        }
        self.bound_cells();
        if self.registry.crowded && self.watermark.saturating_sub(self.collected_at) >= GARBAGE_INTERVAL_NS {
            self.collected_at = self.watermark;
            self.registry.crowded = false;
            self.collect_garbage();
        }
    }

    pub(crate) fn bound_cells(&mut self) {
        let limits = self.side_limits();
        if self.sides.cells() > limits.cells {
            self.registry.counters.evicted_cells += self.sides.bound(limits, &self.registry) as u64;
        }
        let max = self.registry.limits.rolling_cells_max;
        if self.cells.rolling_len() > max {
            // A tenth more than needed, so that this is rare.
            let (mut forgotten, registry) = (Vec::new(), &self.registry);
            let service_of = |series: u32| registry.operations.key(registry.series.key(series).operation).service;
            let need = |series: u32| registry.service[service_of(series) as usize].need;
            let gone = self.cells.shrink(max - max / 10, need, |series, last| {
                forgotten.push((service_of(series), last + 1));
            });
            self.registry.counters.evicted_cells += gone as u64;
            for (service, bucket) in forgotten {
                let known = &mut self.registry.service[service as usize].forgotten;
                *known = bucket.max(*known);
            }
        }
    }

    /// Returns the cell that something is to be counted in; `None` where there is no room, which is counted.
    pub(crate) fn cell(&mut self, version: u32, operation: u32, age: AgeClass, bucket: u64) -> Option<&mut Cell> {
        let series = self.registry.series_id(SeriesKey { version, operation, age });
        self.cell_of(series, bucket)
    }

    /// Returns the cell of a series that something is to be counted in; `None` where there is no room, which is counted.
    #[inline(always)]
    pub(crate) fn cell_of(&mut self, series: u32, bucket: u64) -> Option<&mut Cell> {
        let cell = self.cells.pending_cell(series, bucket, self.registry.limits.pending_cells_max);
        if cell.is_none() {
            self.registry.drop_cell(series, self.watermark);
        }
        cell
    }

    /// Returns the operation that stands for the service as a whole.
    pub(crate) fn service_operation(&mut self, service: u32) -> u32 {
        self.registry.operation_id(service, OperationKind::Internal, NO_NAME)
    }

    /// Finds the bucket of something that ended at `end` and was received at `received`.
    pub(crate) fn bucket_of(&mut self, service: u32, end: u64, received: u64) -> u64 {
        let believed = end.saturating_add(PAST_NS) >= received && end <= received.saturating_add(FUTURE_NS);
        if !believed {
            self.registry.counters.misdated_spans += 1;
            self.registry.service[service as usize].quality.say(Word::MisdatedSpans, received);
            return UnixNanos(received).bucket().0;
        }
        if end.saturating_add(LATE_NS) < received {
            self.registry.counters.late_spans += 1;
            self.registry.service[service as usize].quality.say(Word::LateSpans, received);
        }
        end / Bucket::WIDTH_NS
    }

    pub(crate) fn age_of(emitter: Emitter, at: u64) -> AgeClass {
        match at.saturating_sub(emitter.started) {
            _ if emitter.started == 0 => AgeClass::Warm,
            0..60_000_000_000 => AgeClass::Cold,
            60_000_000_000..300_000_000_000 => AgeClass::Warming,
            _ => AgeClass::Warm,
        }
    }
}
