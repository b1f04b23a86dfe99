//! The embedded engine: DataFusion in this process, on threads and memory of its own.
//!
//! *Lifecycle of a query.* Admission (a slot, or a place in a bounded queue) -> guard -> snapshot -> plan -> rows through a
//! channel of two batches (`running.rs`). The task that runs it belongs to the engine's own runtime; dropping the stream, or the
//! future before there is a stream, aborts it. The time limit covers everything from the first line to the last row.
//!
//! *Invariants.* A slot is held until the task is gone, even where the caller has given up on it; the task does not outlive the time limit,
//! even where the caller does not ask for its rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use plimsoll_catalog::Catalog;
use plimsoll_store::Store;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::QueryError;
use crate::give_way::Ingest;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::planning::Planning;
use crate::port::{Description, QueryLimits, QueryRequest, QueryResult, SqlEngine, TableEntry};
use crate::queries::Queries;
use crate::running::{Complete, Deadline, Rows, Running, stopped};
use crate::session::Sessions;
use crate::tables::reads::Verified;
use crate::tables::system::JournalSource;
use crate::tables::{CATALOG, NAMES, SCHEMA, SYSTEM_NAMES, SYSTEM_SCHEMA, Tables, VIEWS};

/// Queries that may wait for each slot.
const WAITING_PER_SLOT: usize = 32;
/// How much longer than the query itself its caller waits to be told.
pub(crate) const GRACE: Duration = Duration::from_millis(250);
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

/// Memory of queries that something else uses.
#[derive(Debug)]
pub struct HeldMemory {
    _reserved: MemoryReservation,
}

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) limits: QueryLimits,
    pub(crate) sessions: Sessions,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) queries: Arc<Queries>,
    pub(crate) journal: Option<JournalSource>,
    pub(crate) verified: Arc<Verified>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl DataFusionEngine {
    /// Makes an engine with its own threads.
    ///
    /// # Errors
    /// The threads cannot be started, or the limits make no sense.
    pub fn new(store: Store, catalog: Arc<dyn Catalog>, limits: QueryLimits) -> Result<Self, QueryError> {
        Self::with_journal(store, catalog, limits, None)
    }

    /// Makes an engine that shows what `journal` says as `plimsoll.journal`.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn with_journal(
        store: Store,
        catalog: Arc<dyn Catalog>,
        limits: QueryLimits,
        journal: Option<JournalSource>,
    ) -> Result<Self, QueryError> {
        let nice = limits.nice;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_name("plimsoll-query")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(move || lower_priority(nice))
            .enable_all()
            .build()
            .map_err(|error| QueryError::Unreadable(format!("cannot start query threads: {error}")))?;
        let sessions = Sessions::new(&limits)?;
        let ingest = Ingest::new(store.clone(), limits.give_way);
        let slots = Arc::new(Semaphore::new(limits.concurrency.max(1)));
        let shared = Shared {
            store,
            catalog,
            limits,
            sessions,
            ingest,
            queries: Arc::default(),
            journal,
            verified: Arc::default(),
            slots,
            waiting: AtomicUsize::new(0),
        };
        Ok(Self { shared: Arc::new(shared), runtime: Some(runtime) })
    }

    /// Returns the bytes of memory that running queries have reserved.
    pub fn reserved_bytes(&self) -> usize {
        self.shared.sessions.runtime().memory_pool.reserved()
    }

    /// Takes `bytes` of the memory of queries for something else that reads what is stored, until that is dropped; `None` where
    /// queries hold too much of it.
    pub fn hold(&self, bytes: usize) -> Option<HeldMemory> {
        let held = MemoryConsumer::new("held").register(&self.shared.sessions.runtime().memory_pool);
        held.try_grow(bytes).ok().map(|()| HeldMemory { _reserved: held })
    }

    /// Returns for how long queries have given way to rows that came in, all of their tasks together.
    pub fn gave_way(&self) -> Duration {
        self.shared.ingest.paused()
    }

    /// Returns how many queries run and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let slots = self.shared.limits.concurrency.max(1);
        (slots.saturating_sub(self.shared.slots.available_permits()), self.shared.waiting.load(Ordering::Relaxed))
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is there until the engine is dropped")
    }

    /// Runs `work`, which plans, on a thread with a stack for it.
    async fn planned<T, F>(&self, work: F) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let limit = self.shared.limits.timeout;
        let task = self.runtime().spawn(work);
        let abort = Abort(task.abort_handle());
        let done = timeout_at(Instant::now() + limit, task).await;
        drop(abort);
        match done {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(QueryError::timed_out(limit)),
        }
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
        let pool = Arc::clone(&self.shared.sessions.runtime().memory_pool);
        let tracked = self.shared.queries.begin(&request.sql, request.source, pool);
        let permit = match self.shared.admit(deadline).await {
            Ok(permit) => permit,
            Err(error) => {
                tracked.ends(Err(&error));
                return Err(error);
            }
        };
        tracked.runs();
        let (head, started) = oneshot::channel();
        let (batches, rows) = mpsc::channel(BATCHES_AHEAD);
        let complete = Complete::default();
        let told = complete.clone();
        let shared = Arc::clone(&self.shared);
        let interrupt = Interrupt::new(deadline.at, limit);
        let watched = Arc::clone(&interrupt);
        let task = self.runtime().spawn(async move {
            let planning = Planning::new(&shared, watched, request.allow_missing_segments, Some(tracked.memory()));
            let reads = Arc::clone(planning.reads());
            let complete = told;
            Running { shared: &shared, deadline, reads, tracked, batches, complete }.run(planning, request, head).await;
            drop(permit);
        });
        let guard = AbortOnDrop { _task: Abort(task.abort_handle()), interrupt };
        match timeout_at(deadline.at + GRACE, started).await {
            Ok(Ok(Ok(head))) => Ok(QueryResult {
                schema: head.schema,
                missing_segments: head.missing,
                rows: Rows::new((rows, complete), deadline, guard).stream(),
            }),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(QueryError::timed_out(limit)),
        }
    }

    async fn describe(&self, sql: &str, types: &[Option<DataType>]) -> Result<Description, QueryError> {
        let (shared, sql, types) = (Arc::clone(&self.shared), sql.to_owned(), types.to_vec());
        let limit = shared.limits.timeout;
        self.planned(async move {
            let interrupt = Interrupt::new(Instant::now() + limit, limit);
            Planning::new(&shared, interrupt, true, None).describe(&sql, &types).await
        })
        .await
    }

    async fn tables(&self) -> Result<Vec<TableEntry>, QueryError> {
        let shared = Arc::clone(&self.shared);
        let limit = shared.limits.timeout;
        self.planned(async move {
            let interrupt = Interrupt::new(Instant::now() + limit, limit);
            let tables = Planning::new(&shared, interrupt, true, None).tables();
            listed(&tables, shared.limits.memory_bytes)
        })
        .await
    }
}

/// Lets others have the processor first. Without the right to, or beyond Linux, where this would be the whole process, nothing
/// changes.
fn lower_priority(nice: i32) {
    #[cfg(target_os = "linux")]
    if nice > 0 {
        let _ = rustix::process::setpriority_process(None, nice.min(19));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

fn listed(tables: &Tables, memory_bytes: usize) -> Result<Vec<TableEntry>, QueryError> {
    let public = NAMES.iter().map(|name| (SCHEMA, *name, tables.build(name)));
    let system = SYSTEM_NAMES.iter().map(|name| (SYSTEM_SCHEMA, *name, Ok(tables.system(name))));
    let mut entries = Vec::with_capacity(NAMES.len() + SYSTEM_NAMES.len());
    for (schema, name, built) in public.chain(system) {
        let built = built.map_err(|error| QueryError::from_planning(&error, memory_bytes))?;
        let Some(provider) = built else { continue };
        entries.push(TableEntry {
            catalog: CATALOG,
            schema,
            name: name.to_owned(),
            is_view: VIEWS.contains(&name),
            columns: Arc::clone(Output::new(&provider.schema()).schema()),
        });
    }
    Ok(entries)
}

/// Ends a task with whoever waits for it.
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends a query with whoever waits for it.
pub(crate) struct AbortOnDrop {
    _task: Abort,
    interrupt: Arc<Interrupt>,
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        // The flag reaches into work that does not give way; the abort that follows reaches into waiting.
        self.interrupt.drop_answer();
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
