//! The calls of Flight, of which those of Flight SQL are most; `GetSchema` is answered here, as the library leaves it out.

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo, SchemaResult, Ticket,
};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::face::{FlightFace, ipc};

/// Everything that Flight and Flight SQL ask.
#[derive(Clone)]
pub(crate) struct FlightCalls(pub(crate) FlightFace);

/// What a call answers.
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for FlightCalls {
    type HandshakeStream = <FlightFace as FlightService>::HandshakeStream;
    type ListFlightsStream = <FlightFace as FlightService>::ListFlightsStream;
    type DoGetStream = <FlightFace as FlightService>::DoGetStream;
    type DoPutStream = <FlightFace as FlightService>::DoPutStream;
    type DoExchangeStream = <FlightFace as FlightService>::DoExchangeStream;
    type DoActionStream = <FlightFace as FlightService>::DoActionStream;
    type ListActionsStream = <FlightFace as FlightService>::ListActionsStream;

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let wrong = |_| Status::invalid_argument("the descriptor holds no command of Flight SQL");
        let any = Any::decode(&*request.get_ref().cmd).map_err(wrong)?;
        let command = Command::try_from(any);
        if let Ok(Command::CommandStatementQuery(query)) = command {
            // Without the ticket that asking for the answer would leave behind.
            let statement = self.0.describe(&query.query).await?;
            return Ok(Response::new(SchemaResult { schema: ipc(&statement.description.schema)? }));
        }
        let info = self.0.get_flight_info(request).await?.into_inner();
        Ok(Response::new(SchemaResult { schema: info.schema }))
    }

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        self.0.handshake(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        self.0.list_flights(request).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        self.0.get_flight_info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        self.0.poll_flight_info(request).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        self.0.do_get(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        self.0.do_put(request).await
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        self.0.do_exchange(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        self.0.do_action(request).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        self.0.list_actions(request).await
    }
}
