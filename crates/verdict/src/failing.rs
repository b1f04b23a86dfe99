//! Callees that fail more than before, by their own requests: what their callers make of it is no doing of those.
//!
//! A caller may pass a failure on, and is told by its traces ([`crate::culprit`]). It may also call again, or do without: then none of its own
//! requests fails, and there are more calls, slower requests, and messages and exceptions that were never there. Of each call to such a callee
//! as many are taken to have failed as of all its requests.
//!
//! *One after the other* alone: whether the candidate broke it cannot be told then, as with failures that are passed on. Side by side the control calls
//! it at the same time.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::signal::Party;

use crate::culprit::Arm;
use crate::design::Frame;
use crate::input::JudgeInput;

/// Requests of a callee since the start without which it tells nothing.
const REQUESTS_MIN: f64 = 20.0;
/// Standard deviations of a count of failures that are chance.
const CHANCE: f64 = 3.0;

/// Shares of requests that fail in addition, by operation of a service; those that do not are not in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failing(BTreeMap<(String, String), f64>);

/// Calls to one callee that failed in addition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed<'a> {
    pub(crate) party: &'a Party,
    pub(crate) calls: f64,
}

impl Failing {
    /// Counts those of the callees of the service that are known.
    pub(crate) fn of(input: &JudgeInput, frame: &Frame) -> Self {
        let own = input.series.iter().filter(|series| series.key.service == frame.service);
        let called: BTreeSet<(&str, &str)> = own
            .flat_map(|series| &series.cells)
            .flat_map(|(_, cell)| cell.callees.keys())
            .filter(|party| party.service != frame.service.service)
            .map(|party| (party.service.as_str(), party.operation.as_str()))
            .collect();
        let mut counts: BTreeMap<(&str, &str), [[f64; 2]; 2]> = BTreeMap::new();
        for series in &input.related {
            let name = (series.key.service.service.as_str(), series.key.operation.as_str());
            if !called.contains(&name) {
                continue;
            }
            let counts = counts.entry(name).or_default();
            for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket < frame.end) {
                let [failed, all] = &mut counts[usize::from(*bucket >= frame.start)];
                (*failed, *all) = (*failed + cell.errors as f64, *all + cell.requests as f64);
            }
        }
        let more = counts.into_iter().filter_map(|((service, operation), [before, since])| {
            let expected = since[1] * before[0].max(0.5) / before[1].max(1.0);
            let chance = CHANCE * expected.max(1.0).sqrt();
            let shown = since[1] >= REQUESTS_MIN && since[0] > expected + chance;
            shown.then(|| ((service.to_owned(), operation.to_owned()), (since[0] - expected) / since[1]))
        });
        Self(more.collect())
    }

    /// Lists the calls of one arm that failed in addition.
    pub(crate) fn calls<'a>(&'a self, arm: &'a Arm) -> impl Iterator<Item = Failed<'a>> {
        arm.callees.iter().filter(|_| !self.0.is_empty()).filter_map(|(party, (calls, _))| {
            let share = self.0.get(&(party.service.clone(), party.operation.clone()))?;
            Some(Failed { party, calls: share * *calls as f64 })
        })
    }
}
