//! Attribute values by outcome: which region, tenant or status the failures share.
//!
//! *Invariants.* Counts of kept values are exact or too low, never too high: what was not kept stands under the value
//! `{other}` of the same attribute, so that the values of one attribute add up to the requests that had it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Stands for values that were not kept.
pub const OTHER: &str = "{other}";

/// One value of one allow-listed attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttributeValue {
    /// Key of the attribute, for instance `cloud.region`.
    pub attribute: String,
    /// Its value; [`OTHER`] for those that were not kept.
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

/// Requests drawn from those of a cell, each with all its values of allow-listed attributes: which values come together.
///
/// Those with the smallest numbers of all that were offered are kept, in ascending order, so that merging is free of order. A number
/// follows from the request alone (the ids of its trace and span), and never comes twice.
///
/// *Source.* Cohen and Kaplan, "Summarizing data using bottom-k sketches" (PODC 2007).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Draws(pub Vec<Draw>);

/// One request that was drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// What it was drawn by, below 2^48.
    pub number: u64,
    /// Names of attributes with their values, ascending; what says that a request failed is not among them.
    pub values: Vec<(Arc<str>, Arc<str>)>,
}

impl Draw {
    /// Says whether the request had this value.
    pub fn has(&self, value: &AttributeValue) -> bool {
        self.values.iter().any(|(attribute, text)| **attribute == *value.attribute && **text == *value.value)
    }
}

impl Draws {
    /// How many failed requests of a cell are kept.
    pub const FAILED_MAX: usize = 8;
    /// How many of the others.
    pub const GOOD_MAX: usize = 4;

    /// Adds those of `other` and keeps `max`.
    pub fn merge(&mut self, other: &Self, max: usize) {
        for draw in &other.0 {
            if let Err(at) = self.0.binary_search_by_key(&draw.number, |known| known.number)
                && at < max
            {
                self.0.insert(at, draw.clone());
                self.0.truncate(max);
            }
        }
    }
}
