//! What the candidate fails by itself while whom it calls is well.
//!
//! Failures are blamed on whoever has most of those in excess since the start, and an outage of a callee has more of them in a few
//! minutes than a defect of the candidate in half an hour. The time in which no callee was in trouble tells them apart.

use plimsoll_model::signal::OperationCell;

use crate::culprit::Arm;
use crate::errors::tolerated;
use crate::forgone::own;
use crate::tolerances::Tolerances;

/// Failures elsewhere, for one of the candidate's own, up to which a bucket counts as calm.
const STRAY: f64 = 0.2;
/// Share of the usual calls that are made where nobody does without.
const CALLED: f64 = 0.7;
/// Failures without which nothing is shown, and standard deviations of a count that are chance.
const FAILED_MIN: f64 = 10.0;
const CHANCE: f64 = 3.0;

/// What one operation of the candidate did in calm buckets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Calm {
    /// Requests that failed by themselves, and all of which it is known where they failed.
    own: f64,
    assembled: f64,
}

impl Calm {
    /// Takes one bucket of the candidate in which none of its callees is known to fail; `before` tells how often it calls them, and all of them
    /// are `in_reach` where no call went unanswered lately.
    pub(crate) fn push<'a>(
        &mut self,
        cells: impl Iterator<Item = &'a OperationCell>,
        before: &Arm,
        service: &str,
        in_reach: bool,
    ) {
        let (mut by_itself, mut elsewhere, mut assembled, mut calls) = (0, 0, 0, 0);
        for cell in cells {
            let here = own(cell, service);
            let answered = cell.callees.iter().filter(|(party, _)| !party.is_unanswered());
            let failed = cell.callees.iter().filter(|(party, _)| party.is_unanswered() && !party.is_overcome());
            let unanswered: u64 = failed.map(|(_, time)| time.calls).sum();
            by_itself += here.saturating_sub(unanswered);
            elsewhere += cell.blame.values().sum::<u64>() - here + unanswered;
            assembled += cell.assembled;
            calls += answered.map(|(_, time)| time.calls).sum::<u64>();
        }
        let usual: u64 = before.callees.values().map(|(calls, _)| calls).sum();
        // Who fails before its calls makes none, and no breaker keeps it from them.
        let failed = if in_reach { by_itself } else { 0 };
        let calls_as_ever = (calls * before.assembled + failed * usual) as f64 >= CALLED * (usual * assembled) as f64;
        if calls_as_ever && elsewhere as f64 <= (STRAY * by_itself as f64).max(1.0) {
            (self.own, self.assembled) = (self.own + by_itself as f64, self.assembled + assembled as f64);
        }
    }

    /// Says whether more failed than is tolerated where the control fails a share of `usual`.
    pub(crate) fn exceeds(&self, usual: f64, tolerances: &Tolerances) -> bool {
        let expected = usual * self.assembled;
        let more = self.own - expected;
        more >= FAILED_MIN.max(CHANCE * expected.sqrt()) && more > tolerated(usual, tolerances) * self.assembled
    }
}
