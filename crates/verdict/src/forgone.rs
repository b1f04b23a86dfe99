//! Calls that are not made while whom they would go to fails.
//!
//! A caller whose calls failed often enough does without for a while (a circuit breaker, outlier detection): it fails requests at once or falls back, and
//! no trace says why. While a callee fails, as [`crate::failing`] tells, calls to it that are missing are its doing, and so are as many of the
//! requests that the caller fails by itself at the same time. What a callee that is well is no more called for is the caller's own.
//!
//! *One after the other* alone: side by side the control calls the same callee.

use std::collections::BTreeMap;

use plimsoll_model::Bucket;
use plimsoll_model::signal::{OperationCell, Party};

use crate::culprit::{Arm, Arms};
use crate::failing::{FailedCalls, Failing};
use crate::unanswered::usual_calls;

/// What an operation of the candidate did while one of its callees failed.
#[derive(Debug, Clone, Copy, Default)]
struct Meanwhile {
    assembled: u64,
    /// Requests that failed by themselves.
    own: u64,
    calls: u64,
    /// Time that requests took themselves.
    ns: u64,
}

/// What one operation of the candidate did while its callees failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forgone {
    /// By their service.
    meanwhile: BTreeMap<String, Meanwhile>,
    /// Calls that were made and failed.
    pub(crate) failed: FailedCalls,
}

/// Calls to one callee that were not made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Missing<'a> {
    pub(crate) party: &'a Party,
    pub(crate) calls: f64,
    /// Requests that failed by themselves at the same time, no more than calls are missing.
    pub(crate) failed: f64,
}

impl Forgone {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.meanwhile.len() * 120 + self.failed.bytes()
    }

    /// Takes one bucket of the candidate; `usual` are arms that tell how often it calls.
    pub(crate) fn push<'a>(
        &mut self,
        bucket: Bucket,
        cells: impl Iterator<Item = &'a OperationCell> + Clone,
        usual: &[&Arm],
        failing: &Failing,
    ) {
        self.failed.push(bucket, cells.clone(), usual, failing);
        for service in failing.broken(bucket) {
            let sum = self.meanwhile.entry(service.to_owned()).or_default();
            for cell in cells.clone() {
                let made = cell.callees.iter().filter(|(party, _)| party.service == service && !party.is_unanswered());
                sum.assembled += cell.assembled;
                sum.ns += cell.self_time_ns;
                sum.own += own(cell, failing.caller());
                sum.calls += made.map(|(_, time)| time.calls).sum::<u64>();
            }
        }
    }

    /// Returns the callee while which failed, or was slow, requests waited longest in the service itself, and how long they did in addition: for a place.
    pub(crate) fn waited<'a>(&self, arms: &Arms<'a>) -> Option<(&'a Party, f64)> {
        let usual = arms.control.self_ns as f64 / arms.control.assembled.max(1) as f64;
        let each = self.meanwhile.iter().filter_map(|(service, during)| {
            let called = arms.control.callees.iter().chain(&arms.candidate.callees);
            let (party, _) =
                called.filter(|(party, _)| party.service == *service).max_by_key(|(_, (calls, _))| *calls)?;
            Some((party, (during.ns as f64 - usual * during.assembled as f64).max(0.0)))
        });
        each.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Lists the callees that were called less than usual while they failed.
    pub(crate) fn missing<'a>(&self, arms: &Arms<'a>) -> Vec<Missing<'a>> {
        let each = self.meanwhile.iter().filter_map(|(service, during)| {
            let calls = usual_calls(arms, service, during.assembled, during.calls) - during.calls as f64;
            let called = arms.control.callees.iter().chain(&arms.candidate.callees);
            let (party, _) =
                called.filter(|(party, _)| party.service == *service).max_by_key(|(_, (calls, _))| *calls)?;
            (calls > 0.0).then(|| Missing { party, calls, failed: calls.min(during.own as f64) })
        });
        each.collect()
    }
}

/// Requests whose failure began in the service itself.
pub(crate) fn own(cell: &OperationCell, service: &str) -> u64 {
    cell.blame.iter().filter(|(party, _)| party.service == service).map(|(_, count)| count).sum()
}
