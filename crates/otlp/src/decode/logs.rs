//! Log records into columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, UInt8Array, UInt32Array};

use super::attributes::Attributes;
use super::columns::{NotUtf8, OptionalText};
use super::ids::OptionalIds;
use super::sizes::{Learned, Sizes};
use super::taking::Taking;
use super::walk::{Records, Scratch};
use super::{Rejected, timestamps, too_late};
use crate::proto::{Message, any_value, key_value, log_record, resource_logs, scope_logs};
use crate::value::{EMPTY, append_text, within};
use crate::wire::{Reader, Result};

/// `time` is the record's own.
const FROM_RECORD: u8 = 0;
/// `time` is when the record was observed.
const FROM_OBSERVED: u8 = 1;
/// `time` is when the request was received.
const FROM_RECEIVED: u8 = 2;

static LEARNED: Learned = Learned::new();

/// The columns of `logs` behind the common ones.
#[derive(Default)]
pub(super) struct Logs {
    time: Vec<i64>,
    time_source: Vec<u8>,
    observed_time: Vec<i64>,
    severity_number: Vec<i32>,
    severity_text: OptionalText,
    body: OptionalText,
    body_type: OptionalText,
    scratch: Vec<u8>,
    event_name: OptionalText,
    trace_id: OptionalIds<16>,
    span_id: OptionalIds<8>,
    flags: Vec<u32>,
    attributes: Attributes,
    dropped_attributes: Vec<u32>,
    rejected: Rejected,
}

impl Records for Logs {
    const RESOURCE_LEVEL: &'static Message = &resource_logs::MESSAGE;
    const SCOPE_LEVEL: &'static Message = &scope_logs::MESSAGE;
    const RECORD: &'static Message = &log_record::MESSAGE;
    const LEARNED: &'static Learned = &LEARNED;

    fn reserve(&mut self, expected: Sizes) {
        let rows = expected.rows;
        self.time.reserve_exact(rows);
        self.time_source.reserve_exact(rows);
        self.observed_time.reserve_exact(rows);
        self.severity_number.reserve_exact(rows);
        self.severity_text.reserve(rows);
        self.body.reserve(rows);
        self.body_type.reserve(rows);
        self.trace_id.reserve(rows);
        self.span_id.reserve(rows);
        self.flags.reserve_exact(rows);
        self.attributes.reserve(expected);
        self.dropped_attributes.reserve_exact(rows);
    }

    fn sizes(&self) -> Sizes {
        self.attributes.sizes()
    }

    fn rows(&self) -> usize {
        self.time.len()
    }

    fn nested_rows(&self) -> usize {
        0
    }

    fn parts(&self) -> usize {
        self.attributes.entries()
    }

    fn push<'a>(&mut self, mut reader: Reader<'a>, received: i64, scratch: &mut Scratch<'a>) -> Result<()> {
        let row = self.time.len();
        let (mut time, mut observed, mut severity, mut flags, mut dropped) = (0, 0, 0, 0, 0);
        let (mut severity_text, mut event_name) = (&b""[..], &b""[..]);
        let (mut trace_id, mut span_id) = (&b""[..], &b""[..]);
        let mut body = None;
        while let Some(tag) = reader.tag()? {
            match tag {
                log_record::TIME => time = reader.fixed64()?,
                log_record::OBSERVED_TIME => observed = reader.fixed64()?,
                log_record::SEVERITY_NUMBER => severity = reader.int32()?,
                log_record::SEVERITY_TEXT => severity_text = reader.bytes()?,
                log_record::BODY => body = Some(reader.message(&any_value::MESSAGE)?),
                log_record::ATTRIBUTES => {
                    self.attributes.entry(reader.message(&key_value::MESSAGE)?, &mut scratch.room)?;
                }
                log_record::DROPPED_ATTRIBUTES_COUNT => dropped = reader.uint32()?,
                log_record::FLAGS => flags = reader.fixed32()?,
                log_record::TRACE_ID => trace_id = reader.bytes()?,
                log_record::SPAN_ID => span_id = reader.bytes()?,
                log_record::EVENT_NAME => event_name = reader.bytes()?,
                other => reader.skip(other)?,
            }
        }
        self.scratch.clear();
        let body = body.map(|body| append_text(body, &mut self.scratch, &mut scratch.room)).transpose();
        let body = body.map_err(|error| within(error, "the body"))?;
        if (time | observed) >> 63 != 0 {
            self.attributes.truncate(row);
            let (field, nanos) =
                if time >> 63 != 0 { ("time_unix_nano", time) } else { ("observed_time_unix_nano", observed) };
            self.rejected.add(too_late(field, nanos));
            return Ok(());
        }
        // Both are below 2^63, as was checked.
        let (at, source) = match (time, observed) {
            (0, 0) => (received, FROM_RECEIVED),
            (0, observed) => (observed as i64, FROM_OBSERVED),
            (time, _) => (time as i64, FROM_RECORD),
        };
        self.time.push(at);
        self.time_source.push(source);
        self.observed_time.push(observed as i64);
        self.severity_number.push(severity);
        self.severity_text.set_unless_empty(row, severity_text);
        if let Some(letter) = body {
            self.body_type.set(row, &[letter]);
            if letter != EMPTY {
                self.body.set(row, &self.scratch);
            }
        }
        self.event_name.set_unless_empty(row, event_name);
        let is_kept = self.trace_id.push(trace_id) & self.span_id.push(span_id);
        if !is_kept {
            let (traces, spans) = (trace_id.len(), span_id.len());
            let reason = format!(
                "`trace_id` has {traces} bytes and `span_id` {spans}, where 16 and 8 or none are expected: stored without what does not fit"
            );
            self.rejected.without_id(reason);
        }
        self.flags.push(flags);
        self.attributes.end_row();
        self.dropped_attributes.push(dropped);
        Ok(())
    }

    fn rejected(&mut self) -> Rejected {
        std::mem::take(&mut self.rejected)
    }

    fn is_text(&self, rows: usize) -> bool {
        self.severity_text.is_text(rows)
            && self.body.is_text(rows)
            && self.event_name.is_text(rows)
            && self.attributes.is_text(rows)
    }

    fn keep(&mut self) {
        self.attributes.keep();
    }

    fn cut(&mut self, rows: usize) {
        self.time.truncate(rows);
        self.time_source.truncate(rows);
        self.observed_time.truncate(rows);
        self.severity_number.truncate(rows);
        for column in [&mut self.severity_text, &mut self.body, &mut self.body_type, &mut self.event_name] {
            column.truncate(rows);
        }
        self.trace_id.truncate(rows);
        self.span_id.truncate(rows);
        self.flags.truncate(rows);
        self.attributes.cut(rows);
        self.dropped_attributes.truncate(rows);
        self.rejected = Rejected::default();
    }

    fn finish(&mut self, columns: &mut Vec<ArrayRef>, taking: &mut Taking) -> std::result::Result<(), NotUtf8> {
        let rows = self.time.len();
        let (attributes, attribute_types) = self.attributes.finish(taking)?;
        columns.extend([
            timestamps(taking.take(&mut self.time)),
            Arc::new(UInt8Array::new(taking.take(&mut self.time_source).into(), None)),
            timestamps(taking.take(&mut self.observed_time)),
            Arc::new(Int32Array::new(taking.take(&mut self.severity_number).into(), None)),
            self.severity_text.finish(rows, taking)?,
            self.body.finish(rows, taking)?,
            self.body_type.finish(rows, taking)?,
            self.event_name.finish(rows, taking)?,
            self.trace_id.finish(taking),
            self.span_id.finish(taking),
            Arc::new(UInt32Array::new(taking.take(&mut self.flags).into(), None)),
            attributes,
            attribute_types,
            Arc::new(UInt32Array::new(taking.take(&mut self.dropped_attributes).into(), None)),
        ]);
        Ok(())
    }
}
