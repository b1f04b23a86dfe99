//! The embedded engine: DataFusion in this process, on threads and memory of its own.
//!
//! *Lifecycle of a query.* Admission (a slot, or a place in a bounded queue) -> guard -> snapshot -> plan -> rows through a
//! channel of two batches. The task that runs it belongs to the engine's own runtime; dropping the stream, or the future
//! before there is a stream, aborts it. The time limit covers everything from the first line to the last row.
//!
//! *Invariants.*
//! - A stream that ends without an error is complete: the task says so explicitly, and a channel that closes otherwise is an error.
//! - A slot is held until the task is gone, even where the caller has given up on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SQLOptions;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use plimsoll_catalog::Catalog;
use plimsoll_model::DeployId;
use plimsoll_store::{Snapshot, Store};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::{QueryError, unknown};
use crate::guard;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::port::{QueryLimits, QueryRequest, QueryResult, SqlEngine};
use crate::session::Sessions;
use crate::tables::reads::Reads;
use crate::tables::{CATALOG, NAMES, SCHEMA, Tables};

/// Queries that may wait for each slot.
const WAITING_PER_SLOT: usize = 32;
/// How much longer than the query itself its caller waits to be told.
const GRACE: Duration = Duration::from_millis(250);
/// Stack of a query thread: deep plans are walked recursively.
const STACK_BYTES: usize = 16 << 20;
/// Batches under way to a slow caller.
const BATCHES_AHEAD: usize = 2;

/// SQL over one store, in process.
pub struct DataFusionEngine {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

struct Shared {
    store: Store,
    catalog: Arc<dyn Catalog>,
    limits: QueryLimits,
    sessions: Sessions,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl DataFusionEngine {
    /// Makes an engine with its own threads.
    ///
    /// # Errors
    /// The threads cannot be started, or the limits make no sense.
    pub fn new(store: Store, catalog: Arc<dyn Catalog>, limits: QueryLimits) -> Result<Self, QueryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_name("plimsoll-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| QueryError::Unreadable(format!("cannot start query threads: {error}")))?;
        let sessions =
            Sessions::new(&limits).map_err(|error| QueryError::from_planning(&error, limits.memory_bytes))?;
        let slots = Arc::new(Semaphore::new(limits.concurrency.max(1)));
        let shared = Shared { store, catalog, limits, sessions, slots, waiting: AtomicUsize::new(0) };
        Ok(Self { shared: Arc::new(shared), runtime: Some(runtime) })
    }

    /// Returns the bytes of memory that running queries have reserved.
    pub fn reserved_bytes(&self) -> usize {
        self.shared.sessions.runtime().memory_pool.reserved()
    }

    /// Returns how many queries run and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let slots = self.shared.limits.concurrency.max(1);
        (slots.saturating_sub(self.shared.slots.available_permits()), self.shared.waiting.load(Ordering::Relaxed))
    }
}

impl Drop for DataFusionEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not possible from within another runtime; running queries are aborted.
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl SqlEngine for DataFusionEngine {
    async fn query(&self, request: QueryRequest) -> Result<QueryResult, QueryError> {
        let limit = request.timeout.map_or(self.shared.limits.timeout, |own| own.min(self.shared.limits.timeout));
        let deadline = Deadline { at: Instant::now() + limit, limit };
        let permit = self.shared.admit(deadline).await?;
        let (head, started) = oneshot::channel();
        let (batches, rows) = mpsc::channel(BATCHES_AHEAD);
        let shared = Arc::clone(&self.shared);
        let runtime = self.runtime.as_ref().expect("the runtime is there until the engine is dropped");
        let interrupt = Interrupt::new(deadline.at, limit);
        let watched = Arc::clone(&interrupt);
        let task = runtime.spawn(async move {
            let snapshot = shared.store.snapshot();
            let footers = shared.sessions.runtime().cache_manager.get_file_metadata_cache();
            let reads = Reads::new(snapshot.object_store(), footers);
            let running = Running { shared: &shared, deadline, interrupt: watched, snapshot, reads, batches };
            running.run(request, head).await;
            drop(permit);
        });
        let guard = AbortOnDrop { task: task.abort_handle(), interrupt };
        match timeout_at(deadline.at + GRACE, started).await {
            Ok(Ok(Ok(schema))) => Ok(QueryResult { schema, rows: Rows { rows, deadline, _guard: guard }.stream() }),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(QueryError::timed_out(limit)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

fn stopped() -> QueryError {
    QueryError::Unreadable("the query stopped before it was done; the server's log says why".to_owned())
}

/// Ends a query with whoever waits for it.
struct AbortOnDrop {
    task: AbortHandle,
    interrupt: Arc<Interrupt>,
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        // The flag reaches into work that does not give way, the abort into waiting.
        self.interrupt.drop_answer();
        self.task.abort();
    }
}

/// Counts a query as waiting until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    async fn admit(&self, deadline: Deadline) -> Result<OwnedSemaphorePermit, QueryError> {
        let slots = self.limits.concurrency.max(1);
        // A count for a bound, with nothing published through it: relaxed is enough.
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if ahead >= slots * WAITING_PER_SLOT {
            return Err(QueryError::Busy(format!(
                "{ahead} queries are waiting already: try again later, or raise `query.concurrency` ({slots})"
            )));
        }
        let permit = timeout_at(deadline.at, Arc::clone(&self.slots).acquire_owned()).await;
        drop(waiting);
        match permit {
            Ok(permit) => permit.map_err(|_| stopped()),
            Err(_) => Err(QueryError::Busy(format!(
                "no query slot came free within {:?}: try again later, or raise `query.concurrency` ({slots})",
                deadline.limit
            ))),
        }
    }
}

/// Refuses tables that do not exist, naming the nearest that does.
fn known_tables(state: &SessionState, statement: &Statement) -> Result<(), QueryError> {
    let references = state.resolve_table_references(statement).map_err(|error| QueryError::from_planning(&error, 0))?;
    for reference in references {
        if reference.schema().is_some_and(|schema| schema == "information_schema") {
            continue;
        }
        let elsewhere = reference.schema().is_some_and(|schema| schema != SCHEMA)
            || reference.catalog().is_some_and(|catalog| catalog != CATALOG);
        let name = reference.table();
        if elsewhere || !(NAMES.contains(&name) || guard::TABLE_FUNCTIONS.contains(&name)) {
            return Err(QueryError::Invalid(unknown("table", &reference.to_string(), &NAMES)));
        }
    }
    Ok(())
}

/// What the task sends: a batch or an error, or `None` after the last batch.
type Sent = Option<Result<RecordBatch, QueryError>>;

struct Running<'a> {
    shared: &'a Shared,
    deadline: Deadline,
    interrupt: Arc<Interrupt>,
    snapshot: Snapshot,
    reads: Arc<Reads>,
    batches: mpsc::Sender<Sent>,
}

impl Running<'_> {
    /// Checks and plans `request`, and starts its execution.
    async fn start(&self, request: &QueryRequest) -> Result<SendableRecordBatchStream, QueryError> {
        let Shared { catalog, limits, sessions, .. } = self.shared;
        let planning = |error: DataFusionError| QueryError::from_planning(&error, limits.memory_bytes);
        let checked = guard::check(&request.sql, &request.params, limits.sql_bytes_max)?;
        let mut deploys = std::collections::HashMap::new();
        for id in checked.deploys {
            let found = catalog.deploy(&DeployId::from_text(id.clone())).await;
            if let Some(deploy) = found.map_err(|error| QueryError::Unreadable(error.to_string()))? {
                deploys.insert(id, deploy);
            }
        }
        let tables = Arc::new(Tables {
            snapshot: self.snapshot.clone(),
            catalog: Arc::clone(catalog),
            reads: Arc::clone(&self.reads),
        });
        let state = sessions.session(&tables, &Arc::new(deploys), &self.interrupt);
        known_tables(&state, &checked.statement)?;
        let plan = state.statement_to_plan(checked.statement).await.map_err(planning)?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|error| QueryError::Refused(crate::error::tidy(&error.strip_backtrace())))?;
        let physical = state.create_physical_plan(&plan).await.map_err(planning)?;
        execute_stream(physical, state.task_ctx()).map_err(planning)
    }

    async fn run(self, request: QueryRequest, head: oneshot::Sender<Result<SchemaRef, QueryError>>) {
        let timed_out = || QueryError::timed_out(self.deadline.limit);
        let begun = timeout_at(self.deadline.at, async {
            let mut stream = self.start(&request).await?;
            // The first batch is awaited before the caller hears anything, so that what fails at once fails as a whole.
            let first = stream.next().await;
            match first.transpose() {
                Ok(first) => Ok((stream, first)),
                Err(error) => Err(self.failed(&error).await),
            }
        });
        let (mut stream, first) = match begun.await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return drop(head.send(Err(error))),
            Err(_) => return drop(head.send(Err(timed_out()))),
        };
        let output = Output::new(&stream.schema());
        if first.as_ref().is_some_and(|batch| batch.num_rows() as u64 > self.shared.limits.rows_max) {
            return drop(head.send(Err(QueryError::too_many_rows(self.shared.limits.rows_max))));
        }
        if head.send(Ok(Arc::clone(output.schema()))).is_err() {
            return;
        }
        let mut rows = 0_u64;
        let mut next = first.map(Ok);
        while let Some(batch) = next {
            let sent = match batch {
                Ok(batch) => {
                    rows += batch.num_rows() as u64;
                    if rows > self.shared.limits.rows_max {
                        Err(QueryError::too_many_rows(self.shared.limits.rows_max))
                    } else {
                        output.apply(&batch).map_err(|error| self.translated(&error.into()))
                    }
                }
                Err(error) => Err(error),
            };
            let last = sent.is_err();
            if self.batches.send(Some(sent)).await.is_err() || last {
                return;
            }
            next = match timeout_at(self.deadline.at, stream.next()).await {
                Ok(Some(Ok(batch))) => Some(Ok(batch)),
                Ok(Some(Err(error))) => Some(Err(self.failed(&error).await)),
                Ok(None) => None,
                Err(_) => Some(Err(timed_out())),
            };
        }
        // Nobody listens any more if this fails.
        let _ = self.batches.send(None).await;
    }

    fn translated(&self, error: &DataFusionError) -> QueryError {
        QueryError::from_execution(error, self.shared.limits.memory_bytes)
    }

    /// Translates an error, and names the segment where one is damaged.
    async fn failed(&self, error: &DataFusionError) -> QueryError {
        let translated = self.translated(error);
        if !matches!(translated, QueryError::Unreadable(_)) {
            return translated;
        }
        match timeout_at(self.deadline.at, self.reads.damaged()).await {
            Ok(Some((path, problem))) => QueryError::damaged(&path, &problem),
            Ok(None) | Err(_) => translated,
        }
    }
}

/// The caller's end.
struct Rows {
    rows: mpsc::Receiver<Sent>,
    deadline: Deadline,
    _guard: AbortOnDrop,
}

impl Rows {
    fn stream(self) -> futures::stream::BoxStream<'static, Result<RecordBatch, QueryError>> {
        futures::stream::unfold(Some(self), |open| async move {
            let mut open = open?;
            match timeout_at(open.deadline.at + GRACE, open.rows.recv()).await {
                Ok(Some(Some(Ok(batch)))) => Some((Ok(batch), Some(open))),
                Ok(Some(Some(Err(error)))) => Some((Err(error), None)),
                Ok(Some(None)) => None,
                Ok(None) => Some((Err(stopped()), None)),
                Err(_) => Some((Err(QueryError::timed_out(open.deadline.limit)), None)),
            }
        })
        .boxed()
    }
}
