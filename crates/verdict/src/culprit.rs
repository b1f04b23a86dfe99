//! Whose fault it is: the deployed service, or one that it calls.
//!
//! Errors are traced to the party in which the excess began ([`OperationCell::blame`]), latency to the party whose share of
//! the critical path grew. Where that party is a callee, the design decides what it means:
//! - side by side, both versions call the same callees at the same time. A callee that fails only for the candidate fails
//!   because of it, so the deploy is to blame; unless the candidate alone reaches another version of that callee, whose own
//!   deploy is then to blame.
//! - before/after, a callee that broke at the same time cannot be told from one that the candidate broke. The finding is a
//!   symptom: shown, naming the callee, and no ground to roll this deploy back.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::signal::{OperationCell, Party};
use plimsoll_model::{Culprit, Design};

use crate::design::{Comparison, Operation};

/// Where the cause lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) culprit: Culprit,
    /// True where the deploy is not to blame.
    pub(crate) elsewhere: bool,
    /// False where no trace was whole enough to tell.
    pub(crate) traced: bool,
}

#[derive(Debug, Default)]
struct Arm<'a> {
    assembled: u64,
    self_ns: u64,
    blame: BTreeMap<&'a Party, u64>,
    callees: BTreeMap<&'a Party, (u64, u64)>,
}

impl<'a> Arm<'a> {
    fn of(cells: impl Iterator<Item = &'a OperationCell>) -> Self {
        let mut arm = Self::default();
        for cell in cells {
            arm.assembled += cell.assembled;
            arm.self_ns += cell.self_time_ns;
            for (party, count) in &cell.blame {
                *arm.blame.entry(party).or_default() += count;
            }
            for (party, time) in &cell.callees {
                let mine = arm.callees.entry(party).or_default();
                mine.0 += time.calls;
                mine.1 += time.critical_ns;
            }
        }
        arm
    }

    fn versions(&self, service: &str) -> BTreeSet<&'a str> {
        self.callees
            .keys()
            .chain(self.blame.keys())
            .filter(|party| party.service == service && !party.version.is_empty())
            .map(|party| party.version.as_str())
            .collect()
    }
}

/// Traces an excess of errors.
pub(crate) fn of_errors(service: &str, comparison: &Comparison<'_>, op: &Operation<'_>) -> Origin {
    let (candidate, control) = arms(comparison, op);
    let scale = candidate.assembled as f64 / control.assembled.max(1) as f64;
    // By service and operation; versions differ between the arms of the deployed service itself.
    let mut excess: BTreeMap<(&str, &str), (f64, &Party)> = BTreeMap::new();
    for (party, count) in &candidate.blame {
        excess.entry((&party.service, &party.operation)).or_insert((0.0, party)).0 += *count as f64;
    }
    for (party, count) in &control.blame {
        if let Some(entry) = excess.get_mut(&(party.service.as_str(), party.operation.as_str())) {
            entry.0 -= *count as f64 * scale;
        }
    }
    let most = excess.values().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(amount, _)| *amount > 0.0);
    settle(service, comparison, op, most.map(|(_, party)| *party), &candidate, &control)
}

/// Traces a growth of latency.
pub(crate) fn of_latency(service: &str, comparison: &Comparison<'_>, op: &Operation<'_>) -> Origin {
    let (candidate, control) = arms(comparison, op);
    if candidate.assembled == 0 || control.assembled == 0 {
        return settle(service, comparison, op, None, &candidate, &control);
    }
    let per_request = |ns: u64, arm: &Arm<'_>| ns as f64 / arm.assembled as f64;
    let own = per_request(candidate.self_ns, &candidate) - per_request(control.self_ns, &control);
    let mut growth: BTreeMap<(&str, &str), (f64, &Party)> = BTreeMap::new();
    for (party, (calls, ns)) in &candidate.callees {
        let entry = growth.entry((&party.service, &party.operation)).or_insert((0.0, party));
        // Only calls that became slower are the callee's doing; more calls are the caller's.
        let was = control
            .callees
            .iter()
            .filter(|(p, _)| p.service == party.service && p.operation == party.operation)
            .fold((0, 0), |sum, (_, (calls, ns))| (sum.0 + calls, sum.1 + ns));
        let mean_was = if was.0 > 0 { was.1 as f64 / was.0 as f64 } else { 0.0 };
        if was.0 > 0 {
            entry.0 += (*ns as f64 - mean_was * *calls as f64) / candidate.assembled as f64;
        }
    }
    let most = growth.values().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(amount, _)| *amount > own.max(0.0));
    settle(service, comparison, op, most.map(|(_, party)| *party), &candidate, &control)
}

fn arms<'a>(comparison: &Comparison<'a>, op: &Operation<'a>) -> (Arm<'a>, Arm<'a>) {
    let control = match comparison.design {
        Design::Concurrent => &op.control,
        _ => &op.before,
    };
    (Arm::of(op.candidate.iter().map(|c| c.2)), Arm::of(control.iter().map(|c| c.2)))
}

fn settle(
    service: &str,
    comparison: &Comparison<'_>,
    op: &Operation<'_>,
    party: Option<&Party>,
    candidate: &Arm<'_>,
    control: &Arm<'_>,
) -> Origin {
    let own = |operation: &str, traced: bool| Origin {
        culprit: Culprit {
            service: service.to_owned(),
            version: comparison.version.to_owned(),
            operation: operation.to_owned(),
        },
        elsewhere: false,
        traced,
    };
    let Some(party) = party else { return own(op.name, candidate.assembled > 0) };
    if party.service == service {
        return own(&party.operation, true);
    }
    let elsewhere = match comparison.design {
        Design::Concurrent => {
            let known = control.versions(&party.service);
            !known.is_empty() && !party.version.is_empty() && !known.contains(party.version.as_str())
        }
        _ => true,
    };
    if !elsewhere {
        return own(op.name, true);
    }
    Origin {
        culprit: Culprit {
            service: party.service.clone(),
            version: party.version.clone(),
            operation: party.operation.clone(),
        },
        elsewhere: true,
        traced: true,
    }
}
