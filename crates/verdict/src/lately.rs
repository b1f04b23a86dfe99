//! What the candidate did of late, where a test keeps nothing but its evidence: hundreds of times as much as it takes is worn down in
//! no time that anybody waits.

use plimsoll_model::Bucket;

use crate::errors::{self, ErrorTest};
use crate::gate::Told;
use crate::tolerances::Tolerances;

/// Hits and all of the candidate by bucket, ascending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lately(Vec<(Bucket, f64, f64)>);

impl Lately {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        24 * self.0.len()
    }

    /// Takes one bucket; one in which there was nothing is left out.
    pub(crate) fn push(&mut self, bucket: Bucket, hits: f64, all: f64) {
        if hits > 0.0 || all > 0.0 {
            self.0.push((bucket, hits, all));
        }
    }

    /// Holds those in `from..=to` against half of what is tolerated beyond the control's, as `test` knows it.
    pub(crate) fn told(&self, test: &ErrorTest, [from, to]: [Bucket; 2], tolerances: &Tolerances) -> Told {
        let inside = self.0.iter().rev().skip_while(|told| told.0 > to).take_while(|told| told.0 >= from);
        let (hits, all) = inside.fold((0.0, 0.0), |sum, (_, hits, all)| (sum.0 + hits, sum.1 + all));
        let found = test.standing.triggered_at.unwrap_or(to);
        let usual = test.usual(found, [from, to], tolerances);
        Told { hits, all, share: usual + 0.5 * errors::tolerated(usual, tolerances) }
    }
}

/// Holds so many of the candidate against so many a request of the control: as `more`, or as fewer, than half of the tolerated
/// ratio allows.
pub(crate) fn told_by_ratio(more: bool, candidate: (f64, f64), usual: f64, ratio: f64, points: f64) -> Told {
    let (hits, all) = candidate;
    let half = 0.5 * (1.0 + ratio);
    let allowed = |rate: f64| (half * rate).max(rate + points);
    if more {
        return Told { hits, all, share: allowed(usual) };
    }
    // What should have come is what exceeds, and what did come is held against it.
    let rate = if all > 0.0 { hits / all } else { 0.0 };
    Told { hits: usual * all, all, share: allowed(rate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_tolerated_ratio_is_held_against_more_and_against_fewer() {
        let exceeds = |more: bool, hits: f64| told_by_ratio(more, (hits, 100.0), 1.0, 1.5, 0.1).exceeds();
        assert!(exceeds(true, 130.0) && !exceeds(true, 120.0));
        assert!(exceeds(false, 75.0) && !exceeds(false, 85.0));
    }
}
