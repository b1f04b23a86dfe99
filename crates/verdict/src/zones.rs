//! Zones: what the place alone explains, where the candidate is served from others than the control.
//!
//! Rollouts go zone by zone, and zones differ: a version that is served from the worse one first looks worse. Cells count their
//! requests by zone among the values of attributes, so the control is standardised to the candidate's zones: to its failures
//! come those that it would have had with the candidate's mix, by its own share in each zone so far, and as much of the
//! latency is excused as it would have been slower. Where that would make the control look better nothing is done.
//!
//! *Invariants.* What is added in a bucket follows from outcomes of the control before it and from numbers of requests up to it.
//!
//! *Cost.* One look-up a cell; at most a dozen zones an operation.
//!
//! *Source.* Kitagawa, "Components of a difference between two rates" (1955), for direct standardisation.

use std::collections::BTreeMap;

use plimsoll_model::drill::{AttributeValue, Outcome};
use plimsoll_model::signal::{LOG_UNIT, OperationCell};

/// Attributes that name a zone, the finest first: of a service the first counts that it tells.
const ATTRIBUTES: [&str; 4] = ["cloud.availability_zone", "zone", "cloud.region", "region"];
/// Zones of one operation that are told apart.
const ZONES_MAX: usize = 16;
/// What is kept of the mix from bucket to bucket: that of about the last two minutes counts.
const KEPT: f64 = 0.9;
/// Requests at the usual rate that are added to what a zone shows.
const PRIOR: f64 = 100.0;
/// Excused failures a request, and growth of latency, from which a reader is told.
const TOLD: (f64, f64) = (0.0005, 0.04);

/// Returns the attribute by which the cells of a service tell their zone; `None` where they tell none.
pub(crate) fn attribute<'a>(cells: impl Iterator<Item = &'a OperationCell>) -> Option<&'static str> {
    let mut best: Option<usize> = None;
    for cell in cells {
        let until = best.unwrap_or(ATTRIBUTES.len());
        best = (0..until).find(|at| of(cell, &first(ATTRIBUTES[*at])).next().is_some()).or(best);
        if best == Some(0) {
            break;
        }
    }
    best.map(|at| ATTRIBUTES[at])
}

/// The least of the values of an attribute.
fn first(attribute: &str) -> AttributeValue {
    AttributeValue { attribute: attribute.to_owned(), value: String::new() }
}

/// The outcomes of a cell by zone.
fn of<'a>(cell: &'a OperationCell, low: &'a AttributeValue) -> impl Iterator<Item = (&'a str, &'a Outcome)> {
    let from = cell.values.range(low..).take_while(|(value, _)| value.attribute == low.attribute);
    from.map(|(value, outcome)| (value.value.as_str(), outcome))
}

/// What the candidate's zones alone explain.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Explained {
    /// Share of the control's requests that would fail in addition.
    pub(crate) points: f64,
    /// By how much the mean logarithm of its latency would be larger.
    pub(crate) slower: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Zone {
    /// The control's requests, failures and logarithms of latency so far.
    fared: [f64; 3],
    /// The latest requests of the candidate and of the control.
    latest: [f64; 2],
}

/// The zones of one operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zones {
    low: Option<AttributeValue>,
    by_name: BTreeMap<String, Zone>,
    all: [f64; 3],
    /// True once it explained as much as a reader is told of.
    pub(crate) told: bool,
}

impl Zones {
    /// Starts from the control's cells before the start.
    pub(crate) fn new<'a>(attribute: Option<&'static str>, before: impl Iterator<Item = &'a OperationCell>) -> Self {
        let mut zones = Self { low: attribute.map(first), ..Self::default() };
        before.for_each(|cell| zones.learn(cell));
        zones
    }

    fn learn(&mut self, cell: &OperationCell) {
        let Some(low) = &self.low else { return };
        for (name, outcome) in of(cell, low) {
            let fared = [outcome.requests as f64, outcome.errors as f64, outcome.log_latency_sum as f64 / LOG_UNIT];
            self.all.iter_mut().zip(fared).for_each(|(sum, n)| *sum += n);
            if let Some(zone) = zone(&mut self.by_name, name) {
                zone.fared.iter_mut().zip(fared).for_each(|(sum, n)| *sum += n);
            }
        }
    }

    /// Takes one bucket of both arms and says what the zones explain; `beside` says whether the control's mix is that of the
    /// same time.
    pub(crate) fn push<'a>(
        &mut self,
        candidate: impl Iterator<Item = &'a OperationCell>,
        control: impl Iterator<Item = &'a OperationCell> + Clone,
        beside: bool,
    ) -> Explained {
        let Some(low) = &self.low else { return Explained::default() };
        self.by_name.values_mut().for_each(|zone| zone.latest = zone.latest.map(|n| KEPT * n));
        let cells = candidate.map(|cell| (0, cell)).chain(control.clone().map(|cell| (1, cell)));
        for (arm, cell) in cells {
            for (name, outcome) in of(cell, low) {
                if let Some(zone) = zone(&mut self.by_name, name) {
                    zone.latest[arm] += outcome.requests as f64;
                }
            }
        }
        let explained = self.explained(beside);
        control.for_each(|cell| self.learn(cell));
        self.told |= explained.points >= TOLD.0 || explained.slower >= TOLD.1;
        explained
    }

    fn explained(&self, beside: bool) -> Explained {
        let mix = |zone: &Zone| [zone.latest[0], if beside { zone.latest[1] } else { zone.fared[0] }];
        let totals = self.by_name.values().map(mix).fold([0.0; 2], |sum, n| [sum[0] + n[0], sum[1] + n[1]]);
        if totals.iter().any(|n| *n <= 0.0) || self.all[0] <= 0.0 {
            return Explained::default();
        }
        let usual = [self.all[1] / self.all[0], self.all[2] / self.all[0]];
        let (mut points, mut slower) = (0.0, 0.0);
        for zone in self.by_name.values() {
            let [b, a] = mix(zone);
            let more = b / totals[0] - a / totals[1];
            let rate = |of: usize| (zone.fared[of] + PRIOR * usual[of - 1]) / (zone.fared[0] + PRIOR);
            points += more * rate(1);
            slower += more * rate(2);
        }
        Explained { points: points.clamp(0.0, 1.0), slower: slower.max(0.0) }
    }

    /// About how much memory it takes beside itself.
    pub(crate) fn bytes(&self) -> usize {
        self.by_name.keys().map(|name| 64 + name.len() + size_of::<Zone>()).sum()
    }
}

/// Finds a zone; `None` where there are too many.
fn zone<'a>(zones: &'a mut BTreeMap<String, Zone>, name: &str) -> Option<&'a mut Zone> {
    if !zones.contains_key(name) {
        if zones.len() >= ZONES_MAX {
            return None;
        }
        zones.insert(name.to_owned(), Zone::default());
    }
    zones.get_mut(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(zones: &[(&str, u64, u64)]) -> OperationCell {
        let mut cell = OperationCell::default();
        for (name, requests, errors) in zones {
            let value = AttributeValue { attribute: "zone".to_owned(), value: (*name).to_owned() };
            let log_latency_sum = if *name == "b" { 2 } else { 1 } * *requests as i64 * LOG_UNIT as i64;
            cell.values.insert(value, Outcome { requests: *requests, errors: *errors, log_latency_sum });
            cell.requests += requests;
            cell.errors += errors;
        }
        cell
    }

    #[test]
    fn the_worse_zone_explains_what_it_usually_does_and_the_better_one_nothing() {
        let past = [cell(&[("a", 50_000, 0), ("b", 50_000, 5_000)])];
        let told = |candidate: &OperationCell, control: &OperationCell, beside: bool| {
            let mut zones = Zones::new(attribute(past.iter()), past.iter());
            zones.push([candidate].into_iter(), [control].into_iter(), beside)
        };
        let even = cell(&[("a", 100, 0), ("b", 100, 10)]);
        let worse = told(&cell(&[("b", 100, 10)]), &even, true);
        assert!((worse.points - 0.05).abs() < 1e-3 && (worse.slower - 0.5).abs() < 1e-2, "{worse:?}");
        assert_eq!(told(&cell(&[("a", 100, 0)]), &even, true), Explained::default());
        assert_eq!(told(&even, &even, true), Explained::default());
        // Against the time before it is the past's mix that counts.
        let before = told(&cell(&[("b", 100, 10)]), &cell(&[("b", 100, 10)]), false);
        assert!((before.points - 0.05).abs() < 1e-3, "{before:?}");
        assert_eq!(told(&cell(&[("b", 100, 10)]), &cell(&[("b", 100, 10)]), true), Explained::default());
        // Of a zone that nobody knows nothing is expected.
        assert!(told(&cell(&[("c", 100, 50)]), &even, true).points < 1e-9);
    }
}
