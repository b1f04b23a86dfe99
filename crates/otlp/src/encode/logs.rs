//! Rows of `logs` back into `LogRecord` messages.

use arrow::array::{
    Array, FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array,
    UInt32Array,
};

use super::EncodeError;
use super::attributes::Attributes;
use super::columns::{Columns, id_at, text_at};
use super::groups::{Records, Row, write_each};
use crate::proto::log_record;
use crate::value::write_value;
use crate::wire::Writer;

/// The columns of one batch.
pub(super) struct Logs {
    time: TimestampNanosecondArray,
    time_source: UInt8Array,
    observed_time: TimestampNanosecondArray,
    severity_number: Int32Array,
    severity_text: StringArray,
    body: StringArray,
    body_type: StringArray,
    event_name: StringArray,
    trace_id: FixedSizeBinaryArray,
    span_id: FixedSizeBinaryArray,
    flags: UInt32Array,
    attributes: Attributes,
    dropped_attributes: UInt32Array,
}

impl Records for Logs {
    fn find(batch: &RecordBatch) -> Result<Self, EncodeError> {
        Ok(Self {
            time: batch.times("time")?,
            time_source: batch.numbers("time_source")?,
            observed_time: batch.times("observed_time")?,
            severity_number: batch.numbers("severity_number")?,
            severity_text: batch.text("severity_text")?,
            body: batch.text("body")?,
            body_type: batch.text("body_type")?,
            event_name: batch.text("event_name")?,
            trace_id: batch.ids("trace_id", 16)?,
            span_id: batch.ids("span_id", 8)?,
            flags: batch.numbers("flags")?,
            attributes: Attributes::find(batch, "attributes", "attribute_types")?,
            dropped_attributes: batch.numbers("dropped_attributes_count")?,
        })
    }

    fn write(batches: &[Self], rows: &[Row], writer: &mut Writer) -> Result<(), EncodeError> {
        write_each(batches, rows, writer, Self::write_record)
    }
}

impl Logs {
    fn write_record(&self, row: usize, writer: &mut Writer) -> Result<(), EncodeError> {
        if self.time_source.value(row) == 0 {
            writer.fixed64_unless_zero(log_record::TIME, self.time.value(row) as u64);
        }
        writer.int32_unless_zero(log_record::SEVERITY_NUMBER, self.severity_number.value(row));
        writer.bytes_unless_empty(log_record::SEVERITY_TEXT, text_at(&self.severity_text, row));
        if let Some(letter) = text_at(&self.body_type, row).first() {
            let body = self.body.is_valid(row).then(|| self.body.value(row));
            let open = writer.open(log_record::BODY);
            write_value(writer, *letter, body).map_err(|problem| EncodeError::new("body", problem))?;
            writer.close(open);
        }
        self.attributes.write(writer, log_record::ATTRIBUTES, row)?;
        writer.uint_unless_zero(log_record::DROPPED_ATTRIBUTES_COUNT, self.dropped_attributes.value(row));
        writer.fixed32_unless_zero(log_record::FLAGS, self.flags.value(row));
        writer.bytes_unless_empty(log_record::TRACE_ID, id_at(&self.trace_id, row));
        writer.bytes_unless_empty(log_record::SPAN_ID, id_at(&self.span_id, row));
        writer.fixed64_unless_zero(log_record::OBSERVED_TIME, self.observed_time.value(row) as u64);
        writer.bytes_unless_empty(log_record::EVENT_NAME, text_at(&self.event_name, row));
        Ok(())
    }
}
