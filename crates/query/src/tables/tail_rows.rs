//! The rows of the tail as a plan reads them: each batch is let go of when it is handed on.
//!
//! *Why.* A query sees the tail as it was when it began. Rows leave the tail as soon as they are in a segment, but not memory as long as
//! a query holds them: several that run for seconds beside a load would hold several tails, which no budget counts. So a plan holds
//! the columns that it reads, of the batches that it has not read yet, and nothing else.
//!
//! *Invariants.* A partition is opened once. A join without equal columns whose one side does not fit into memory would read that side again in parts:
//! it is told that memory does not suffice.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, resources_err};
use datafusion::datasource::memory::DataSourceExec;
use datafusion::datasource::source::DataSource;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, PhysicalExpr};
use parking_lot::Mutex;

/// Some columns of the tail, in partitions.
#[derive(Debug)]
pub(super) struct TailRows {
    schema: SchemaRef,
    partitions: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    rows: usize,
    /// `None` once it was opened.
    batches: Mutex<Option<Vec<RecordBatch>>>,
}

impl Partition {
    fn new(batches: Vec<RecordBatch>) -> Self {
        Self { rows: batches.iter().map(RecordBatch::num_rows).sum(), batches: Mutex::new(Some(batches)) }
    }
}

impl TailRows {
    /// Plans to read the columns at `columns` of `tail`.
    pub(super) fn plan(
        tail: Vec<RecordBatch>,
        schema: &SchemaRef,
        columns: &[usize],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batches = tail.into_iter().map(|batch| batch.project(columns)).collect::<Result<Vec<_>, _>>()?;
        let partitions = vec![Partition::new(batches)];
        Ok(DataSourceExec::from_data_source(Self { schema: Arc::new(schema.project(columns)?), partitions }))
    }

    fn rows(&self) -> usize {
        self.partitions.iter().map(|partition| partition.rows).sum()
    }
}

impl DataSource for TailRows {
    fn open(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(batches) = self.partitions.get(partition).and_then(|partition| partition.batches.lock().take()) else {
            return resources_err!("a join reads its rows again in parts, and those of the tail are gone");
        };
        // An iterator that owns what is left of it.
        let rows = futures::stream::iter(batches.into_iter().map(Ok));
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))))
    }

    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tail, rows={}, partitions={}", self.rows(), self.partitions.len())
    }

    fn repartitioned(
        &self,
        target: usize,
        _file_bytes_min: usize,
        _ordering: Option<LexOrdering>,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        let batches: Vec<RecordBatch> =
            self.partitions.iter().flat_map(|partition| partition.batches.lock().clone().unwrap_or_default()).collect();
        let target = target.min(batches.len());
        if target <= self.partitions.len() {
            return Ok(None);
        }
        let share = self.rows().div_ceil(target).max(1);
        let mut partitions = Vec::with_capacity(target);
        let (mut hand, mut rows) = (Vec::new(), 0);
        for batch in batches {
            rows += batch.num_rows();
            hand.push(batch);
            if rows >= share {
                partitions.push(Partition::new(std::mem::take(&mut hand)));
                rows = 0;
            }
        }
        if !hand.is_empty() {
            partitions.push(Partition::new(hand));
        }
        Ok(Some(Arc::new(Self { schema: Arc::clone(&self.schema), partitions })))
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions.len())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn scheduling_type(&self) -> SchedulingType {
        SchedulingType::Cooperative
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let rows = match partition {
            Some(at) => self.partitions.get(at).map_or(0, |partition| partition.rows),
            None => self.rows(),
        };
        let unknown = Statistics::new_unknown(&self.schema);
        Ok(Arc::new(Statistics { num_rows: Precision::Exact(rows), ..unknown }))
    }

    fn with_fetch(&self, _limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        // Whoever has a limit stops asking.
        None
    }

    fn fetch(&self) -> Option<usize> {
        None
    }

    fn try_swapping_with_projection(&self, _projection: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        // It was made of the columns that are read.
        Ok(None)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}
