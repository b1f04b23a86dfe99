//! Failed requests where nothing can be compared: an operation that only the candidate has, or a service without a past.
//!
//! The share of failed requests is held against an objective, `theta <= objective`, by the e-process
//! `mean_j prod (t_j/t_0)^bad ((1-t_j)/(1-t_0))^(n-bad)` over shares `t_j` above it. This is the weakest design: it knows
//! what is intolerable and not what was usual.

use crate::e_process::log_mean;
use crate::rate;
use crate::standing::Standing;
use crate::tolerances::Tolerances;
use plimsoll_model::Bucket;

const MULTIPLES: [f64; 5] = [1.5, 2.0, 4.0, 8.0, 16.0];
/// Evidence is always tempered by this: there is nothing to measure dispersion by.
const DISPERSION: f64 = 2.0;

/// The test of one operation without a control.
#[derive(Debug, Clone)]
pub(crate) struct AloneTest {
    pub(crate) standing: Standing,
    pub(crate) errors: f64,
    pub(crate) requests: f64,
    logs: [f64; MULTIPLES.len()],
}

impl Default for AloneTest {
    fn default() -> Self {
        let standing = Standing { dispersion: DISPERSION, ..Standing::default() };
        Self { standing, errors: 0.0, requests: 0.0, logs: [0.0; MULTIPLES.len()] }
    }
}

impl AloneTest {
    /// Takes one bucket; `usual` is the share of failed requests of the service's control.
    pub(crate) fn push(&mut self, bucket: Bucket, errors: f64, requests: f64, usual: f64, tolerances: &Tolerances) {
        if requests <= 0.0 {
            return;
        }
        let objective = objective(usual, tolerances);
        for (log, multiple) in self.logs.iter_mut().zip(MULTIPLES) {
            let share = (objective * multiple).min(0.5 * (1.0 + objective));
            *log += (errors * (share / objective).ln()
                + (requests - errors) * ((1.0 - share) / (1.0 - objective)).ln())
                / DISPERSION;
        }
        self.errors += errors;
        self.requests += requests;
        self.standing.moved(log_mean(&self.logs));
        if self.standing.exceeded_at.is_none()
            && self.requests >= tolerances.requests_min as f64
            && self.share_interval(tolerances.bound_alpha)[0] > objective
        {
            self.standing.exceeded_at = Some(bucket);
        }
    }

    /// Returns bounds of the share of failed requests.
    pub(crate) fn share_interval(&self, alpha: f64) -> [f64; 2] {
        let (low, high) = rate::bounds(self.errors / DISPERSION, self.requests / DISPERSION, alpha);
        [low, high]
    }
}

/// The share of failed requests that is tolerated of what has no control.
pub(crate) fn objective(usual: f64, tolerances: &Tolerances) -> f64 {
    tolerances.slo_errors.max(tolerances.error_ratio * usual).min(0.9)
}
