//! Read-only SQL over a snapshot: tables, views, functions, limits; the [`SqlEngine`] port.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;

/// The port: where SQL is answered.
#[async_trait]
pub trait SqlEngine: Send + Sync + 'static {
    /// Plans and starts a query. Rows come as they are found; dropping the stream cancels the query.
    ///
    /// # Errors
    /// The query is refused or cannot be planned. Errors met while it runs come through the stream.
    async fn query(&self, request: QueryRequest) -> Result<QueryResult, QueryError>;
}

/// One query.
#[derive(Debug, Clone, Default)]
pub struct QueryRequest {
    /// One SQL statement that only reads.
    pub sql: String,
    /// Values of `$1`, `$2`, .. in order.
    pub params: Vec<serde_json::Value>,
    /// Time limit, where shorter than the configured one.
    pub timeout: Option<Duration>,
}

/// A query under way.
pub struct QueryResult {
    /// Columns of the rows, as clients see them.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

/// How much a query may take.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Memory of all queries together, in bytes.
    pub memory_bytes: usize,
    /// Time of one query.
    pub timeout: Duration,
    /// Rows that one query may return.
    pub rows_max: u64,
    /// Queries that run at once; others wait.
    pub concurrency: usize,
    /// Length of the SQL text in bytes.
    pub sql_bytes_max: usize,
    /// Threads that queries run on.
    pub threads: usize,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is not allowed: it writes, reads files, or could run without end.
    #[error("{0}")]
    Refused(String),
    /// The statement makes no sense: syntax, unknown names, types.
    #[error("{0}")]
    Invalid(String),
    /// It took more than it may; the message names the limit and the setting.
    #[error("{0}")]
    Exceeded(String),
    /// Too many queries are waiting: trying again later may help.
    #[error("{0}")]
    Busy(String),
    /// Stored data could not be read.
    #[error("{0}")]
    Unreadable(String),
}
