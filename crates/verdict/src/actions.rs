//! User actions: orders placed, logins done, whatever events are named as such in the configuration.
//!
//! How many come with a request is what users get out of a service. Where fewer do, and nothing fails or is slow, something
//! no longer works. Minute by minute the candidate's are held against the control's in the same minute, or against a portion
//! of the time before, by the e-process of rates: "the control has at most `calls_ratio` times as many a request". More of
//! them is nobody's harm. A canary has fewer in all and as many a request, so nothing depends on its share.
//!
//! Asked where requests are counted by spans as they are, because actions are counted by those.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;

use crate::design::{Frame, Role};
use crate::dispersion;
use crate::e_process::{Exceedance, Stratum};
use crate::gate::Told;
use crate::input::JudgeInput;
use crate::lately::told_by_ratio;
use crate::rate;
use crate::slot::Look;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Actions that are followed: those that are done most.
const FOLLOWED_MAX: usize = 32;
/// How often one must have been done before the start, and must be missing.
const DONE_MIN: f64 = 20.0;
/// Actions that are to be due in the time that shows whether they are still missing.
const DUE_MIN: f64 = 10.0;
/// Evidence is always tempered by this: what users do comes in clumps.
const DISPERSION: f64 = 2.0;
/// Requests of the past that stand against one of the candidate, where there are enough.
const CONTROLS: f64 = 8.0;
/// Buckets that are held against each other at once.
const MINUTE: usize = 6;

/// The test of one action.
#[derive(Debug, Clone)]
pub(crate) struct ActionTest {
    pub(crate) action: String,
    pub(crate) standing: Standing,
    fewer: Exceedance,
    before: f64,
    minute: [f64; 2],
    strata: Vec<Stratum>,
    /// Those of the candidate, and those that its requests would have brought.
    done: (f64, f64),
}

/// All actions of a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Actions {
    pub(crate) tests: Vec<ActionTest>,
    /// Requests before the start, and of both arms in the minute.
    before: f64,
    minute: [f64; 2],
    buckets: usize,
    beside: bool,
    told: BTreeMap<Bucket, Vec<(usize, usize, f64)>>,
    /// False in a look that brings no actions.
    known: bool,
}

impl Actions {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let test = |test: &ActionTest| size_of::<ActionTest>() + test.action.len() + size_of_val(&test.strata[..]);
        let told: usize = self.told.values().map(|told| 48 + 24 * told.len()).sum();
        self.tests.iter().map(test).sum::<usize>() + told
    }

    /// Starts from the actions before, and the requests that they came with.
    pub(crate) fn new(input: &JudgeInput, frame: &Frame, requests: &BTreeMap<Bucket, f64>) -> Self {
        if input.flag.is_some() || input.weighted || input.measured.is_some() {
            return Self::default();
        }
        let mut done: BTreeMap<&str, BTreeMap<Bucket, f64>> = BTreeMap::new();
        for series in &input.aggregates.actions {
            for (bucket, cell) in &series.cells {
                if frame.role(&series.version, *bucket) == Some(Role::Before) {
                    *done.entry(&series.action).or_default().entry(*bucket).or_default() += cell.count as f64;
                }
            }
        }
        let mut tests: Vec<ActionTest> = done
            .into_iter()
            .map(|(action, cells)| {
                let past: Vec<(f64, f64)> =
                    requests.iter().map(|(bucket, n)| (cells.get(bucket).copied().unwrap_or(0.0), *n)).collect();
                let dispersion = dispersion::of_arm(&past).phi.max(DISPERSION);
                ActionTest {
                    action: action.to_owned(),
                    standing: Standing { dispersion, ..Standing::default() },
                    fewer: Exceedance::default(),
                    before: cells.values().sum(),
                    minute: [0.0; 2],
                    strata: Vec::new(),
                    done: (0.0, 0.0),
                }
            })
            .filter(|test| test.before >= DONE_MIN)
            .collect();
        tests.sort_by(|a, b| b.before.total_cmp(&a.before).then_with(|| a.action.cmp(&b.action)));
        tests.truncate(FOLLOWED_MAX);
        Self { tests, before: requests.values().sum(), ..Self::default() }
    }

    /// Takes what is told of the buckets from `next` on.
    pub(crate) fn take(&mut self, input: &JudgeInput, frame: &Frame, next: Bucket) {
        self.known = !input.aggregates.actions.is_empty();
        for series in &input.aggregates.actions {
            let Some(test) = self.tests.iter().position(|test| test.action == series.action) else { continue };
            for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket >= next) {
                let arm = match frame.role(&series.version, *bucket) {
                    Some(Role::Candidate) => 0,
                    Some(Role::Control) => 1,
                    _ => continue,
                };
                self.told.entry(*bucket).or_default().push((test, arm, cell.count as f64));
            }
        }
    }

    /// Takes one bucket: requests of candidate and control.
    pub(crate) fn push(&mut self, look: Look, requests: [f64; 2], tolerances: &Tolerances) {
        if self.tests.is_empty() || !self.known {
            return;
        }
        for (test, arm, n) in self.told.remove(&look.bucket).unwrap_or_default() {
            self.tests[test].minute[arm] += n;
        }
        self.minute = [self.minute[0] + requests[0], self.minute[1] + requests[1]];
        self.buckets += 1;
        self.beside |= look.beside;
        if self.buckets < MINUTE {
            return;
        }
        let [n_b, n_a] = std::mem::take(&mut self.minute);
        self.buckets = 0;
        let beside = std::mem::take(&mut self.beside) && n_a > 0.0;
        let shared = look.excused.shared && !beside;
        let minutes = (tolerances.watch_max_s / 60).max(1) as f64;
        let part = if self.before > 0.0 { (CONTROLS * n_b / self.before).min(1.0 / minutes) } else { 0.0 };
        for test in &mut self.tests {
            let [bad_b, bad_a] = std::mem::take(&mut test.minute);
            let s = Stratum {
                bucket: look.bucket,
                bad_b,
                n_b,
                bad_a: if beside { bad_a } else { test.before * part },
                n_a: if beside { n_a } else { self.before * part },
                handicap: if beside { 1.0 } else { tolerances.drift_ratio },
                caution: if beside { 1.0 } else { tolerances.drift_caution },
            };
            if s.n_b > 0.0 && s.n_a > 0.0 && !shared {
                test.push(s, tolerances);
            }
        }
    }
}

impl ActionTest {
    fn push(&mut self, s: Stratum, tolerances: &Tolerances) {
        self.fewer.push(&s.swapped(), tolerances.calls_ratio * s.handicap, self.standing.dispersion);
        self.standing.moved(self.fewer.value());
        self.strata.push(s);
        let expected = s.n_b * s.bad_a / s.n_a;
        self.done = (self.done.0 + s.bad_b, self.done.1 + expected);
        let (done, expected) = self.done;
        let fewer = done * tolerances.calls_ratio < expected && expected - done >= DONE_MIN;
        if self.standing.exceeded_at.is_none() && self.standing.log_e > 0.0 && fewer {
            self.standing.exceeded_at = Some(s.bucket);
        }
    }

    /// Actions that its requests would have brought and did not.
    pub(crate) fn missing(&self) -> f64 {
        (self.done.1 - self.done.0).max(0.0)
    }

    /// Counts the candidate's actions in the minutes that end in `from..=to`, and in as many before them as it takes for some to be due.
    pub(crate) fn told(&self, [from, to]: [Bucket; 2], tolerances: &Tolerances) -> Told {
        let (mut candidate, mut expected) = ((0.0, 0.0), 0.0);
        for s in self.strata.iter().rev().skip_while(|s| s.bucket > to) {
            if s.bucket < from && expected >= DUE_MIN {
                break;
            }
            candidate = (candidate.0 + s.bad_b, candidate.1 + s.n_b);
            expected += s.n_b * s.bad_a / s.n_a;
        }
        told_by_ratio(false, candidate, expected / candidate.1.max(1.0), tolerances.calls_ratio, 0.0)
    }

    /// Bounds of the candidate's actions a request over the control's; both hold at all times with probability `1 - alpha`.
    pub(crate) fn interval(&self, alpha: f64) -> [f64; 2] {
        rate::ratio_interval(&self.strata, self.standing.dispersion, alpha)
    }
}
