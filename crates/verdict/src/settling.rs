//! Whether a growth of latency stays once young instances have grown up.
//!
//! A young instance is slow and gets faster. Where the control has none of the same age, what the candidate shows is fitted
//! by `c + d exp(-t / tau)` with `d >= 0` for several `tau`, and a growth counts only if for each of them no `c` up to the
//! threshold, the level that would remain, fits nearly as well as the best one: by the signed root of the likelihood ratio,
//! and by the more the more operations there are. Doubt delays and does not acquit: after five minutes nothing is young.

/// One bucket of what is watched: seconds since the first, the value, and the variance of its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) at_s: f64,
    pub(crate) value: f64,
    pub(crate) variance: f64,
}

/// Time constants, in seconds, that a warm-up may have.
const CONSTANTS: [f64; 3] = [20.0, 40.0, 80.0];
/// Standard errors by which the level of an only operation must exceed the threshold.
const ERRORS: f64 = 1.4;
/// Points without which nothing can be told.
const POINTS_MIN: usize = 3;

/// Says whether the level that remains is above `threshold`; `weight` is the share of the error probability that may be
/// spent on it, at most one.
pub(crate) fn remains(points: &[Point], threshold: f64, weight: f64) -> bool {
    // A normal tail falls off as exp(-z^2 / 2): so many more standard errors make it `weight` times as likely.
    let least = ERRORS * ERRORS - 2.0 * weight.clamp(1e-9, 1.0).ln();
    points.len() >= POINTS_MIN && CONSTANTS.iter().all(|tau| misfit(points, *tau, threshold) > least)
}

/// How much worse a level of `threshold` fits than the best one, where that is higher: twice the logarithm of the likelihood
/// ratio, zero where the best level is no higher.
fn misfit(points: &[Point], tau: f64, threshold: f64) -> f64 {
    let (mut w, mut wu, mut wy, mut wuu, mut wuy, mut wyy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for p in points {
        let (weight, u, y) = (1.0 / p.variance.max(1e-12), (-p.at_s / tau).exp(), p.value - threshold);
        w += weight;
        wu += weight * u;
        wy += weight * y;
        wuu += weight * u * u;
        wuy += weight * u * y;
        wyy += weight * y * y;
    }
    let (suu, suy) = (wuu - wu * wu / w, wuy - wu * wy / w);
    if suu <= 0.0 || wuu <= 0.0 {
        return 0.0;
    }
    // What grows is not settling: a slope the other way is taken for none.
    let slope = (suy / suu).max(0.0);
    let level = (wy - slope * wu) / w;
    let best = wyy - wy * wy / w - slope * slope * suu;
    let held = (wuy / wuu).max(0.0);
    let at_threshold = wyy - held * held * wuu;
    if level > 0.0 { (at_threshold - best).max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(n: usize, value: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..n)
            .map(|i| 10.0 * i as f64 + 5.0)
            .map(|t| Point { at_s: t, value: value(t), variance: 0.05_f64.powi(2) })
            .collect()
    }

    #[test]
    fn what_stays_remains_and_what_fades_does_not() {
        assert!(remains(&points(10, |_| 0.4), 0.09, 1.0));
        for tau in [15.0, 30.0, 45.0, 60.0, 80.0] {
            for n in 3..=30 {
                assert!(!remains(&points(n, |t| 1.1 * (-t / tau).exp()), 0.09, 1.0), "tau {tau}, {n} buckets");
            }
        }
        assert!(
            remains(&points(20, |t| 0.4 + 0.8 * (-t / 20.0).exp()), 0.09, 1.0),
            "a warm-up does not hide what is beneath"
        );
        assert!(!remains(&points(2, |_| 9.0), 0.09, 1.0), "two points show no trend");
    }
}
