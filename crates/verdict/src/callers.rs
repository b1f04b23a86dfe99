//! Services that call the judged one: how much they ask of it, and what fails them elsewhere.
//!
//! A request that fails at somebody else before it calls the service takes traffic from it, and what fails beside it fails the
//! same requests at the top. Neither is its doing. Who a caller's failure is traced back to says so, or the name for whom a call was
//! meant that nobody answered, where the operation calls a service of that name at other times.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::signal::{OperationCell, Party};
use plimsoll_model::{Bucket, ServiceKey};

use crate::design::Frame;
use crate::input::JudgeInput;
use crate::known;

/// Standard deviations of a count beyond which failures have become more.
const NOISE: f64 = 3.0;

/// What is known of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers {
    /// Requests of theirs that may have asked something.
    asked: BTreeMap<Bucket, f64>,
    /// Those that failed elsewhere since the start, and before.
    failed: BTreeMap<Party, [f64; 2]>,
    /// All of them whose traces are whole, since the start and before.
    assembled: [f64; 2],
}

impl Callers {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        24 * self.asked.len() + 150 * self.failed.len()
    }

    /// Counts the operations that call the service, at one time or another.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let service = frame.service.service.as_str();
        let mut calling: BTreeMap<(&ServiceKey, &str), BTreeSet<&str>> = BTreeMap::new();
        for series in &input.related {
            let parties = series.cells.iter().flat_map(|(_, cell)| cell.callees.keys());
            let called = parties.filter(|party| !party.is_unanswered()).map(|party| party.service.as_str());
            calling.entry((&series.key.service, &series.key.operation)).or_default().extend(called);
        }
        let mut callers = Self::default();
        for series in &input.related {
            let called = &calling[&(&series.key.service, series.key.operation.as_str())];
            if !called.contains(service) {
                continue;
            }
            let other = |party: &Party| party.service != service && party.service != series.key.service.service;
            for (bucket, cell) in &series.cells {
                let when = usize::from(*bucket < frame.start);
                callers.assembled[when] += cell.assembled as f64;
                let mut elsewhere = 0;
                if cell.errors > 0 {
                    let blamed = cell.blame.iter().map(|(party, n)| (party, *n));
                    let down = |party: &Party| {
                        party.is_unanswered() && !party.is_overcome() && called.contains(party.service.as_str())
                    };
                    let unanswered = calls(cell).filter(|(party, _)| down(party));
                    for (party, failed) in blamed.chain(unanswered).filter(|(party, _)| other(party)) {
                        elsewhere += failed;
                        callers.failed.entry(party.clone()).or_default()[when] += failed as f64;
                    }
                }
                // Some may have failed there after they had called the service.
                let reached = || calls(cell).filter(|(party, _)| party.service == service).map(|(_, n)| n).sum::<u64>();
                let (requests, each) = (cell.requests as f64, known::each(cell, frame.drawn));
                let asked = match elsewhere {
                    0 => requests,
                    failed => {
                        let did_not = (each * failed as f64).min(cell.errors as f64);
                        (requests - did_not).max((each * reached() as f64).min(requests))
                    }
                };
                *callers.asked.entry(*bucket).or_default() += asked;
            }
        }
        callers
    }

    /// Requests of theirs in `bucket` that may have asked something of the service.
    pub(crate) fn asked(&self, bucket: Bucket) -> f64 {
        self.asked.get(&bucket).copied().unwrap_or(0.0)
    }

    /// Returns how many more of their requests have failed elsewhere since the start, and at whom most of them did.
    pub(crate) fn failed_elsewhere(&self) -> Option<(f64, &Party)> {
        let [since, before] = self.assembled;
        let more = self.failed.iter().filter_map(|(party, [now, then])| {
            let expected = then / before.max(1.0) * since;
            let more = now - expected;
            (more > NOISE * expected.max(1.0).sqrt()).then_some((more, party))
        });
        let all: Vec<(f64, &Party)> = more.collect();
        let most = all.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((all.iter().map(|(more, _)| more).sum(), most.1))
    }
}

fn calls(cell: &OperationCell) -> impl Iterator<Item = (&Party, u64)> {
    cell.callees.iter().map(|(party, time)| (party, time.calls))
}
