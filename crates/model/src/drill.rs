//! Attribute values by outcome: which region, tenant or status the failures share.
//!
//! *Invariants.* Counts of kept values are exact or too low, never too high: what was not kept stands under the value
//! `{other}` of the same attribute, so that the values of one attribute add up to the requests that had it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One value of one allow-listed attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttributeValue {
    /// Key of the attribute, for instance `cloud.region`.
    pub attribute: String,
    /// Its value; `{other}` for those that were not kept.
    pub value: String,
}

/// How the requests fared that had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Sum of natural logarithms of latency in nanoseconds, in units of 1/[`crate::signal::LOG_UNIT`].
    pub log_latency_sum: i64,
}

impl Outcome {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.log_latency_sum = self.log_latency_sum.saturating_add(other.log_latency_sum);
    }
}

/// Outcomes by attribute and value.
pub type Values = BTreeMap<AttributeValue, Outcome>;

/// Adds `more` to `values`.
pub fn merge_values(values: &mut Values, more: &Values) {
    for (value, outcome) in more {
        match values.get_mut(value) {
            Some(mine) => mine.merge(outcome),
            None => {
                values.insert(value.clone(), *outcome);
            }
        }
    }
}
