//! The columns of metric points, and what one row of them says.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, UInt32Type, UInt64Type};
use plimsoll_model::metric::MetricShape;

use crate::attributes::Attributes;
use crate::columns::{self, Lists, Numbers, SchemaError, SharedText, Times};
use crate::points::{Edges, Reading};

const TEMPORALITY_DELTA: i32 = 1;
const TEMPORALITY_CUMULATIVE: i32 = 2;

/// The types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
    #[default]
    Unknown,
}

impl Kind {
    fn parse(name: &str) -> Self {
        match name {
            "gauge" => Self::Gauge,
            "sum" => Self::Sum,
            "histogram" => Self::Histogram,
            "exponential_histogram" => Self::Exponential,
            "summary" => Self::Summary,
            _ => Self::Unknown,
        }
    }
}

/// The metric that a point is of.
#[derive(Clone, Copy, Default)]
pub(crate) struct Head<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'a str,
    kind: Kind,
}

pub(crate) struct Points<'a> {
    pub(crate) time: Times<'a>,
    pub(crate) start: Times<'a>,
    pub(crate) flags: Numbers<'a, u32>,
    pub(crate) attributes: Attributes<'a>,
    /// Name, unit and type of each point's metric, by number.
    heads: [SharedText<'a>; 3],
    temporality: Numbers<'a, i32>,
    monotonic: &'a BooleanArray,
    value: Numbers<'a, f64>,
    count: Numbers<'a, u64>,
    sum: Numbers<'a, f64>,
    min: Numbers<'a, f64>,
    max: Numbers<'a, f64>,
    bounds: Lists<'a, f64>,
    counts: Lists<'a, u64>,
    scale: Numbers<'a, i32>,
    zero_count: Numbers<'a, u64>,
    offset: Numbers<'a, i32>,
    positive: Lists<'a, u64>,
    negative: Lists<'a, u64>,
    /// The numbers of the metric turned to last, and what they stand for.
    head: ([u32; 3], Head<'a>),
    edges: Edges,
}

impl<'a> Points<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        let float = |name| Numbers::of::<Float64Type>(batch, name);
        let whole = |name| Numbers::of::<UInt64Type>(batch, name);
        let int = |name| Numbers::of::<Int32Type>(batch, name);
        let counts = |name| Lists::of::<UInt64Type>(batch, name);
        let shared = |name| SharedText::of(batch, name);
        Ok(Self {
            time: Times::of(batch, "time")?,
            start: Times::of(batch, "start_time")?,
            flags: Numbers::of::<UInt32Type>(batch, "flags")?,
            attributes: Attributes::of("attributes", columns::map(batch, "attributes")?)?,
            heads: [shared("metric_name")?, shared("unit")?, shared("metric_type")?],
            temporality: int("temporality")?,
            monotonic: columns::typed("is_monotonic", columns::column(batch, "is_monotonic")?.as_boolean_opt())?,
            value: float("value")?,
            count: whole("count")?,
            sum: float("sum")?,
            min: float("min")?,
            max: float("max")?,
            bounds: Lists::of::<Float64Type>(batch, "explicit_bounds")?,
            counts: counts("bucket_counts")?,
            scale: int("scale")?,
            zero_count: whole("zero_count")?,
            offset: int("positive_offset")?,
            positive: counts("positive_bucket_counts")?,
            negative: counts("negative_bucket_counts")?,
            head: ([u32::MAX; 3], Head::default()),
            edges: Edges::default(),
        })
    }

    /// Turns to the metric of a row; returns it where it may be another than that of the row turned to before.
    #[inline(always)]
    pub(crate) fn turn(&mut self, row: usize) -> Option<Head<'a>> {
        let numbers = [self.heads[0].key(row), self.heads[1].key_or_none(row), self.heads[2].key(row)];
        if numbers == self.head.0 {
            return None;
        }
        let [name, unit, kind] = &self.heads;
        let head = Head { name: name.value(row), unit: unit.value(row), kind: Kind::parse(kind.value(row)) };
        self.head = (numbers, head);
        Some(head)
    }

    /// Returns the metric turned to last.
    pub(crate) fn head(&self) -> Head<'a> {
        self.head.1
    }

    /// Reads a point of the metric turned to last: its shape, and whether it is cumulative. `None` where it says nothing.
    pub(crate) fn read(&mut self, row: usize, reading: &mut Reading) -> Option<(MetricShape, bool)> {
        let number = |column: Numbers<'_, f64>| column.get(row).filter(|value| value.is_finite());
        let temporality = self.temporality.or_zero(row);
        let cumulative = temporality == TEMPORALITY_CUMULATIVE;
        reading.clear();
        let kind = self.head.1.kind;
        if matches!(kind, Kind::Gauge | Kind::Sum) {
            reading.value = number(self.value)?;
        } else {
            reading.value = number(self.sum).unwrap_or(0.0);
            reading.count = self.count.or_zero(row);
            (reading.min, reading.max) = (number(self.min), number(self.max));
        }
        match kind {
            Kind::Gauge => Some((MetricShape::Gauge, false)),
            Kind::Sum => {
                let monotonic = !self.monotonic.is_null(row) && self.monotonic.value(row);
                if !monotonic && temporality != TEMPORALITY_DELTA {
                    // A level that is kept by adding and taking away.
                    return Some((MetricShape::Gauge, false));
                }
                Some((MetricShape::Counter, cumulative))
            }
            Kind::Histogram => {
                reading.take_explicit(self.edges.set(self.bounds.get(row)), self.counts.get(row));
                Some((MetricShape::Histogram, cumulative))
            }
            Kind::Exponential => {
                let negative = self.negative.get(row).iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
                reading.zeros = self.zero_count.or_zero(row).saturating_add(negative);
                reading.take_exponential(self.scale.or_zero(row), self.offset.or_zero(row), self.positive.get(row));
                Some((MetricShape::Histogram, cumulative))
            }
            // Its quantiles are of no stretch that is known, and cannot be added up.
            Kind::Summary => Some((MetricShape::Histogram, true)),
            Kind::Unknown => None,
        }
    }
}
