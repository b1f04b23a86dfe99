//! Queries that give way: where rows come in faster than they can be written to segments, what reads for queries pauses between
//! batches, so that the processors are with those who write.
//!
//! How far the tail is filled says how far behind they are, as it does for requests, which are held up from half on. Queries
//! pause before that: at [`GiveWay::from_bytes`] not at all, at [`GiveWay::until_bytes`] for [`PAUSES`] times as long as they
//! worked. A query that gives way goes on, more slowly; its time limit is as it was.
//!
//! *Cost.* A look at a shared value and at the clock for each batch that is read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use plimsoll_store::Store;

use crate::port::GiveWay;

/// How many times as long as it worked a query pauses at most.
const PAUSES: u32 = 6;
/// The longest single pause: it may be over while one is under way.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// The shortest: less is not worth a timer.
const PAUSE_MIN: Duration = Duration::from_micros(500);

/// Who is given way to, and for how long that was done.
pub(crate) struct Ingest {
    store: Store,
    limits: Option<GiveWay>,
    paused_ns: AtomicU64,
}

impl Ingest {
    pub(crate) fn new(store: Store, limits: Option<GiveWay>) -> Arc<Self> {
        Arc::new(Self { store, limits, paused_ns: AtomicU64::new(0) })
    }

    /// Returns for how long queries have given way since the engine was made, all of their tasks together.
    pub(crate) fn paused(&self) -> Duration {
        Duration::from_nanos(self.paused_ns.load(Ordering::Relaxed))
    }

    /// Pauses after having worked for `worked`, where that is called for.
    pub(crate) async fn give_way(&self, worked: Duration) -> bool {
        let Some(limits) = self.limits else { return false };
        let pause = pause(worked, self.store.unwritten_bytes(), limits);
        if pause < PAUSE_MIN {
            return false;
        }
        tokio::time::sleep(pause).await;
        // A figure to look at: relaxed is enough.
        self.paused_ns.fetch_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        true
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Returns how long to pause.
fn pause(worked: Duration, unwritten_bytes: u64, limits: GiveWay) -> Duration {
    let above = unwritten_bytes.saturating_sub(limits.from_bytes);
    let room = limits.until_bytes.saturating_sub(limits.from_bytes).max(1);
    let share = (above as f64 / room as f64).min(1.0);
    worked.mul_f64(f64::from(PAUSES) * share).min(PAUSE_MAX)
}

/// Puts a [`GiveWayExec`] above everything that reads.
#[derive(Debug)]
pub(crate) struct GivesWay(pub(crate) Arc<Ingest>);

impl PhysicalOptimizerRule for GivesWay {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if self.0.limits.is_none() {
            return Ok(plan);
        }
        plan.transform_up(|plan| {
            Ok(if plan.name() == "DataSourceExec" {
                let reading = GiveWayExec { input: plan, ingest: Arc::clone(&self.0) };
                Transformed::yes(Arc::new(reading) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(plan)
            })
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "gives_way"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Hands batches on, with pauses.
#[derive(Debug)]
struct GiveWayExec {
    input: Arc<dyn ExecutionPlan>,
    ingest: Arc<Ingest>,
}

impl DisplayAs for GiveWayExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GiveWayExec")
    }
}

impl ExecutionPlan for GiveWayExec {
    fn name(&self) -> &str {
        "GiveWayExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self { input, ingest: Arc::clone(&self.ingest) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.input.schema();
        let state = (self.input.execute(partition, context)?, Arc::clone(&self.ingest), Instant::now());
        let rows = futures::stream::unfold(state, |(mut input, ingest, since)| async move {
            // From one batch asked for to the next: reading it, and what was done with it above.
            let paused = ingest.give_way(since.elapsed()).await;
            let since = if paused { Instant::now() } else { since };
            let batch = input.next().await?;
            Some((batch, (input, ingest, since)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_pause_longer_the_further_behind_the_writers_are() {
        let limits = GiveWay { from_bytes: 40, until_bytes: 50 };
        let worked = Duration::from_millis(4);
        let pauses = [0, 40, 45, 50, 1_000].map(|tail| pause(worked, tail, limits).as_millis());
        assert_eq!(pauses, [0, 0, 12, 24, 24]);
        assert_eq!(pause(Duration::from_secs(1), 1_000, limits), PAUSE_MAX);
        assert!(pause(worked, 7, GiveWay { from_bytes: 0, until_bytes: 0 }) > Duration::ZERO);
    }
}
