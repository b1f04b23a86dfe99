//! Traffic itself: requests that no longer come, and a version from which nothing comes.
//!
//! *Throughput.* Minute by minute the requests of the whole service, candidate and control together, are held against a
//! minute before the start. The e-process tests "the minute before had at most `1 / (1 - throughput_drop)` times as many";
//! what its callers ask less of it is excused. Evidence is tempered by how much the minutes before vary among each other.
//!
//! *Silence.* A candidate that was expected to serve and does not: never, or no more. Expected are the requests that its
//! share of the traffic would have brought; the probability of none is `exp(-expected / dispersion)`.

use std::collections::VecDeque;

use plimsoll_model::Bucket;
use plimsoll_model::signal::{OperationCell, WEIGHT_UNIT};

use crate::dispersion;
use crate::e_process::{Exceedance, Stratum};
use crate::standing::Standing;
use crate::tolerances::Tolerances;

const MINUTE: usize = 6;
/// Minutes of the past without which nothing is expected.
const MINUTES_MIN: usize = 5;
/// Share of the traffic that a candidate is taken to get at least, once its deploy is done.
const SHARE_MIN: f64 = 0.02;
/// Requests that must be missing.
const MISSING_MIN: f64 = 20.0;

/// Requests of one bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) candidate: f64,
    pub(crate) control: f64,
    /// Requests of those that call the service.
    pub(crate) callers: f64,
    /// Times as many requests before as now that time alone explains; less than one stands for one.
    pub(crate) excused: f64,
}

/// Requests that a cell stands for.
pub(crate) fn weight(cell: &OperationCell) -> f64 {
    // Rows written before there were weights have none.
    (cell.weighted_requests as f64 / WEIGHT_UNIT as f64).max(cell.requests as f64)
}

/// Both tests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    pub(crate) throughput: Standing,
    pub(crate) silence: Standing,
    /// Requests a minute before the start, nearest first, and of the callers.
    before: Vec<(f64, f64)>,
    test: Exceedance,
    dispersion: f64,
    minute: Vec<Traffic>,
    minutes: usize,
    /// Requests a minute before and since, over the minutes compared.
    pub(crate) compared: (f64, f64),
    /// Requests that were to come in those minutes.
    expected: f64,
    /// The candidate's latest requests, at most those of [`Tolerances::silence_s`].
    latest: VecDeque<f64>,
    /// Greatest requests of the candidate in one minute.
    pub(crate) best_minute: f64,
    /// Requests that are missing since the candidate fell silent.
    pub(crate) missing: f64,
    pub(crate) last_seen: Option<Bucket>,
}

impl Flow {
    /// Starts from the buckets before, nearest to the start first.
    pub(crate) fn new(before: &[Traffic]) -> Self {
        let sum = |part: &[Traffic]| {
            part.iter().fold((0.0, 0.0), |sum, t| (sum.0 + t.candidate + t.control, sum.1 + t.callers))
        };
        let minutes: Vec<(f64, f64)> = before.chunks_exact(MINUTE).map(sum).collect();
        // Counts against a constant far larger than they are: what is measured is how they vary, as counts.
        let counts: Vec<(f64, f64)> = minutes.iter().map(|m| (m.0, 1e9)).collect();
        let dispersion = dispersion::of_arm(&counts).phi;
        let throughput = Standing { dispersion, ..Standing::default() };
        let silence = Standing { dispersion, ..Standing::default() };
        Self { before: minutes, dispersion, throughput, silence, ..Self::default() }
    }

    /// Takes one bucket. `expected` says whether the candidate is to serve by now.
    pub(crate) fn push(&mut self, bucket: Bucket, traffic: Traffic, expected: bool, tolerances: &Tolerances) {
        self.minute.push(traffic);
        if self.minute.len() == MINUTE {
            self.compare(bucket, tolerances);
        }
        self.latest.push_back(traffic.candidate);
        while self.latest.len() as u64 > (tolerances.silence_s / 10).max(1) {
            self.latest.pop_front();
        }
        if traffic.candidate > 0.0 {
            self.last_seen = Some(bucket);
            self.missing = 0.0;
            self.silence = Standing { dispersion: self.dispersion, ..Standing::default() };
        }
        let minute: f64 = self.latest.iter().rev().take(MINUTE).sum();
        self.best_minute = self.best_minute.max(minute);
        let usual = self.before.first().map_or(0.0, |_| {
            self.before.iter().take(30).map(|m| m.0).sum::<f64>() / self.before.len().clamp(1, 30) as f64
        });
        if !expected || self.before.len() < MINUTES_MIN || traffic.candidate > 0.0 {
            return;
        }
        self.missing += (SHARE_MIN * usual).max(0.5 * self.best_minute) / MINUTE as f64;
        let full = self.latest.len() as u64 >= (tolerances.silence_s / 10).max(1);
        if full && self.latest.iter().all(|n| *n <= 0.0) && self.missing >= MISSING_MIN {
            self.silence.moved(0.5 * self.missing / self.dispersion.min(4.0) - std::f64::consts::LN_2);
            self.silence.exceeded_at = self.silence.exceeded_at.or(Some(bucket));
        }
    }

    fn compare(&mut self, bucket: Bucket, tolerances: &Tolerances) {
        let drifted = self.minute.iter().map(|t| t.excused).fold(1.0, f64::max);
        let after =
            self.minute.drain(..).fold((0.0, 0.0), |sum, t| (sum.0 + t.candidate + t.control, sum.1 + t.callers));
        let Some(before) = self.before.get(self.minutes).copied() else { return };
        self.minutes += 1;
        if self.before.len() < MINUTES_MIN {
            return;
        }
        let called = if after.1 > 0.0 && before.1 > 0.0 { (before.1 / after.1).max(1.0) } else { 1.0 };
        let excused = called.max(drifted);
        let s = Stratum {
            bucket,
            bad_b: before.0,
            n_b: 1.0,
            bad_a: after.0,
            n_a: 1.0,
            handicap: excused,
            caution: tolerances.drift_caution,
        };
        self.test.push(&s, 1.0 / (1.0 - tolerances.throughput_drop), self.dispersion);
        self.compared = (self.compared.0 + before.0, self.compared.1 + after.0);
        self.throughput.moved(self.test.value());
        self.expected += before.0 / excused;
        let lost = 1.0 - self.compared.1 / self.expected.max(1.0);
        if self.throughput.exceeded_at.is_none()
            && lost > tolerances.throughput_drop
            && self.expected - self.compared.1 >= MISSING_MIN
        {
            self.throughput.exceeded_at = Some(bucket);
        }
    }
}
