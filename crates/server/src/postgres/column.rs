//! Columns of an answer, written cell by cell in the text or the binary form of their Postgres type.
//!
//! *Cost.* A column's type is looked at once a batch; a cell is then written without allocation, but for types that only the
//! generic formatter knows.
//!
//! *Text forms.* Times are in UTC with microseconds, the finest that Postgres has: nanoseconds are cut off. Maps, structs and
//! lists of them are JSON.

use std::fmt::Write as _;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};
use plimsoll_query::postgres::{ColumnType, PgType, wall_clock};
use plimsoll_query::{Cells, json_cells};

use super::{decimal, time};

/// A column whose cells can be written.
pub(super) struct Column {
    array: ArrayRef,
    kind: Kind,
    binary: bool,
}

enum Kind {
    Null,
    Bool(BooleanArray),
    Int2(Int64Array),
    Int4(Int64Array),
    Int8(Int64Array),
    Float4(Float64Array),
    Float8(Float64Array),
    /// Decimal digits.
    Numeric(StringArray),
    Text(StringArray),
    Bytea(BinaryArray),
    Date(Date32Array),
    /// Microseconds since midnight.
    Time(Int64Array),
    /// Microseconds since 1970; with a zone, or without.
    Timestamp(Int64Array, bool),
    Interval(IntervalMonthDayNanoArray),
    Json(Cells),
    Array(ListArray, Box<Column>, u32),
}

/// Reads the columns of a batch; `binary` says of each how it is sent.
pub(super) fn columns(batch: &RecordBatch, binary: &[bool]) -> Result<Vec<Column>, ArrowError> {
    let schema = batch.schema();
    (0..batch.num_columns())
        .map(|at| {
            let field = schema.field(at);
            let of = ColumnType::of(field);
            let binary = binary.get(at).copied().unwrap_or(false);
            let array = batch.column(at);
            if of.element == PgType::Jsonb {
                return Ok(Column { array: array.clone(), kind: Kind::Json(json_cells(batch, at)?), binary });
            }
            Column::new(array, of, binary)
        })
        .collect()
}

impl Column {
    fn new(array: &ArrayRef, of: ColumnType, binary: bool) -> Result<Self, ArrowError> {
        if of.array {
            let item = match array.data_type() {
                DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.clone(),
                other => return Err(ArrowError::SchemaError(format!("`{other}` is not a list"))),
            };
            let array = cast(array, &DataType::List(item))?;
            let list = array.as_list::<i32>().clone();
            let element = ColumnType { element: of.element, array: false };
            let items = Self::new(list.values(), element, binary)?;
            return Ok(Self { array, kind: Kind::Array(list, Box::new(items), element.oid()), binary });
        }
        let to = |data_type: DataType| cast(array, &data_type);
        let integers = |array: ArrayRef| -> Result<Int64Array, ArrowError> {
            Ok(cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        };
        let kind = match of.element {
            _ if array.data_type() == &DataType::Null => Kind::Null,
            PgType::Bool => Kind::Bool(to(DataType::Boolean)?.as_boolean().clone()),
            PgType::Int2 => Kind::Int2(integers(array.clone())?),
            PgType::Int4 => Kind::Int4(integers(array.clone())?),
            PgType::Int8 => Kind::Int8(integers(array.clone())?),
            PgType::Float4 => Kind::Float4(to(DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            PgType::Float8 => Kind::Float8(to(DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            PgType::Bytea => Kind::Bytea(to(DataType::Binary)?.as_binary::<i32>().clone()),
            PgType::Date => Kind::Date(to(DataType::Date32)?.as_primitive().clone()),
            PgType::Time => Kind::Time(integers(to(DataType::Time64(TimeUnit::Microsecond))?)?),
            PgType::Timestamp => Kind::Timestamp(time::micros(&wall_clock(array)?)?, false),
            PgType::Timestamptz => Kind::Timestamp(time::micros(array)?, true),
            PgType::Interval => Kind::Interval(match array.data_type() {
                DataType::Duration(_) => time::interval(&cast(array, &DataType::Duration(TimeUnit::Nanosecond))?),
                _ => to(DataType::Interval(IntervalUnit::MonthDayNano))?
                    .as_primitive::<IntervalMonthDayNanoType>()
                    .clone(),
            }),
            PgType::Numeric | PgType::Text | PgType::Jsonb => {
                let texts = to(DataType::Utf8)?.as_string::<i32>().clone();
                if of.element == PgType::Numeric { Kind::Numeric(texts) } else { Kind::Text(texts) }
            }
        };
        Ok(Self { array: array.clone(), kind, binary })
    }

    fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.array.is_null(row)
    }

    /// Appends a cell behind its length, as rows hold them.
    pub(super) fn cell(&self, row: usize, out: &mut BytesMut) {
        if self.is_null(row) {
            return out.put_i32(-1);
        }
        let at = out.len();
        out.put_u32(0);
        if self.binary {
            self.binary(row, out)
        } else {
            self.text(row, out)
        }
        let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Appends the text of a cell; nothing where it is null.
    pub(super) fn plain(&self, row: usize, out: &mut BytesMut) -> bool {
        let null = self.is_null(row);
        if !null {
            self.text(row, out);
        }
        !null
    }

    fn text(&self, row: usize, out: &mut BytesMut) {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(values) => out.put_slice(if values.value(row) { b"t" } else { b"f" }),
            Kind::Int2(values) | Kind::Int4(values) | Kind::Int8(values) => write(out, values.value(row)),
            Kind::Float4(values) => float(out, &format!("{:e}", values.value(row) as f32), values.value(row)),
            Kind::Float8(values) => float(out, &format!("{:e}", values.value(row)), values.value(row)),
            Kind::Numeric(values) | Kind::Text(values) => out.put_slice(values.value(row).as_bytes()),
            Kind::Bytea(values) => {
                out.put_slice(b"\\x");
                for byte in values.value(row) {
                    let _ = write!(out, "{byte:02x}");
                }
            }
            Kind::Date(values) => time::write_date(out, i64::from(values.value(row))),
            Kind::Time(values) => time::write_clock(out, values.value(row)),
            Kind::Timestamp(values, zoned) => time::write_timestamp(out, values.value(row), *zoned),
            Kind::Interval(values) => time::write_interval(out, values.value(row)),
            Kind::Json(cells) => json(cells, row, out),
            Kind::Array(list, items, _) => array_text(list, items, row, out),
        }
    }

    fn binary(&self, row: usize, out: &mut BytesMut) {
        match &self.kind {
            Kind::Bool(values) => out.put_u8(u8::from(values.value(row))),
            Kind::Int2(values) => out.put_i16(i16::try_from(values.value(row)).unwrap_or_default()),
            Kind::Int4(values) => out.put_i32(i32::try_from(values.value(row)).unwrap_or_default()),
            Kind::Int8(values) => out.put_i64(values.value(row)),
            Kind::Float4(values) => out.put_f32(values.value(row) as f32),
            Kind::Float8(values) => out.put_f64(values.value(row)),
            Kind::Numeric(values) => decimal::write(out, values.value(row)),
            Kind::Bytea(values) => out.put_slice(values.value(row)),
            Kind::Date(values) => out.put_i32(values.value(row).saturating_sub(time::EPOCH_DAYS as i32)),
            Kind::Time(values) => out.put_i64(values.value(row)),
            Kind::Timestamp(values, _) => out.put_i64(values.value(row).saturating_sub(time::EPOCH_MICROS)),
            Kind::Interval(values) => {
                let interval = values.value(row);
                out.put_i64(interval.nanoseconds.div_euclid(1_000));
                out.put_i32(interval.days);
                out.put_i32(interval.months);
            }
            Kind::Json(cells) => {
                // The version of the format.
                out.put_u8(1);
                json(cells, row, out);
            }
            Kind::Array(list, items, oid) => {
                let (from, to) = range(list, row);
                let nulls = (from..to).any(|at| items.is_null(at));
                out.put_u32(u32::from(to > from));
                out.put_u32(u32::from(nulls));
                out.put_u32(*oid);
                if to > from {
                    out.put_u32(u32::try_from(to - from).unwrap_or(u32::MAX));
                    out.put_u32(1);
                    (from..to).for_each(|at| items.cell(at, out));
                }
            }
            Kind::Null | Kind::Text(_) => self.text(row, out),
        }
    }
}

fn json(cells: &Cells, row: usize, out: &mut BytesMut) {
    let mut text = Vec::new();
    cells.json(row, &mut text);
    out.put_slice(&text);
}

fn range(list: &ListArray, row: usize) -> (usize, usize) {
    let offsets = list.value_offsets();
    (offsets[row] as usize, offsets[row + 1] as usize)
}

fn array_text(list: &ListArray, items: &Column, row: usize, out: &mut BytesMut) {
    let (from, to) = range(list, row);
    out.put_u8(b'{');
    let mut item = BytesMut::new();
    for at in from..to {
        if at > from {
            out.put_u8(b',');
        }
        item.clear();
        if !items.plain(at, &mut item) {
            out.put_slice(b"NULL");
            continue;
        }
        let special = |byte: &u8| b"{},\"\\".contains(byte) || byte.is_ascii_whitespace();
        if item.is_empty() || item.iter().any(special) || item.eq_ignore_ascii_case(b"null") {
            out.put_u8(b'"');
            for byte in &item {
                if matches!(byte, b'"' | b'\\') {
                    out.put_u8(b'\\');
                }
                out.put_u8(*byte);
            }
            out.put_u8(b'"');
        } else {
            out.put_slice(&item);
        }
    }
    out.put_u8(b'}');
}

fn write(out: &mut BytesMut, value: impl std::fmt::Display) {
    // A buffer that grows takes everything.
    let _ = write!(out, "{value}");
}

/// Writes a float out of its shortest digits, `d.ddde5`, the way Postgres lays them out.
fn float(out: &mut BytesMut, scientific: &str, value: f64) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    if !(-4..15).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{sign}{digits}e{exponent_sign}{:02}", exponent.abs());
        return;
    }
    let digits: String = digits.chars().filter(|c| *c != '.').collect();
    out.put_slice(sign.as_bytes());
    let point = exponent + 1;
    if point <= 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', point.unsigned_abs() as usize);
        out.put_slice(digits.as_bytes());
    } else {
        let point = point.unsigned_abs() as usize;
        let whole = point.min(digits.len());
        out.put_slice(&digits.as_bytes()[..whole]);
        out.put_bytes(b'0', point - whole);
        if digits.len() > point {
            out.put_u8(b'.');
            out.put_slice(&digits.as_bytes()[point..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Builder, ListBuilder, StringBuilder, UInt64Array};
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn texts(array: ArrayRef) -> Vec<Option<String>> {
        let field = Field::new("c", array.data_type().clone(), true);
        let rows = array.len();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).expect("one column");
        let columns = columns(&batch, &[false]).expect("every type has a form");
        (0..rows)
            .map(|row| {
                let mut out = BytesMut::new();
                columns[0].plain(row, &mut out).then(|| String::from_utf8(out.to_vec()).expect("forms are text"))
            })
            .collect()
    }

    #[test]
    fn floats_are_laid_out_as_postgres_does() {
        let values = [0.0, -0.5, 1.0, 1e14, 1e15, 1.5e-5, 0.0001, 123.456, f64::NAN, f64::NEG_INFINITY, 1e300];
        let told: Vec<String> = texts(Arc::new(Float64Array::from(values.to_vec()))).into_iter().flatten().collect();
        let wanted = [
            "0",
            "-0.5",
            "1",
            "100000000000000",
            "1e+15",
            "1.5e-05",
            "0.0001",
            "123.456",
            "NaN",
            "-Infinity",
            "1e+300",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn arrays_quote_what_would_be_read_otherwise() {
        let mut list = ListBuilder::new(StringBuilder::new());
        for item in [Some("a"), Some(""), Some("b,c"), Some("say \"x\\\""), Some("NULL"), None] {
            list.values().append_option(item);
        }
        list.append(true);
        list.append(true);
        list.append(false);
        let told = texts(Arc::new(list.finish()));
        assert_eq!(told[0].as_deref(), Some(r#"{a,"","b,c","say \"x\\\"","NULL",NULL}"#));
        assert_eq!(told[1].as_deref(), Some("{}"));
        assert_eq!(told[2], None);
    }

    #[test]
    fn numbers_beyond_every_integer_of_postgres_are_numeric() {
        assert_eq!(texts(Arc::new(UInt64Array::from(vec![u64::MAX])))[0].as_deref(), Some("18446744073709551615"));
    }

    #[test]
    fn binary_arrays_have_their_counts() {
        let mut list = ListBuilder::new(Float64Builder::new());
        list.values().append_value(1.5);
        list.append(true);
        let array: ArrayRef = Arc::new(list.finish());
        let field = Field::new("c", array.data_type().clone(), true);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).expect("one column");
        let mut out = BytesMut::new();
        columns(&batch, &[true]).expect("a list of floats")[0].cell(0, &mut out);
        let mut wanted = vec![0, 0, 0, 32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0xbd, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8];
        wanted.extend_from_slice(&1.5_f64.to_be_bytes());
        assert_eq!(out.to_vec(), wanted);
    }

    proptest! {
        #[test]
        fn floats_read_back_as_they_were(value in any::<f64>()) {
            let told = texts(Arc::new(Float64Array::from(vec![value])));
            let back: f64 = told[0].as_deref().expect("not null").parse().expect("a number");
            prop_assert!(back == value || (back.is_nan() && value.is_nan()));
        }
    }
}
