//! Traces of one path while they are being counted.

use std::collections::BTreeMap;

use plimsoll_model::ServiceKey;
use plimsoll_model::aggregates::{Participant, PathCell};
use plimsoll_model::signal::Exemplars;

use crate::cell::Sparse;
use crate::registry::Registry;

/// What stands before the name of a service in a row, where the request at the top of its traces failed as well.
const TOP: &str = "(top) ";

/// A [`PathCell`] in little space: most have no failures.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathSums {
    pub(crate) traces: u64,
    pub(crate) failed: u64,
    pub(crate) log_sum: i64,
    pub(crate) log_sum_sq: i64,
    pub(crate) failures: Option<Box<PathFailures>>,
}

/// What is known of those that failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathFailures {
    pub(crate) exemplars: Exemplars,
    /// Traces in which a request of a service failed, by the number of the service.
    pub(crate) within: Sparse<u32>,
    /// Those of them in which the request at the top failed as well.
    pub(crate) both: Sparse<u32>,
}

impl PathSums {
    /// Adds all of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.traces += other.traces;
        self.failed += other.failed;
        self.log_sum = self.log_sum.saturating_add(other.log_sum);
        self.log_sum_sq = self.log_sum_sq.saturating_add(other.log_sum_sq);
        if let Some(more) = &other.failures {
            let failures = self.failures.get_or_insert_default();
            failures.exemplars.merge(&more.exemplars);
            failures.within.add_all(&more.within.0);
            failures.both.add_all(&more.both.0);
        }
    }

    /// Spells it out.
    pub(crate) fn spell(&self, registry: &Registry) -> PathCell {
        let failures = self.failures.as_deref();
        let party = |service: u32| {
            let key = registry.services.key(service);
            PathCell::party(&key.namespace, &key.service)
        };
        let spelt = |of: fn(&PathFailures) -> &Sparse<u32>| {
            let counts = failures.into_iter().flat_map(|failures| &of(failures).0);
            counts.map(|(service, traces)| (party(*service), *traces)).collect()
        };
        PathCell {
            traces: self.traces,
            failed: self.failed,
            log_latency_sum: self.log_sum,
            log_latency_sum_sq: self.log_sum_sq,
            failed_exemplars: failures.map(|failures| failures.exemplars.clone()).unwrap_or_default(),
            failed_within: spelt(|failures| &failures.within),
            failed_both: spelt(|failures| &failures.both),
        }
    }

    /// Lists, as a row does, in how many traces a request of each service failed, and in how many the one at the top too.
    pub(crate) fn classes(cell: &PathCell) -> BTreeMap<String, u64> {
        let both = cell.failed_both.iter().map(|(party, traces)| (format!("{TOP}{party}"), *traces));
        cell.failed_within.iter().map(|(party, traces)| (party.clone(), *traces)).chain(both).collect()
    }

    /// Takes apart what a row lists: see [`Self::classes`]. Rows of before the second count have none.
    pub(crate) fn of_classes(classes: BTreeMap<String, u64>) -> [BTreeMap<String, u64>; 2] {
        let (mut within, mut both) = (BTreeMap::new(), BTreeMap::new());
        for (class, traces) in classes {
            match class.strip_prefix(TOP) {
                Some(party) => both.insert(party.to_owned(), traces),
                None => within.insert(class, traces),
            };
        }
        [within, both]
    }

    /// Takes what was spelt out of a path of `participants`.
    pub(crate) fn of(
        cell: &PathCell,
        participants: &[Participant],
        environment: &str,
        registry: &mut Registry,
    ) -> Self {
        let mut failures = PathFailures { exemplars: cell.failed_exemplars.clone(), ..PathFailures::default() };
        for (spelt, counts) in [(&cell.failed_within, &mut failures.within), (&cell.failed_both, &mut failures.both)] {
            for (party, traces) in spelt {
                // A service is there once for each of its versions.
                let who = participants.iter().find(|who| PathCell::party(&who.namespace, &who.service) == *party);
                let Some(Participant { namespace, service, .. }) = who.cloned() else { continue };
                let key = ServiceKey { environment: environment.to_owned(), namespace, service };
                counts.add(registry.service_id(&key), *traces);
            }
        }
        let any = !failures.within.0.is_empty() || cell.failed > 0;
        Self {
            traces: cell.traces,
            failed: cell.failed,
            log_sum: cell.log_latency_sum,
            log_sum_sq: cell.log_latency_sum_sq,
            failures: any.then(|| Box::new(failures)),
        }
    }
}
