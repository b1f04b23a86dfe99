//! Requests at the top of a trace, counted by the versions of all services below them.
//!
//! *Cost.* Traces take few paths: which versions lead where is remembered ([`KnownPaths`]) and compared by number, and nothing
//! is allocated for a trace all of whose spans hang below one.

use plimsoll_model::logarithm::bucket_and_ln;

use crate::assembly::Assembly;
use crate::cell::units;
use crate::intern::Mix;
use crate::sides::PathId;
use crate::state::SignalState;
use crate::traces::OpenSpan;

/// Services of one path; of a trace with more it is not said which took part.
const PARTICIPANTS_MAX: usize = 64;
/// Paths remembered.
const KNOWN: usize = 256;

/// One path, and the place of its series.
#[derive(Default, Clone)]
struct Known {
    operation: u32,
    versions: Box<[u32]>,
    place: u32,
}

/// Places of the series of paths met of late: one of each remainder, the newest stays.
#[derive(Default)]
pub(crate) struct KnownPaths {
    slots: Vec<Known>,
    /// As of when places are right.
    epoch: u64,
}

impl KnownPaths {
    fn slot(operation: u32, versions: &[u32]) -> usize {
        use std::hash::Hasher;
        let mut mix = Mix::default();
        mix.write_u32(operation);
        versions.iter().for_each(|version| mix.write_u32(*version));
        mix.finish() as usize % KNOWN
    }

    fn find(&self, epoch: u64, operation: u32, versions: &[u32]) -> Option<u32> {
        let known = self.slots.get(Self::slot(operation, versions)).filter(|_| self.epoch == epoch)?;
        (known.operation == operation && *known.versions == *versions).then_some(known.place)
    }

    fn remember(&mut self, epoch: u64, operation: u32, versions: &[u32], place: u32) {
        if self.epoch != epoch || self.slots.is_empty() {
            self.slots.clear();
            self.slots.resize(KNOWN, Known::default());
            self.epoch = epoch;
        }
        self.slots[Self::slot(operation, versions)] = Known { operation, versions: versions.into(), place };
    }
}

/// What is listed of the trace at hand; made once.
#[derive(Default)]
pub(crate) struct PathsAtHand {
    known: KnownPaths,
    versions: Vec<u32>,
    /// Roots, with the versions below each, and with the services of which a request failed.
    below: Vec<(u32, u32)>,
    failed: Vec<(u32, u32)>,
}

impl SignalState {
    pub(crate) fn count_paths(&mut self, assembly: &Assembly, at_hand: &mut PathsAtHand, trace: u128) {
        if assembly.versions.len() <= 1 {
            return;
        }
        let node = |at: u32| &assembly.nodes[at as usize];
        let PathsAtHand { versions, below, failed, .. } = &mut *at_hand;
        failed.clear();
        if assembly.any_failed {
            let requests = assembly.requests.iter().map(|at| node(*at)).filter(|node| node.span.failed);
            failed.extend(requests.map(|node| (node.root, node.service)));
            failed.sort_unstable();
            failed.dedup();
        }
        versions.clear();
        if assembly.roots == 1 {
            versions.extend_from_slice(&assembly.versions);
        } else {
            // Of each root the versions below it, so that many requests of one root cost no more than one.
            below.clear();
            below.extend(assembly.nodes.iter().map(|node| (node.root, node.span.version)));
            below.sort_unstable();
            below.dedup();
        }
        for &at in assembly.requests.iter().filter(|at| assembly.is_topmost(**at)) {
            let PathsAtHand { versions, below, failed, .. } = &mut *at_hand;
            let root = node(at).root;
            if assembly.roots > 1 {
                let from = below.partition_point(|(other, _)| *other < root);
                let mine = below[from..].iter().take_while(|(other, _)| *other == root);
                versions.clear();
                versions.extend(mine.map(|(_, version)| *version));
            }
            if versions.len() > 1 {
                let from = failed.partition_point(|(other, _)| *other < root);
                let to = failed.partition_point(|(other, _)| *other <= root);
                self.count_path(at_hand, &node(at).span, trace, from..to);
            }
        }
    }

    /// Returns the place of the series of the path at hand.
    fn path_place(&mut self, at_hand: &mut PathsAtHand, operation: u32) -> Option<u32> {
        let versions = if at_hand.versions.len() > PARTICIPANTS_MAX { &[] } else { at_hand.versions.as_slice() };
        let epoch = self.sides.paths.epoch();
        if let Some(place) = at_hand.known.find(epoch, operation, versions) {
            return Some(place);
        }
        let limits = self.side_limits();
        let known = self.sides.path_sets.get(versions).map(|path| PathId { operation, path });
        if let Some(id) = known.filter(|id| self.sides.paths.contains(id)) {
            let place = self.sides.paths.place(&id, limits)?;
            at_hand.known.remember(epoch, operation, versions, place);
            return Some(place);
        }
        let paths = self.sides.paths_of.entry(operation).or_default();
        let fits = *paths < self.registry.limits.paths_per_entry_max && self.sides.paths.has_room(limits);
        *paths += usize::from(fits);
        if !fits {
            self.registry.crowded = true;
            self.registry.counters.pathless_traces += 1;
        }
        let versions = if fits { versions } else { &[] };
        let id = PathId { operation, path: self.sides.path_sets.intern(versions.into()) };
        self.sides.paths.place(&id, limits)
    }

    fn count_path(&mut self, at_hand: &mut PathsAtHand, entry: &OpenSpan, trace: u128, failed: std::ops::Range<usize>) {
        let Some(place) = self.path_place(at_hand, entry.what) else { return };
        let failed = &at_hand.failed[failed];
        let limits = self.side_limits();
        let Some(cell) = self.sides.paths.cell_at(place, u64::from(entry.bucket), limits) else { return };
        let (_, log) = bucket_and_ln(entry.end.saturating_sub(entry.start));
        cell.traces += 1;
        cell.log_sum = cell.log_sum.saturating_add(units(log));
        cell.log_sum_sq = cell.log_sum_sq.saturating_add(units(log * log));
        if failed.is_empty() {
            return;
        }
        let failures = cell.failures.get_or_insert_default();
        failed.iter().for_each(|(_, service)| failures.within.add(*service, 1));
        if entry.failed {
            cell.failed += 1;
            failed.iter().for_each(|(_, service)| failures.both.add(*service, 1));
            failures.exemplars.offer(trace.to_be_bytes());
        }
    }
}
