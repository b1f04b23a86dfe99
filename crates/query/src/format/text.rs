//! JSON, JSON lines and CSV.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::Encoder;
use super::cell::{Cells, string, types_column};
use crate::error::QueryError;
use crate::output::type_name;

fn cells(schema: &SchemaRef, rows: &RecordBatch) -> Result<Vec<Cells>, QueryError> {
    schema
        .fields()
        .iter()
        .zip(rows.columns())
        .map(|(field, column)| {
            let types = types_column(field.name(), schema.fields()).map(|at| rows.column(at));
            Cells::new(column, field, types)
                .map_err(|error| QueryError::Invalid(format!("column `{}` has no text form: {error}", field.name())))
        })
        .collect()
}

/// `{"columns":[..],"rows":[[..],..]}`, a row a line.
pub(super) struct Json {
    schema: SchemaRef,
    first: bool,
}

impl Json {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, first: true }
    }
}

impl Encoder for Json {
    fn begin(&mut self) -> Result<Vec<u8>, QueryError> {
        let mut out = br#"{"columns":["#.to_vec();
        for (at, field) in self.schema.fields().iter().enumerate() {
            out.extend_from_slice(if at == 0 { br#"{"name":"# } else { br#",{"name":"# });
            string(field.name(), &mut out);
            out.extend_from_slice(br#","type":"#);
            string(&type_name(field), &mut out);
            out.push(b'}');
        }
        out.extend_from_slice(br#"],"rows":["#);
        Ok(out)
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let cells = cells(&self.schema, rows)?;
        let mut out = Vec::with_capacity(rows.num_rows() * cells.len() * 12);
        for row in 0..rows.num_rows() {
            out.extend_from_slice(if std::mem::take(&mut self.first) { b"\n[" } else { b",\n[" });
            for (at, column) in cells.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                column.json(row, &mut out);
            }
            out.push(b']');
        }
        Ok(out)
    }

    fn end(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(b"]}\n".to_vec())
    }
}

/// An object a row, a row a line. Of columns with the same name the last wins in most readers.
pub(super) struct JsonLines {
    schema: SchemaRef,
    names: Vec<Vec<u8>>,
}

impl JsonLines {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let names = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(at, field)| {
                let mut name = vec![if at == 0 { b'{' } else { b',' }];
                string(field.name(), &mut name);
                name.push(b':');
                name
            })
            .collect();
        Self { schema, names }
    }
}

impl Encoder for JsonLines {
    fn begin(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(Vec::new())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let cells = cells(&self.schema, rows)?;
        let mut out = Vec::with_capacity(rows.num_rows() * cells.len() * 24);
        for row in 0..rows.num_rows() {
            if cells.is_empty() {
                out.push(b'{');
            }
            for (name, column) in self.names.iter().zip(&cells) {
                out.extend_from_slice(name);
                column.json(row, &mut out);
            }
            out.extend_from_slice(b"}\n");
        }
        Ok(out)
    }

    fn end(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(Vec::new())
    }
}

/// A header and rows, quoted as RFC 4180 has it; each ends with a line feed. Null is an empty field, empty text is `""`.
pub(super) struct Csv {
    schema: SchemaRef,
}

impl Csv {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl Encoder for Csv {
    fn begin(&mut self) -> Result<Vec<u8>, QueryError> {
        let mut out = Vec::new();
        for (at, field) in self.schema.fields().iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            quoted(field.name().as_bytes(), &mut out);
        }
        out.push(b'\n');
        Ok(out)
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let cells = cells(&self.schema, rows)?;
        let mut out = Vec::with_capacity(rows.num_rows() * cells.len() * 12);
        let mut field = Vec::new();
        for row in 0..rows.num_rows() {
            for (at, column) in cells.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                field.clear();
                column.plain(row, &mut field);
                if field.is_empty() && column.is_text() && !column.is_null(row) {
                    out.extend_from_slice(b"\"\"");
                } else {
                    quoted(&field, &mut out);
                }
            }
            out.push(b'\n');
        }
        Ok(out)
    }

    fn end(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(Vec::new())
    }
}

fn quoted(field: &[u8], out: &mut Vec<u8>) {
    if !field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        return out.extend_from_slice(field);
    }
    out.push(b'"');
    for byte in field {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
