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

/// Where the cause lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) culprit: Culprit,
    /// True where the deploy is not to blame.
    pub(crate) elsewhere: bool,
    /// False where no trace was whole enough to tell.
    pub(crate) traced: bool,
}

/// What traces tell of one arm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arm {
    pub(crate) assembled: u64,
    self_ns: u64,
    pub(crate) blame: BTreeMap<Party, u64>,
    pub(crate) callees: BTreeMap<Party, (u64, u64)>,
}

impl Arm {
    /// Adds one cell.
    pub(crate) fn add(&mut self, cell: &OperationCell) {
        self.assembled += cell.assembled;
        self.self_ns += cell.self_time_ns;
        for (party, count) in &cell.blame {
            match self.blame.get_mut(party) {
                Some(sum) => *sum += count,
                None => drop(self.blame.insert(party.clone(), *count)),
            }
        }
        for (party, time) in &cell.callees {
            match self.callees.get_mut(party) {
                Some(sum) => *sum = (sum.0 + time.calls, sum.1 + time.critical_ns),
                None => drop(self.callees.insert(party.clone(), (time.calls, time.critical_ns))),
            }
        }
    }

    fn versions(&self, service: &str) -> BTreeSet<&str> {
        self.callees
            .keys()
            .chain(self.blame.keys())
            .filter(|party| party.service == service && !party.version.is_empty())
            .map(|party| party.version.as_str())
            .collect()
    }
}

/// Both arms of one operation of the deployed service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arms<'a> {
    pub(crate) service: &'a str,
    pub(crate) version: &'a str,
    pub(crate) operation: &'a str,
    pub(crate) design: Design,
    pub(crate) candidate: &'a Arm,
    pub(crate) control: &'a Arm,
}

/// Traces an excess of errors.
pub(crate) fn of_errors(arms: &Arms<'_>) -> Origin {
    let (candidate, control) = (arms.candidate, arms.control);
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
    settle(arms, most.map(|(_, party)| *party))
}

/// Traces a growth of latency.
pub(crate) fn of_latency(arms: &Arms<'_>) -> Origin {
    let (candidate, control) = (arms.candidate, arms.control);
    if candidate.assembled == 0 || control.assembled == 0 {
        return settle(arms, None);
    }
    let per_request = |ns: u64, arm: &Arm| ns as f64 / arm.assembled as f64;
    let own = per_request(candidate.self_ns, candidate) - per_request(control.self_ns, control);
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
    settle(arms, most.map(|(_, party)| *party))
}

fn settle(arms: &Arms<'_>, party: Option<&Party>) -> Origin {
    let own = |operation: &str, traced: bool| Origin {
        culprit: Culprit {
            service: arms.service.to_owned(),
            version: arms.version.to_owned(),
            operation: operation.to_owned(),
        },
        elsewhere: false,
        traced,
    };
    let Some(party) = party else { return own(arms.operation, arms.candidate.assembled > 0) };
    if party.service == arms.service {
        return own(&party.operation, true);
    }
    let elsewhere = match arms.design {
        Design::Concurrent => {
            let known = arms.control.versions(&party.service);
            !known.is_empty() && !party.version.is_empty() && !known.contains(party.version.as_str())
        }
        _ => true,
    };
    if !elsewhere {
        return own(arms.operation, true);
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
