//! Failed requests where nothing can be compared: an operation that only the candidate has, or a service without a past.
//!
//! The share of failed requests is held against an objective, `theta <= objective`, by the e-process
//! `mean_j prod (t_j/t_0)^bad ((1-t_j)/(1-t_0))^(n-bad)` over shares `t_j` above it. This is the weakest design: it knows
//! what is intolerable and not what was usual.
//!
//! *Slow and fast.* As alerts on a budget look at a long window and a short one, half is staked on the whole time since the
//! candidate's first request, which finds what burns slowly, and half on windows of [`WINDOW`] buckets that each begin afresh,
//! which find what burns fast after a while without fault. The mean of e-processes begun at times fixed beforehand is one.
//! Whether it still burns is asked before anything is confirmed, of the last buckets.

use crate::e_process::log_mean;
use crate::rate;
use crate::standing::Standing;
use crate::tolerances::Tolerances;
use plimsoll_model::Bucket;

const MULTIPLES: [f64; 5] = [1.5, 2.0, 4.0, 8.0, 16.0];
/// Evidence is always tempered by this: there is nothing to measure dispersion by.
const DISPERSION: f64 = 2.0;
/// Buckets of a short window, and how many of them share what is staked on those.
const WINDOW: u64 = 30;
const WINDOWS: u64 = 12;

/// What was counted from some moment on, and the evidence of it.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    errors: f64,
    requests: f64,
    logs: [f64; MULTIPLES.len()],
}

impl Window {
    fn push(&mut self, errors: f64, requests: f64, objective: f64) {
        for (log, multiple) in self.logs.iter_mut().zip(MULTIPLES) {
            let share = (objective * multiple).min(0.5 * (1.0 + objective));
            *log += (errors * (share / objective).ln()
                + (requests - errors) * ((1.0 - share) / (1.0 - objective)).ln())
                / DISPERSION;
        }
        self.errors += errors;
        self.requests += requests;
    }

    fn exceeds(&self, objective: f64, alpha: f64, tolerances: &Tolerances) -> bool {
        let [low, _] = self.share_interval(alpha);
        self.requests >= tolerances.requests_min as f64 && low > objective
    }

    fn share_interval(&self, alpha: f64) -> [f64; 2] {
        let (low, high) = rate::bounds(self.errors / DISPERSION, self.requests / DISPERSION, alpha);
        [low, high]
    }
}

/// The test of one operation without a control.
#[derive(Debug, Clone)]
pub(crate) struct AloneTest {
    pub(crate) standing: Standing,
    pub(crate) errors: f64,
    pub(crate) requests: f64,
    whole: Window,
    /// The short window at hand, with the bucket of its begin.
    short: Option<(Bucket, Window)>,
    /// Those that are over, as the sum of their evidence, in logarithms, and how many there were.
    over: (f64, u64),
}

impl Default for AloneTest {
    fn default() -> Self {
        let standing = Standing { dispersion: DISPERSION, ..Standing::default() };
        let (errors, requests, whole, short) = (0.0, 0.0, Window::default(), None);
        Self { standing, errors, requests, whole, short, over: (f64::NEG_INFINITY, 0) }
    }
}

impl AloneTest {
    /// Takes one bucket; `usual` is the share of failed requests of the service's control.
    pub(crate) fn push(&mut self, bucket: Bucket, errors: f64, requests: f64, usual: f64, tolerances: &Tolerances) {
        if requests <= 0.0 {
            return;
        }
        let objective = objective(usual, tolerances);
        self.errors += errors;
        self.requests += requests;
        self.whole.push(errors, requests, objective);
        if let Some((_, over)) = self.short.take_if(|(begun, _)| bucket.0 >= begun.0 + WINDOW) {
            let (sum, number) = self.over;
            self.over = (log_sum(sum, log_mean(&over.logs)), number + 1);
        }
        let (_, short) = self.short.get_or_insert((bucket, Window::default()));
        short.push(errors, requests, objective);
        let (whole, short) = (self.whole, *short);
        self.standing.moved(self.value(&whole, &short));
        let alpha = tolerances.bound_alpha;
        if self.standing.exceeded_at.is_none()
            && (whole.exceeds(objective, 0.5 * alpha, tolerances)
                || short.exceeds(objective, 0.5 * alpha / WINDOWS as f64, tolerances))
        {
            self.standing.exceeded_at = Some(bucket);
        }
    }

    /// Logarithm of half the whole and half the mean over the short windows, those to come counting as one.
    fn value(&self, whole: &Window, short: &Window) -> f64 {
        let (sum, over) = self.over;
        let mut shorts = sum;
        if over < WINDOWS {
            shorts = log_sum(shorts, log_mean(&short.logs));
        }
        let to_come = WINDOWS.saturating_sub(over + 1);
        if to_come > 0 {
            shorts = log_sum(shorts, (to_come as f64).ln());
        }
        log_mean(&[log_mean(&whole.logs), shorts - (WINDOWS as f64).ln()])
    }

    /// Returns since when it burns far faster than as a whole: what is told is of that time.
    pub(crate) fn burns_since(&self) -> Option<Bucket> {
        let (begun, short) = self.short.as_ref()?;
        let (lately, whole) = (short.errors / short.requests, self.errors / self.requests);
        (lately >= 1.5 * whole && short.errors >= 5.0).then_some(*begun)
    }

    /// Returns bounds of the share of failed requests, since then or as a whole; both hold at all times with probability `1 - alpha`,
    /// whichever of the windows is told of.
    pub(crate) fn share_interval(&self, alpha: f64) -> [f64; 2] {
        // A quarter for each side of the whole, and as much for all short windows together.
        match &self.short {
            Some((_, short)) if self.burns_since().is_some() => {
                // All of these, however many come, are one.
                let number = (self.over.1 + 1) as f64;
                let share = 6.0 / (std::f64::consts::PI * number).powi(2);
                short.share_interval(0.25 * alpha * share)
            }
            _ => self.whole.share_interval(0.25 * alpha),
        }
    }
}

/// Returns the logarithm of the sum of what both are the logarithms of.
fn log_sum(one: f64, other: f64) -> f64 {
    let top = one.max(other);
    if top.is_finite() { top + ((one - top).exp() + (other - top).exp()).ln() } else { top }
}

/// The share of failed requests that is tolerated of what has no control.
pub(crate) fn objective(usual: f64, tolerances: &Tolerances) -> f64 {
    tolerances.slo_errors.max(tolerances.error_ratio * usual).min(0.9)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evidence after buckets of a hundred requests, of which so many fail.
    fn evidence(failing: &[(u64, f64)]) -> (f64, Option<Bucket>) {
        let (mut test, mut bucket) = (AloneTest::default(), 0);
        for (buckets, errors) in failing {
            for _ in 0..*buckets {
                test.push(Bucket(bucket), *errors, 100.0, 0.0, &Tolerances::default());
                bucket += 1;
            }
        }
        (test.standing.log_e, test.standing.exceeded_at)
    }

    #[test]
    fn what_burns_slowly_and_what_burns_fast_after_a_good_while_are_both_found() {
        let (slow, exceeded) = evidence(&[(180, 7.0)]);
        assert!(slow > 7.0 && exceeded.is_some(), "{slow}");
        let (fast, exceeded) = evidence(&[(150, 0.0), (4, 40.0)]);
        assert!(fast > 7.0 && exceeded.is_some_and(|at| at.0 <= 153), "{fast} {exceeded:?}");
        let (tolerated, exceeded) = evidence(&[(180, 5.0)]);
        assert!(tolerated < 1.0 && exceeded.is_none(), "{tolerated}");
    }

    #[test]
    fn a_service_at_its_objective_seldom_shows_a_hundred_however_often_one_looks() {
        let (mut dice, mut shown) = (11_u64, 0);
        for _ in 0..400 {
            let mut test = AloneTest::default();
            for bucket in 0..180 {
                let failed = (0..40).filter(|_| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (dice >> 40) as f64 / f64::from(1 << 24) < 0.05
                });
                test.push(Bucket(bucket), failed.count() as f64, 40.0, 0.0, &Tolerances::default());
            }
            shown += u32::from(test.standing.sup >= 100.0_f64.ln());
        }
        assert!(shown <= 4, "{shown} of 400");
    }
}
