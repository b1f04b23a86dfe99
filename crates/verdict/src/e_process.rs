//! The one sequential test for everything countable: is the candidate's rate more than `r` times the control's?
//!
//! Per stratum, `B` bad of `n_b` (candidate) and `A` bad of `n_a` (control). Where the rate ratio is at most `r`, `B` given
//! `A + B` is at most Binomial with share `p0 = r n_b / (n_a + r n_b)`. The process is
//!
//! ```text
//! E_t = mean_j  prod_s [ (p_j/p0)^B ((1-p_j)/(1-p0))^A ]^eta     p_j: the share at ratio r * RATIOS[j]
//! ```
//!
//! Each factor has mean at most one for every true ratio up to `r`, and by Jensen for every `0 < eta <= 1`; so `E` is a
//! supermartingale from one and, by Ville, `P(sup E >= 1/alpha) <= alpha`: one may look as often as one likes.
//!
//! *Cost.* Strata without any bad request cost nothing; others two logarithms for each of [`RATIOS`].
//!
//! *Source.* Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022); Lindon, Sanden and
//! Shirikian, "Rapid regression detection in software deployments through sequential testing" (KDD 2022); Ville (1939).

use plimsoll_model::Bucket;

/// Alternatives, as multiples of the tested ratio.
pub const RATIOS: [f64; 10] = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0];

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

    /// Returns the logarithm of the value after `bucket`.
    pub fn at(&self, bucket: Bucket) -> f64 {
        let after = self.steps.partition_point(|(at, _)| *at <= bucket);
        after.checked_sub(1).map_or(0.0, |last| self.steps[last].1)
    }

    /// Returns the first bucket after which the process was at least `log_level`.
    pub fn first_above(&self, log_level: f64) -> Option<Bucket> {
        self.steps.iter().find(|(_, log_e)| *log_e >= log_level).map(|(bucket, _)| *bucket)
    }
}

/// Runs the test of "ratio at most `null_ratio`" over strata that ascend by bucket; `dispersion` is at least one.
pub fn run(strata: &[Stratum], null_ratio: f64, dispersion: f64) -> Path {
    let mut logs = [0.0_f64; RATIOS.len()];
    let mut steps: Vec<(Bucket, f64)> = Vec::new();
    for s in strata {
        if s.bad_a + s.bad_b <= 0.0 || s.n_a <= 0.0 || s.n_b <= 0.0 {
            continue;
        }
        let eta = 1.0 / (dispersion.max(1.0) * s.caution.max(1.0));
        let r0 = null_ratio * s.handicap.max(1.0);
        // In terms of ratio k: ln(p_j/p0) = ln k + ln d, ln((1-p_j)/(1-p0)) = ln d, d = (n_a + r0 n_b)/(n_a + k r0 n_b).
        let base = s.n_a + r0 * s.n_b;
        for (log, k) in logs.iter_mut().zip(RATIOS) {
            let d = (base / (s.n_a + k * r0 * s.n_b)).ln();
            *log += eta * (s.bad_b * k.ln() + (s.bad_a + s.bad_b) * d);
        }
        let value = log_mean(&logs);
        match steps.last_mut() {
            Some((bucket, last)) if *bucket == s.bucket => *last = value,
            _ => steps.push((s.bucket, value)),
        }
    }
    Path { steps }
}

/// Averages several processes with weights that sum to at most one, on one clock.
///
/// The weighted mean of e-processes is an e-process whatever their dependence.
pub fn weighted_mean(paths: &[(f64, &Path)]) -> Path {
    let mut events: Vec<(Bucket, usize, f64)> = paths
        .iter()
        .enumerate()
        .flat_map(|(i, (_, path))| path.steps.iter().map(move |(bucket, log_e)| (*bucket, i, *log_e)))
        .collect();
    events.sort_by_key(|(bucket, i, _)| (*bucket, *i));
    let mut values: Vec<f64> = paths.iter().map(|(weight, _)| weight.max(0.0)).collect();
    let mut steps: Vec<(Bucket, f64)> = Vec::new();
    for at_once in events.chunk_by(|one, other| one.0 == other.0) {
        for (_, i, log_e) in at_once {
            // Far beyond any level that matters, and safe to add up.
            values[*i] = paths[*i].0.max(0.0) * log_e.min(600.0).exp();
        }
        steps.push((at_once[0].0, values.iter().sum::<f64>().max(f64::MIN_POSITIVE).ln()));
    }
    Path { steps }
}

/// Returns the logarithm of the mean of what `logs` are the logarithms of.
pub fn log_mean(logs: &[f64]) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + (logs.iter().map(|log| (log - top).exp()).sum::<f64>() / logs.len() as f64).ln()
}

/// Averages processes with equal weights, step by step, all over the same strata.
pub fn mean_of(paths: &[Path]) -> Path {
    let weight = 1.0 / paths.len().max(1) as f64;
    let weighted: Vec<(f64, &Path)> = paths.iter().map(|path| (weight, path)).collect();
    weighted_mean(&weighted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stratum(bucket: u64, bad_b: f64, n_b: f64, bad_a: f64, n_a: f64) -> Stratum {
        Stratum { bucket: Bucket(bucket), bad_b, n_b, bad_a, n_a, handicap: 1.0, caution: 1.0 }
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

    #[test]
    fn the_mean_of_processes_keeps_to_one_clock() {
        let rising = Path { steps: vec![(Bucket(1), 0.0), (Bucket(3), 6.0)] };
        let falling = Path { steps: vec![(Bucket(2), -50.0)] };
        let gate = weighted_mean(&[(0.5, &rising), (0.5, &falling)]);
        assert_eq!(gate.steps.len(), 3);
        assert!((gate.steps[1].1 - 0.5_f64.ln()).abs() < 1e-9);
        assert!((gate.steps[2].1 - (0.5 * 6.0_f64.exp()).ln()).abs() < 1e-9);
    }
}
