//! Metric data points of every type, into one set of columns.
//!
//! *Invariants.* A column that a type of point does not have is null in its rows, and only there: a list that a histogram
//! has and left empty is an empty list.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StructArray, UInt64Array};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt64Type};

use super::attributes::Attributes;
use super::columns::{NotUtf8, OptionalList, OptionalNumber};
use super::exemplars::Exemplars;
use super::sizes::Sizes;
use super::taking::Taking;
use super::{Most, REQUEST_PARTS_MAX, Rejected, check_parts, check_rows, stored_time, timestamps, too_late, uint32s};
use crate::nested::{f64_item, quantile_fields, quantile_item, u64_item};
use crate::proto::{
    buckets, exemplar, exponential_point, histogram_point, key_value, number_point, packed, summary_point,
    value_at_quantile,
};
use crate::value::Room;
use crate::wire::{Reader, Result};

/// The columns that points fill.
#[derive(Default)]
pub(super) struct Points {
    time: Vec<i64>,
    start_time: Vec<i64>,
    value: OptionalNumber<f64>,
    value_int: OptionalNumber<i64>,
    count: OptionalNumber<u64>,
    sum: OptionalNumber<f64>,
    min: OptionalNumber<f64>,
    max: OptionalNumber<f64>,
    explicit_bounds: OptionalList<f64>,
    bucket_counts: OptionalList<u64>,
    scale: OptionalNumber<i32>,
    zero_count: OptionalNumber<u64>,
    zero_threshold: OptionalNumber<f64>,
    positive_offset: OptionalNumber<i32>,
    positive: OptionalList<u64>,
    negative_offset: OptionalNumber<i32>,
    negative: OptionalList<u64>,
    quantiles: OptionalList<(f64, f64)>,
    flags: Vec<u32>,
    attributes: Attributes,
    exemplars: Exemplars,
    rejected: Rejected,
}

/// The type of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PointKind {
    #[default]
    Number,
    Histogram,
    Exponential,
    Summary,
}

/// The numbers of a point under construction.
#[derive(Default)]
struct Point {
    kind: PointKind,
    time: u64,
    start_time: u64,
    value: Option<f64>,
    value_int: Option<i64>,
    count: u64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    scale: i32,
    zero_count: u64,
    zero_threshold: f64,
    positive_offset: Option<i32>,
    negative_offset: Option<i32>,
    flags: u32,
    late_exemplar: Option<u64>,
}

const PACKED_BUCKET_COUNTS: u32 = packed(histogram_point::BUCKET_COUNTS);
const PACKED_BOUNDS: u32 = packed(histogram_point::EXPLICIT_BOUNDS);
const PACKED_BUCKETS: u32 = packed(buckets::BUCKET_COUNTS);

impl Points {
    /// Makes room for what is expected.
    pub(super) fn reserve(&mut self, expected: Sizes) {
        let rows = expected.rows;
        self.time.reserve_exact(rows);
        self.start_time.reserve_exact(rows);
        self.value.reserve(rows);
        self.flags.reserve_exact(rows);
        self.attributes.reserve(expected);
    }

    /// Returns what there is.
    pub(super) fn sizes(&self) -> Sizes {
        self.attributes.sizes()
    }

    pub(super) fn rows(&self) -> usize {
        self.time.len()
    }

    /// Returns how many exemplars there are.
    pub(super) fn exemplars(&self) -> usize {
        self.exemplars.len()
    }

    /// Returns how many attributes and items of lists there are.
    pub(super) fn parts(&self) -> usize {
        let counts = [&self.bucket_counts, &self.positive, &self.negative].map(OptionalList::items);
        let others = self.explicit_bounds.items() + self.quantiles.items();
        counts.into_iter().sum::<usize>() + others + self.attributes.entries() + self.exemplars.parts()
    }

    /// Reads a point of this kind.
    pub(super) fn push(&mut self, kind: PointKind, reader: Reader<'_>, room: &mut Room) -> Result<()> {
        check_rows(&reader, self.time.len(), room.most)?;
        let mut point = Point { kind, ..Point::default() };
        match kind {
            PointKind::Number => self.read_number(reader, &mut point, room)?,
            PointKind::Histogram => self.read_histogram(reader, &mut point, room)?,
            PointKind::Exponential => self.read_exponential(reader, &mut point, room)?,
            PointKind::Summary => self.read_summary(reader, &mut point, room)?,
        }
        match (stored_time(point.time), stored_time(point.start_time), point.late_exemplar) {
            (Some(time), Some(start_time), None) => self.accept(&point, time, start_time),
            _ => self.refuse(&point),
        }
        Ok(())
    }

    fn exemplar(&mut self, reader: &mut Reader<'_>, point: &mut Point, room: &mut Room) -> Result<()> {
        let late = self.exemplars.push(reader.message(&exemplar::MESSAGE)?, room)?;
        point.late_exemplar = point.late_exemplar.or(late);
        Ok(())
    }

    fn attribute(&mut self, reader: &mut Reader<'_>, room: &mut Room) -> Result<()> {
        self.attributes.entry(reader.message(&key_value::MESSAGE)?, room).map(drop)
    }

    fn read_number(&mut self, mut reader: Reader<'_>, point: &mut Point, room: &mut Room) -> Result<()> {
        while let Some(tag) = reader.tag()? {
            match tag {
                number_point::START_TIME => point.start_time = reader.fixed64()?,
                number_point::TIME => point.time = reader.fixed64()?,
                number_point::AS_DOUBLE => (point.value, point.value_int) = (Some(reader.double()?), None),
                number_point::AS_INT => {
                    let int = reader.fixed64()? as i64;
                    (point.value, point.value_int) = (Some(int as f64), Some(int));
                }
                number_point::EXEMPLARS => self.exemplar(&mut reader, point, room)?,
                number_point::ATTRIBUTES => self.attribute(&mut reader, room)?,
                number_point::FLAGS => point.flags = reader.uint32()?,
                other => reader.skip(other)?,
            }
        }
        Ok(())
    }

    fn read_histogram(&mut self, mut reader: Reader<'_>, point: &mut Point, room: &mut Room) -> Result<()> {
        while let Some(tag) = reader.tag()? {
            match tag {
                histogram_point::START_TIME => point.start_time = reader.fixed64()?,
                histogram_point::TIME => point.time = reader.fixed64()?,
                histogram_point::COUNT => point.count = reader.fixed64()?,
                histogram_point::SUM => point.sum = Some(reader.double()?),
                histogram_point::BUCKET_COUNTS => {
                    let count = reader.fixed64()?;
                    push(&reader, &mut self.bucket_counts, count)?;
                }
                PACKED_BUCKET_COUNTS => {
                    let items = reader.message(&histogram_point::MESSAGE)?;
                    push_packed(items, &mut self.bucket_counts, u64::from_le_bytes)?;
                }
                histogram_point::EXPLICIT_BOUNDS => {
                    let bound = reader.double()?;
                    push(&reader, &mut self.explicit_bounds, bound)?;
                }
                PACKED_BOUNDS => {
                    let items = reader.message(&histogram_point::MESSAGE)?;
                    push_packed(items, &mut self.explicit_bounds, f64::from_le_bytes)?;
                }
                histogram_point::EXEMPLARS => self.exemplar(&mut reader, point, room)?,
                histogram_point::ATTRIBUTES => self.attribute(&mut reader, room)?,
                histogram_point::FLAGS => point.flags = reader.uint32()?,
                histogram_point::MIN => point.min = Some(reader.double()?),
                histogram_point::MAX => point.max = Some(reader.double()?),
                other => reader.skip(other)?,
            }
        }
        Ok(())
    }

    fn read_exponential(&mut self, mut reader: Reader<'_>, point: &mut Point, room: &mut Room) -> Result<()> {
        while let Some(tag) = reader.tag()? {
            match tag {
                exponential_point::ATTRIBUTES => self.attribute(&mut reader, room)?,
                exponential_point::START_TIME => point.start_time = reader.fixed64()?,
                exponential_point::TIME => point.time = reader.fixed64()?,
                exponential_point::COUNT => point.count = reader.fixed64()?,
                exponential_point::SUM => point.sum = Some(reader.double()?),
                exponential_point::SCALE => point.scale = reader.sint32()?,
                exponential_point::ZERO_COUNT => point.zero_count = reader.fixed64()?,
                exponential_point::POSITIVE => {
                    let offset = point.positive_offset.get_or_insert(0);
                    read_buckets(reader.message(&buckets::MESSAGE)?, offset, &mut self.positive)?;
                }
                exponential_point::NEGATIVE => {
                    let offset = point.negative_offset.get_or_insert(0);
                    read_buckets(reader.message(&buckets::MESSAGE)?, offset, &mut self.negative)?;
                }
                exponential_point::FLAGS => point.flags = reader.uint32()?,
                exponential_point::EXEMPLARS => self.exemplar(&mut reader, point, room)?,
                exponential_point::MIN => point.min = Some(reader.double()?),
                exponential_point::MAX => point.max = Some(reader.double()?),
                exponential_point::ZERO_THRESHOLD => point.zero_threshold = reader.double()?,
                other => reader.skip(other)?,
            }
        }
        Ok(())
    }

    fn read_summary(&mut self, mut reader: Reader<'_>, point: &mut Point, room: &mut Room) -> Result<()> {
        // A summary always has a sum: unlike a histogram's, it is no optional field.
        point.sum = Some(0.0);
        while let Some(tag) = reader.tag()? {
            match tag {
                summary_point::START_TIME => point.start_time = reader.fixed64()?,
                summary_point::TIME => point.time = reader.fixed64()?,
                summary_point::COUNT => point.count = reader.fixed64()?,
                summary_point::SUM => point.sum = Some(reader.double()?),
                summary_point::QUANTILES => {
                    let quantile = read_quantile(reader.message(&value_at_quantile::MESSAGE)?)?;
                    push(&reader, &mut self.quantiles, quantile)?;
                }
                summary_point::ATTRIBUTES => self.attribute(&mut reader, room)?,
                summary_point::FLAGS => point.flags = reader.uint32()?,
                other => reader.skip(other)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self, point: &Point, time: i64, start_time: i64) {
        let row = self.time.len();
        self.time.push(time);
        self.start_time.push(start_time);
        self.value.set_some(row, point.value);
        self.value_int.set_some(row, point.value_int);
        self.sum.set_some(row, point.sum);
        self.min.set_some(row, point.min);
        self.max.set_some(row, point.max);
        match point.kind {
            PointKind::Number => {}
            PointKind::Histogram => {
                self.count.set(row, point.count);
                self.explicit_bounds.set(row);
                self.bucket_counts.set(row);
            }
            PointKind::Exponential => {
                self.count.set(row, point.count);
                self.scale.set(row, point.scale);
                self.zero_count.set(row, point.zero_count);
                self.zero_threshold.set(row, point.zero_threshold);
                if let Some(offset) = point.positive_offset {
                    self.positive_offset.set(row, offset);
                    self.positive.set(row);
                }
                if let Some(offset) = point.negative_offset {
                    self.negative_offset.set(row, offset);
                    self.negative.set(row);
                }
            }
            PointKind::Summary => {
                self.count.set(row, point.count);
                self.quantiles.set(row);
            }
        }
        self.flags.push(point.flags);
        self.attributes.end_row();
        self.exemplars.end_row();
    }

    /// Drops what was pushed of a point that cannot be stored.
    #[cold]
    fn refuse(&mut self, point: &Point) {
        self.explicit_bounds.drop_row();
        self.bucket_counts.drop_row();
        self.positive.drop_row();
        self.negative.drop_row();
        self.quantiles.drop_row();
        self.attributes.truncate(self.time.len());
        self.exemplars.drop_row();
        let reason = match (stored_time(point.time), point.late_exemplar) {
            (None, _) => too_late("time_unix_nano", point.time),
            (_, Some(nanos)) => too_late("exemplars.time_unix_nano", nanos),
            _ => too_late("start_time_unix_nano", point.start_time),
        };
        self.rejected.add(reason);
    }

    /// Takes what was left out.
    pub(super) fn rejected(&mut self) -> Rejected {
        std::mem::take(&mut self.rejected)
    }

    /// Says whether what was pushed since there were `rows` is text.
    pub(super) fn is_text(&self, rows: usize) -> bool {
        self.attributes.is_text(rows) && self.exemplars.is_text(rows)
    }

    /// Ends a request: what it brought stays.
    pub(super) fn keep(&mut self) {
        self.attributes.keep();
        self.exemplars.keep();
    }

    /// Goes back to where the present request began, when there were `rows`.
    pub(super) fn cut(&mut self, rows: usize) {
        self.time.truncate(rows);
        self.start_time.truncate(rows);
        self.value_int.truncate(rows);
        for column in [&mut self.value, &mut self.sum, &mut self.min, &mut self.max, &mut self.zero_threshold] {
            column.truncate(rows);
        }
        for column in [&mut self.count, &mut self.zero_count] {
            column.truncate(rows);
        }
        for column in [&mut self.scale, &mut self.positive_offset, &mut self.negative_offset] {
            column.truncate(rows);
        }
        for column in [&mut self.bucket_counts, &mut self.positive, &mut self.negative] {
            column.truncate(rows);
        }
        self.explicit_bounds.truncate(rows);
        self.quantiles.truncate(rows);
        self.flags.truncate(rows);
        self.attributes.cut(rows);
        self.exemplars.cut(rows);
        self.rejected = Rejected::default();
    }

    /// Returns the columns before the metric's own (`time`, `start_time`), those behind them until `flags` and the
    /// attributes, and the exemplars.
    pub(super) fn finish(&mut self, taking: &mut Taking) -> std::result::Result<Finished, NotUtf8> {
        let rows = self.time.len();
        let u64s = |values: Vec<u64>| -> ArrayRef { Arc::new(UInt64Array::new(values.into(), None)) };
        let f64s = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::new(values.into(), None)) };
        let (attributes, attribute_types) = self.attributes.finish(taking)?;
        Ok(Finished {
            times: [timestamps(taking.take(&mut self.time)), timestamps(taking.take(&mut self.start_time))],
            numbers: vec![
                self.value.finish::<Float64Type>(rows, taking),
                self.value_int.finish::<Int64Type>(rows, taking),
                self.count.finish::<UInt64Type>(rows, taking),
                self.sum.finish::<Float64Type>(rows, taking),
                self.min.finish::<Float64Type>(rows, taking),
                self.max.finish::<Float64Type>(rows, taking),
                self.explicit_bounds.finish(rows, f64_item(), taking, f64s),
                self.bucket_counts.finish(rows, u64_item(), taking, u64s),
                self.scale.finish::<Int32Type>(rows, taking),
                self.zero_count.finish::<UInt64Type>(rows, taking),
                self.zero_threshold.finish::<Float64Type>(rows, taking),
                self.positive_offset.finish::<Int32Type>(rows, taking),
                self.positive.finish(rows, u64_item(), taking, u64s),
                self.negative_offset.finish::<Int32Type>(rows, taking),
                self.negative.finish(rows, u64_item(), taking, u64s),
                self.quantiles.finish(rows, quantile_item(), taking, quantiles),
                uint32s(taking.take(&mut self.flags)),
                attributes,
                attribute_types,
            ],
            exemplars: self.exemplars.finish(taking)?,
        })
    }
}

/// The columns of [`Points`], between which the metric's own stand.
pub(super) struct Finished {
    pub(super) times: [ArrayRef; 2],
    pub(super) numbers: Vec<ArrayRef>,
    pub(super) exemplars: ArrayRef,
}

fn quantiles(items: Vec<(f64, f64)>) -> ArrayRef {
    let (quantiles, values): (Vec<f64>, Vec<f64>) = items.into_iter().unzip();
    let column = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::new(values.into(), None)) };
    Arc::new(StructArray::new(quantile_fields(), vec![column(quantiles), column(values)], None))
}

/// Appends an item to a list, unless it has too many.
#[inline(always)]
fn push<T>(reader: &Reader<'_>, list: &mut OptionalList<T>, item: T) -> Result<()> {
    check_parts(reader, list.items(), Most::default())?;
    list.push(item);
    Ok(())
}

/// Appends packed items of eight bytes each, as they lie where they fit.
fn push_packed<T>(
    mut packed: Reader<'_>,
    list: &mut OptionalList<T>,
    read: impl Fn([u8; 8]) -> T + Copy,
) -> Result<()> {
    let (items, rest) = packed.rest().as_chunks::<8>();
    if rest.is_empty() && list.items() + items.len() <= REQUEST_PARTS_MAX {
        list.extend(items.iter().map(|item| read(*item)));
        return Ok(());
    }
    while !packed.rest().is_empty() {
        let item = read(packed.fixed64()?.to_le_bytes());
        push(&packed, list, item)?;
    }
    Ok(())
}

fn read_buckets(mut reader: Reader<'_>, offset: &mut i32, counts: &mut OptionalList<u64>) -> Result<()> {
    while let Some(tag) = reader.tag()? {
        match tag {
            buckets::OFFSET => *offset = reader.sint32()?,
            buckets::BUCKET_COUNTS => {
                let count = reader.varint()?;
                push(&reader, counts, count)?;
            }
            PACKED_BUCKETS => {
                let mut items = reader.message(&buckets::MESSAGE)?;
                while !items.rest().is_empty() {
                    let count = items.varint()?;
                    push(&items, counts, count)?;
                }
            }
            other => reader.skip(other)?,
        }
    }
    Ok(())
}

fn read_quantile(mut reader: Reader<'_>) -> Result<(f64, f64)> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while let Some(tag) = reader.tag()? {
        match tag {
            value_at_quantile::QUANTILE => quantile = reader.double()?,
            value_at_quantile::VALUE => value = reader.double()?,
            other => reader.skip(other)?,
        }
    }
    Ok((quantile, value))
}
