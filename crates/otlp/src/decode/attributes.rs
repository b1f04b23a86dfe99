//! Attribute maps: `KeyValue` messages pushed into one map column and its column of type letters.
//!
//! *Cost.* A string entry in the form every encoder writes it takes one comparison of shape, a name told apart and one copy.

use std::sync::Arc;

use arrow::array::{ArrayRef, MapArray, StructArray};
use arrow::buffer::NullBuffer;

use super::check_parts;
use super::columns::{NotUtf8, Offsets, OptionalText, Text};
use super::keys::Keys;
use super::sizes::Sizes;
use super::taking::Taking;
use crate::nested::{attribute_entries, attribute_entry, no_attributes};
use crate::proto::{any_value, key_value};
use crate::value::{EMPTY, Room, STRING, append_text, check_key, of_attribute};
use crate::wire::{Reader, Result};

/// One map column under construction.
#[derive(Default)]
pub(super) struct Attributes {
    keys: Keys,
    values: Text,
    /// Entries whose value is null, ascending.
    nulls: Vec<u32>,
    rows: Offsets,
    /// Letters of the present row, from its first entry that is not a string on.
    letters: Vec<u8>,
    types: OptionalText,
}

impl Attributes {
    /// Pushes one entry into the present row, what it makes within `room`; returns its key.
    #[inline(always)]
    pub(super) fn entry<'a>(&mut self, entry: Reader<'a>, room: &mut Room) -> Result<&'a [u8]> {
        check_parts(&entry, self.entries(), room.most)?;
        if let Some((key, value)) = plain_text(entry.rest()) {
            self.keys.push(key);
            self.values.push(value);
            if !self.letters.is_empty() {
                self.letters.push(STRING);
            }
            return Ok(key);
        }
        self.any_entry(entry, room)
    }

    fn any_entry<'a>(&mut self, mut entry: Reader<'a>, room: &mut Room) -> Result<&'a [u8]> {
        let mut key = &b""[..];
        let mut value = None;
        while let Some(tag) = entry.tag()? {
            match tag {
                key_value::KEY => key = entry.bytes()?,
                key_value::VALUE => value = Some(entry.message(&any_value::MESSAGE)?),
                other => entry.skip(other)?,
            }
        }
        let named = |error| of_attribute(error, key);
        check_key(&entry, key).map_err(named)?;
        let letter = match value {
            Some(value) => append_text(value, self.values.open(), room).map_err(named)?,
            None => EMPTY,
        };
        if letter == EMPTY {
            self.nulls.push(self.values.len() as u32);
        }
        if letter != STRING || !self.letters.is_empty() {
            self.letters.resize(self.values.len() - self.rows.items(), STRING);
            self.letters.push(letter);
        }
        self.keys.push(key);
        self.values.seal();
        Ok(key)
    }

    /// Makes room for what is expected.
    pub(super) fn reserve(&mut self, expected: Sizes) {
        self.keys.reserve(expected.entries, expected.keys);
        self.values.reserve(expected.entries, expected.values);
        self.rows.reserve(expected.rows);
    }

    /// Returns what there is.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            rows: self.rows.len(),
            entries: self.entries(),
            keys: self.keys.bytes_len(),
            values: self.values.bytes_len(),
        }
    }

    /// Returns how many entries there are in all rows.
    pub(super) fn entries(&self) -> usize {
        self.keys.len()
    }

    /// Returns the text of an entry's value.
    pub(super) fn value(&self, entry: usize) -> &[u8] {
        self.values.get(entry)
    }

    /// Says whether the value of the entry pushed last is null.
    #[inline(always)]
    pub(super) fn last_is_null(&self) -> bool {
        self.nulls.last().is_some_and(|entry| *entry as usize + 1 == self.entries())
    }

    /// Ends the present row.
    #[inline(always)]
    pub(super) fn end_row(&mut self) {
        if !self.letters.is_empty() {
            self.types.set(self.rows.len(), &self.letters);
            self.letters.clear();
        }
        self.rows.seal(self.keys.len());
    }

    /// Drops every row from `rows` on, and the entries pushed since.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
        let entries = self.rows.items();
        self.keys.truncate(entries);
        self.values.truncate(entries);
        while self.nulls.last().is_some_and(|last| *last as usize >= entries) {
            self.nulls.pop();
        }
        self.letters.clear();
        self.types.truncate(rows);
    }

    /// Says whether what was pushed since there were `rows` is text.
    pub(super) fn is_text(&self, rows: usize) -> bool {
        self.keys.is_text() && self.values.is_text(self.rows.end(rows))
    }

    /// Ends a request: what it brought stays.
    pub(super) fn keep(&mut self) {
        self.keys.keep();
    }

    /// Goes back to where the present request began, when there were `rows`.
    pub(super) fn cut(&mut self, rows: usize) {
        self.truncate(rows);
        self.keys.forget();
    }

    /// Begins again where there are neither rows nor entries; names may be left of records that were refused.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.rows.len() == 0 && self.entries() == 0);
        self.keys.clear();
    }

    /// Returns the map and the letters.
    pub(super) fn finish(&mut self, taking: &mut Taking) -> std::result::Result<(ArrayRef, ArrayRef), NotUtf8> {
        let entries = self.keys.len();
        let types = self.types.finish(self.rows.len(), taking)?;
        if entries == 0 {
            // Of records that became no rows: a request is refused for them as well when it shares columns.
            if !self.keys.is_text() {
                return Err(NotUtf8);
            }
            self.keys.clear();
            let map = MapArray::new(attribute_entries(), self.rows.finish(taking), no_attributes(), None, false);
            return Ok((Arc::new(map), types));
        }
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = vec![true; entries];
            self.nulls.iter().for_each(|entry| valid[*entry as usize] = false);
            NullBuffer::from(valid)
        });
        self.nulls.clear();
        let columns = vec![self.keys.finish(taking)?, self.values.finish_with(nulls, taking)?];
        let structs = StructArray::new(attribute_entry(), columns, None);
        let map = MapArray::new(attribute_entries(), self.rows.finish(taking), structs, None, false);
        Ok((Arc::new(map), types))
    }
}

/// Splits a `KeyValue` of the common form: a key, then a string value, each length in one byte, nothing else.
#[inline(always)]
fn plain_text(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    const KEY: u8 = key_value::KEY as u8;
    const VALUE: u8 = key_value::VALUE as u8;
    const TEXT: u8 = any_value::STRING as u8;
    let [KEY, key_len @ ..0x80, rest @ ..] = entry else { return None };
    let (key, value) = rest.split_at_checked(usize::from(*key_len))?;
    match value {
        [VALUE, value_len @ ..0x80, TEXT, text_len @ ..0x80, text @ ..]
            if text.len() == usize::from(*text_len) && usize::from(*value_len) == text.len() + 2 =>
        {
            Some((key, text))
        }
        _ => None,
    }
}
