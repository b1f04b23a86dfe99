//! Whether others reach whom a service calls: their calls that were answered, and those that nobody answered.
//!
//! *Cost.* One walk over the cells of at most [`SERVICES_MAX`] services that call one of the same callees.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::aggregates::{Served, ServedSeries};
use plimsoll_model::signal::Party;
use plimsoll_model::{Bucket, Interval, ServiceKey};

use crate::cell::Cell;
use crate::state::SignalState;
use crate::vitals::SERVICES_MAX;

/// Whom calls were meant for and their operation, and whether nobody answered them.
type Target = ((String, String), bool);

impl SignalState {
    /// Lists the namespaces and names of whom `service` calls, and the services beside it that call any of those and are none of them.
    fn called_and_witnesses(&self, service: &ServiceKey) -> (BTreeSet<(String, String)>, BTreeSet<ServiceKey>) {
        let mut edges: BTreeSet<(ServiceKey, (String, String))> = BTreeSet::new();
        self.each_edge(|from, (namespace, called)| {
            if from.environment == service.environment {
                edges.insert((from.clone(), (namespace.to_owned(), called.to_owned())));
            }
        });
        let name = |key: &ServiceKey| (key.namespace.clone(), key.service.clone());
        let own = name(service);
        let called = edges.iter().filter(|(from, to)| from == service && *to != own).map(|(_, to)| to.clone());
        let called: BTreeSet<(String, String)> = called.collect();
        // A callee calls on behalf of the service as well.
        let others =
            edges.into_iter().filter(|(from, to)| from != service && called.contains(to)).map(|(from, _)| from);
        let others = others.filter(|other| !called.contains(&name(other))).collect();
        (called, others)
    }

    /// Lists the services that [`Self::witnesses`] asks.
    pub(crate) fn witnesses_of(&self, service: &ServiceKey) -> impl Iterator<Item = ServiceKey> {
        self.called_and_witnesses(service).1.into_iter().take(SERVICES_MAX)
    }

    /// Returns how calls of others to the operations that `service` calls fared, in its environment. Calls that nobody answered stand under the names that
    /// their callers have for whom these were meant for: those that `service` has, too, and those of its callees.
    pub fn witnesses(&self, service: &ServiceKey, within: Interval) -> Vec<ServedSeries> {
        let (called, others) = self.called_and_witnesses(service);
        let buckets = within.from.0.div_ceil(Bucket::WIDTH_NS)..within.to.0.div_ceil(Bucket::WIDTH_NS);
        let own = self.registry.services.get(service);
        let edges = self.registry.edges.keys().filter(|(from, _)| Some(*from) == own);
        let parties = edges.map(|(_, party)| self.registry.party(*party));
        let asked: BTreeSet<(String, String, String)> =
            parties.map(|Party { namespace, service, operation, .. }| (namespace, service, operation)).collect();
        // Of each party that counts its target, and whether calls to it went unanswered.
        let mut targets: BTreeMap<u32, Option<Target>> = BTreeMap::new();
        let target_of = |party: u32| {
            let Party { namespace, service, operation, .. } = self.registry.party(party);
            let in_vain = self.registry.party(party).is_unanswered();
            if in_vain {
                let host = service.split(['.', ':']).next().unwrap_or(&service);
                let is_callee = || called.iter().any(|(_, callee)| callee.eq_ignore_ascii_case(host));
                let counts = asked.iter().any(|(_, target, _)| *target == service) || is_callee();
                return counts.then_some(((service, String::new()), true));
            }
            let key = (namespace, service, operation);
            asked.contains(&key).then_some(((key.1, key.2), false))
        };
        let mut found: BTreeMap<(String, String), BTreeMap<u64, Served>> = BTreeMap::new();
        let mut room = Cell::default();
        for other in others.into_iter().take(SERVICES_MAX) {
            let Some(id) = self.registry.services.get(&other) else { continue };
            let mut add = |bucket: u64, cell: &Cell| {
                for (party, time) in &cell.callees {
                    let target = targets.entry(*party).or_insert_with(|| target_of(*party));
                    let Some((target, in_vain)) = target else { continue };
                    let sum = found.entry(target.clone()).or_default().entry(bucket).or_default();
                    *(if *in_vain { &mut sum.unanswered } else { &mut sum.answered }) += time.calls;
                }
            };
            for &series in &self.registry.service[id as usize].series {
                let Some(cells) = self.cells.series(series) else { continue };
                for (bucket, cell) in cells.rolling.range(buckets.clone()) {
                    cell.put_into(&mut room);
                    add(*bucket, &room);
                }
                let pending = cells.pending.iter().filter(|(bucket, _)| buckets.contains(bucket));
                pending.for_each(|(bucket, cell)| add(*bucket, cell));
            }
        }
        let series = found.into_iter().map(|((target, operation), cells)| ServedSeries {
            target,
            operation,
            cells: cells.into_iter().map(|(bucket, served)| (Bucket(bucket), served)).collect(),
        });
        series.collect()
    }
}
