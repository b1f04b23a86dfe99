//! The sequential test of a shift of a whole distribution: an exact e-variable for two samples over ordered categories.
//!
//! With `A_k` of `n_a` (control) and `B_k` of `n_b` (candidate) observations in category `k`, and the alternative that the
//! candidate's shares are those of the control tilted by `exp(d s_k)` with ascending scores `s_k`,
//!
//! ```text
//! S = prod_k (1/m_k)^A_k (t_k/m_k)^B_k      t_k = exp(d s_k)/Z,  m_k = (n_a + n_b t_k)/(n_a + n_b)
//! ```
//!
//! has mean at most one wherever both samples have one distribution: the `n_a + n_b` factors have means whose average is
//! one, so their product is at most one, whatever `Z` is and whatever the shares are. As `t_k/m_k` ascends, the same holds
//! wherever the candidate is stochastically no larger than the control. `Z` only aims: it is the mean tilt over the control's
//! shares as they were known before.
//!
//! A growth of latency moves every category at once. Tests of single edges see part of that each, and their average pays for
//! those that see little; this one adds up what all of them see. Scores are those of the normal distribution, for which a
//! shift is a tilt; a distribution of another shape costs power and not validity.
//!
//! *Cost.* Seven logarithms for each of [`TILTS`]; two processes of the same observations share them ([`Ordered::push_both`]).
//!
//! *Source.* Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional
//! stopping" (2024).

use std::sync::LazyLock;

use crate::e_process::log_mean;

/// Categories: up to the p50, the p75, the p90, the p95, the p99, and above.
pub const CATEGORIES: usize = 6;

/// Alternatives, as shifts in standard deviations of a normal distribution.
pub const TILTS: [f64; 5] = [0.12, 0.25, 0.5, 0.9, 1.6];

/// Means of a standard normal variable within the categories.
const SCORES: [f64; CATEGORIES] = [-0.798, 0.324, 0.947, 1.454, 1.91, 2.67];

static FACTORS: LazyLock<[[f64; CATEGORIES]; TILTS.len()]> =
    LazyLock::new(|| TILTS.map(|tilt| SCORES.map(|score| (tilt * score).exp())));

/// Observations by category, ascending.
pub type Sample = [f64; CATEGORIES];

/// One process, in logarithms for each alternative.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ordered {
    logs: [f64; TILTS.len()],
}

impl Ordered {
    /// Takes one stratum; `expected` are the control's shares as known before it, `eta` tempers.
    pub fn push(&mut self, candidate: &Sample, control: &Sample, expected: &Sample, eta: f64) {
        push_each([self], [candidate], control, expected, eta);
    }

    /// Takes one stratum into two processes that count the candidate otherwise.
    pub fn push_both(both: &mut [Self; 2], candidates: [&Sample; 2], control: &Sample, expected: &Sample, eta: f64) {
        push_each(both.each_mut(), candidates, control, expected, eta);
    }

    /// Lets every alternative grow as another process did over a stratum that says nothing here.
    pub fn follow(&mut self, growth: f64) {
        self.logs.iter_mut().for_each(|log| *log += growth);
    }

    /// Returns the logarithm of the value: the mean over the alternatives.
    pub fn value(&self) -> f64 {
        log_mean(&self.logs)
    }
}

fn push_each<const N: usize>(
    processes: [&mut Ordered; N],
    candidates: [&Sample; N],
    control: &Sample,
    expected: &Sample,
    eta: f64,
) {
    let n_a: f64 = control.iter().sum();
    let whole: f64 = expected.iter().sum();
    if n_a <= 0.0 || whole <= 0.0 {
        return;
    }
    let n_b = candidates.map(|candidate| candidate.iter().sum::<f64>());
    for (t, (tilt, factors)) in TILTS.iter().zip(FACTORS.iter()).enumerate() {
        let z = expected.iter().zip(factors).map(|(n, factor)| n * factor).sum::<f64>() / whole;
        let ln_z = z.ln();
        for k in 0..CATEGORIES {
            let mut known: Option<(f64, f64)> = None;
            for i in (0..N).filter(|i| n_b[*i] > 0.0) {
                let candidate = candidates[i][k];
                if candidate + control[k] <= 0.0 {
                    continue;
                }
                let mixed = match known {
                    Some((n, mixed)) if n == n_b[i] => mixed,
                    _ => {
                        let share = n_b[i] / (n_a + n_b[i]);
                        (1.0 - share + share * factors[k] / z).ln()
                    }
                };
                known = Some((n_b[i], mixed));
                let tilted = tilt * SCORES[k] - ln_z;
                processes[i].logs[t] += eta * (candidate * tilted - (candidate + control[k]) * mixed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(at: usize) -> Sample {
        let mut sample = Sample::default();
        sample[at] = 1.0;
        sample
    }

    fn shares(weights: [f64; CATEGORIES]) -> Sample {
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    }

    /// The mean over all ways in which one of the candidate and two of the control can fall.
    fn mean(candidate: &Sample, control: &Sample, expected: &Sample, eta: f64) -> f64 {
        let mut mean = 0.0;
        for (b, share) in candidate.iter().enumerate() {
            for (x, y) in (0..CATEGORIES).flat_map(|x| (0..CATEGORIES).map(move |y| (x, y))) {
                let mut two = one(x);
                two[y] += 1.0;
                let mut process = Ordered::default();
                process.push(&one(b), &two, expected, eta);
                mean += share * control[x] * control[y] * process.value().exp();
            }
        }
        mean
    }

    proptest! {
        #[test]
        fn its_mean_is_at_most_one_where_the_candidate_is_no_slower(
            control in prop::array::uniform6(0.01..1.0_f64), expected in prop::array::uniform6(0.01..1.0_f64),
            faster in prop::array::uniform5(0.0..=1.0_f64), eta in 0.2..=1.0_f64,
        ) {
            let (control, expected) = (shares(control), shares(expected));
            prop_assert!(mean(&control, &control, &expected, eta) <= 1.0 + 1e-9);
            // Some of each category is moved to the one below.
            let mut candidate = control;
            for k in (1..CATEGORIES).rev() {
                let moved = faster[k - 1] * candidate[k];
                candidate[k] -= moved;
                candidate[k - 1] += moved;
            }
            prop_assert!(mean(&candidate, &control, &expected, eta) <= 1.0 + 1e-9);
        }
    }

    #[test]
    fn of_a_shift_it_sees_more_than_the_median_alone() {
        use crate::two_sample::{Shares, TwoSample};
        // Thirty strata of a lognormal of sigma 0.6 that grew by 30 %, at their expectation.
        let control = [475.0, 237.5, 142.5, 47.5, 38.0, 9.5];
        let candidate = [16.55, 13.62, 10.63, 4.09, 3.72, 1.39];
        let (mut whole, mut median) = (Ordered::default(), TwoSample::default());
        for _ in 0..30 {
            whole.push(&candidate, &control, &control, 1.0);
            median.push(Shares { candidate: (33.45, 50.0), control: (475.0, 950.0) }, 0.5, 1.0, 1.0);
        }
        assert!(whole.value() > 1.15 * median.value(), "{} against {}", whole.value(), median.value());
    }
}
