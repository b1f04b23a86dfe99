//! Typed access to the columns of a batch, of a struct and of a map.

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray, RecordBatch,
    StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Schema};

use super::EncodeError;

type Result<T> = std::result::Result<T, EncodeError>;

/// Returns `array` as an array of type `T`; one of another type is cast to `wanted` first.
pub(super) fn typed<T: Array + Clone + 'static>(array: &ArrayRef, wanted: &DataType, name: &str) -> Result<T> {
    if let Some(array) = array.as_any().downcast_ref::<T>() {
        return Ok(array.clone());
    }
    let cast = cast(array, wanted).map_err(|error| EncodeError::new(name, error.to_string()))?;
    let found = cast.as_any().downcast_ref::<T>().cloned();
    found.ok_or_else(|| EncodeError::new(name, format!("it is {}, not {wanted}", array.data_type())))
}

/// Columns that are found by name.
pub(super) trait Columns {
    fn find(&self, name: &str) -> Option<&ArrayRef>;

    fn require(&self, name: &str) -> Result<&ArrayRef> {
        self.find(name).ok_or_else(|| EncodeError::new(name, "it is missing"))
    }

    fn text(&self, name: &str) -> Result<StringArray> {
        typed(self.require(name)?, &DataType::Utf8, name)
    }

    fn bytes(&self, name: &str) -> Result<BinaryArray> {
        typed(self.require(name)?, &DataType::Binary, name)
    }

    fn bools(&self, name: &str) -> Result<BooleanArray> {
        typed(self.require(name)?, &DataType::Boolean, name)
    }

    fn ids(&self, name: &str, length: i32) -> Result<FixedSizeBinaryArray> {
        typed(self.require(name)?, &DataType::FixedSizeBinary(length), name)
    }

    fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<PrimitiveArray<T>> {
        typed(self.require(name)?, &T::DATA_TYPE, name)
    }

    fn times(&self, name: &str) -> Result<PrimitiveArray<arrow::datatypes::TimestampNanosecondType>> {
        typed(self.require(name)?, &crate::schema::timestamp(), name)
    }

    fn list(&self, name: &str) -> Result<ListArray> {
        let array = self.require(name)?;
        array
            .as_any()
            .downcast_ref::<ListArray>()
            .cloned()
            .ok_or_else(|| EncodeError::new(name, format!("it is {}, not a list", array.data_type())))
    }
}

impl Columns for RecordBatch {
    fn find(&self, name: &str) -> Option<&ArrayRef> {
        self.column_by_name(name)
    }
}

impl Columns for StructArray {
    fn find(&self, name: &str) -> Option<&ArrayRef> {
        self.column_by_name(name)
    }
}

/// Returns the structs in a list column.
pub(super) fn structs(list: &ListArray, name: &str) -> Result<StructArray> {
    let found = list.values().as_any().downcast_ref::<StructArray>().cloned();
    found.ok_or_else(|| EncodeError::new(name, format!("its items are {}, not structs", list.value_type())))
}

/// Returns the numbers in a list column.
pub(super) fn items<T: ArrowPrimitiveType>(list: &ListArray, name: &str) -> Result<PrimitiveArray<T>> {
    typed(list.values(), &T::DATA_TYPE, name)
}

/// Returns where the items of a row stand.
pub(super) fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Returns the text at a row; null is empty.
pub(super) fn text_at(column: &StringArray, row: usize) -> &[u8] {
    if column.is_valid(row) { column.value(row).as_bytes() } else { b"" }
}

/// Returns the number at a row, unless it is null.
pub(super) fn some_at<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}

/// Returns the id at a row; null is empty.
pub(super) fn id_at(column: &FixedSizeBinaryArray, row: usize) -> &[u8] {
    if column.is_valid(row) { column.value(row) } else { b"" }
}

/// Returns the type of a column of the stored schema.
pub(super) fn stored_type<'a>(schema: &'a Schema, name: &str) -> &'a DataType {
    schema.field_with_name(name).expect("the stored schema has the column").data_type()
}
