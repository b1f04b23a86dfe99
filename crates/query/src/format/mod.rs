//! Answers as bytes, in the formats that clients ask for.
//!
//! | format | shape |
//! |---|---|
//! | JSON | `{"columns":[{"name","type"}],"rows":[[..]]}` |
//! | JSON lines | one object a row |
//! | CSV | a header, then RFC 4180 rows; nested values as JSON |
//! | Arrow | an IPC stream |
//! | Parquet | one file |
//!
//! *Text forms.* Times are RFC 3339 with the digits they need, in UTC or, after `AT TIME ZONE`, in that zone, bytes are hexadecimal, 64-bit integers are numbers (a
//! reader that holds numbers as doubles loses digits beyond 2^53), not-a-number and infinities are `null` in JSON and `NaN`,
//! `Infinity`, `-Infinity` in CSV. Intervals are written as Postgres does. Maps are objects, of a repeated key the first entry; their values are typed where the answer also has the column of their types.
//!
//! *Invariants.* An error midway ends the bytes with an error, never with a valid end: a reader cannot take a part for the whole.

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::error::QueryError;
use crate::port::QueryResult;

mod binary;
mod cell;
pub(crate) mod interval;
pub(crate) mod json_text;
mod text;

pub use cell::{Cells, json_cells};

/// Rows that are encoded at a time.
const ROWS_PER_CHUNK: usize = 1024;

/// A format of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/x-ndjson`
    JsonLines,
    /// `text/csv`
    Csv,
    /// `application/vnd.apache.arrow.stream`
    ArrowStream,
    /// `application/vnd.apache.parquet`
    Parquet,
}

impl Format {
    /// Every format; the first is the default.
    pub const ALL: [Self; 5] = [Self::Json, Self::JsonLines, Self::Csv, Self::ArrowStream, Self::Parquet];

    /// Returns the media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Finds the format that an `Accept` header asks for first; `None` where it asks for none of them.
    pub fn from_accept(accept: &str) -> Option<Self> {
        let mut wanted: Vec<(f32, Self)> = Vec::new();
        for part in accept.split(',') {
            let mut pieces = part.split(';').map(str::trim);
            let media = pieces.next().unwrap_or_default().to_ascii_lowercase();
            let quality = pieces.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
            let format = match media.as_str() {
                "" | "*/*" | "application/*" => Some(Self::Json),
                "text/*" => Some(Self::Csv),
                "application/jsonl" | "application/x-jsonlines" | "application/jsonlines" => Some(Self::JsonLines),
                other => Self::ALL.into_iter().find(|format| format.media_type() == other),
            };
            if let Some(format) = format.filter(|_| quality > 0.0) {
                wanted.push((quality, format));
            }
        }
        // Of equal quality the first counts.
        wanted.into_iter().reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, format)| format)
    }

    /// Encodes `result`. The bytes end with an error where the rows do.
    pub fn encode(self, result: QueryResult) -> BoxStream<'static, Result<Bytes, QueryError>> {
        let QueryResult { schema, rows, .. } = result;
        let encoder: Result<Box<dyn Encoder>, QueryError> = match self {
            Self::Json => Ok(Box::new(text::Json::new(schema))),
            Self::JsonLines => Ok(Box::new(text::JsonLines::new(schema))),
            Self::Csv => Ok(Box::new(text::Csv::new(schema))),
            Self::ArrowStream => binary::Arrow::new(&schema).map(|encoder| Box::new(encoder) as Box<dyn Encoder>),
            Self::Parquet => binary::Parquet::new(schema).map(|encoder| Box::new(encoder) as Box<dyn Encoder>),
        };
        let encoder = match encoder {
            Ok(encoder) => encoder,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let slices = rows.flat_map(|batch| {
            stream::iter(match batch {
                Ok(batch) => (0..batch.num_rows())
                    .step_by(ROWS_PER_CHUNK)
                    .map(|from| Ok(batch.slice(from, ROWS_PER_CHUNK.min(batch.num_rows() - from))))
                    .collect(),
                Err(error) => vec![Err(error)],
            })
        });
        let state = State { encoder, slices: slices.boxed(), step: Step::Begin };
        stream::unfold(state, State::next)
            .filter(|chunk| std::future::ready(!matches!(chunk, Ok(bytes) if bytes.is_empty())))
            .boxed()
    }
}

/// Turns slices of an answer into bytes.
trait Encoder: Send {
    fn begin(&mut self) -> Result<Vec<u8>, QueryError>;
    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError>;
    fn end(&mut self) -> Result<Vec<u8>, QueryError>;
}

enum Step {
    Begin,
    Rows,
    Done,
}

struct State {
    encoder: Box<dyn Encoder>,
    slices: BoxStream<'static, Result<RecordBatch, QueryError>>,
    step: Step,
}

impl State {
    async fn next(mut self) -> Option<(Result<Bytes, QueryError>, Self)> {
        let chunk = match self.step {
            Step::Begin => {
                self.step = Step::Rows;
                self.encoder.begin()
            }
            Step::Rows => match self.slices.next().await {
                Some(Ok(rows)) => self.encoder.rows(&rows),
                Some(Err(error)) => Err(error),
                None => {
                    self.step = Step::Done;
                    self.encoder.end()
                }
            },
            Step::Done => return None,
        };
        if chunk.is_err() {
            self.step = Step::Done;
        }
        Some((chunk.map(Bytes::from), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_chooses_by_quality_and_then_by_order() {
        assert_eq!(Format::from_accept("text/csv"), Some(Format::Csv));
        assert_eq!(Format::from_accept("*/*"), Some(Format::Json));
        assert_eq!(Format::from_accept("text/csv;q=0.5, application/x-ndjson"), Some(Format::JsonLines));
        assert_eq!(Format::from_accept("image/png"), None);
        assert_eq!(Format::from_accept("text/html, */*;q=0.1"), Some(Format::Json));
    }
}
