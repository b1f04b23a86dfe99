//! Traces of one path while they are being counted.

use plimsoll_model::ServiceKey;
use plimsoll_model::aggregates::{Participant, PathCell};
use plimsoll_model::signal::Exemplars;

use crate::cell::Sparse;
use crate::registry::Registry;

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
        }
    }

    /// Spells it out.
    pub(crate) fn spell(&self, registry: &Registry) -> PathCell {
        let failures = self.failures.as_deref();
        let party = |service: u32| {
            let key = registry.services.key(service);
            PathCell::party(&key.namespace, &key.service)
        };
        let within = failures.into_iter().flat_map(|failures| &failures.within.0);
        PathCell {
            traces: self.traces,
            failed: self.failed,
            log_latency_sum: self.log_sum,
            log_latency_sum_sq: self.log_sum_sq,
            failed_exemplars: failures.map(|failures| failures.exemplars.clone()).unwrap_or_default(),
            failed_within: within.map(|(service, traces)| (party(*service), *traces)).collect(),
        }
    }

    /// Takes what was spelt out of a path of `participants`.
    pub(crate) fn of(
        cell: &PathCell,
        participants: &[Participant],
        environment: &str,
        registry: &mut Registry,
    ) -> Self {
        let mut failures = PathFailures { exemplars: cell.failed_exemplars.clone(), ..PathFailures::default() };
        for (party, traces) in &cell.failed_within {
            // A service is there once for each of its versions.
            let who = participants.iter().find(|who| PathCell::party(&who.namespace, &who.service) == *party);
            let Some(Participant { namespace, service, .. }) = who.cloned() else { continue };
            let service = registry.service_id(&ServiceKey { environment: environment.to_owned(), namespace, service });
            failures.within.add(service, *traces);
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
