//! The sequential test that a pass must win: does the candidate fail more by all that is tolerated?
//!
//! With `A` of `n_a` (control) and `B` of `n_b` (candidate), null hypothesis `theta_b >= theta_a + delta` and the alternative
//! `(a, b)` of a healthy deploy, chosen beforehand,
//!
//! ```text
//! S = (a/a0)^A ((1-a)/(1-a0))^(n_a-A) (b/b0)^B ((1-b)/(1-b0))^(n_b-B)      b0 = a0 + delta: the null's point nearest to (a, b)
//! ```
//!
//! has mean at most one under the null. `ln S` is linear in both counts and at the nearest point both arms weigh alike, so the
//! product over strata is an e-process of "on average over the strata, by the candidate's requests, more by `delta`"; the same
//! `(a, b)` is used for all operations, so that no operation weighs more than its requests. Bounds of the two rates, set
//! against each other, need more than twice as many requests.
//!
//! Bursts are those of the service as a whole: a quiet operation shows none by itself, and a hundred of them do. So operations
//! add up what they saw in a bucket ([`Closeness`]) and the sum is tempered ([`Health`]).
//!
//! *Invariants.* `a` is what was seen of the control before the bucket: what it was over all, or lately. Where it is wrong
//! the test loses power and nothing else.
//!
//! *Cost.* A dozen steps of Newton's method and four logarithms for each of [`WEIGHTS`], unless an operation of as many requests
//! had them of late ([`Nearest`]).
//!
//! *Source.* Turner and Grünwald, "Exact anytime-valid confidence intervals for contingency tables and beyond" (2023); Grünwald,
//! de Heide and Koolen, "Safe testing" (2024).

use plimsoll_model::Bucket;

use crate::dispersion::{self, Bursts, Measure, Tempering};
use crate::e_process::Stratum;
use crate::memo::Memo;
use crate::tolerances::Tolerances;

/// Buckets with failures without which the past does not tell how often they come.
const CLUMPS_MIN: usize = 4;
/// Failures that such a bucket holds on average where they come in clumps.
const CLUMP: f64 = 2.0;

/// What each alternative weighs; they sum to one.
const WEIGHTS: [f64; 3] = [0.5, 0.35, 0.15];
/// No share is taken to be nearer to none or all than this.
const LEAST: f64 = 1e-5;

/// Shares of the control that are expected of a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expected {
    /// As it was over all.
    pub(crate) usual: f64,
    /// As it was of late.
    pub(crate) lately: f64,
}

/// One process without tempering, in logarithms for each alternative: as usual, as of late, and half of what is usual; and all
/// it rests on: bad and all observations of the candidate, and of the control.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Closeness {
    logs: [f64; WEIGHTS.len()],
    counts: [f64; 4],
}

/// What each observation adds for one alternative, in logarithms: bad and good ones of the control and of the candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    bad_a: f64,
    good_a: f64,
    bad_b: f64,
    good_b: f64,
}

/// The same for all, by what is usual, what was of late, what is tolerated, and the observations of the control and the candidate.
pub(crate) type Nearest = Memo<[Aim; WEIGHTS.len()], 5>;

impl Closeness {
    /// Takes one stratum under "more by at least `delta`".
    pub(crate) fn push(&mut self, s: &Stratum, expected: Expected, delta: f64, known: &mut Nearest) {
        if s.n_a <= 0.0 || s.n_b <= 0.0 || delta <= 0.0 {
            return;
        }
        self.counts.iter_mut().zip([s.bad_b, s.n_b, s.bad_a, s.n_a]).for_each(|(sum, n)| *sum += n);
        let eta = 1.0 / s.caution.max(1.0);
        let key = [expected.usual, expected.lately, delta, s.n_a, s.n_b];
        let aims = known.get(key, || aims(expected, delta, s.n_a, s.n_b));
        for (log, aim) in self.logs.iter_mut().zip(aims) {
            *log += eta
                * (s.bad_a * aim.bad_a
                    + (s.n_a - s.bad_a).max(0.0) * aim.good_a
                    + s.bad_b * aim.bad_b
                    + (s.n_b - s.bad_b).max(0.0) * aim.good_b);
        }
    }

    /// Adds the strata of others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.logs.iter_mut().zip(other.logs).for_each(|(sum, log)| *sum += log);
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, n)| *sum += n);
    }

    /// Returns the logarithm of the value, all of it tempered alike.
    pub(crate) fn value(&self, dispersion: f64) -> f64 {
        mixed(&self.logs.map(|log| log / dispersion.max(1.0)))
    }
}

fn aims(expected: Expected, delta: f64, n_a: f64, n_b: f64) -> [Aim; WEIGHTS.len()] {
    let most = (1.0 - delta) / 2.0;
    let inside = |share: f64| share.clamp(LEAST, most.max(LEAST));
    let healthy = [(expected.usual, 1.0), (expected.lately, 1.0), (expected.usual, 0.5)];
    healthy.map(|(control, times)| {
        let a = inside(control);
        let b = inside(a * times);
        let a0 = nearest(a, b, n_a, n_b, delta);
        let b0 = a0 + delta;
        Aim {
            bad_a: (a / a0).ln(),
            good_a: ((1.0 - a) / (1.0 - a0)).ln(),
            bad_b: (b / b0).ln(),
            good_b: ((1.0 - b) / (1.0 - b0)).ln(),
        }
    })
}

/// Returns the logarithm of the weighted mean of what `logs` are the logarithms of.
fn mixed(logs: &[f64; WEIGHTS.len()]) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + logs.iter().zip(WEIGHTS).map(|(log, weight)| weight * (log - top).exp()).sum::<f64>().ln()
}

/// The process over all operations, tempered bucket by bucket by what was known of bursts before it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    logs: [f64; WEIGHTS.len()],
    /// What the operations had added up by the last bucket.
    before: Closeness,
    tempering: Tempering,
    past: Bursts,
    /// Requests a bucket before the start.
    past_mean: f64,
    /// Buckets in which failures would have come with a probability of nine in ten, where the past had them in clumps.
    pub(crate) patience: u64,
    /// Logarithm of the value, now and at its largest.
    pub(crate) now: f64,
    pub(crate) once: f64,
}

impl Health {
    /// Starts from `(bad, all)` of the buckets before, those of an incident left out.
    pub(crate) fn new(past: &[(f64, f64)]) -> Self {
        let requests: f64 = past.iter().map(|(_, n)| n).sum();
        Self {
            past: Bursts::of(past),
            past_mean: requests / past.len().max(1) as f64,
            patience: patience(past),
            ..Self::default()
        }
    }

    /// Takes what all operations have added up by the end of a bucket.
    pub(crate) fn push(&mut self, bucket: Bucket, all: Closeness, tolerances: &Tolerances) {
        let mut here = [0.0; 4];
        for (n, (now, before)) in here.iter_mut().zip(all.counts.iter().zip(self.before.counts)) {
            *n = now - before;
        }
        let [bad_b, n_b, bad_a, n_a] = here;
        let before = std::mem::replace(&mut self.before, all);
        // Counts that begin anew are those of other units.
        if n_b <= 0.0 || n_a <= 0.0 {
            return;
        }
        let usual = tolerances.dispersion_max;
        let past = self.past.measure(usual);
        let expected = dispersion::expected_of_share(past, self.past_mean, n_a, n_b, usual);
        let most = dispersion::most(past, usual);
        let phi = dispersion::joined(expected, Measure::default(), self.tempering.measure(), most);
        for (log, (now, before)) in self.logs.iter_mut().zip(all.logs.iter().zip(before.logs)) {
            *log += (now - before) / phi;
        }
        self.tempering.push(&Stratum { bucket, bad_b, n_b, bad_a, n_a, handicap: 1.0, caution: 1.0 });
        self.now = mixed(&self.logs);
        self.once = self.once.max(self.now);
    }
}

/// Returns how many buckets show failures that come as seldom as in the `(bad, all)` of the past, nine times in ten; zero where
/// the past does not show that they come in clumps.
fn patience(past: &[(f64, f64)]) -> u64 {
    let failed: f64 = past.iter().map(|(bad, _)| bad).sum();
    let clumps = past.iter().filter(|(bad, _)| *bad > 0.0).count();
    if clumps < CLUMPS_MIN || failed < CLUMP * clumps as f64 || clumps >= past.len() {
        return 0;
    }
    let seen = clumps as f64 / past.len() as f64;
    // At most the length of the past times a small number: exact.
    (0.1_f64.ln() / (1.0 - seen).ln()).ceil() as u64
}

/// Returns the control's share at the point of the null's edge nearest to `(a, b)`, `b <= a`, in relative entropy.
fn nearest(a: f64, b: f64, n_a: f64, n_b: f64, delta: f64) -> f64 {
    // The slope of the divergence, which grows throughout; it is negative near zero and positive at `a`.
    let slope = |x: f64| {
        let y = x + delta;
        n_a * (x - a) / (x * (1.0 - x)) + n_b * (y - b) / (y * (1.0 - y))
    };
    let curvature = |x: f64| {
        let y = x + delta;
        let of = |n: f64, p: f64, q: f64| n * (p / (q * q) + (1.0 - p) / ((1.0 - q) * (1.0 - q)));
        of(n_a, a, x) + of(n_b, b, y)
    };
    let (mut low, mut high) = (0.0, a);
    let mut x = 0.7 * a;
    for _ in 0..60 {
        let here = slope(x);
        if here > 0.0 {
            high = x;
        } else {
            low = x;
        }
        let step = here / curvature(x);
        let next = x - step;
        let inside = next > low && next < high;
        let next = if inside { next } else { 0.5 * (low + high) };
        if (next - x).abs() <= 1e-14 * x {
            return next;
        }
        x = next;
    }
    x
}

#[cfg(test)]
mod patience_tests {
    use super::patience;

    #[test]
    fn only_clumps_that_were_seen_are_waited_for() {
        let past = |every: usize, size: f64| -> Vec<(f64, f64)> {
            (0..360).map(|i| (if i % every == 7 % every { size } else { 0.0 }, 1_000.0)).collect()
        };
        assert_eq!(patience(&past(40, 4.0)), 91, "nine clumps an hour: a quarter of an hour");
        assert_eq!(patience(&past(40, 1.0)), 0, "single failures are no clumps");
        assert_eq!(patience(&past(2, 4.0)), 4, "what fails all the time keeps nobody waiting");
        assert_eq!(patience(&past(1, 4.0)), 0);
        assert_eq!(patience(&past(300, 50.0)), 0, "one incident tells no rate");
        assert_eq!(patience(&[]), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stratum(bad_b: f64, n_b: f64, bad_a: f64, n_a: f64) -> Stratum {
        Stratum { bucket: Bucket(1), bad_b, n_b, bad_a, n_a, handicap: 1.0, caution: 1.0 }
    }

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

    /// Mean of the process after one stratum of such rates.
    fn mean((n_a, theta_a): (u32, f64), (n_b, theta_b): (u32, f64), expected: Expected, delta: f64, phi: f64) -> f64 {
        let (pa, pb) = (binomial(n_a, theta_a), binomial(n_b, theta_b));
        let mut mean = 0.0;
        for (x, p) in pa.iter().enumerate() {
            for (y, q) in pb.iter().enumerate() {
                let mut process = Closeness::default();
                let s = stratum(y as f64, f64::from(n_b), x as f64, f64::from(n_a));
                process.push(&s, expected, delta, &mut Nearest::none());
                mean += p * q * process.value(phi).exp();
            }
        }
        mean
    }

    #[test]
    fn weights_sum_to_one() {
        assert!((WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn its_mean_is_at_most_one_wherever_the_candidate_is_worse_by_all_that_is_tolerated(
            n_a in 1_u32..25, n_b in 1_u32..25, theta in 0.0..0.5_f64, beyond in 0.0..0.3_f64,
            delta in 0.002..0.1_f64, usual in 0.0..0.4_f64, lately in 0.0..0.4_f64, phi in 1.0..5.0_f64,
        ) {
            let worse = (theta + delta + beyond).min(1.0);
            let mean = mean((n_a, theta), (n_b, worse), Expected { usual, lately }, delta, phi);
            prop_assert!(mean <= 1.0 + 1e-9, "{}", mean);
        }

        #[test]
        fn strata_that_are_worse_on_average_only_are_no_proof_of_health(
            n in 2_u32..6, theta in 0.0..0.2_f64, delta in 0.01..0.1_f64, spread in 0.0..=1.0_f64, usual in 0.0..0.3_f64,
        ) {
            // One stratum is worse by less than is tolerated, the other by as much more.
            let expected = Expected { usual, lately: usual };
            let rates = [1.0 - spread, 1.0 + spread].map(|times| binomial(n, theta + delta * times));
            let control = binomial(n, theta);
            let outcomes = || (0..=n as usize).flat_map(|a| (0..=n as usize).map(move |b| (a, b)));
            let mut mean = 0.0;
            for (a1, b1) in outcomes() {
                for (a2, b2) in outcomes() {
                    let mut process = Closeness::default();
                    for (a, b) in [(a1, b1), (a2, b2)] {
                        let s = stratum(b as f64, f64::from(n), a as f64, f64::from(n));
                        process.push(&s, expected, delta, &mut Nearest::none());
                    }
                    mean += control[a1] * control[a2] * rates[0][b1] * rates[1][b2] * process.value(1.0).exp();
                }
            }
            prop_assert!(mean <= 1.0 + 1e-9, "{}", mean);
        }
    }

    #[test]
    fn health_is_shown_by_half_of_the_requests_that_bounds_of_two_rates_take() {
        let expected = Expected { usual: 0.01, lately: 0.01 };
        let mut process = Closeness::default();
        let mut sums = crate::rate::RateSums::default();
        let (mut shown, mut bounded) = (None, None);
        for bucket in 1..=400_u32 {
            let s = stratum(1.0, 100.0, 1.0, 100.0);
            process.push(&s, expected, 0.005, &mut Nearest::none());
            sums.push(&s);
            shown = shown.or((process.value(1.0) >= 10_f64.ln()).then_some(bucket));
            bounded = bounded.or((sums.rates().difference(1.0, 0.1).1 < 0.005).then_some(bucket));
        }
        let shown = shown.expect("shown");
        assert!((20..=60).contains(&shown), "{shown}");
        assert!(bounded.is_none_or(|bounded| bounded > 2 * shown), "{shown} and {bounded:?}");
    }

    #[test]
    fn a_service_without_errors_is_shown_to_be_well_by_a_few_hundred_requests() {
        let mut process = Closeness::default();
        process.push(
            &stratum(0.0, 800.0, 0.0, 800.0),
            Expected { usual: 0.0, lately: 0.0 },
            0.005,
            &mut Nearest::none(),
        );
        assert!(process.value(1.0) >= 10_f64.ln(), "{}", process.value(1.0));
        process.push(
            &stratum(8.0, 100.0, 0.0, 100.0),
            Expected { usual: 0.0, lately: 0.0 },
            0.005,
            &mut Nearest::none(),
        );
        assert!(process.value(1.0) < 0.0, "failures refute it: {}", process.value(1.0));
    }
}
