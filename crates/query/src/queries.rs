//! What queries run, wait and lately ended: the rows of `plimsoll.queries`, and the memory that each holds.
//!
//! *Cost.* A lock when a query begins and ends; two atomic additions for each reservation of memory.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;
use plimsoll_model::UnixNanos;

use crate::error::QueryError;

/// Ended queries that are remembered.
const RECENT_MAX: usize = 256;
/// Bytes of a statement that are kept.
const TEXT_BYTES_MAX: usize = 4096;

/// Every query of one engine.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    last: u64,
    live: BTreeMap<u64, Arc<Query>>,
    recent: VecDeque<Arc<Query>>,
}

/// What is known of one query.
pub(crate) struct Query {
    pub(crate) id: u64,
    pub(crate) text: String,
    pub(crate) source: &'static str,
    pub(crate) started: UnixNanos,
    began: Instant,
    memory: Arc<QueryMemory>,
    rows: AtomicU64,
    progress: Mutex<Progress>,
}

struct Progress {
    state: State,
    plan: Option<Arc<dyn ExecutionPlan>>,
    ended: Option<Duration>,
    cpu: Duration,
    spilled: u64,
}

/// Where a query is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Running,
    Done,
    Failed(String),
    Cancelled,
}

impl State {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One look at a query.
pub(crate) struct Look {
    pub(crate) state: State,
    pub(crate) elapsed: Duration,
    pub(crate) rows: u64,
    pub(crate) memory: usize,
    pub(crate) memory_peak: usize,
    pub(crate) spilled: u64,
    pub(crate) cpu: Duration,
}

impl Queries {
    /// Takes note of a query that waits for its slot.
    pub(crate) fn begin(self: &Arc<Self>, text: &str, source: &'static str, pool: Arc<dyn MemoryPool>) -> Tracked {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut known = self.known.lock();
        known.last += 1;
        let query = Arc::new(Query {
            id: known.last,
            text: text[..end].to_owned(),
            source,
            started: UnixNanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)),
            began: Instant::now(),
            memory: Arc::new(QueryMemory { pool, held: AtomicUsize::new(0), peak: AtomicUsize::new(0) }),
            rows: AtomicU64::new(0),
            progress: Mutex::new(Progress {
                state: State::Waiting,
                plan: None,
                ended: None,
                cpu: Duration::ZERO,
                spilled: 0,
            }),
        });
        known.live.insert(query.id, Arc::clone(&query));
        Tracked { queries: Arc::clone(self), query }
    }

    /// Returns every query that is known, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Query>> {
        let known = self.known.lock();
        let mut all: Vec<Arc<Query>> = known.live.values().chain(&known.recent).cloned().collect();
        all.sort_unstable_by_key(|query| std::cmp::Reverse(query.id));
        all
    }

    fn end(&self, query: &Arc<Query>) {
        let mut known = self.known.lock();
        known.live.remove(&query.id);
        known.recent.push_front(Arc::clone(query));
        known.recent.truncate(RECENT_MAX);
    }
}

impl Query {
    /// Says how it goes right now.
    pub(crate) fn look(&self) -> Look {
        let progress = self.progress.lock();
        let (cpu, spilled) = match &progress.plan {
            Some(plan) => spent(plan.as_ref()),
            None => (progress.cpu, progress.spilled),
        };
        Look {
            state: progress.state.clone(),
            elapsed: progress.ended.unwrap_or_else(|| self.began.elapsed()),
            rows: self.rows.load(Ordering::Relaxed),
            memory: self.memory.held.load(Ordering::Relaxed),
            memory_peak: self.memory.peak.load(Ordering::Relaxed),
            spilled,
            cpu,
        }
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Sums what a plan's operators say that they took.
fn spent(plan: &dyn ExecutionPlan) -> (Duration, u64) {
    let (mut cpu, mut spilled) = (Duration::ZERO, 0);
    if let Some(metrics) = plan.metrics() {
        cpu += Duration::from_nanos(metrics.elapsed_compute().unwrap_or(0) as u64);
        let scanning = metrics.sum_by_name("time_elapsed_processing").map_or(0, |value| value.as_usize());
        cpu += Duration::from_nanos(scanning as u64);
        spilled += metrics.spilled_bytes().unwrap_or(0) as u64;
    }
    for child in plan.children() {
        let (inner, bytes) = spent(child.as_ref());
        cpu += inner;
        spilled += bytes;
    }
    (cpu, spilled)
}

/// Follows one query to its end: one that is dropped before it ended was cancelled.
pub(crate) struct Tracked {
    queries: Arc<Queries>,
    query: Arc<Query>,
}

impl Tracked {
    /// Says that it has its slot.
    pub(crate) fn runs(&self) {
        self.query.progress.lock().state = State::Running;
    }

    /// Says by which plan it runs.
    pub(crate) fn planned(&self, plan: &Arc<dyn ExecutionPlan>) {
        self.query.progress.lock().plan = Some(Arc::clone(plan));
    }

    /// Counts rows that left.
    pub(crate) fn sent(&self, rows: usize) {
        // A count for people to look at: relaxed is enough.
        self.query.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Returns the memory that it reserves from.
    pub(crate) fn memory(&self) -> Arc<dyn MemoryPool> {
        Arc::clone(&self.query.memory) as Arc<dyn MemoryPool>
    }

    /// Says how it ended; the first word counts.
    pub(crate) fn ends(&self, outcome: Result<(), &QueryError>) {
        self.settle(match outcome {
            Ok(()) => State::Done,
            Err(error) => State::Failed(error.to_string()),
        });
    }

    fn settle(&self, state: State) {
        let mut progress = self.query.progress.lock();
        if progress.ended.is_none() {
            progress.state = state;
            progress.ended = Some(self.query.began.elapsed());
            // The plan holds on to what it read.
            if let Some(plan) = progress.plan.take() {
                (progress.cpu, progress.spilled) = spent(plan.as_ref());
            }
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.settle(State::Cancelled);
        self.queries.end(&self.query);
    }
}

/// The pool of all queries, as one of them sees it: what it takes is counted.
struct QueryMemory {
    pool: Arc<dyn MemoryPool>,
    held: AtomicUsize,
    peak: AtomicUsize,
}

impl QueryMemory {
    fn took(&self, bytes: usize) {
        // Counts for people to look at: relaxed is enough.
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(held, Ordering::Relaxed);
    }
}

impl fmt::Debug for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryMemory").field("held", &self.held).finish_non_exhaustive()
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.pool, f)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.took(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        self.held.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional)?;
        self.took(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}
