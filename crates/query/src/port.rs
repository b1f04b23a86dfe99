//! The port: what a query is, what it may take, and where it is answered.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::error::QueryError;
use crate::parameter::Parameter;

/// The port: where SQL is answered.
#[async_trait]
pub trait SqlEngine: Send + Sync + 'static {
    /// Plans and starts a query. Rows come as they are found; dropping the stream cancels the query.
    ///
    /// # Errors
    /// The query is refused, cannot be planned, or fails before its first row. Errors met later come through the stream.
    async fn query(&self, request: QueryRequest) -> Result<QueryResult, QueryError>;

    /// Plans a statement without running it: what a client that prepares statements asks first.
    ///
    /// `types` holds what the client says of `$1`, `$2`, ..; it may be shorter than the parameters are many. The same `types` in
    /// [`QueryRequest::types`] give rows of the schema that was described.
    ///
    /// # Errors
    /// The statement is refused or cannot be planned.
    async fn describe(&self, sql: &str, types: &[Option<DataType>]) -> Result<Description, QueryError>;

    /// Lists every table and view, in the order in which they are documented.
    ///
    /// # Errors
    /// A table cannot be planned.
    async fn tables(&self) -> Result<Vec<TableEntry>, QueryError>;
}

/// One query.
#[derive(Debug, Clone, Default)]
pub struct QueryRequest {
    /// One SQL statement that only reads.
    pub sql: String,
    /// Values of `$1`, `$2`, .. in order.
    pub params: Vec<Parameter>,
    /// Types that the client gave for them; none where it gave none.
    pub types: Vec<Option<DataType>>,
    /// Time limit, where shorter than the configured one.
    pub timeout: Option<Duration>,
    /// Answers from the segments that can be read, instead of failing where one that is needed cannot.
    pub allow_missing_segments: bool,
    /// Through which face it came, for `plimsoll.queries`: `http`, `postgres`, `flight`, ..
    pub source: &'static str,
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
    /// Paths of segments that could not be read and were left out, as was asked for.
    pub missing_segments: Vec<String>,
    /// The rows. The first error ends them; without one they are complete.
    pub rows: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

impl fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryResult").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// What a statement takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Types of `$1`, `$2`, .. in order: as the client gave them, else as the statement implies them, else text.
    pub params: Vec<DataType>,
    /// Columns of its rows.
    pub schema: SchemaRef,
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// Name of the catalog.
    pub catalog: &'static str,
    /// Name of the schema.
    pub schema: &'static str,
    /// Its own name.
    pub name: String,
    /// False where it is stored as it is, true where it is a view of others.
    pub is_view: bool,
    /// Its columns, as clients see them.
    pub columns: SchemaRef,
}

/// How much a query may take.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Memory of all queries together, in bytes.
    pub memory_bytes: usize,
    /// Where and how much queries may write of what does not fit into their memory; nothing spills where it is `None`.
    pub spill: Option<SpillLimits>,
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
    /// How much less of a processor those threads get than others do that want it, from 0 to 19.
    pub nice: i32,
    /// When queries give way to rows that come in; never where it is `None`.
    pub give_way: Option<GiveWay>,
}

/// How full the tail is where queries give way to those who write segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveWay {
    /// Bytes in the tail from which on they pause.
    pub from_bytes: u64,
    /// Bytes at which they pause most.
    pub until_bytes: u64,
}

/// What may be written of what does not fit into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillLimits {
    /// A directory of its own: what is in it when the engine starts is removed.
    pub directory: PathBuf,
    /// Bytes of all queries together.
    pub bytes_max: u64,
}
