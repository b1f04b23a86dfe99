//! Rows as clients see them: dictionaries and views unwrapped, internal metadata removed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::functions::{FACE, FACE_JSON};

/// The stored column whose text is JSON.
const JSON_COLUMN: &str = "resource_attributes";

/// Turns the planner's batches into those that leave.
pub(crate) struct Output {
    schema: SchemaRef,
}

impl Output {
    pub(crate) fn new(planned: &Schema) -> Self {
        let fields: Vec<FieldRef> = planned.fields().iter().map(plain_field).collect();
        Self { schema: Arc::new(Schema::new(fields)) }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                false => cast(column, field.data_type()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)
    }
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let mut metadata = HashMap::new();
    // Metadata set where the column is read would need an alias there, which the optimiser takes for a second column.
    if field.name() == JSON_COLUMN {
        metadata.insert(FACE.to_owned(), FACE_JSON.to_owned());
    }
    Arc::new(Field::new(field.name(), plain(field.data_type()), field.is_nullable()).with_metadata(metadata))
}

/// Returns the type that clients see.
pub(crate) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain(value),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        // A value of no type is shown as text, as a parameter without one is.
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(plain_field(item))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

/// Returns the name by which clients and the documentation know a type.
pub fn type_name(field: &Field) -> String {
    if field.metadata().get(FACE).is_some_and(|face| face == FACE_JSON) {
        return "json".to_owned();
    }
    match field.data_type() {
        DataType::Null => "null".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytes".to_owned()
        }
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Duration(_) => "duration".to_owned(),
        DataType::Interval(_) => "interval".to_owned(),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "decimal".to_owned()
        }
        DataType::Dictionary(_, value) => type_name(&Field::new("", value.as_ref().clone(), true)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("list of {}", type_name(item))
        }
        DataType::Struct(_) => "struct".to_owned(),
        DataType::Map(..) => "map".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}
