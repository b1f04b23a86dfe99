//! The port: what a query is, what it may take, and where it is answered.

use std::fmt;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::error::QueryError;

/// The port: where SQL is answered.
#[async_trait]
pub trait SqlEngine: Send + Sync + 'static {
    /// Plans and starts a query. Rows come as they are found; dropping the stream cancels the query.
    ///
    /// # Errors
    /// The query is refused, cannot be planned, or fails before its first row. Errors met later come through the stream.
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

impl QueryRequest {
    /// Makes a request without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }
}

/// A query under way.
pub struct QueryResult {
    /// Columns of the rows, as clients see them: no dictionaries, no views.
    pub schema: SchemaRef,
    /// The rows. The first error ends them; without one they are complete.
    pub rows: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

impl fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryResult").field("schema", &self.schema).finish_non_exhaustive()
    }
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
