//! The aggregates beside operations, together: their keys, their bounds, and what is asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plimsoll_model::aggregates::{
    ActionCell, ActionSeries, ArmSeries, HistoryCell, HistorySeries, MetricHistoryCell, Participant, PathSeries,
};
use plimsoll_model::log::{Level, LogCell, LogSeries};
use plimsoll_model::metric::{MetricKey, MetricSeries, MetricShape};
use plimsoll_model::presence::{PresenceCell, PresenceSeries};
use plimsoll_model::signal::{AgeClass, OperationSeries};
use plimsoll_model::{Bucket, Interval, ServiceAggregates, ServiceKey, UnixNanos};

use crate::cell::Cell;
use crate::groups::KnownGroups;
use crate::intern::{FixedMap, Interner};
use crate::metric_past::{self, MetricPastId};
use crate::need::Need;
use crate::paths::PathSums;
use crate::points::PointCell;
use crate::registry::{NO_NAME, Registry};
use crate::side::{Additive, Side, SideLimits};
use crate::state::SignalState;

/// Widths of the buckets of the past, in seconds, each with how many days of it are kept.
pub(crate) const HISTORY_WIDTHS: [(u32, u64); 2] = [(60, 1), (600, 15)];

/// Log records of one version, level and template, which is known by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LogId {
    pub(crate) version: u32,
    pub(crate) level: u8,
    pub(crate) template: u64,
}

/// What a metric series is about, beside who emitted it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MetricName {
    pub(crate) name: Arc<str>,
    pub(crate) unit: Arc<str>,
    pub(crate) shape: MetricShape,
    pub(crate) attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MetricId {
    pub(crate) version: u32,
    pub(crate) age: AgeClass,
    pub(crate) metric: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ArmId {
    pub(crate) version: u32,
    pub(crate) operation: u32,
    pub(crate) age: AgeClass,
    /// Numbers of names.
    pub(crate) flag: u32,
    pub(crate) variant: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ActionId {
    pub(crate) version: u32,
    pub(crate) action: u32,
}

/// Traces of one entry by the versions that took part: the number of a set of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PathId {
    pub(crate) operation: u32,
    pub(crate) path: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HistoryId {
    pub(crate) operation: u32,
    pub(crate) width_s: u32,
}

#[derive(Default)]
pub(crate) struct Sides {
    pub(crate) presence: Side<u32, PresenceCell>,
    pub(crate) logs: Side<LogId, LogCell>,
    /// Text of the templates by hash.
    pub(crate) templates: FixedMap<u64, Arc<str>>,
    pub(crate) groups: KnownGroups,
    pub(crate) metrics: Side<MetricId, PointCell>,
    pub(crate) arms: Side<ArmId, Cell>,
    pub(crate) actions: Side<ActionId, ActionCell>,
    pub(crate) paths: Side<PathId, PathSums>,
    /// Sets of versions, each in order of their numbers.
    pub(crate) path_sets: Interner<Arc<[u32]>>,
    /// How many paths each entry has.
    pub(crate) paths_of: FixedMap<u32, usize>,
    pub(crate) history: Side<HistoryId, HistoryCell>,
    pub(crate) metric_past: Side<MetricPastId, MetricHistoryCell>,
}

impl Sides {
    pub(crate) fn settle_pending(&mut self) {
        self.presence.settle_pending();
        self.logs.settle_pending();
        self.metrics.settle_pending();
        self.arms.settle_pending();
        self.actions.settle_pending();
        self.paths.settle_pending();
        self.history.settle_pending();
        self.metric_past.settle_pending();
    }

    /// Drops what is older than `keep`, a number of a 10 s bucket, and needed by nobody; history has its own age. Returns how
    /// many cells went.
    pub(crate) fn retire(&mut self, keep: u64, watermark: u64, registry: &Registry) {
        let of = |version: u32| registry.need_of_version(version).floor(keep);
        self.presence.retire(|version| of(*version));
        self.logs.retire(|key| of(key.version));
        self.metrics.retire(|key| of(key.version));
        self.arms.retire(|key| of(key.version));
        self.actions.retire(|key| of(key.version));
        let sets = &self.path_sets;
        self.paths.retire(|key| need_of_path(key, sets, registry).floor(keep));
        let past = watermark.saturating_sub(HISTORY_WIDTHS[1].1 * 86_400_000_000_000) / 1_000_000_000;
        self.history.retire(|_| past);
        let past = (watermark / 1_000_000_000).saturating_sub(metric_past::KEPT_S);
        self.metric_past.retire(|_| past);
        let logs = &self.logs;
        if self.templates.len() > 2 * logs.cells() + 1_024 {
            let used: std::collections::HashSet<u64> = logs.keys().map(|key| key.template).collect();
            self.templates.retain(|hash, _| used.contains(hash));
        }
    }

    /// Keeps every sort within its bound; returns how many cells went.
    pub(crate) fn bound(&mut self, limits: SideLimits, registry: &Registry) -> usize {
        let max = limits.cells;
        let of = |version: u32| registry.need_of_version(version);
        let sets = &self.path_sets;
        // The past of the weeks before is told by the start of a wide bucket: the oldest goes.
        self.presence.shrink(max, |version| of(*version))
            + self.logs.shrink(max, |key| of(key.version))
            + self.metrics.shrink(max, |key| of(key.version))
            + self.arms.shrink(max, |key| of(key.version))
            + self.actions.shrink(max, |key| of(key.version))
            + self.paths.shrink(max, |key| need_of_path(key, sets, registry))
            + self.history.shrink(max, |_| Need::default())
            + self.metric_past.shrink(max, |_| Need::default())
    }

    pub(crate) fn cells(&self) -> usize {
        self.presence.cells()
            + self.logs.cells()
            + self.metrics.cells()
            + self.arms.cells()
            + self.actions.cells()
            + self.paths.cells()
            + self.history.cells()
            + self.metric_past.cells()
    }

    /// Frees the numbers of paths that no series has, and counts those that are left.
    pub(crate) fn collect_paths(&mut self) {
        let mut used = vec![false; self.path_sets.span()];
        self.paths_of.clear();
        for key in self.paths.keys() {
            used[key.path as usize] = true;
            *self.paths_of.entry(key.operation).or_default() += 1;
        }
        self.path_sets.retain(&used);
    }

    /// Marks every number of a version, an operation and a name that is used.
    pub(crate) fn mark(&self, versions: &mut [bool], operations: &mut [bool], names: &mut [bool]) {
        self.presence.keys().for_each(|version| versions[*version as usize] = true);
        self.logs.keys().for_each(|key| versions[key.version as usize] = true);
        self.metrics.keys().for_each(|key| versions[key.version as usize] = true);
        for key in self.arms.keys() {
            versions[key.version as usize] = true;
            operations[key.operation as usize] = true;
            names[key.flag as usize] = true;
            names[key.variant as usize] = true;
        }
        for key in self.actions.keys() {
            versions[key.version as usize] = true;
            names[key.action as usize] = true;
        }
        for key in self.paths.keys() {
            operations[key.operation as usize] = true;
            self.path_sets.key(key.path).iter().for_each(|version| versions[*version as usize] = true);
        }
    }

    /// Forgets the past of operations that nothing else speaks of: names without end would hold their places for weeks.
    pub(crate) fn forget_history(&mut self, operations: &[bool]) {
        self.history.retain(|key| operations.get(key.operation as usize).copied().unwrap_or(false));
    }

    /// Forgets the past of metrics whose number is marked by nothing.
    pub(crate) fn forget_metric_past(&mut self, metrics: &[bool]) {
        self.metric_past.retain(|key| metrics.get(key.metric as usize).copied().unwrap_or(false));
    }
}

/// A path bears on every service that it leads through.
fn need_of_path(key: &PathId, sets: &Interner<Arc<[u32]>>, registry: &Registry) -> Need {
    let versions = sets.key(key.path).iter().map(|version| registry.need_of_version(*version));
    versions.fold(registry.need_of_operation(key.operation), Need::or)
}

fn bucketed<C>(cells: BTreeMap<u64, C>) -> Vec<(Bucket, C)> {
    cells.into_iter().map(|(bucket, cell)| (Bucket(bucket), cell)).collect()
}

impl SignalState {
    pub(crate) fn side_limits(&self) -> SideLimits {
        SideLimits { series: self.registry.limits.side_series_max, cells: self.registry.limits.side_cells_max }
    }

    /// Returns what else is known of a service: buckets that start within `within`, and the weeks before.
    pub fn aggregates(&self, service: &ServiceKey, within: Interval) -> ServiceAggregates {
        self.aggregates_without(service, within, &BTreeSet::new())
    }

    /// Returns the same; what versions `taken_back` logged does not tell when a template was first seen.
    pub fn aggregates_without(
        &self,
        service: &ServiceKey,
        within: Interval,
        taken_back: &BTreeSet<String>,
    ) -> ServiceAggregates {
        let Some(id) = self.registry.services.get(service) else { return ServiceAggregates::default() };
        let buckets = within.from.0.div_ceil(Bucket::WIDTH_NS)..within.to.0.div_ceil(Bucket::WIDTH_NS);
        if buckets.is_empty() {
            return ServiceAggregates::default();
        }
        ServiceAggregates {
            presence: self.presence_of(id, &buckets),
            logs: self.logs_of(id, &buckets, taken_back),
            metrics: self.metrics_of(id, &buckets),
            arms: self.arms_of(id, &buckets),
            actions: self.actions_of(id, &buckets),
            paths: self.paths_of(id, &buckets),
            history: self.history_of(id),
            metric_history: self.metric_past_of(id),
        }
    }

    fn version_of(&self, version: u32) -> (u32, String) {
        let key = self.registry.versions.key(version);
        (key.service, key.version.to_string())
    }

    fn presence_of(&self, service: u32, buckets: &std::ops::Range<u64>) -> Vec<PresenceSeries> {
        let mine = |version: &u32| self.registry.versions.key(*version).service == service;
        let mut found: Vec<_> = self
            .sides
            .presence
            .within(buckets, mine)
            .into_iter()
            .map(|(version, cells)| PresenceSeries { version: self.version_of(version).1, cells: bucketed(cells) })
            .collect();
        found.sort_by(|a, b| a.version.cmp(&b.version));
        found
    }

    /// Templates are grouped by what the asked stretch holds and by nothing else, so that stored rows give the same groups.
    fn logs_of(&self, service: u32, buckets: &std::ops::Range<u64>, taken_back: &BTreeSet<String>) -> Vec<LogSeries> {
        let mine = |key: &LogId| self.registry.versions.key(key.version).service == service;
        let found = self.sides.logs.within(buckets, mine);
        let ids = found.iter().map(|(key, _)| key.template).collect();
        let groups = self.sides.groups.of(service, ids, |id| self.sides.templates.get(&id).map(AsRef::as_ref));
        let known = &self.registry.service[service as usize].templates;
        let mut series: BTreeMap<(u32, Level, &str), BTreeMap<u64, LogCell>> = BTreeMap::new();
        let mut first_of_group: BTreeMap<&str, UnixNanos> = BTreeMap::new();
        for (key, cells) in &found {
            let Some(group) = groups.get(&key.template) else { continue };
            let first_cell = || cells.first_key_value().map_or(UnixNanos(0), |(bucket, _)| Bucket(*bucket).start());
            // What nobody else logged was never seen before.
            let first = known
                .get(&key.template)
                .map_or_else(first_cell, |firsts| firsts.without(taken_back).unwrap_or(UnixNanos::MAX));
            let of_group = first_of_group.entry(group).or_insert(first);
            *of_group = first.min(*of_group);
            let merged = series.entry((key.version, level_of(key.level), group)).or_default();
            for (bucket, cell) in cells {
                merged.entry(*bucket).or_default().add(cell);
            }
        }
        let mut found: Vec<LogSeries> = series
            .into_iter()
            .map(|((version, level, template), cells)| LogSeries {
                first_seen: first_of_group.get(template).copied().unwrap_or_default(),
                version: self.version_of(version).1,
                template: template.to_owned(),
                level,
                cells: bucketed(cells),
            })
            .collect();
        found.sort_by(|a, b| (&a.version, a.level, &a.template).cmp(&(&b.version, b.level, &b.template)));
        found
    }

    fn metrics_of(&self, service: u32, buckets: &std::ops::Range<u64>) -> Vec<MetricSeries> {
        let mine = |key: &MetricId| self.registry.versions.key(key.version).service == service;
        let mut found: Vec<_> = self
            .sides
            .metrics
            .within(buckets, mine)
            .into_iter()
            .map(|(key, cells)| {
                let spelt = cells.iter().map(|(bucket, cell)| (Bucket(*bucket), cell.spell())).collect();
                MetricSeries { key: self.metric_key(&key), cells: spelt }
            })
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    pub(crate) fn metric_key(&self, id: &MetricId) -> MetricKey {
        let (service, version) = self.version_of(id.version);
        let what = self.metric_names.key(id.metric);
        MetricKey {
            service: self.registry.services.key(service).clone(),
            version,
            age: id.age,
            name: what.name.to_string(),
            unit: what.unit.to_string(),
            shape: what.shape,
            attributes: what.attributes.clone(),
        }
    }

    fn arms_of(&self, service: u32, buckets: &std::ops::Range<u64>) -> Vec<ArmSeries> {
        let mine = |key: &ArmId| self.registry.versions.key(key.version).service == service;
        let mut found: Vec<_> = self
            .sides
            .arms
            .within(buckets, mine)
            .into_iter()
            .map(|(key, cells)| {
                let cells = cells.iter().map(|(bucket, cell)| (Bucket(*bucket), self.registry.spell(cell))).collect();
                let [flag, variant] = [key.flag, key.variant].map(|name| self.registry.names.key(name).to_string());
                ArmSeries { flag, variant, series: OperationSeries { key: self.arm_operation(&key), cells } }
            })
            .collect();
        found.sort_by(|a, b| (&a.flag, &a.variant, &a.series.key).cmp(&(&b.flag, &b.variant, &b.series.key)));
        found
    }

    pub(crate) fn arm_operation(&self, key: &ArmId) -> plimsoll_model::signal::OperationKey {
        let operation = self.registry.operations.key(key.operation);
        let (service, version) = self.version_of(key.version);
        plimsoll_model::signal::OperationKey {
            service: self.registry.services.key(service).clone(),
            version,
            operation: self.registry.names.key(operation.name).to_string(),
            kind: operation.kind,
            age: key.age,
        }
    }

    fn actions_of(&self, service: u32, buckets: &std::ops::Range<u64>) -> Vec<ActionSeries> {
        let mine = |key: &ActionId| self.registry.versions.key(key.version).service == service;
        let mut found: Vec<_> = self
            .sides
            .actions
            .within(buckets, mine)
            .into_iter()
            .map(|(key, cells)| ActionSeries {
                version: self.version_of(key.version).1,
                action: self.registry.names.key(key.action).to_string(),
                cells: bucketed(cells),
            })
            .collect();
        found.sort_by(|a, b| (&a.action, &a.version).cmp(&(&b.action, &b.version)));
        found
    }

    /// Paths that the service took part in, as entry or below one.
    fn paths_of(&self, service: u32, buckets: &std::ops::Range<u64>) -> Vec<PathSeries> {
        let takes_part = |key: &PathId| {
            self.registry.operations.key(key.operation).service == service
                || self
                    .sides
                    .path_sets
                    .key(key.path)
                    .iter()
                    .any(|version| self.registry.versions.key(*version).service == service)
        };
        let mut found: Vec<_> = self
            .sides
            .paths
            .within(buckets, takes_part)
            .into_iter()
            .map(|(key, cells)| {
                let operation = self.registry.operations.key(key.operation);
                PathSeries {
                    entry: self.registry.services.key(operation.service).clone(),
                    operation: self.registry.names.key(operation.name).to_string(),
                    path: self.participants(self.sides.path_sets.key(key.path)),
                    cells: cells.iter().map(|(b, cell)| (Bucket(*b), cell.spell(&self.registry))).collect(),
                }
            })
            .collect();
        found.sort_by(|a, b| (&a.entry, &a.operation, &a.path).cmp(&(&b.entry, &b.operation, &b.path)));
        found
    }

    pub(crate) fn participants(&self, versions: &[u32]) -> Vec<Participant> {
        let spell = |version: &u32| {
            let (service, version) = self.version_of(*version);
            let ServiceKey { namespace, service, .. } = self.registry.services.key(service).clone();
            Participant { namespace, service, version }
        };
        let mut participants: Vec<Participant> = versions.iter().map(spell).collect();
        participants.sort_unstable();
        participants
    }

    fn history_of(&self, service: u32) -> Vec<HistorySeries> {
        let mine = |key: &HistoryId| self.registry.operations.key(key.operation).service == service;
        let mut found: Vec<_> = self
            .sides
            .history
            .within(&(0..u64::MAX), mine)
            .into_iter()
            .filter(|(key, _)| self.registry.operations.key(key.operation).name != NO_NAME)
            .map(|(key, cells)| {
                let operation = self.registry.operations.key(key.operation);
                HistorySeries {
                    operation: self.registry.names.key(operation.name).to_string(),
                    kind: operation.kind,
                    width_s: key.width_s,
                    cells: cells.into_iter().map(|(second, cell)| (UnixNanos::from_secs(second), cell)).collect(),
                }
            })
            .collect();
        found.sort_by(|a, b| (&a.operation, a.kind, a.width_s).cmp(&(&b.operation, b.kind, b.width_s)));
        found
    }
}

const LEVELS: [Level; 7] =
    [Level::Unset, Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];

pub(crate) fn level_of(number: u8) -> Level {
    LEVELS.get(usize::from(number)).copied().unwrap_or_default()
}

/// Names of metric series by number.
pub(crate) type MetricNames = Interner<MetricName>;
