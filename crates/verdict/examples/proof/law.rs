//! What chance makes of a number of deploys.

use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF};

/// Returns the largest share, in per cent, that `hits` of `all` leave possible: the bound of Clopper and Pearson at 97.5 %.
pub(crate) fn at_most(hits: u64, all: u64) -> f64 {
    if hits >= all {
        return 100.0;
    }
    let beta = Beta::new(hits as f64 + 1.0, (all - hits) as f64).expect("both are positive");
    100.0 * beta.inverse_cdf(0.975)
}

/// Returns the least number that so many of `all` exceed with a probability below `error` only, where each is a hit with probability `share`.
pub(crate) fn limit(all: u64, share: f64, error: f64) -> u64 {
    let law = Binomial::new(share, all).expect("a probability");
    (0..=all).find(|hits| law.sf(*hits) < error).unwrap_or(all)
}
