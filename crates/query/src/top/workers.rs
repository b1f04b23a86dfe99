//! The workers of a search: each takes the most promising part that is left until none can matter, and then gives the rows that it
//! found.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use super::Asked;
use super::compiled::Compiled;
use super::rank::Rank;
use super::search::{Queue, Wanted};
use super::segment::{Part, Rows, Segment};
use crate::give_way::Ingest;
use crate::tables::reads::Reads;

/// What the workers of one execution share.
pub(super) struct Search {
    asked: Arc<Asked>,
    reads: Arc<Reads>,
    ingest: Arc<Ingest>,
    wanted: Wanted,
    /// Held while a segment is opened: the others wait for its parts.
    left: tokio::sync::Mutex<Queue<Left>>,
    /// One for all segments whose columns are alike.
    compiled: Mutex<Vec<Arc<Compiled>>>,
    metrics: ExecutionPlanMetricsSet,
    parts: Count,
    parts_read: Count,
}

/// What is left to be read.
enum Left {
    File(Box<PartitionedFile>),
    Part(Part),
}

impl Search {
    pub(super) fn new(
        (asked, files): (Arc<Asked>, &[PartitionedFile]),
        (reads, ingest): (Arc<Reads>, Arc<Ingest>),
        metrics: &ExecutionPlanMetricsSet,
    ) -> Self {
        let mut left = Queue::default();
        for file in files {
            left.push(bound(&asked, file), Left::File(Box::new(file.clone())));
        }
        Self {
            wanted: Wanted::new(asked.order.fetch, asked.order.with_ties),
            left: tokio::sync::Mutex::new(left),
            compiled: Mutex::default(),
            parts: MetricBuilder::new(metrics).global_counter("pages_considered"),
            parts_read: MetricBuilder::new(metrics).global_counter("pages_read"),
            metrics: metrics.clone(),
            asked,
            reads,
            ingest,
        }
    }

    /// Returns the most promising part that is left; `None` when no row of any can belong to the answer.
    async fn next(&self) -> Result<Option<Part>> {
        let mut left = self.left.lock().await;
        loop {
            match left.pop(&self.wanted) {
                None => return Ok(None),
                Some(Left::Part(part)) => return Ok(Some(part)),
                Some(Left::File(file)) => self.open(*file, &mut left).await?,
            }
        }
    }

    /// Opens a segment and adds its parts.
    async fn open(&self, file: PartitionedFile, left: &mut Queue<Left>) -> Result<()> {
        let access = file.extension::<ParquetAccessPlan>().cloned();
        let mut reader = self.reads.open(file, &self.metrics);
        let footer = reader.footer().await?;
        let footer = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new())?;
        let compiled = self.compiled(footer.schema())?;
        let segment = Arc::new(Segment::new(reader, footer, compiled)?);
        for (bound, part) in segment.parts(access, self.asked.order.direction) {
            self.parts.add(1);
            left.push(bound, Left::Part(part));
        }
        Ok(())
    }

    fn compiled(&self, schema: &SchemaRef) -> Result<Arc<Compiled>> {
        let mut known = self.compiled.lock();
        if let Some(compiled) = known.iter().find(|known| known.fits(schema)) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(Compiled::new(&self.asked, schema)?);
        known.push(Arc::clone(&compiled));
        Ok(compiled)
    }
}

/// Returns the best rank that a row of a file can have.
fn bound(asked: &Asked, file: &PartitionedFile) -> Rank {
    let direction = asked.order.direction;
    let known = || {
        let at = asked.key.downcast_ref::<Column>()?.index();
        if asked.table.field(at).is_nullable() {
            return None;
        }
        let column = file.statistics.as_ref()?.column_statistics.get(at)?;
        let value = if direction.descending { &column.max_value } else { &column.min_value };
        match value {
            Precision::Exact(value) | Precision::Inexact(value) => match value {
                ScalarValue::TimestampNanosecond(Some(value), _) | ScalarValue::Int64(Some(value)) => Some(*value),
                _ => None,
            },
            Precision::Absent => None,
        }
    };
    known().map_or(Rank::FIRST, |value| direction.rank(Some(value)))
}

/// Runs the workers of a partition.
pub(super) fn run(
    search: Arc<Search>,
    (partition, workers): (usize, usize),
    context: &Arc<TaskContext>,
    metrics: &ExecutionPlanMetricsSet,
) -> SendableRecordBatchStream {
    let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&search.asked.output), workers);
    for _ in 0..workers {
        let consumer = MemoryConsumer::new(format!("TopScan[{partition}]"));
        let mut worker = Worker {
            search: Arc::clone(&search),
            found: Vec::new(),
            reservation: consumer.register(context.memory_pool()),
            metrics: BaselineMetrics::new(metrics, partition),
        };
        let rows = stream.tx();
        stream.spawn(async move {
            worker.look().await?;
            while let Some(found) = worker.found.pop() {
                let batch = worker.show(found)?;
                if let Some(batch) = batch
                    && rows.send(Ok(batch)).await.is_err()
                {
                    break;
                }
                tokio::task::yield_now().await;
            }
            worker.metrics.done();
            Ok(())
        });
    }
    stream.build()
}

struct Worker {
    search: Arc<Search>,
    found: Vec<Rows>,
    reservation: MemoryReservation,
    metrics: BaselineMetrics,
}

impl Worker {
    /// Reads parts until none can matter.
    async fn look(&mut self) -> Result<()> {
        let mut held = 0;
        while let Some(part) = self.search.next().await? {
            let began = Instant::now();
            self.search.parts_read.add(1);
            let time = self.metrics.elapsed_compute().clone();
            if let Some(rows) = part.read(self.search.asked.order.direction, &self.search.wanted)? {
                self.search.wanted.found(&rows.ranks);
                held += rows.ranks.len();
                self.found.push(rows);
                if held > 2 * self.search.asked.order.fetch {
                    held = self.prune()?;
                }
                self.reservation.try_resize(self.found.iter().map(Rows::bytes).sum())?;
            }
            time.add_elapsed(began);
            // The thread is not its own: others wait, and who asked may have gone.
            if !self.search.ingest.give_way(began.elapsed()).await {
                tokio::task::yield_now().await;
            }
        }
        self.prune()?;
        Ok(())
    }

    /// Drops what is no longer in the answer; returns how many rows are left.
    fn prune(&mut self) -> Result<usize> {
        let Some(worst) = self.search.wanted.worst() else {
            return Ok(self.found.iter().map(|rows| rows.ranks.len()).sum());
        };
        let mut left = 0;
        for rows in &mut self.found {
            left += rows.retain(|rank| rank >= worst)?;
        }
        self.found.retain(|rows| !rows.ranks.is_empty());
        Ok(left)
    }

    /// Gives what of `rows` is in the answer.
    fn show(&mut self, mut rows: Rows) -> Result<Option<arrow::array::RecordBatch>> {
        let began = Instant::now();
        if let Some(worst) = self.search.wanted.worst()
            && rows.retain(|rank| rank >= worst)? == 0
        {
            return Ok(None);
        }
        let batch = rows.show(&self.search.asked.output)?;
        self.metrics.elapsed_compute().add_elapsed(began);
        self.metrics.record_output(batch.num_rows());
        Ok(Some(batch))
    }
}
