//! Columns that many rows share: those of the resource and those of the scope.
//!
//! *Invariants.* All columns of one of them are dictionaries over the same keys buffer. An entry that equals the one
//! before it byte by byte is not made again; where requests share columns, one that equals any before it is not. A resource or
//! scope without rows leaves no entry behind.
//!
//! Fields may come in any order and as often as the sender likes: the parts of a resource are collected while its records
//! are read, and read themselves when it ends. A resource that comes in several parts is merged as protobuf has it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::UInt32Type;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::check::check;
use super::columns::{NotUtf8, Text};
use super::remembered::{ByHash, Remembered, Texts};
use super::taking::Taking;
use crate::proto::{entity_ref, key_value, resource, scope};
use crate::value::{Room, append_member, append_text, of_attribute};
use crate::wire::{Reader, Result};

/// The name of a service that gives none.
const UNKNOWN_SERVICE: &[u8] = b"unknown_service";

/// Which entry each row has, and the bytes that tell each entry: on the wire, of a resource or scope.
#[derive(Default)]
pub(super) struct Entries {
    keys: Vec<u32>,
    wire: Text,
    /// Entries by a hash of their wire bytes that senders cannot foresee; of those that share one, the last.
    known: Option<ByHash>,
    /// What they are hashed with.
    seed: u64,
    /// The hash of what is pending, where that was looked for.
    pending: u64,
}

impl Entries {
    /// Entries that are told apart over many requests.
    pub(super) fn joined() -> Self {
        Self { known: Some(ByHash::default()), seed: RandomState::new().hash_one(()), ..Self::default() }
    }

    /// Makes room for so many rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.keys.reserve_exact(rows);
    }

    /// Returns how many rows have an entry.
    pub(super) fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Returns how many entries there are.
    pub(super) fn len(&self) -> usize {
        self.wire.len()
    }

    /// Returns where the bytes of the next entry are appended.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        self.wire.open()
    }

    /// Returns the entry that what is pending is again, and drops what is pending.
    pub(super) fn again(&mut self) -> Option<usize> {
        let pending = self.wire.pending();
        let is = |entry: &usize| self.wire.get(*entry) == pending;
        let entry = match self.wire.len().checked_sub(1).filter(is) {
            Some(last) => last,
            None => {
                let known = self.known.as_ref()?;
                self.pending = xxh3_64_with_seed(pending, self.seed);
                known.get(&self.pending).map(|entry| *entry as usize).filter(is)?
            }
        };
        self.discard();
        Some(entry)
    }

    fn discard(&mut self) {
        self.wire.truncate(self.wire.len());
    }

    /// Makes an entry of what is pending.
    pub(super) fn seal(&mut self) -> usize {
        let entry = self.wire.len();
        if let Some(known) = &mut self.known {
            known.insert(self.pending, entry as u32);
        }
        self.wire.seal();
        entry
    }

    /// Gives an entry to as many rows as are missing until there are `rows`.
    pub(super) fn assign(&mut self, rows: usize, entry: usize) {
        self.keys.resize(rows, entry as u32);
    }

    /// Goes back to so many rows and entries.
    pub(super) fn cut(&mut self, rows: usize, entries: usize) {
        self.keys.truncate(rows);
        self.wire.truncate(entries);
        if let Some(known) = &mut self.known {
            known.retain(|_, entry| (*entry as usize) < entries);
        }
    }

    fn take_keys(&mut self, taking: &Taking) -> ScalarBuffer<u32> {
        if let Some(known) = &mut self.known {
            known.clear();
        }
        ScalarBuffer::from(taking.take(&mut self.keys))
    }

    /// Takes the keys; the entries' bytes are dropped.
    pub(super) fn finish_keys(&mut self, taking: &Taking) -> ScalarBuffer<u32> {
        self.wire.truncate(0);
        self.take_keys(taking)
    }

    /// Takes the wire bytes as a column over the keys. Others of as many entries are made of it, so that keys are checked once.
    fn finish(&mut self, taking: &Taking) -> DictionaryArray<UInt32Type> {
        let keys = UInt32Array::new(self.take_keys(taking), None);
        DictionaryArray::new(keys, self.wire.finish_bytes(taking))
    }
}

/// The columns of the resource.
#[derive(Default)]
pub(super) struct Resources {
    entries: Entries,
    texts: Texts,
    /// What those of batches before came to, where there are any.
    remembered: Option<Remembered>,
    /// Those that the present request brought and that were not remembered.
    read: Vec<Read>,
    scratch: Vec<u8>,
}

/// A resource that was read.
struct Read {
    entry: usize,
    /// Of its bytes on the wire.
    hash: u64,
    /// What its text took of the request's room.
    taken: usize,
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

impl Resources {
    /// Resources that are told apart over many requests, and remembered from batch to batch in so many bytes.
    pub(super) fn joined(remembered_bytes: usize) -> Self {
        Self { entries: Entries::joined(), remembered: Some(Remembered::new(remembered_bytes)), ..Self::default() }
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.wire.len()
    }

    /// Takes the bytes of a field that is not the records'.
    pub(super) fn keep_field(&mut self, field: &[u8]) {
        self.entries.wire.open().extend_from_slice(field);
    }

    /// Ends a resource, whose `Resource` messages are `parts`; the rows until `rows` that have none yet are its. Its text is within `room`.
    pub(super) fn end(&mut self, rows: usize, parts: &mut Vec<Reader<'_>>, room: &mut Room) -> Result<()> {
        let entry = match self.entries.again() {
            Some(entry) => entry,
            None => {
                let (hash, wire) = (self.entries.pending, self.entries.wire.pending());
                let recalled = self.remembered.as_ref().map(|known| known.recall(hash, wire, &mut self.texts, room));
                let left = room.left();
                if recalled != Some(true) {
                    self.read_parts(parts, room)?;
                }
                let taken = left - room.left();
                if self.entries.keys.len() == rows {
                    parts.clear();
                    self.texts.truncate(self.entries.len());
                    self.entries.discard();
                    return Ok(());
                }
                if recalled == Some(false) {
                    self.read.push(Read { entry: self.entries.len(), hash, taken });
                }
                self.entries.seal()
            }
        };
        parts.clear();
        self.entries.assign(rows, entry);
        Ok(())
    }

    /// Says whether all from the `from`th on are text.
    pub(super) fn is_text(&self, from: usize) -> bool {
        self.texts.attributes.is_text(from) && self.texts.names.iter().all(|names| names.is_text(from))
    }

    /// Ends the present request: its resources stay, and are text.
    pub(super) fn keep(&mut self) {
        if let Some(remembered) = &mut self.remembered {
            for Read { entry, hash, taken } in self.read.drain(..) {
                remembered.add(hash, self.entries.wire.get(entry), &self.texts, entry, taken);
            }
        }
    }

    /// Goes back to so many rows and resources.
    pub(super) fn cut(&mut self, rows: usize, resources: usize) {
        self.entries.cut(rows, resources);
        self.texts.truncate(resources);
        self.read.clear();
    }

    fn read_parts(&mut self, parts: &mut Vec<Reader<'_>>, room: &mut Room) -> Result<()> {
        let mut found: [Option<(u8, usize, usize)>; 5] = [None; 5];
        self.scratch.clear();
        self.texts.attributes.open().push(b'{');
        let mut first = true;
        for mut part in parts.drain(..) {
            while let Some(tag) = part.tag()? {
                if tag != resource::ATTRIBUTES {
                    check_resource_field(&mut part, tag)?;
                    continue;
                }
                if !std::mem::take(&mut first) {
                    self.texts.attributes.open().push(b',');
                }
                let entry = part.message(&key_value::MESSAGE)?;
                let (key, value) = append_member(entry, self.texts.attributes.open(), room)?;
                if let (Some((column, rank)), Some(value)) = (resource_column(key), value)
                    && found[column].is_none_or(|(best, ..)| rank < best)
                {
                    let start = self.scratch.len();
                    append_text(value, &mut self.scratch, room).map_err(|error| of_attribute(error, key))?;
                    found[column] = Some((rank, start, self.scratch.len()));
                }
            }
        }
        self.texts.attributes.open().push(b'}');
        self.texts.attributes.seal();
        for (index, column) in self.texts.names.iter_mut().enumerate() {
            let text = found[index].map_or(&b""[..], |(_, start, end)| &self.scratch[start..end]);
            column.push(if index == 0 && text.is_empty() { UNKNOWN_SERVICE } else { text });
        }
        Ok(())
    }

    /// Appends the columns in the order of the schema: names, attributes as JSON, wire bytes.
    pub(super) fn finish(&mut self, columns: &mut Vec<ArrayRef>, taking: &Taking) -> std::result::Result<(), NotUtf8> {
        let wire = self.entries.finish(taking);
        for names in &mut self.texts.names {
            columns.push(Arc::new(wire.with_values(names.finish(taking)?)));
        }
        columns.push(Arc::new(wire.with_values(self.texts.attributes.finish(taking)?)));
        columns.push(Arc::new(wire));
        Ok(())
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
pub(super) struct Scopes {
    entries: Entries,
    name: Text,
    version: Text,
}

impl Scopes {
    /// Scopes that are told apart over many requests.
    pub(super) fn joined() -> Self {
        Self { entries: Entries::joined(), ..Self::default() }
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.wire.len()
    }

    /// Takes the bytes of a field that is not the records'.
    pub(super) fn keep(&mut self, field: &[u8]) {
        self.entries.wire.open().extend_from_slice(field);
    }

    /// Ends a scope, whose `InstrumentationScope` messages are `parts`; the rows until `rows` that have none yet are its.
    pub(super) fn end(&mut self, rows: usize, parts: &mut Vec<Reader<'_>>) -> Result<()> {
        let entry = match self.entries.again() {
            Some(entry) => entry,
            None => {
                let (name, version) = Self::read_parts(parts)?;
                if self.entries.keys.len() == rows {
                    self.entries.discard();
                    return Ok(());
                }
                self.name.push(name);
                self.version.push(version);
                self.entries.seal()
            }
        };
        parts.clear();
        self.entries.assign(rows, entry);
        Ok(())
    }

    /// Goes back to so many rows and scopes.
    pub(super) fn cut(&mut self, rows: usize, scopes: usize) {
        self.entries.cut(rows, scopes);
        self.name.truncate(scopes);
        self.version.truncate(scopes);
    }

    fn read_parts<'a>(parts: &mut Vec<Reader<'a>>) -> Result<(&'a [u8], &'a [u8])> {
        let (mut name, mut version) = (&b""[..], &b""[..]);
        for mut part in parts.drain(..) {
            while let Some(tag) = part.tag()? {
                match tag {
                    scope::NAME => name = part.text("name")?.as_bytes(),
                    scope::VERSION => version = part.text("version")?.as_bytes(),
                    // No column shows them.
                    scope::ATTRIBUTES => check(part.message(&key_value::MESSAGE)?)?,
                    scope::DROPPED_ATTRIBUTES_COUNT => drop(part.uint32()?),
                    other => part.skip(other)?,
                }
            }
        }
        Ok((name, version))
    }

    /// Appends the columns in the order of the schema: name, version, wire bytes.
    pub(super) fn finish(&mut self, columns: &mut Vec<ArrayRef>, taking: &Taking) -> std::result::Result<(), NotUtf8> {
        let wire = self.entries.finish(taking);
        columns.push(Arc::new(wire.with_values(self.name.finish(taking)?)));
        columns.push(Arc::new(wire.with_values(self.version.finish(taking)?)));
        columns.push(Arc::new(wire));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;

    use super::super::taking::Leave;
    use super::*;

    fn bytes_of(name: &str) -> Vec<u8> {
        let attribute = |key: &str, value| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let attributes = vec![
            attribute("service.name", Value::StringValue(name.to_owned())),
            attribute("raw", Value::BytesValue(vec![7; 100])),
            attribute("control", Value::StringValue("\u{1}".repeat(100))),
        ];
        Resource { attributes, ..Resource::default() }.encode_to_vec()
    }

    /// Gives one more row a resource; returns how much of the room that took.
    fn end(resources: &mut Resources, wire: &[u8], room: &mut Room) -> usize {
        let (left, rows) = (room.left(), resources.entries.rows());
        resources.keep_field(wire);
        resources.end(rows + 1, &mut vec![Reader::new(wire, &resource::MESSAGE)], room).expect("is well-formed");
        left - room.left()
    }

    fn take(resources: &mut Resources) -> Vec<ArrayRef> {
        let mut columns = Vec::new();
        assert!(resources.finish(&mut columns, &Taking::new(Leave::Room)).is_ok());
        columns
    }

    #[test]
    fn a_resource_that_is_recalled_takes_as_much_room_as_to_read_it_and_is_read_where_little_is_left() {
        let (cart, wire) = (bytes_of("cart"), bytes_of("checkout"));
        let mut resources = Resources::joined(8 << 10);
        let read = end(&mut resources, &wire, &mut Room::default());
        assert!(read > 700, "{read} bytes, six of each control character");
        resources.keep();
        let first = take(&mut resources);

        let recalled = end(&mut resources, &wire, &mut Room::default());
        assert_eq!((recalled, resources.read.len()), (read, 0));
        resources.keep();
        assert_eq!(take(&mut resources), first);

        let mut little = Room::default();
        while little.take_again(read) {}
        assert_eq!(end(&mut resources, &wire, &mut little), read);
        assert_eq!(resources.read.len(), 1, "as one that was never met");
        resources.keep();
        assert_eq!(take(&mut resources), first);

        // One of a request that was refused is not remembered.
        end(&mut resources, &cart, &mut Room::default());
        resources.cut(0, 0);
        end(&mut resources, &cart, &mut Room::default());
        assert_eq!(resources.read.len(), 1);
    }
}
