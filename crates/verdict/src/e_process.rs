//! The one sequential test for everything countable: is the candidate's rate more than `r` times the control's?
//!
//! Per stratum, `B` bad of `n_b` (candidate) and `A` bad of `n_a` (control). Where the rate ratio is at most `r`, `B` given
//! `A + B` is at most Binomial with share `p0 = r n_b / (n_a + r n_b)`. The process is
//!
//! ```text
//! E_t = sum_j w_j prod_s [ (p_j/p0)^B ((1-p_j)/(1-p0))^A ]^eta     p_j: the share at ratio r * RATIOS[j]
//! ```
//!
//! Each factor has mean at most one for every true ratio up to `r`, and by Jensen for every `0 < eta <= 1`; so `E` is a
//! supermartingale from one and, by Ville, `P(sup E >= 1/alpha) <= alpha`: one may look as often as one likes.
//!
//! *Cost.* Strata without any bad request cost nothing; others a logarithm for each of [`RATIOS`], unless one of as many
//! observations had it of late (`Shrinkage`), and the value as many exponentials.
//!
//! *Source.* Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022); Lindon, Sanden and
//! Shirikian, "Rapid regression detection in software deployments through sequential testing" (KDD 2022); Ville (1939).

use plimsoll_model::Bucket;

use crate::memo::Memo;

/// Alternatives, as multiples of the tested ratio.
pub const RATIOS: [f64; 10] = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0];

/// What each alternative weighs: most lies where regressions do, so that a doubling is found sooner. They sum to one.
pub const WEIGHTS: [f64; 10] = [0.03, 0.10, 0.15, 0.20, 0.17, 0.13, 0.08, 0.06, 0.04, 0.04];

/// Logarithms of the ratios.
const LN_RATIOS: [f64; 10] = [
    0.09531017980432493,
    0.22314355131420976,
    0.4054651081081644,
    std::f64::consts::LN_2,
    1.0986122886681098,
    1.6094379124341003,
    2.0794415416798357,
    2.5649493574615367,
    2.995732273553991,
    3.4011973816621555,
];

/// Bad and all observations of both arms in one stratum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stratum {
    /// When the candidate's observations were made.
    pub bucket: Bucket,
    /// Bad ones of the candidate.
    pub bad_b: f64,
    /// All of the candidate.
    pub n_b: f64,
    /// Bad ones of the control.
    pub bad_a: f64,
    /// All of the control.
    pub n_a: f64,
    /// Ratio that is excused here beside the one tested, at least one.
    pub handicap: f64,
    /// Factor by which evidence from here is tempered beside the dispersion, at least one.
    pub caution: f64,
}

impl Stratum {
    /// Returns the same with the arms exchanged, to test the opposite direction; what was excused is excused no more.
    pub fn swapped(&self) -> Self {
        Self { bad_b: self.bad_a, n_b: self.n_a, bad_a: self.bad_b, n_a: self.n_b, handicap: 1.0, ..*self }
    }
}

/// The process after each bucket that changed it, in logarithms.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Path {
    /// Ascending by bucket.
    pub steps: Vec<(Bucket, f64)>,
}

impl Path {
    /// Returns the logarithm of the present value.
    pub fn last(&self) -> f64 {
        self.steps.last().map_or(0.0, |(_, log_e)| *log_e)
    }

    /// Returns the logarithm of the largest value so far; at least zero, where every process starts.
    pub fn sup(&self) -> f64 {
        self.steps.iter().map(|(_, log_e)| *log_e).fold(0.0, f64::max)
    }
}

/// One process that takes stratum after stratum, in logarithms for each of [`RATIOS`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Exceedance {
    logs: [f64; RATIOS.len()],
}

impl Exceedance {
    /// Takes one stratum under "ratio at most `null_ratio`"; `dispersion` is at least one. Says whether anything changed.
    ///
    /// Ratio and dispersion may differ from stratum to stratum as long as they were known before it.
    pub fn push(&mut self, s: &Stratum, null_ratio: f64, dispersion: f64) -> bool {
        self.push_with(s, null_ratio, dispersion, &mut Shrinkage::none())
    }

    /// Does the same with what others of as many observations worked out.
    pub(crate) fn push_with(
        &mut self,
        s: &Stratum,
        null_ratio: f64,
        dispersion: f64,
        shrinkage: &mut Shrinkage,
    ) -> bool {
        if s.bad_a + s.bad_b <= 0.0 || s.n_a <= 0.0 || s.n_b <= 0.0 {
            return false;
        }
        let eta = 1.0 / (dispersion.max(1.0) * s.caution.max(1.0));
        let r0 = null_ratio * s.handicap.max(1.0);
        let ln_d = shrinkage.get([s.n_a, s.n_b, r0], || {
            let base = s.n_a + r0 * s.n_b;
            RATIOS.map(|k| (base / (s.n_a + k * r0 * s.n_b)).ln())
        });
        for ((log, ln_d), ln_k) in self.logs.iter_mut().zip(ln_d).zip(LN_RATIOS) {
            *log += eta * (s.bad_b * ln_k + (s.bad_a + s.bad_b) * ln_d);
        }
        true
    }

    /// Returns the logarithm of the value: the weighted mean over the alternatives.
    pub fn value(&self) -> f64 {
        let top = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !top.is_finite() {
            return top;
        }
        top + self.logs.iter().zip(WEIGHTS).map(|(log, weight)| weight * exp(log - top)).sum::<f64>().ln()
    }
}

/// What an observation counts less for under each alternative, in logarithms: in terms of ratio `k`,
/// `ln((1-p_j)/(1-p0)) = ln d` and `ln(p_j/p0) = ln k + ln d` with `d = (n_a + r0 n_b)/(n_a + k r0 n_b)`; by `n_a`, `n_b` and `r0`.
pub(crate) type Shrinkage = Memo<[f64; RATIOS.len()], 3>;

/// `e` to the power of a difference to the largest of some logarithms, which is often none, or more than a number can tell.
pub(crate) fn exp(x: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else if x < LEAST_EXPONENT {
        0.0
    } else {
        x.exp()
    }
}

/// Below it `e` to its power is nearer to zero than to any other number.
const LEAST_EXPONENT: f64 = -746.0;

/// Runs the test of "ratio at most `null_ratio`" over strata that ascend by bucket; `dispersion` is at least one.
pub fn run(strata: &[Stratum], null_ratio: f64, dispersion: f64) -> Path {
    let mut process = Exceedance::default();
    let mut steps: Vec<(Bucket, f64)> = Vec::new();
    for s in strata {
        if !process.push(s, null_ratio, dispersion) {
            continue;
        }
        let value = process.value();
        match steps.last_mut() {
            Some((bucket, last)) if *bucket == s.bucket => *last = value,
            _ => steps.push((s.bucket, value)),
        }
    }
    Path { steps }
}

/// Returns the logarithm of the mean of what `logs` are the logarithms of.
pub fn log_mean(logs: &[f64]) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + (logs.iter().map(|log| exp(log - top)).sum::<f64>() / logs.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stratum(bucket: u64, bad_b: f64, n_b: f64, bad_a: f64, n_a: f64) -> Stratum {
        Stratum { bucket: Bucket(bucket), bad_b, n_b, bad_a, n_a, handicap: 1.0, caution: 1.0 }
    }

    #[test]
    fn weights_sum_to_one() {
        assert!((WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn a_factor_has_mean_one_at_the_tested_ratio(total in 1_u32..30, n_b in 1.0..1e4_f64, n_a in 1.0..1e4_f64, r in 0.2..5.0_f64) {
            let p0 = r * n_b / (n_a + r * n_b);
            let mut mean = 0.0;
            let mut probability = (1.0 - p0).powi(total as i32);
            for b in 0..=total {
                let path = run(&[stratum(1, f64::from(b), n_b, f64::from(total - b), n_a)], r, 1.0);
                mean += probability * path.last().exp();
                probability *= p0 / (1.0 - p0) * f64::from(total - b) / f64::from(b + 1);
            }
            prop_assert!((mean - 1.0).abs() < 1e-9, "{}", mean);
        }

        #[test]
        fn a_factor_has_mean_at_most_one_when_tempered_or_below_the_ratio(total in 1_u32..30, n_b in 1.0..1e4_f64, n_a in 1.0..1e4_f64, below in 0.05..1.0_f64, phi in 1.0..6.0_f64) {
            let p = below * n_b / (n_a + below * n_b);
            let mut mean = 0.0;
            let mut probability = (1.0 - p).powi(total as i32);
            for b in 0..=total {
                let path = run(&[stratum(1, f64::from(b), n_b, f64::from(total - b), n_a)], 1.0, phi);
                mean += probability * path.last().exp();
                probability *= p / (1.0 - p) * f64::from(total - b) / f64::from(b + 1);
            }
            prop_assert!(mean <= 1.0 + 1e-9, "{}", mean);
        }
    }

    #[test]
    fn strata_multiply_and_are_never_pooled() {
        // Pooled, the candidate looks ten times worse; within each stratum it is the same.
        let mix = [stratum(1, 50.0, 500.0, 5.0, 50.0), stratum(2, 0.0, 50.0, 1.0, 5_000.0)];
        assert!(run(&mix, 1.0, 1.0).sup() < 1.0);
        let pooled = [stratum(1, 50.0, 550.0, 6.0, 5_050.0)];
        assert!(run(&pooled, 1.0, 1.0).sup() > 20.0);
    }
}
