//! How much burstier than chance the counts are: the factor by which evidence is tempered.
//!
//! Neighbouring stretches of time are compared with each other, so that a lasting effect, a slow drift and the time of day
//! leave no trace in the measure, while bursts do. Given the totals of a pair of stretches the first one's count is
//! hypergeometric; the sum of squared deviations over the sum of variances is one where nothing but chance is at work.
//! Stretches of one, three and six buckets are tried, because bursts may outlast a bucket, and the largest is taken; the
//! longer ones, measured on fewer pairs, only as far as they exceed their own uncertainty.
//!
//! *Invariants.* At least one, always. This is a calibration and no theorem: the proof harness keeps it honest.

use crate::e_process::Stratum;

/// What one source of counts says about dispersion.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measure {
    /// The estimate, at least one.
    pub phi: f64,
    /// Pairs it is worth.
    pub pairs: f64,
}

const STRETCHES: [usize; 3] = [1, 3, 6];

/// Sums of squared deviations, their expectation, and the variance of the sum, over pairs.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    squares: f64,
    expected: f64,
    spread: f64,
}

impl Sums {
    fn add(&mut self, deviation: f64, variance: f64) {
        if variance > 0.0 {
            self.squares += deviation * deviation;
            self.expected += variance;
            self.spread += 2.0 * variance * variance + variance;
        }
    }

    fn measure(&self, discount: f64) -> Measure {
        if self.expected <= 0.0 {
            return Measure { phi: 1.0, pairs: 0.0 };
        }
        let error = self.spread.sqrt() / self.expected;
        Measure {
            phi: (self.squares / self.expected - discount * error).max(1.0),
            pairs: 2.0 * self.expected * self.expected / self.spread,
        }
    }
}

/// Measures the dispersion of the conditional share, candidate's bad over all bad, from the deploy's own strata.
pub fn of_share(strata: &[Stratum]) -> Measure {
    over_stretches(|length| {
        let mut sums = Sums::default();
        let stretches: Vec<Stratum> = strata.chunks(length).map(merged).collect();
        for pair in stretches.chunks_exact(2) {
            let [first, second] = [pair[0], pair[1]];
            let odds = |s: &Stratum| s.n_b / s.n_a;
            // Where the traffic was shifted between the two, their shares differ without any burst.
            if first.n_a <= 0.0 || second.n_a <= 0.0 || !(0.67..1.5).contains(&(odds(&first) / odds(&second))) {
                continue;
            }
            let (m1, m2) = (first.bad_a + first.bad_b, second.bad_a + second.bad_b);
            let (total, hits) = (m1 + m2, first.bad_b + second.bad_b);
            if total < 2.0 {
                continue;
            }
            sums.add(
                first.bad_b - hits * m1 / total,
                hits * (total - hits) * m1 * m2 / (total * total * (total - 1.0)),
            );
        }
        sums
    })
}

/// Measures the dispersion of one arm, from `(bad, all)` of successive buckets before the deploy.
pub fn of_arm(buckets: &[(f64, f64)]) -> Measure {
    over_stretches(|length| {
        let mut sums = Sums::default();
        let stretches: Vec<(f64, f64)> =
            buckets.chunks(length).map(|c| c.iter().fold((0.0, 0.0), |sum, b| (sum.0 + b.0, sum.1 + b.1))).collect();
        for pair in stretches.chunks_exact(2) {
            let ((b1, n1), (b2, n2)) = (pair[0], pair[1]);
            let (hits, total) = (b1 + b2, n1 + n2);
            if total < 2.0 {
                continue;
            }
            sums.add(b1 - hits * n1 / total, hits * (total - hits) * n1 * n2 / (total * total * (total - 1.0)));
        }
        sums
    })
}

/// Joins what the time before the deploy says with what the deploy's own buckets say, each by what it is worth.
///
/// The arm before is only a stand-in: its bursts may hit both arms alike, so it counts for at most six pairs.
pub fn joined(before: Measure, during: Measure, max: f64) -> f64 {
    let weight = before.pairs.min(6.0);
    let total = weight + during.pairs;
    if total <= 0.0 {
        return 1.0;
    }
    ((weight * before.phi + during.pairs * during.phi) / total).clamp(1.0, max.max(1.0))
}

fn over_stretches(sums: impl Fn(usize) -> Sums) -> Measure {
    let mut best = Measure { phi: 1.0, pairs: 0.0 };
    for length in STRETCHES {
        let found = sums(length).measure(if length == 1 { 0.0 } else { 1.0 });
        best.pairs = best.pairs.max(found.pairs);
        best.phi = best.phi.max(found.phi);
    }
    best
}

fn merged(strata: &[Stratum]) -> Stratum {
    let mut sum = strata[0];
    for s in &strata[1..] {
        sum.bad_a += s.bad_a;
        sum.bad_b += s.bad_b;
        sum.n_a += s.n_a;
        sum.n_b += s.n_b;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_clumps_of_four_measure_four() {
        // The same counts, once as they are and once with every event four times over.
        let plain: Vec<(f64, f64)> = (0..400).map(|i| (f64::from((i * 7919 + 13) % 5), 1_000.0)).collect();
        let clumped: Vec<(f64, f64)> = plain.iter().map(|(bad, n)| (bad * 4.0, *n)).collect();
        let ratio = of_arm(&clumped).phi / of_arm(&plain).phi;
        assert!((3.0..5.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_lasting_change_is_not_a_burst() {
        let steady: Vec<(f64, f64)> = (0..100).map(|i| (if i < 50 { 10.0 } else { 50.0 }, 1_000.0)).collect();
        // One pair of the longest stretches straddles it; a lasting measure would be near 17.
        assert!(of_arm(&steady).phi < 2.0);
    }

    #[test]
    fn nothing_known_means_no_tempering() {
        assert_eq!(joined(of_arm(&[]), of_share(&[]), 8.0), 1.0);
    }
}
