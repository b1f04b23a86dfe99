//! A judgement that is carried on: between two full ones only new buckets are looked at.
//!
//! A look that finds nothing new costs microseconds an operation. Whenever the answer would change, whenever anything is
//! suspected, and every few minutes in any case, [`Session::judge_latest`] declines and the whole is judged afresh from all
//! that is known: what is told is always [`crate::judge`] of the stored rows, late ones included.
//!
//! A bucket is folded once, as soon as it is over. Where spans are delivered later than that, it has more requests by the next look:
//! then the whole is judged, and folding stays so far behind the clock that what it takes is there.
//!
//! Only the deployed service is read between two full looks: its requests each time, and what else it tells once a minute
//! ([`Session::asks_beside`]). What its callers and the untouched services do meanwhile, which could excuse something, is taken to
//! excuse nothing: at worst a look declines that need not have.

use std::collections::BTreeSet;

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, ServiceAggregates, UnixNanos, Verdict};

use crate::beside::{self, Served};
use crate::design::Frame;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::judge::{asked_otherwise, conclude, judge, same_answer};

/// Buckets after which the whole is judged afresh: while the candidate is young, and later.
const AFRESH_YOUNG: u64 = 6;
pub(crate) const AFRESH: u64 = 60;
/// Buckets since the candidate's first in which it counts as young.
const YOUNG: u64 = 30;
/// Buckets after which it is asked again what is told beside requests.
const BESIDE: u64 = 6;
/// Buckets that are looked at again for what came late, and by how many at most folding stays behind therefore.
const LATE_MAX: u64 = 3;

/// The state of one deploy between looks.
#[derive(Debug, Clone, Default)]
pub struct Session {
    fold: Option<Fold>,
    whole_at: Bucket,
    /// Requests as far as they are folded, and when they were last held against what is told beside them.
    served: Served,
    beside_at: Bucket,
    /// The first bucket that was not in the last look at the whole, and by how many buckets folding stays behind the clock: learned
    /// from buckets that had more requests once they were folded.
    carried_from: Bucket,
    late: u64,
    taken_back: BTreeSet<String>,
}

impl Session {
    /// Returns from when on [`Self::judge_latest`] wants the series; `None` where it would decline.
    pub fn since(&self) -> Option<UnixNanos> {
        self.fold.as_ref().map(|fold| Bucket(fold.next().0.saturating_sub(LATE_MAX)).start())
    }

    /// Says whether [`Self::judge_latest`] wants to know at `now` what the service tells beside requests: its aggregates from the
    /// lookback before the start on.
    pub fn asks_beside(&self, now: UnixNanos) -> bool {
        self.fold.is_some() && now.bucket().0.saturating_sub(self.beside_at.0) >= BESIDE
    }

    /// Returns the versions that were tried and taken back when the whole was judged last.
    pub fn taken_back(&self) -> &BTreeSet<String> {
        &self.taken_back
    }

    /// Judges afresh and keeps the state.
    pub fn judge_all(&mut self, input: &JudgeInput) -> Verdict {
        if asked_otherwise(input).is_some() {
            // What is asked otherwise is looked at as a whole each time.
            self.fold = None;
            return judge(input);
        }
        let mut fold = Fold::new(Frame::of(input), input);
        fold.advance(input);
        let verdict = conclude(input, &fold);
        self.whole_at = input.now.bucket();
        self.taken_back.clone_from(&input.taken_back);
        self.beside_at = self.whole_at;
        self.served = Served::default();
        self.served.add(&fold.frame.service, &input.series, fold.frame.earliest, fold.frame.end);
        self.carried_from = fold.frame.end;
        // Where anything is suspected the whole is looked at each time.
        self.fold = Some(fold).filter(|_| is_quiet(&verdict));
        verdict
    }

    /// Carries on with series from [`Self::since`] on, and with what is told `beside` them where that was asked for; `None` where the
    /// whole has to be judged.
    pub fn judge_latest(&mut self, input: &JudgeInput, beside: Option<ServiceAggregates>) -> Option<Verdict> {
        let former = input.previous.as_ref()?;
        let fold = self.fold.as_mut()?;
        let now = input.now.bucket();
        let age = now.0.saturating_sub(fold.first?.0);
        let patience = if age < YOUNG || fold.needs_whole() { AFRESH_YOUNG } else { AFRESH };
        let overdue = now.0.saturating_sub(self.whole_at.0) >= patience;
        let ending = input.superseded_at.is_some()
            || fold.overlaps.all != input.overlapping
            || input.now + Bucket::WIDTH >= input.deploy.started_at + input.tolerances.watch_max();
        let known = input.known_until().bucket();
        if overdue || ending || !is_quiet(former) || known < fold.frame.end || !fold.knows(&input.series) {
            self.fold = None;
            return None;
        }
        let again = Bucket(fold.next().0.saturating_sub(LATE_MAX)).max(self.carried_from);
        if self.served.is_less(&fold.frame.service, &input.series, again, fold.next()) {
            self.late = (self.late + 1).min(LATE_MAX);
            self.fold = None;
            return None;
        }
        let end = Bucket(known.0.saturating_sub(self.late)).max(fold.frame.end);
        self.served.add(&fold.frame.service, &input.series, fold.next(), end);
        fold.frame.end = end;
        if let Some(aggregates) = beside {
            self.beside_at = now;
            let calls = || beside::calls_otherwise(fold, &input.series, &input.tolerances);
            if calls() || beside::is_loud(&fold.frame, &self.served, aggregates, input) {
                self.fold = None;
                return None;
            }
        }
        fold.advance(input);
        let verdict = conclude(input, fold);
        if verdict.phase == Phase::Clear && same_answer(former, &verdict) {
            return Some(verdict);
        }
        self.fold = None;
        None
    }

    /// Returns about how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.fold.as_ref().map_or(0, |fold| fold.bytes() + self.served.bytes())
    }
}

/// Says whether a verdict finds nothing that the next look would have to see the whole for.
fn is_quiet(verdict: &Verdict) -> bool {
    verdict.phase == Phase::Clear && verdict.findings.is_empty()
}
