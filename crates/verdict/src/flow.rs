//! Traffic itself: requests that no longer come, and a version from which nothing comes.
//!
//! *Throughput.* Minute by minute the requests of the whole service, candidate and control together, are held against a
//! minute before the start. The e-process tests "the minute before had at most `1 / (1 - throughput_drop)` times as many";
//! what its callers ask less of it is excused. A minute in which nothing was to come, because its callers are silent, because
//! nothing comes at that hour or because no telemetry comes at all, says nothing. Evidence is tempered by how much the minutes
//! before vary among each other, and by what the same test says at other times of the past ([`crate::placebo`]).
//!
//! *Silence.* A candidate that was expected to serve and does not: never, or no more. Expected are the requests that its
//! share of the traffic would have brought; the probability of none is `exp(-expected / dispersion)`. One that was never
//! met is expected once its deploy is done, or once it took longer than others ([`Due`]); before that it is, as is one that
//! was met, only as far as nobody else serves what it should: where the control carries all the traffic, a canary has
//! ended or a rollout has not begun. The first request refutes it.

use std::collections::VecDeque;

use plimsoll_model::Bucket;
use plimsoll_model::signal::{OperationCell, WEIGHT_UNIT};

use crate::dispersion;
use crate::e_process::{Exceedance, Stratum};
use crate::placebo::{self, Placebos};
use crate::rate;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

const MINUTE: usize = 6;
/// Minutes of the past without which nothing is expected.
const MINUTES_MIN: usize = 5;
/// Share of the traffic that a candidate is taken to get at least, once its deploy is done.
const SHARE_MIN: f64 = 0.02;
/// Requests that must be missing.
const MISSING_MIN: f64 = 20.0;
/// Requests of the callers, for one of the service, with which it is they who send them.
const CALLED_MIN: f64 = 0.05;
/// Share of all traffic that must be lost where a candidate is missed by that.
const LOST_MIN: f64 = 0.1;
/// Buckets in which a candidate served last, by which it is missed.
const SERVED: usize = 30;

/// What is expected of the candidate by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing: it may come, and it may end.
    Nothing,
    /// It may serve by now: it is missed where nobody else carries what it should.
    Share,
    /// Its deploy is done, or took longer than those before: it is missed whoever serves.
    First,
}

/// Requests of one bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) candidate: f64,
    pub(crate) control: f64,
    /// Requests of those that call the service; infinite where they are not known, and taken to call as ever.
    pub(crate) callers: f64,
    /// Times as many requests before as now that time alone explains; less than one stands for one, and infinite is where
    /// none are to come.
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
    /// The same at other times before the start.
    placebos: Placebos,
    /// The rank among them as the evidence was largest.
    rank: Option<f64>,
    dispersion: f64,
    minute: Vec<Traffic>,
    minutes: usize,
    /// Those that were compared, for the interval of the effect.
    falls: Vec<Stratum>,
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
    /// Since when it serves again, or at all.
    serving_since: Option<Bucket>,
    /// Requests of the candidate and of all others in the buckets up to the last in which it was seen, and of the others
    /// since, with the number of buckets.
    served: VecDeque<(f64, f64)>,
    alone: (f64, f64),
    /// The callers' latest requests, a minute of them.
    called: VecDeque<f64>,
}

impl Flow {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.before[..]) + size_of_val(&self.minute[..]) + size_of_val(&self.falls[..])
    }

    /// Starts from the buckets before, nearest to the start first.
    pub(crate) fn new(before: &[Traffic]) -> Self {
        let sum = |part: &[Traffic]| {
            part.iter().fold((0.0, 0.0), |sum, t| (sum.0 + t.candidate + t.control, sum.1 + t.callers))
        };
        let minutes: Vec<(f64, f64)> = before.chunks_exact(MINUTE).map(sum).collect();
        let counts: Vec<(f64, f64)> = minutes.iter().map(|m| (m.0, 1.0)).collect();
        let dispersion = dispersion::of_counts(&counts).phi;
        let placebos = Placebos::of(&minutes);
        let varies = if placebos.tell() { placebo::varies(&minutes, dispersion) } else { dispersion };
        let throughput = Standing { dispersion: varies, ..Standing::default() };
        let silence = Standing { dispersion, ..Standing::default() };
        Self { before: minutes, placebos, dispersion, throughput, silence, ..Self::default() }
    }

    /// Takes one bucket. `due` says what is expected of the candidate by now.
    pub(crate) fn push(&mut self, bucket: Bucket, traffic: Traffic, due: Due, tolerances: &Tolerances) {
        self.minute.push(traffic);
        if self.minute.len() == MINUTE {
            self.compare(bucket, tolerances);
        }
        self.called.push_back(traffic.callers);
        while self.called.len() > MINUTE {
            self.called.pop_front();
        }
        if traffic.candidate <= 0.0 && (!traffic.excused.is_finite() || self.is_uncalled()) {
            return;
        }
        self.latest.push_back(traffic.candidate);
        while self.latest.len() as u64 > (tolerances.silence_s / 10).max(1) {
            self.latest.pop_front();
        }
        if traffic.candidate > 0.0 {
            let silent = self.last_seen.is_none_or(|at| bucket.0 - at.0 > tolerances.silence_s / 10);
            self.serving_since = self.serving_since.filter(|_| !silent).or(Some(bucket));
            self.last_seen = Some(bucket);
            self.missing = 0.0;
            self.alone = (0.0, 0.0);
            self.served.push_back((traffic.candidate, traffic.control));
            while self.served.len() > SERVED {
                self.served.pop_front();
            }
            self.silence = Standing { dispersion: self.dispersion, ..Standing::default() };
        }
        let minute: f64 = self.latest.iter().rev().take(MINUTE).sum();
        self.best_minute = self.best_minute.max(minute);
        let usual = self.before.first().map_or(0.0, |_| {
            self.before.iter().take(30).map(|m| m.0).sum::<f64>() / self.before.len().clamp(1, 30) as f64
        });
        if traffic.candidate > 0.0 {
            return;
        }
        self.alone = (self.alone.0 + traffic.control, self.alone.1 + 1.0);
        let first = due == Due::First && self.last_seen.is_none();
        if due == Due::Nothing || self.before.len() < MINUTES_MIN || !(first || self.is_missed(usual)) {
            self.missing = 0.0;
            self.silence = Standing { dispersion: self.dispersion, ..Standing::default() };
            return;
        }
        self.missing += (SHARE_MIN * usual).max(0.5 * self.best_minute) / MINUTE as f64;
        let full = self.latest.len() as u64 >= (tolerances.silence_s / 10).max(1);
        if full && self.latest.iter().all(|n| *n <= 0.0) && self.missing >= MISSING_MIN {
            self.silence.moved(0.5 * self.missing / self.dispersion.min(4.0) - std::f64::consts::LN_2);
            self.silence.exceeded_at = self.silence.exceeded_at.or(Some(bucket));
        }
    }

    /// Says whether those that send its requests were heard before and are silent.
    fn is_uncalled(&self) -> bool {
        let minutes = self.before.iter().take(30);
        let (requests, calls) = minutes.fold((0.0, 0.0), |sum, minute| (sum.0 + minute.0, sum.1 + minute.1));
        let minute = calls / self.before.len().clamp(1, 30) as f64;
        let silent = self.called.len() == MINUTE && self.called.iter().sum::<f64>() <= 0.0;
        silent && minute >= 5.0 && calls >= CALLED_MIN * requests
    }

    /// Says whether by `end` the candidate serves, and has for so long that silence is refuted.
    pub(crate) fn serves(&self, end: Bucket, tolerances: &Tolerances) -> bool {
        let recent = self.last_seen.is_some_and(|at| at.0 + MINUTE as u64 >= end.0);
        recent && self.serving_since.is_some_and(|at| at.0 + tolerances.recovery_s / 10 <= end.0)
    }

    /// How often the past shows such a fall by chance, as it was when most spoke for it; `None` where it is too short to tell.
    pub(crate) fn rank(&self) -> Option<f64> {
        self.rank.or_else(|| self.placebos.rank(self.test.value()))
    }

    /// Bounds of the requests a minute since the start over those before; both hold at all times with probability `1 - alpha`, as far as
    /// traffic varies as it did before.
    ///
    /// No moment of the past changed anything, so what the same minutes there say against "as many" is what traffic says by itself:
    /// a ratio is left out where the evidence against it is more than the most of that. What time of day and callers explain
    /// is left to the upper bound.
    pub(crate) fn interval(&self, alpha: f64) -> [f64; 2] {
        let phi = self.throughput.dispersion;
        let caution = self.falls.first().map_or(1.0, |fall| fall.caution);
        let mut past = Placebos::of(&self.before);
        for minute in 0..self.minutes {
            past.push(minute, &self.before, |test, before, after| {
                let fall = Stratum {
                    bucket: Bucket(0),
                    bad_b: before.0,
                    n_b: 1.0,
                    bad_a: after.0,
                    n_a: 1.0,
                    handicap: 1.0,
                    caution,
                };
                test.push(&fall, 1.0, phi);
            });
        }
        let rises: Vec<Stratum> = self.falls.iter().map(Stratum::swapped).collect();
        rate::not_rejected(&rises, &self.falls, phi, (2.0 / alpha).ln() + past.largest())
    }

    /// Bounds of the requests a second of the candidate over those before, as `(requests, seconds)` of each; both hold at all times with
    /// probability `1 - alpha`, as far as traffic varies as it did before.
    pub(crate) fn silence_interval(&self, candidate: (f64, f64), before: (f64, f64), alpha: f64) -> [f64; 2] {
        rate::count_ratio(candidate, before, self.dispersion, alpha)
    }

    /// Says whether what the candidate should serve, nobody serves; `usual` are the requests of a minute before the start.
    fn is_missed(&self, usual: f64) -> bool {
        let (others, buckets) = self.alone;
        // In a bucket: all of it, and what part the candidate had. One that never came is to take over all.
        let (all, own) = if self.served.is_empty() {
            (usual / MINUTE as f64, usual / MINUTE as f64)
        } else {
            let n = self.served.len() as f64;
            let (own, beside) = self.served.iter().fold((0.0, 0.0), |sum, (b, a)| (sum.0 + b, sum.1 + a));
            ((own + beside) / n, own / n)
        };
        let lost = all * buckets - others;
        let noise = 3.0 * (self.dispersion.max(1.0) * all * buckets).sqrt();
        lost >= (0.5 * own).max(LOST_MIN * all) * buckets && lost >= noise
    }

    fn compare(&mut self, bucket: Bucket, tolerances: &Tolerances) {
        let drifted = self.minute.iter().map(|t| t.excused).fold(1.0, f64::max);
        let after =
            self.minute.drain(..).fold((0.0, 0.0), |sum, t| (sum.0 + t.candidate + t.control, sum.1 + t.callers));
        let Some(before) = self.before.get(self.minutes).copied() else { return };
        let minute = self.minutes;
        self.minutes += 1;
        if self.before.len() < MINUTES_MIN {
            return;
        }
        let excused = uncalled(before, after).max(drifted);
        if !excused.is_finite() {
            return;
        }
        let (ratio, phi) = (1.0 / (1.0 - tolerances.throughput_drop), self.throughput.dispersion);
        let fallen = fall(bucket, before.0, after.0, excused, tolerances);
        self.test.push(&fallen, ratio, phi);
        self.falls.push(fallen);
        self.placebos.push(minute, &self.before, |test, before, after| {
            let excused = uncalled(before, after);
            if excused.is_finite() {
                test.push(&fall(bucket, before.0, after.0, excused, tolerances), ratio, phi);
            }
        });
        self.compared = (self.compared.0 + before.0, self.compared.1 + after.0);
        let log_e = self.placebos.tempered(self.test.value());
        if log_e > self.throughput.sup {
            self.rank = self.placebos.rank(self.test.value());
        }
        self.throughput.moved(log_e);
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

/// Times as much as before that callers ask less; infinite where they ask nothing any more.
fn uncalled(before: (f64, f64), after: (f64, f64)) -> f64 {
    match before.1 > 0.0 {
        true if after.1 > 0.0 => (before.1 / after.1).max(1.0),
        true if before.1 >= CALLED_MIN * before.0 => f64::INFINITY,
        _ => 1.0,
    }
}

/// Requests of a minute against those of another, as a stratum.
fn fall(bucket: Bucket, before: f64, after: f64, handicap: f64, tolerances: &Tolerances) -> Stratum {
    let caution = tolerances.drift_caution;
    Stratum { bucket, bad_b: before, n_b: 1.0, bad_a: after, n_a: 1.0, handicap, caution }
}
