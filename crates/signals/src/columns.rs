//! The columns of a stored batch, found and typed once a batch, and read as plain slices.
//!
//! *Cost.* Text that is empty is told by its offsets and never compared: a comparison of nothing with nothing still calls
//! `memcmp`, whose masked load from where an empty string points takes hundreds of cycles on some processors.

use std::borrow::Cow;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryArray, Int64Array, ListArray, MapArray, RecordBatch,
    StringArray, StructArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, Int64Type, TimestampNanosecondType, ToByteSlice, UInt32Type,
};

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

pub(crate) fn typed<'a, T>(name: &str, array: Option<&'a T>) -> Result<&'a T, SchemaError> {
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

/// Which rows have a value, as bits.
#[derive(Clone, Copy)]
struct Valid<'a> {
    /// Empty where all have one.
    bits: &'a [u8],
    offset: usize,
}

impl<'a> Valid<'a> {
    fn of(nulls: Option<&'a NullBuffer>) -> Self {
        match nulls.filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) => Self { bits: nulls.validity(), offset: nulls.offset() },
            None => Self { bits: &[], offset: 0 },
        }
    }

    /// Says whether all rows have one.
    fn all(self) -> bool {
        self.bits.is_empty()
    }

    #[inline(always)]
    fn is(self, row: usize) -> bool {
        let at = row + self.offset;
        self.bits.is_empty() || self.bits[at / 8] >> (at % 8) & 1 == 1
    }
}

/// Nanoseconds since 1970; times before count as unset, which is 0.
#[derive(Clone, Copy)]
pub(crate) struct Times<'a>(&'a [i64]);

impl<'a> Times<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0.to_byte_slice()
    }

    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, SchemaError> {
        Ok(Self(time(batch, name)?.values()))
    }

    #[inline(always)]
    pub(crate) fn get(self, row: usize) -> u64 {
        self.0[row].max(0) as u64
    }

    /// Says how many rows there are, so that the compiler knows those below it to be there.
    #[inline(always)]
    pub(crate) fn over(self, rows: usize) -> Self {
        Self(&self.0[..rows])
    }
}

/// Numbers; absent is `None`.
#[derive(Clone, Copy)]
pub(crate) struct Numbers<'a, T> {
    values: &'a [T],
    valid: Valid<'a>,
}

impl<'a, T: ArrowNativeType> Numbers<'a, T> {
    pub(crate) fn of<P: ArrowPrimitiveType<Native = T>>(
        batch: &'a RecordBatch,
        name: &str,
    ) -> Result<Self, SchemaError> {
        let array = typed(name, column(batch, name)?.as_primitive_opt::<P>())?;
        // Where all are absent there is nothing to look at.
        let values: &[T] = if array.null_count() == array.len() { &[] } else { array.values() };
        Ok(Self { values, valid: Valid::of(array.nulls().filter(|_| !values.is_empty())) })
    }

    #[inline(always)]
    pub(crate) fn get(self, row: usize) -> Option<T> {
        if self.values.is_empty() || !self.valid.is(row) { None } else { Some(self.values[row]) }
    }

    /// Returns the number; absent is zero.
    #[inline(always)]
    pub(crate) fn or_zero(self, row: usize) -> T {
        self.get(row).unwrap_or_default()
    }

    /// Returns the numbers of all rows, so that nothing is asked for each; absent is zero.
    pub(crate) fn or_zeros(self, rows: usize) -> Cow<'a, [T]> {
        match self.values.get(..rows) {
            Some(values) if self.valid.all() => Cow::Borrowed(values),
            Some(_) => (0..rows).map(|row| self.or_zero(row)).collect(),
            None => Cow::Owned(vec![T::default(); rows]),
        }
    }
}

/// Ids of one width; absent is zero.
#[derive(Clone, Copy)]
pub(crate) struct Ids<'a, const WIDTH: usize> {
    ids: &'a [[u8; WIDTH]],
    valid: Valid<'a>,
}

impl<'a, const WIDTH: usize> Ids<'a, WIDTH> {
    pub(crate) fn bytes_of_all(self) -> &'a [u8] {
        self.ids.as_flattened()
    }

    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, SchemaError> {
        let array = id(batch, name, WIDTH as i32)?;
        Ok(Self { ids: array.value_data().as_chunks().0, valid: Valid::of(array.nulls()) })
    }

    #[inline(always)]
    fn bytes(self, row: usize) -> [u8; WIDTH] {
        if self.valid.is(row) { self.ids[row] } else { [0; WIDTH] }
    }

    /// Says how many rows there are, so that the compiler knows those below it to be there.
    #[inline(always)]
    pub(crate) fn over(self, rows: usize) -> Self {
        Self { ids: &self.ids[..rows], ..self }
    }
}

impl Ids<'_, 16> {
    #[inline(always)]
    pub(crate) fn get(self, row: usize) -> u128 {
        u128::from_be_bytes(self.bytes(row))
    }

    /// Returns the id; `None` where it is absent.
    pub(crate) fn find(self, row: usize) -> Option<u128> {
        self.valid.is(row).then(|| self.get(row))
    }
}

impl Ids<'_, 8> {
    #[inline(always)]
    pub(crate) fn get(self, row: usize) -> u64 {
        u64::from_be_bytes(self.bytes(row))
    }
}

/// Text; absent is empty.
#[derive(Clone, Copy)]
pub(crate) struct Texts<'a> {
    offsets: &'a [i32],
    array: &'a StringArray,
}

impl<'a> Texts<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, SchemaError> {
        Ok(Self::from(text(batch, name)?))
    }

    /// Returns the bytes that say where the texts are, and those of all texts.
    pub(crate) fn bytes(self) -> [&'a [u8]; 2] {
        let of = |place: Option<&i32>| place.map_or(0, |place| *place as usize);
        let texts = of(self.offsets.first())..of(self.offsets.last());
        [self.offsets.to_byte_slice(), self.array.value_data().get(texts).unwrap_or_default()]
    }

    /// Says whether all are empty.
    pub(crate) fn all_empty(self) -> bool {
        self.offsets.first() == self.offsets.last()
    }

    #[inline(always)]
    pub(crate) fn get(self, row: usize) -> &'a str {
        if self.offsets[row] == self.offsets[row + 1] || self.array.nulls().is_some_and(|nulls| nulls.is_null(row)) {
            return "";
        }
        self.array.value(row)
    }
}

impl<'a> From<&'a StringArray> for Texts<'a> {
    fn from(array: &'a StringArray) -> Self {
        Self { offsets: array.value_offsets(), array }
    }
}

/// Compares text without calling `memcmp` for nothing.
#[inline]
pub(crate) fn same_text(one: &str, other: &str) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

/// Lists of numbers, without making an array of each; absent is empty.
#[derive(Clone, Copy)]
pub(crate) struct Lists<'a, T> {
    offsets: &'a [i32],
    values: &'a [T],
    nulls: Option<&'a NullBuffer>,
}

impl<'a, T: ArrowNativeType> Lists<'a, T> {
    pub(crate) fn of<P: ArrowPrimitiveType<Native = T>>(
        batch: &'a RecordBatch,
        name: &str,
    ) -> Result<Self, SchemaError> {
        let lists = list(batch, name)?;
        let values = typed(name, lists.values().as_primitive_opt::<P>())?;
        Ok(Self { offsets: lists.value_offsets(), values: values.values(), nulls: lists.nulls() })
    }

    #[inline]
    pub(crate) fn get(self, row: usize) -> &'a [T] {
        match self.nulls {
            Some(nulls) if nulls.is_null(row) => &[],
            _ => &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize],
        }
    }
}

pub(crate) fn time<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a TimestampNanosecondArray, SchemaError> {
    typed(name, column(batch, name)?.as_primitive_opt::<TimestampNanosecondType>())
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

/// A dictionary column: text shared by many rows; absent is empty.
pub(crate) struct SharedText<'a> {
    keys: &'a [u32],
    nulls: Option<&'a NullBuffer>,
    values: &'a StringArray,
}

impl<'a> SharedText<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, SchemaError> {
        let array: &DictionaryArray<UInt32Type> =
            typed(name, column(batch, name)?.as_any().downcast_ref::<DictionaryArray<UInt32Type>>())?;
        let values = typed(name, array.values().as_string_opt::<i32>())?;
        let nulls = array.keys().nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(Self { keys: array.keys().values(), nulls, values })
    }

    /// Says whether two columns have one buffer of keys between them.
    pub(crate) fn has_keys_of(&self, other: &Self) -> bool {
        std::ptr::eq(self.keys, other.keys)
    }

    pub(crate) fn keys(&self) -> &'a [u32] {
        self.keys
    }

    #[inline(always)]
    pub(crate) fn key(&self, row: usize) -> u32 {
        self.keys[row]
    }

    /// Returns the key, or what is none where the text is absent.
    #[inline(always)]
    pub(crate) fn key_or_none(&self, row: usize) -> u32 {
        match self.nulls {
            Some(nulls) if nulls.is_null(row) => u32::MAX,
            _ => self.keys[row],
        }
    }

    pub(crate) fn value(&self, row: usize) -> &'a str {
        let key = self.key_or_none(row) as usize;
        if key < self.values.len() { self.values.value(key) } else { "" }
    }
}
