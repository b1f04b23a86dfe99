//! Rows of `metrics` back into data points.

use arrow::array::{
    BinaryArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, TimestampNanosecondArray, UInt32Array,
    UInt64Array,
};

use super::EncodeError;
use super::attributes::Attributes;
use super::columns::{Columns, items, range, some_at, structs};
use crate::proto::{
    buckets, exemplar, exponential_point, histogram_point, number_point, summary_point, value_at_quantile,
};
use crate::wire::Writer;

/// The type of a point.
#[derive(Clone, Copy)]
pub(super) enum PointKind {
    Number,
    Histogram,
    Exponential,
    Summary,
}

/// A list column of numbers.
struct Counts {
    rows: ListArray,
    items: UInt64Array,
}

impl Counts {
    fn find(batch: &RecordBatch, name: &str) -> Result<Self, EncodeError> {
        let rows = batch.list(name)?;
        Ok(Self { items: items(&rows, name)?, rows })
    }

    fn at(&self, row: usize) -> &[u64] {
        &self.items.values()[range(&self.rows, row)]
    }
}

/// The columns of one batch.
pub(super) struct Points {
    time: TimestampNanosecondArray,
    start_time: TimestampNanosecondArray,
    value: Float64Array,
    value_int: Int64Array,
    count: UInt64Array,
    sum: Float64Array,
    min: Float64Array,
    max: Float64Array,
    bounds_rows: ListArray,
    bounds: Float64Array,
    bucket_counts: Counts,
    scale: Int32Array,
    zero_count: UInt64Array,
    zero_threshold: Float64Array,
    positive_offset: Int32Array,
    positive: Counts,
    negative_offset: Int32Array,
    negative: Counts,
    quantile_rows: ListArray,
    quantile: Float64Array,
    quantile_value: Float64Array,
    flags: UInt32Array,
    attributes: Attributes,
    exemplars: Exemplars,
}

impl Points {
    pub(super) fn find(batch: &RecordBatch) -> Result<Self, EncodeError> {
        let bounds_rows = batch.list("explicit_bounds")?;
        let quantile_rows = batch.list("quantiles")?;
        let quantiles = structs(&quantile_rows, "quantiles")?;
        Ok(Self {
            time: batch.times("time")?,
            start_time: batch.times("start_time")?,
            value: batch.numbers("value")?,
            value_int: batch.numbers("value_int")?,
            count: batch.numbers("count")?,
            sum: batch.numbers("sum")?,
            min: batch.numbers("min")?,
            max: batch.numbers("max")?,
            bounds: items(&bounds_rows, "explicit_bounds")?,
            bounds_rows,
            bucket_counts: Counts::find(batch, "bucket_counts")?,
            scale: batch.numbers("scale")?,
            zero_count: batch.numbers("zero_count")?,
            zero_threshold: batch.numbers("zero_threshold")?,
            positive_offset: batch.numbers("positive_offset")?,
            positive: Counts::find(batch, "positive_bucket_counts")?,
            negative_offset: batch.numbers("negative_offset")?,
            negative: Counts::find(batch, "negative_bucket_counts")?,
            quantile: quantiles.numbers("quantile")?,
            quantile_value: quantiles.numbers("value")?,
            quantile_rows,
            flags: batch.numbers("flags")?,
            attributes: Attributes::find(batch, "attributes", "attribute_types")?,
            exemplars: Exemplars::find(batch)?,
        })
    }

    /// Writes the fields of the point at a row.
    pub(super) fn write(&self, kind: PointKind, row: usize, writer: &mut Writer) -> Result<(), EncodeError> {
        match kind {
            PointKind::Number => self.write_number(row, writer),
            PointKind::Histogram => self.write_histogram(row, writer),
            PointKind::Exponential => self.write_exponential(row, writer),
            PointKind::Summary => self.write_summary(row, writer),
        }
    }

    fn start(&self, row: usize) -> u64 {
        self.start_time.value(row) as u64
    }

    fn time(&self, row: usize) -> u64 {
        self.time.value(row) as u64
    }

    fn count(&self, row: usize) -> u64 {
        some_at(&self.count, row).unwrap_or_default()
    }

    fn write_number(&self, row: usize, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed64_unless_zero(number_point::START_TIME, self.start(row));
        writer.fixed64_unless_zero(number_point::TIME, self.time(row));
        match (some_at(&self.value_int, row), some_at(&self.value, row)) {
            (Some(int), _) => writer.fixed64(number_point::AS_INT, int as u64),
            (None, Some(double)) => writer.double(number_point::AS_DOUBLE, double),
            (None, None) => {}
        }
        self.exemplars.write(writer, number_point::EXEMPLARS, row)?;
        self.attributes.write(writer, number_point::ATTRIBUTES, row)?;
        writer.uint_unless_zero(number_point::FLAGS, self.flags.value(row));
        Ok(())
    }

    fn write_histogram(&self, row: usize, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed64_unless_zero(histogram_point::START_TIME, self.start(row));
        writer.fixed64_unless_zero(histogram_point::TIME, self.time(row));
        writer.fixed64_unless_zero(histogram_point::COUNT, self.count(row));
        writer.double_if_some(histogram_point::SUM, some_at(&self.sum, row));
        writer.packed_fixed64(histogram_point::BUCKET_COUNTS, self.bucket_counts.at(row).iter().copied());
        let bounds = &self.bounds.values()[range(&self.bounds_rows, row)];
        writer.packed_fixed64(histogram_point::EXPLICIT_BOUNDS, bounds.iter().map(|bound| bound.to_bits()));
        self.exemplars.write(writer, histogram_point::EXEMPLARS, row)?;
        self.attributes.write(writer, histogram_point::ATTRIBUTES, row)?;
        writer.uint_unless_zero(histogram_point::FLAGS, self.flags.value(row));
        writer.double_if_some(histogram_point::MIN, some_at(&self.min, row));
        writer.double_if_some(histogram_point::MAX, some_at(&self.max, row));
        Ok(())
    }

    fn write_exponential(&self, row: usize, writer: &mut Writer) -> Result<(), EncodeError> {
        self.attributes.write(writer, exponential_point::ATTRIBUTES, row)?;
        writer.fixed64_unless_zero(exponential_point::START_TIME, self.start(row));
        writer.fixed64_unless_zero(exponential_point::TIME, self.time(row));
        writer.fixed64_unless_zero(exponential_point::COUNT, self.count(row));
        writer.double_if_some(exponential_point::SUM, some_at(&self.sum, row));
        writer.sint32(exponential_point::SCALE, some_at(&self.scale, row).unwrap_or_default());
        let zero_count = some_at(&self.zero_count, row).unwrap_or_default();
        writer.fixed64_unless_zero(exponential_point::ZERO_COUNT, zero_count);
        for (tag, offset, counts) in [
            (exponential_point::POSITIVE, &self.positive_offset, &self.positive),
            (exponential_point::NEGATIVE, &self.negative_offset, &self.negative),
        ] {
            if let Some(offset) = some_at(offset, row) {
                let open = writer.open(tag);
                writer.sint32(buckets::OFFSET, offset);
                writer.packed_varint(buckets::BUCKET_COUNTS, counts.at(row));
                writer.close(open);
            }
        }
        writer.uint_unless_zero(exponential_point::FLAGS, self.flags.value(row));
        self.exemplars.write(writer, exponential_point::EXEMPLARS, row)?;
        writer.double_if_some(exponential_point::MIN, some_at(&self.min, row));
        writer.double_if_some(exponential_point::MAX, some_at(&self.max, row));
        writer.double_if_some(exponential_point::ZERO_THRESHOLD, some_at(&self.zero_threshold, row));
        Ok(())
    }

    fn write_summary(&self, row: usize, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed64_unless_zero(summary_point::START_TIME, self.start(row));
        writer.fixed64_unless_zero(summary_point::TIME, self.time(row));
        writer.fixed64_unless_zero(summary_point::COUNT, self.count(row));
        writer.double_if_some(summary_point::SUM, some_at(&self.sum, row));
        for item in range(&self.quantile_rows, row) {
            let open = writer.open(summary_point::QUANTILES);
            writer.double(value_at_quantile::QUANTILE, self.quantile.value(item));
            writer.double(value_at_quantile::VALUE, self.quantile_value.value(item));
            writer.close(open);
        }
        self.attributes.write(writer, summary_point::ATTRIBUTES, row)?;
        writer.uint_unless_zero(summary_point::FLAGS, self.flags.value(row));
        Ok(())
    }
}

struct Exemplars {
    rows: ListArray,
    time: TimestampNanosecondArray,
    value: Float64Array,
    value_int: Int64Array,
    trace_id: BinaryArray,
    span_id: BinaryArray,
    attributes: Attributes,
}

impl Exemplars {
    fn find(batch: &RecordBatch) -> Result<Self, EncodeError> {
        let rows = batch.list("exemplars")?;
        let items = structs(&rows, "exemplars")?;
        Ok(Self {
            time: items.times("time")?,
            value: items.numbers("value")?,
            value_int: items.numbers("value_int")?,
            trace_id: items.bytes("trace_id")?,
            span_id: items.bytes("span_id")?,
            attributes: Attributes::find(&items, "filtered_attributes", "filtered_attribute_types")?,
            rows,
        })
    }

    fn write(&self, writer: &mut Writer, tag: u32, row: usize) -> Result<(), EncodeError> {
        for item in range(&self.rows, row) {
            let open = writer.open(tag);
            writer.fixed64_unless_zero(exemplar::TIME, self.time.value(item) as u64);
            match (some_at(&self.value_int, item), some_at(&self.value, item)) {
                (Some(int), _) => writer.fixed64(exemplar::AS_INT, int as u64),
                (None, Some(double)) => writer.double(exemplar::AS_DOUBLE, double),
                (None, None) => {}
            }
            writer.bytes_unless_empty(exemplar::SPAN_ID, self.span_id.value(item));
            writer.bytes_unless_empty(exemplar::TRACE_ID, self.trace_id.value(item));
            self.attributes.write(writer, exemplar::FILTERED_ATTRIBUTES, item)?;
            writer.close(open);
        }
        Ok(())
    }
}
