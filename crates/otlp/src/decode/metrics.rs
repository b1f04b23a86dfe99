//! Metrics into columns: one row a data point, the metric's own fields by number on each.
//!
//! *Rules.* A metric without data, of a type that is not known, or without points gives no rows. Of data of several types
//! in one metric, which protobuf does not let an encoder write, the last counts.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Int32Type};

use super::attributes::Attributes;
use super::columns::{NotUtf8, OptionalNumber};
use super::heads::{Head, Heads};
use super::points::{PointKind, Points};
use super::sizes::{Learned, Sizes};
use super::taking::Taking;
use super::walk::{Records, Scratch, collect};
use super::{Rejected, check_repeated};
use crate::proto::{
    Message, exponential_histogram, exponential_point, gauge, histogram, histogram_point, key_value, metric,
    number_point, resource_metrics, scope_metrics, sum, summary, summary_point,
};
use crate::value::Room;
use crate::wire::{Reader, Result};

static LEARNED: Learned = Learned::new();

/// What an entry of the metadata takes in a row beside its text.
const ENTRY_BYTES: usize = 16;

/// The columns of `metrics` behind the common ones.
#[derive(Default)]
pub(super) struct Metrics {
    points: Points,
    heads: Heads,
    temporality: OptionalNumber<i32>,
    is_monotonic: OptionalNumber<bool>,
    metadata: Attributes,
}

/// What tells the types of metric apart.
struct DataKind {
    name: &'static str,
    message: &'static Message,
    point: &'static Message,
    kind: PointKind,
    has_temporality: bool,
    is_sum: bool,
}

const GAUGE: DataKind = DataKind {
    name: "gauge",
    message: &gauge::MESSAGE,
    point: &number_point::MESSAGE,
    kind: PointKind::Number,
    has_temporality: false,
    is_sum: false,
};
const SUM: DataKind = DataKind { name: "sum", message: &sum::MESSAGE, has_temporality: true, is_sum: true, ..GAUGE };
const HISTOGRAM: DataKind = DataKind {
    name: "histogram",
    message: &histogram::MESSAGE,
    point: &histogram_point::MESSAGE,
    kind: PointKind::Histogram,
    has_temporality: true,
    is_sum: false,
};
const EXPONENTIAL: DataKind = DataKind {
    name: "exponential_histogram",
    message: &exponential_histogram::MESSAGE,
    point: &exponential_point::MESSAGE,
    kind: PointKind::Exponential,
    ..HISTOGRAM
};
const SUMMARY: DataKind = DataKind {
    name: "summary",
    message: &summary::MESSAGE,
    point: &summary_point::MESSAGE,
    kind: PointKind::Summary,
    ..GAUGE
};

fn data_kind(tag: u32) -> Option<&'static DataKind> {
    Some(match tag {
        metric::GAUGE => &GAUGE,
        metric::SUM => &SUM,
        metric::HISTOGRAM => &HISTOGRAM,
        metric::EXPONENTIAL_HISTOGRAM => &EXPONENTIAL,
        metric::SUMMARY => &SUMMARY,
        _ => return None,
    })
}

impl Records for Metrics {
    const RESOURCE_LEVEL: &'static Message = &resource_metrics::MESSAGE;
    const SCOPE_LEVEL: &'static Message = &scope_metrics::MESSAGE;
    const RECORD: &'static Message = &metric::MESSAGE;
    const LEARNED: &'static Learned = &LEARNED;

    fn joined() -> Self {
        Self { heads: Heads::joined(), ..Self::default() }
    }

    fn reserve(&mut self, expected: Sizes) {
        self.points.reserve(expected);
        self.heads.reserve(expected.rows);
        self.metadata.reserve(Sizes { rows: expected.rows, ..Sizes::default() });
    }

    fn sizes(&self) -> Sizes {
        self.points.sizes()
    }

    fn rows(&self) -> usize {
        self.points.rows()
    }

    fn nested_rows(&self) -> usize {
        self.points.exemplars()
    }

    fn parts(&self) -> usize {
        self.points.parts() + self.metadata.entries()
    }

    fn push<'a>(&mut self, mut reader: Reader<'a>, _received: i64, scratch: &mut Scratch<'a>) -> Result<()> {
        let (mut name, mut description, mut unit) = ("", "", "");
        let mut data: Option<&DataKind> = None;
        let metric = reader;
        let Scratch { metadata: metadata_parts, data: data_parts, request, repeated, copied, room, .. } = scratch;
        metadata_parts.clear();
        data_parts.clear();
        while let Some(tag) = reader.tag()? {
            match tag {
                metric::NAME => name = reader.text("name")?,
                metric::DESCRIPTION => description = reader.text("description")?,
                metric::UNIT => unit = reader.text("unit")?,
                metric::METADATA => collect(metadata_parts, reader.message(&key_value::MESSAGE)?)?,
                other => match data_kind(other) {
                    Some(kind) => {
                        if data.is_some_and(|before| before.name != kind.name) {
                            data_parts.clear();
                        }
                        data = Some(kind);
                        collect(data_parts, reader.message(kind.message)?)?;
                    }
                    None => reader.skip(other)?,
                },
            }
        }
        let first = self.points.rows();
        let Some(kind) = data else { return self.end_metric(first, metadata_parts, room) };
        let (temporality, is_monotonic) = self.read_data(kind, data_parts, room)?;
        let last = self.points.rows();
        let metadata: usize = metadata_parts.iter().map(|part| part.rest().len() + ENTRY_BYTES).sum();
        let each = name.len() + description.len() + unit.len() + metadata;
        *repeated = each.saturating_mul(last - first).saturating_add(*repeated);
        *copied = metadata.saturating_mul(last - first).saturating_add(*copied);
        check_repeated(&metric, *request, *repeated)?;
        self.heads.push(&Head { name, description, unit, kind: kind.name }, last);
        if kind.has_temporality {
            self.temporality.set_all(first..last, temporality);
        }
        if kind.is_sum {
            self.is_monotonic.set_all(first..last, is_monotonic);
        }
        self.end_metric(first, metadata_parts, room)
    }

    fn rejected(&mut self) -> Rejected {
        self.points.rejected()
    }

    fn is_text(&self, rows: usize) -> bool {
        // What stands in the metric itself was read as text.
        self.points.is_text(rows) && self.metadata.is_text(rows)
    }

    fn keep(&mut self) {
        self.points.keep();
        self.heads.keep();
        self.metadata.keep();
    }

    fn cut(&mut self, rows: usize) {
        self.points.cut(rows);
        self.heads.cut(rows);
        self.temporality.truncate(rows);
        self.is_monotonic.truncate(rows);
        self.metadata.cut(rows);
    }

    fn finish(&mut self, columns: &mut Vec<ArrayRef>, taking: &mut Taking) -> std::result::Result<(), NotUtf8> {
        let rows = self.points.rows();
        let points = self.points.finish(taking)?;
        let is_monotonic: ArrayRef = match self.is_monotonic.parts(rows, taking) {
            Some((values, nulls)) => Arc::new(BooleanArray::new(values.into(), Some(nulls))),
            None => taking.absent(&DataType::Boolean, rows, || Arc::new(BooleanArray::new_null(rows))),
        };
        let (metadata, metadata_types) = self.metadata.finish(taking)?;
        columns.extend(points.times);
        columns.extend(self.heads.finish(taking)?);
        columns.extend([self.temporality.finish::<Int32Type>(rows, taking), is_monotonic]);
        columns.extend(points.numbers);
        columns.extend([metadata, metadata_types, points.exemplars]);
        Ok(())
    }
}

impl Metrics {
    /// Reads the points of the parts collected; returns the temporality and whether a sum is monotonic.
    fn read_data(&mut self, kind: &DataKind, parts: &mut [Reader<'_>], room: &mut Room) -> Result<(i32, bool)> {
        let (mut temporality, mut is_monotonic) = (0, false);
        for part in parts {
            while let Some(tag) = part.tag()? {
                match tag {
                    // The points of every type have the same number, and so has the temporality of those that have one.
                    gauge::POINTS => self.points.push(kind.kind, part.message(kind.point)?, room)?,
                    sum::TEMPORALITY if kind.has_temporality => temporality = part.int32()?,
                    sum::IS_MONOTONIC if kind.is_sum => is_monotonic = part.bool()?,
                    other => part.skip(other)?,
                }
            }
        }
        Ok((temporality, is_monotonic))
    }

    /// Gives the metadata collected to the rows from `first` on; it is read even where there are none.
    fn end_metric(&mut self, first: usize, parts: &[Reader<'_>], room: &mut Room) -> Result<()> {
        let rows = self.points.rows();
        for _ in first..rows.max(first + usize::from(!parts.is_empty())) {
            for part in parts {
                self.metadata.entry(*part, room)?;
            }
            self.metadata.end_row();
        }
        self.metadata.truncate(rows);
        Ok(())
    }
}
