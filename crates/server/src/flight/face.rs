//! What the calls share: describing, keeping, running and cancelling statements, and the form of answers.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Command, ProstMessageExt};
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use plimsoll_query::{QueryRequest, SqlEngine, TableEntry};
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::auth::Auth;
use super::handles::{Handles, Statement};
use super::status;
use crate::faces::FaceCounters;

/// Batches of an answer, in the form in which they travel.
pub(super) type Batches = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send + 'static>>;

/// Flight SQL over the query engine.
#[derive(Clone)]
pub struct FlightFace {
    pub(super) engine: Arc<dyn SqlEngine>,
    pub(super) auth: Auth,
    pub(super) handles: Arc<Handles>,
    counters: Arc<FaceCounters>,
}

impl FlightFace {
    /// Makes the face; `token` is given to whoever logs in with it as a password.
    pub fn new(engine: Arc<dyn SqlEngine>, token: Option<Arc<str>>, counters: Arc<FaceCounters>) -> Self {
        Self { engine, auth: Auth(token), handles: Arc::default(), counters }
    }

    pub(super) async fn describe(&self, sql: &str) -> Result<Statement, Status> {
        let described = self.engine.describe(sql, &[]).await;
        let mut description = described.map_err(|error| self.failed(status::of(&error)))?;
        description.schema = announced(&description.schema);
        Ok(Statement { sql: sql.to_owned(), params: Vec::new(), types: Vec::new(), description })
    }

    pub(super) fn failed(&self, status: Status) -> Status {
        self.counters.failed.add(1);
        status
    }

    pub(super) fn keep(&self, statement: Statement, prepared: bool) -> Result<Bytes, Status> {
        let mut handle = [0; 16];
        getrandom::fill(&mut handle).map_err(|error| Status::internal(format!("no randomness: {error}")))?;
        let handle = Bytes::copy_from_slice(&handle);
        let kept = self.handles.keep(handle.clone(), statement, prepared, Instant::now());
        kept.map_err(|_| {
            Status::resource_exhausted("too many statements wait to be run: close those that are not needed")
        })?;
        Ok(handle)
    }

    pub(super) fn prepared(&self, handle: &[u8]) -> Result<Statement, Status> {
        self.handles.prepared(handle, Instant::now()).ok_or_else(|| {
            Status::not_found(
                "this prepared statement is not known: it was closed, or not used for long; prepare it again",
            )
        })
    }

    /// Runs a statement and sends its rows.
    pub(super) async fn run(&self, handle: Bytes, statement: Statement) -> Result<Response<Batches>, Status> {
        self.counters.statements.add(1);
        let schema = Arc::clone(&statement.description.schema);
        let request = QueryRequest {
            sql: statement.sql,
            params: statement.params,
            types: statement.types,
            source: "flight",
            ..QueryRequest::default()
        };
        let under_way = UnderWay { face: self.clone(), handle: handle.clone(), done: false };
        let token = self.handles.begin(handle);
        let result = tokio::select! {
            biased;
            () = token.cancelled() => return Err(cancelled()),
            result = self.engine.query(request) => result.map_err(|error| self.failed(status::of(&error)))?,
        };
        // With values a column may be named otherwise: clients hold the answer to what they were told.
        let same = result.schema.fields().iter().map(|field| field.data_type());
        let schema =
            if same.eq(schema.fields().iter().map(|field| field.data_type())) { schema } else { result.schema };
        let told = Arc::clone(&schema);
        let batches = result.rows.map(move |batch| {
            let batch = batch.map_err(|error| status::of(&error))?;
            let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&told), batch.columns().to_vec(), &rows)
                .map_err(|error| Status::internal(error.to_string()))
        });
        let rows = stream::unfold((batches.boxed(), under_way, token), |(mut rows, mut under_way, token)| async move {
            if under_way.done {
                return None;
            }
            let next = tokio::select! {
                biased;
                () = token.cancelled() => Some(Err(cancelled())),
                next = rows.next() => next,
            };
            match &next {
                Some(Ok(batch)) => under_way.face.counters.rows.add(batch.num_rows() as u64),
                Some(Err(_)) => {
                    under_way.face.counters.failed.add(1);
                    under_way.done = true;
                }
                None => under_way.done = true,
            }
            let batch = next?.map_err(|status| FlightError::Tonic(Box::new(status)));
            Some((batch, (rows, under_way, token)))
        });
        Ok(Response::new(encode(schema, rows.boxed())))
    }

    pub(super) async fn tables(&self) -> Result<Vec<TableEntry>, Status> {
        self.engine.tables().await.map_err(|error| self.failed(status::of(&error)))
    }
}

/// An answer under way, until it is dropped.
struct UnderWay {
    face: FlightFace,
    handle: Bytes,
    done: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.face.handles.end(&self.handle);
        self.face.counters.cancelled.add(u64::from(!self.done));
    }
}

/// The schema that a client is told before there are values: of none of its columns is it known that they have no nulls.
fn announced(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn cancelled() -> Status {
    Status::cancelled("the query was cancelled")
}

pub(super) fn encode(schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch, FlightError>>) -> Batches {
    FlightDataEncoderBuilder::new().with_schema(schema).build(batches).map_err(Status::from).boxed()
}

#[allow(clippy::result_large_err)]
pub(super) fn one(batch: Result<RecordBatch, impl std::fmt::Display>) -> Result<Response<Batches>, Status> {
    let batch = batch.map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(encode(batch.schema(), stream::once(async { Ok(batch) }).boxed())))
}

/// Says where rows are: here, under a ticket that repeats the command.
#[allow(clippy::result_large_err)]
pub(super) fn info(
    ticket: impl ProstMessageExt,
    schema: &Schema,
    request: Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = Ticket { ticket: ticket.as_any().encode_to_vec().into() };
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|error| Status::internal(error.to_string()))?
        .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_descriptor(request.into_inner());
    Ok(Response::new(info))
}

#[allow(clippy::result_large_err)]
pub(super) fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let message: IpcMessage = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|error: arrow::error::ArrowError| Status::internal(error.to_string()))?;
    Ok(message.0)
}

impl FlightFace {
    /// Cancels whatever the tickets of `info` stand for.
    pub(super) fn cancel(&self, info: &FlightInfo) -> bool {
        let handles = info.endpoint.iter().filter_map(|endpoint| {
            let any = arrow_flight::sql::Any::decode(&*endpoint.ticket.as_ref()?.ticket).ok()?;
            match Command::try_from(any).ok()? {
                Command::TicketStatementQuery(ticket) => Some(ticket.statement_handle),
                Command::CommandPreparedStatementQuery(query) => Some(query.prepared_statement_handle),
                _ => None,
            }
        });
        // All of them, and not only up to the first.
        handles.map(|handle| self.handles.cancel(&handle)).fold(false, |any, one| any | one)
    }
}
