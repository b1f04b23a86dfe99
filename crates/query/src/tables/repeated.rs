//! Columns of text that repeats: stored as text, read from segments as the dictionaries that they are there.
//!
//! A dictionary is decoded without copying a text for each row, compared and grouped by number, and turned into text only where
//! it leaves. What a client sees is text either way.
//!
//! *Invariants.* Of a table, every part of a scan gives these columns as dictionaries: segments because their footer is made to
//! say so, rows of the tail by a cast.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder};
use plimsoll_otlp::Table;
use plimsoll_otlp::schema::shared_text;

/// The columns: names that people and libraries give, and words that protocols have. Paths, messages and bodies are none.
const REPEATED: &[&str] = &[
    "name",
    "http_request_method",
    "http_route",
    "rpc_system",
    "rpc_service",
    "rpc_method",
    "db_system_name",
    "db_operation_name",
    "messaging_system",
    "messaging_destination_name",
    "error_type",
    "severity_text",
    "event_name",
    // Text in segments of before; dictionaries since.
    "metric_description",
    "metric_name",
    "metric_type",
    "unit",
];

fn read(field: &FieldRef) -> FieldRef {
    if is_text(field) {
        return Arc::new(Field::clone(field).with_data_type(shared_text()));
    }
    Arc::clone(field)
}

/// Returns the schema by which queries see the stored rows of `table`.
pub(super) fn schema(table: Table) -> &'static SchemaRef {
    static SCHEMAS: LazyLock<Vec<(Table, SchemaRef)>> = LazyLock::new(|| {
        let seen = |table: Table| Arc::new(Schema::new(table.schema().fields().iter().map(read).collect::<Vec<_>>()));
        Table::ALL.into_iter().map(|table| (table, seen(table))).collect()
    });
    let seen = SCHEMAS.iter().find(|(of, _)| *of == table);
    seen.map(|(_, schema)| schema).expect("every table is in the list")
}

/// Returns what stands for a column of the schema that queries see, where rows have it as `field` says.
pub(super) fn shown(field: &Field) -> Expr {
    let column = Expr::Column(Column::from_name(field.name()));
    if is_text(field) { Expr::Cast(Cast::new(Box::new(column), shared_text())) } else { column }
}

fn is_text(field: &Field) -> bool {
    field.data_type() == &DataType::Utf8 && REPEATED.contains(&field.name().as_str())
}

/// Rewrites a filter over what queries see for rows of `base`, which has text where they see dictionaries: text is compared with
/// text, and cast only where it is used otherwise.
pub(super) fn over(base: &Schema, filter: Expr) -> Result<Expr, DataFusionError> {
    if !base.fields().iter().any(|field| is_text(field)) {
        return Ok(filter);
    }
    let text = |expr: &Expr| match expr {
        Expr::Column(column) => base.field_with_name(&column.name).ok().filter(|field| is_text(field)).is_some(),
        _ => false,
    };
    let rewritten = filter.transform_down(|expr| {
        let plain = match &expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if text(left) => {
                inner(right).map(|right| Expr::BinaryExpr(BinaryExpr::new(left.clone(), *op, Box::new(right))))
            }
            Expr::InList(InList { expr, list, negated }) if text(expr) => {
                let list: Option<Vec<Expr>> = list.iter().map(inner).collect();
                list.map(|list| Expr::InList(InList::new(expr.clone(), list, *negated)))
            }
            Expr::IsNull(inner) | Expr::IsNotNull(inner) if text(inner) => {
                return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
            }
            other if text(other) => Some(Expr::Cast(Cast::new(Box::new(expr.clone()), shared_text()))),
            _ => None,
        };
        Ok(match plain {
            Some(plain) => Transformed::new(plain, true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })?;
    Ok(rewritten.data)
}

/// Returns a literal of a dictionary as one of text.
fn inner(literal: &Expr) -> Option<Expr> {
    match literal {
        Expr::Literal(ScalarValue::Dictionary(_, inner), metadata) => {
            Some(Expr::Literal(inner.as_ref().clone(), metadata.clone()))
        }
        _ => None,
    }
}

/// Makes the footer of a segment say that they are dictionaries, whatever it says of their Arrow type.
///
/// # Errors
/// Its schema makes no sense.
pub(super) fn as_dictionaries(footer: ParquetMetaData) -> Result<ParquetMetaData, ParquetError> {
    let file = footer.file_metadata();
    let said = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let fields: Vec<FieldRef> = said.fields().iter().map(read).collect();
    let mut facts: Vec<KeyValue> = file.key_value_metadata().cloned().unwrap_or_default();
    facts.retain(|fact| fact.key != ARROW_SCHEMA_META_KEY);
    let schema = encode_arrow_schema(&Schema::new(fields));
    facts.push(KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), schema));
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        Some(facts),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let mut parts = footer.into_builder();
    Ok(ParquetMetaDataBuilder::new(file)
        .set_row_groups(parts.take_row_groups())
        .set_column_index(parts.take_column_index())
        .set_offset_index(parts.take_offset_index())
        .build())
}
