//! Which values of allow-listed attributes the requests had.
//!
//! Each attribute of a cell keeps a few values, the heaviest as far as a stream can tell (SpaceSaving: Metwally et al., ICDT
//! 2005): a newcomer takes the place of the lightest and inherits its weight, and what the lightest had counted goes to
//! `{other}`. Counts are therefore exact or too low, and add up. A failure weighs as much as [`FAILURE_WEIGHT`] successes:
//! what failures share is what is looked for.

use plimsoll_model::drill::Outcome;

/// Values of one attribute kept in one cell.
const VALUES_MAX: usize = 12;
/// How much more a failure counts when it is decided which values stay.
const FAILURE_WEIGHT: u32 = 16;

/// Outcomes by numbers of attribute and value, ascending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drill(pub(crate) Vec<Entry>);

/// One value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) attribute: u32,
    pub(crate) value: u32,
    /// What decides who stays: never less than what was counted.
    weight: u32,
    pub(crate) outcome: Outcome,
}

impl Entry {
    /// Makes an entry as it was.
    pub(crate) fn new(attribute: u32, value: u32, weight: u32, outcome: Outcome) -> Self {
        Self { attribute, value, weight, outcome }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    /// The weight of what inherited none.
    pub(crate) fn usual_weight(outcome: &Outcome) -> u64 {
        outcome.requests.wrapping_add(outcome.errors.wrapping_mul(u64::from(FAILURE_WEIGHT)))
    }

    fn key(&self) -> (u32, u32) {
        (self.attribute, self.value)
    }
}

impl Drill {
    /// Counts one request; says whether a value had to go to `other`.
    pub(crate) fn record(&mut self, attribute: u32, value: u32, outcome: &Outcome, other: u32) -> bool {
        let weight = 1 + outcome.errors as u32 * FAILURE_WEIGHT;
        match self.0.binary_search_by_key(&(attribute, value), Entry::key) {
            Ok(at) => {
                self.0[at].weight = self.0[at].weight.saturating_add(weight);
                self.0[at].outcome.merge(outcome);
                return false;
            }
            Err(at) if value == other => {
                self.0.insert(at, Entry { attribute, value, weight, outcome: *outcome });
                return false;
            }
            Err(_) => {}
        }
        let from = self.0.partition_point(|entry| entry.attribute < attribute);
        let to = self.0.partition_point(|entry| entry.attribute <= attribute);
        let mut inherited = 0;
        if to - from >= VALUES_MAX {
            let kept = (from..to).filter(|at| self.0[*at].value != other);
            if let Some(lightest) = kept.min_by_key(|at| (self.0[*at].weight, self.0[*at].value)) {
                let gone = self.0.remove(lightest);
                inherited = gone.weight;
                self.add(attribute, other, &gone.outcome);
            }
        }
        let at = self.0.partition_point(|entry| entry.key() < (attribute, value));
        self.0.insert(at, Entry { attribute, value, weight: inherited.saturating_add(weight), outcome: *outcome });
        inherited > 0
    }

    /// Adds what was counted before.
    pub(crate) fn add(&mut self, attribute: u32, value: u32, outcome: &Outcome) {
        let weight = (outcome.requests as u32).saturating_add((outcome.errors as u32).saturating_mul(FAILURE_WEIGHT));
        match self.0.binary_search_by_key(&(attribute, value), Entry::key) {
            Ok(at) => {
                self.0[at].weight = self.0[at].weight.saturating_add(weight);
                self.0[at].outcome.merge(outcome);
            }
            Err(at) => self.0.insert(at, Entry { attribute, value, weight, outcome: *outcome }),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for entry in &other.0 {
            self.add(entry.attribute, entry.value, &entry.outcome);
        }
    }
}

/// The attributes looked for, found by length first.
#[derive(Default)]
pub(crate) struct DrillKeys {
    keys: Vec<(Box<str>, u32)>,
    lengths: u64,
}

impl DrillKeys {
    pub(crate) fn new(keys: impl Iterator<Item = (String, u32)>) -> Self {
        let mut made = Self::default();
        for (key, number) in keys.filter(|(key, _)| !key.is_empty() && key.len() < 64) {
            made.lengths |= 1 << key.len();
            made.keys.push((key.into(), number));
        }
        made
    }

    /// Returns the number of an attribute that is looked for.
    pub(crate) fn find(&self, key: &str) -> Option<u32> {
        if key.len() >= 64 || self.lengths >> key.len() & 1 == 0 {
            return None;
        }
        self.keys.iter().find(|(known, _)| known.as_ref() == key).map(|(_, number)| *number)
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, u32)> {
        self.keys.iter().map(|(key, number)| (key.as_ref(), *number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: u32 = 0;

    fn one(failed: bool) -> Outcome {
        Outcome { requests: 1, errors: u64::from(failed), log_latency_sum: 7 }
    }

    #[test]
    fn heavy_values_stay_whatever_comes_between_and_the_sum_is_right() {
        let mut drill = Drill::default();
        for i in 0..10_000_u32 {
            let value = if i % 4 == 0 { 1 } else { 100 + i };
            drill.record(5, value, &one(false), OTHER);
        }
        let kept = drill.0.iter().find(|entry| entry.value == 1).expect("a quarter of all has it");
        assert!(kept.outcome.requests > 2_400, "{kept:?}");
        assert!(drill.0.len() <= VALUES_MAX + 1);
        assert_eq!(drill.0.iter().map(|entry| entry.outcome.requests).sum::<u64>(), 10_000);
    }

    #[test]
    fn the_value_of_the_failures_stays_though_others_are_more_frequent() {
        let mut drill = Drill::default();
        for i in 0..20_000_u32 {
            let (value, failed) = if i % 50 == 0 { (1, true) } else { (100 + i % 200, false) };
            drill.record(5, value, &one(failed), OTHER);
        }
        let kept = drill.0.iter().find(|entry| entry.value == 1).expect("all failures have it");
        assert!(kept.outcome.errors >= 380, "{kept:?}");
    }
}
