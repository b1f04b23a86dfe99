//! What the excess has in common: the value of an attribute, or the variant of a flag, that most of it falls on.
//!
//! Of the failures beyond what the control would have had, or of the growth of the logarithms of latency, the share that each
//! value explains is set against its share of the requests. A value is named where it explains most of the excess and far more
//! than its traffic would.
//!
//! *Source.* Bhagwan et al., "Adtributor: Revenue Debugging in Advertising Systems" (NSDI 2014).

use std::collections::BTreeMap;

use plimsoll_model::drill::{AttributeValue, Outcome, Values, merge_values};
use plimsoll_model::signal::{LOG_UNIT, OperationCell};

use crate::design::Cells;

/// Share of the excess that a value must explain.
const EXPLAINED_MIN: f64 = 0.7;
/// Times its share of the traffic that it must explain.
const LIFT_MIN: f64 = 1.5;

/// Growth of the mean logarithm of latency that there must be to explain any.
const GROWTH_MIN: f64 = 0.01;

/// Attributes that say that a request failed, and not where.
const OUTCOMES: [&str; 2] = ["http.response.status_code", "error.type"];

/// An attribute value that explains the excess.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Common {
    pub(crate) name: String,
    /// Share of the excess.
    pub(crate) explained: f64,
}

/// What is summed up of requests: failures, or logarithms of latency.
#[derive(Clone, Copy)]
enum Measured {
    Errors,
    Latency,
}

impl Measured {
    fn of_value(self, outcome: &Outcome) -> f64 {
        match self {
            Self::Errors => outcome.errors as f64,
            Self::Latency => outcome.log_latency_sum as f64 / LOG_UNIT,
        }
    }

    fn of_cell(self, cell: &OperationCell) -> f64 {
        match self {
            Self::Errors => cell.errors as f64,
            Self::Latency => cell.log_latency_sum as f64 / LOG_UNIT,
        }
    }

    /// The excess a request below which there is nothing to explain.
    fn least(self) -> f64 {
        match self {
            Self::Errors => 0.0,
            Self::Latency => GROWTH_MIN,
        }
    }
}

/// Finds the value that failures of the candidate have in common.
pub(crate) fn of_errors(candidate: &Cells<'_>, control: &Cells<'_>) -> Option<Common> {
    of(Measured::Errors, candidate, control)
}

/// Finds the value that slow requests of the candidate have in common.
pub(crate) fn of_latency(candidate: &Cells<'_>, control: &Cells<'_>) -> Option<Common> {
    of(Measured::Latency, candidate, control)
}

fn of(measured: Measured, candidate: &Cells<'_>, control: &Cells<'_>) -> Option<Common> {
    let sums = |cells: &Cells<'_>| {
        let mut values = Values::new();
        let mut total = (0.0, 0.0);
        for (_, _, cell) in cells {
            merge_values(&mut values, &cell.values);
            total = (total.0 + measured.of_cell(cell), total.1 + cell.requests as f64);
        }
        (values, total)
    };
    let ((values, (sum, requests)), (usual, (sum_a, requests_a))) = (sums(candidate), sums(control));
    let rate = if requests_a > 0.0 { sum_a / requests_a } else { 0.0 };
    let excess = sum - rate * requests;
    if requests <= 0.0 || excess <= measured.least() * requests {
        return None;
    }
    let mut found: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let tells = |value: &AttributeValue| value.value != "{other}" && !OUTCOMES.contains(&value.attribute.as_str());
    for (value, outcome) in values.iter().filter(|(value, _)| tells(value)) {
        let known = usual.get(value).filter(|before| before.requests > 0);
        let before = known.map_or(rate, |before| measured.of_value(before) / before.requests as f64);
        let own = measured.of_value(outcome) - before * outcome.requests as f64;
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
