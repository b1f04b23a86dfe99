//! What is nested in a span: events and links.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};

use super::attributes::Attributes;
use super::columns::{NotUtf8, Offsets, OptionalText, Text};
use super::taking::Taking;
use super::{check_rows, stored_time, timestamps, uint32s};
use crate::nested::{event_fields, event_item, link_fields, link_item, no_events, no_links};
use crate::proto::{event, key_value, link};
use crate::value::Room;
use crate::wire::{Reader, Result};

/// The `events` column.
#[derive(Default)]
pub(super) struct Events {
    rows: Offsets,
    time: Vec<i64>,
    name: Text,
    attributes: Attributes,
    dropped_attributes: Vec<u32>,
}

impl Events {
    pub(super) fn len(&self) -> usize {
        self.time.len()
    }

    /// Returns how many attributes there are.
    pub(super) fn parts(&self) -> usize {
        self.attributes.entries()
    }

    /// Pushes an event into the present row; returns its time where that cannot be stored.
    pub(super) fn push(&mut self, mut reader: Reader<'_>, room: &mut Room) -> Result<Option<u64>> {
        check_rows(&reader, self.time.len(), room.most)?;
        let (mut time, mut name, mut dropped) = (0, &b""[..], 0);
        while let Some(tag) = reader.tag()? {
            match tag {
                event::TIME => time = reader.fixed64()?,
                event::NAME => name = reader.bytes()?,
                event::ATTRIBUTES => drop(self.attributes.entry(reader.message(&key_value::MESSAGE)?, room)?),
                event::DROPPED_ATTRIBUTES_COUNT => dropped = reader.uint32()?,
                other => reader.skip(other)?,
            }
        }
        self.time.push(time as i64);
        self.name.push(name);
        self.attributes.end_row();
        self.dropped_attributes.push(dropped);
        Ok(stored_time(time).is_none().then_some(time))
    }

    /// Makes room for so many spans.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
    }

    pub(super) fn end_row(&mut self) {
        self.rows.seal(self.time.len());
    }

    pub(super) fn drop_row(&mut self) {
        let items = self.rows.items();
        self.time.truncate(items);
        self.name.truncate(items);
        self.attributes.truncate(items);
        self.dropped_attributes.truncate(items);
    }

    /// Says whether what was pushed since there were `rows` is text.
    pub(super) fn is_text(&self, rows: usize) -> bool {
        let items = self.rows.end(rows);
        self.name.is_text(items) && self.attributes.is_text(items)
    }

    /// Ends a request: what it brought stays.
    pub(super) fn keep(&mut self) {
        self.attributes.keep();
    }

    /// Goes back to where the present request began, when there were `rows`.
    pub(super) fn cut(&mut self, rows: usize) {
        self.rows.truncate(rows);
        self.drop_row();
        self.attributes.cut(self.rows.items());
    }

    pub(super) fn finish(&mut self, taking: &mut Taking) -> std::result::Result<ArrayRef, NotUtf8> {
        if self.time.is_empty() {
            self.attributes.clear();
            return Ok(self.rows.finish_lists(event_item(), no_events(), taking));
        }
        let (attributes, types) = self.attributes.finish(taking)?;
        let dropped = uint32s(taking.take(&mut self.dropped_attributes));
        let time = timestamps(taking.take(&mut self.time));
        let columns = vec![time, self.name.finish(taking)?, attributes, types, dropped];
        let events = Arc::new(StructArray::new(event_fields(), columns, None));
        Ok(self.rows.finish_lists(event_item(), events, taking))
    }
}

/// The `links` column.
#[derive(Default)]
pub(super) struct Links {
    rows: Offsets,
    trace_id: Text,
    span_id: Text,
    trace_state: OptionalText,
    flags: Vec<u32>,
    attributes: Attributes,
    dropped_attributes: Vec<u32>,
}

impl Links {
    pub(super) fn len(&self) -> usize {
        self.flags.len()
    }

    /// Returns how many attributes there are.
    pub(super) fn parts(&self) -> usize {
        self.attributes.entries()
    }

    /// Pushes a link into the present row.
    pub(super) fn push(&mut self, mut reader: Reader<'_>, room: &mut Room) -> Result<()> {
        check_rows(&reader, self.flags.len(), room.most)?;
        let (mut trace_id, mut span_id, mut trace_state) = (&b""[..], &b""[..], &b""[..]);
        let (mut flags, mut dropped) = (0, 0);
        while let Some(tag) = reader.tag()? {
            match tag {
                link::TRACE_ID => trace_id = reader.bytes()?,
                link::SPAN_ID => span_id = reader.bytes()?,
                link::TRACE_STATE => trace_state = reader.bytes()?,
                link::ATTRIBUTES => drop(self.attributes.entry(reader.message(&key_value::MESSAGE)?, room)?),
                link::DROPPED_ATTRIBUTES_COUNT => dropped = reader.uint32()?,
                link::FLAGS => flags = reader.fixed32()?,
                other => reader.skip(other)?,
            }
        }
        self.trace_state.set_unless_empty(self.flags.len(), trace_state);
        self.trace_id.push(trace_id);
        self.span_id.push(span_id);
        self.flags.push(flags);
        self.attributes.end_row();
        self.dropped_attributes.push(dropped);
        Ok(())
    }

    /// Makes room for so many spans.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
    }

    pub(super) fn end_row(&mut self) {
        self.rows.seal(self.flags.len());
    }

    pub(super) fn drop_row(&mut self) {
        let items = self.rows.items();
        self.trace_id.truncate(items);
        self.span_id.truncate(items);
        self.trace_state.truncate(items);
        self.flags.truncate(items);
        self.attributes.truncate(items);
        self.dropped_attributes.truncate(items);
    }

    /// Says whether what was pushed since there were `rows` is text.
    pub(super) fn is_text(&self, rows: usize) -> bool {
        let items = self.rows.end(rows);
        self.trace_state.is_text(items) && self.attributes.is_text(items)
    }

    /// Ends a request: what it brought stays.
    pub(super) fn keep(&mut self) {
        self.attributes.keep();
    }

    /// Goes back to where the present request began, when there were `rows`.
    pub(super) fn cut(&mut self, rows: usize) {
        self.rows.truncate(rows);
        self.drop_row();
        self.attributes.cut(self.rows.items());
    }

    pub(super) fn finish(&mut self, taking: &mut Taking) -> std::result::Result<ArrayRef, NotUtf8> {
        let items = self.flags.len();
        if items == 0 {
            self.attributes.clear();
            return Ok(self.rows.finish_lists(link_item(), no_links(), taking));
        }
        let (attributes, types) = self.attributes.finish(taking)?;
        let columns: Vec<ArrayRef> = vec![
            self.trace_id.finish_bytes(taking),
            self.span_id.finish_bytes(taking),
            self.trace_state.finish(items, taking)?,
            uint32s(taking.take(&mut self.flags)),
            attributes,
            types,
            uint32s(taking.take(&mut self.dropped_attributes)),
        ];
        let links = Arc::new(StructArray::new(link_fields(), columns, None));
        Ok(self.rows.finish_lists(link_item(), links, taking))
    }
}
