//! Metric points folded: levels as they are, everything else as what was added since the point before.
//!
//! A cumulative stream counts from its second point on; its first counts whole where the stream began after the first row
//! was folded. A later start, or a value that became less, is a new beginning: the value counts whole, and the instance has
//! started anew. Points that say "no value" and points older than the one before are passed over.
//!
//! *Cost.* Two hashes a point: one names the stream, one the series.

use std::collections::BTreeMap;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::{Float64Type, Int32Type, UInt64Type};
use plimsoll_model::metric::MetricShape;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::columns::{self, Attributes, SchemaError, text_at};
use crate::intern::FixedMap;
use crate::points::Reading;
use crate::presence::{Emitted, Run};
use crate::quality::Word;
use crate::sides::{MetricId, MetricName};
use crate::spans::nanos;
use crate::state::{Emitter, Resources, SignalState};

const NO_RECORDED_VALUE: u32 = 1;
const TEMPORALITY_DELTA: i32 = 1;
const TEMPORALITY_CUMULATIVE: i32 = 2;
/// Longest name or value of an attribute kept, in bytes.
const TEXT_BYTES_MAX: usize = 128;
/// A stream silent for so long is forgotten when there is no room.
const FORGET_NS: u64 = 900_000_000_000;

/// The last point of a cumulative stream.
struct Stream {
    start: u64,
    time: u64,
    reading: Reading,
}

/// Cumulative streams by hash of everything that names them.
#[derive(Default)]
pub(crate) struct Streams {
    last: FixedMap<u128, Stream>,
    /// Series by hash of name, unit, shape and attributes.
    names: FixedMap<u128, u32>,
    swept: u64,
}

/// What a cumulative point turned out to be.
enum Added {
    /// Since the point before.
    Since(Reading),
    /// A new beginning.
    Anew(Reading),
    /// The first that is known of the stream.
    First,
    /// Not newer than the one before, or there was no room.
    LeftOut,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.last.len()
    }

    /// Forgets which series have which number, after numbers were freed.
    pub(crate) fn forget_names(&mut self) {
        self.names.clear();
    }

    fn advance(&mut self, key: u128, start: u64, time: u64, reading: Reading, opened: u64, max: usize) -> Added {
        if let Some(last) = self.last.get_mut(&key) {
            if time <= last.time {
                return Added::LeftOut;
            }
            let restarted = start > last.start && last.start > 0;
            let added = match reading.since(&last.reading) {
                Some(added) if !restarted => Added::Since(added),
                _ => Added::Anew(reading.clone()),
            };
            *last = Stream { start, time, reading };
            return added;
        }
        if self.last.len() >= max && time.saturating_sub(self.swept) > 60_000_000_000 {
            self.swept = time;
            self.last.retain(|_, stream| stream.time.saturating_add(FORGET_NS) >= time);
        }
        if self.last.len() >= max {
            return Added::LeftOut;
        }
        let whole = start > 0 && start >= opened;
        let added = if whole { Added::Since(reading.clone()) } else { Added::First };
        self.last.insert(key, Stream { start, time, reading });
        added
    }
}

impl SignalState {
    pub(crate) fn fold_metrics(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        let points = Points::of(batch)?;
        let received = columns::time(batch, "received_time")?;
        let mut resources = Resources::of(batch)?;
        let mut run = Run::new(Emitted::Point);
        for row in 0..batch.num_rows() {
            let received = nanos(received.value(row));
            self.watermark = self.watermark.max(received);
            self.registry.counters.points += 1;
            let time = nanos(points.time.value(row));
            let emitter = resources.emitter(self, row, time.min(received), received);
            let bucket = self.bucket_of(emitter.service, time, received);
            run.count(self, emitter, bucket, time.min(received));
            if points.flags.value(row) & NO_RECORDED_VALUE != 0 {
                continue;
            }
            let Some((shape, cumulative, reading)) = points.reading(row) else { continue };
            let (reading, reset) = if cumulative {
                let start = nanos(points.start.value(row));
                let key = points.stream(row, emitter, shape);
                let (opened, max) = (self.instances.opened(), self.registry.limits.streams_max);
                match self.streams.advance(key, start, time, reading, opened, max) {
                    Added::Since(reading) => (reading, false),
                    Added::Anew(reading) => {
                        self.registry.counters.resets += 1;
                        if emitter.started == 0 {
                            self.note_start(emitter, start, received);
                        }
                        (reading, true)
                    }
                    Added::First => continue,
                    Added::LeftOut => {
                        self.registry.counters.points_left_out += 1;
                        continue;
                    }
                }
            } else {
                (reading, false)
            };
            let age = Self::age_of(emitter, time);
            let Some(metric) = self.metric_id(&points, row, shape, emitter) else { continue };
            let id = MetricId { version: emitter.version, age, metric };
            let limits = self.side_limits();
            if !self.sides.metrics.contains(&id) {
                let service = &mut self.registry.service[emitter.service as usize];
                if service.metrics >= self.registry.limits.metrics_per_service_max
                    || !self.sides.metrics.has_room(limits)
                {
                    self.registry.crowded = true;
                    self.leave_point_out(emitter, received);
                    continue;
                }
                service.metrics += 1;
            }
            match self.sides.metrics.cell(&id, bucket, limits) {
                Some(cell) => {
                    reading.add_to(cell, shape);
                    cell.resets += u64::from(reset);
                }
                None => self.leave_point_out(emitter, received),
            }
        }
        run.end(self);
        Ok(())
    }

    fn leave_point_out(&mut self, emitter: Emitter, received: u64) {
        self.registry.counters.points_left_out += 1;
        self.registry.service[emitter.service as usize].quality.say(Word::MetricsLeftOut, received);
    }

    /// Returns the number of what the point's series is about; `None` where there is no room for another.
    fn metric_id(&mut self, points: &Points<'_>, row: usize, shape: MetricShape, emitter: Emitter) -> Option<u32> {
        let (name, unit) = (points.name.value(row), text_at(points.unit, row).unwrap_or(""));
        let mut hash = xxh3_128(name.as_bytes()) ^ u128::from(xxh3_64(unit.as_bytes())) ^ (shape as u128) << 120;
        let wanted = |key: &str| self.registry.limits.metric_attributes.iter().any(|known| known == key);
        for (key, value) in points.attributes.each(row).filter(|(key, _)| wanted(key)) {
            hash = hash.wrapping_add(pair_hash(key, value));
        }
        if let Some(id) = self.streams.names.get(&hash) {
            return Some(*id);
        }
        if self.metric_names.len() >= self.registry.limits.side_series_max {
            self.registry.crowded = true;
            let received = self.watermark;
            self.leave_point_out(emitter, received);
            return None;
        }
        let short = |text: &str| crate::name::truncated(text, TEXT_BYTES_MAX).to_owned();
        let attributes: BTreeMap<String, String> = points
            .attributes
            .each(row)
            .filter(|(key, _)| wanted(key))
            .map(|(key, value)| (short(key), short(value)))
            .collect();
        let what = MetricName { name: short(name).into(), unit: short(unit).into(), shape, attributes };
        let id = self.metric_names.intern(what);
        self.streams.names.insert(hash, id);
        Some(id)
    }
}

fn pair_hash(key: &str, value: &str) -> u128 {
    xxh3_128(key.as_bytes()).rotate_left(17) ^ xxh3_128(value.as_bytes())
}

/// The columns of metric points.
struct Points<'a> {
    time: &'a arrow::array::TimestampNanosecondArray,
    start: &'a arrow::array::TimestampNanosecondArray,
    name: &'a StringArray,
    unit: &'a StringArray,
    kind: &'a StringArray,
    temporality: &'a arrow::array::Int32Array,
    monotonic: &'a BooleanArray,
    value: &'a Float64Array,
    count: &'a UInt64Array,
    sum: &'a Float64Array,
    min: &'a Float64Array,
    max: &'a Float64Array,
    bounds: &'a ListArray,
    counts: &'a ListArray,
    scale: &'a arrow::array::Int32Array,
    zero_count: &'a UInt64Array,
    offset: &'a arrow::array::Int32Array,
    positive: &'a ListArray,
    negative: &'a ListArray,
    flags: &'a arrow::array::UInt32Array,
    attributes: Attributes<'a>,
}

impl<'a> Points<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        fn typed<'a, T: 'static>(
            batch: &'a RecordBatch,
            name: &str,
            cast: impl FnOnce(&'a ArrayRef) -> Option<&'a T>,
        ) -> Result<&'a T, SchemaError> {
            cast(columns::column(batch, name)?).ok_or_else(|| SchemaError::Type(name.to_owned()))
        }
        let float = |name| typed(batch, name, |array| array.as_primitive_opt::<Float64Type>());
        let whole = |name| typed(batch, name, |array| array.as_primitive_opt::<UInt64Type>());
        let int = |name| typed(batch, name, |array| array.as_primitive_opt::<Int32Type>());
        Ok(Self {
            time: columns::time(batch, "time")?,
            start: columns::time(batch, "start_time")?,
            name: columns::text(batch, "metric_name")?,
            unit: columns::text(batch, "unit")?,
            kind: columns::text(batch, "metric_type")?,
            temporality: int("temporality")?,
            monotonic: typed(batch, "is_monotonic", |array| array.as_boolean_opt())?,
            value: float("value")?,
            count: whole("count")?,
            sum: float("sum")?,
            min: float("min")?,
            max: float("max")?,
            bounds: columns::list(batch, "explicit_bounds")?,
            counts: columns::list(batch, "bucket_counts")?,
            scale: int("scale")?,
            zero_count: whole("zero_count")?,
            offset: int("positive_offset")?,
            positive: columns::list(batch, "positive_bucket_counts")?,
            negative: columns::list(batch, "negative_bucket_counts")?,
            flags: columns::uint32(batch, "flags")?,
            attributes: Attributes::of("attributes", columns::map(batch, "attributes")?)?,
        })
    }

    /// Reads a point: its shape, whether it is cumulative, and what it says. `None` where it says nothing.
    fn reading(&self, row: usize) -> Option<(MetricShape, bool, Reading)> {
        let number =
            |array: &Float64Array| (!array.is_null(row)).then(|| array.value(row)).filter(|value| value.is_finite());
        let whole = |array: &UInt64Array| if array.is_null(row) { 0 } else { array.value(row) };
        let temporality = if self.temporality.is_null(row) { 0 } else { self.temporality.value(row) };
        let cumulative = temporality == TEMPORALITY_CUMULATIVE;
        let observed = || Reading {
            value: number(self.sum).unwrap_or(0.0),
            count: whole(self.count),
            min: number(self.min),
            max: number(self.max),
            ..Reading::default()
        };
        match self.kind.value(row) {
            "gauge" => Some((MetricShape::Gauge, false, Reading { value: number(self.value)?, ..Reading::default() })),
            "sum" => {
                let reading = Reading { value: number(self.value)?, ..Reading::default() };
                let monotonic = !self.monotonic.is_null(row) && self.monotonic.value(row);
                if !monotonic && temporality != TEMPORALITY_DELTA {
                    // A level that is kept by adding and taking away.
                    return Some((MetricShape::Gauge, false, reading));
                }
                Some((MetricShape::Counter, cumulative, reading))
            }
            "histogram" => {
                let mut reading = observed();
                reading.take_explicit(&floats(self.bounds, row)?, &counts(self.counts, row)?);
                Some((MetricShape::Histogram, cumulative, reading))
            }
            "exponential_histogram" => {
                let mut reading = observed();
                reading.zeros = whole(self.zero_count) + counts(self.negative, row)?.iter().sum::<u64>();
                let int = |array: &arrow::array::Int32Array| if array.is_null(row) { 0 } else { array.value(row) };
                reading.take_exponential(int(self.scale), int(self.offset), &counts(self.positive, row)?);
                Some((MetricShape::Histogram, cumulative, reading))
            }
            // Its quantiles are of no stretch that is known, and cannot be added up.
            "summary" => Some((MetricShape::Histogram, true, observed())),
            _ => None,
        }
    }

    /// Names the stream: who emits what, with all attributes.
    fn stream(&self, row: usize, emitter: Emitter, shape: MetricShape) -> u128 {
        let mut hash = xxh3_128(self.name.value(row).as_bytes());
        for (key, value) in self.attributes.each(row) {
            hash = hash.wrapping_add(pair_hash(key, value));
        }
        let who = u128::from(emitter.instance) << 64 | u128::from(emitter.version) << 8 | shape as u128;
        xxh3_128(&[hash.to_le_bytes(), who.to_le_bytes()].concat())
    }
}

/// An absent list is empty.
fn counts(list: &ListArray, row: usize) -> Option<Vec<u64>> {
    if list.is_null(row) {
        return Some(Vec::new());
    }
    list.value(row).as_primitive_opt::<UInt64Type>().map(|values| values.values().to_vec())
}

fn floats(list: &ListArray, row: usize) -> Option<Vec<f64>> {
    if list.is_null(row) {
        return Some(Vec::new());
    }
    list.value(row).as_primitive_opt::<Float64Type>().map(|values| values.values().to_vec())
}
