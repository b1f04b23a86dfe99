//! Spans, with their events and links, into columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::Int32Type;

use super::attributes::Attributes;
use super::columns::{NotUtf8, OptionalNumber, OptionalText, Text};
use super::convention::{Chosen, HTTP_STATUS};
use super::ids::{OptionalIds, ids};
use super::sizes::{Learned, Sizes};
use super::span_parts::{Events, Links};
use super::taking::Taking;
use super::walk::{Records, Scratch};
use super::{Rejected, int64s, stored_time, timestamps, too_late, uint32s};
use crate::proto::{Message, event, key_value, link, resource_spans, scope_spans, span, status};
use crate::schema::SPAN_CONVENTIONS;
use crate::wire::{Reader, Result};

static LEARNED: Learned = Learned::new();

/// The columns of `spans` behind the common ones.
#[derive(Default)]
pub(super) struct Spans {
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    parent_span_id: OptionalIds<8>,
    trace_state: OptionalText,
    flags: Vec<u32>,
    name: Text,
    kind: Vec<i32>,
    start_time: Vec<i64>,
    end_time: Vec<i64>,
    duration_ns: Vec<i64>,
    status_code: OptionalNumber<i32>,
    status_message: OptionalText,
    http_status: OptionalNumber<i32>,
    conventions: [OptionalText; SPAN_CONVENTIONS.len()],
    attributes: Attributes,
    dropped_attributes: Vec<u32>,
    events: Events,
    dropped_events: Vec<u32>,
    links: Links,
    dropped_links: Vec<u32>,
    rejected: Rejected,
}

/// The fields of a span that are not pushed as they are read.
#[derive(Default)]
struct Scalars<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    kind: i32,
    flags: u32,
    start_time: u64,
    end_time: u64,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
    status: Option<(i32, &'a [u8])>,
    /// The first event whose time cannot be stored.
    late_event: Option<u64>,
}

/// Returns why a span cannot be stored.
#[cold]
fn refusal(span: &Scalars<'_>) -> Option<String> {
    let id = |field: &str, id: &[u8], length: usize| {
        if id.len() != length {
            Some(format!("`{field}` of a span has {} bytes, not {length}", id.len()))
        } else {
            id.iter().all(|byte| *byte == 0).then(|| format!("`{field}` of a span is all zero"))
        }
    };
    let late = |field: &str, nanos: u64| stored_time(nanos).is_none().then(|| too_late(field, nanos));
    id("trace_id", span.trace_id, 16)
        .or_else(|| id("span_id", span.span_id, 8))
        .or_else(|| {
            let length = span.parent_span_id.len();
            (!matches!(length, 0 | 8)).then(|| format!("`parent_span_id` of a span has {length} bytes, not 8"))
        })
        .or_else(|| late("start_time_unix_nano", span.start_time))
        .or_else(|| late("end_time_unix_nano", span.end_time))
        .or_else(|| span.late_event.map(|nanos| too_late("events.time_unix_nano", nanos)))
}

#[inline(always)]
fn is_storable(span: &Scalars<'_>) -> bool {
    let (Ok(trace_id), Ok(span_id)) = (<[u8; 16]>::try_from(span.trace_id), <[u8; 8]>::try_from(span.span_id)) else {
        return false;
    };
    trace_id != [0; 16]
        && span_id != [0; 8]
        && matches!(span.parent_span_id.len(), 0 | 8)
        && (span.start_time | span.end_time) >> 63 == 0
        && span.late_event.is_none()
}

impl Records for Spans {
    const RESOURCE_LEVEL: &'static Message = &resource_spans::MESSAGE;
    const SCOPE_LEVEL: &'static Message = &scope_spans::MESSAGE;
    const RECORD: &'static Message = &span::MESSAGE;
    const LEARNED: &'static Learned = &LEARNED;

    fn reserve(&mut self, expected: Sizes) {
        let rows = expected.rows;
        self.trace_id.reserve_exact(16 * rows);
        self.span_id.reserve_exact(8 * rows);
        self.parent_span_id.reserve(rows);
        self.name.reserve(rows, 0);
        self.kind.reserve_exact(rows);
        for column in [&mut self.start_time, &mut self.end_time, &mut self.duration_ns] {
            column.reserve_exact(rows);
        }
        for column in [&mut self.flags, &mut self.dropped_attributes, &mut self.dropped_events, &mut self.dropped_links]
        {
            column.reserve_exact(rows);
        }
        self.attributes.reserve(expected);
        self.events.reserve(rows);
        self.links.reserve(rows);
    }

    fn sizes(&self) -> Sizes {
        self.attributes.sizes()
    }

    fn rows(&self) -> usize {
        self.kind.len()
    }

    fn nested_rows(&self) -> usize {
        self.events.len() + self.links.len()
    }

    fn parts(&self) -> usize {
        self.attributes.entries() + self.events.parts() + self.links.parts()
    }

    fn push<'a>(&mut self, mut reader: Reader<'a>, _received: i64, scratch: &mut Scratch<'a>) -> Result<()> {
        let mut span = Scalars::default();
        let mut chosen = Chosen::new();
        while let Some(tag) = reader.tag()? {
            match tag {
                span::ATTRIBUTES => {
                    let key = self.attributes.entry(reader.message(&key_value::MESSAGE)?, &mut scratch.room)?;
                    if !self.attributes.last_is_null() {
                        chosen.offer(key, self.attributes.entries() - 1);
                    }
                }
                span::TRACE_ID => span.trace_id = reader.bytes()?,
                span::SPAN_ID => span.span_id = reader.bytes()?,
                span::PARENT_SPAN_ID => span.parent_span_id = reader.bytes()?,
                span::TRACE_STATE => span.trace_state = reader.bytes()?,
                span::NAME => span.name = reader.bytes()?,
                span::KIND => span.kind = reader.int32()?,
                span::FLAGS => span.flags = reader.fixed32()?,
                span::START_TIME => span.start_time = reader.fixed64()?,
                span::END_TIME => span.end_time = reader.fixed64()?,
                span::DROPPED_ATTRIBUTES_COUNT => span.dropped_attributes = reader.uint32()?,
                span::EVENTS => {
                    let late = self.events.push(reader.message(&event::MESSAGE)?, &mut scratch.room)?;
                    span.late_event = span.late_event.or(late);
                }
                span::DROPPED_EVENTS_COUNT => span.dropped_events = reader.uint32()?,
                span::LINKS => self.links.push(reader.message(&link::MESSAGE)?, &mut scratch.room)?,
                span::DROPPED_LINKS_COUNT => span.dropped_links = reader.uint32()?,
                span::STATUS => read_status(reader.message(&status::MESSAGE)?, span.status.get_or_insert_default())?,
                other => reader.skip(other)?,
            }
        }
        if is_storable(&span) {
            self.accept(&span, chosen);
        } else {
            self.refuse(&span);
        }
        Ok(())
    }

    fn rejected(&mut self) -> Rejected {
        std::mem::take(&mut self.rejected)
    }

    fn is_text(&self, rows: usize) -> bool {
        // Columns of conventions hold whole values of attributes.
        self.name.is_text(rows)
            && self.trace_state.is_text(rows)
            && self.status_message.is_text(rows)
            && self.attributes.is_text(rows)
            && self.events.is_text(rows)
            && self.links.is_text(rows)
    }

    fn keep(&mut self) {
        self.attributes.keep();
        self.events.keep();
        self.links.keep();
    }

    fn cut(&mut self, rows: usize) {
        self.trace_id.truncate(16 * rows);
        self.span_id.truncate(8 * rows);
        self.parent_span_id.truncate(rows);
        self.trace_state.truncate(rows);
        self.flags.truncate(rows);
        self.name.truncate(rows);
        self.kind.truncate(rows);
        for column in [&mut self.start_time, &mut self.end_time, &mut self.duration_ns] {
            column.truncate(rows);
        }
        self.status_code.truncate(rows);
        self.status_message.truncate(rows);
        self.http_status.truncate(rows);
        self.conventions.iter_mut().for_each(|column| column.truncate(rows));
        self.attributes.cut(rows);
        self.events.cut(rows);
        self.links.cut(rows);
        for column in [&mut self.dropped_attributes, &mut self.dropped_events, &mut self.dropped_links] {
            column.truncate(rows);
        }
        self.rejected = Rejected::default();
    }

    fn finish(&mut self, columns: &mut Vec<ArrayRef>, taking: &mut Taking) -> std::result::Result<(), NotUtf8> {
        let rows = self.kind.len();
        let (attributes, attribute_types) = self.attributes.finish(taking)?;
        columns.extend([
            ids::<16>(taking.take(&mut self.trace_id)),
            ids::<8>(taking.take(&mut self.span_id)),
            self.parent_span_id.finish(taking),
            self.trace_state.finish(rows, taking)?,
            uint32s(taking.take(&mut self.flags)),
            self.name.finish(taking)?,
            Arc::new(Int32Array::new(taking.take(&mut self.kind).into(), None)),
            timestamps(taking.take(&mut self.start_time)),
            timestamps(taking.take(&mut self.end_time)),
            int64s(taking.take(&mut self.duration_ns)),
            self.status_code.finish::<Int32Type>(rows, taking),
            self.status_message.finish(rows, taking)?,
            self.http_status.finish::<Int32Type>(rows, taking),
        ]);
        for convention in &mut self.conventions {
            columns.push(convention.finish(rows, taking)?);
        }
        columns.extend([
            attributes,
            attribute_types,
            uint32s(taking.take(&mut self.dropped_attributes)),
            self.events.finish(taking)?,
            uint32s(taking.take(&mut self.dropped_events)),
            self.links.finish(taking)?,
            uint32s(taking.take(&mut self.dropped_links)),
        ]);
        Ok(())
    }
}

impl Spans {
    fn accept(&mut self, span: &Scalars<'_>, chosen: Chosen) {
        let row = self.kind.len();
        for (slot, entry) in chosen.drain() {
            let value = self.attributes.value(entry);
            if slot == HTTP_STATUS {
                self.http_status.set_some(row, std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()));
            } else {
                self.conventions[slot].set(row, value);
            }
        }
        self.attributes.end_row();
        self.events.end_row();
        self.links.end_row();
        self.trace_id.extend_from_slice(span.trace_id);
        self.span_id.extend_from_slice(span.span_id);
        self.parent_span_id.push(span.parent_span_id);
        self.trace_state.set_unless_empty(row, span.trace_state);
        self.flags.push(span.flags);
        self.name.push(span.name);
        self.kind.push(span.kind);
        // Both are below 2^63, as was checked.
        let (start, end) = (span.start_time as i64, span.end_time as i64);
        self.start_time.push(start);
        self.end_time.push(end);
        self.duration_ns.push(end - start);
        if let Some((code, message)) = span.status {
            self.status_code.set(row, code);
            self.status_message.set_unless_empty(row, message);
        }
        self.dropped_attributes.push(span.dropped_attributes);
        self.dropped_events.push(span.dropped_events);
        self.dropped_links.push(span.dropped_links);
    }

    /// Drops what was pushed of a span that cannot be stored.
    #[cold]
    fn refuse(&mut self, span: &Scalars<'_>) {
        self.attributes.truncate(self.kind.len());
        self.events.drop_row();
        self.links.drop_row();
        self.rejected.add(refusal(span).unwrap_or_default());
    }
}

fn read_status<'a>(mut reader: Reader<'a>, into: &mut (i32, &'a [u8])) -> Result<()> {
    while let Some(tag) = reader.tag()? {
        match tag {
            status::MESSAGE_TEXT => into.1 = reader.bytes()?,
            status::CODE => into.0 = reader.int32()?,
            other => reader.skip(other)?,
        }
    }
    Ok(())
}
