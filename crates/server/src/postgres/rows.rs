//! Rows on their way to a client: batches in, messages out, as fast as the client reads and no faster.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::BufMut;
use futures::StreamExt;
use futures::stream::BoxStream;
use plimsoll_query::postgres::{ColumnType, column_names};
use plimsoll_query::{QueryError, QueryResult};
use tokio_util::sync::CancellationToken;

use super::column::{self, Column};
use super::connection::{Connection, Gone, PIECE_BYTES};
use super::copy::CopyWriter;
use super::reply::{self, Described};
use super::sqlstate::Problem;

/// Why rows ended early.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client is told, and goes on.
    Problem(Problem),
    /// The client is gone.
    Gone(Gone),
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Gone> for Stopped {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

/// Waits for `work`, unless the statement is cancelled or its client goes away.
pub(super) async fn attended<T>(
    connection: &mut Connection,
    cancelled: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Stopped> {
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(Problem::cancelled().into()),
        done = work => Ok(done),
        () = connection.closed() => Err(Gone::Closed.into()),
    }
}

/// Whether there is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// These were all rows.
    All(u64),
    /// There may be more.
    Part(u64),
}

/// The form that rows leave in.
pub(super) enum Form<'a> {
    /// Messages of their own.
    Rows,
    /// What `COPY` writes.
    Copy(&'a mut CopyWriter),
    /// Not at all.
    Silent,
}

/// An answer under way.
pub(super) struct Rows {
    schema: SchemaRef,
    binary: Vec<bool>,
    stream: BoxStream<'static, Result<RecordBatch, QueryError>>,
    /// The batch that is being sent: its columns, how many rows it has, and the next one.
    current: Option<(Vec<Column>, usize, usize)>,
    sql: String,
    /// The word that the answer ends with.
    pub(super) tag: &'static str,
    /// Of a cursor: whether it stays open beyond its transaction, and whether that was committed.
    pub(super) holds: bool,
    pub(super) held: bool,
}

impl Rows {
    /// Takes the answer to `sql`; values leave as text.
    pub(super) fn new(result: QueryResult, sql: &str, tag: &'static str) -> Self {
        // A cursor may be asked for more after its last row.
        let QueryResult { schema, rows, .. } = result;
        let binary = vec![false; schema.fields().len()];
        Self {
            schema,
            binary,
            stream: rows.fuse().boxed(),
            current: None,
            sql: sql.to_owned(),
            tag,
            holds: false,
            held: false,
        }
    }

    /// Chooses how columns leave: none, one for all, or one each; 1 is binary. Counts before anything is sent.
    pub(super) fn set_formats(&mut self, formats: &[i16]) -> Result<(), Problem> {
        self.binary = expand(formats, self.schema.fields().len())?;
        Ok(())
    }

    /// Returns the columns.
    pub(super) fn described(&self) -> Vec<Described> {
        described(&self.sql, &self.schema, &self.binary)
    }

    /// Sends at most `rows` rows (zero is all).
    pub(super) async fn send(
        &mut self,
        connection: &mut Connection,
        cancelled: &CancellationToken,
        rows: u64,
        mut form: Form<'_>,
    ) -> Result<Sent, Stopped> {
        let mut sent = 0;
        loop {
            let Some((columns, count, next)) = &mut self.current else {
                // What was written waits for more of it, unless more has to be waited for.
                if connection.out.len() >= PIECE_BYTES {
                    flush(connection, cancelled).await?;
                }
                let Some(batch) = attended(connection, cancelled, self.stream.next()).await? else {
                    return Ok(Sent::All(sent));
                };
                let batch = batch.map_err(|error| Problem::of(&error, &self.sql))?;
                let columns = column::columns(&batch, &self.binary).map_err(|error| {
                    Problem::error("0A000", format!("the answer has no Postgres form: {error}"))
                        .hint("cast the column to text")
                })?;
                self.current = Some((columns, batch.num_rows(), 0));
                continue;
            };
            while *next < *count {
                if rows > 0 && sent == rows {
                    return Ok(Sent::Part(sent));
                }
                write(connection, columns, *next, &mut form);
                *next += 1;
                sent += 1;
                if connection.out.len() >= PIECE_BYTES {
                    flush(connection, cancelled).await?;
                }
            }
            self.current = None;
        }
    }
}

/// Sends what was written; a piece is sent whole, and only then is the statement cancelled.
async fn flush(connection: &mut Connection, cancelled: &CancellationToken) -> Result<(), Stopped> {
    connection.flush().await?;
    if cancelled.is_cancelled() { Err(Problem::cancelled().into()) } else { Ok(()) }
}

fn write(connection: &mut Connection, columns: &[Column], row: usize, form: &mut Form<'_>) {
    let out = &mut connection.out;
    match form {
        Form::Rows => reply::message(out, b'D', |out| {
            out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
            columns.iter().for_each(|column| column.cell(row, out));
        }),
        Form::Copy(writer) => reply::message(out, b'd', |out| writer.row(columns, row, out)),
        Form::Silent => {}
    }
}

/// Gives each of `count` values its format: none, one for all, or one each; 1 is binary.
pub(super) fn expand(formats: &[i16], count: usize) -> Result<Vec<bool>, Problem> {
    if let Some(wrong) = formats.iter().find(|format| !matches!(format, 0 | 1)) {
        return Err(Problem::error("22023", format!("there is no format {wrong}: 0 is text, 1 is binary")));
    }
    match formats {
        [] => Ok(vec![false; count]),
        [one] => Ok(vec![*one == 1; count]),
        each if each.len() == count => Ok(each.iter().map(|format| *format == 1).collect()),
        each => Err(Problem::error("08P01", format!("{} formats were given for {count} values", each.len()))),
    }
}

/// Describes columns of `schema`, which answer `sql`.
pub(super) fn described(sql: &str, schema: &SchemaRef, binary: &[bool]) -> Vec<Described> {
    let columns = schema.fields().iter().zip(column_names(sql, schema)).enumerate();
    columns
        .map(|(at, (field, name))| {
            let of = ColumnType::of(field);
            let binary = binary.get(at).copied().unwrap_or(false);
            Described { name, oid: of.oid(), length: of.length(), binary }
        })
        .collect()
}
