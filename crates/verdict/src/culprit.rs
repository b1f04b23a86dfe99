//! Whose fault it is: the deployed service, or one that it calls.
//!
//! Errors are traced to the party in which the excess began ([`OperationCell::blame`]), latency to the party whose share of
//! the critical path grew. Where that party is a callee, the design decides what it means:
//! - side by side, both versions call the same callees at the same time. A callee that fails only for the candidate fails
//!   because of it, so the deploy is to blame; unless the candidate alone reaches another version of that callee, whose own
//!   deploy is then to blame.
//! - before/after, a callee that broke at the same time cannot be told from one that the candidate broke. The finding is a
//!   symptom: shown, naming the callee, and no ground to roll this deploy back.
//!
//! Where the caller calls again, or does without, none of its requests fails and others of its numbers change: [`crate::failing`]. Where it does not
//! call any more, as breakers do, it may fail by itself: [`crate::forgone`].
//!
//! Where the callee does not answer at all there is no span of it to blame, and the failure begins in the call. Whose fault that is
//! is told by [`crate::unanswered`]. What has no control is told by what else calls the same callee ([`of_alone`]).

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::signal::{OperationCell, Party};
use plimsoll_model::{Culprit, Design};

use crate::failing::Failed;
use crate::forgone::{Forgone, Missing};
use crate::unanswered::{Down, Outages, is_name_of};
use crate::witnesses::{Testimonies, Testimony};

/// Calls of others to a callee without which they do not tell whether it fails.
const BESIDE_MIN: u64 = 20;
/// Share of calls that fail of a callee that never answers well.
const NEVER: f64 = 0.9;

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
    pub(crate) self_ns: u64,
    pub(crate) blame: BTreeMap<Party, u64>,
    pub(crate) callees: BTreeMap<Party, (u64, u64)>,
    /// Requests whose failure began in a call that nobody answered, and the time these took, by whom they were meant for.
    pub(crate) unanswered: BTreeMap<String, (u64, u64)>,
    /// The same of calls that nobody answered and that their requests got over.
    pub(crate) overcome: BTreeMap<String, (u64, u64)>,
}

/// The traces of nobody.
pub(crate) static NOBODY: Arm = Arm {
    assembled: 0,
    self_ns: 0,
    blame: BTreeMap::new(),
    callees: BTreeMap::new(),
    unanswered: BTreeMap::new(),
    overcome: BTreeMap::new(),
};

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
            let more = (time.calls, time.critical_ns);
            if party.is_unanswered() {
                let sums = if party.is_overcome() { &mut self.overcome } else { &mut self.unanswered };
                let sum = sums.entry(party.service.clone()).or_default();
                *sum = (sum.0 + more.0, sum.1 + more.1);
                continue;
            }
            match self.callees.get_mut(party) {
                Some(sum) => *sum = (sum.0 + more.0, sum.1 + more.1),
                None => drop(self.callees.insert(party.clone(), more)),
            }
        }
    }

    /// Calls to a service that it answered.
    pub(crate) fn calls(&self, service: &str) -> u64 {
        self.callees.iter().filter(|(party, _)| party.service == service).map(|(_, (calls, _))| calls).sum()
    }

    /// Requests that failed of a service, or of one operation of it, and the calls that were made to it.
    pub(crate) fn failed_of(&self, service: &str, operation: Option<&str>) -> (u64, u64) {
        let meant = |party: &&Party| party.service == service && operation.is_none_or(|name| party.operation == name);
        let blamed: u64 = self.blame.iter().filter(|(party, _)| meant(party)).map(|(_, count)| count).sum();
        let made: u64 = self.callees.iter().filter(|(party, _)| meant(party)).map(|(_, (calls, _))| calls).sum();
        let unanswered = self.unanswered.iter().filter(|(target, _)| is_name_of(target, service));
        let unanswered: u64 = unanswered.map(|(_, (calls, _))| calls).sum();
        (blamed + unanswered, made + unanswered)
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
    /// What the candidate called that did not answer, and what it called or did not that fails more than before.
    pub(crate) outages: &'a Outages,
    pub(crate) forgone: &'a Forgone,
    /// Its calls beside those of others to the same callees.
    pub(crate) testimony: &'a Testimonies,
    /// For how many of the candidate's requests one stands whose trace is whole.
    pub(crate) each: f64,
}

impl<'a> Arms<'a> {
    /// Lists callees that were down. Side by side the control calls them at the same time: what fails more for the candidate then
    /// fails because of it.
    pub(crate) fn down(&self) -> Vec<Down<'a>> {
        if self.design == Design::Concurrent { Vec::new() } else { self.outages.down(self) }
    }

    /// Lists the candidate's calls that were not made because whom they would go to fails; none side by side, as above.
    pub(crate) fn missing_calls(&self) -> Vec<Missing<'a>> {
        if self.design == Design::Concurrent { Vec::new() } else { self.forgone.missing(self) }
    }

    /// Returns the callee while which was in trouble requests waited in the service itself; none side by side, as above.
    fn waited(&self) -> Option<(&'a Party, f64)> {
        if self.design == Design::Concurrent { None } else { self.forgone.waited(self) }
    }

    /// Lists the candidate's calls that failed because whom it called fails more than before; none side by side, as above.
    pub(crate) fn failed_calls(&self) -> Vec<Failed<'a>> {
        if self.design == Design::Concurrent { Vec::new() } else { self.forgone.failed.calls().collect() }
    }
}

/// Traces an excess of errors.
pub(crate) fn of_errors(arms: &Arms<'_>) -> Origin {
    excess_errors(arms).1
}

/// Traces an excess of errors, and says how many failures came in addition where most of them began.
pub(crate) fn excess_errors(arms: &Arms<'_>) -> (f64, Origin) {
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
    let down = arms.down().into_iter().map(|down| (down.party, down.failed));
    for (party, failed) in down.chain(arms.missing_calls().into_iter().map(|gone| (gone.party, gone.failed))) {
        let Some(own) = excess.get_mut(&(arms.service, arms.operation)) else { continue };
        let failed = failed.min(own.0.max(0.0));
        own.0 -= failed;
        excess.entry((&party.service, &party.operation)).or_insert((0.0, party)).0 += failed;
    }
    let most = excess.values().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(amount, _)| *amount > 0.0);
    let Some((amount, party)) = most else { return (0.0, settle(arms, None)) };
    // One version of it may have failed all along, and another be what failed more.
    let of = candidate.blame.iter().filter(|(p, _)| (&p.service, &p.operation) == (&party.service, &party.operation));
    let more = |(party, count): &(&Party, &u64)| {
        **count as f64 - control.blame.get(*party).map_or(0.0, |was| *was as f64 * scale)
    };
    let version = of.max_by(|a, b| more(a).total_cmp(&more(b))).map_or(*party, |(party, _)| party);
    (*amount, settle_failed(arms, version))
}

/// Traces failures of what has no control, and says how many there are of whoever has most. `beside` is what else the service did:
/// side by side all of the control's operations, else the candidate's others.
///
/// A callee that fails is to blame where it fails them as well. Where none of them calls it, it fails because of the candidate
/// side by side; before/after it does where it never answered well.
pub(crate) fn of_alone(arms: &Arms<'_>, beside: &[&Arm]) -> (f64, Origin) {
    let (amount, origin) = excess_errors(&Arms { control: &NOBODY, design: Design::BeforeAfter, ..*arms });
    if !origin.elsewhere {
        return (amount, origin);
    }
    let Culprit { service, version, operation } = &origin.culprit;
    let share = |(failed, made): (u64, u64)| failed as f64 / made.max(1) as f64;
    let here = share(arms.candidate.failed_of(service, None));
    let concurrent = arms.design == Design::Concurrent;
    let told = [Some(operation.as_str()), None].map(|operation| {
        let each = beside.iter().map(|arm| arm.failed_of(service, operation));
        each.fold((0, 0), |sum, (failed, made)| (sum.0 + failed, sum.1 + made))
    });
    let elsewhere = match told.into_iter().find(|(_, made)| *made >= BESIDE_MIN) {
        Some(there) => {
            let knows = |arm: &&Arm| arm.versions(service).contains(version.as_str());
            let other = concurrent && !version.is_empty() && !beside.iter().any(knows);
            other || share(there) >= 0.5 * here
        }
        None => !concurrent && here < NEVER,
    };
    if elsewhere { (amount, origin) } else { (amount, settle(arms, None)) }
}

/// Traces a growth of latency.
pub(crate) fn of_latency(arms: &Arms<'_>) -> Origin {
    let (candidate, control) = (arms.candidate, arms.control);
    if candidate.assembled == 0 || control.assembled == 0 {
        return settle(arms, None);
    }
    let per_request = |ns: u64, arm: &Arm| ns as f64 / arm.assembled as f64;
    let mut own = per_request(candidate.self_ns, candidate) - per_request(control.self_ns, control);
    let mut growth: BTreeMap<(&str, &str), (f64, &Party)> = BTreeMap::new();
    let mut most_of: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    let failed = arms.failed_calls();
    for (party, (calls, ns)) in &candidate.callees {
        let entry = growth.entry((&party.service, &party.operation)).or_insert((0.0, party));
        // Only calls that became slower are the callee's doing; more calls are the caller's, unless it called again because they failed.
        let was = control
            .callees
            .iter()
            .filter(|(p, _)| p.service == party.service && p.operation == party.operation)
            .fold((0, 0), |sum, (_, (calls, ns))| (sum.0 + calls, sum.1 + ns));
        let mean_was = if was.0 > 0 { was.1 as f64 / was.0 as f64 } else { 0.0 };
        if was.0 > 0 {
            let again = failed.iter().find(|failed| failed.party == party).map_or(0.0, |failed| {
                let more = *calls as f64 - was.0 as f64 * candidate.assembled as f64 / control.assembled as f64;
                more.clamp(0.0, failed.calls / arms.each)
            });
            let amount = (*ns as f64 - mean_was * (*calls as f64 - again)) / candidate.assembled as f64;
            entry.0 += amount;
            // The version that grew most answers for all of them.
            let most = most_of.entry((&party.service, &party.operation)).or_insert(f64::NEG_INFINITY);
            if amount > *most {
                (*most, entry.1) = (amount, party);
            }
        }
    }
    for down in arms.down() {
        // What was waited for in vain is no work of the candidate's.
        let waited = down.ns / candidate.assembled as f64;
        own -= waited;
        growth.entry((&down.party.service, &down.party.operation)).or_insert((0.0, down.party)).0 += waited;
    }
    if let Some((party, ns)) = arms.waited() {
        let waited = ns / candidate.assembled as f64;
        own -= waited;
        growth.entry((&party.service, &party.operation)).or_insert((0.0, party)).0 += waited;
    }
    let most = growth.values().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(amount, _)| *amount > own.max(0.0));
    settle(arms, most.map(|(_, party)| *party))
}

/// Traces what failed at a callee: it is the candidate's doing where others are served well at the same time.
pub(crate) fn settle_failed(arms: &Arms<'_>, party: &Party) -> Origin {
    let (failed, made) = arms.control.failed_of(&party.service, Some(&party.operation));
    let usual = (failed as f64 / made.max(1) as f64).min(1.0);
    let alone = arms.testimony.of_failed(party, usual) == Testimony::ThisOneAlone;
    settle(arms, Some(party).filter(|_| !alone || arms.design == Design::Concurrent))
}

pub(crate) fn settle(arms: &Arms<'_>, party: Option<&Party>) -> Origin {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn party(service: &str, version: &str) -> Party {
        Party {
            namespace: String::new(),
            service: service.to_owned(),
            version: version.to_owned(),
            operation: "POST /charge".to_owned(),
        }
    }

    fn arms<'a>(candidate: &'a Arm, control: &'a Arm) -> Arms<'a> {
        let design = Design::Concurrent;
        let (service, operation) = ("checkout", "POST /orders");
        // No call of theirs went unanswered, and nobody fails.
        let (outages, forgone, testimony) =
            (Box::leak(Box::default()), Box::leak(Box::default()), Box::leak(Box::default()));
        let each = 1.0;
        Arms { service, version: "2", operation, design, candidate, control, outages, forgone, testimony, each }
    }

    #[test]
    fn the_version_that_fails_more_is_named_and_not_one_that_failed_all_along() {
        let control = Arm { assembled: 1_000, blame: [(party("payment", "1"), 10)].into(), ..Arm::default() };
        let blame = [(party("payment", "1"), 40), (party("payment", "2"), 200)].into();
        let candidate = Arm { assembled: 4_000, blame, ..Arm::default() };
        let (amount, origin) = excess_errors(&arms(&candidate, &control));
        assert!((amount - 200.0).abs() < 1e-9, "{amount}");
        assert!(origin.elsewhere && origin.culprit.version == "2", "{origin:?}");
        // Where both call what failed all along, it fails because of the candidate.
        let candidate = Arm { blame: [(party("payment", "1"), 240)].into(), ..candidate };
        assert!(!of_errors(&arms(&candidate, &control)).elsewhere);
    }

    #[test]
    fn the_version_that_grew_slow_is_named_and_not_one_that_is_as_it_was() {
        let control = Arm { assembled: 100, callees: [(party("payment", "1"), (100, 1_000))].into(), ..Arm::default() };
        let callees = [(party("payment", "1"), (100, 1_000)), (party("payment", "2"), (100, 9_000))].into();
        let candidate = Arm { assembled: 200, callees, ..Arm::default() };
        let origin = of_latency(&arms(&candidate, &control));
        assert!(origin.elsewhere && origin.culprit.version == "2", "{origin:?}");
    }
}
