//! What all points of a metric have in common: its name, description, unit and type, as columns over one buffer of keys.
//!
//! *Invariants.* An entry that equals the one before it is not made again; where requests share columns, one that equals any before
//! it is not. A description or unit that is empty is null in its rows, and an empty entry.
//!
//! *Cost.* A copy a metric, whatever number of points it has, and four bytes a point.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::UInt32Type;

use super::columns::{NotUtf8, Presence, Text};
use super::shared::Entries;
use super::taking::Taking;

/// A metric but for its points.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) unit: &'a str,
    /// The name of its type.
    pub(super) kind: &'static str,
}

/// The columns.
#[derive(Default)]
pub(super) struct Heads {
    entries: Entries,
    name: Text,
    description: Text,
    unit: Text,
    kind: Text,
    has_description: Presence,
    has_unit: Presence,
    /// How many entries the requests before the present one left.
    kept: usize,
}

impl Heads {
    /// Heads that are told apart over many requests.
    pub(super) fn joined() -> Self {
        Self { entries: Entries::joined(), ..Self::default() }
    }

    /// Makes room for so many rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.entries.reserve(rows);
    }

    /// Gives a head to the rows until `rows` that have none yet.
    pub(super) fn push(&mut self, head: &Head<'_>, rows: usize) {
        let first = self.entries.rows();
        if first == rows {
            return;
        }
        let texts = [head.name, head.description, head.unit, head.kind];
        let pending = self.entries.open();
        for text in texts {
            pending.extend_from_slice(&(text.len() as u32).to_le_bytes());
            pending.extend_from_slice(text.as_bytes());
        }
        let entry = match self.entries.again() {
            Some(entry) => entry,
            None => {
                let columns = [&mut self.name, &mut self.description, &mut self.unit, &mut self.kind];
                columns.into_iter().zip(texts).for_each(|(column, text)| column.push(text.as_bytes()));
                self.entries.seal()
            }
        };
        self.entries.assign(rows, entry);
        if !head.description.is_empty() {
            self.has_description.set_all(first..rows);
        }
        if !head.unit.is_empty() {
            self.has_unit.set_all(first..rows);
        }
    }

    /// Ends the present request: its entries stay.
    pub(super) fn keep(&mut self) {
        self.kept = self.entries.len();
    }

    /// Goes back to so many rows and to the entries that were there when the present request began.
    pub(super) fn cut(&mut self, rows: usize) {
        self.entries.cut(rows, self.kept);
        for column in [&mut self.name, &mut self.description, &mut self.unit, &mut self.kind] {
            column.truncate(self.kept);
        }
        self.has_description.truncate(rows);
        self.has_unit.truncate(rows);
    }

    /// Returns the columns in the order of the schema: name, description, unit, type.
    pub(super) fn finish(&mut self, taking: &Taking) -> Result<[ArrayRef; 4], NotUtf8> {
        self.kept = 0;
        let keys = self.entries.finish_keys(taking);
        let name = DictionaryArray::<UInt32Type>::new(UInt32Array::new(keys.clone(), None), self.name.finish(taking)?);
        let kind = name.with_values(self.kind.finish(taking)?);
        let description = optional(&keys, &mut self.description, &mut self.has_description, taking)?;
        let unit = optional(&keys, &mut self.unit, &mut self.has_unit, taking)?;
        Ok([Arc::new(name), description, unit, Arc::new(kind)])
    }
}

fn optional(
    keys: &ScalarBuffer<u32>,
    values: &mut Text,
    present: &mut Presence,
    taking: &Taking,
) -> Result<ArrayRef, NotUtf8> {
    let keys = UInt32Array::new(keys.clone(), Some(present.finish(keys.len())));
    Ok(Arc::new(DictionaryArray::<UInt32Type>::new(keys, values.finish(taking)?)))
}
