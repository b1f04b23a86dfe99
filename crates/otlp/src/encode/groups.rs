//! The levels that all three signals share: rows gathered by resource and by scope.
//!
//! *Cost.* A row costs a hash of its resource and scope only where they differ from those of the row before it.

use std::collections::HashMap;

use arrow::array::{Array, BinaryArray, DictionaryArray, RecordBatch};
use arrow::datatypes::UInt32Type;

use super::EncodeError;
use super::columns::{Columns, stored_type, typed};
use crate::proto::{resource_spans, scope_spans, trace_request};
use crate::schema::Table;
use crate::wire::Writer;

/// A row: the number of its batch and its place in it.
pub(super) type Row = (usize, usize);

/// The tables' own columns, in one batch.
pub(super) trait Records: Sized {
    /// Finds the columns.
    fn find(batch: &RecordBatch) -> Result<Self, EncodeError>;

    /// Writes the records of one resource and scope into its `ScopeSpans` or its like.
    fn write(batches: &[Self], rows: &[Row], writer: &mut Writer) -> Result<(), EncodeError>;
}

struct Shared {
    keys: DictionaryArray<UInt32Type>,
    values: BinaryArray,
}

impl Shared {
    fn find(batch: &RecordBatch, name: &str) -> Result<Self, EncodeError> {
        let wanted = stored_type(Table::Spans.schema(), name);
        let keys: DictionaryArray<UInt32Type> = typed(batch.require(name)?, wanted, name)?;
        let values = typed(keys.values(), &arrow::datatypes::DataType::Binary, name)?;
        Ok(Self { keys, values })
    }

    fn key(&self, row: usize) -> Option<u32> {
        self.keys.keys().is_valid(row).then(|| self.keys.keys().value(row))
    }

    fn get(&self, row: usize) -> &[u8] {
        self.key(row).map_or(&b""[..], |key| self.values.value(key as usize))
    }
}

struct Scope<'a> {
    wire: &'a [u8],
    rows: Vec<Row>,
}

struct Resource<'a> {
    wire: &'a [u8],
    scopes: Vec<Scope<'a>>,
    by_wire: HashMap<&'a [u8], usize>,
}

/// Encodes rows as one request.
pub(super) fn encode<R: Records>(batches: &[RecordBatch]) -> Result<Vec<u8>, EncodeError> {
    let mut records = Vec::with_capacity(batches.len());
    let mut shared = Vec::with_capacity(batches.len());
    for batch in batches {
        records.push(R::find(batch)?);
        shared.push((Shared::find(batch, "resource")?, Shared::find(batch, "scope")?));
    }
    let mut writer = Writer::default();
    for resource in gather(&shared) {
        let level = writer.open(trace_request::RESOURCES);
        writer.raw(resource.wire);
        for scope in resource.scopes {
            let level = writer.open(resource_spans::SCOPES);
            writer.raw(scope.wire);
            R::write(&records, &scope.rows, &mut writer)?;
            writer.close(level);
        }
        writer.close(level);
    }
    Ok(writer.into_bytes())
}

fn gather(batches: &[(Shared, Shared)]) -> Vec<Resource<'_>> {
    let mut resources: Vec<Resource<'_>> = Vec::new();
    let mut by_wire: HashMap<&[u8], usize> = HashMap::new();
    for (batch, (resource, scope)) in batches.iter().enumerate() {
        let mut last = None;
        for row in 0..resource.keys.len() {
            let keys = (resource.key(row), scope.key(row));
            let (at, inner) = match last {
                Some((known, place)) if known == keys => place,
                _ => {
                    let wire = resource.get(row);
                    let at = *by_wire.entry(wire).or_insert_with(|| {
                        resources.push(Resource { wire, scopes: Vec::new(), by_wire: HashMap::new() });
                        resources.len() - 1
                    });
                    let Resource { scopes, by_wire, .. } = &mut resources[at];
                    let wire = scope.get(row);
                    let inner = *by_wire.entry(wire).or_insert_with(|| {
                        scopes.push(Scope { wire, rows: Vec::new() });
                        scopes.len() - 1
                    });
                    (at, inner)
                }
            };
            last = Some((keys, (at, inner)));
            resources[at].scopes[inner].rows.push((batch, row));
        }
    }
    resources
}

/// Writes each row as a record of its own, as spans and logs are.
pub(super) fn write_each<R>(
    batches: &[R],
    rows: &[Row],
    writer: &mut Writer,
    write: impl Fn(&R, usize, &mut Writer) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    for (batch, row) in rows {
        let record = writer.open(scope_spans::RECORDS);
        write(&batches[*batch], *row, writer)?;
        writer.close(record);
    }
    Ok(())
}
