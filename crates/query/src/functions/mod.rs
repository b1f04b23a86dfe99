//! Functions of our own: those that give stored values their face, and those that users call.

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) mod attribute;
pub(crate) mod hex;
pub(crate) mod histogram;
pub(crate) mod names;
pub(crate) mod template;

/// Key of the field metadata that tells what a column's values stand for.
pub(crate) const FACE: &str = "plimsoll.face";
/// Hexadecimal ids, in lower case.
pub(crate) const FACE_HEX: &str = "hex";
/// Attribute values: text that may stand for numbers.
pub(crate) const FACE_ATTRIBUTE: &str = "attribute";
/// JSON text.
pub(crate) const FACE_JSON: &str = "json";

/// Every scalar function.
pub(crate) fn scalar() -> Vec<Arc<ScalarUDF>> {
    vec![
        attribute::udf(),
        hex::udf(),
        names::KIND.udf(),
        names::STATUS.udf(),
        names::TEMPORALITY.udf(),
        template::udf(),
        histogram::quantile(),
        histogram::count_above(),
        histogram::bucket_index(),
    ]
}

/// Every aggregate function.
pub(crate) fn aggregate() -> Vec<Arc<AggregateUDF>> {
    vec![histogram::merged_quantile()]
}
