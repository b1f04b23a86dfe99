//! The control as a reader is told of it where the candidate is served from other zones: by the candidate's mix of them.
//!
//! Tests count each request of the control by its zone, as shares are of the last two minutes ([`crate::zones`]). Told is the same over
//! the whole time compared: of the zones that both serve from, each with the control's share of failures in it, by how many of the
//! candidate's requests are served from there. Anybody can count that, and does by the finding's query.
//!
//! *Invariants.* Whether it is told follows from the plain counts of both arms; where it would say the same as these, they are told.

use std::collections::BTreeMap;

use plimsoll_model::drill::AttributeValue;
use plimsoll_model::signal::OperationCell;
use plimsoll_model::{Design, Sample};

use crate::design::Cells;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::subject::Subject;
use crate::view::View;
use crate::zones::{self, RARER_MAX};

/// Share of the larger of both baselines by which they differ, from which on the one by zones is told.
const DIFFERS: f64 = 0.1;

/// The control's failures by the candidate's zones.
#[derive(Debug, Clone)]
pub(crate) struct ByZone {
    /// The attribute, with an empty value.
    low: AttributeValue,
    /// Of the zones that are compared, the candidate's share over the control's.
    weights: BTreeMap<String, f64>,
    /// The control's share of failed requests by the candidate's zones; its requests in those.
    pub(crate) baseline: Sample,
}

/// Requests of the candidate, and failures and requests of the control.
type Counted = [f64; 3];

impl ByZone {
    /// Counts it for a finding, where the test counted it so and that makes a difference.
    pub(crate) fn told(input: &JudgeInput, fold: &Fold, subject: Subject, view: &View<'_>) -> Option<Self> {
        let Subject::Errors(index) = subject else { return None };
        let attribute = fold.operations[index].zones.attribute()?;
        let plain = !input.weighted && input.flag.is_none() && input.measured.is_none();
        let beside = fold.design() == Design::Concurrent;
        if plain && beside { Self::of(attribute, &view.candidate, &view.control) } else { None }
    }

    /// Counts both arms by the zones that `attribute` tells; `None` where too few requests tell one, where the candidate is mostly served
    /// from where the control is not, and where the mixes make no difference.
    fn of(attribute: &str, candidate: &Cells<'_>, control: &Cells<'_>) -> Option<Self> {
        let low = zones::first(attribute);
        let mut by_name: BTreeMap<&str, Counted> = BTreeMap::new();
        for (name, outcome) in candidate.iter().flat_map(|(.., cell)| zones::of(cell, &low)) {
            by_name.entry(name).or_default()[0] += outcome.requests as f64;
        }
        for (name, outcome) in control.iter().flat_map(|(.., cell)| zones::of(cell, &low)) {
            let counted = by_name.entry(name).or_default();
            counted[1] += outcome.errors as f64;
            counted[2] += outcome.requests as f64;
        }
        let all = |cells: &Cells<'_>, of: fn(&OperationCell) -> u64| -> f64 {
            cells.iter().map(|(.., cell)| of(cell) as f64).sum()
        };
        let total = |i: usize| by_name.values().map(|counted| counted[i]).sum::<f64>();
        let (served, usual) = (total(0), total(2));
        let requests = [candidate, control].map(|cells| all(cells, |cell| cell.requests));
        if 2.0 * served <= requests[0] || 2.0 * usual <= requests[1] {
            return None;
        }
        by_name.retain(|_, [b, _, a]| *b > 0.0 && *a > 0.0 && *b / served <= RARER_MAX * *a / usual);
        let sum = |of: fn(&Counted) -> f64| by_name.values().map(of).sum::<f64>();
        let shared = sum(|[b, ..]| *b);
        if 2.0 * shared <= served {
            return None;
        }
        let value = sum(|[b, bad, a]| b * bad / a) / shared;
        let plain = all(control, |cell| cell.errors) / requests[1];
        if (value - plain).abs() <= DIFFERS * value.max(plain) {
            return None;
        }
        let baseline = Sample { value, n: sum(|[.., a]| *a) as u64 };
        let weights = by_name.iter().map(|(name, [b, _, a])| ((*name).to_owned(), b / served * usual / a)).collect();
        Some(Self { low, weights, baseline })
    }

    /// The attribute that tells zones.
    pub(crate) fn attribute(&self) -> &str {
        &self.low.attribute
    }

    /// Names of the zones that are compared.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.weights.keys().map(String::as_str)
    }

    /// What a cell of the control counts, failures and requests, as shares of them.
    pub(crate) fn weights(&self, cell: &OperationCell) -> [f64; 2] {
        zones::weighed(cell, &self.low, |name| self.weights.get(name).copied().unwrap_or(0.0))
    }
}
