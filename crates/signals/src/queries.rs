//! What the watcher asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::drill::{AttributeValue, Draw};
use plimsoll_model::signal::{Fingerprint, Histogram, OperationCell, OperationSeries};
use plimsoll_model::{Bucket, Interval, ServiceKey, UnixNanos};

use crate::cell::Cell;
use crate::draws::Draws;
use crate::limits::SignalLimits;
use crate::registry::{Registry, VersionKey};
use crate::state::{SignalState, VersionObservation};

/// What is known of one version of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionTraffic {
    /// The version; empty where the service tells none.
    pub version: String,
    /// Event time of the first row folded of it.
    pub first_seen: UnixNanos,
    /// Event time of the last span folded of it.
    pub last_seen: UnixNanos,
    /// Requests counted.
    pub requests: u64,
    /// Spans folded.
    pub spans: u64,
}

/// How much the state holds right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSize {
    /// Services known.
    pub services: usize,
    /// Versions known.
    pub versions: usize,
    /// Operations known.
    pub operations: usize,
    /// Series known.
    pub series: usize,
    /// Names, classes and parties' parts known.
    pub names: usize,
    /// Instances followed.
    pub instances: usize,
    /// Cells that await a checkpoint.
    pub pending_cells: usize,
    /// Cells kept for the watcher.
    pub rolling_cells: usize,
    /// Cells of everything beside operations.
    pub side_cells: usize,
    /// Operations of the service that has the most of them.
    pub operations_of_one: usize,
    /// Log templates of the service that has the most of them.
    pub templates_of_one: usize,
    /// Streams of cumulative metrics that are followed.
    pub streams: usize,
    /// Traces still open.
    pub open_traces: usize,
    /// Spans in them.
    pub open_spans: usize,
    /// Exceptions waiting in them.
    pub open_exceptions: usize,
}

impl SignalState {
    /// Lists the services known, in order.
    pub fn services(&self) -> Vec<ServiceKey> {
        let mut services: Vec<ServiceKey> = self.registry.services.iter().map(|(_, key)| key.clone()).collect();
        services.sort_unstable();
        services
    }

    /// Returns the operations of a service, all versions, in order of their keys; buckets that start within `within`.
    pub fn series(&self, service: &ServiceKey, within: Interval) -> Vec<OperationSeries> {
        let Some(service) = self.registry.services.get(service) else { return Vec::new() };
        let buckets = within.from.0.div_ceil(Bucket::WIDTH_NS)..within.to.0.div_ceil(Bucket::WIDTH_NS);
        if buckets.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for &id in &self.registry.service[service as usize].series {
            let Some(cells) = self.cells.series(id) else { continue };
            let mut merged: BTreeMap<u64, Cell> =
                cells.rolling.range(buckets.clone()).map(|(bucket, cell)| (*bucket, cell.cell())).collect();
            for (bucket, cell) in cells.pending.iter().filter(|(bucket, _)| buckets.contains(bucket)) {
                merged.entry(*bucket).or_default().merge(cell);
            }
            if !merged.is_empty() {
                let cells = merged.iter().map(|(bucket, cell)| (Bucket(*bucket), self.registry.spell(cell))).collect();
                found.push(OperationSeries { key: self.registry.operation_key(id), cells });
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found
    }

    /// Lists the versions of a service, first seen first.
    pub fn versions(&self, service: &ServiceKey) -> Vec<VersionTraffic> {
        let Some(service) = self.registry.services.get(service) else { return Vec::new() };
        let mut versions: Vec<VersionTraffic> = self
            .registry
            .versions
            .iter()
            .filter(|(_, key)| key.service == service)
            .map(|(id, key)| {
                let seen = &self.registry.version[id as usize];
                VersionTraffic {
                    version: key.version.to_string(),
                    first_seen: seen.first_seen,
                    last_seen: seen.last_seen,
                    requests: seen.requests,
                    spans: seen.spans,
                }
            })
            .collect();
        versions.sort_unstable_by(|a, b| (a.first_seen, &a.version).cmp(&(b.first_seen, &b.version)));
        versions
    }

    /// Lists the services that it calls, that call it, or that blame or are blamed by it, of its own environment.
    pub fn related(&self, service: &ServiceKey) -> Vec<ServiceKey> {
        let (mut callers, mut callees) = (BTreeSet::new(), BTreeSet::new());
        self.each_edge(|from, to| {
            if from.environment == service.environment {
                if *from == *service {
                    callees.insert((to.0.to_owned(), to.1.to_owned()));
                } else if to == (&service.namespace, &service.service) {
                    callers.insert(from.clone());
                }
            }
        });
        let called = self.registry.services.iter().map(|(_, key)| key).filter(|key| {
            key.environment == service.environment
                && *key != service
                && callees.contains(&(key.namespace.clone(), key.service.clone()))
        });
        callers.extend(called.cloned());
        callers.into_iter().collect()
    }

    /// Lists the services whose requests called it or were blamed on it, of its own environment.
    pub fn callers_of(&self, service: &ServiceKey) -> Vec<ServiceKey> {
        let mut callers = BTreeSet::new();
        self.each_edge(|from, to| {
            if from.environment == service.environment
                && from != service
                && to == (&service.namespace, &service.service)
            {
                callers.insert(from.clone());
            }
        });
        callers.into_iter().collect()
    }

    /// Calls `visit` with each service and the namespace and name of a party that a cell of it names, each pair once.
    pub(crate) fn each_edge(&self, mut visit: impl FnMut(&ServiceKey, (&str, &str))) {
        let mut edges = BTreeSet::new();
        for (from, party) in self.registry.edges.keys() {
            let [namespace, called, ..] = self.registry.parties.key(*party).names();
            edges.insert((*from, namespace, called));
        }
        for (from, namespace, to) in edges {
            let names = (self.registry.names.key(namespace).as_ref(), self.registry.names.key(to).as_ref());
            visit(self.registry.services.key(from), names);
        }
    }

    /// Returns when an exception of a service was first seen, as far back as is known.
    pub fn fingerprint_first_seen(&self, service: &ServiceKey, fingerprint: Fingerprint) -> Option<UnixNanos> {
        let service = self.registry.services.get(service)?;
        self.registry.service[service as usize].fingerprints.get(&fingerprint.0)?.first()
    }

    /// Returns the exceptions of a service that any version but those `taken_back` threw before `before`.
    pub fn known_fingerprints(
        &self,
        service: &ServiceKey,
        before: UnixNanos,
        taken_back: &BTreeSet<String>,
    ) -> BTreeSet<Fingerprint> {
        let Some(service) = self.registry.services.get(service) else { return BTreeSet::new() };
        let known = self.registry.service[service as usize].fingerprints.iter();
        let known = known.filter(|(_, firsts)| firsts.without(taken_back).is_some_and(|first| first < before));
        known.map(|(fingerprint, _)| Fingerprint(*fingerprint)).collect()
    }

    /// Takes the versions that were seen for the first time since the last call, each once.
    pub fn take_new_versions(&mut self) -> Vec<VersionObservation> {
        std::mem::take(&mut self.new_versions)
    }

    pub(crate) fn observe_version(&mut self, version: u32, first_seen: UnixNanos) {
        let key = self.registry.versions.key(version).clone();
        let service = self.registry.services.key(key.service).clone();
        // As many as there may be versions: whoever never takes them loses the latest.
        if self.new_versions.len() < self.registry.limits.versions_max {
            self.new_versions.push(VersionObservation { service, version: key.version.to_string(), first_seen });
        }
    }

    /// Returns what limits the trust in the aggregates of a service, as stable words, in order: each while what it says was
    /// met within the last ten minutes.
    pub fn data_quality(&self, service: &ServiceKey) -> Vec<String> {
        self.data_quality_since(service, UnixNanos::MAX)
    }

    /// Returns the same, and what was met since `since` however long ago that is: who judges from what was received then is to
    /// know.
    pub fn data_quality_since(&self, service: &ServiceKey, since: UnixNanos) -> Vec<String> {
        let Some(service) = self.registry.services.get(service) else { return Vec::new() };
        self.registry.service[service as usize].quality.words(self.watermark, since.0)
    }

    /// Says whether anything was ever received of a service.
    pub fn knows(&self, service: &ServiceKey) -> bool {
        self.registry.services.get(service).is_some()
    }

    /// Returns how far what a service sends of late is behind its receipt, and what its `version` sends, whichever is further:
    /// nothing later is known of it yet. What had piled up and is being delivered is behind by as much as is still to come.
    pub fn behind(&self, service: &ServiceKey, version: &str) -> Duration {
        let Some(service) = self.registry.services.get(service) else { return Duration::ZERO };
        let key = VersionKey { service, version: version.into() };
        let own = self.registry.versions.get(&key).map(|version| self.registry.version[version as usize].behind);
        let all = self.registry.service[service as usize].behind.at(self.watermark);
        own.map_or(all, |own| own.at(self.watermark).max(all))
    }

    /// Returns how far what had piled up of a version is behind while it is being delivered. A version that ended is late for
    /// ever, and of it no more is to come.
    pub fn piled_up(&self, service: &ServiceKey, version: &str) -> Duration {
        let Some(service) = self.registry.services.get(service) else { return Duration::ZERO };
        let key = VersionKey { service, version: version.into() };
        let version = self.registry.versions.get(&key).map(|version| &self.registry.version[version as usize]);
        version.map_or(Duration::ZERO, |version| version.behind.piled_up_at(self.watermark))
    }

    /// Returns its bounds.
    pub fn limits(&self) -> &SignalLimits {
        &self.registry.limits
    }

    /// Returns the share of traces, of 1, that are kept until they are whole: less than all where there is no room for them.
    pub fn traces_kept(&self) -> f64 {
        self.traces.keeping.share()
    }

    /// Returns how much the state holds right now.
    pub fn size(&self) -> SignalSize {
        SignalSize {
            services: self.registry.services.len(),
            versions: self.registry.versions.len(),
            operations: self.registry.operations.len(),
            series: self.registry.series.len(),
            names: self.registry.names.len(),
            instances: self.instances.len(),
            pending_cells: self.cells.pending_len(),
            rolling_cells: self.cells.rolling_len(),
            side_cells: self.sides.cells(),
            operations_of_one: self.registry.service.iter().map(|service| service.operations).max().unwrap_or(0),
            templates_of_one: self.registry.service.iter().map(|service| service.templates.len()).max().unwrap_or(0),
            streams: self.streams.len(),
            open_traces: self.traces.len(),
            open_spans: self.traces.open_spans(),
            open_exceptions: self.traces.open_exceptions(),
        }
    }
}

impl Registry {
    /// Spells a cell out, numbers as text.
    pub(crate) fn spell(&self, cell: &Cell) -> OperationCell {
        let mut spelt = OperationCell {
            requests: cell.requests,
            errors: cell.errors,
            weighted_requests: cell.weighted_requests,
            weighted_errors: cell.weighted_errors,
            error_origins: cell.error_origins,
            log_latency_sum: cell.log_sum,
            log_latency_sum_sq: cell.log_sum_sq,
            latency: Histogram(cell.latency.0.iter().copied().collect()),
            self_time: Histogram(cell.self_time.0.iter().copied().collect()),
            self_time_ns: cell.self_time_ns,
            assembled: cell.assembled,
            slow_exemplars: cell.slow.clone(),
            good_exemplars: cell.good.clone(),
            ..OperationCell::default()
        };
        spelt.callees = cell.callees.iter().map(|(party, time)| (self.party(*party), *time)).collect();
        spelt.values = cell
            .values
            .0
            .iter()
            .map(|entry| {
                let (attribute, value) = (self.names.key(entry.attribute), self.values.key(entry.value));
                (AttributeValue { attribute: attribute.to_string(), value: value.to_string() }, entry.outcome)
            })
            .collect();
        let draws =
            |draws: &Draws| plimsoll_model::drill::Draws(draws.each().map(|draw| self.spell_draw(draw)).collect());
        spelt.good_draws = draws(&cell.draws);
        if let Some(rare) = &cell.rare {
            spelt.failed_draws = draws(&rare.draws);
            let class = |id: u32| self.names.key(id).to_string();
            spelt.errors_by_class = rare.classes.0.iter().map(|(id, count)| (class(*id), *count)).collect();
            spelt.exceptions = rare.exceptions.iter().cloned().collect();
            spelt.blame = rare.blame.0.iter().map(|(party, count)| (self.party(*party), *count)).collect();
            spelt.failed_exemplars = rare.failed.clone();
        }
        spelt
    }

    fn spell_draw(&self, (number, values): (u64, impl Iterator<Item = (u32, u32)>)) -> Draw {
        let text = |(attribute, value)| (Arc::clone(self.names.key(attribute)), Arc::clone(self.values.key(value)));
        let mut values: Vec<_> = values.map(text).collect();
        values.sort_unstable();
        values.dedup();
        Draw { number, values }
    }

    fn shorten_draws(&mut self, spelt: &plimsoll_model::drill::Draws) -> Draws {
        let mut draws = Draws::default();
        for Draw { number, values } in &spelt.0 {
            draws.push(*number, values.iter().map(|(name, value)| (self.name_id(name), self.value_id(value))));
        }
        draws
    }

    /// The other way, for cells that were stored.
    pub(crate) fn shorten(&mut self, spelt: OperationCell) -> Cell {
        let mut cell = Cell {
            requests: spelt.requests,
            errors: spelt.errors,
            weighted_requests: spelt.weighted_requests,
            weighted_errors: spelt.weighted_errors,
            error_origins: spelt.error_origins,
            log_sum: spelt.log_latency_sum,
            log_sum_sq: spelt.log_latency_sum_sq,
            self_time_ns: spelt.self_time_ns,
            assembled: spelt.assembled,
            slow: spelt.slow_exemplars,
            good: spelt.good_exemplars,
            ..Cell::default()
        };
        cell.latency.0.extend(spelt.latency.0);
        cell.self_time.0.extend(spelt.self_time.0);
        for (value, outcome) in spelt.values {
            let (attribute, value) = (self.name_id(&value.attribute), self.value_id(&value.value));
            cell.values.add(attribute, value, &outcome);
        }
        cell.draws = self.shorten_draws(&spelt.good_draws);
        for (party, time) in spelt.callees {
            cell.add_callee(self.party_of(&party), time);
        }
        if !(spelt.errors_by_class.is_empty()
            && spelt.exceptions.is_empty()
            && spelt.blame.is_empty()
            && spelt.failed_exemplars.0.is_empty()
            && spelt.failed_draws.0.is_empty())
        {
            let rare = cell.rare();
            rare.draws = self.shorten_draws(&spelt.failed_draws);
            for (class, count) in spelt.errors_by_class {
                rare.classes.add(self.class_id(&class), count);
            }
            for (party, count) in spelt.blame {
                rare.blame.add(self.party_of(&party), count);
            }
            rare.exceptions.extend(spelt.exceptions);
            rare.failed = spelt.failed_exemplars;
        }
        cell
    }
}
