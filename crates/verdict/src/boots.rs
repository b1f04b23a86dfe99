//! When instances of the candidate start: what they say then outside of requests tells nothing of the deploy.
//!
//! Whoever starts logs what is not there yet, and a rollout starts everybody while in the hour before nobody did. So exceptions and
//! messages that come without a request count only where no instance of the candidate is younger than a minute: what goes on
//! after that is found, and whoever starts again and again is found by [`crate::restarts`]. Where the control's instances started
//! too, it is known what they say when they do.
//!
//! *Invariants.* What is said of a bucket follows from that bucket and earlier ones.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::Bucket;
use plimsoll_model::presence::{Distinct, PresenceSeries};

use crate::design::{Frame, Role};

/// Buckets after the one in which it started, or was first met, for which an instance is just starting.
const STARTING_BUCKETS: u64 = 6;
/// Starts of the control from which it is known what is said then, and so many for each of the candidate's.
const KNOWN_MIN: u64 = 3;
const KNOWN_SHARE: f64 = 0.5;

/// Buckets in which instances of the candidate are just starting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Boots(BTreeSet<Bucket>);

/// What began in one bucket: starts of the candidate and of the control, and whether an instance of the candidate was first met.
#[derive(Default)]
struct Begun {
    candidate: u64,
    control: u64,
    met: bool,
}

impl Boots {
    /// Looks at every bucket of the frame.
    pub(crate) fn of(frame: &Frame, presence: &[PresenceSeries]) -> Self {
        let mut begun: BTreeMap<Bucket, Begun> = BTreeMap::new();
        for series in presence {
            let mut known: BTreeSet<u64> = BTreeSet::new();
            for (bucket, cell) in series.cells.iter().filter(|(bucket, _)| *bucket < frame.end) {
                let here = begun.entry(*bucket).or_default();
                let own = series.version == frame.version && !frame.same;
                match frame.role(&series.version, *bucket) {
                    Some(Role::Control | Role::Before) => here.control += cell.starts.count(),
                    Some(Role::Candidate) => here.candidate += cell.starts.count(),
                    None if own => here.candidate += cell.starts.count(),
                    None => continue,
                }
                // Beyond that many it is an estimate, and those kept of them change.
                let exact = cell.instances.0.len() < Distinct::MAX;
                let fresh = cell.instances.0.iter().filter(|instance| known.insert(**instance)).count() > 0;
                here.met |= own && exact && fresh;
            }
        }
        let (mut starting, mut last, mut candidate, mut control) = (BTreeSet::new(), None, 0, 0);
        for bucket in (frame.earliest.0..frame.end.0).map(Bucket) {
            if let Some(here) = begun.get(&bucket) {
                (candidate, control) = (candidate + here.candidate, control + here.control);
                last = Some(bucket).filter(|_| here.met || here.candidate > 0).or(last);
            }
            let young = last.is_some_and(|last| bucket.0 <= last.0 + STARTING_BUCKETS);
            let known = control >= KNOWN_MIN && control as f64 >= KNOWN_SHARE * candidate as f64;
            if young && !known {
                starting.insert(bucket);
            }
        }
        Self(starting)
    }

    /// Says whether what the candidate says outside of requests in `bucket` is what instances say that start.
    pub(crate) fn are_in(&self, bucket: Bucket) -> bool {
        self.0.contains(&bucket)
    }
}
