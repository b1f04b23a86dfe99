//! What is looked at once a bucket is in: which tests have crossed which line.

use plimsoll_model::Bucket;

use crate::alone;
use crate::errors;
use crate::fold::Fold;
use crate::latency::LatencyTest;
use crate::metrics;
use crate::recent::Recent;
use crate::restarts;
use crate::standing::Standing;
use crate::subject::Subject;
use crate::tolerances::Tolerances;

/// Dispersion up to which failures come evenly.
const EVEN: f64 = 2.0;
/// Errors from which a large regression is not waited for, times the dispersion.
pub const LARGE_ERRORS: f64 = 50.0;
/// Times the control's rate from which a regression is large.
pub const LARGE_RATIO: f64 = 10.0;
/// Buckets of the last window, which shows whether an excess lasts.
const LASTING_BUCKETS: u64 = 3;
/// Requests that such a window should have ..
pub(crate) const LASTING_REQUESTS: f64 = 20.0;
/// .. and without which nothing is confirmed.
const LASTING_REQUESTS_MIN: f64 = 5.0;
/// Standard deviations of a count that failures which go on exceed half of what is tolerated by: one that strays does not.
const BEYOND_A_STRAY: f64 = 1.0;
/// Standard deviations by which what resembles an incident is worse than that was, or goes on after it.
const WORSE_THAN_BEFORE: f64 = 3.0;
/// Buckets without excess after which what had come again is over.
const OVER_BUCKETS: u64 = 6;
/// Share of the failures in excess that [`LASTING_BUCKETS`] in a row hold at most, where they come all the while.
const DENSEST: f64 = 2.0 / 3.0;
/// Buckets for which failures wait for their traces, which say where they began.
const TRACED_BUCKETS: u64 = 2;
/// The same where only a share of the traces says so.
const DRAWN_BUCKETS: u64 = 30;

/// What a test of shares counted in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) hits: f64,
    pub(crate) all: f64,
    /// The share of all from which half of what is tolerated is exceeded.
    pub(crate) share: f64,
}

impl Told {
    fn of((hits, all): (f64, f64), share: f64) -> Self {
        Self { hits, all, share }
    }

    pub(crate) fn exceeds(&self) -> bool {
        self.all > 0.0 && self.hits / self.all > self.share
    }

    /// Says whether it exceeds it by so many standard deviations of counts that are `dispersion` times as variable as chance makes
    /// them; one hit alone never does.
    pub(crate) fn is_beyond(&self, deviations: f64, dispersion: f64) -> bool {
        let expected = self.share * self.all;
        self.hits > expected + deviations * (dispersion.max(1.0) * expected.max(1.0)).sqrt()
    }
}

impl Fold {
    /// Returns the logarithm of what the gate must reach: it spends what the tests beside it leave of `alpha`.
    fn level(&self, tolerances: &Tolerances) -> f64 {
        let levels = match self.levels {
            _ if self.requests() + self.control_requests() == 0 => metrics::SHARE_ALONE,
            true => metrics::SHARE,
            false => 0.0,
        };
        -(tolerances.alpha * (1.0 - levels - restarts::SHARE)).ln()
    }

    /// Looks at every test once the bucket is in.
    pub(crate) fn look(&mut self, bucket: Bucket, tolerances: &Tolerances) {
        let level = self.level(tolerances);
        let subjects = self.subjects();
        for (subject, _) in &subjects {
            let standing = *self.standing(*subject);
            let elsewhere = standing.exceeded_at.is_some() && self.origin(*subject, tolerances).elsewhere;
            let standing = self.standing_mut(*subject);
            standing.elsewhere = elsewhere;
            standing.looked_at();
        }
        self.gate = self.mean(&subjects, |standing| standing.log_e);
        for (subject, _) in &subjects {
            let standing = *self.standing(*subject);
            let apart = matches!(subject, Subject::Metric(_) | Subject::Restarts);
            if apart
                || self.is_suppressed(*subject)
                || standing.elsewhere
                || standing.confirmed_at.is_some()
                || !self.enough(*subject, tolerances)
            {
                continue;
            }
            let shown = standing.log_e >= level && standing.exceeded_at.is_some();
            if self.is_over_again(*subject, bucket, tolerances) {
                self.begin_anew(*subject, bucket);
                continue;
            }
            if standing.triggered_at.is_none() && shown && self.gate >= level {
                self.standing_mut(*subject).triggered_at = Some(bucket);
            }
            if let Some(at) = self.standing(*subject).triggered_at
                && (bucket.0 >= at.0 + self.traced_within(*subject) || self.is_traced(*subject))
                && self.lasts(*subject, at, bucket, tolerances)
            {
                self.standing_mut(*subject).confirmed_at = Some(bucket);
            }
        }
    }

    /// Returns the logarithm of the weighted mean of all tests' evidence; those whose excess is somebody else's, or that a human asked not to hear
    /// of, are left out.
    fn mean(&self, subjects: &[(Subject, f64)], log_e: impl Fn(&Standing) -> f64) -> f64 {
        let mut sum = 0.0;
        for (subject, weight) in subjects {
            let standing = self.standing(*subject);
            let silenced = standing.elsewhere || self.is_suppressed(*subject);
            // Far beyond any level that matters, and safe to add up.
            sum += if silenced { 0.0 } else { weight * log_e(standing).min(600.0).exp() };
        }
        // What weight is left over stays at one; what was spent on tests that were begun anew is gone.
        let rest = 1.0 - subjects.iter().map(|(_, weight)| weight).sum::<f64>() - self.forgotten();
        (sum + rest.max(0.0)).max(f64::MIN_POSITIVE).ln()
    }

    /// The gate's value as far as its tests show more than is tolerated: that it is a little slower, or fails a little more, is no ground to hold
    /// what is shown to be within the tolerances.
    pub(crate) fn doubt(&self) -> f64 {
        // Bursts say little of either, and a minute without one nothing.
        let worse = |standing: &Standing| match standing.dispersion <= EVEN {
            true => standing.log_e.min(standing.beyond),
            false => standing.log_e,
        };
        self.mean(&self.subjects(), worse)
    }

    fn enough(&self, subject: Subject, tolerances: &Tolerances) -> bool {
        match subject {
            Subject::Throughput | Subject::Silence | Subject::Restarts => true,
            Subject::Alone(index) => self.operations[index].candidate >= tolerances.requests_min,
            Subject::Path(index) => self.paths.tests[index].test.sums.rates().n_b >= tolerances.requests_min as f64,
            // A message says by itself that something went wrong; a few requests are enough to count them by.
            Subject::NewLog(_) | Subject::LogErrors | Subject::LogFlow(_) => {
                self.requests() * 5 >= tolerances.requests_min
            }
            // The buckets of a metric are coarse: its mean, which is exact, has to grow as well.
            Subject::Latency(index) if self.measured => {
                self.paired() >= tolerances.requests_min && self.operations[index].grew_on_average()
            }
            _ => self.paired() >= tolerances.requests_min,
        }
    }

    /// Says whether it is known where the failures began that a test is about; what is not of failures waits for nothing.
    fn is_traced(&self, subject: Subject) -> bool {
        match subject {
            Subject::Errors(index) | Subject::Alone(index) => self.operations[index].is_traced(self.frame.drawn),
            Subject::New(_) | Subject::NewLog(_) => self.operations.iter().all(|op| op.is_traced(self.frame.drawn)),
            _ => true,
        }
    }

    /// Returns for how many buckets that is waited for.
    fn traced_within(&self, subject: Subject) -> u64 {
        let drawn = match subject {
            Subject::Errors(index) | Subject::Alone(index) => self.operations[index].known.is_share(self.frame.drawn),
            Subject::New(_) | Subject::NewLog(_) => {
                self.operations.iter().any(|op| op.known.is_share(self.frame.drawn))
            }
            _ => false,
        };
        if drawn { DRAWN_BUCKETS } else { TRACED_BUCKETS }
    }

    /// Says whether the time after the trigger `at` shows by `now` that the excess lasts.
    fn lasts(&self, subject: Subject, at: Bucket, now: Bucket, tolerances: &Tolerances) -> bool {
        let standing = self.standing(subject);
        // What happened once without any deploy may happen again: nothing is quick about it.
        let recurs = self.recurs_until(subject, now);
        if recurs.is_some_and(|until| now < until || !self.went_on(subject, [until, now], tolerances)) {
            return false;
        }
        if let Subject::Errors(index) = subject
            && recurs.is_none()
        {
            let errors = &self.operations[index].errors;
            let rates = errors.sums.rates();
            let floor = rates.rate_a.max(0.5 / rates.n_a.max(1.0));
            // Where they come in clumps a clump counts once.
            if rates.bad_b >= LARGE_ERRORS * errors.clump && rates.rate_b() >= LARGE_RATIO * floor {
                return true;
            }
        }
        if !standing.stands(self.level(tolerances), (1.0 / tolerances.bound_alpha).ln()) {
            return false;
        }
        // Failures that several buckets show, none of them most of it, and the latest too, are shown to last.
        if matches!(subject, Subject::Errors(_)) && standing.is_spread() && recurs.is_none() {
            let (excess, requests) = self.excess(subject, now, now, tolerances);
            if excess && requests >= LASTING_REQUESTS_MIN && self.is_no_stray(subject, now, now, tolerances) {
                return true;
            }
        }
        if now <= at {
            return false;
        }
        if matches!(subject, Subject::LogErrors) && !self.excess(subject, Bucket(at.0 + 1), now, tolerances).0 {
            return false;
        }
        if matches!(
            subject,
            Subject::Throughput
                | Subject::Silence
                | Subject::Calls(..)
                | Subject::LogErrors
                | Subject::LogFlow(_)
                | Subject::Action(_)
                | Subject::Path(_)
        ) {
            let window = [Bucket((now.0 + 1).saturating_sub(LASTING_BUCKETS)), now];
            return now.0 >= at.0 + LASTING_BUCKETS && (recurs.is_none() || self.fails_in(window, tolerances));
        }
        let after = Bucket(at.0 + 1).max(recurs.unwrap_or_default());
        let mut from = after.max(Bucket((now.0 + 1).saturating_sub(LASTING_BUCKETS)));
        let (mut excess, mut requests) = self.excess(subject, from, now, tolerances);
        if requests < LASTING_REQUESTS {
            // Little traffic: all that came since has to do.
            from = after;
            (excess, requests) = self.excess(subject, from, now, tolerances);
        }
        let long_enough = requests >= LASTING_REQUESTS || now.0 >= at.0 + LASTING_BUCKETS;
        let stays = match subject {
            Subject::Latency(index) => self.operations[index].stays_slow(self.first, now, self.weight(index)),
            Subject::Errors(_) | Subject::Alone(_) => self.is_no_stray(subject, from, now, tolerances),
            _ => true,
        };
        excess && requests >= LASTING_REQUESTS_MIN && long_enough && stays
    }

    /// Returns from when on a test shows by `now` more than an incident before the start that might have come again; `None` where it
    /// is of nothing like it.
    pub(crate) fn recurs_until(&self, subject: Subject, now: Bucket) -> Option<Bucket> {
        let when = (self.first, now);
        match subject {
            Subject::Errors(index) => {
                let op = &self.operations[index];
                let incident = op.incidents.errors?;
                let found = op.outlasts(incident, when, |recent| (recent.errors, recent.requests))?;
                let dispersion = op.errors.standing.dispersion;
                let told = Told::of(found.inside, incident.share);
                let worse = told.is_beyond(WORSE_THAN_BEFORE, dispersion);
                (!worse).then_some(found.from)
            }
            Subject::Latency(index) => {
                let op = &self.operations[index];
                let slow = |recent: &Recent| (recent.tail[0], recent.timed);
                op.outlasts(op.incidents.latency?, when, slow).map(|found| found.from)
            }
            // What fails is logged, and fails at the top.
            Subject::LogErrors | Subject::Path(_) => {
                (0..self.operations.len()).filter_map(|index| self.recurs_until(Subject::Errors(index), now)).max()
            }
            _ => None,
        }
    }

    /// Says whether an incident came again and is over, and the test was triggered by nothing that lasted longer: it is no evidence of
    /// what comes later.
    fn is_over_again(&self, subject: Subject, now: Bucket, tolerances: &Tolerances) -> bool {
        let standing = self.standing(subject);
        // What was confirmed is told; and to forget evidence for the deploy would be to make some against it.
        if standing.triggered_at.is_none() || standing.confirmed_at.is_some() || standing.log_e < 0.0 {
            return false;
        }
        let Some(until) = self.recurs_until(subject, now).filter(|until| now >= *until) else { return false };
        let from = Bucket((now.0 + 1).saturating_sub(OVER_BUCKETS));
        let (excess, requests) = self.excess(subject, from, now, tolerances);
        standing.anew_at.is_none_or(|at| at < until) && !excess && requests >= LASTING_REQUESTS
    }

    /// Forgets what a test has shown by `now`.
    fn begin_anew(&mut self, subject: Subject, now: Bucket) {
        match subject {
            Subject::Errors(index) => self.operations[index].errors.begin_anew(),
            Subject::Latency(index) => self.operations[index].latency.iter_mut().for_each(LatencyTest::begin_anew),
            Subject::LogErrors => self.log_errors.test.begin_anew(),
            Subject::Path(index) => self.paths.tests[index].test.begin_anew(),
            _ => return,
        }
        self.standing_mut(subject).anew_at = Some(now);
    }

    /// Says whether all of the time shows more than half of what is tolerated, and clearly so; true of what counts neither failed nor
    /// slow requests.
    fn went_on(&self, subject: Subject, [from, to]: [Bucket; 2], tolerances: &Tolerances) -> bool {
        let told = self.told(subject, from, to, tolerances);
        told.is_none_or(|told| told.is_beyond(WORSE_THAN_BEFORE, self.standing(subject).dispersion))
    }

    /// Says whether any operation fails more than is tolerated by half.
    fn fails_in(&self, [from, to]: [Bucket; 2], tolerances: &Tolerances) -> bool {
        (0..self.operations.len()).any(|index| self.excess(Subject::Errors(index), from, to, tolerances).0)
    }

    /// Says whether the failures in `from..=to` are more than one that strayed there after a burst: more than such counts vary by, or, few
    /// as they are, as they had been coming all the while.
    fn is_no_stray(&self, subject: Subject, from: Bucket, to: Bucket, tolerances: &Tolerances) -> bool {
        let (Subject::Errors(index) | Subject::Alone(index)) = subject else { return true };
        let Some(told) = self.told(subject, from, to, tolerances) else { return true };
        told.is_beyond(BEYOND_A_STRAY, self.standing(subject).dispersion)
            || self.operations[index].densest(LASTING_BUCKETS, told.share) <= DENSEST
    }

    /// Counts what a test is about in `from..=to`: failed or slow requests of the candidate, its messages, calls or actions; `None`
    /// where the test counts nothing.
    pub(crate) fn told(&self, subject: Subject, from: Bucket, to: Bucket, tolerances: &Tolerances) -> Option<Told> {
        match subject {
            Subject::Errors(index) => {
                let op = &self.operations[index];
                let found = op.errors.standing.triggered_at.unwrap_or(to);
                let usual = op.errors.usual(found, [from, to], tolerances);
                let (hits, all) = op.over(from, to, |r| (r.errors, r.requests));
                Some(Told { hits, all, share: usual + 0.5 * errors::tolerated(usual, tolerances) })
            }
            Subject::Alone(index) => {
                let op = &self.operations[index];
                let (hits, all) = op.over(from, to, |r| (r.errors, r.requests));
                let share = alone::objective(op.usual_errors(self.usual_errors()), tolerances);
                Some(Told { hits, all, share })
            }
            Subject::Latency(index) => {
                let op = &self.operations[index];
                let share = op.latency.as_ref()?.tail_shares()[0];
                let (hits, all) = op.over(from, to, |r| (r.tail[0], r.timed));
                Some(Told { hits, all, share })
            }
            Subject::Calls(index, callee) => {
                Some(self.operations[index].calls.tests[callee].told([from, to], tolerances))
            }
            Subject::LogErrors => Some(self.log_errors.told([from, to], tolerances)),
            Subject::LogFlow(index) => Some(self.log_flow.tests.tests[index].told([from, to], tolerances)),
            Subject::Action(index) => Some(self.actions.tests[index].told([from, to], tolerances)),
            Subject::Path(index) => {
                let path = &self.paths.tests[index];
                Some(path.lately.told(&path.test, [from, to], tolerances))
            }
            Subject::New(_)
            | Subject::NewLog(_)
            | Subject::Metric(_)
            | Subject::Restarts
            | Subject::Throughput
            | Subject::Silence => None,
        }
    }

    /// Says whether the candidate was worse than half the tolerance in `from..=to`, and on how many requests that rests.
    pub(crate) fn excess(&self, subject: Subject, from: Bucket, to: Bucket, tolerances: &Tolerances) -> (bool, f64) {
        match subject {
            Subject::Errors(_)
            | Subject::Alone(_)
            | Subject::Calls(..)
            | Subject::LogErrors
            | Subject::LogFlow(_)
            | Subject::Action(_)
            | Subject::Path(_) => {
                self.told(subject, from, to, tolerances).map_or((false, 0.0), |told| (told.exceeds(), told.all))
            }
            Subject::Latency(index) => {
                let op = &self.operations[index];
                let Some(latency) = &op.latency else { return (false, 0.0) };
                let shares = latency.tail_shares();
                let worse = |i: usize| {
                    let (bad, all) = op.over(from, to, |r| (r.tail[i], r.timed));
                    (all > 0.0 && bad / all > shares[i], all)
                };
                let (p95, p99) = (worse(0), worse(1));
                // A handful of requests does not show a p99.
                (p95.0 || (p99.0 && p99.1 * shares[1] >= 3.0), p95.1)
            }
            Subject::New(fingerprint) | Subject::NewLog(fingerprint) => {
                let novelty = if matches!(subject, Subject::New(_)) { &self.novelty } else { &self.logs };
                let Some(seen) = novelty.all.get(&fingerprint) else { return (false, 0.0) };
                let bad: u64 = seen.candidate.range(from..=to).map(|(_, n)| n).sum();
                let inside = novelty.traffic.iter().rev().filter(|(b, ..)| *b >= from && *b <= to);
                let all: u64 = inside.map(|(_, b, _)| b).sum();
                let fatal = novelty.fatal.contains(&fingerprint) && bad > 0;
                let frequent = all > 0 && bad as f64 / all as f64 > 0.5 * tolerances.exception_share;
                (fatal || frequent, all as f64)
            }
            Subject::Metric(index) => (self.metrics[index].exceeds, LASTING_REQUESTS),
            Subject::Restarts => (self.restarts.goes_on(to), LASTING_REQUESTS),
            Subject::Throughput | Subject::Silence => {
                let op_requests: u64 =
                    self.novelty.traffic.iter().rev().filter(|(b, ..)| *b >= from && *b <= to).map(|(_, b, _)| b).sum();
                (self.standing(subject).log_e > 0.0, op_requests as f64)
            }
        }
    }
}
