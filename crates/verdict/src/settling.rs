//! Whether a growth of latency stays once young instances have grown up.
//!
//! A young instance is slow and gets faster. Where the control has none of the same age, what the candidate shows is fitted
//! by `c + d exp(-t / tau)` with `d >= 0` for several `tau`, and a growth counts only if for each of them no `c` up to the
//! threshold, the level that would remain, fits nearly as well as the best one: by the signed root of the likelihood ratio,
//! and by the more the more operations there are. A slower warm-up is allowed for only where the values are seen to fall and
//! it fits them about as well as any. Doubt delays and does not acquit: after five minutes nothing is young.
//!
//! Levels of metrics settle the same way and take longer: caches fill and pools grow for a quarter of an hour.

/// One bucket of what is watched: seconds since the first, the value, and the variance of its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) at_s: f64,
    pub(crate) value: f64,
    pub(crate) variance: f64,
}

/// Time constants, in seconds, that a warm-up may have.
const CONSTANTS: [f64; 3] = [20.0, 40.0, 80.0];
/// Those of slow warm-ups, which would take long to tell from a growth that stays: they need to be seen ..
const SLOW_CONSTANTS: [f64; 2] = [120.0, 180.0];
/// .. by a fall of so many standard errors, ..
const SEEN: f64 = 2.0;
/// .. and fit no worse than the best by so much, as twice the logarithm of the likelihood ratio.
const AS_WELL: f64 = 4.0;
/// Slow ones of levels.
const LEVEL_CONSTANTS: [f64; 4] = [120.0, 300.0, 600.0, 1_200.0];
/// Standard errors by which the level of an only operation must exceed the threshold.
const ERRORS: f64 = 1.4;
/// Points without which nothing can be told.
const POINTS_MIN: usize = 3;

/// Says whether the level that remains is above `threshold`; `weight` is the share of the error probability that may be
/// spent on it, at most one.
pub(crate) fn remains(points: &[Point], threshold: f64, weight: f64) -> bool {
    stays(points, threshold, weight, &SLOW_CONSTANTS)
}

/// Says the same of the level of a metric.
pub(crate) fn level_remains(points: &[Point], threshold: f64) -> bool {
    stays(points, threshold, 1.0, &LEVEL_CONSTANTS)
}

fn stays(points: &[Point], threshold: f64, weight: f64, slow: &[f64]) -> bool {
    // A normal tail falls off as exp(-z^2 / 2): so many more standard errors make it `weight` times as likely.
    let least = ERRORS * ERRORS - 2.0 * weight.clamp(1e-9, 1.0).ln();
    if points.len() < POINTS_MIN {
        return false;
    }
    let usual = CONSTANTS.map(|tau| fit(points, tau, threshold));
    let slow: Vec<Fit> = slow.iter().map(|tau| fit(points, *tau, threshold)).collect();
    let best = usual.iter().chain(&slow).map(|fit| fit.residual).fold(f64::INFINITY, f64::min);
    let fades = |fit: &&Fit| fit.fall >= SEEN * SEEN && fit.residual <= best + AS_WELL;
    usual.iter().chain(slow.iter().filter(fades)).all(|fit| fit.misfit > least)
}

/// How values are described by a level and a fade from it.
struct Fit {
    /// How much worse a level of the threshold fits than the best one, where that is higher: twice the logarithm of the
    /// likelihood ratio, zero where the best level is no higher.
    misfit: f64,
    /// Weighted squares that the best fit leaves.
    residual: f64,
    /// Squared standard errors by which values are seen to fall.
    fall: f64,
}

fn fit(points: &[Point], tau: f64, threshold: f64) -> Fit {
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
        return Fit { misfit: 0.0, residual: f64::INFINITY, fall: 0.0 };
    }
    // What grows is not settling: a slope the other way is taken for none.
    let slope = (suy / suu).max(0.0);
    let level = (wy - slope * wu) / w;
    let best = wyy - wy * wy / w - slope * slope * suu;
    let held = (wuy / wuu).max(0.0);
    let at_threshold = wyy - held * held * wuu;
    let misfit = if level > 0.0 { (at_threshold - best).max(0.0) } else { 0.0 };
    Fit { misfit, residual: best, fall: slope * slope * suu }
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
        for tau in [15.0, 30.0, 45.0, 60.0, 80.0, 100.0, 120.0, 150.0] {
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

    #[test]
    fn a_level_that_fades_for_minutes_does_not_remain_and_one_that_stays_or_grows_does() {
        let minutes = |n: usize, value: &dyn Fn(f64) -> f64| -> Vec<Point> {
            let at = (0..n).map(|i| 60.0 * i as f64 + 30.0);
            at.map(|t| Point { at_s: t, value: value(t), variance: 0.05_f64.powi(2) }).collect()
        };
        for tau in [100.0, 250.0, 400.0, 500.0, 800.0] {
            for n in 5..=20 {
                assert!(!level_remains(&minutes(n, &|t| 1.5 * (-t / tau).exp()), 0.25), "tau {tau}, {n} minutes");
            }
        }
        for n in 5..=20 {
            assert!(level_remains(&minutes(n, &|_| 1.5), 0.25), "{n} minutes");
            assert!(level_remains(&minutes(n, &|t| 0.6 + t / 600.0), 0.25), "{n} minutes");
        }
        assert!(level_remains(&minutes(15, &|t| 1.0 + 1.5 * (-t / 120.0).exp()), 0.25), "what is beneath stays");
    }
}
