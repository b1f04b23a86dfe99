//! Rows of `metrics` back into `Metric` messages, rows of equal metrics into one.

use std::collections::HashMap;

use arrow::array::{Array, BooleanArray, Int32Array, RecordBatch, StringArray};

use super::EncodeError;
use super::attributes::Attributes;
use super::columns::{Columns, some_at, text_at};
use super::groups::{Records, Row};
use super::points::{PointKind, Points};
use crate::proto::{gauge, metric, scope_metrics, sum};
use crate::wire::Writer;

/// The columns of one batch.
pub(super) struct Metrics {
    name: StringArray,
    description: StringArray,
    unit: StringArray,
    metric_type: StringArray,
    temporality: Int32Array,
    is_monotonic: BooleanArray,
    metadata: Attributes,
    points: Points,
}

/// What a metric is but for its points.
#[derive(PartialEq, Eq, Hash)]
struct Head {
    tag: u32,
    temporality: Option<i32>,
    is_monotonic: Option<bool>,
    /// Name, description, unit and metadata, encoded.
    wire: Vec<u8>,
}

fn point_kind(tag: u32) -> PointKind {
    match tag {
        metric::HISTOGRAM => PointKind::Histogram,
        metric::EXPONENTIAL_HISTOGRAM => PointKind::Exponential,
        metric::SUMMARY => PointKind::Summary,
        _ => PointKind::Number,
    }
}

impl Metrics {
    fn head(&self, row: usize) -> Result<Head, EncodeError> {
        let tag = match text_at(&self.metric_type, row) {
            b"gauge" => metric::GAUGE,
            b"sum" => metric::SUM,
            b"histogram" => metric::HISTOGRAM,
            b"exponential_histogram" => metric::EXPONENTIAL_HISTOGRAM,
            b"summary" => metric::SUMMARY,
            other => {
                let problem = format!("`{}` is not the name of a type", String::from_utf8_lossy(other));
                return Err(EncodeError::new("metric_type", problem));
            }
        };
        let mut writer = Writer::default();
        writer.bytes_unless_empty(metric::NAME, text_at(&self.name, row));
        writer.bytes_unless_empty(metric::DESCRIPTION, text_at(&self.description, row));
        writer.bytes_unless_empty(metric::UNIT, text_at(&self.unit, row));
        self.metadata.write(&mut writer, metric::METADATA, row)?;
        Ok(Head {
            tag,
            temporality: some_at(&self.temporality, row),
            is_monotonic: self.is_monotonic.is_valid(row).then(|| self.is_monotonic.value(row)),
            wire: writer.into_bytes(),
        })
    }
}

impl Records for Metrics {
    fn find(batch: &RecordBatch) -> Result<Self, EncodeError> {
        Ok(Self {
            name: batch.text("metric_name")?,
            description: batch.text("metric_description")?,
            unit: batch.text("unit")?,
            metric_type: batch.text("metric_type")?,
            temporality: batch.numbers("temporality")?,
            is_monotonic: batch.bools("is_monotonic")?,
            metadata: Attributes::find(batch, "metadata", "metadata_types")?,
            points: Points::find(batch)?,
        })
    }

    fn write(batches: &[Self], rows: &[Row], writer: &mut Writer) -> Result<(), EncodeError> {
        let mut order: HashMap<Head, usize> = HashMap::new();
        let mut groups: Vec<Vec<Row>> = Vec::new();
        for (batch, row) in rows {
            let group = *order.entry(batches[*batch].head(*row)?).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Vec::new());
            }
            groups[group].push((*batch, *row));
        }
        let mut heads: Vec<(Head, usize)> = order.into_iter().collect();
        heads.sort_unstable_by_key(|(_, group)| *group);
        for (head, group) in heads {
            let open = writer.open(scope_metrics::RECORDS);
            writer.raw(&head.wire);
            let data = writer.open(head.tag);
            for (batch, row) in &groups[group] {
                let point = writer.open(gauge::POINTS);
                batches[*batch].points.write(point_kind(head.tag), *row, writer)?;
                writer.close(point);
            }
            writer.int32_unless_zero(sum::TEMPORALITY, head.temporality.unwrap_or_default());
            writer.uint_unless_zero(sum::IS_MONOTONIC, u32::from(head.is_monotonic.unwrap_or_default()));
            writer.close(data);
            writer.close(open);
        }
        Ok(())
    }
}
