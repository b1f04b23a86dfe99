//! Restarts: a candidate whose instances start again and again answers well in between, and nothing else tells.
//!
//! Every instance of a rollout starts once; so do those that replace others as a service grows. What counts is starts beyond
//! the most instances that were there at once: a canary that is promoted starts as many as it grows by. The control's own such
//! starts, over the time that its instances served, say how often that happens anyway, and at least [`RATE_MIN`] is always
//! taken for usual. Where no control ever served nobody knows how often that is: jobs and
//! instances on demand start by the minute, and a new service is left to its errors and its silence. Against that rate, times [`TOLERATED`], the
//! candidate's starts are tested by the mixture e-process of a Poisson rate, tempered because instances fall together.
//!
//! *Invariants.* What is said after a bucket follows from that bucket and earlier ones.

use plimsoll_model::Bucket;
use plimsoll_model::presence::PresenceSeries;

use crate::design::{Frame, Role};
use crate::dispersion;
use crate::rate;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Starts of one instance in one bucket that are always usual: one in half an hour.
const RATE_MIN: f64 = 1.0 / 180.0;
/// Times the usual rate that is tolerated.
const TOLERATED: f64 = 2.0;
/// Rates, in multiples of the tolerated one, that the evidence is averaged over.
const RATIOS: [f64; 5] = [2.0, 4.0, 8.0, 16.0, 32.0];
/// Evidence is divided by this: what kills one instance kills its neighbours.
const DISPERSION: f64 = 1.5;
/// Restarts without which nothing is said ..
const RESTARTS_MIN: f64 = 4.0;
/// .. and of each instance: what starts all of them again once is no loop.
const ROUNDS_MIN: f64 = 2.0;
/// Share of `alpha` that this test may spend; like metrics it stands beside the gate.
pub(crate) const SHARE: f64 = 0.1;
/// Buckets after the trigger in which another start confirms.
const LASTING_BUCKETS: u64 = 3;
/// Times the longest distance between two restarts without a start after which they are over ..
const OVER_TIMES: u64 = 2;
/// .. and buckets that this is at least and at most: who starts them anew waits for five minutes in between.
const OVER_BUCKETS: std::ops::RangeInclusive<u64> = 60..=360;

/// Starts and time of one arm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starts {
    pub(crate) starts: f64,
    /// The most instances in one bucket.
    peak: u64,
    /// Buckets in which instances were there, one by one.
    pub(crate) served: f64,
    /// The last bucket with a start.
    pub(crate) last: Option<Bucket>,
    /// Buckets in which instances started again, each with how many had by its end.
    restarted: Vec<(Bucket, f64)>,
    /// The first bucket and the last in which instances were there or started.
    within: Option<(Bucket, Bucket)>,
}

impl Starts {
    fn add(&mut self, bucket: Bucket, starts: u64, instances: u64) {
        let before = self.again();
        self.within = Some((self.within.map_or(bucket, |(first, _)| first), bucket));
        self.starts += starts as f64;
        self.peak = self.peak.max(instances);
        self.served += instances as f64;
        if starts > 0 {
            self.last = Some(bucket);
        }
        if self.again() > before {
            self.restarted.push((bucket, self.again()));
        }
    }

    /// Buckets without a start after which restarts are over: those that came after it was over do not put it off.
    fn over_after(&self) -> u64 {
        let distances = self.restarted.windows(2).map(|pair| pair[1].0.0 - pair[0].0.0);
        distances.fold(*OVER_BUCKETS.start(), |over, distance| {
            let longer = (OVER_TIMES * distance).min(*OVER_BUCKETS.end());
            if distance <= over { over.max(longer) } else { over }
        })
    }

    /// The most instances that were there at once.
    fn instances(&self) -> f64 {
        self.peak as f64
    }

    /// Starts beyond the first of each instance.
    pub(crate) fn again(&self) -> f64 {
        (self.starts - self.instances()).max(0.0)
    }

    /// Lists the buckets in which instances started again, each with how many did.
    pub(crate) fn restarted(&self) -> impl Iterator<Item = (Bucket, f64)> {
        let before = std::iter::once(0.0).chain(self.restarted.iter().map(|(_, again)| *again));
        self.restarted.iter().zip(before).map(|((bucket, again), before)| (*bucket, again - before))
    }

    /// How many instances start again at a time, as counts vary: at least one.
    fn together(&self) -> f64 {
        let Some((first, last)) = self.within else { return 1.0 };
        let mut buckets = vec![(0.0, 1.0); (last.0 - first.0 + 1) as usize];
        for (bucket, again) in self.restarted() {
            buckets[(bucket.0 - first.0) as usize].0 += again;
        }
        dispersion::of_counts(&buckets).phi
    }

    /// Restarts of an instance an hour.
    pub(crate) fn an_hour(&self) -> f64 {
        360.0 * self.again() / self.served.max(1.0)
    }
}

/// The test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restarts {
    pub(crate) standing: Standing,
    pub(crate) candidate: Starts,
    pub(crate) control: Starts,
}

impl Restarts {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        [&self.candidate, &self.control].map(|arm| size_of_val(&arm.restarted[..])).iter().sum()
    }

    /// Looks at every bucket of the frame.
    pub(crate) fn of(frame: &Frame, presence: &[PresenceSeries], tolerances: &Tolerances) -> Self {
        let mut test = Self { standing: Standing { dispersion: DISPERSION, ..Standing::default() }, ..Self::default() };
        let mut cells: Vec<(Bucket, bool, u64, u64)> = Vec::new();
        for series in presence {
            for (bucket, cell) in &series.cells {
                if let Some(role) = frame.role(&series.version, *bucket) {
                    cells.push((*bucket, role == Role::Candidate, cell.starts.count(), cell.instances.count()));
                }
            }
        }
        cells.sort_unstable();
        let level = (1.0 / (tolerances.alpha * SHARE)).ln();
        let mut cells = cells.into_iter().peekable();
        for bucket in (frame.earliest.0..frame.end.0).map(Bucket) {
            while let Some((at, candidate, starts, instances)) = cells.next_if(|cell| cell.0 <= bucket) {
                let arm = if candidate { &mut test.candidate } else { &mut test.control };
                arm.add(at, starts, instances);
            }
            if bucket >= frame.from && test.candidate.starts > 0.0 {
                test.look(bucket, level);
            }
        }
        test
    }

    /// Bounds of the candidate's restarts over the control's, of an instance in the same time; both hold at all times with probability
    /// `1 - alpha`, as far as instances fall together as they were seen to.
    pub(crate) fn interval(&self, alpha: f64) -> [f64; 2] {
        let phi = DISPERSION.max(self.candidate.together()).max(self.control.together());
        let candidate = (self.candidate.again(), self.candidate.served.max(1.0));
        let against = |starts: f64| rate::count_ratio(candidate, (starts, self.control.served.max(1.0)), phi, alpha);
        // Instances that were there before all that is known began out of sight: then each start of theirs is another.
        let ([low, _], [_, high]) = (against(self.control.starts), against(self.control.again()));
        [low, high]
    }

    fn look(&mut self, bucket: Bucket, level: f64) {
        if self.control.served <= 0.0 {
            return;
        }
        let usual = ((self.control.again() + 1.0) / (self.control.served + 1.0 / RATE_MIN)).max(RATE_MIN);
        let expected = TOLERATED * usual * self.candidate.served.max(self.candidate.starts);
        let again = self.candidate.again();
        let terms = RATIOS.map(|ratio| (again * ratio.ln() - (ratio - 1.0) * expected) / DISPERSION);
        let top = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let mean = terms.iter().map(|term| (term - top).exp()).sum::<f64>() / RATIOS.len() as f64;
        self.standing.moved(top + mean.ln());
        let exceeded = self.are_many(again);
        if exceeded && self.standing.exceeded_at.is_none() {
            self.standing.exceeded_at = Some(bucket);
        }
        if !exceeded || self.standing.log_e < level {
            return;
        }
        match self.standing.triggered_at {
            None => self.standing.triggered_at = Some(bucket),
            Some(at) => {
                let goes_on = self.candidate.last.is_some_and(|last| last > at);
                if goes_on && bucket.0 >= at.0 + LASTING_BUCKETS {
                    self.standing.confirmed_at = self.standing.confirmed_at.or(Some(bucket));
                }
            }
        }
    }

    /// Says whether so many restarts are more than such as happen once.
    fn are_many(&self, again: f64) -> bool {
        again >= RESTARTS_MIN && again >= ROUNDS_MIN * self.candidate.instances()
    }

    /// Says whether instances started again of late.
    pub(crate) fn goes_on(&self, to: Bucket) -> bool {
        self.candidate.last.is_some_and(|last| last.0 + self.candidate.over_after() > to.0)
    }

    /// Says whether they started again by themselves as often as it took at first, in the time after which it would be over.
    pub(crate) fn is_back(&self, to: Bucket) -> bool {
        let since = to.0.saturating_sub(self.candidate.over_after());
        let earlier = self.candidate.restarted.iter().rev().find(|(bucket, _)| bucket.0 < since);
        self.are_many(self.candidate.again() - earlier.map_or(0.0, |(_, again)| *again))
    }
}
