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
use xxhash_rust::xxh3::xxh3_64;

use crate::assembly::Assembly;
use crate::cell::Cell;
use crate::cells::CellStore;
use crate::columns::{SchemaError, SharedText};
use crate::drill::DrillKeys;
use crate::instances::Instances;
use crate::intern::FixedMap;
use crate::limits::{SignalCounters, SignalLimits};
use crate::metrics::Streams;
use crate::quality::Word;
use crate::registry::{NO_NAME, Registry, SeriesKey};
use crate::sides::{MetricNames, Sides};
use crate::traces::{ClosedTrace, OpenTraces};

/// Nothing is freed more often than this, in nanoseconds of the watermark.
const GARBAGE_INTERVAL_NS: u64 = 60_000_000_000;
/// Resources whose attributes are remembered; all are forgotten when there are more.
const RESOURCES_MAX: usize = 4_096;
/// An end this long before receipt is said to be late.
const LATE_NS: u64 = 3_600_000_000_000;
/// An end this long before receipt is not believed.
const PAST_NS: u64 = 24 * 3_600_000_000_000;
/// An end this long after receipt is not believed.
const FUTURE_NS: u64 = 600_000_000_000;

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
    pub(crate) assembly: Assembly,
    pub(crate) closed: ClosedTrace,
    pub(crate) sides: Sides,
    pub(crate) metric_names: MetricNames,
    pub(crate) streams: Streams,
    pub(crate) drill_keys: DrillKeys,
    /// Numbers of the attributes that have a column: status of HTTP, type of error, address of the server.
    pub(crate) drill_columns: [u32; 3],
    /// Allow-listed attributes of resources by hash of their text.
    pub(crate) resource_values: FixedMap<u64, Arc<[(u32, u32)]>>,
    /// Numbers of attribute and value of the span at hand; made once.
    pub(crate) values_at_hand: Vec<(u32, u32)>,
    /// Versions of the trace at hand.
    pub(crate) path_at_hand: Vec<u32>,
    /// Text of the template at hand.
    pub(crate) template_at_hand: String,
    pub(crate) watermark: u64,
    pub(crate) new_versions: Vec<VersionObservation>,
    retired_before: u64,
    collected_at: u64,
}

/// Who emitted a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Emitter {
    pub(crate) service: u32,
    pub(crate) version: u32,
    /// When the instance started; 0 where unknown.
    pub(crate) started: u64,
    /// Hash of the instance's id, or of its resource where it has none.
    pub(crate) instance: u64,
    /// Its place among the resources of the batch.
    pub(crate) resource: u32,
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
            drill_keys,
            resource_values: FixedMap::default(),
            values_at_hand: Vec::new(),
            path_at_hand: Vec::new(),
            template_at_hand: String::new(),
            cells: CellStore::default(),
            traces: OpenTraces::new(),
            instances: Instances::default(),
            assembly: Assembly::default(),
            closed: ClosedTrace::default(),
            watermark: 0,
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
        let idle = self.registry.limits.trace_idle.as_nanos() as u64;
        self.close_until(self.watermark.saturating_sub(idle));
        while self.traces.open_spans() > self.registry.limits.open_spans_max
            || self.traces.open_exceptions() > self.registry.limits.open_exceptions_max
        {
            let mut closed = std::mem::take(&mut self.closed);
            if self.traces.take_oldest(u64::MAX, &mut closed) {
                closed.partial = true;
                self.registry.counters.traces_evicted += 1;
                self.close(&mut closed);
            }
            self.closed = closed;
        }
        let retention = self.registry.limits.retention.as_nanos() as u64;
        let keep = UnixNanos(self.watermark.saturating_sub(retention)).bucket().0;
        if keep > self.retired_before {
            self.retired_before = keep;
            self.cells.retire(keep);
            self.sides.retire(keep, self.watermark);
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
            self.registry.counters.evicted_cells += self.sides.bound(limits) as u64;
        }
        let max = self.registry.limits.rolling_cells_max;
        if self.cells.rolling_len() > max {
            // A tenth more than needed, so that this is rare.
            self.registry.counters.evicted_cells += self.cells.shrink(max - max / 10) as u64;
        }
    }

    fn close_until(&mut self, before: u64) {
        let mut closed = std::mem::take(&mut self.closed);
        while self.traces.take_oldest(before, &mut closed) {
            self.close(&mut closed);
        }
        self.closed = closed;
    }

    /// Returns the cell that something is to be counted in; `None` where there is no room, which is counted.
    pub(crate) fn cell(&mut self, version: u32, operation: u32, age: AgeClass, bucket: u64) -> Option<&mut Cell> {
        let series = self.registry.series_id(SeriesKey { version, operation, age });
        let cell = self.cells.pending_cell(series, bucket, self.registry.limits.pending_cells_max);
        if cell.is_none() {
            self.registry.counters.dropped += 1;
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

    /// Finds the allow-listed attributes in the JSON text of a resource.
    fn resource_values(&mut self, attributes: &str) -> Arc<[(u32, u32)]> {
        let hash = xxh3_64(attributes.as_bytes());
        if let Some(known) = self.resource_values.get(&hash) {
            return Arc::clone(known);
        }
        let mut found = Vec::new();
        for (key, number) in self.drill_keys.each() {
            let begin = format!("\"{key}\":\"");
            if let Some(value) = attributes.split_once(&begin).and_then(|(_, rest)| rest.split('"').next()) {
                found.push((number, self.registry.value_id(value)));
            }
        }
        if self.resource_values.len() >= RESOURCES_MAX {
            self.resource_values.clear();
        }
        let found: Arc<[(u32, u32)]> = found.into();
        self.resource_values.insert(hash, Arc::clone(&found));
        found
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

/// The columns that say who emitted a row.
pub(crate) struct Resources<'a> {
    environment: SharedText<'a>,
    namespace: SharedText<'a>,
    name: SharedText<'a>,
    version: SharedText<'a>,
    instance: SharedText<'a>,
    attributes: SharedText<'a>,
    /// All of them have the same keys, so that one tells a resource.
    shared: bool,
    known: Vec<([u32; 6], Emitter)>,
    /// Allow-listed attributes of each, as numbers of attribute and value.
    values: Vec<Arc<[(u32, u32)]>>,
    last: usize,
}

impl<'a> Resources<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        let name = SharedText::of(batch, "service_name")?;
        let environment = SharedText::of(batch, "environment")?;
        let namespace = SharedText::of(batch, "service_namespace")?;
        let version = SharedText::of(batch, "service_version")?;
        let instance = SharedText::of(batch, "service_instance_id")?;
        let attributes = SharedText::of(batch, "resource_attributes")?;
        let shared = [&environment, &namespace, &version, &instance, &attributes].iter().all(|t| t.has_keys_of(&name));
        Ok(Self {
            environment,
            namespace,
            name,
            version,
            instance,
            attributes,
            shared,
            known: Vec::new(),
            values: Vec::new(),
            last: 0,
        })
    }

    /// Returns the allow-listed attributes of an emitter's resource.
    pub(crate) fn values(&self, emitter: Emitter) -> &[(u32, u32)] {
        &self.values[emitter.resource as usize]
    }

    /// Says who emitted a row; looked up once for each resource of the batch.
    pub(crate) fn emitter(&mut self, state: &mut SignalState, row: usize, at: u64, received: u64) -> Emitter {
        let keys = if self.shared {
            [self.name.key(row); 6]
        } else {
            [&self.environment, &self.namespace, &self.name, &self.version, &self.instance, &self.attributes]
                .map(|text| text.key(row))
        };
        if let Some((known, emitter)) = self.known.get(self.last)
            && *known == keys
        {
            return *emitter;
        }
        if let Some(at) = self.known.iter().position(|(known, _)| *known == keys) {
            self.last = at;
            return self.known[at].1;
        }
        let service = ServiceKey {
            environment: self.environment.value(row).to_owned(),
            namespace: self.namespace.value(row).to_owned(),
            service: self.name.value(row).to_owned(),
        };
        let (version, new) = state.registry.version_id(&service, self.version.value(row));
        if new {
            state.registry.version[version as usize].first_seen = UnixNanos(at);
            state.observe_version(version, UnixNanos(at));
        }
        let service = state.registry.versions.key(version).service;
        let (instance, attributes) = (self.instance.value(row), self.attributes.value(row));
        let max = state.registry.limits.instances_max;
        let start = state.instances.started(version, instance, attributes, at, received, max);
        state.registry.counters.untracked_instances += u64::from(!start.tracked);
        if self.version.value(row).is_empty() {
            state.registry.service[service as usize].quality.say(Word::UnversionedTelemetry, received);
        }
        let resource = self.known.len() as u32;
        let emitter = Emitter { service, version, started: start.at, instance: start.instance, resource };
        if start.new {
            state.note_start(emitter, start.at, received);
        }
        self.values.push(state.resource_values(attributes));
        self.last = self.known.len();
        self.known.push((keys, emitter));
        emitter
    }
}
