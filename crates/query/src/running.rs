//! One query under way: the task that runs it, and the caller's end of its rows.
//!
//! *Invariants.* A stream that ends without an error is complete: the task says so explicitly, and a channel that closes otherwise
//! is an error. The task ends with its last row or at its deadline, whether or not anybody takes what it has sent: at most the batches on
//! their way stay readable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::engine::{AbortOnDrop, GRACE, Shared};
use crate::error::QueryError;
use crate::output::Output;
use crate::planning::{Planned, Planning};
use crate::port::QueryRequest;
use crate::queries::Tracked;
use crate::tables::reads::Reads;

/// When a query ends at the latest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) limit: Duration,
}

/// Says that a task ended without a word.
pub(crate) fn stopped() -> QueryError {
    QueryError::Unreadable("the query stopped before it was done; the server's log says why".to_owned())
}

/// What the task sends.
pub(crate) type Sent = Result<RecordBatch, QueryError>;

/// Whether the task has sent all rows. It says so before it closes the channel: `Release` there, `Acquire` once the channel is found closed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complete(Arc<AtomicBool>);

/// What the caller hears first.
pub(crate) struct Head {
    pub(crate) schema: SchemaRef,
    /// Paths of the segments that were left out.
    pub(crate) missing: Vec<String>,
}

/// What the task works with.
pub(crate) struct Running<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) deadline: Deadline,
    pub(crate) reads: Arc<Reads>,
    pub(crate) tracked: Tracked,
    pub(crate) batches: mpsc::Sender<Sent>,
    pub(crate) complete: Complete,
}

impl Running<'_> {
    /// Plans `request` and runs it to its end.
    pub(crate) async fn run(
        self,
        planning: Planning<'_>,
        request: QueryRequest,
        head: oneshot::Sender<Result<Head, QueryError>>,
    ) {
        let timed_out = || QueryError::timed_out(self.deadline.limit);
        let rows_max = self.shared.limits.rows_max;
        let begun = timeout_at(self.deadline.at, async {
            let Planned { plan, schema, state } = planning.plan(&request).await?;
            self.tracked.planned(&plan);
            let started = execute_stream(plan, state.task_ctx());
            // Both hold the tail as it was when the query began. The plan holds what it has not read yet.
            drop((planning, state));
            let mut stream =
                started.map_err(|error| QueryError::from_planning(&error, self.shared.limits.memory_bytes))?;
            // The first batch is awaited before the caller hears anything, so that what fails at once fails as a whole.
            match stream.next().await.transpose() {
                Ok(Some(first)) if first.num_rows() as u64 > rows_max => Err(QueryError::too_many_rows(rows_max)),
                Ok(first) => Ok((stream, first, schema)),
                Err(error) => Err(self.failed(&error).await),
            }
        });
        let (mut stream, first, schema) = match begun.await.unwrap_or_else(|_| Err(timed_out())) {
            Ok(begun) => begun,
            Err(error) => {
                self.tracked.ends(Err(&error));
                return drop(head.send(Err(error)));
            }
        };
        let output = Output::new(&schema);
        let told = Head { schema: Arc::clone(output.schema()), missing: self.reads.left_out() };
        if head.send(Ok(told)).is_err() {
            return;
        }
        let mut rows = 0_u64;
        let mut next = first.map(Ok);
        while let Some(batch) = next {
            let sent = match batch {
                Ok(batch) => {
                    rows += batch.num_rows() as u64;
                    self.tracked.sent(batch.num_rows());
                    if rows > rows_max {
                        Err(QueryError::too_many_rows(rows_max))
                    } else {
                        output.apply(&batch).map_err(|error| self.translated(&error.into()))
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &sent {
                self.tracked.ends(Err(error));
            }
            let last = sent.is_err();
            match timeout_at(self.deadline.at, self.batches.send(sent)).await {
                Ok(Ok(())) if !last => {}
                // It was the last, or nobody listens.
                Ok(_) => return,
                // Whoever asks for more is told so.
                Err(_) => return self.tracked.ends(Err(&QueryError::unread(self.deadline.limit))),
            }
            next = match timeout_at(self.deadline.at, stream.next()).await {
                Ok(Some(Ok(batch))) => Some(Ok(batch)),
                Ok(Some(Err(error))) => Some(Err(self.failed(&error).await)),
                Ok(None) => None,
                Err(_) => Some(Err(timed_out())),
            };
        }
        self.tracked.ends(Ok(()));
        self.complete.0.store(true, Ordering::Release);
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
pub(crate) struct Rows {
    rows: mpsc::Receiver<Sent>,
    complete: Complete,
    deadline: Deadline,
    _guard: AbortOnDrop,
}

impl Rows {
    pub(crate) fn new(
        (rows, complete): (mpsc::Receiver<Sent>, Complete),
        deadline: Deadline,
        guard: AbortOnDrop,
    ) -> Self {
        Self { rows, complete, deadline, _guard: guard }
    }

    pub(crate) fn stream(self) -> BoxStream<'static, Result<RecordBatch, QueryError>> {
        futures::stream::unfold(Some(self), |open| async move {
            let mut open = open?;
            match timeout_at(open.deadline.at + GRACE, open.rows.recv()).await {
                Ok(Some(Ok(batch))) => Some((Ok(batch), Some(open))),
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) if open.complete.0.load(Ordering::Acquire) => None,
                Ok(None) if Instant::now() >= open.deadline.at => {
                    Some((Err(QueryError::unread(open.deadline.limit)), None))
                }
                Ok(None) => Some((Err(stopped()), None)),
                Err(_) => Some((Err(QueryError::timed_out(open.deadline.limit)), None)),
            }
        })
        .boxed()
    }
}
