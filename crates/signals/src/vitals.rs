//! Services at a glance, for those that were not touched and serve as control.
//!
//! *Cost.* One walk over the cells of at most [`SERVICES_MAX`] services; no text is spelt but their names.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::aggregates::{Vitals, VitalsSeries};
use plimsoll_model::{Bucket, Interval, ServiceKey, UnixNanos};

use crate::state::SignalState;

/// Services that are looked at for one question.
pub(crate) const SERVICES_MAX: usize = 32;

impl SignalState {
    /// Returns how services of the same environment fared that neither reach `service` nor are reached by it, through
    /// however many calls, nor call anything that it reaches: what happens to them is not its doing. Of those that are
    /// `touched` it is told up to then, and nothing of those touched before.
    pub fn unrelated(
        &self,
        service: &ServiceKey,
        touched: &dyn Fn(&ServiceKey) -> Option<UnixNanos>,
        within: Interval,
    ) -> Vec<VitalsSeries> {
        let kin = self.kin(service);
        let buckets = within.from.0.div_ceil(Bucket::WIDTH_NS)..within.to.0.div_ceil(Bucket::WIDTH_NS);
        let mut others: Vec<(&ServiceKey, u32)> = self
            .registry
            .services
            .iter()
            .filter(|(_, key)| key.environment == service.environment && !kin.contains(*key))
            .map(|(id, key)| (key, id))
            .collect();
        others.sort_unstable();
        let mut found = Vec::new();
        for (key, id) in others {
            let until = touched(key).map(UnixNanos::bucket);
            let buckets = buckets.start..until.map_or(buckets.end, |until| until.0.min(buckets.end));
            if buckets.is_empty() {
                continue;
            }
            let mut sums: BTreeMap<u64, Vitals> = BTreeMap::new();
            let mut add = |bucket: u64, vitals: Vitals| sums.entry(bucket).or_default().merge(&vitals);
            for &series in &self.registry.service[id as usize].series {
                let Some(cells) = self.cells.series(series) else { continue };
                cells.rolling.range(buckets.clone()).for_each(|(bucket, cell)| add(*bucket, cell.vitals()));
                let pending = cells.pending.iter().filter(|(bucket, _)| buckets.contains(bucket));
                pending.for_each(|(bucket, cell)| add(*bucket, cell.vitals()));
            }
            sums.retain(|_, vitals| vitals.requests > 0);
            if !sums.is_empty() {
                let cells = sums.into_iter().map(|(bucket, vitals)| (Bucket(bucket), vitals)).collect();
                found.push(VitalsSeries { service: key.clone(), until, cells });
            }
            if found.len() == SERVICES_MAX {
                break;
            }
        }
        found
    }

    /// The service itself, all that it calls, and all that call any of those, however far away: a deploy that exhausts what
    /// several share makes the others fail as well.
    pub(crate) fn kin(&self, service: &ServiceKey) -> BTreeSet<ServiceKey> {
        let mut edges: Vec<(ServiceKey, ServiceKey)> = Vec::new();
        self.each_edge(|from, (namespace, called)| {
            if from.environment == service.environment {
                let to = ServiceKey {
                    environment: from.environment.clone(),
                    namespace: namespace.to_owned(),
                    service: called.to_owned(),
                };
                edges.push((from.clone(), to));
            }
        });
        let reach = |forward: bool, mut reached: BTreeSet<ServiceKey>| {
            let mut fresh: Vec<ServiceKey> = reached.iter().cloned().collect();
            while let Some(here) = fresh.pop() {
                for (from, to) in &edges {
                    let (at, next) = if forward { (from, to) } else { (to, from) };
                    if *at == here && reached.insert(next.clone()) {
                        fresh.push(next.clone());
                    }
                }
            }
            reached
        };
        reach(false, reach(true, BTreeSet::from([service.clone()])))
    }
}
