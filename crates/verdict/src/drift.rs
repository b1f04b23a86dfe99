//! What would have changed without the deploy: the second difference of "difference in differences".
//!
//! Where the control is the time before, two things tell what time alone does to a service:
//! - *the same hours before*, yesterday and a week ago ([`crate::seasons`]);
//! - *services that were not touched* ([`crate::untouched`]): what most of them go through at once.
//!
//! Of both the larger change is excused; a change for the better excuses nothing. Growth measured on few failures is drawn
//! towards none. Traffic that is gone altogether, then or there, excuses any loss; where nothing comes from most of the
//! environment, or from nobody at all, it is telemetry that is missing, and nothing is concluded from that time.
//!
//! *Invariants.* What is excused in a bucket follows from that bucket and earlier ones.
//!
//! *Source.* Card and Krueger (1994) for the design; Zhang et al., "FUNNEL: assessing software changes in web-based
//! services" (2016), which takes seasons and untouched servers as controls.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::aggregates::{HistoryCell, Vitals};
use plimsoll_model::signal::LOG_UNIT;

use crate::design::Frame;
use crate::echoes::SAID_EACH;
use crate::input::JudgeInput;
use crate::seasons::{self, DAYS, changed};
use crate::untouched::Untouched;

/// Requests that a stretch must have, or must have been expected to have, to tell anything.
pub(crate) const REQUESTS_MIN: f64 = 20.0;
/// Failures at the usual rate that are added to both sides of a growth.
const PRIOR: f64 = 5.0;
/// Standard deviations of a count of failures that are noise.
const NOISE: f64 = 2.0;
/// A growth below this is noise; the drift that is always tolerated covers it.
const RATIO_MIN: f64 = 1.25;
const SLOWER_MIN: f64 = 1.05;
/// Traffic that is less than this share of what was expected is gone.
const GONE: f64 = 0.1;

/// Buckets after which what is over says nothing against health.
const LATELY: usize = 30;

/// Buckets for which the same hours are worked out ahead: as far as a fold is carried on.
const AHEAD: u64 = crate::session::AFRESH + 1;

/// What is excused in one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Excused {
    /// Times as many failures a request, at least one.
    pub(crate) errors: f64,
    /// Share of requests that fail in addition.
    pub(crate) points: f64,
    /// Times the latency, at least one.
    pub(crate) latency: f64,
    /// Times as many requests before as now, at least one; infinite where none is to be expected.
    pub(crate) traffic: f64,
    /// True where most of the untouched services fail more.
    pub(crate) shared: bool,
    /// True where nothing comes from most of the untouched services, or from anybody.
    pub(crate) dark: bool,
}

impl Default for Excused {
    fn default() -> Self {
        Self { errors: 1.0, points: 0.0, latency: 1.0, traffic: 1.0, shared: false, dark: false }
    }
}

impl Excused {
    /// Failures that `n` requests of the control would have had in addition, at its usual `rate`.
    pub(crate) fn failures(&self, rate: f64, n: f64) -> f64 {
        n * self.points.max(rate * (self.errors - 1.0)).min(1.0 - rate.min(1.0))
    }

    /// Exceptions or messages that were never there before and that may come of what all go through, where of `n` requests, `bad` failed: one for each failure
    /// that is excused, as it may have been caught, and as many as a failure leaves for each that is there.
    pub(crate) fn said(&self, rate: f64, n: f64, bad: f64) -> f64 {
        let failures = self.failures(rate, n);
        let there = (bad - rate * n).clamp(0.0, failures);
        let said = failures + (SAID_EACH - 1.0) * there;
        said + 2.0 * said.sqrt()
    }

    /// Returns the larger of both in everything.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            errors: self.errors.max(other.errors),
            points: self.points.max(other.points),
            latency: self.latency.max(other.latency),
            traffic: self.traffic.max(other.traffic),
            shared: self.shared || other.shared,
            dark: self.dark || other.dark,
        }
    }
}

/// How requests went: failures and latency, after over before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fared {
    pub(crate) errors: f64,
    pub(crate) points: f64,
    pub(crate) latency: f64,
}

/// How something changed: after over before. What is too thin to tell is not there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) fared: Option<Fared>,
    pub(crate) traffic: Option<f64>,
}

impl Change {
    pub(crate) fn excused(self) -> Excused {
        let mut excused = Excused::default();
        if let Some(fared) = self.fared {
            if fared.errors >= RATIO_MIN && fared.points > 0.0 {
                (excused.errors, excused.points) = (fared.errors, fared.points);
            }
            if fared.latency >= SLOWER_MIN {
                excused.latency = fared.latency;
            }
        }
        if let Some(traffic) = self.traffic {
            excused.traffic = if traffic < GONE { f64::INFINITY } else { (1.0 / traffic).max(1.0) };
        }
        excused
    }
}

/// Requests, failures and logarithms of latency over some seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Level {
    pub(crate) seconds: f64,
    pub(crate) requests: f64,
    pub(crate) errors: f64,
    pub(crate) log_sum: f64,
}

impl Level {
    pub(crate) fn add_vitals(&mut self, vitals: &Vitals) {
        self.requests += vitals.requests as f64;
        self.errors += vitals.errors as f64;
        self.log_sum += vitals.log_latency_sum as f64 / LOG_UNIT;
    }

    pub(crate) fn add_history(&mut self, cell: &HistoryCell) {
        self.requests += cell.requests as f64;
        self.errors += cell.errors as f64;
        self.log_sum += cell.log_latency_sum as f64 / LOG_UNIT;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.requests += other.requests;
        self.errors += other.errors;
        self.log_sum += other.log_sum;
    }

    /// Returns how requests fare since `before`, where such counts vary by `dispersion` times chance without any reason;
    /// `None` where either is too thin.
    pub(crate) fn fared_since(&self, before: &Self, dispersion: f64) -> Option<Fared> {
        if self.requests < REQUESTS_MIN || before.requests < REQUESTS_MIN {
            return None;
        }
        let usual = before.errors / before.requests;
        let expected = usual * self.requests;
        let prior = PRIOR * dispersion.max(1.0);
        let errors = (self.errors + prior) / (expected + prior);
        let latency = (self.log_sum / self.requests - before.log_sum / before.requests).exp();
        // What chance alone would add is nothing that all go through.
        let beyond = self.errors - expected - NOISE * (dispersion.max(1.0) * (expected + PRIOR)).sqrt();
        Some(Fared { errors, points: beyond.max(0.0) / self.requests, latency })
    }

    /// Returns its traffic over that of `before`; `None` where too little was to come.
    pub(crate) fn traffic_since(&self, before: &Self) -> Option<f64> {
        let expected = before.expected_in(self.seconds);
        (expected >= REQUESTS_MIN).then(|| self.requests / expected)
    }

    /// Requests to expect in so many seconds.
    pub(crate) fn expected_in(&self, seconds: f64) -> f64 {
        if self.seconds > 0.0 { self.requests / self.seconds * seconds } else { 0.0 }
    }
}

/// What time alone does, bucket by bucket since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drift {
    by_bucket: BTreeMap<Bucket, Excused>,
    /// What the same hours excuse in the buckets after those.
    ahead: BTreeMap<Bucket, Excused>,
    /// Days before whose same hours were held.
    pub(crate) days: Vec<u32>,
    /// True where a day was left out because the service was changed then.
    pub(crate) left_out: bool,
    /// Untouched services that were looked at.
    pub(crate) untouched: Vec<String>,
    /// True where the same hours excused anything that services which were not touched did not share.
    pub(crate) seasonal: bool,
}

impl Drift {
    /// Works it out for the buckets of `frame` since the start.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let mut drift = Self::default();
        let seasons = seasons::of(input, frame);
        drift.days = seasons.iter().map(|(day, _)| *day).collect();
        let held = !(input.aggregates.history.is_empty() && input.aggregates.metric_history.is_empty());
        drift.left_out = held && DAYS.iter().any(|day| changed(input, frame, *day));
        let untouched = Untouched::of(input, frame);
        drift.untouched = untouched.names();
        let alone = seasons.is_empty() && drift.untouched.is_empty();
        for bucket in frame.start.0..frame.end.0 {
            let dark = input.is_gap(Bucket(bucket));
            if alone && !dark {
                continue;
            }
            let (shared, usual) = (untouched.at(bucket), seasons::excused(&seasons, bucket));
            let moved = usual.errors > 1.0 || usual.latency > 1.0 || usual.traffic > RATIO_MIN;
            drift.seasonal |= moved && !shared.shared;
            let excused = shared.or(usual);
            drift.by_bucket.insert(Bucket(bucket), Excused { dark: dark || excused.dark, ..excused });
        }
        if !seasons.is_empty() {
            for bucket in frame.end.0..frame.end.0 + AHEAD {
                drift.ahead.insert(Bucket(bucket), seasons::excused(&seasons, bucket));
            }
        }
        drift
    }

    /// Returns what is excused in `bucket`. Of one that came since it was worked out the same hours are known, and not what the
    /// untouched services go through: that excuses nothing, so that whoever looks at the service alone sees no less in it
    /// than who looks at all.
    pub(crate) fn at(&self, bucket: Bucket) -> Excused {
        self.by_bucket.get(&bucket).or_else(|| self.ahead.get(&bucket)).copied().unwrap_or_default()
    }

    /// Says whether most of the untouched services failed more at some time.
    pub(crate) fn shared(&self) -> bool {
        self.by_bucket.values().any(|excused| excused.shared)
    }

    /// Says whether they do, or did lately.
    pub(crate) fn shared_lately(&self) -> bool {
        self.by_bucket.values().rev().take(LATELY).any(|excused| excused.shared)
    }

    /// Says whether telemetry was missing for a while.
    pub(crate) fn dark(&self) -> bool {
        self.by_bucket.values().any(|excused| excused.dark)
    }
}
