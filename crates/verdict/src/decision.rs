//! From tests to an answer: regressed, pass or inconclusive, and how far along.
//!
//! - *Suspected* from the moment the gate has opened and a finding's lower bound exceeds its tolerance.
//! - *Confirmed*, and only then `regressed`, once the time after that still shows more than half the tolerance, and of failures
//!   more than one that strays; at once where at least [`crate::LARGE_ERRORS`] errors occurred at [`crate::LARGE_RATIO`] times the
//!   control's rate, and where failures are shown by several buckets of which none gave more than half of the evidence.
//! - *Recovered* once a confirmed regression has been below half the tolerance for [`Tolerances::recovery_s`], by the control of
//!   the same time or else by what it was found against, or the candidate has had no traffic for so long while the control had
//!   some; confirmed again once chance does not make what came since ([`crate::relapse`]).
//! - *Pass* only where errors and latency of the service as a whole are shown to be within tolerance, averaged over its
//!   operations by traffic, none of its larger operations looks worse, and those without a control do not fail.
//!
//! What is said at a moment follows from the buckets up to it; the former verdict only keeps what was once decided from
//! being taken back.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, Design, UnixNanos};

use crate::e_process::{Exceedance, Stratum};
use crate::fold::Fold;
use crate::gate::LASTING_REQUESTS;
use crate::input::JudgeInput;
use crate::rate::{RateSums, Rates};
use crate::relapse::relapsed;
use crate::subject::Subject;
use crate::tolerances::Tolerances;

/// Share of requests from which an operation that looks worse forbids a pass.
const LARGER_OPERATION: f64 = 0.1;

/// Minutes of the candidate's metrics without which their levels are not shown to be well.
const MINUTES_MIN: u64 = 10;

/// The answer in its raw form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decision {
    pub(crate) phase: Phase,
    /// When it was confirmed.
    pub(crate) confirmed_at: Option<UnixNanos>,
    pub(crate) pass: bool,
    pub(crate) time_to_decide_s: Option<u64>,
}

/// Decides.
pub(crate) fn decide(input: &JudgeInput, fold: &Fold) -> Decision {
    let tolerances = &input.tolerances;
    let end = fold.frame.end;
    let triggered: Vec<(Subject, Bucket)> = fold
        .subjects()
        .into_iter()
        .filter_map(|(subject, _)| {
            let standing = fold.standing(subject);
            standing
                .triggered_at
                .filter(|_| !standing.elsewhere && !fold.is_suppressed(subject))
                .map(|at| (subject, at))
        })
        .collect();
    let confirmed = triggered.iter().filter_map(|(subject, _)| fold.standing(*subject).confirmed_at).min();
    let was_over = input.previous.as_ref().is_some_and(|former| former.phase == Phase::Recovered);
    let is_back = || {
        let since = Bucket(end.0.saturating_sub(tolerances.recovery_s.div_ceil(10)));
        let told: Vec<Subject> = triggered
            .iter()
            .map(|(subject, _)| *subject)
            .filter(|subject| fold.standing(*subject).confirmed_at.is_some())
            .collect();
        relapsed(input, fold, &told, since, end)
    };
    let phase = match confirmed {
        Some(_) if recovered(input, fold, &triggered, end) => Phase::Recovered,
        Some(_) if was_over && !is_back() => Phase::Recovered,
        Some(_) => Phase::Confirmed,
        None if triggered.iter().any(|(subject, at)| pending(fold, *subject, *at, end, tolerances)) => Phase::Suspected,
        None => Phase::Clear,
    };
    let levels = fold.by_levels();
    let minutes = fold.metrics.iter().map(|metric| metric.minutes).min().unwrap_or(0);
    let watched = match fold.first {
        Some(first) => input.known_until().since(first.start()).as_secs(),
        None if levels => 60 * minutes,
        None => 0,
    };
    let wholes = wholes(fold, tolerances);
    let well = if levels { levels_well(fold, minutes, tolerances) } else { shown_well(fold, &wholes, tolerances) };
    let shown = phase == Phase::Clear && well;
    // Failures that come seldom and many at once say nothing while none comes: as long as it took before one did.
    let watch_min = tolerances.watch_min_s.max((10 * fold.health.patience).min(tolerances.watch_max_s / 2));
    Decision {
        phase,
        confirmed_at: confirmed.map(|bucket| bucket.end().min(input.now)),
        pass: shown && watched >= watch_min,
        time_to_decide_s: if shown {
            Some(watch_min.saturating_sub(watched))
        } else if fold.share.mismatch(tolerances).is_some() || !fold.new_fatals().is_empty() {
            // More of the same traffic changes nothing of that.
            None
        } else if levels {
            Some(60 * MINUTES_MIN.saturating_sub(minutes)).filter(|seconds| *seconds > 0)
        } else {
            projected(fold, &wholes, (watched, watch_min), tolerances)
        },
    }
}

/// Says whether a trigger still waits to be confirmed, rather than having been refuted by what came after.
fn pending(fold: &Fold, subject: Subject, at: Bucket, end: Bucket, tolerances: &Tolerances) -> bool {
    let from = Bucket(at.0 + 1).max(fold.recurs_until(subject, end).unwrap_or_default());
    let (excess, requests) = fold.excess(subject, from, end, tolerances);
    excess || requests < LASTING_REQUESTS
}

fn recovered(input: &JudgeInput, fold: &Fold, triggered: &[(Subject, Bucket)], end: Bucket) -> bool {
    let window = input.tolerances.recovery_s.div_ceil(10);
    // Looked at up to the present, though a later deploy may have ended the time in which this one is compared.
    let since = Bucket((input.known_until().bucket().0 + 1).saturating_sub(window));
    let served = |candidate: bool| -> bool {
        input
            .series
            .iter()
            .filter(|s| s.key.service == input.deploy.service && (s.key.version == fold.frame.version) == candidate)
            .flat_map(|s| &s.cells)
            .any(|(bucket, cell)| *bucket >= since && cell.requests > 0)
    };
    // What went silent by itself has not recovered; what was bad and is gone has.
    let earliest = triggered.iter().min_by_key(|(_, at)| *at);
    let silent = earliest.is_some_and(|(subject, _)| matches!(subject, Subject::Silence | Subject::Restarts));
    if since >= fold.frame.from && !served(true) && !silent {
        return served(false);
    }
    let from = Bucket(end.0.saturating_sub(window));
    triggered.iter().all(|(subject, at)| {
        let (excess, requests) = fold.excess(*subject, from, end, &input.tolerances);
        *at < from && !excess && requests >= LASTING_REQUESTS
    })
}

/// One signal over the whole service.
struct Whole {
    rates: Rates,
    dispersion: f64,
    /// Largest tolerated difference of the rates.
    tolerated: f64,
    /// Logarithm of the e-process of "worse than tolerated", which a pass refutes.
    refuted: f64,
    /// The same of the difference itself, stratum by stratum, now and at its largest, where that is tested.
    closeness: (f64, f64),
}

impl Whole {
    fn of(parts: &[(RateSums, f64, f64)], tolerated: f64) -> Option<Self> {
        let mut sums = RateSums::default();
        let (mut weighted, mut weight) = (0.0, 0.0);
        for (part, dispersion, n) in parts {
            sums.add(part);
            weighted += n * dispersion;
            weight += n;
        }
        if weight <= 0.0 {
            return None;
        }
        let (rates, dispersion) = (sums.rates(), weighted / weight);
        // Worse than tolerated: candidate's rate at least `rate_a + tolerated`, so the control's over it at most `ratio`.
        let ratio = rates.rate_a / (rates.rate_a + tolerated);
        let mut test = Exceedance::default();
        test.push(
            &Stratum {
                bucket: Bucket(0),
                bad_b: rates.rate_a * rates.n_a,
                n_b: rates.n_a,
                bad_a: rates.bad_b,
                n_a: rates.n_b,
                handicap: 1.0,
                caution: 1.0,
            },
            ratio,
            dispersion,
        );
        let refuted = if rates.rate_a > 0.0 { test.value() } else { 0.0 };
        Some(Self { rates, dispersion, tolerated, refuted, closeness: (f64::NEG_INFINITY, f64::NEG_INFINITY) })
    }

    /// Says whether it would be shown to be within tolerance with `times` the data.
    fn within(&self, times: f64, alpha: f64) -> bool {
        let by_ratio =
            self.rates.rate_b() < self.rates.rate_a + self.tolerated && self.refuted * times >= (1.0 / alpha).ln();
        // What was once shown stays shown, as long as nothing speaks against it since.
        let (now, once) = self.closeness;
        let by_difference = now >= 0.0 && (now * times).max(once) >= (1.0 / alpha).ln();
        by_difference || by_ratio || self.rates.scaled(times).difference(self.dispersion, alpha).1 < self.tolerated
    }
}

/// The two things that must be shown of the service as a whole: errors, and latency against the tolerated growth.
///
/// Strata are standardised one by one, so operations are averaged by the candidate's traffic and never pooled.
fn wholes(fold: &Fold, tolerances: &Tolerances) -> Option<[Whole; 2]> {
    let compared = || fold.operations.iter().filter(|op| op.paired > 0);
    let weight = |rates: &Rates| rates.bad_b + rates.rate_a * rates.n_b + 1e-9;
    let errors: Vec<_> = compared()
        .map(|op| {
            let dispersion = op.errors.standing.dispersion * op.errors.caution();
            (op.errors.plain, dispersion, weight(&op.errors.plain.rates()))
        })
        .collect();
    let latency: Vec<_> = compared()
        .filter_map(|op| op.latency.as_ref())
        .map(|test| (test.tolerated, test.standing.dispersion * test.caution, weight(&test.tolerated.rates())))
        .collect();
    let (mut slack, mut timed) = (0.0, 0.0);
    for test in compared().filter_map(|op| op.latency.as_ref()) {
        let n = test.tolerated.rates().n_b;
        (slack, timed) = (slack + n * test.slack(), timed + n);
    }
    let errors =
        Whole { closeness: (fold.health.now, fold.health.once), ..Whole::of(&errors, tolerances.error_points)? };
    Some([errors, Whole::of(&latency, if timed > 0.0 { slack / timed } else { 0.0 })?])
}

/// Says whether every metric that has a bad direction is shown to keep its level, where there is nothing but metrics.
fn levels_well(fold: &Fold, minutes: u64, tolerances: &Tolerances) -> bool {
    let doubt = (1.0 / tolerances.bound_alpha).ln();
    // What is new among its messages and exceptions is no ground to promote either, however few requests or records there are.
    let subjects = fold.subjects();
    let new = |subject: Subject| matches!(subject, Subject::New(_) | Subject::NewLog(_));
    minutes >= MINUTES_MIN
        && fold.metrics.iter().all(|metric| metric.shown_well && metric.standing.log_e < 2.0 * doubt)
        && !subjects.iter().any(|(subject, _)| new(*subject) && looks_worse(fold, *subject, tolerances))
}

/// Says whether a test shows more than it tolerates, though its evidence may fall short of an alarm.
fn looks_worse(fold: &Fold, subject: Subject, tolerances: &Tolerances) -> bool {
    if fold.is_suppressed(subject) {
        return false;
    }
    if fold.is_new_fatal(subject) {
        return true;
    }
    let standing = fold.standing(subject);
    let larger = match subject {
        Subject::Errors(i) | Subject::Latency(i) | Subject::Alone(i) | Subject::Calls(i, _) => {
            fold.operations[i].candidate as f64 >= LARGER_OPERATION * fold.requests().max(1) as f64
        }
        _ => true,
    };
    standing.exceeded_at.is_some()
        && standing.log_e >= if larger { 0.0 } else { 2.0 * (1.0 / tolerances.bound_alpha).ln() }
}

fn shown_well(fold: &Fold, wholes: &Option<[Whole; 2]>, tolerances: &Tolerances) -> bool {
    if fold.paired() < tolerances.requests_min || fold.paired() * 2 < fold.requests() {
        return false;
    }
    // What is compared is not what was meant to be.
    if fold.share.mismatch(tolerances).is_some() {
        return false;
    }
    // What all go through is excused, and what is excused is no proof of health, for as long as it goes on. What other days
    // excuse is not counted as health either, but the days themselves say nothing against it.
    if fold.design() == Design::BeforeAfter && fold.drift.shared_lately() {
        return false;
    }
    // What nothing can be held against may be as it should; where it fails it is no ground to promote.
    let unpaired = fold.operations.iter().filter(|op| op.paired == 0 || op.is_alone());
    let failed: f64 = unpaired.map(|op| op.alone.errors).sum();
    if failed > tolerances.error_points * fold.requests() as f64 {
        return false;
    }
    let Some(wholes) = wholes else { return false };
    // Evidence short of an alarm is still no ground to promote.
    let doubt = (1.0 / tolerances.bound_alpha).ln();
    fold.doubt() < doubt
        && !fold.subjects().iter().any(|(subject, _)| looks_worse(fold, *subject, tolerances))
        && wholes.iter().all(|whole| whole.within(1.0, tolerances.bound_alpha))
}

/// Seconds until the present traffic would show the service to be well.
fn projected(
    fold: &Fold,
    wholes: &Option<[Whole; 2]>,
    (watched, watch_min): (u64, u64),
    tolerances: &Tolerances,
) -> Option<u64> {
    if watched == 0 || fold.paired() == 0 {
        return None;
    }
    let mut growth = tolerances.requests_min as f64 / fold.paired() as f64;
    for whole in wholes.as_ref()? {
        let needed = (0..32).map(|i| 1.25_f64.powi(i)).find(|times| whole.within(*times, tolerances.bound_alpha))?;
        growth = growth.max(needed);
    }
    let needed = (watched as f64 * growth).min(1e7) as u64;
    Some(needed.max(watch_min).saturating_sub(watched))
}
