//! The past of metrics: the same hours of days before, in buckets of ten minutes.
//!
//! *Why.* A level that rises every day at nine rises on the day of a deploy, too. The cells of ten seconds are forgotten after hours.
//!
//! *Invariants.* Only metrics are kept whose name tells which direction is bad, all versions and ages together. What is pending
//! here follows from the pending cells of the metrics, so that rows and memory say the same.
//!
//! *Cost.* Sixty bytes a series and ten minutes, for eight days; nothing while points are folded.

use std::collections::BTreeMap;

use plimsoll_model::aggregates::{MetricHistoryCell, MetricHistoryKey, MetricHistorySeries};
use plimsoll_model::metric::worse_upwards;
use plimsoll_model::{Bucket, UnixNanos};

use crate::side::Part;
use crate::side_rows::SignalRow;
use crate::sides::MetricName;
use crate::state::SignalState;

/// Width of a bucket in seconds.
pub(crate) const WIDTH_S: u32 = 600;
/// How long they are kept: a week ago, with the hour before.
pub(crate) const KEPT_S: u64 = 8 * 86_400;
/// What the rows are called.
pub(crate) const KIND: &str = "metric_history";

/// A metric of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MetricPastId {
    pub(crate) service: u32,
    /// Number of the metric's name.
    pub(crate) metric: u32,
}

/// Returns the second at which the wide bucket begins that holds this one of ten seconds.
fn wide(bucket: u64) -> u64 {
    Bucket(bucket).start().0 / 1_000_000_000 / u64::from(WIDTH_S) * u64::from(WIDTH_S)
}

impl SignalState {
    /// Returns what the metrics' pending cells add to the wide buckets of the past, with the second each begins at.
    pub(crate) fn pending_metric_past(&self) -> Vec<(MetricPastId, u64, MetricHistoryCell)> {
        let mut told: BTreeMap<u32, bool> = BTreeMap::new();
        let mut sums: BTreeMap<(MetricPastId, u64), MetricHistoryCell> = BTreeMap::new();
        for (id, bucket, cell) in self.sides.metrics.cells_of(Part::Pending) {
            let named = || worse_upwards(&self.metric_names.key(id.metric).name).is_some();
            if cell.count == 0 || !*told.entry(id.metric).or_insert_with(named) {
                continue;
            }
            let past = MetricPastId { service: self.registry.versions.key(id.version).service, metric: id.metric };
            let added = MetricHistoryCell { points: cell.points, count: cell.count, sum: cell.sum };
            sums.entry((past, wide(bucket))).or_default().merge(&added);
        }
        sums.into_iter().map(|((id, second), cell)| (id, second, cell)).collect()
    }

    /// Returns the wide buckets of a part as rows.
    pub(crate) fn metric_past_rows(&self, part: Part<'_>) -> Vec<SignalRow> {
        let mut cells = self.pending_metric_past();
        if let Part::Since { bucket, .. } = part {
            let from = wide(bucket);
            cells.retain(|(id, second, _)| *second >= from && part.wants(id.service));
            let settled = self.sides.metric_past.cells_of(Part::Since { bucket: from, services: &[] });
            let settled = settled.filter(|(id, ..)| part.wants(id.service));
            cells.extend(settled.map(|(id, second, cell)| (*id, second, *cell)));
        }
        let row = |(id, second, cell): (MetricPastId, u64, MetricHistoryCell)| {
            let what = self.metric_names.key(id.metric);
            SignalRow {
                start: UnixNanos::from_secs(second),
                width_s: WIDTH_S,
                service: self.registry.services.key(id.service).clone(),
                kind: KIND.to_owned(),
                name: what.name.to_string(),
                role: what.shape.as_str().to_owned(),
                detail: serde_json::to_string(&what.attributes).unwrap_or_default(),
                unit: what.unit.to_string(),
                count: cell.count,
                points: cell.points,
                sum: Some(cell.sum),
                ..SignalRow::default()
            }
        };
        cells.into_iter().map(row).collect()
    }

    /// Adds a wide bucket that was stored, unless there is no room for its name.
    pub(crate) fn load_metric_past(&mut self, row: &SignalRow, what: MetricName) {
        let full = self.metric_names.len() >= self.registry.limits.side_series_max;
        if full && self.metric_names.get(&what).is_none() {
            return;
        }
        let service = self.registry.service_id(&row.service);
        let id = MetricPastId { service, metric: self.metric_names.intern(what) };
        let cell = MetricHistoryCell { points: row.points, count: row.count, sum: row.sum.unwrap_or_default() };
        self.sides.metric_past.settle(id, row.start.0 / 1_000_000_000, &cell);
    }

    /// Returns the past of a service's metrics, in order.
    pub(crate) fn metric_past_of(&self, service: u32) -> Vec<MetricHistorySeries> {
        let spelt = |(id, cells): (MetricPastId, BTreeMap<u64, MetricHistoryCell>)| {
            let MetricName { name, unit, shape, attributes } = self.metric_names.key(id.metric).clone();
            let metric = MetricHistoryKey { name: name.to_string(), unit: unit.to_string(), shape, attributes };
            let cells = cells.into_iter().map(|(second, cell)| (UnixNanos::from_secs(second), cell)).collect();
            MetricHistorySeries { metric, width_s: WIDTH_S, cells }
        };
        let settled = self.sides.metric_past.within(&(0..u64::MAX), |id| id.service == service);
        let mut found: Vec<_> = settled.into_iter().map(spelt).collect();
        found.sort_by(|a, b| a.metric.cmp(&b.metric));
        found
    }
}
