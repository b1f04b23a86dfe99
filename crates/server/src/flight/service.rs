//! The calls of Flight SQL.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Command, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, Ticket,
};
use futures::stream;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::face::{FlightFace, info, ipc, one};
use super::{metadata, parameters, status};

type Handshakes = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

fn only_reads() -> Status {
    Status::permission_denied("SQL only reads here: telemetry comes in over OTLP, deploys over REST and `plimsoll.v1`")
}

#[tonic::async_trait]
impl FlightSqlService for FlightFace {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Handshakes>, Status> {
        // Whoever gets here has passed: the check is in front of every call.
        let bearer = self.auth.bearer();
        let answer = HandshakeResponse { protocol_version: 0, payload: bearer.clone().into() };
        let mut response = Response::new(stream::once(async { Ok(answer) }).boxed() as Handshakes);
        let value = MetadataValue::try_from(bearer).map_err(|_| Status::internal("`auth.token` is no header value"))?;
        response.metadata_mut().insert("authorization", value);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let statement = self.describe(&query.query).await?;
        let schema = Arc::clone(&statement.description.schema);
        let statement_handle = self.keep(statement, false)?;
        info(TicketStatementQuery { statement_handle }, &schema, request)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let statement = self.handles.take(&ticket.statement_handle, Instant::now()).ok_or_else(|| {
            Status::not_found("this ticket is not known: it is good for one answer within two minutes; ask for another")
        })?;
        self.run(ticket.statement_handle, statement).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let statement = self.describe(&query.query).await?;
        let dataset_schema = ipc(&statement.description.schema)?;
        let parameter_schema = ipc(&parameters::announced(&statement.description.params))?;
        let prepared_statement_handle = self.keep(statement, true)?;
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        self.handles.forget(&query.prepared_statement_handle);
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let handle = query.prepared_statement_handle;
        let mut statement = self.prepared(&handle)?;
        let data = request.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        let wrong = |error: FlightError| Status::invalid_argument(format!("the parameters cannot be read: {error}"));
        let mut bound = false;
        while let Some(batch) = batches.try_next().await.map_err(wrong)? {
            if batch.num_rows() == 0 {
                continue;
            }
            if bound {
                return Err(Status::invalid_argument("several rows of parameters: a query takes one"));
            }
            (statement.params, statement.types) = parameters::read(&batch)?;
            bound = true;
        }
        let described = self.engine.describe(&statement.sql, &statement.types).await;
        statement.description.params = described.map_err(|error| self.failed(status::of(&error)))?.params;
        self.handles.forget(&handle);
        let kept = self.handles.keep(handle.clone(), statement, true, Instant::now());
        kept.map_err(|_| {
            Status::resource_exhausted("prepared statements hold too much: close those that are not needed")
        })?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let statement = self.prepared(&query.prepared_statement_handle)?;
        info(query, &statement.description.schema, request)
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let statement = self.prepared(&query.prepared_statement_handle)?;
        self.run(query.prepared_statement_handle, statement).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query, &query.into_builder().schema(), request)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let mut builder = query.into_builder();
        let catalogs: BTreeSet<&str> = self.tables().await?.iter().map(|table| table.catalog).collect();
        catalogs.into_iter().for_each(|catalog| builder.append(catalog));
        one(builder.build())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query.clone(), &query.into_builder().schema(), request)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let mut schemas: Vec<(&str, &str)> = Vec::new();
        for table in self.tables().await? {
            if !schemas.contains(&(table.catalog, table.schema)) {
                schemas.push((table.catalog, table.schema));
            }
        }
        let mut builder = query.into_builder();
        schemas.into_iter().for_each(|(catalog, schema)| builder.append(catalog, schema));
        one(builder.build())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query.clone(), &query.into_builder().schema(), request)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let mut builder = query.into_builder();
        for table in self.tables().await? {
            let kind = if table.is_view { "VIEW" } else { "TABLE" };
            let appended = builder.append(table.catalog, table.schema, &table.name, kind, &table.columns);
            appended.map_err(|error| Status::internal(error.to_string()))?;
        }
        one(builder.build())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query, &query.into_builder().schema(), request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let mut builder = query.into_builder();
        builder.append("TABLE");
        builder.append("VIEW");
        one(builder.build())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query.clone(), &query.into_builder(&metadata::SQL_INFO).schema(), request)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        one(query.into_builder(&metadata::SQL_INFO).build())
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query, &query.into_builder(&metadata::TYPES).schema(), request)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        one(query.into_builder(&metadata::TYPES).build())
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query, &metadata::PRIMARY_KEYS.schema(), request)
    }

    async fn do_get_primary_keys(
        &self,
        _query: CommandGetPrimaryKeys,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        one(Ok::<_, Status>(metadata::PRIMARY_KEYS.clone()))
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query, &metadata::FOREIGN_KEYS.schema(), request)
    }

    async fn do_get_exported_keys(
        &self,
        _query: CommandGetExportedKeys,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        one(Ok::<_, Status>(metadata::FOREIGN_KEYS.clone()))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query, &metadata::FOREIGN_KEYS.schema(), request)
    }

    async fn do_get_imported_keys(
        &self,
        _query: CommandGetImportedKeys,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        one(Ok::<_, Status>(metadata::FOREIGN_KEYS.clone()))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(query, &metadata::FOREIGN_KEYS.schema(), request)
    }

    async fn do_get_cross_reference(
        &self,
        _query: CommandGetCrossReference,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        one(Ok::<_, Status>(metadata::FOREIGN_KEYS.clone()))
    }

    async fn get_flight_info_fallback(
        &self,
        command: Command,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(format!("`{}` is not spoken here", command.type_url())))
    }

    async fn do_put_statement_update(
        &self,
        _command: CommandStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(only_reads())
    }

    async fn do_put_prepared_statement_update(
        &self,
        _command: CommandPreparedStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(only_reads())
    }

    async fn do_put_statement_ingest(
        &self,
        _command: CommandStatementIngest,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(only_reads())
    }

    async fn do_action_begin_transaction(
        &self,
        _request: ActionBeginTransactionRequest,
        _action: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(Status::unimplemented("there are no transactions here: each query reads one snapshot, and nothing writes"))
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        // Of `ActionCancelQueryResult.CancelResult`, which the library keeps to itself.
        const CANCELLED: i32 = 1;
        const NOT_CANCELLABLE: i32 = 3;
        let info = FlightInfo::decode(query.info).map_err(|_| Status::invalid_argument("`info` is no FlightInfo"))?;
        Ok(ActionCancelQueryResult { result: if self.cancel(&info) { CANCELLED } else { NOT_CANCELLABLE } })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let action = request.into_inner();
        if action.r#type != "CancelFlightInfo" {
            return Err(Status::unimplemented(format!("there is no action `{}`", action.r#type)));
        }
        let wrong = |_| Status::invalid_argument("the action holds no CancelFlightInfoRequest");
        let info = CancelFlightInfoRequest::decode(action.body).map_err(wrong)?.info.unwrap_or_default();
        let status = if self.cancel(&info) { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
        let body = CancelFlightInfoResult { status: status as i32 }.encode_to_vec().into();
        Ok(Response::new(stream::once(async { Ok(arrow_flight::Result { body }) }).boxed()))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
