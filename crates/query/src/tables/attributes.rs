//! Attribute keys that have a column of their own in some segments: which, and how queries come to use them.
//!
//! `attribute(attributes, 'k')` above a scan becomes a column `attributes.k` of the stored table
//! ([`super::attribute_columns`]); the scan reads it from the segments that have it and computes it from the map for all others,
//! and does the same within filters. What comes out is the same text either way; only what is decoded differs.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Cast, Expr, TryCast, lit};
use parquet::basic::Type;
use parquet::schema::types::SchemaDescriptor;

use crate::functions::{FACE, FACE_ATTRIBUTE, attribute};

/// The column with all attributes.
pub(super) const MAP: &str = "attributes";

/// Returns the name of the column of `key`.
pub(super) fn column_name(key: &str) -> String {
    format!("{MAP}.{key}")
}

/// Returns the field of such a column: what `attribute` says of its results.
pub(super) fn field(key: &str, data_type: DataType) -> Field {
    let face = HashMap::from([(FACE.to_owned(), FACE_ATTRIBUTE.to_owned())]);
    Field::new(column_name(key), data_type, true).with_metadata(face)
}

/// Returns the key of `attribute(attributes, 'key')`.
fn key(expr: &Expr) -> Option<&str> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match (call.func.name() == attribute::NAME, call.args.as_slice()) {
        (true, [Expr::Column(map), Expr::Literal(ScalarValue::Utf8(Some(key)), _)]) if map.name == MAP => Some(key),
        _ => None,
    }
}

/// Adds the keys that `expr` asks for to `keys`, each once.
pub(super) fn keys(expr: &Expr, keys: &mut Vec<String>) -> Result<()> {
    expr.apply(|expr| {
        if let Some(key) = key(expr) {
            if !keys.iter().any(|known| known == key) {
                keys.push(key.to_owned());
            }
            return Ok(TreeNodeRecursion::Jump);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Turns columns of `keys` back into what they stand for: filters that were pushed down after the optimizer put them there name them.
pub(super) fn unfold(filter: Expr, keys: &[String]) -> Result<Expr> {
    let unfolded = filter.transform_up(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        let key = column.name.strip_prefix(MAP).and_then(|rest| rest.strip_prefix('.'));
        match key.filter(|key| keys.iter().any(|known| known == key)) {
            Some(key) => {
                let map = Expr::Column(Column::new(column.relation.clone(), MAP));
                Ok(Transformed::yes(attribute::udf().call(vec![map, lit(key)])))
            }
            None => Ok(Transformed::no(expr)),
        }
    })?;
    Ok(unfolded.data)
}

/// The keys that some segments have columns for, with the types of those.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Promoted {
    columns: Vec<(String, DataType)>,
}

impl Promoted {
    /// Looks for columns of `keys` in a segment.
    pub(super) fn of(schema: &SchemaDescriptor, keys: &[String]) -> Self {
        let roots = schema.root_schema().get_fields();
        let column = |key: &String| {
            let name = column_name(key);
            let root = roots.iter().find(|root| root.name() == name && root.is_primitive())?;
            let data_type = if root.get_physical_type() == Type::INT64 { DataType::Int64 } else { DataType::Utf8 };
            Some((key.clone(), data_type))
        };
        Self { columns: keys.iter().filter_map(column).collect() }
    }

    /// Returns `base` with those columns behind it.
    pub(super) fn behind(&self, base: &SchemaRef) -> SchemaRef {
        if self.columns.is_empty() {
            return Arc::clone(base);
        }
        let own = self.columns.iter().map(|(key, data_type)| Arc::new(field(key, data_type.clone())));
        Arc::new(Schema::new(base.fields().iter().cloned().chain(own).collect::<Vec<FieldRef>>()))
    }

    fn column(&self, key: &str) -> Option<(Expr, &DataType)> {
        let (key, data_type) = self.columns.iter().find(|(known, _)| known == key)?;
        Some((Expr::Column(Column::from_name(column_name(key))), data_type))
    }

    /// Returns the text of `key`.
    pub(super) fn value(&self, key: &str) -> Expr {
        match self.column(key) {
            Some((column, DataType::Utf8)) => column,
            Some((column, _)) => Expr::Cast(Cast::new(Box::new(column), DataType::Utf8)),
            None => attribute::udf().call(vec![Expr::Column(Column::from_name(MAP)), lit(key)]),
        }
    }

    /// Makes a filter use the columns.
    pub(super) fn rewrite(&self, filter: Expr) -> Result<Expr> {
        if self.columns.is_empty() {
            return Ok(filter);
        }
        let rewritten = filter.transform_down(|expr| {
            // Integers become numbers at once and not by way of their text.
            let inner = match &expr {
                Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
                    if field.data_type().is_numeric() =>
                {
                    Some((key(expr), field.data_type().clone()))
                }
                _ => None,
            };
            if let Some((Some(key), wanted)) = inner
                && let Some((column, DataType::Int64)) = self.column(key)
            {
                let number = Expr::TryCast(TryCast::new(Box::new(column), wanted));
                return Ok(Transformed::new(number, true, TreeNodeRecursion::Jump));
            }
            match key(&expr).filter(|key| self.column(key).is_some()) {
                Some(key) => Ok(Transformed::new(self.value(key), true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(expr)),
            }
        })?;
        Ok(rewritten.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, try_cast};

    fn asked(key: &str) -> Expr {
        attribute::udf().call(vec![col(MAP), lit(key)])
    }

    #[test]
    fn filters_use_the_columns_that_are_there_and_the_map_for_the_rest() {
        let columns = vec![("tenant".to_owned(), DataType::Utf8), ("items".to_owned(), DataType::Int64)];
        let promoted = Promoted { columns };
        let rewritten = |filter: Expr| promoted.rewrite(filter).expect("filters can be rewritten").to_string();
        assert_eq!(rewritten(asked("tenant").eq(lit("a"))), "attributes.tenant = Utf8(\"a\")");
        assert_eq!(rewritten(asked("other").is_not_null()), "attribute(attributes, Utf8(\"other\")) IS NOT NULL");
        assert_eq!(
            rewritten(try_cast(asked("items"), DataType::Float64).gt(lit(20.0))),
            "TRY_CAST(attributes.items AS Float64) > Float64(20)"
        );
        assert_eq!(rewritten(asked("items").eq(lit("7"))), "CAST(attributes.items AS Utf8) = Utf8(\"7\")");
    }
}
