//! One cell of an answer as JSON or as plain text.
//!
//! *Cost.* A column's type is looked at once a slice; a cell is then written without allocation, but for types that only the
//! generic formatter knows.

use std::fmt;
use std::io::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray, MapArray, RecordBatch,
    StringArray, StructArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use plimsoll_otlp::schema::UTC;
use plimsoll_otlp::value;

use super::{interval, json_text};
use crate::functions::hex::push_hex;
use crate::functions::{FACE, FACE_JSON};

/// A column whose cells can be written as JSON.
pub struct Cells {
    array: ArrayRef,
    kind: Kind,
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").field("rows", &self.array.len()).finish_non_exhaustive()
    }
}

/// Reads column `at` of an answer; attributes are typed where the answer also has the column of their types.
///
/// # Errors
/// The column has a type that has no JSON form.
pub fn json_cells(batch: &RecordBatch, at: usize) -> Result<Cells, ArrowError> {
    let schema = batch.schema();
    let types = types_column(schema.field(at).name(), schema.fields()).and_then(|types| batch.columns().get(types));
    Cells::new(batch.column(at), schema.field(at), types)
}

enum Kind {
    Null,
    Boolean(BooleanArray),
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    /// Digits, as many as there are.
    Decimal(StringArray),
    Text(StringArray),
    Json(StringArray),
    Bytes(BinaryArray),
    List(ListArray, Box<Cells>),
    Struct(Vec<(Vec<u8>, Cells)>),
    Map(Box<Entries>),
}

/// A column of maps; `types` holds the letters of their values.
struct Entries {
    map: MapArray,
    keys: StringArray,
    values: Cells,
    types: Option<StringArray>,
}

impl Cells {
    /// Reads `array`; `types` holds the letters of a map's values.
    pub(super) fn new(array: &ArrayRef, field: &Field, types: Option<&ArrayRef>) -> Result<Self, ArrowError> {
        let json = field.metadata().get(FACE).is_some_and(|face| face == FACE_JSON);
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Boolean => Kind::Boolean(array.as_boolean().clone()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Kind::Signed(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Kind::Unsigned(cast(array, &DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Kind::Float(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                Kind::Decimal(cast(array, &DataType::Utf8)?.as_string().clone())
            }
            DataType::Utf8 if json => Kind::Json(array.as_string().clone()),
            DataType::Utf8 => Kind::Text(array.as_string().clone()),
            DataType::Timestamp(_, Some(_)) => Kind::Text(cast(array, &DataType::Utf8)?.as_string().clone()),
            DataType::Timestamp(unit, None) => Kind::Text(times(array, *unit)?),
            DataType::Interval(_) | DataType::Duration(_) => Kind::Text(interval::texts(array)?),
            DataType::Binary | DataType::FixedSizeBinary(_) => {
                Kind::Bytes(cast(array, &DataType::Binary)?.as_binary().clone())
            }
            DataType::List(item) => {
                let list = array.as_list::<i32>().clone();
                let items = Self::new(list.values(), item, None)?;
                Kind::List(list, Box::new(items))
            }
            DataType::Struct(fields) => Kind::Struct(members(array.as_struct(), fields)?),
            DataType::Map(entries, _) => {
                let map = array.as_map().clone();
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("a map without entries".to_owned()));
                };
                let keys = cast(map.keys(), &DataType::Utf8)?.as_string().clone();
                let values = Self::new(map.values(), &fields[1], None)?;
                let types = types.map(|types| cast(types, &DataType::Utf8)).transpose()?;
                let types = types.map(|types| types.as_string().clone());
                Kind::Map(Box::new(Entries { map, keys, values, types }))
            }
            _ => {
                let texts = (0..array.len())
                    .map(|row| array.is_valid(row).then(|| array_value_to_string(array, row)).transpose())
                    .collect::<Result<StringArray, _>>()?;
                Kind::Text(texts)
            }
        };
        Ok(Self { array: array.clone(), kind })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.array.is_null(row)
    }

    /// Says whether cells are text, so that an empty one differs from a null.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text(_) | Kind::Json(_))
    }

    /// Appends the cell in its plain form: text and bytes without quotes, nested values as JSON. Null is nothing.
    pub(super) fn plain(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        match &self.kind {
            Kind::Text(texts) => out.extend_from_slice(texts.value(row).as_bytes()),
            Kind::Bytes(bytes) => out.extend_from_slice(digits(bytes.value(row)).as_bytes()),
            Kind::Float(floats) if !floats.value(row).is_finite() => {
                let value = floats.value(row);
                let name = if value.is_nan() {
                    "NaN"
                } else if value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                out.extend_from_slice(name.as_bytes());
            }
            _ => self.json(row, out),
        }
    }

    /// Appends the cell of `row` as JSON.
    pub fn json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match &self.kind {
            Kind::Null => out.extend_from_slice(b"null"),
            Kind::Boolean(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Kind::Signed(values) => write(out, values.value(row)),
            Kind::Unsigned(values) => write(out, values.value(row)),
            Kind::Float(values) => float(values.value(row), out),
            Kind::Decimal(texts) => out.extend_from_slice(texts.value(row).as_bytes()),
            Kind::Text(texts) => string(texts.value(row), out),
            Kind::Json(texts) => json_text::write(texts.value(row), out),
            Kind::Bytes(bytes) => string(&digits(bytes.value(row)), out),
            Kind::List(list, items) => {
                out.push(b'[');
                let (from, to) = range(list.value_offsets(), row);
                for at in from..to {
                    if at > from {
                        out.push(b',');
                    }
                    items.json(at, out);
                }
                out.push(b']');
            }
            Kind::Struct(members) => {
                for (position, (name, cells)) in members.iter().enumerate() {
                    out.push(if position == 0 { b'{' } else { b',' });
                    out.extend_from_slice(name);
                    cells.json(row, out);
                }
                out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
            }
            Kind::Map(entries) => {
                let Entries { map, keys, values, types } = entries.as_ref();
                let types = types.as_ref().filter(|types| types.is_valid(row)).map(|types| types.value(row));
                out.push(b'{');
                let (from, to) = range(map.value_offsets(), row);
                for at in from..to {
                    // Of a repeated key the first entry counts.
                    if (from..at).any(|before| keys.value(before) == keys.value(at)) {
                        continue;
                    }
                    if at > from {
                        out.push(b',');
                    }
                    string(keys.value(at), out);
                    out.push(b':');
                    values.typed(at, value::letter(types, at - from), out);
                }
                out.push(b'}');
            }
        }
    }

    /// Appends the text of an attribute as what its letter says it was.
    fn typed(&self, row: usize, letter: u8, out: &mut Vec<u8>) {
        match (&self.kind, letter) {
            (Kind::Text(texts), value::BOOL | value::INT | value::DOUBLE | value::ARRAY | value::KVLIST)
                if texts.is_valid(row) =>
            {
                json_text::write(texts.value(row), out);
            }
            _ => self.json(row, out),
        }
    }
}

/// Writes times without a zone in RFC 3339, as those of UTC.
fn times(array: &ArrayRef, unit: TimeUnit) -> Result<StringArray, ArrowError> {
    let zoned = cast(array, &DataType::Timestamp(unit, Some(UTC.into())))?;
    Ok(cast(&zoned, &DataType::Utf8)?.as_string().clone())
}

fn members(structs: &StructArray, fields: &Fields) -> Result<Vec<(Vec<u8>, Cells)>, ArrowError> {
    fields
        .iter()
        .zip(structs.columns())
        .map(|(field, column)| {
            let mut name = Vec::with_capacity(field.name().len() + 3);
            string(field.name(), &mut name);
            name.push(b':');
            let types = types_column(field.name(), fields).and_then(|at| structs.columns().get(at));
            Ok((name, Cells::new(column, field, types)?))
        })
        .collect()
}

/// Returns the position of the column that holds the letters of the map called `name`.
pub(super) fn types_column(name: &str, fields: &Fields) -> Option<usize> {
    let singular = format!("{}_types", name.strip_suffix('s').unwrap_or(name));
    let same = format!("{name}_types");
    fields.iter().position(|field| *field.name() == singular || *field.name() == same)
}

fn range(offsets: &[i32], row: usize) -> (usize, usize) {
    (offsets[row] as usize, offsets[row + 1] as usize)
}

fn digits(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

fn write(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing into memory cannot fail");
}

fn float(value: f64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("a float serialises into memory; one that is not finite as null");
}

/// Appends a JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text serialises into memory");
}
