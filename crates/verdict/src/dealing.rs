//! How the time before the start is dealt out over the time after it.
//!
//! *Invariants.* It depends on times, and on what is left out of the time before, and never on the candidate.

use plimsoll_model::Bucket;

use crate::incident::Incidents;
use crate::tolerances::Tolerances;

/// How the time before the start is dealt out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dealing {
    pub(crate) start: Bucket,
    /// The first bucket that there is, and how many after the start are compared with those before.
    first: Bucket,
    watch: u64,
    /// Buckets after the start that share one portion.
    pub(crate) after: u64,
    /// Buckets before the start in a portion.
    pub(crate) before: u64,
    /// The attribute that tells zones.
    pub(crate) zone: Option<&'static str>,
    /// The buckets that are not dealt out.
    pub(crate) incidents: Incidents,
}

impl Dealing {
    /// Deals the time from `first` on out to `watch_max_s` after the start.
    pub(crate) fn new(first: Bucket, start: Bucket, incidents: Incidents, tolerances: &Tolerances) -> Self {
        let watch = (tolerances.watch_max_s / 10).max(1);
        let dealing = Self { start, first, watch, after: 1, before: 1, zone: None, incidents };
        dealing.without(incidents)
    }

    /// Deals out what there is without other incidents.
    pub(crate) fn without(self, incidents: Incidents) -> Self {
        let length = (self.start.0 - self.first.0).saturating_sub(incidents.since(self.first)).max(1);
        let (after, before) = (self.watch.div_ceil(length).clamp(1, 6), (length / self.watch).max(1));
        Self { after, before, incidents, ..self }
    }

    /// The portion that a bucket before the start is in; what is beyond an incident moves up.
    pub(crate) fn portion(&self, bucket: Bucket) -> Option<u64> {
        let distance = self.start.0 - 1 - bucket.0;
        (!self.incidents.contain(bucket)).then(|| (distance - self.incidents.since(bucket)) / self.before.max(1))
    }
}
