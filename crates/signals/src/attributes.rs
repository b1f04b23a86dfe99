//! Attribute maps of a batch, read without building one.

use arrow::array::{AsArray, MapArray, StringArray};
use arrow::datatypes::UInt32Type;

use crate::columns::{SchemaError, Texts, typed};

/// The attributes of each row; absent values are empty.
pub(crate) struct Attributes<'a> {
    offsets: &'a [i32],
    /// The number of each entry's name.
    keys: &'a [u32],
    names: &'a StringArray,
    values: Texts<'a>,
}

impl<'a> Attributes<'a> {
    pub(crate) fn of(name: &str, map: &'a MapArray) -> Result<Self, SchemaError> {
        let keys = typed(name, map.keys().as_dictionary_opt::<UInt32Type>())?;
        Ok(Self {
            offsets: map.value_offsets(),
            keys: keys.keys().values(),
            names: typed(name, keys.values().as_string_opt::<i32>())?,
            values: Texts::from(typed(name, map.values().as_string_opt::<i32>())?),
        })
    }

    /// Returns the entries of a row.
    pub(crate) fn entries(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub(crate) fn key(&self, at: usize) -> &'a str {
        self.names.value(self.code(at))
    }

    /// Returns the number of an entry's name, which is below that of the roles.
    pub(crate) fn code(&self, at: usize) -> usize {
        self.keys[at] as usize
    }

    /// Says what each name of the batch is good for, so that entries are told by a number.
    pub(crate) fn roles<R>(&self, mut of: impl FnMut(&str) -> R) -> Vec<R> {
        self.names.iter().map(|name| of(name.unwrap_or(""))).collect()
    }

    pub(crate) fn value(&self, at: usize) -> &'a str {
        self.values.get(at)
    }

    /// Returns every key with its value.
    pub(crate) fn each(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.entries(row).map(|at| (self.key(at), self.value(at)))
    }

    /// Returns the first value of a key; absent is empty.
    pub(crate) fn get(&self, row: usize, key: &str) -> &'a str {
        self.entries(row).find(|at| self.key(*at) == key).map_or("", |at| self.value(at))
    }
}
