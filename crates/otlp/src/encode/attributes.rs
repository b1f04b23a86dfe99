//! Attribute maps back into `KeyValue` messages.

use arrow::array::{Array, MapArray, StringArray};
use arrow::datatypes::DataType;

use super::EncodeError;
use super::columns::{Columns, typed};
use crate::proto::key_value;
use crate::value::{letter, write_value};
use crate::wire::Writer;

/// A map column and its column of letters.
pub(super) struct Attributes {
    name: &'static str,
    map: MapArray,
    keys: StringArray,
    values: StringArray,
    types: StringArray,
}

impl Attributes {
    /// Finds the map `name` and the letters `types`.
    pub(super) fn find(columns: &impl Columns, name: &'static str, types: &'static str) -> Result<Self, EncodeError> {
        let map: MapArray = typed(columns.require(name)?, &crate::schema::attributes(), name)?;
        let keys = typed(map.keys(), &DataType::Utf8, name)?;
        let values = typed(map.values(), &DataType::Utf8, name)?;
        Ok(Self { name, keys, values, types: columns.text(types)?, map })
    }

    /// Writes the entries of a row, each as a field with this tag.
    pub(super) fn write(&self, writer: &mut Writer, tag: u32, row: usize) -> Result<(), EncodeError> {
        let offsets = self.map.offsets();
        let types = self.types.is_valid(row).then(|| self.types.value(row));
        for (index, at) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
            let entry = writer.open(tag);
            writer.bytes_unless_empty(key_value::KEY, self.keys.value(at).as_bytes());
            let value = writer.open(key_value::VALUE);
            let text = self.values.is_valid(at).then(|| self.values.value(at));
            write_value(writer, letter(types, index), text).map_err(|problem| EncodeError::new(self.name, problem))?;
            writer.close(value);
            writer.close(entry);
        }
        Ok(())
    }
}
