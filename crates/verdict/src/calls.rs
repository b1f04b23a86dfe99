//! Calls that one request makes: a storm of retries, or calls that are no longer made.
//!
//! For each callee of an operation the calls a request of both arms are compared by the e-process of rates, in both
//! directions, against the ratio that is tolerated. Retries are no errors and missing calls are fast: nothing else sees
//! them. Operations have the names that their service gives them, and calls that go to another one of it are no fewer.
//! Whom the control never calls a new version may call for what it does anew, twice a request; more than that is a storm.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::signal::OperationCell;

use crate::dispersion::{self, Tempering};
use crate::e_process::{Exceedance, Stratum};
use crate::gate::Told;
use crate::lately::told_by_ratio;
use crate::rate;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Callees of an operation that are followed.
const CALLEES_MAX: usize = 64;
/// Calls a request by which both arms must differ to matter.
const DIFFERENCE_MIN: f64 = 0.2;
/// Requests of the past that stand against one of the candidate, where there are enough.
const CONTROLS: f64 = 8.0;
/// Calls of the control, for one of the candidate's, up to which an operation is new; and calls for one that appeared or is missing
/// elsewhere, up to which they are the same calls.
const NEW_MAX: f64 = 0.1;
const MOVED_RATIO: f64 = 1.25;
/// Calls a request to whom was not called before that a new version may make: it does something new.
const FEATURE: f64 = 2.0;
/// Calls of the control a request that are none: what was called now and then may have come from a cache, which is broken now.
const NEVER: f64 = 0.001;
/// Requests of the candidate that tell whom it calls lately.
const LATELY_MIN: f64 = 30.0;
/// Evidence is always tempered by this: calls come in clumps.
const DISPERSION: f64 = 3.0;

/// Says whether `b` calls a request where next to none were made before, `a`, are what a new version does anew.
fn is_feature(b: f64, a: f64) -> bool {
    a <= NEVER && b <= FEATURE
}

/// One callee, `(service, operation)`.
#[derive(Debug, Clone)]
pub(crate) struct CallTest {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) standing: Standing,
    up: Exceedance,
    down: Exceedance,
    /// Calls and requests of the candidate and of the control in its place.
    pub(crate) candidate: (f64, f64),
    pub(crate) control: (f64, f64),
    /// The same by bucket, from when the tolerance was first exceeded: what never does so is not followed.
    lately: Vec<(Bucket, [(f64, f64); 2])>,
    /// Strata in little space, for the interval of the effect: calls and requests of candidate and control, and the caution.
    kept: Vec<[f32; 5]>,
}

/// Calls of one operation in one stretch of time.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallCounts {
    pub(crate) requests: f64,
    pub(crate) calls: BTreeMap<(String, String), f64>,
}

impl CallCounts {
    /// Adds one cell.
    pub(crate) fn add(&mut self, cell: &OperationCell) {
        self.requests += cell.assembled as f64;
        for (party, time) in cell.callees.iter().filter(|(party, _)| !party.is_unanswered()) {
            *self.calls.entry((party.service.clone(), party.operation.clone())).or_default() += time.calls as f64;
        }
    }
}

/// All callees of one operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallTests {
    pub(crate) tests: Vec<CallTest>,
    /// The time before, which stands for the control where it does not serve beside.
    before: CallCounts,
}

impl CallTests {
    /// Starts from the time before.
    pub(crate) fn new(before: CallCounts) -> Self {
        Self { tests: Vec::new(), before }
    }

    /// Says whether there is nothing to compare with.
    pub(crate) fn is_empty(&self) -> bool {
        self.before.calls.is_empty()
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let kept = |test: &CallTest| test.lately.len() * 40 + test.kept.len() * size_of::<[f32; 5]>();
        let kept: usize = self.tests.iter().map(kept).sum();
        self.tests.len() * (size_of::<CallTest>() + 64) + kept + self.before.calls.len() * 128
    }

    /// Says whether what the candidate called lately is beyond what is tolerated of what was called before.
    pub(crate) fn differ(&self, lately: &CallCounts, tolerances: &Tolerances) -> bool {
        if lately.requests < LATELY_MIN || self.before.requests <= 0.0 {
            return false;
        }
        self.before.calls.keys().chain(lately.calls.keys()).any(|key| {
            let each = |of: &CallCounts| of.calls.get(key).copied().unwrap_or(0.0) / of.requests;
            let (b, a) = (each(lately), each(&self.before));
            !is_feature(b, a) && (b - a).abs() >= DIFFERENCE_MIN && b.max(a) >= tolerances.calls_ratio * b.min(a)
        })
    }

    /// Takes one bucket of the candidate that nothing is left to be held against but what was seen of the control.
    pub(crate) fn note(&mut self, bucket: Bucket, candidate: &CallCounts) {
        for test in &mut self.tests {
            let key = (test.service.clone(), test.operation.clone());
            let calls = candidate.calls.get(&key).copied().unwrap_or(0.0);
            test.note(bucket, [(calls, candidate.requests), (0.0, 0.0)]);
        }
    }

    /// Takes one bucket of both arms.
    pub(crate) fn push(
        &mut self,
        bucket: Bucket,
        candidate: &CallCounts,
        control: &CallCounts,
        share: f64,
        tolerances: &Tolerances,
    ) {
        if candidate.requests <= 0.0 {
            return;
        }
        let beside = control.requests > 0.0;
        // The past is dealt out: each bucket gets its share of the requests, and the calls that go with it.
        let portion = if self.before.requests > 0.0 {
            (CONTROLS * candidate.requests / self.before.requests).min(share)
        } else {
            0.0
        };
        let control = if beside { control } else { &self.before };
        let part = if beside { 1.0 } else { portion };
        if control.requests * part <= 0.0 {
            return;
        }
        for key in candidate.calls.keys().chain(control.calls.keys()) {
            let known = self.tests.iter().any(|t| (&t.service, &t.operation) == (&key.0, &key.1));
            if !known && self.tests.len() < CALLEES_MAX {
                self.tests.push(CallTest {
                    service: key.0.clone(),
                    operation: key.1.clone(),
                    standing: Standing { dispersion: DISPERSION, ..Standing::default() },
                    up: Exceedance::default(),
                    down: Exceedance::default(),
                    candidate: (0.0, 0.0),
                    control: (0.0, 0.0),
                    lately: Vec::new(),
                    kept: Vec::new(),
                });
            }
        }
        for test in &mut self.tests {
            let key = (test.service.clone(), test.operation.clone());
            let calls = |counts: &CallCounts| counts.calls.get(&key).copied().unwrap_or(0.0);
            let s = Stratum {
                bucket,
                bad_b: calls(candidate),
                n_b: candidate.requests,
                bad_a: calls(control) * part,
                n_a: control.requests * part,
                handicap: 1.0,
                caution: if beside { 1.0 } else { tolerances.drift_caution },
            };
            test.push(&s, tolerances);
        }
    }
}

impl CallTests {
    /// Says whether one exceeds only because calls to its service go to other operations than before (renamed by the callee, or
    /// called by another name), or because it is called for something new.
    pub(crate) fn moved(&self, index: usize) -> bool {
        let test = &self.tests[index];
        let [b, a] = test.rates();
        if is_feature(b, a) {
            return true;
        }
        let others = || self.tests.iter().filter(|t| t.service == test.service && t.operation != test.operation);
        // In calls, as each is counted from when it was first met.
        let more = |of: &CallTest| (of.rates()[0] - of.rates()[1]) * of.candidate.1;
        let is_new = |of: &CallTest| of.rates()[1] <= NEW_MAX * of.rates()[0];
        if test.standing.exceeded_at.is_none() {
            false
        } else if is_new(test) {
            let missing: f64 = others().map(|other| (-more(other)).max(0.0)).sum();
            more(test) <= MOVED_RATIO * missing
        } else {
            let appeared: f64 = others().filter(|other| is_new(other)).map(more).sum();
            more(test) < 0.0 && -more(test) <= MOVED_RATIO * appeared
        }
    }
}

impl CallTest {
    fn push(&mut self, s: &Stratum, tolerances: &Tolerances) {
        self.up.push(s, tolerances.calls_ratio, DISPERSION);
        self.down.push(&s.swapped(), tolerances.calls_ratio, DISPERSION);
        self.candidate = (self.candidate.0 + s.bad_b, self.candidate.1 + s.n_b);
        self.control = (self.control.0 + s.bad_a, self.control.1 + s.n_a);
        self.kept.push([s.bad_b, s.n_b, s.bad_a, s.n_a, s.caution].map(|n| n as f32));
        let (up, down) = (self.up.value(), self.down.value());
        // The mean of both directions; the larger is all of it but a factor of two.
        self.standing.moved(up.max(down) - std::f64::consts::LN_2);
        let [b, a] = self.rates();
        if self.standing.exceeded_at.is_none() && self.standing.log_e > 0.0 && (b - a).abs() >= DIFFERENCE_MIN {
            self.standing.exceeded_at = Some(s.bucket);
        }
        self.note(s.bucket, [(s.bad_b, s.n_b), (s.bad_a, s.n_a)]);
    }

    fn note(&mut self, bucket: Bucket, arms: [(f64, f64); 2]) {
        if self.standing.exceeded_at.is_some() {
            self.lately.push((bucket, arms));
        }
    }

    /// Counts the candidate's calls in the buckets `from..=to`, against the control's of the same time or else of all.
    pub(crate) fn told(&self, [from, to]: [Bucket; 2], tolerances: &Tolerances) -> Told {
        let mut sums = [(0.0, 0.0); 2];
        for (_, arms) in self.lately.iter().rev().skip_while(|l| l.0 > to).take_while(|l| l.0 >= from) {
            sums.iter_mut().zip(arms).for_each(|(sum, arm)| *sum = (sum.0 + arm.0, sum.1 + arm.1));
        }
        let [candidate, control] = sums;
        let (calls, requests) = if control.1 > 0.0 { control } else { self.control };
        let more = self.up.value() >= self.down.value();
        let usual = calls / requests.max(1.0);
        told_by_ratio(more, candidate, usual, tolerances.calls_ratio, 0.5 * DIFFERENCE_MIN)
    }

    /// Bounds of the candidate's calls a request over the control's; both hold at all times with probability `1 - alpha`, as far as calls
    /// come in no larger clumps than they were seen to.
    pub(crate) fn interval(&self, alpha: f64) -> [f64; 2] {
        let stratum = |(at, kept): (usize, &[f32; 5])| {
            let [bad_b, n_b, bad_a, n_a, caution] = kept.map(f64::from);
            Stratum { bucket: Bucket(at as u64), bad_b, n_b, bad_a, n_a, handicap: 1.0, caution }
        };
        let strata: Vec<Stratum> = self.kept.iter().enumerate().map(stratum).collect();
        let mut together = Tempering::default();
        strata.iter().for_each(|s| together.push(s));
        // Of a control that was dealt out the share shows the candidate's clumps alone, and not all of those.
        let own: Vec<(f64, f64)> = strata.iter().map(|s| (s.bad_b, s.n_b)).collect();
        let measured = together.measure().phi.max(dispersion::of_counts(&own).phi);
        rate::ratio_interval(&strata, DISPERSION.max(measured), alpha)
    }

    /// Calls that were made in addition; none where no more are made.
    pub(crate) fn additional(&self) -> f64 {
        let [b, a] = self.rates();
        (b - a).max(0.0) * self.candidate.1
    }

    /// Requests that made none of the calls that are missing; none where no fewer are made.
    pub(crate) fn missing(&self) -> f64 {
        let [b, a] = self.rates();
        if a > b { (a - b) * self.candidate.1 / a.max(1.0) } else { 0.0 }
    }

    /// Calls a request, candidate and control.
    pub(crate) fn rates(&self) -> [f64; 2] {
        [self.candidate.0 / self.candidate.1.max(1.0), self.control.0 / self.control.1.max(1.0)]
    }
}
