//! Exemplars of metric points.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::{Float64Type, Int64Type};

use super::attributes::Attributes;
use super::columns::{NotUtf8, Offsets, OptionalNumber, Text};
use super::taking::Taking;
use super::{check_rows, stored_time, timestamps};
use crate::nested::{exemplar_fields, exemplar_item, no_exemplars};
use crate::proto::{exemplar, key_value};
use crate::value::Room;
use crate::wire::{Reader, Result};

/// The `exemplars` column.
#[derive(Default)]
pub(super) struct Exemplars {
    rows: Offsets,
    time: Vec<i64>,
    value: OptionalNumber<f64>,
    value_int: OptionalNumber<i64>,
    trace_id: Text,
    span_id: Text,
    attributes: Attributes,
}

impl Exemplars {
    pub(super) fn len(&self) -> usize {
        self.time.len()
    }

    /// Returns how many attributes there are.
    pub(super) fn parts(&self) -> usize {
        self.attributes.entries()
    }

    /// Pushes an exemplar into the present row; returns its time where that cannot be stored.
    pub(super) fn push(&mut self, mut reader: Reader<'_>, room: &mut Room) -> Result<Option<u64>> {
        let item = self.time.len();
        check_rows(&reader, item, room.most)?;
        let (mut time, mut trace_id, mut span_id) = (0, &b""[..], &b""[..]);
        let (mut value, mut value_int) = (None, None);
        while let Some(tag) = reader.tag()? {
            match tag {
                exemplar::TIME => time = reader.fixed64()?,
                exemplar::AS_DOUBLE => (value, value_int) = (Some(reader.double()?), None),
                exemplar::AS_INT => {
                    let int = reader.fixed64()? as i64;
                    (value, value_int) = (Some(int as f64), Some(int));
                }
                exemplar::TRACE_ID => trace_id = reader.bytes()?,
                exemplar::SPAN_ID => span_id = reader.bytes()?,
                exemplar::FILTERED_ATTRIBUTES => {
                    self.attributes.entry(reader.message(&key_value::MESSAGE)?, room)?;
                }
                other => reader.skip(other)?,
            }
        }
        self.time.push(time as i64);
        self.value.set_some(item, value);
        self.value_int.set_some(item, value_int);
        self.trace_id.push(trace_id);
        self.span_id.push(span_id);
        self.attributes.end_row();
        Ok(stored_time(time).is_none().then_some(time))
    }

    pub(super) fn end_row(&mut self) {
        self.rows.seal(self.time.len());
    }

    /// Drops what was pushed since the last row.
    pub(super) fn drop_row(&mut self) {
        let items = self.rows.items();
        self.time.truncate(items);
        self.value.truncate(items);
        self.value_int.truncate(items);
        self.trace_id.truncate(items);
        self.span_id.truncate(items);
        self.attributes.truncate(items);
    }

    /// Says whether what was pushed since there were `rows` is text.
    pub(super) fn is_text(&self, rows: usize) -> bool {
        self.attributes.is_text(self.rows.end(rows))
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
        let items = self.time.len();
        if items == 0 {
            self.attributes.clear();
            return Ok(self.rows.finish_lists(exemplar_item(), no_exemplars(), taking));
        }
        let (attributes, types) = self.attributes.finish(taking)?;
        let columns: Vec<ArrayRef> = vec![
            timestamps(taking.take(&mut self.time)),
            self.value.finish::<Float64Type>(items, taking),
            self.value_int.finish::<Int64Type>(items, taking),
            self.trace_id.finish_bytes(taking),
            self.span_id.finish_bytes(taking),
            attributes,
            types,
        ];
        let exemplars = Arc::new(StructArray::new(exemplar_fields(), columns, None));
        Ok(self.rows.finish_lists(exemplar_item(), exemplars, taking))
    }
}
