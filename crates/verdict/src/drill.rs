//! What the excess has in common: the value of an attribute, or the variant of a flag, that most of it falls on.
//!
//! Of the failures beyond what the control would have had, the share that each value explains is set against its share of
//! the requests. A value is named where it explains most of the excess and far more than its traffic would.
//!
//! *Source.* Bhagwan et al., "Adtributor: Revenue Debugging in Advertising Systems" (NSDI 2014).

use std::collections::BTreeMap;

use plimsoll_model::drill::{AttributeValue, Values, merge_values};

use crate::design::Cells;

/// Share of the excess that a value must explain.
const EXPLAINED_MIN: f64 = 0.7;
/// Times its share of the traffic that it must explain.
const LIFT_MIN: f64 = 1.5;

/// Attributes that say that a request failed, and not where.
const OUTCOMES: [&str; 2] = ["http.response.status_code", "error.type"];

/// An attribute value that explains the excess.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Common {
    pub(crate) name: String,
    /// Share of the excess.
    pub(crate) explained: f64,
}

/// Finds the value that failures of the candidate have in common.
pub(crate) fn of_errors(candidate: &Cells<'_>, control: &Cells<'_>) -> Option<Common> {
    let sums = |cells: &Cells<'_>| {
        let mut values = Values::new();
        let mut total = (0.0, 0.0);
        for (_, _, cell) in cells {
            merge_values(&mut values, &cell.values);
            total = (total.0 + cell.errors as f64, total.1 + cell.requests as f64);
        }
        (values, total)
    };
    let ((values, (errors, requests)), (usual, (errors_a, requests_a))) = (sums(candidate), sums(control));
    let rate = if requests_a > 0.0 { errors_a / requests_a } else { 0.0 };
    let excess = errors - rate * requests;
    if excess <= 0.0 || requests <= 0.0 {
        return None;
    }
    let mut found: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let tells = |value: &AttributeValue| value.value != "{other}" && !OUTCOMES.contains(&value.attribute.as_str());
    for (value, outcome) in values.iter().filter(|(value, _)| tells(value)) {
        let before = usual.get(value).filter(|o| o.requests > 0).map_or(rate, |o| o.errors as f64 / o.requests as f64);
        let own = outcome.errors as f64 - before * outcome.requests as f64;
        let (explained, share) = (own / excess, outcome.requests as f64 / requests);
        if explained >= EXPLAINED_MIN && explained >= LIFT_MIN * share {
            found.insert(format!("{}={}", value.attribute, value.value), (explained.min(1.0), share));
        }
    }
    // Of those that explain as much, the one with the least traffic is the most particular.
    let best = found.into_iter().max_by(|a, b| {
        let worth = |v: &(f64, f64)| v.0 - 0.5 * v.1;
        worth(&a.1).total_cmp(&worth(&b.1)).then_with(|| b.0.cmp(&a.0))
    });
    best.map(|(name, (explained, _))| Common { name, explained })
}
