//! Rows of `spans` back into `Span` messages.

use arrow::array::{
    BinaryArray, FixedSizeBinaryArray, Int32Array, ListArray, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt32Array,
};

use super::EncodeError;
use super::attributes::Attributes;
use super::columns::{Columns, id_at, range, some_at, structs, text_at};
use super::groups::{Records, Row, write_each};
use crate::proto::{event, link, span, status};
use crate::wire::Writer;

/// The columns of one batch.
pub(super) struct Spans {
    trace_id: FixedSizeBinaryArray,
    span_id: FixedSizeBinaryArray,
    parent_span_id: FixedSizeBinaryArray,
    trace_state: StringArray,
    flags: UInt32Array,
    name: StringArray,
    kind: Int32Array,
    start_time: TimestampNanosecondArray,
    end_time: TimestampNanosecondArray,
    status_code: Int32Array,
    status_message: StringArray,
    attributes: Attributes,
    dropped_attributes: UInt32Array,
    events: Events,
    dropped_events: UInt32Array,
    links: Links,
    dropped_links: UInt32Array,
}

impl Records for Spans {
    fn find(batch: &RecordBatch) -> Result<Self, EncodeError> {
        Ok(Self {
            trace_id: batch.ids("trace_id", 16)?,
            span_id: batch.ids("span_id", 8)?,
            parent_span_id: batch.ids("parent_span_id", 8)?,
            trace_state: batch.text("trace_state")?,
            flags: batch.numbers("flags")?,
            name: batch.text("name")?,
            kind: batch.numbers("kind")?,
            start_time: batch.times("start_time")?,
            end_time: batch.times("end_time")?,
            status_code: batch.numbers("status_code")?,
            status_message: batch.text("status_message")?,
            attributes: Attributes::find(batch, "attributes", "attribute_types")?,
            dropped_attributes: batch.numbers("dropped_attributes_count")?,
            events: Events::find(batch)?,
            dropped_events: batch.numbers("dropped_events_count")?,
            links: Links::find(batch)?,
            dropped_links: batch.numbers("dropped_links_count")?,
        })
    }

    fn write(batches: &[Self], rows: &[Row], writer: &mut Writer) -> Result<(), EncodeError> {
        write_each(batches, rows, writer, Self::write_span)
    }
}

impl Spans {
    fn write_span(&self, row: usize, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.bytes(span::TRACE_ID, self.trace_id.value(row));
        writer.bytes(span::SPAN_ID, self.span_id.value(row));
        writer.bytes_unless_empty(span::TRACE_STATE, text_at(&self.trace_state, row));
        writer.bytes_unless_empty(span::PARENT_SPAN_ID, id_at(&self.parent_span_id, row));
        writer.bytes_unless_empty(span::NAME, text_at(&self.name, row));
        writer.int32_unless_zero(span::KIND, self.kind.value(row));
        writer.fixed64_unless_zero(span::START_TIME, self.start_time.value(row) as u64);
        writer.fixed64_unless_zero(span::END_TIME, self.end_time.value(row) as u64);
        self.attributes.write(writer, span::ATTRIBUTES, row)?;
        writer.uint_unless_zero(span::DROPPED_ATTRIBUTES_COUNT, self.dropped_attributes.value(row));
        self.events.write(writer, row)?;
        writer.uint_unless_zero(span::DROPPED_EVENTS_COUNT, self.dropped_events.value(row));
        self.links.write(writer, row)?;
        writer.uint_unless_zero(span::DROPPED_LINKS_COUNT, self.dropped_links.value(row));
        if let Some(code) = some_at(&self.status_code, row) {
            let open = writer.open(span::STATUS);
            writer.bytes_unless_empty(status::MESSAGE_TEXT, text_at(&self.status_message, row));
            writer.int32_unless_zero(status::CODE, code);
            writer.close(open);
        }
        writer.fixed32_unless_zero(span::FLAGS, self.flags.value(row));
        Ok(())
    }
}

struct Events {
    rows: ListArray,
    time: TimestampNanosecondArray,
    name: StringArray,
    attributes: Attributes,
    dropped_attributes: UInt32Array,
}

impl Events {
    fn find(batch: &RecordBatch) -> Result<Self, EncodeError> {
        let rows = batch.list("events")?;
        let items = structs(&rows, "events")?;
        Ok(Self {
            time: items.times("time")?,
            name: items.text("name")?,
            attributes: Attributes::find(&items, "attributes", "attribute_types")?,
            dropped_attributes: items.numbers("dropped_attributes_count")?,
            rows,
        })
    }

    fn write(&self, writer: &mut Writer, row: usize) -> Result<(), EncodeError> {
        for item in range(&self.rows, row) {
            let open = writer.open(span::EVENTS);
            writer.fixed64_unless_zero(event::TIME, self.time.value(item) as u64);
            writer.bytes_unless_empty(event::NAME, text_at(&self.name, item));
            self.attributes.write(writer, event::ATTRIBUTES, item)?;
            writer.uint_unless_zero(event::DROPPED_ATTRIBUTES_COUNT, self.dropped_attributes.value(item));
            writer.close(open);
        }
        Ok(())
    }
}

struct Links {
    rows: ListArray,
    trace_id: BinaryArray,
    span_id: BinaryArray,
    trace_state: StringArray,
    flags: UInt32Array,
    attributes: Attributes,
    dropped_attributes: UInt32Array,
}

impl Links {
    fn find(batch: &RecordBatch) -> Result<Self, EncodeError> {
        let rows = batch.list("links")?;
        let items = structs(&rows, "links")?;
        Ok(Self {
            trace_id: items.bytes("trace_id")?,
            span_id: items.bytes("span_id")?,
            trace_state: items.text("trace_state")?,
            flags: items.numbers("flags")?,
            attributes: Attributes::find(&items, "attributes", "attribute_types")?,
            dropped_attributes: items.numbers("dropped_attributes_count")?,
            rows,
        })
    }

    fn write(&self, writer: &mut Writer, row: usize) -> Result<(), EncodeError> {
        for item in range(&self.rows, row) {
            let open = writer.open(span::LINKS);
            writer.bytes_unless_empty(link::TRACE_ID, self.trace_id.value(item));
            writer.bytes_unless_empty(link::SPAN_ID, self.span_id.value(item));
            writer.bytes_unless_empty(link::TRACE_STATE, text_at(&self.trace_state, item));
            self.attributes.write(writer, link::ATTRIBUTES, item)?;
            writer.uint_unless_zero(link::DROPPED_ATTRIBUTES_COUNT, self.dropped_attributes.value(item));
            writer.fixed32_unless_zero(link::FLAGS, self.flags.value(item));
            writer.close(open);
        }
        Ok(())
    }
}
