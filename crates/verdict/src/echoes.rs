//! What comes of other people's failures: messages, exceptions and failures further up that are no news of the deploy's own.
//!
//! A failure that the service passes on is thrown, logged and seen at the top of the trace as well, a few times each; so is one that it
//! swallows. As many of these as such failures account for are those of whoever failed ([`crate::culprit`]).

use std::collections::BTreeMap;

use plimsoll_model::signal::Party;
use plimsoll_model::{Bucket, Culprit, Design};

use crate::culprit::{self, Arms, Origin};
use crate::fold::Fold;
use crate::novelty::Seen;

/// Messages or exceptions that one failure passed on may leave: attempts are repeated, and layers report.
pub(crate) const SAID_EACH: f64 = 3.0;

/// Messages or exceptions that came while no callee failed, and their share of all, from which on callees do not account for any.
const WITHOUT_MIN: f64 = 10.0;
const WITHOUT: f64 = 0.25;

/// Requests at the top that one failure passed on may fail: one, and some for traces that are not whole.
pub(crate) const FAILED_EACH: f64 = 1.5;

/// Share of the restarts that fall into a callee's outage where they come of it.
const MEANWHILE: f64 = 0.75;

impl Fold {
    /// Returns where failures come from that the service passes on, where those account for `said` messages, exceptions or
    /// failures further up, `each` of them for so many: what comes of them is no news of its own. No more than `arrived` of
    /// them count where that is said.
    pub(crate) fn echoed(&self, said: f64, each: f64, arrived: f64) -> Option<Origin> {
        let (mut own, mut passed_on) = (0.0, 0.0);
        let mut most: Option<(f64, Origin)> = None;
        for (index, op) in self.operations.iter().enumerate() {
            let (amount, origin) = self.passed_on(index);
            let amount = op.known.each(self.frame.drawn) * amount;
            if !origin.elsewhere {
                own += amount;
                continue;
            }
            passed_on += amount;
            if most.as_ref().is_none_or(|(least, _)| amount > *least) {
                most = Some((amount, origin));
            }
        }
        let accounts = passed_on > own && said <= each * passed_on.min(arrived);
        most.filter(|_| accounts).map(|(_, origin)| origin)
    }

    /// Returns where requests of the service's callers failed that it had no part in, where those account for `more` failures at
    /// the top. Side by side the control's callers call the same others.
    pub(crate) fn beside_it(&self, more: f64) -> Option<Origin> {
        let (failed, party) = self.callers.failed_elsewhere().filter(|_| self.design() != Design::Concurrent)?;
        let Party { service, version, operation, .. } = party.clone();
        let culprit = Culprit { service, version, operation };
        (more <= FAILED_EACH * failed).then_some(Origin { culprit, elsewhere: true, traced: true })
    }

    /// Returns whom calls failed to that the service does without, where those account for `said` messages or exceptions.
    pub(crate) fn swallowed(&self, said: f64) -> Option<Origin> {
        let mut failed = 0.0;
        let mut most: Option<(f64, Origin)> = None;
        for index in 0..self.operations.len() {
            let arms = self.arms(index);
            let missing = arms.missing_calls().into_iter().map(|gone| (gone.party, arms.each * gone.calls));
            let overcome = arms.down().into_iter().map(|down| (down.party, arms.each * down.overcome));
            let overcome = overcome.filter(|(_, n)| *n > 0.0);
            let failed_calls = arms.failed_calls().into_iter().map(|of| (of.party, of.calls));
            for (party, calls) in failed_calls.chain(missing).chain(overcome) {
                failed += calls;
                if most.as_ref().is_none_or(|(least, _)| calls > *least) {
                    most = Some((calls, culprit::settle_failed(&arms, party)));
                }
            }
        }
        most.filter(|_| said <= SAID_EACH * failed).map(|(_, origin)| origin)
    }

    /// Returns whose outage it was in which nearly all restarts fell: whoever asks an instance whether it is alive may ask it for its callees
    /// as well, and kill it. Side by side the control's would be killed at the same time.
    pub(crate) fn restarted_meanwhile(&self) -> Option<Origin> {
        if self.design() == Design::Concurrent {
            return None;
        }
        let arms: Vec<Arms<'_>> = (0..self.operations.len()).map(|index| self.arms(index)).collect();
        let down = arms.iter().flat_map(|arms| arms.down()).max_by(|a, b| a.calls().total_cmp(&b.calls()));
        let (mut all, mut meanwhile, mut broken) = (0.0, 0.0, BTreeMap::new());
        for (bucket, again) in self.restarts.candidate.restarted() {
            all += again;
            let fails = self.failing.broken(bucket).next();
            if let Some(service) = fails {
                *broken.entry(service).or_insert(0.0) += again;
            }
            let waits = down.is_some() && self.operations.iter().any(|op| op.outages.is_near(bucket));
            meanwhile += if fails.is_some() || waits { again } else { 0.0 };
        }
        if all <= 0.0 || meanwhile < MEANWHILE * all {
            return None;
        }
        let most = broken.into_iter().max_by(|a, b| f64::total_cmp(&a.1, &b.1)).map(|(service, _)| service.to_owned());
        let service = most.or_else(|| down.map(|down| down.party.service.clone()))?;
        let culprit = Culprit { service, version: String::new(), operation: String::new() };
        Some(Origin { culprit, elsewhere: true, traced: true })
    }

    /// Says whether a good part of what was thrown or logged came while no callee failed, whatever came while one did.
    pub(crate) fn comes_without(&self, seen: &Seen) -> bool {
        let mut failed: BTreeMap<Bucket, f64> = BTreeMap::new();
        for op in &self.operations {
            for recent in &op.recent {
                let overcome = op.known.each(self.frame.drawn) * op.outages.overcome_at(recent.bucket);
                let calls = op.forgone.failed.at(recent.bucket) + overcome;
                *failed.entry(recent.bucket).or_default() += calls.max(f64::from(recent.errors));
            }
        }
        let (mut without, mut all) = (0.0, 0.0);
        for (bucket, count) in &seen.candidate {
            let latest = failed.range(Bucket(bucket.0.saturating_sub(1))..=*bucket).map(|(_, calls)| calls);
            let broken = self.failing.broken(*bucket).next().is_some();
            let covered = if broken { f64::INFINITY } else { SAID_EACH * latest.sum::<f64>() };
            all += *count as f64;
            without += (*count as f64 - covered).max(0.0);
        }
        without >= WITHOUT_MIN && without >= WITHOUT * all
    }
}
