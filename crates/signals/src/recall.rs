//! The aggregates beside operations, to their rows and back.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use plimsoll_model::aggregates::{ActionCell, HistoryCell, PathCell};
use plimsoll_model::log::{Level, LogCell};
use plimsoll_model::metric::MetricShape;
use plimsoll_model::presence::PresenceCell;
use plimsoll_model::signal::{AgeClass, Histogram, OperationCell, OperationKind};
use plimsoll_model::{Bucket, UnixNanos};

use crate::cell::{Cell, Sparse};
use crate::columns::SchemaError;
use crate::lines::{OTHER_TEMPLATE, template_hash};
use crate::metric_past;
use crate::paths::PathSums;
use crate::points::PointCell;
use crate::registry::NO_NAME;
use crate::side::Part;
use crate::side_rows::{Recall, SignalRow, decode, encode, ordered};
use crate::sides::{ActionId, ArmId, HISTORY_WIDTHS, HistoryId, LogId, MetricId, MetricName, PathId, level_of};
use crate::state::SignalState;

const BUCKET_S: u32 = (Bucket::WIDTH_NS / 1_000_000_000) as u32;

fn unknown(column: &str, value: &str) -> SchemaError {
    SchemaError::Value { column: column.to_owned(), value: value.to_owned() }
}

/// Returns which metric a row is about.
fn metric_of(row: &SignalRow) -> Result<MetricName, SchemaError> {
    Ok(MetricName {
        name: row.name.as_str().into(),
        unit: row.unit.as_str().into(),
        shape: MetricShape::parse(&row.role).ok_or_else(|| unknown("role", &row.role))?,
        attributes: serde_json::from_str(&row.detail).map_err(|_| unknown("detail", &row.detail))?,
    })
}

/// Returns the second at which the first wide bucket begins that holds any of `bucket` or later.
pub(crate) fn first_wide(bucket: u64) -> u64 {
    let widest = HISTORY_WIDTHS.iter().map(|(width, _)| u64::from(*width)).max().unwrap_or(1);
    bucket * u64::from(BUCKET_S) / widest * widest
}

impl SignalState {
    /// Returns the rows of `signals` that a part of the cells are; `None` where there are none.
    pub(crate) fn signals_of(&self, part: Part<'_>) -> Option<RecordBatch> {
        let mut rows = Vec::new();
        let of_version = |version: u32| part.wants(self.registry.versions.key(version).service);
        for (version, bucket, cell) in self.sides.presence.cells_of(part).filter(|(version, ..)| of_version(**version))
        {
            rows.push(SignalRow {
                spans: cell.spans,
                logs: cell.logs,
                points: cell.points,
                first: cell.first,
                last: cell.last,
                instances: cell.instances.clone(),
                starts: cell.starts.clone(),
                ..self.row("presence", *version, bucket)
            });
        }
        for (id, bucket, cell) in self.sides.logs.cells_of(part).filter(|(id, ..)| of_version(id.version)) {
            let Some(template) = self.sides.templates.get(&id.template) else { continue };
            rows.push(SignalRow {
                name: template.to_string(),
                role: level_of(id.level).as_str().to_owned(),
                count: cell.count,
                failed: cell.exemplars.clone(),
                ..self.row("log", id.version, bucket)
            });
        }
        for (id, bucket, cell) in self.sides.metrics.cells_of(part).filter(|(id, ..)| of_version(id.version)) {
            rows.push(self.metric_row(id, bucket, cell));
        }
        for (id, bucket, cell) in self.sides.arms.cells_of(part).filter(|(id, ..)| of_version(id.version)) {
            rows.push(self.arm_row(id, bucket, cell));
        }
        for (id, bucket, cell) in self.sides.actions.cells_of(part).filter(|(id, ..)| of_version(id.version)) {
            rows.push(SignalRow {
                name: self.registry.names.key(id.action).to_string(),
                count: cell.count,
                errors: cell.failed,
                ..self.row("action", id.version, bucket)
            });
        }
        let meets = |id: &PathId| {
            part.wants(self.registry.operations.key(id.operation).service)
                || self.sides.path_sets.key(id.path).iter().any(|version| of_version(*version))
        };
        for (id, bucket, cell) in self.sides.paths.cells_of(part).filter(|(id, ..)| meets(id)) {
            let cell = cell.spell(&self.registry);
            rows.push(SignalRow {
                count: cell.traces,
                errors: cell.failed,
                log_sum: cell.log_latency_sum,
                log_sum_sq: cell.log_latency_sum_sq,
                classes: PathSums::classes(&cell),
                failed: cell.failed_exemplars,
                path: self.participants(self.sides.path_sets.key(id.path)),
                ..self.operation_row("path", id.operation, Bucket(bucket).start(), BUCKET_S)
            });
        }
        let mut history = self.pending_history();
        if let Part::Since { bucket, .. } = part {
            let from = first_wide(bucket);
            history.retain(|(id, second, _)| {
                *second >= from && part.wants(self.registry.operations.key(id.operation).service)
            });
            let settled = self.sides.history.cells_of(Part::Since { bucket: from, services: &[] });
            let settled = settled.filter(|(id, ..)| part.wants(self.registry.operations.key(id.operation).service));
            history.extend(settled.map(|(id, second, cell)| (*id, second, *cell)));
        }
        for (id, second, cell) in history {
            rows.push(SignalRow {
                count: cell.requests,
                errors: cell.errors,
                weighted_count: cell.weighted_requests,
                log_sum: cell.log_latency_sum,
                log_sum_sq: cell.log_latency_sum_sq,
                ..self.operation_row("history", id.operation, UnixNanos::from_secs(second), id.width_s)
            });
        }
        rows.extend(self.metric_past_rows(part));
        (!rows.is_empty()).then(|| encode(&ordered(&rows)))
    }

    /// Returns what the operations' pending cells add to the wide buckets of the past, with the second each begins at.
    pub(crate) fn pending_history(&self) -> Vec<(HistoryId, u64, HistoryCell)> {
        let mut sums: BTreeMap<(u32, u32, u64), HistoryCell> = BTreeMap::new();
        for (series, bucket, cell) in self.cells.each_pending() {
            let operation = self.registry.series.key(series).operation;
            if self.registry.operations.key(operation).name == NO_NAME || cell.requests == 0 {
                continue;
            }
            let added = HistoryCell {
                requests: cell.requests,
                errors: cell.errors,
                weighted_requests: cell.weighted_requests,
                log_latency_sum: cell.log_sum,
                log_latency_sum_sq: cell.log_sum_sq,
            };
            for (width_s, _) in HISTORY_WIDTHS {
                let second = bucket * u64::from(BUCKET_S) / u64::from(width_s) * u64::from(width_s);
                sums.entry((operation, width_s, second)).or_default().merge(&added);
            }
        }
        let spelt = |((operation, width_s, second), cell)| (HistoryId { operation, width_s }, second, cell);
        sums.into_iter().map(spelt).collect()
    }

    fn row(&self, kind: &str, version: u32, bucket: u64) -> SignalRow {
        let key = self.registry.versions.key(version);
        SignalRow {
            start: Bucket(bucket).start(),
            width_s: BUCKET_S,
            service: self.registry.services.key(key.service).clone(),
            version: key.version.to_string(),
            kind: kind.to_owned(),
            ..SignalRow::default()
        }
    }

    fn operation_row(&self, kind: &str, operation: u32, start: UnixNanos, width_s: u32) -> SignalRow {
        let key = self.registry.operations.key(operation);
        SignalRow {
            start,
            width_s,
            service: self.registry.services.key(key.service).clone(),
            kind: kind.to_owned(),
            name: self.registry.names.key(key.name).to_string(),
            role: key.kind.as_str().to_owned(),
            ..SignalRow::default()
        }
    }

    fn metric_row(&self, id: &MetricId, bucket: u64, cell: &PointCell) -> SignalRow {
        let what = self.metric_names.key(id.metric);
        SignalRow {
            name: what.name.to_string(),
            role: what.shape.as_str().to_owned(),
            detail: serde_json::to_string(&what.attributes).unwrap_or_default(),
            unit: what.unit.to_string(),
            age: id.age.as_str().to_owned(),
            count: cell.count,
            points: cell.points,
            zeros: cell.zeros,
            resets: cell.resets,
            sum: Some(cell.sum),
            min: cell.min,
            max: cell.max,
            values: Histogram(cell.values.0.iter().copied().collect()),
            ..self.row("metric", id.version, bucket)
        }
    }

    fn arm_row(&self, id: &ArmId, bucket: u64, cell: &Cell) -> SignalRow {
        let operation = self.registry.operations.key(id.operation);
        let spelt = self.registry.spell(cell);
        let name = |name: u32| self.registry.names.key(name).to_string();
        SignalRow {
            name: name(operation.name),
            role: operation.kind.as_str().to_owned(),
            detail: name(id.flag),
            variant: name(id.variant),
            age: id.age.as_str().to_owned(),
            count: spelt.requests,
            errors: spelt.errors,
            weighted_count: spelt.weighted_requests,
            weighted_errors: spelt.weighted_errors,
            log_sum: spelt.log_latency_sum,
            log_sum_sq: spelt.log_latency_sum_sq,
            values: spelt.latency,
            classes: spelt.errors_by_class,
            failed: spelt.failed_exemplars,
            slow: spelt.slow_exemplars,
            good: spelt.good_exemplars,
            ..self.row("arm", id.version, bucket)
        }
    }

    /// Adds rows stored before. A sort that is not known is left alone: a later version wrote it.
    pub(crate) fn load_signals(&mut self, batch: &RecordBatch, recall: Recall) -> Result<(), SchemaError> {
        let age_of = |text: &str| AgeClass::parse(text).ok_or_else(|| unknown("instance_age", text));
        let kind_of = |text: &str| OperationKind::parse(text).ok_or_else(|| unknown("role", text));
        for row in decode(batch, recall)? {
            let bucket = row.start.bucket().0;
            match row.kind.as_str() {
                "presence" => {
                    let (version, _) = self.registry.version_id(&row.service, &row.version);
                    let (first, last) = (row.first, row.last);
                    let seen = &mut self.registry.version[version as usize];
                    if let (Some(first), Some(last)) = (first, last) {
                        let known = seen.first_seen != UnixNanos(0);
                        seen.first_seen = if known { seen.first_seen.min(first) } else { first };
                        seen.last_seen = seen.last_seen.max(last);
                    }
                    let cell = PresenceCell {
                        spans: row.spans,
                        logs: row.logs,
                        points: row.points,
                        instances: row.instances,
                        starts: row.starts,
                        first,
                        last,
                    };
                    if row.spans + row.logs + row.points > 0 {
                        self.heard.hear(bucket);
                    }
                    self.sides.presence.settle(version, bucket, &cell);
                }
                "log" => {
                    let (version, _) = self.registry.version_id(&row.service, &row.version);
                    let level = Level::parse(&row.role).ok_or_else(|| unknown("role", &row.role))?;
                    let other = row.name == crate::OTHER;
                    let template = if other { OTHER_TEMPLATE } else { template_hash(&row.name) };
                    if !other {
                        let service = self.registry.versions.key(version).service;
                        let name = self.registry.version_name(version);
                        self.registry.remember_template(service, &name, template, row.start);
                    }
                    self.sides.templates.entry(template).or_insert_with(|| row.name.as_str().into());
                    let cell = LogCell { count: row.count, exemplars: row.failed };
                    self.sides.logs.settle(LogId { version, level: level as u8, template }, bucket, &cell);
                }
                "metric" => {
                    let (version, _) = self.registry.version_id(&row.service, &row.version);
                    let what = metric_of(&row)?;
                    let id = MetricId { version, age: age_of(&row.age)?, metric: self.metric_names.intern(what) };
                    if !self.sides.metrics.contains(&id) {
                        let service = self.registry.versions.key(version).service;
                        self.registry.service[service as usize].metrics += 1;
                    }
                    let cell = PointCell {
                        points: row.points,
                        count: row.count,
                        sum: row.sum.unwrap_or_default(),
                        min: row.min,
                        max: row.max,
                        values: Sparse(row.values.0.into_iter().collect()),
                        zeros: row.zeros,
                        resets: row.resets,
                    };
                    self.sides.metrics.settle(id, bucket, &cell);
                }
                "arm" => {
                    let (version, _) = self.registry.version_id(&row.service, &row.version);
                    let service = self.registry.versions.key(version).service;
                    let name = self.registry.name_id(&row.name);
                    let operation = self.registry.operation_id(service, kind_of(&row.role)?, name);
                    let Some((flag, variant)) = self.registry.arm(service, &row.detail, &row.variant) else { continue };
                    let id = ArmId { version, operation, age: age_of(&row.age)?, flag, variant };
                    let cell = self.registry.shorten(OperationCell {
                        requests: row.count,
                        errors: row.errors,
                        weighted_requests: row.weighted_count,
                        weighted_errors: row.weighted_errors,
                        log_latency_sum: row.log_sum,
                        log_latency_sum_sq: row.log_sum_sq,
                        latency: row.values,
                        errors_by_class: row.classes,
                        failed_exemplars: row.failed,
                        slow_exemplars: row.slow,
                        good_exemplars: row.good,
                        ..OperationCell::default()
                    });
                    self.sides.arms.settle(id, bucket, &cell);
                }
                "action" => {
                    let (version, _) = self.registry.version_id(&row.service, &row.version);
                    let action = self.registry.name_id(&row.name);
                    let cell = ActionCell { count: row.count, failed: row.errors };
                    self.sides.actions.settle(ActionId { version, action }, bucket, &cell);
                }
                "path" => {
                    let environment = &row.service.environment;
                    let mut versions: Vec<u32> = Vec::with_capacity(row.path.len());
                    for who in &row.path {
                        let service = plimsoll_model::ServiceKey {
                            environment: environment.clone(),
                            namespace: who.namespace.clone(),
                            service: who.service.clone(),
                        };
                        versions.push(self.registry.version_id(&service, &who.version).0);
                    }
                    versions.sort_unstable();
                    versions.dedup();
                    let service = self.registry.service_id(&row.service);
                    let name = self.registry.name_id(&row.name);
                    let operation = self.registry.operation_id(service, kind_of(&row.role)?, name);
                    let id = PathId { operation, path: self.sides.path_sets.intern(versions.into()) };
                    if !self.sides.paths.contains(&id) {
                        *self.sides.paths_of.entry(operation).or_default() += 1;
                    }
                    let [failed_within, failed_both] = PathSums::of_classes(row.classes);
                    let cell = PathCell {
                        traces: row.count,
                        failed: row.errors,
                        log_latency_sum: row.log_sum,
                        log_latency_sum_sq: row.log_sum_sq,
                        failed_exemplars: row.failed,
                        failed_within,
                        failed_both,
                    };
                    let cell = PathSums::of(&cell, &row.path, environment, &mut self.registry);
                    self.sides.paths.settle(id, bucket, &cell);
                }
                "history" => {
                    let service = self.registry.service_id(&row.service);
                    let name = self.registry.name_id(&row.name);
                    let operation = self.registry.operation_id(service, kind_of(&row.role)?, name);
                    let cell = HistoryCell {
                        requests: row.count,
                        errors: row.errors,
                        weighted_requests: row.weighted_count,
                        log_latency_sum: row.log_sum,
                        log_latency_sum_sq: row.log_sum_sq,
                    };
                    let second = row.start.0 / 1_000_000_000;
                    self.sides.history.settle(HistoryId { operation, width_s: row.width_s }, second, &cell);
                }
                metric_past::KIND => {
                    let what = metric_of(&row)?;
                    self.load_metric_past(&row, what);
                }
                _ => {}
            }
        }
        self.bound_cells();
        Ok(())
    }
}
