//! Zones: a candidate that is served from others than the control is compared with the control there.
//!
//! Rollouts go zone by zone, and zones differ: a version that is served from the worse one first looks worse. Cells count their
//! requests by zone among the values of attributes, so where both arms serve side by side the control is standardised to the
//! candidate's zones: of the zones that both serve from each of the control's requests counts by
//!
//! ```text
//! w_z = (candidate's share of zone z / control's share of it) / (the largest such quotient)
//! ```
//!
//! A zone that goes bad goes bad for both, at the same time; a candidate in one zone alone is held against the control in that
//! zone alone. Both shares are of requests in about the last two minutes. What cannot be had so is explained by what the zone
//! did before: zones from which only the candidate is served, the candidate's whole mix against the time before the start, and
//! latency, of which a cell knows the mean by zone and no more. There the control's failures are raised, and as much of the
//! latency is excused as it would have been slower; where that would make the control look better nothing is done.
//!
//! Which values a cell names follows from outcomes as soon as there are more than it keeps: failures weigh more. So an attribute counts only
//! where every cell names all of its values, and no more than [`ZONES_MAX`] of them are met; a deploy in which that ends has no zones from then on.
//!
//! *Validity.* Failures that are counted by weights of at most one are the mean, over draws, of those that are kept each with
//! that probability. Kept ones are Poisson counts of the standardised rate, so their e-value has a mean of one at most; it is
//! convex in them, so by Jensen the weighted ones' is no larger. Weights follow from numbers of requests, never from outcomes.
//!
//! *Invariants.* What is excused in a bucket follows from outcomes of the control before it and from numbers of requests up to it.
//!
//! *Cost.* One look-up a cell; at most a dozen zones an operation.
//!
//! *Source.* Kitagawa, "Components of a difference between two rates" (1955), for direct standardisation.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::drill::{AttributeValue, OTHER, Outcome};
use plimsoll_model::signal::{LOG_UNIT, OperationCell};

/// Attributes that name a zone, the finest first: of a service the first counts that it tells.
const ATTRIBUTES: [&str; 4] = ["cloud.availability_zone", "zone", "cloud.region", "region"];
/// Zones of one operation that are told apart.
const ZONES_MAX: usize = 16;
/// What is kept of the mix from bucket to bucket: that of about the last two minutes counts.
const KEPT: f64 = 0.9;
/// Requests at the usual rate that are added to what a zone shows.
const PRIOR: f64 = 100.0;
/// How many times rarer the control may be in a zone than the candidate, for both to serve from it.
pub(crate) const RARER_MAX: f64 = 20.0;
/// Excused failures a request, and growth of latency, from which a reader is told.
const TOLD: (f64, f64) = (0.0005, 0.04);

/// Returns the attribute by which the cells of a service tell their zone; `None` where they tell none, or not all of them.
pub(crate) fn attribute<'a>(cells: impl Iterator<Item = &'a OperationCell>) -> Option<&'static str> {
    let lows = ATTRIBUTES.map(first);
    // What each names; none where not all are named, or too many.
    let mut named = ATTRIBUTES.map(|_| Some(BTreeSet::<&str>::new()));
    for cell in cells.filter(|cell| !cell.values.is_empty()) {
        for (names, low) in named.iter_mut().zip(&lows) {
            if let Some(known) = names {
                known.extend(of(cell, low).map(|(name, _)| name));
                if known.len() > ZONES_MAX || known.contains(OTHER) {
                    *names = None;
                }
            }
        }
    }
    let told = ATTRIBUTES.into_iter().zip(named).find(|(_, names)| names.as_ref().is_some_and(|n| !n.is_empty()));
    told.map(|(attribute, _)| attribute)
}

/// The least of the values of an attribute.
pub(crate) fn first(attribute: &str) -> AttributeValue {
    AttributeValue { attribute: attribute.to_owned(), value: String::new() }
}

/// The outcomes of a cell by zone.
pub(crate) fn of<'a>(cell: &'a OperationCell, low: &'a AttributeValue) -> impl Iterator<Item = (&'a str, &'a Outcome)> {
    let from = cell.values.range(low..).take_while(|(value, _)| value.attribute == low.attribute);
    from.map(|(value, outcome)| (value.value.as_str(), outcome))
}

/// What is counted of a cell, failures and requests, as shares of them, where those of each zone count by a weight.
pub(crate) fn weighed(cell: &OperationCell, low: &AttributeValue, weight: impl Fn(&str) -> f64) -> [f64; 2] {
    let (mut all, mut weighted) = ([0.0; 2], [0.0; 2]);
    for (name, outcome) in of(cell, low) {
        let weight = weight(name);
        for (i, n) in [outcome.errors as f64, outcome.requests as f64].into_iter().enumerate() {
            all[i] += n;
            weighted[i] += weight * n;
        }
    }
    [0, 1].map(|i| if all[i] > 0.0 { weighted[i] / all[i] } else { 1.0 })
}

/// What the candidate's zones explain that the control cannot show at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Explained {
    /// Share of the control's requests that would fail in addition.
    pub(crate) points: f64,
    /// By how much the mean logarithm of its latency would be larger.
    pub(crate) slower: f64,
}

#[derive(Debug, Clone, Copy)]
struct Zone {
    /// The control's requests, failures and logarithms of latency since the hour before the start, and lately.
    fared: [f64; 3],
    recently: [f64; 3],
    /// The latest requests of the candidate and of the control.
    latest: [f64; 2],
    /// What one of the control's requests counts.
    weight: f64,
}

impl Default for Zone {
    fn default() -> Self {
        Self { fared: [0.0; 3], recently: [0.0; 3], latest: [0.0; 2], weight: 1.0 }
    }
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
        before.for_each(|cell| zones.learn(cell, false));
        zones
    }

    fn learn(&mut self, cell: &OperationCell, recent: bool) {
        let Some(low) = &self.low else { return };
        for (name, outcome) in of(cell, low) {
            let fared = [outcome.requests as f64, outcome.errors as f64, outcome.log_latency_sum as f64 / LOG_UNIT];
            add(&mut self.all, fared);
            if let Some(zone) = zone(&mut self.by_name, name) {
                add(&mut zone.fared, fared);
                if recent {
                    add(&mut zone.recently, fared);
                }
            }
        }
    }

    /// Takes one bucket of both arms and says what the zones explain; `beside` says whether the control's mix is that of the
    /// same time.
    pub(crate) fn push<'a>(
        &mut self,
        candidate: impl Iterator<Item = &'a OperationCell> + Clone,
        control: impl Iterator<Item = &'a OperationCell> + Clone,
        beside: bool,
    ) -> Explained {
        let seen = candidate.clone().chain(control.clone());
        if self.low.as_ref().is_some_and(|low| !self.names_all(low, seen)) {
            *self = Self { told: self.told, ..Self::default() };
        }
        let Some(low) = &self.low else { return Explained::default() };
        for zone in self.by_name.values_mut() {
            zone.latest = zone.latest.map(|n| KEPT * n);
            zone.recently = zone.recently.map(|n| KEPT * n);
        }
        let cells = candidate.map(|cell| (0, cell)).chain(control.clone().map(|cell| (1, cell)));
        for (arm, cell) in cells {
            for (name, outcome) in of(cell, low) {
                if let Some(zone) = zone(&mut self.by_name, name) {
                    zone.latest[arm] += outcome.requests as f64;
                }
            }
        }
        let mut explained = self.explained(beside);
        self.told |= explained.points >= TOLD.0 || explained.slower >= TOLD.1;
        let shared = self.weigh(beside);
        if shared {
            explained.points = self.unshared();
        }
        control.for_each(|cell| self.learn(cell, true));
        explained
    }

    /// Says whether these cells name all of their zones, and there are not too many of them.
    fn names_all<'a>(&self, low: &AttributeValue, cells: impl Iterator<Item = &'a OperationCell>) -> bool {
        let mut new: BTreeSet<&str> = BTreeSet::new();
        for (name, _) in cells.flat_map(|cell| of(cell, low)) {
            if name == OTHER {
                return false;
            }
            if !self.by_name.contains_key(name) {
                new.insert(name);
            }
        }
        self.by_name.len() + new.len() <= ZONES_MAX
    }

    /// What is counted of a cell of the control, failures and requests, as shares of them.
    pub(crate) fn weights(&self, cell: &OperationCell) -> [f64; 2] {
        let Some(low) = &self.low else { return [1.0; 2] };
        weighed(cell, low, |name| self.by_name.get(name).map_or(1.0, |zone| zone.weight))
    }

    /// The attribute by which zones are told; `None` where they count for nothing.
    pub(crate) fn attribute(&self) -> Option<&str> {
        self.low.as_ref().map(|low| low.attribute.as_str())
    }

    /// Latest requests of both arms in all zones.
    fn latest(&self) -> [f64; 2] {
        self.by_name.values().fold([0.0; 2], |sum, zone| [sum[0] + zone.latest[0], sum[1] + zone.latest[1]])
    }

    /// Candidate's share of a zone over the control's, where both serve from it.
    fn quotient(zone: &Zone, totals: [f64; 2]) -> Option<f64> {
        let [b, a] = [0, 1].map(|arm| zone.latest[arm] / totals[arm].max(1.0));
        (a > 0.0 && b <= RARER_MAX * a).then(|| b / a)
    }

    /// Fixes what the control's requests count; false where the candidate is mostly served from where the control is not.
    fn weigh(&mut self, beside: bool) -> bool {
        let totals = self.latest();
        let quotient = |zone: &Zone| Self::quotient(zone, totals);
        let shared: f64 = self.by_name.values().filter(|z| quotient(z).is_some()).map(|z| z.latest[0]).sum();
        let most = self.by_name.values().filter_map(quotient).fold(0.0, f64::max);
        let shown = beside && most > 0.0 && 2.0 * shared > totals[0];
        for zone in self.by_name.values_mut() {
            zone.weight = Self::quotient(zone, totals).filter(|_| shown).map_or(1.0, |quotient| quotient / most);
        }
        shown
    }

    /// Points that zones explain from which only the candidate is served.
    fn unshared(&self) -> f64 {
        let totals = self.latest();
        let (mut alone, mut missing, mut usual, mut beside) = (0.0, 0.0, 0.0, 0.0);
        for zone in self.by_name.values() {
            let n = zone.latest[0];
            let failing = self.rate(zone, 1, true);
            if Self::quotient(zone, totals).is_some() {
                (usual, beside) = (usual + n * failing, beside + n);
            } else {
                (alone, missing) = (alone + n * failing, missing + n);
            }
        }
        if missing <= 0.0 || beside <= 0.0 {
            return 0.0;
        }
        ((alone - missing * usual / beside) / totals[0]).clamp(0.0, 1.0)
    }

    /// Failures, or the logarithm of latency, a request of the control in a zone: what it showed since the hour before and,
    /// where the control may have served from there lately, rather what it showed lately.
    fn rate(&self, zone: &Zone, of: usize, lately: bool) -> f64 {
        let usual = self.all[of] / self.all[0].max(1.0);
        let past = (zone.fared[of] + PRIOR * usual) / (zone.fared[0] + PRIOR);
        if lately { (zone.recently[of] + PRIOR * past) / (zone.recently[0] + PRIOR) } else { past }
    }

    fn explained(&self, beside: bool) -> Explained {
        let mix = |zone: &Zone| [zone.latest[0], if beside { zone.latest[1] } else { zone.fared[0] }];
        let totals = self.by_name.values().map(mix).fold([0.0; 2], |sum, n| [sum[0] + n[0], sum[1] + n[1]]);
        if totals.iter().any(|n| *n <= 0.0) || self.all[0] <= 0.0 {
            return Explained::default();
        }
        let (mut points, mut slower) = (0.0, 0.0);
        for zone in self.by_name.values() {
            let [b, a] = mix(zone);
            let more = b / totals[0] - a / totals[1];
            points += more * self.rate(zone, 1, beside);
            slower += more * self.rate(zone, 2, beside);
        }
        Explained { points: points.clamp(0.0, 1.0), slower: slower.max(0.0) }
    }

    /// About how much memory it takes beside itself.
    pub(crate) fn bytes(&self) -> usize {
        self.by_name.keys().map(|name| 64 + name.len() + size_of::<Zone>()).sum()
    }
}

fn add(sums: &mut [f64; 3], more: [f64; 3]) {
    sums.iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
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

    fn past() -> [OperationCell; 1] {
        [cell(&[("a", 50_000, 0), ("b", 50_000, 5_000)])]
    }

    /// What is explained, and failures and requests that the control then counts.
    fn told(candidate: &OperationCell, control: &OperationCell, beside: bool) -> (Explained, [f64; 2]) {
        let past = past();
        let mut zones = Zones::new(attribute(past.iter()), past.iter());
        let explained = zones.push([candidate].into_iter(), [control].into_iter(), beside);
        let [errors, requests] = zones.weights(control);
        (explained, [errors * control.errors as f64, requests * control.requests as f64])
    }

    #[test]
    fn beside_the_control_counts_as_much_of_a_zone_as_the_candidate_has_there() {
        let even = cell(&[("a", 100, 0), ("b", 100, 10)]);
        let (worse, counted) = told(&cell(&[("b", 100, 10)]), &even, true);
        assert_eq!((worse.points, counted), (0.0, [10.0, 100.0]), "the control of that zone alone");
        assert!((worse.slower - 0.5).abs() < 1e-2, "{worse:?}");
        let (better, counted) = told(&cell(&[("a", 100, 0)]), &even, true);
        assert_eq!((better, counted), (Explained::default(), [0.0, 100.0]));
        let (_, counted) = told(&cell(&[("a", 50, 0), ("b", 150, 15)]), &even, true);
        assert!((counted[0] - 10.0).abs() < 1e-9 && (counted[1] - 400.0 / 3.0).abs() < 1e-9, "{counted:?}");
        assert_eq!(told(&even, &even, true), (Explained::default(), [10.0, 200.0]));
    }

    #[test]
    fn what_only_the_candidate_shows_of_a_zone_is_told_by_the_past() {
        let (only_a, only_b) = (cell(&[("a", 100, 0)]), cell(&[("b", 100, 10)]));
        let (apart, counted) = told(&only_b, &only_a, true);
        assert!((apart.points - 0.10).abs() < 1e-3 && counted == [0.0, 100.0], "{apart:?} {counted:?}");
        let (partly, _) = told(&cell(&[("a", 60, 0), ("b", 40, 4)]), &only_a, true);
        assert!((partly.points - 0.04).abs() < 1e-3, "{partly:?}");
        // Against the time before it is the past's mix that counts.
        let (before, counted) = told(&only_b, &only_b, false);
        assert!((before.points - 0.05).abs() < 1e-3 && counted == [10.0, 100.0], "{before:?}");
        // Of a zone that nobody knows nothing is expected.
        let (unknown, _) = told(&cell(&[("c", 100, 50)]), &cell(&[("a", 100, 0), ("b", 100, 10)]), true);
        assert!(unknown.points < 1e-9, "{unknown:?}");
    }
}
