//! Columns that many rows share: those of the resource and those of the scope.
//!
//! *Invariants.* All columns of one of them are dictionaries over the same keys buffer. An entry that equals the one
//! before it byte by byte is not made again. A resource or scope without rows leaves no entry behind.
//!
//! Fields may come in any order and as often as the sender likes: the parts of a resource are collected while its records
//! are read, and read themselves when it ends. A resource that comes in several parts is merged as protobuf has it.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::UInt32Type;

use super::check::check;
use super::columns::{NotUtf8, Text};
use crate::proto::{entity_ref, key_value, resource, scope};
use crate::value::{append_entry, append_text};
use crate::wire::{Reader, Result};

/// The name of a service that gives none.
const UNKNOWN_SERVICE: &[u8] = b"unknown_service";

/// Which entry each row has, and the wire bytes of each entry.
#[derive(Default)]
struct Entries<'a> {
    keys: Vec<u32>,
    wire: Text,
    /// The nested messages of the entry under construction.
    parts: Vec<Reader<'a>>,
}

impl Entries<'_> {
    /// Says whether the entry under construction is the one before it again.
    fn repeats(&self) -> bool {
        let count = self.wire.len();
        count > 0 && self.wire.get(count - 1) == self.wire.pending()
    }

    fn discard(&mut self) {
        self.wire.truncate(self.wire.len());
        self.parts.clear();
    }

    /// Gives the last entry to as many rows as are missing until there are `rows`.
    fn assign(&mut self, rows: usize) {
        self.keys.resize(rows, self.wire.len().saturating_sub(1) as u32);
    }
}

fn dictionary(keys: &ScalarBuffer<u32>, values: ArrayRef) -> ArrayRef {
    let keys = UInt32Array::new(keys.clone(), None);
    Arc::new(DictionaryArray::<UInt32Type>::new(keys, values))
}

/// The columns of the resource.
#[derive(Default)]
pub(super) struct Resources<'a> {
    entries: Entries<'a>,
    names: [Text; 5],
    attributes: Text,
    scratch: Vec<u8>,
}

/// Attributes that have a column: the column's index and the name's rank in it, lower is better.
fn resource_column(key: &[u8]) -> Option<(usize, u8)> {
    Some(match key {
        b"service.name" => (0, 0),
        b"service.namespace" => (1, 0),
        b"service.version" => (2, 0),
        b"deployment.environment.name" => (3, 0),
        b"deployment.environment" => (3, 1),
        b"service.instance.id" => (4, 0),
        _ => return None,
    })
}

impl<'a> Resources<'a> {
    /// Takes the bytes of a field that is not the records'.
    pub(super) fn keep(&mut self, field: &[u8]) {
        self.entries.wire.open().extend_from_slice(field);
    }

    /// Takes a `Resource` message.
    pub(super) fn part(&mut self, resource: Reader<'a>) {
        self.entries.parts.push(resource);
    }

    /// Ends a resource; the rows until `rows` that have none yet are its.
    pub(super) fn end(&mut self, rows: usize) -> Result<()> {
        if self.entries.repeats() {
            self.entries.discard();
        } else {
            self.read_parts()?;
            if self.entries.keys.len() == rows {
                let kept = self.entries.wire.len();
                self.names.iter_mut().for_each(|column| column.truncate(kept));
                self.attributes.truncate(kept);
                self.entries.discard();
            } else {
                self.entries.wire.seal();
            }
        }
        self.entries.assign(rows);
        Ok(())
    }

    fn read_parts(&mut self) -> Result<()> {
        let mut found: [Option<(u8, usize, usize)>; 5] = [None; 5];
        self.scratch.clear();
        self.attributes.open().push(b'{');
        let mut first = true;
        for mut part in self.entries.parts.drain(..) {
            while let Some(tag) = part.tag()? {
                if tag != resource::ATTRIBUTES {
                    check_resource_field(&mut part, tag)?;
                    continue;
                }
                if !std::mem::take(&mut first) {
                    self.attributes.open().push(b',');
                }
                let entry = part.message(&key_value::MESSAGE)?;
                let (key, value) = append_entry(entry, self.attributes.open(), 0)?;
                if let (Some((column, rank)), Some(value)) = (resource_column(key), value)
                    && found[column].is_none_or(|(best, ..)| rank < best)
                {
                    let start = self.scratch.len();
                    append_text(value, &mut self.scratch)?;
                    found[column] = Some((rank, start, self.scratch.len()));
                }
            }
        }
        self.attributes.open().push(b'}');
        self.attributes.seal();
        for (index, column) in self.names.iter_mut().enumerate() {
            let text = found[index].map_or(&b""[..], |(_, start, end)| &self.scratch[start..end]);
            column.push(if index == 0 && text.is_empty() { UNKNOWN_SERVICE } else { text });
        }
        Ok(())
    }

    /// Returns the columns in the order of the schema: names, attributes as JSON, wire bytes.
    pub(super) fn finish(self) -> std::result::Result<Vec<ArrayRef>, NotUtf8> {
        let keys = ScalarBuffer::from(self.entries.keys);
        let mut columns = Vec::with_capacity(7);
        for names in self.names {
            columns.push(dictionary(&keys, names.finish()?));
        }
        columns.push(dictionary(&keys, self.attributes.finish()?));
        columns.push(dictionary(&keys, self.entries.wire.finish_bytes()));
        Ok(columns)
    }
}

/// Reads a field of a resource that no column shows, so that a malformed one is refused.
fn check_resource_field(part: &mut Reader<'_>, tag: u32) -> Result<()> {
    match tag {
        resource::DROPPED_ATTRIBUTES_COUNT => part.uint32().map(drop),
        resource::ENTITY_REFS => check(part.message(&entity_ref::MESSAGE)?),
        other => part.skip(other),
    }
}

/// The columns of the scope.
#[derive(Default)]
pub(super) struct Scopes<'a> {
    entries: Entries<'a>,
    name: Text,
    version: Text,
    scratch: Vec<u8>,
}

impl<'a> Scopes<'a> {
    /// Takes the bytes of a field that is not the records'.
    pub(super) fn keep(&mut self, field: &[u8]) {
        self.entries.wire.open().extend_from_slice(field);
    }

    /// Takes an `InstrumentationScope` message.
    pub(super) fn part(&mut self, scope: Reader<'a>) {
        self.entries.parts.push(scope);
    }

    /// Ends a scope; the rows until `rows` that have none yet are its.
    pub(super) fn end(&mut self, rows: usize) -> Result<()> {
        if self.entries.repeats() {
            self.entries.discard();
        } else {
            let (name, version) = self.read_parts()?;
            if self.entries.keys.len() == rows {
                self.entries.discard();
            } else {
                self.name.push(name);
                self.version.push(version);
                self.entries.wire.seal();
            }
        }
        self.entries.assign(rows);
        Ok(())
    }

    fn read_parts(&mut self) -> Result<(&'a [u8], &'a [u8])> {
        let (mut name, mut version) = (&b""[..], &b""[..]);
        for mut part in self.entries.parts.drain(..) {
            while let Some(tag) = part.tag()? {
                match tag {
                    scope::NAME => name = part.text("name")?.as_bytes(),
                    scope::VERSION => version = part.text("version")?.as_bytes(),
                    scope::ATTRIBUTES => {
                        self.scratch.clear();
                        append_entry(part.message(&key_value::MESSAGE)?, &mut self.scratch, 0)?;
                    }
                    scope::DROPPED_ATTRIBUTES_COUNT => drop(part.uint32()?),
                    other => part.skip(other)?,
                }
            }
        }
        Ok((name, version))
    }

    /// Returns the columns in the order of the schema: name, version, wire bytes.
    pub(super) fn finish(self) -> std::result::Result<Vec<ArrayRef>, NotUtf8> {
        let keys = ScalarBuffer::from(self.entries.keys);
        Ok(vec![
            dictionary(&keys, self.name.finish()?),
            dictionary(&keys, self.version.finish()?),
            dictionary(&keys, self.entries.wire.finish_bytes()),
        ])
    }
}
