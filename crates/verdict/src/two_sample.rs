//! The sequential test for what is not rare: exact e-variables for two Bernoulli samples.
//!
//! With `A` of `n_a` (control) and `B` of `n_b` (candidate), null hypothesis `theta_b <= r theta_a` and the alternative
//! `(a, b)` chosen beforehand,
//!
//! ```text
//! S = (a/a0)^A ((1-a)/(1-a0))^(n_a-A) (b/b0)^B ((1-b)/(1-b0))^(n_b-B)      (a0, b0): the null's point nearest to (a, b)
//! ```
//!
//! has mean at most one under the null. Nearest is meant in relative entropy; on the line `b0 = r a0` it is the smaller root
//! of `r (n_a + n_b) x^2 - [n_a (1 + a r) + n_b (r + b)] x + n_a a + n_b b`. The control's share `a` is what was seen of it
//! before the stratum, so it is predictable. Conditioning on the sum, as [`crate::e_process`] does, throws away half of the
//! information near the median; this does not.
//!
//! *Cost.* A square root and four logarithms for each of [`SHIFTS`]; processes that differ in the candidate's hits alone share them
//! ([`Aims`]).
//!
//! *Source.* Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional
//! stopping" (2024); Turner and Grünwald, "Exact anytime-valid confidence intervals for contingency tables and beyond"
//! (2023).

use std::sync::LazyLock;

use crate::e_process::log_mean;

/// Alternatives, as shifts of the log odds.
pub const SHIFTS: [f64; 6] = [0.12, 0.25, 0.5, 0.9, 1.5, 2.5];

/// The same as factors of the odds.
static FACTORS: LazyLock<[f64; SHIFTS.len()]> = LazyLock::new(|| SHIFTS.map(f64::exp));

/// One process, in logarithms for each alternative.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TwoSample {
    logs: [f64; SHIFTS.len()],
}

/// Counts of both arms in one stratum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Hits and observations of the candidate.
    pub candidate: (f64, f64),
    /// Hits and observations of the control.
    pub control: (f64, f64),
}

/// What one stratum adds for each alternative, whatever the candidate's hits are.
#[derive(Debug, Clone, Copy)]
pub struct Aims {
    n_b: f64,
    each: [Option<Aim>; SHIFTS.len()],
}

/// In logarithms: what the control's observations add, and a hit and a miss of the candidate's.
#[derive(Debug, Clone, Copy)]
struct Aim {
    control: f64,
    hit: f64,
    miss: f64,
}

impl Aims {
    /// Takes hits and observations of the control, and observations of the candidate; `expected` is the control's share as known
    /// before the stratum, `ratio` is excused.
    pub fn of((hits_a, n_a): (f64, f64), n_b: f64, expected: f64, ratio: f64) -> Self {
        let mut aims = Self { n_b, each: [None; SHIFTS.len()] };
        if n_a <= 0.0 || n_b <= 0.0 {
            return aims;
        }
        let a = expected.clamp(1e-4, 1.0 - 1e-4);
        // The null's own line, and from there the shift of the odds.
        let edge = (a * ratio).min(1.0 - 1e-4);
        for (aim, factor) in aims.each.iter_mut().zip(*FACTORS) {
            let odds = edge / (1.0 - edge) * factor;
            let b = odds / (1.0 + odds);
            if b <= edge {
                continue;
            }
            let (a0, b0) = nearest(a, b, n_a, n_b, ratio);
            if !(a0 > 0.0 && b0 < 1.0) {
                continue;
            }
            *aim = Some(Aim {
                control: hits_a * (a / a0).ln() + (n_a - hits_a) * ((1.0 - a) / (1.0 - a0)).ln(),
                hit: (b / b0).ln(),
                miss: ((1.0 - b) / (1.0 - b0)).ln(),
            });
        }
        aims
    }
}

impl TwoSample {
    /// Takes one stratum; `expected` is the control's share as known before it, `eta` tempers, `ratio` is excused.
    pub fn push(&mut self, counts: Shares, expected: f64, ratio: f64, eta: f64) {
        let (hits, n_b) = counts.candidate;
        self.aim(&Aims::of(counts.control, n_b, expected, ratio), hits, eta);
    }

    /// Takes the candidate's hits of a stratum of which it is known what each adds; `eta` tempers.
    pub fn aim(&mut self, aims: &Aims, hits: f64, eta: f64) {
        for (log, aim) in self.logs.iter_mut().zip(&aims.each) {
            if let Some(aim) = aim {
                *log += eta * (aim.control + hits * aim.hit + (aims.n_b - hits) * aim.miss);
            }
        }
    }

    /// Returns the logarithm of the value: the mean over the alternatives.
    pub fn value(&self) -> f64 {
        log_mean(&self.logs)
    }
}

/// Returns the point of the null's edge nearest to `(a, b)`.
fn nearest(a: f64, b: f64, n_a: f64, n_b: f64, r: f64) -> (f64, f64) {
    let (p, q, s) = (r * (n_a + n_b), n_a * (1.0 + a * r) + n_b * (r + b), n_a * a + n_b * b);
    // The stable form of the smaller root.
    let root = 2.0 * s / (q + (q * q - 4.0 * p * s).max(0.0).sqrt());
    (root, r * root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binomial(n: u32, p: f64) -> Vec<f64> {
        let mut probability = (1.0 - p).powi(n as i32);
        (0..=n)
            .map(|k| {
                let here = probability;
                probability *= p / (1.0 - p) * f64::from(n - k) / f64::from(k + 1);
                here
            })
            .collect()
    }

    proptest! {
        #[test]
        fn its_mean_is_at_most_one_wherever_the_null_holds(
            n_a in 1_u32..25, n_b in 1_u32..25, theta in 0.02..0.7_f64, below in 0.3..=1.0_f64,
            ratio in 1.0..1.3_f64, expected in 0.02..0.7_f64, eta in 0.2..=1.0_f64,
        ) {
            let mut mean = 0.0;
            let (pa, pb) = (binomial(n_a, theta), binomial(n_b, (theta * ratio * below).min(0.95)));
            for (x, p) in pa.iter().enumerate() {
                for (y, q) in pb.iter().enumerate() {
                    let mut process = TwoSample::default();
                    let counts = Shares { candidate: (y as f64, f64::from(n_b)), control: (x as f64, f64::from(n_a)) };
                    process.push(counts, expected, ratio, eta);
                    mean += p * q * process.value().exp();
                }
            }
            prop_assert!(mean <= 1.0 + 1e-9, "{}", mean);
        }
    }

    #[test]
    fn near_the_median_it_knows_twice_as_much_as_the_conditional_test() {
        use crate::e_process::{Stratum, run};
        use plimsoll_model::Bucket;
        let mut exact = TwoSample::default();
        let mut strata = Vec::new();
        for bucket in 0..30 {
            exact.push(Shares { candidate: (31.0, 50.0), control: (475.0, 950.0) }, 0.5, 1.0, 1.0);
            strata.push(Stratum {
                bucket: Bucket(bucket),
                bad_b: 31.0,
                n_b: 50.0,
                bad_a: 475.0,
                n_a: 950.0,
                handicap: 1.0,
                caution: 1.0,
            });
        }
        let conditional = run(&strata, 1.0, 1.0).last();
        assert!(exact.value() > 1.8 * conditional && conditional > 5.0, "{} against {conditional}", exact.value());
    }
}
