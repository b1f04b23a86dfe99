//! What the excess has in common, and how much of a difference is a change of mix.
//!
//! *Source.* Kitagawa, "Components of a difference between two rates" (1955), for the split.

use std::collections::BTreeMap;

use plimsoll_model::signal::AgeClass;
use plimsoll_model::verdict::{Common, Split};
use plimsoll_model::{Design, Explanation};

use crate::design::Cells;
use crate::drill;

/// Share of the excess that a class or exception must have to be named.
const CAUSE_MIN: f64 = 0.3;
/// Buckets of a stratum where both arms serve side by side: traffic shifts between them as a rollout goes on.
const STRETCH: u64 = 6;

/// Explains nothing but what it is about.
pub(crate) fn about(subject: String) -> Explanation {
    Explanation { subject, ..Explanation::default() }
}

/// Says what the failures have in common: their class, and where they fall; and how much of it is mix.
pub(crate) fn errors(candidate: &Cells<'_>, control: &Cells<'_>, design: Design) -> Explanation {
    let mut strata = Strata::default();
    for (arm, cells) in [candidate, control].into_iter().enumerate() {
        for (bucket, age, cell) in cells {
            let stretch = if design == Design::Concurrent { bucket.0 / STRETCH } else { 0 };
            strata.add(arm, ("", stretch, *age), (cell.errors as f64, cell.requests as f64));
        }
    }
    let place = drill::of_errors(candidate, control);
    Explanation {
        cause: cause(candidate, control),
        place: place.map(|place| Common { name: place.name, share: place.explained }),
        split: strata.split(),
        ..Explanation::default()
    }
}

/// Operation, a number that tells parts of it apart, and age of the instances.
type Stratum<'a> = (&'a str, u64, AgeClass);

/// Failed and all requests of both arms by stratum.
#[derive(Debug, Default)]
pub(crate) struct Strata<'a>(BTreeMap<Stratum<'a>, [(f64, f64); 2]>);

impl<'a> Strata<'a> {
    /// Adds failed and all requests of the candidate (0) or the control (1).
    pub(crate) fn add(&mut self, arm: usize, stratum: Stratum<'a>, (errors, requests): (f64, f64)) {
        if requests > 0.0 {
            let sums = &mut self.0.entry(stratum).or_default()[arm];
            *sums = (sums.0 + errors, sums.1 + requests);
        }
    }

    /// Splits the difference of the pooled shares of failed requests; `None` where an arm is empty.
    ///
    /// Ages that only one arm has are compared with each other, as tests do. A stratum that still has one arm only is all
    /// mix: nothing says how the other would have fared in it.
    pub(crate) fn split(&self) -> Option<Split> {
        let total = |arm: usize| self.0.values().map(|arms| arms[arm].1).sum::<f64>();
        let totals = [total(0), total(1)];
        if totals.iter().any(|n| *n <= 0.0) {
            return None;
        }
        let mut strata: BTreeMap<_, [(f64, f64); 2]> = BTreeMap::new();
        for ((operation, part, age), arms) in &self.0 {
            let both = arms.iter().all(|(_, n)| *n > 0.0);
            let stratum = strata.entry((*operation, *part, both.then_some(*age))).or_default();
            for (sum, arm) in stratum.iter_mut().zip(arms) {
                *sum = (sum.0 + arm.0, sum.1 + arm.1);
            }
        }
        let mut split = Split::default();
        for arms in strata.values() {
            let weight = |arm: usize| arms[arm].1 / totals[arm];
            let rate = |arm: usize, other: usize| {
                let (bad, n) = if arms[arm].1 > 0.0 { arms[arm] } else { arms[other] };
                bad / n.max(1.0)
            };
            let (b, a) = (rate(0, 1), rate(1, 0));
            split.within += 0.5 * (weight(0) + weight(1)) * (b - a);
            split.mix += 0.5 * (b + a) * (weight(0) - weight(1));
        }
        Some(split)
    }
}

/// Names the class or the exception that most of the excess has, with its share.
fn cause(candidate: &Cells<'_>, control: &Cells<'_>) -> Option<Common> {
    let sums = |cells: &Cells<'_>| {
        let mut classes = BTreeMap::<String, f64>::new();
        let (mut errors, mut requests) = (0.0, 0.0);
        for (_, _, cell) in cells {
            errors += cell.errors as f64;
            requests += cell.requests as f64;
            for seen in cell.exceptions.values() {
                let name = exception_name(&seen.exception_type, &seen.message);
                *classes.entry(name).or_default() += seen.count as f64;
            }
            for (class, count) in &cell.errors_by_class {
                *classes.entry(format!("`{class}`")).or_default() += *count as f64;
            }
        }
        (classes, errors, requests)
    };
    let (candidate, control) = (sums(candidate), sums(control));
    let scale = candidate.2 / control.2.max(1.0);
    let excess = candidate.1 - control.1 * scale;
    let most = candidate
        .0
        .iter()
        .map(|(name, count)| (count - control.0.get(name).copied().unwrap_or(0.0) * scale, name))
        // Of equals the longest name: an exception says more than its class.
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.len().cmp(&b.1.len())));
    most.filter(|(count, _)| excess > 0.0 && *count >= CAUSE_MIN * excess)
        .map(|(count, name)| Common { name: name.clone(), share: (count / excess).min(1.0) })
}

/// Names an exception, or a message where there is no type.
pub(crate) fn exception_name(kind: &str, message: &str) -> String {
    let short: String = message.chars().take(80).collect();
    match (kind.is_empty(), short.is_empty()) {
        (false, false) => format!("`{kind}: {short}`"),
        (false, true) => format!("`{kind}`"),
        _ => format!("`{short}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_adds_up_and_a_pure_change_of_mix_is_all_mix() {
        let mut strata = Strata::default();
        for (arm, [fast, slow]) in
            [[(1.0, 100.0), (90.0, 900.0)], [(9.0, 900.0), (10.0, 100.0)]].into_iter().enumerate()
        {
            strata.add(arm, ("a", 0, AgeClass::Warm), fast);
            strata.add(arm, ("b", 0, AgeClass::Warm), slow);
        }
        let split = strata.split().expect("both arms have requests");
        assert!(split.within.abs() < 1e-12, "{split:?}");
        assert!((split.mix - (91.0 - 19.0) / 1_000.0).abs() < 1e-12, "{split:?}");
        strata.add(0, ("c", 0, AgeClass::Cold), (50.0, 100.0));
        let split = strata.split().expect("both arms have requests");
        assert!((split.within + split.mix - (141.0 / 1_100.0 - 19.0 / 1_000.0)).abs() < 1e-12, "{split:?}");
    }
}
