//! Rows back into export requests.
//!
//! The request says what the rows say: decoding it gives the same rows. Against the request that the rows once came from it
//! is canonical: equal resources are one `ResourceSpans`, equal scopes within it one `ScopeSpans`, equal metrics within
//! that one `Metric`, each in the order of its first row; records keep their order within them; what held no record is
//! gone. An entry without a value has an empty one, a log's trace or span id of the wrong length is gone, and so are
//! fields that OTLP does not know, but for those beside a resource or a scope.

mod attributes;
mod columns;
mod groups;
mod logs;
mod metrics;
mod points;
mod spans;

use arrow::array::RecordBatch;

use crate::Signal;

/// Why rows cannot become a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}` cannot become OTLP: {problem}")]
pub struct EncodeError {
    /// The column.
    pub column: String,
    /// What is wrong with it, in words.
    pub problem: String,
}

impl EncodeError {
    fn new(column: &str, problem: impl Into<String>) -> Self {
        Self { column: column.to_owned(), problem: problem.into() }
    }
}

/// Encodes rows of [`Signal::table`] as one protobuf export request.
///
/// The batches may be slices, concatenations or what came back from a file: columns are found by name, and one of another
/// but compatible type is cast. Columns that no field comes from may be missing.
///
/// # Errors
/// A needed column is missing or of the wrong type, or holds what [`decode`](crate::decode()) does not write.
pub fn encode(signal: Signal, batches: &[RecordBatch]) -> Result<Vec<u8>, EncodeError> {
    match signal {
        Signal::Traces => groups::encode::<spans::Spans>(batches),
        Signal::Logs => groups::encode::<logs::Logs>(batches),
        Signal::Metrics => groups::encode::<metrics::Metrics>(batches),
    }
}
