//! What came so long after it happened that nobody waits for it any more: of which versions, and of which times.
//!
//! *Invariants.* Whoever takes it gets each bucket once, with when the last of it was received. Where more than [`NOTED_MAX`] are not
//! taken, as in a recording of the past, those that come first are kept.
//!
//! *Cost.* One comparison for a run of rows of one emitter and bucket; a place in a map for one that is belated.

use std::collections::BTreeMap;

use plimsoll_model::{Bucket, Interval, ServiceKey, UnixNanos};

use crate::state::SignalState;

/// What came so much later than its bucket ended is belated, in nanoseconds.
const BELATED_NS: u64 = 180_000_000_000;
/// Buckets of versions that are kept until they are taken.
const NOTED_MAX: usize = 16_384;

/// What came late of a version of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belated {
    /// Who emitted it.
    pub service: ServiceKey,
    /// The version; empty where the service tells none.
    pub version: String,
    /// When it happened, each bucket with when the last of it was received; in order.
    pub buckets: Vec<(Bucket, UnixNanos)>,
}

impl Belated {
    /// Says whether anything that happened within `time` was received after `at`.
    pub fn is_of(&self, time: Interval, at: UnixNanos) -> bool {
        self.buckets.iter().any(|(bucket, received)| time.contains(bucket.start()) && *received > at)
    }
}

/// Buckets of versions, by their numbers, with the latest receipt.
#[derive(Debug, Default)]
pub(crate) struct Noted(BTreeMap<(u32, u64), u64>);

impl Noted {
    /// Takes note of rows of a version that were received at `received`, where that is late.
    #[inline]
    pub(crate) fn note(&mut self, version: u32, bucket: u64, received: u64) {
        if (bucket + 1).saturating_mul(Bucket::WIDTH_NS).saturating_add(BELATED_NS) < received {
            self.keep(version, bucket, received);
        }
    }

    fn keep(&mut self, version: u32, bucket: u64, received: u64) {
        let full = self.0.len() >= NOTED_MAX;
        match self.0.get_mut(&(version, bucket)) {
            Some(last) => *last = received.max(*last),
            None if full => {}
            None => {
                self.0.insert((version, bucket), received);
            }
        }
    }

    /// Lists the versions that something came late of.
    pub(crate) fn versions(&self) -> impl Iterator<Item = u32> {
        self.0.keys().map(|(version, _)| *version)
    }
}

impl SignalState {
    /// Takes what came more than three minutes after its bucket ended since the last call, by version.
    pub fn take_belated(&mut self) -> Vec<Belated> {
        let mut found: Vec<(u32, Belated)> = Vec::new();
        for ((version, bucket), received) in std::mem::take(&mut self.belated.0) {
            let one = (Bucket(bucket), UnixNanos(received));
            match found.last_mut().filter(|(last, _)| *last == version) {
                Some((_, of)) => of.buckets.push(one),
                None => {
                    let key = self.registry.versions.key(version);
                    let service = self.registry.services.key(key.service).clone();
                    found.push((version, Belated { service, version: key.version.to_string(), buckets: vec![one] }));
                }
            }
        }
        found.into_iter().map(|(_, of)| of).collect()
    }
}
