//! Functions of our own: those that give stored values their face, and those that users call.

use std::sync::{Arc, LazyLock};

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) mod attribute;
pub(crate) mod error_rate;
pub(crate) mod extreme;
pub(crate) mod forms;
pub(crate) mod hex;
pub(crate) mod histogram;
pub(crate) mod histogram_merge;
pub(crate) mod identity;
pub(crate) mod lacking;
pub(crate) mod latest_deploy;
pub(crate) mod lengths;
pub(crate) mod longest;
pub(crate) mod meant;
pub(crate) mod merged;
pub(crate) mod names;
pub(crate) mod power;
pub(crate) mod rate;
pub(crate) mod template;
pub(crate) mod zones;

use crate::guard::REFUSED_FUNCTIONS;
use crate::postgres::WRITTEN;

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
    let mut all = vec![
        attribute::udf(),
        hex::udf(),
        names::KIND.udf(),
        names::STATUS.udf(),
        names::TEMPORALITY.udf(),
        template::udf(),
        latest_deploy::udf(Arc::default()),
        power::udf(),
    ];
    all.extend(meant::udfs());
    all.extend(identity::udfs());
    all.extend(lacking::udfs());
    all.extend(lengths::udfs());
    all.extend(zones::udfs());
    all.extend(histogram::udfs());
    all
}

/// The names of every function that may be called, for messages.
pub(crate) fn names() -> Vec<&'static str> {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        // What statements are written with is not for calling.
        let scalar = SessionStateDefaults::default_scalar_functions().into_iter().chain(self::scalar());
        let aggregate = SessionStateDefaults::default_aggregate_functions().into_iter().chain(self::aggregate());
        let window = SessionStateDefaults::default_window_functions().into_iter();
        let mut names: Vec<String> = scalar.map(|function| function.name().to_owned()).collect();
        names.extend(aggregate.map(|function| function.name().to_owned()));
        names.extend(window.map(|function| function.name().to_owned()));
        names.retain(|name| !REFUSED_FUNCTIONS.contains(&name.as_str()) && !WRITTEN.contains(&name.as_str()));
        names
    });
    NAMES.iter().map(String::as_str).collect()
}

/// Every aggregate function.
pub(crate) fn aggregate() -> Vec<Arc<AggregateUDF>> {
    let mut all = vec![error_rate::udaf()];
    all.extend(histogram_merge::udafs());
    all.extend(rate::udafs());
    all
}
