//! A judgement that is carried on: between two full ones only new buckets are looked at.
//!
//! A look that finds nothing new costs microseconds an operation. Whenever the answer would change, whenever anything is
//! suspected, and every few minutes in any case, [`Session::judge_latest`] declines and the whole is judged afresh from all
//! that is known: what is told is always [`crate::judge`] of the stored rows, late ones included.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, UnixNanos, Verdict};

use crate::design::Frame;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::judge::{asked_otherwise, conclude, judge, same_answer};

/// Buckets after which the whole is judged afresh: while the candidate is young, and later.
const AFRESH_YOUNG: u64 = 6;
const AFRESH: u64 = 30;
/// Buckets since the candidate's first in which it counts as young.
const YOUNG: u64 = 30;

/// The state of one deploy between looks.
#[derive(Debug, Clone, Default)]
pub struct Session {
    fold: Option<Fold>,
    whole_at: Bucket,
}

impl Session {
    /// Returns from when on [`Self::judge_latest`] wants the series; `None` where it would decline.
    pub fn since(&self) -> Option<UnixNanos> {
        self.fold.as_ref().map(|fold| fold.next().start())
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
        self.fold = Some(fold);
        verdict
    }

    /// Carries on with series from [`Self::since`] on; `None` where the whole has to be judged.
    pub fn judge_latest(&mut self, input: &JudgeInput) -> Option<Verdict> {
        let former = input.previous.as_ref()?;
        let fold = self.fold.as_mut()?;
        let now = input.now.bucket();
        let age = now.0.saturating_sub(fold.first?.0);
        let patience = if age < YOUNG || fold.needs_whole() { AFRESH_YOUNG } else { AFRESH };
        let overdue = now.0.saturating_sub(self.whole_at.0) >= patience;
        let ending = input.superseded_at.is_some()
            || input.now + Bucket::WIDTH >= input.deploy.started_at + input.tolerances.watch_max();
        let quiet = former.phase == Phase::Clear && former.findings.is_empty();
        let known = input.known_until().bucket();
        if overdue || ending || !quiet || known < fold.frame.end || !fold.knows(&input.series) {
            self.fold = None;
            return None;
        }
        fold.frame.end = known;
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
        self.fold.as_ref().map_or(0, Fold::bytes)
    }
}
