//! What the excess has in common, and how much of a difference is a change of mix.
//!
//! *Source.* Kitagawa, "Components of a difference between two rates" (1955), for the split.

use std::collections::BTreeMap;

use plimsoll_model::signal::AgeClass;
use plimsoll_model::verdict::{Common, Split};
use plimsoll_model::{Design, Explanation};

use crate::by_zone::ByZone;
use crate::design::Cells;
use crate::drill;

/// Share of the excess that a class or exception must have to be named.
const CAUSE_MIN: f64 = 0.3;
/// An exception is named instead of a class, which says less, where it accounts for such a part of what the class does.
const TELLING: f64 = 0.8;
/// Buckets of a stratum where both arms serve side by side: traffic shifts between them as a rollout goes on.
const STRETCH: u64 = 6;

/// Explains nothing but what it is about.
pub(crate) fn about(subject: String) -> Explanation {
    Explanation { subject, ..Explanation::default() }
}

/// Says what the failures have in common: their class, and where they fall; and how much of it is mix. Where the control counts by the
/// candidate's zones it does so here.
pub(crate) fn errors(
    candidate: &Cells<'_>,
    control: &Cells<'_>,
    design: Design,
    by_zone: Option<&ByZone>,
) -> Explanation {
    let mut strata = Strata::default();
    for (arm, cells) in [candidate, control].into_iter().enumerate() {
        for (bucket, age, cell) in cells {
            let stretch = if design == Design::Concurrent { bucket.0 / STRETCH } else { 0 };
            let [errors, requests] = by_zone.filter(|_| arm == 1).map_or([1.0; 2], |by_zone| by_zone.weights(cell));
            let counted = (errors * cell.errors as f64, requests * cell.requests as f64);
            strata.add(arm, ("", 0), (stretch, *age), counted);
        }
    }
    let place = drill::of_errors(candidate, control, by_zone);
    Explanation { cause: cause(candidate, control, by_zone), place, split: strata.split(), ..Explanation::default() }
}

/// Says where the slow requests fall.
pub(crate) fn latency(candidate: &Cells<'_>, control: &Cells<'_>) -> Explanation {
    Explanation { place: drill::of_latency(candidate, control), ..Explanation::default() }
}

/// Name of an operation, and a number for its kind.
type OperationOf<'a> = (&'a str, u64);
/// A stretch of time, and the age of the instances.
type Part = (u64, AgeClass);
/// Failed and all requests of the candidate and of the control.
type Both = [(f64, f64); 2];

/// Failed and all requests of both arms by operation and part of it.
#[derive(Debug, Default)]
pub(crate) struct Strata<'a>(Vec<(OperationOf<'a>, Parts)>);

/// Parts of one operation, ascending.
type Parts = Vec<(Part, Both)>;

/// Finds what belongs to a key among what ascends by it. Keys come ascending as a rule: the last is looked at first.
fn entry<K: Ord + Copy, V: Default>(all: &mut Vec<(K, V)>, key: K) -> &mut V {
    let place = match all.last() {
        Some((last, _)) if *last == key => Ok(all.len() - 1),
        Some((last, _)) if *last > key => all.binary_search_by_key(&key, |(key, _)| *key),
        _ => Err(all.len()),
    };
    let place = place.unwrap_or_else(|place| {
        all.insert(place, (key, V::default()));
        place
    });
    &mut all[place].1
}

impl<'a> Strata<'a> {
    /// Adds failed and all requests of the candidate (0) or the control (1).
    pub(crate) fn add(&mut self, arm: usize, operation: OperationOf<'a>, part: Part, (errors, requests): (f64, f64)) {
        if requests > 0.0 {
            let sums = &mut entry(entry(&mut self.0, operation), part)[arm];
            *sums = (sums.0 + errors, sums.1 + requests);
        }
    }

    /// Splits the difference of the pooled shares of failed requests; `None` where an arm is empty.
    ///
    /// What only one arm has of an operation is compared with what is nearest to it that both have, as tests do: instances
    /// of another age, or the minutes before and after. An operation that only one arm has is all mix: nothing says how the
    /// other would have fared in it.
    pub(crate) fn split(&self) -> Option<Split> {
        let all = || self.0.iter().flat_map(|(_, parts)| parts);
        let total = |arm: usize| all().map(|(_, arms)| arms[arm].1).sum::<f64>();
        let totals = [total(0), total(1)];
        if totals.iter().any(|n| *n <= 0.0) {
            return None;
        }
        let mut split = Split::default();
        let mut add = |arms: &Both| {
            let weight = |arm: usize| arms[arm].1 / totals[arm];
            let rate = |arm: usize, other: usize| {
                let (bad, n) = if arms[arm].1 > 0.0 { arms[arm] } else { arms[other] };
                bad / n.max(1.0)
            };
            let (b, a) = (rate(0, 1), rate(1, 0));
            split.within += 0.5 * (weight(0) + weight(1)) * (b - a);
            split.mix += 0.5 * (b + a) * (weight(0) - weight(1));
        };
        for (_, parts) in &self.0 {
            if parts.iter().all(|(_, arms)| has_both(arms)) {
                parts.iter().for_each(|(_, arms)| add(arms));
            } else {
                paired(parts).iter().for_each(&mut add);
            }
        }
        Some(split)
    }
}

fn has_both(arms: &Both) -> bool {
    arms.iter().all(|(_, n)| *n > 0.0)
}

/// Joins the parts of an operation that one arm only has to the nearest that both have.
fn paired(parts: &Parts) -> Vec<Both> {
    let join = |sums: &mut Both, more: &Both| {
        for (sum, arm) in sums.iter_mut().zip(more) {
            *sum = (sum.0 + arm.0, sum.1 + arm.1);
        }
    };
    let (both, one): (Parts, Parts) = parts.iter().copied().partition(|(_, arms)| has_both(arms));
    let mut kept: Vec<(Part, Both)> = both;
    let far = |(stretch, age): Part, (other, its): Part| (age != its, stretch.abs_diff(other));
    let places: Vec<Part> = kept.iter().map(|(part, _)| *part).collect();
    let mut rest = Both::default();
    for (part, arms) in one {
        let nearest = (0..places.len()).min_by_key(|at| far(part, places[*at]));
        join(nearest.map_or(&mut rest, |at| &mut kept[at].1), &arms);
    }
    kept.into_iter().map(|(_, arms)| arms).chain([rest]).filter(|arms| arms.iter().any(|(_, n)| *n > 0.0)).collect()
}

/// Times the failures by which an exception may come in addition and still be what they have in common.
const THROWN_MAX: f64 = 1.25;

/// Names the class or the exception that most of the excess has, with its share.
fn cause(candidate: &Cells<'_>, control: &Cells<'_>, by_zone: Option<&ByZone>) -> Option<Common> {
    let sums = |cells: &Cells<'_>, by_zone: Option<&ByZone>| {
        let mut causes = BTreeMap::<(bool, String), f64>::new();
        let (mut errors, mut requests) = (0.0, 0.0);
        for (_, _, cell) in cells {
            let [failed, all] = by_zone.map_or([1.0; 2], |by_zone| by_zone.weights(cell));
            errors += failed * cell.errors as f64;
            requests += all * cell.requests as f64;
            for seen in cell.exceptions.values() {
                let name = exception_name(&seen.exception_type, &seen.message);
                *causes.entry((true, name)).or_default() += failed * seen.count as f64;
            }
            for (class, count) in &cell.errors_by_class {
                *causes.entry((false, format!("`{class}`"))).or_default() += failed * *count as f64;
            }
        }
        (causes, errors, requests)
    };
    let (candidate, control) = (sums(candidate, None), sums(control, by_zone));
    let scale = candidate.2 / control.2.max(1.0);
    let excess = candidate.1 - control.1 * scale;
    let most = candidate
        .0
        .iter()
        .map(|(cause, count)| (count - control.0.get(cause).copied().unwrap_or(0.0) * scale, cause))
        // What is thrown more often than requests fail is thrown by those that go well.
        .filter(|(count, (thrown, _))| !thrown || *count <= THROWN_MAX * excess)
        .max_by(|a, b| {
            let worth = |(count, (thrown, _)): &(f64, &(bool, String))| if *thrown { *count } else { TELLING * count };
            worth(a).total_cmp(&worth(b)).then_with(|| a.1.cmp(b.1))
        });
    most.filter(|(count, _)| excess > 0.0 && *count >= CAUSE_MIN * excess).map(|(count, (_, name))| Common {
        name: name.clone(),
        share: (count / excess).min(1.0),
        ..Common::default()
    })
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
        let warm = (0, AgeClass::Warm);
        for (arm, [fast, slow]) in
            [[(1.0, 100.0), (90.0, 900.0)], [(9.0, 900.0), (10.0, 100.0)]].into_iter().enumerate()
        {
            strata.add(arm, ("a", 0), warm, fast);
            strata.add(arm, ("b", 0), warm, slow);
        }
        let split = strata.split().expect("both arms have requests");
        assert!(split.within.abs() < 1e-12, "{split:?}");
        assert!((split.mix - (91.0 - 19.0) / 1_000.0).abs() < 1e-12, "{split:?}");
        strata.add(0, ("c", 0), (0, AgeClass::Cold), (50.0, 100.0));
        let split = strata.split().expect("both arms have requests");
        assert!((split.within + split.mix - (141.0 / 1_100.0 - 19.0 / 1_000.0)).abs() < 1e-12, "{split:?}");
    }

    #[test]
    fn what_one_arm_only_has_of_an_operation_is_no_change_of_mix() {
        // Young at first, then warm; the control was warm throughout, and went when the rollout was done.
        let mut strata = Strata::default();
        for stretch in 0..10_u64 {
            let age = [AgeClass::Cold, AgeClass::Warming, AgeClass::Warm][stretch.min(2) as usize];
            strata.add(0, ("a", 0), (stretch, age), (10.0, 100.0));
            if stretch < 4 {
                strata.add(1, ("a", 0), (stretch, AgeClass::Warm), (1.0, 100.0));
            }
        }
        let split = strata.split().expect("both arms have requests");
        assert!((split.within - 0.09).abs() < 1e-12 && split.mix.abs() < 1e-12, "{split:?}");
        // Before and after, where no instance was young before.
        let mut strata = Strata::default();
        strata.add(1, ("a", 0), (0, AgeClass::Warm), (10.0, 1_000.0));
        for age in [AgeClass::Cold, AgeClass::Warming, AgeClass::Warm] {
            strata.add(0, ("a", 0), (0, age), (10.0, 100.0));
        }
        let split = strata.split().expect("both arms have requests");
        assert!((split.within - 0.09).abs() < 1e-12 && split.mix.abs() < 1e-12, "{split:?}");
    }
}
