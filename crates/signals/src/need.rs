//! What is needed of which service, and how far back what is not had to be forgotten.
//!
//! Cells are many and room is not, so what goes first is what nobody asks for: of services without an open deploy the oldest
//! buckets, then those of services beside a deployed one, and only then what the deploy itself is judged by. Whatever went
//! before its time is said: [`SignalState::forgotten`].
//!
//! *Invariants.* What is needed outlives the retention. Of a service all settled cells of operations from
//! [`SignalState::forgotten`] on are held that were ever folded and are not older than the retention.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use plimsoll_model::{Bucket, ServiceKey, UnixNanos};

use crate::columns::SchemaError;
use crate::registry::Registry;
use crate::state::SignalState;

/// From which buckets on a service is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// By deploys of its own.
    own: u64,
    /// By deploys of services that it calls or that call it.
    beside: u64,
}

/// How much a cell may be needed: not at all, beside a deploy, by one.
pub(crate) const RANKS: usize = 3;

impl Default for Need {
    fn default() -> Self {
        Self { own: u64::MAX, beside: u64::MAX }
    }
}

impl Need {
    /// Says how much a cell of a bucket is needed.
    pub(crate) fn rank(self, bucket: u64) -> usize {
        match bucket {
            _ if bucket >= self.own => 2,
            _ if bucket >= self.beside => 1,
            _ => 0,
        }
    }

    /// Returns the first bucket to keep where all others are kept from `keep` on.
    pub(crate) fn floor(self, keep: u64) -> u64 {
        keep.min(self.own).min(self.beside)
    }

    /// What either needs.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { own: self.own.min(other.own), beside: self.beside.min(other.beside) }
    }
}

/// Up to which bucket cells of each rank go, so that no more than wanted are left.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cuts([u64; RANKS]);

impl Cuts {
    /// Finds them: `counted` are cells by rank and bucket, of which `excess` must go.
    pub(crate) fn of(counted: [BTreeMap<u64, usize>; RANKS], mut excess: usize) -> Self {
        let mut cuts = Self::default();
        for (cut, by_bucket) in cuts.0.iter_mut().zip(counted) {
            for (bucket, cells) in by_bucket {
                if excess == 0 {
                    return cuts;
                }
                *cut = bucket + 1;
                excess = excess.saturating_sub(cells);
            }
        }
        cuts
    }

    /// Says whether a cell goes.
    pub(crate) fn take(self, need: Need, bucket: u64) -> bool {
        bucket < self.0[need.rank(bucket)]
    }
}

impl Registry {
    pub(crate) fn need_of_version(&self, version: u32) -> Need {
        self.service[self.versions.key(version).service as usize].need
    }

    pub(crate) fn need_of_operation(&self, operation: u32) -> Need {
        self.service[self.operations.key(operation).service as usize].need
    }
}

impl SignalState {
    /// Says what open deploys need: services, each with the start of what its deploys are judged by. All that was needed
    /// before and is not named any more is free to go. Services that a named one calls or is called by, and those that call the same ones, are kept
    /// likewise, as long as there is room beside those named.
    pub fn keep(&mut self, needed: &BTreeMap<ServiceKey, UnixNanos>) {
        for service in &mut self.registry.service {
            service.need = Need::default();
        }
        let mut starts: BTreeMap<u32, u64> = BTreeMap::new();
        for (key, from) in needed {
            if let Some(service) = self.registry.services.get(key) {
                starts.insert(service, from.bucket().0);
            }
        }
        if starts.is_empty() {
            return;
        }
        let mut calls: BTreeSet<(u32, u32)> = BTreeSet::new();
        let mut met: BTreeSet<(u32, [u32; 2])> = BTreeSet::new();
        for (from, party) in self.registry.edges.keys() {
            let [namespace, called, ..] = self.registry.parties.key(*party).names();
            if !met.insert((*from, [namespace, called])) {
                continue;
            }
            let caller = self.registry.services.key(*from);
            let callee = ServiceKey {
                environment: caller.environment.clone(),
                namespace: self.registry.names.key(namespace).to_string(),
                service: self.registry.names.key(called).to_string(),
            };
            calls.extend(self.registry.services.get(&callee).map(|callee| (*from, callee)));
        }
        let mut beside: Vec<(u32, u64)> = Vec::new();
        let mut called: BTreeMap<u32, u64> = BTreeMap::new();
        for (from, callee) in &calls {
            if let Some(start) = starts.get(from) {
                let earliest = called.entry(*callee).or_insert(*start);
                *earliest = (*earliest).min(*start);
            }
            beside.extend(starts.get(callee).map(|start| (*from, *start)));
        }
        for (from, callee) in &calls {
            beside.extend(called.get(callee).map(|start| (*from, *start)));
        }
        beside.extend(called);
        for (service, start) in beside {
            let need = &mut self.registry.service[service as usize].need;
            *need = need.or(Need { beside: start, ..Need::default() });
        }
        for (service, start) in starts {
            let need = &mut self.registry.service[service as usize].need;
            *need = need.or(Need { own: start, ..Need::default() });
        }
    }

    /// Returns up to when cells of a service's operations had to go before their time for lack of room: what was known of it
    /// before is no longer, in part or as a whole.
    pub fn forgotten(&self, service: &ServiceKey) -> UnixNanos {
        let known = self.registry.services.get(service);
        known.map_or(UnixNanos(0), |id| Bucket(self.registry.service[id as usize].forgotten).start())
    }

    /// Takes back what had to go of a service since `from`: `rows` are all stored rows of its operations of the buckets from
    /// there up to [`Self::forgotten`], which are not forgotten any more where there is room for them.
    ///
    /// # Errors
    /// A batch is not in the stored schema; what came before it was taken.
    pub fn recall(&mut self, service: &ServiceKey, from: UnixNanos, rows: &[RecordBatch]) -> Result<(), SchemaError> {
        let Some(id) = self.registry.services.get(service) else { return Ok(()) };
        let known = &mut self.registry.service[id as usize];
        let gone = from.bucket().0..known.forgotten;
        if gone.is_empty() {
            return Ok(());
        }
        known.forgotten = gone.start;
        // What came late and was kept of them is among the rows.
        for series in &known.series {
            self.cells.drop_within(*series, &gone);
        }
        rows.iter().try_for_each(|batch| self.load_operations(batch, true))
    }
}
