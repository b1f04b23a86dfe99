//! How whom a service calls serves its other callers: calls that were answered, that failed, and that nobody answered.
//!
//! *Cost.* One walk over the cells of at most [`SERVICES_MAX`] services that call one of the same callees.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::aggregates::{Served, ServedSeries};
use plimsoll_model::signal::Party;
use plimsoll_model::{Bucket, Interval, ServiceKey};

use crate::cell::Cell;
use crate::state::SignalState;
use crate::vitals::SERVICES_MAX;

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

    /// Returns how the callees of `service` served others of its environment. Calls that nobody answered stand under the names that their callers
    /// have for whom these were meant for, whoever that is.
    pub fn witnesses(&self, service: &ServiceKey, within: Interval) -> Vec<ServedSeries> {
        let (called, others) = self.called_and_witnesses(service);
        let buckets = within.from.0.div_ceil(Bucket::WIDTH_NS)..within.to.0.div_ceil(Bucket::WIDTH_NS);
        let mut parties: BTreeMap<u32, Option<Party>> = BTreeMap::new();
        let party_of = |party: u32| {
            let party = self.registry.party(party);
            let counts = party.is_unanswered() || called.contains(&(party.namespace.clone(), party.service.clone()));
            counts.then_some(party)
        };
        let mut found: BTreeMap<(String, String), BTreeMap<u64, Served>> = BTreeMap::new();
        let mut room = Cell::default();
        for other in others.into_iter().take(SERVICES_MAX) {
            let Some(id) = self.registry.services.get(&other) else { continue };
            let mut add = |bucket: u64, cell: &Cell| {
                let mut count = |party: u32, n: u64, failed: bool| {
                    let Some(party) = parties.entry(party).or_insert_with(|| party_of(party)) else { return };
                    let unanswered = party.is_unanswered();
                    let operation = if unanswered { String::new() } else { party.operation.clone() };
                    let served = found.entry((party.service.clone(), operation)).or_default();
                    let served = served.entry(bucket).or_default();
                    match (failed, unanswered) {
                        (true, _) => served.failed += n,
                        (false, true) => served.unanswered += n,
                        (false, false) => served.answered += n,
                    }
                };
                cell.callees.iter().for_each(|(party, time)| count(*party, time.calls, false));
                // What failed further down, where others had called, is told by those.
                let blame = cell.rare.iter().flat_map(|rare| &rare.blame.0);
                for (party, failed) in blame {
                    let calls = cell.callees.iter().filter(|(callee, _)| callee == party).map(|(_, time)| time.calls);
                    count(*party, calls.sum::<u64>().min(*failed), true);
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
