//! Anytime-valid bounds of a rate, of the difference of two rates and of their ratio.
//!
//! *One rate.* With `S` bad of `n`, the Beta mixture of Bernoulli likelihood ratios
//!
//! ```text
//! M(theta) = B(a + S, b + n - S) / B(a, b) / ( theta^S (1 - theta)^(n - S) )
//! ```
//!
//! is a martingale from one at the true rate, so `{theta : M < 1/alpha}` holds it at all times with probability
//! `1 - alpha`; each side alone is a one-sided bound. `a = 1/2, b = 10` favours small rates. Zero bad requests give a finite
//! upper bound, which is why a service without errors can pass.
//!
//! *Difference.* Bounds of the two rates, each at half of `alpha`. The control's rate is standardised to the candidate's
//! strata, `sum(n_b A/n_a) / sum(n_b)`, so that a change of mix is no effect (Kitagawa's "within" part).
//!
//! *Ratio.* All ratios that the test of [`crate::e_process`] has not rejected, in both directions, each at half of `alpha`.
//!
//! *Counts.* Of `N` events where `L` were to be expected by their rate so far, however that changed, the Gamma mixture
//!
//! ```text
//! M(L) = a^a Gamma(a + N) / Gamma(a) / (a + L)^(a + N) exp(L)
//! ```
//!
//! of `k^N exp(-(k - 1) L)` over all `k` is a martingale at the true `L`. The quotient of two arms that were not seen at the same
//! time lies between those of their bounds, each arm's at half of `alpha`.
//!
//! *Overdispersion* divides the counts.
//!
//! *Source.* Robbins, "Statistical methods related to the law of the iterated logarithm" (1970); Howard, Ramdas, McAuliffe
//! and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021); Kitagawa (1955).

use crate::e_process::{self, Stratum};

const PRIOR_A: f64 = 0.5;
const PRIOR_B: f64 = 10.0;
/// Error probability of the interval of an effect.
pub(crate) const EFFECT_ALPHA: f64 = 0.05;
/// The most that a ratio is told to be; so many times and more is as good as unknown.
const RATIO_MAX: f64 = 1e4;

/// Both arms over all strata, standardised to the candidate's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Bad ones of the candidate.
    pub bad_b: f64,
    /// All of the candidate.
    pub n_b: f64,
    /// The control's rate, weighted as the candidate's strata.
    pub rate_a: f64,
    /// Observations that such a rate is worth.
    pub n_a: f64,
}

impl Rates {
    /// Adds up strata.
    pub fn of(strata: &[Stratum]) -> Self {
        let mut sums = RateSums::default();
        strata.iter().for_each(|s| sums.push(s));
        sums.rates()
    }

    /// Returns the candidate's rate.
    pub fn rate_b(&self) -> f64 {
        if self.n_b > 0.0 { self.bad_b / self.n_b } else { 0.0 }
    }

    /// Returns the same with `times` the observations.
    pub fn scaled(&self, times: f64) -> Self {
        Self { bad_b: self.bad_b * times, n_b: self.n_b * times, rate_a: self.rate_a, n_a: self.n_a * times }
    }

    /// Returns a lower and an upper bound of candidate's rate less control's; each holds with probability `1 - alpha`.
    pub fn difference(&self, dispersion: f64, alpha: f64) -> (f64, f64) {
        let phi = dispersion.max(1.0);
        let (b_low, b_high) = bounds(self.bad_b / phi, self.n_b / phi, alpha / 2.0);
        let (a_low, a_high) = bounds(self.rate_a * self.n_a / phi, self.n_a / phi, alpha / 2.0);
        (b_low - a_high, b_high - a_low)
    }
}

/// What [`Rates`] are made of, stratum by stratum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RateSums {
    bad_b: f64,
    n_b: f64,
    weighted: f64,
    variance: f64,
    inverse: f64,
}

impl RateSums {
    /// Takes one stratum.
    pub fn push(&mut self, s: &Stratum) {
        if s.n_a > 0.0 && s.n_b > 0.0 {
            self.bad_b += s.bad_b;
            self.n_b += s.n_b;
            self.weighted += s.n_b * s.bad_a / s.n_a;
            self.variance += s.n_b * s.n_b * s.bad_a / (s.n_a * s.n_a);
            self.inverse += s.n_b * s.n_b / s.n_a;
        }
    }

    /// Adds the strata of others.
    pub fn add(&mut self, other: &Self) {
        self.bad_b += other.bad_b;
        self.n_b += other.n_b;
        self.weighted += other.weighted;
        self.variance += other.variance;
        self.inverse += other.inverse;
    }

    /// Returns the rates of all strata taken.
    pub fn rates(&self) -> Rates {
        if self.n_b <= 0.0 {
            return Rates::default();
        }
        // As many observations as give the control's standardised rate its variance; strata differ in rate and in size.
        let n_a = if self.variance > 0.0 {
            self.weighted * self.n_b / self.variance
        } else {
            self.n_b * self.n_b / self.inverse
        };
        Rates { bad_b: self.bad_b, n_b: self.n_b, rate_a: (self.weighted / self.n_b).min(1.0), n_a }
    }
}

/// Returns a lower and an upper bound of a rate; each holds at all times with probability `1 - alpha`.
pub fn bounds(bad: f64, n: f64, alpha: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let bad = bad.clamp(0.0, n);
    let level = (1.0 / alpha).ln();
    let mixture = ln_beta(PRIOR_A + bad, PRIOR_B + n - bad) - ln_beta(PRIOR_A, PRIOR_B);
    let log_m = |theta: f64| {
        let hits = if bad > 0.0 { bad * theta.ln() } else { 0.0 };
        let misses = if n > bad { (n - bad) * (-theta).ln_1p() } else { 0.0 };
        mixture - hits - misses
    };
    let centre = bad / n;
    let low = if bad > 0.0 { bisect(0.0, centre, |theta| log_m(theta) >= level) } else { 0.0 };
    let high = if bad < n { bisect(1.0, centre, |theta| log_m(theta) >= level) } else { 1.0 };
    (low, high)
}

/// Finds the edge between `outside`, where `rejected` holds, and `inside`, where it does not.
fn bisect(mut outside: f64, mut inside: f64, rejected: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..60 {
        let middle = 0.5 * (outside + inside);
        if rejected(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    outside
}

/// Returns bounds of the rate ratio; both hold at all times with probability `1 - alpha`. The upper one is at most 1e4.
pub fn ratio_interval(strata: &[Stratum], dispersion: f64, alpha: f64) -> [f64; 2] {
    let plain: Vec<Stratum> = strata.iter().map(|s| Stratum { handicap: 1.0, ..*s }).collect();
    let swapped: Vec<Stratum> = plain.iter().map(Stratum::swapped).collect();
    not_rejected(&plain, &swapped, dispersion, (2.0 / alpha).ln())
}

/// Returns the ratios of which the tests of "no more", over `strata`, and of "no fewer", over `swapped`, never had evidence of `level`
/// in logarithms.
pub(crate) fn not_rejected(strata: &[Stratum], swapped: &[Stratum], dispersion: f64, level: f64) -> [f64; 2] {
    // In logarithms of the ratio; 1e-4 to 1e4 is wider than any use.
    let (mut low, mut high) = (RATIO_MAX.recip().ln(), RATIO_MAX.ln());
    let not_above = |log_r: f64| e_process::run(strata, log_r.exp(), dispersion).sup() < level;
    let not_below = |log_r: f64| e_process::run(swapped, (-log_r).exp(), dispersion).sup() < level;
    low = edge(low, high, &not_above);
    high = -edge(-high, -low, &|negative| not_below(-negative));
    [low.exp(), high.exp()]
}

/// Returns bounds of how many events were to be expected where `count` came; both hold at all times with probability `1 - alpha`.
pub fn count_bounds(count: f64, alpha: f64) -> [f64; 2] {
    let a = PRIOR_A;
    let mixture = a * a.ln() + ln_gamma(a + count) - ln_gamma(a) - (1.0 / alpha).ln();
    let rejected = |expected: f64| mixture + expected - (a + count) * (a + expected).ln() >= 0.0;
    let mut beyond = 2.0 * (count + 1.0);
    while !rejected(beyond) {
        beyond *= 2.0;
    }
    [if count > 0.0 { bisect(0.0, count, rejected) } else { 0.0 }, bisect(beyond, count, rejected)]
}

/// Returns bounds of the quotient of two rates, of the candidate's and the control's events and what each came in (time, or whatever
/// they are counted by, more than none); both hold at all times with probability `1 - alpha`. Neither is more than 1e4.
pub fn count_ratio(candidate: (f64, f64), control: (f64, f64), dispersion: f64, alpha: f64) -> [f64; 2] {
    let phi = dispersion.max(1.0);
    let rate = |(count, span): (f64, f64)| count_bounds(count / phi, 0.5 * alpha).map(|expected| phi * expected / span);
    let ([b_low, b_high], [a_low, a_high]) = (rate(candidate), rate(control));
    [b_low / a_high, b_high / a_low].map(|bound| bound.min(RATIO_MAX))
}

/// Returns the largest value from `low` up at which `holds` is still false, `low` where it holds there already.
fn edge(low: f64, high: f64, holds: &impl Fn(f64) -> bool) -> f64 {
    if holds(low) {
        return low;
    }
    let (mut rejected, mut kept) = (low, high);
    for _ in 0..40 {
        let middle = 0.5 * (rejected + kept);
        if holds(middle) {
            kept = middle;
        } else {
            rejected = middle;
        }
    }
    rejected
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Logarithm of the gamma function for positive arguments, by Stirling's series after moving up to ten; to 1e-11.
pub(crate) fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_model::Bucket;
    use statrs::function::gamma;

    #[test]
    fn the_gamma_function_agrees_with_an_independent_one() {
        for x in [0.5, 1.0, 2.5, 9.99, 10.0, 123.4, 1e4, 1e7] {
            let expected = gamma::ln_gamma(x);
            assert!((ln_gamma(x) - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{x}");
        }
    }

    #[test]
    fn nothing_bad_gives_an_upper_bound_that_shrinks() {
        let (low, high) = bounds(0.0, 2_000.0, 0.05);
        assert_eq!(low, 0.0);
        assert!(high < 0.005, "{high}");
        assert!(bounds(0.0, 200.0, 0.05).1 > 0.01);
    }

    #[test]
    fn a_ratio_interval_holds_the_ratio_and_narrows() {
        let strata = |n: u64| -> Vec<Stratum> {
            (0..n)
                .map(|i| Stratum {
                    bucket: Bucket(i),
                    bad_b: 5.0,
                    n_b: 100.0,
                    bad_a: 10.0,
                    n_a: 1_000.0,
                    handicap: 1.0,
                    caution: 1.0,
                })
                .collect()
        };
        let [low, high] = ratio_interval(&strata(10), 1.0, 0.05);
        assert!(low < 5.0 && 5.0 < high && low > 2.0 && high < 12.0, "{low} {high}");
        let [lower, higher] = ratio_interval(&strata(100), 1.0, 0.05);
        assert!(lower > low && higher < high);
    }

    #[test]
    fn bounds_of_counts_are_where_the_mixture_says() {
        for count in [0.0, 1.0, 7.0, 250.0, 1e6] {
            let [low, high] = count_bounds(count, 0.05);
            // By an independent gamma function.
            let mixture = |expected: f64| {
                let a = PRIOR_A;
                gamma::ln_gamma(a + count) - gamma::ln_gamma(a) + a * a.ln() - (a + count) * (a + expected).ln()
                    + expected
            };
            for bound in [low, high].into_iter().filter(|bound| *bound > 1e-9) {
                assert!((mixture(bound) - 20.0_f64.ln()).abs() < 1e-3, "{count}: {low} to {high}");
            }
            assert!(low <= count && count < high);
        }
        // Of what never came no more than five were to come.
        assert!((4.0..5.0).contains(&count_bounds(0.0, 0.05)[1]));
        assert_eq!(count_bounds(0.0, 0.05)[0], 0.0);
    }

    #[test]
    fn a_quotient_of_counts_narrows_with_evidence_and_widens_with_bursts() {
        let width = |[low, high]: [f64; 2]| (high / low).ln();
        let few = count_ratio((30.0, 10.0), (100.0, 100.0), 1.0, 0.05);
        let many = count_ratio((3_000.0, 1_000.0), (10_000.0, 10_000.0), 1.0, 0.05);
        let bursty = count_ratio((3_000.0, 1_000.0), (10_000.0, 10_000.0), 8.0, 0.05);
        for [low, high] in [few, many, bursty] {
            assert!(low < 3.0 && 3.0 < high, "{low} to {high}");
        }
        assert!(width(many) < 0.25 * width(few) && width(many) < width(bursty), "{few:?} {many:?} {bursty:?}");
        assert_eq!(count_ratio((30.0, 10.0), (0.0, 100.0), 1.0, 0.05)[1], RATIO_MAX);
        assert_eq!(count_ratio((600.0, 6_000.0), (0.0, 1e6), 1.0, 0.05), [RATIO_MAX; 2]);
    }

    #[test]
    fn both_ends_of_an_interval_share_what_it_may_miss() {
        let strata: Vec<Stratum> = (0..20)
            .map(|n| Stratum {
                bucket: Bucket(n),
                bad_b: 3.0,
                n_b: 100.0,
                bad_a: 2.0,
                n_a: 100.0,
                handicap: 1.0,
                caution: 1.0,
            })
            .collect();
        let swapped: Vec<Stratum> = strata.iter().map(Stratum::swapped).collect();
        assert_eq!(ratio_interval(&strata, 1.0, 0.05), not_rejected(&strata, &swapped, 1.0, 40.0_f64.ln()));
        let ([b_low, b_high], [a_low, a_high]) = (count_bounds(30.0, 0.025), count_bounds(10.0, 0.025));
        let [low, high] = count_ratio((30.0, 1.0), (10.0, 1.0), 1.0, 0.05);
        assert_eq!([low, high], [b_low / a_high, b_high / a_low]);
    }
}
