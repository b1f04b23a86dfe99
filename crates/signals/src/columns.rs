//! The columns of a stored batch, found and typed once a batch.

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, ListArray, MapArray,
    RecordBatch, StringArray, StructArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};

/// Why a batch could not be folded or loaded: it is not in the stored schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The column is missing.
    #[error("column `{0}` is missing from the batch")]
    Missing(String),
    /// The column has another type.
    #[error("column `{0}` is not of its stored type")]
    Type(String),
    /// A value is none that was ever written.
    #[error("column `{column}` holds `{value}`, which is no known value of it")]
    Value {
        /// The column.
        column: String,
        /// What it holds.
        value: String,
    },
}

pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, SchemaError> {
    batch.column_by_name(name).ok_or_else(|| SchemaError::Missing(name.to_owned()))
}

fn typed<'a, T>(name: &str, array: Option<&'a T>) -> Result<&'a T, SchemaError> {
    array.ok_or_else(|| SchemaError::Type(name.to_owned()))
}

/// Looks a column up that older batches lack.
pub(crate) fn optional<T>(
    batch: &RecordBatch,
    name: &str,
    find: impl FnOnce(&str) -> Result<T, SchemaError>,
) -> Result<Option<T>, SchemaError> {
    batch.column_by_name(name).is_some().then(|| find(name)).transpose()
}

pub(crate) fn text<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, SchemaError> {
    typed(name, column(batch, name)?.as_string_opt::<i32>())
}

pub(crate) fn time<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a TimestampNanosecondArray, SchemaError> {
    typed(name, column(batch, name)?.as_primitive_opt::<TimestampNanosecondType>())
}

pub(crate) fn int32<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array, SchemaError> {
    typed(name, column(batch, name)?.as_primitive_opt::<Int32Type>())
}

pub(crate) fn int64<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array, SchemaError> {
    typed(name, column(batch, name)?.as_primitive_opt::<Int64Type>())
}

pub(crate) fn uint32<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a UInt32Array, SchemaError> {
    typed(name, column(batch, name)?.as_primitive_opt::<UInt32Type>())
}

pub(crate) fn list<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ListArray, SchemaError> {
    typed(name, column(batch, name)?.as_list_opt::<i32>())
}

pub(crate) fn map<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a MapArray, SchemaError> {
    typed(name, column(batch, name)?.as_map_opt())
}

pub(crate) fn id<'a>(batch: &'a RecordBatch, name: &str, width: i32) -> Result<&'a FixedSizeBinaryArray, SchemaError> {
    let array = typed(name, column(batch, name)?.as_fixed_size_binary_opt())?;
    if array.value_length() == width { Ok(array) } else { Err(SchemaError::Type(name.to_owned())) }
}

pub(crate) fn field<'a>(array: &'a StructArray, name: &str) -> Result<&'a ArrayRef, SchemaError> {
    array.column_by_name(name).ok_or_else(|| SchemaError::Missing(name.to_owned()))
}

/// A dictionary column: text shared by many rows.
pub(crate) struct SharedText<'a> {
    keys: &'a [u32],
    values: &'a StringArray,
}

impl<'a> SharedText<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, SchemaError> {
        let array: &DictionaryArray<UInt32Type> =
            typed(name, column(batch, name)?.as_any().downcast_ref::<DictionaryArray<UInt32Type>>())?;
        let values = typed(name, array.values().as_string_opt::<i32>())?;
        Ok(Self { keys: array.keys().values(), values })
    }

    /// Says whether two columns have one buffer of keys between them.
    pub(crate) fn has_keys_of(&self, other: &Self) -> bool {
        std::ptr::eq(self.keys, other.keys)
    }

    pub(crate) fn key(&self, row: usize) -> u32 {
        self.keys[row]
    }

    pub(crate) fn value(&self, row: usize) -> &'a str {
        let key = self.keys[row] as usize;
        if key < self.values.len() { self.values.value(key) } else { "" }
    }
}

/// The values of an optional text column; absent is empty.
pub(crate) fn text_at(array: &StringArray, row: usize) -> Option<&str> {
    (!array.is_null(row)).then(|| array.value(row))
}

pub(crate) fn trace_id(bytes: &[u8]) -> u128 {
    bytes.try_into().map_or(0, u128::from_be_bytes)
}

pub(crate) fn span_id(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

/// Attribute maps, without building one.
pub(crate) struct Attributes<'a> {
    offsets: &'a [i32],
    /// The number of each entry's name.
    keys: &'a [u32],
    names: &'a StringArray,
    values: &'a StringArray,
}

impl<'a> Attributes<'a> {
    pub(crate) fn of(name: &str, map: &'a MapArray) -> Result<Self, SchemaError> {
        let keys = typed(name, map.keys().as_dictionary_opt::<UInt32Type>())?;
        Ok(Self {
            offsets: map.value_offsets(),
            keys: keys.keys().values(),
            names: typed(name, keys.values().as_string_opt::<i32>())?,
            values: typed(name, map.values().as_string_opt::<i32>())?,
        })
    }

    /// Returns the entries of a row.
    pub(crate) fn entries(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub(crate) fn key(&self, at: usize) -> &'a str {
        self.names.value(self.keys[at] as usize)
    }

    pub(crate) fn value(&self, at: usize) -> &'a str {
        text_at(self.values, at).unwrap_or("")
    }

    /// Returns every key with its value; absent values are empty.
    pub(crate) fn each(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (keys, names, values) = (self.keys, self.names, self.values);
        (self.offsets[row] as usize..self.offsets[row + 1] as usize)
            .map(move |at| (names.value(keys[at] as usize), text_at(values, at).unwrap_or("")))
    }

    /// Says whether any row may have the key.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.names.iter().any(|name| name == Some(key))
    }

    /// Returns the first value of a key; absent is empty.
    pub(crate) fn get(&self, row: usize, key: &str) -> &'a str {
        (self.offsets[row] as usize..self.offsets[row + 1] as usize)
            .find(|at| self.names.value(self.keys[*at] as usize) == key)
            .and_then(|at| text_at(self.values, at))
            .unwrap_or("")
    }
}
