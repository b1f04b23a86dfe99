//! The calls of `plimsoll.v1`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::{Stream, StreamExt};
use plimsoll_catalog::{Catalog, CatalogError, DeployFilter};
use plimsoll_model::{DeployId, DeployStatus};
use plimsoll_watch::{FinishError, NewDeploy, RegisterError, Watcher};
use tokio::net::TcpListener;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::connections::Connections;
use super::{convert, v1};
use crate::api;
use crate::faces::FaceCounters;
use crate::flight::{Auth, FlightCalls, FlightFace};

/// The longest that a call may wait.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What the calls work with.
#[derive(Clone)]
pub struct GrpcApi {
    /// Deploys and verdicts.
    pub catalog: Arc<dyn Catalog>,
    /// Registers deploys and tells of verdicts.
    pub watcher: Arc<Watcher>,
    /// Flight SQL, which shares the listener.
    pub flight: FlightFace,
    /// Connections are counted here.
    pub counters: Arc<FaceCounters>,
    /// Cancelled as soon as the server is told to stop.
    pub stopping: CancellationToken,
}

/// Serves until `stop` is done. Asks for the bearer `token`, where there is one; health and reflection are open.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    api: GrpcApi,
    token: Option<Arc<str>>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<v1::deploy_service_server::DeployServiceServer<GrpcApi>>().await;
    reporter.set_serving::<v1::verdict_service_server::VerdictServiceServer<GrpcApi>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(super::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    reporter.set_serving::<FlightServiceServer<FlightCalls>>().await;
    let auth = Auth(token);
    // tonic's interceptors answer with its own status type, which is large.
    #[allow(clippy::result_large_err)]
    let authorise = move |request: Request<()>| auth.check(request);
    let connections = Connections::new(listener, Arc::clone(&api.counters));
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(128)
        .add_service(health)
        .add_service(reflection)
        .add_service(v1::deploy_service_server::DeployServiceServer::with_interceptor(api.clone(), authorise.clone()))
        .add_service(FlightServiceServer::with_interceptor(FlightCalls(api.flight.clone()), authorise.clone()))
        .add_service(v1::verdict_service_server::VerdictServiceServer::with_interceptor(api, authorise))
        .serve_with_incoming_shutdown(connections.stream(), stop)
        .await?;
    Ok(())
}

fn unavailable(error: &CatalogError) -> Status {
    match error {
        CatalogError::Unavailable { .. } => Status::unavailable(error.to_string()),
        CatalogError::Corrupt { .. } | CatalogError::TooNew { .. } => Status::internal(error.to_string()),
    }
}

fn unknown(id: &str) -> Status {
    Status::not_found(format!("there is no deploy `{id}`"))
}

fn optional(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[tonic::async_trait]
impl v1::deploy_service_server::DeployService for GrpcApi {
    async fn create_deploy(
        &self,
        request: Request<v1::CreateDeployRequest>,
    ) -> Result<Response<v1::CreateDeployResponse>, Status> {
        let request = request.into_inner();
        let started_at = match &request.started_at {
            None => None,
            Some(at) => Some(
                convert::instant(at)
                    .ok_or_else(|| Status::invalid_argument("`started_at` must lie between 1970 and 2262"))?
                    .to_rfc3339(),
            ),
        };
        let marker = NewDeploy {
            service: request.service,
            environment: request.environment,
            version: request.version,
            kind: convert::kind_name(request.kind),
            namespace: optional(request.namespace),
            previous_version: optional(request.previous_version),
            commit: optional(request.commit),
            repository: optional(request.repository),
            run_url: optional(request.run_url),
            actor: optional(request.actor),
            strategy: optional(request.strategy),
            artifact: optional(request.artifact),
            started_at,
            attributes: request.attributes.into_iter().collect(),
        };
        let key = optional(request.idempotency_key);
        let watcher = Arc::clone(&self.watcher);
        // A task of its own: what is recorded is also watched, though the client hangs up in between.
        let registered = tokio::spawn(async move { watcher.register(marker, key.as_deref()).await }).await;
        let registered = registered.map_err(|_| Status::internal("registering the deploy failed; try again"))?;
        let (deploy, created) = registered.map_err(|error| match error {
            RegisterError::Invalid(_) => Status::invalid_argument(error.to_string()),
            RegisterError::Catalog(error) => unavailable(&error),
        })?;
        Ok(Response::new(v1::CreateDeployResponse { deploy: Some(convert::deploy(deploy)), created }))
    }

    async fn get_deploy(&self, request: Request<v1::GetDeployRequest>) -> Result<Response<v1::Deploy>, Status> {
        let id = request.into_inner().id;
        let deploy = self.catalog.deploy(&DeployId::from_text(&id)).await.map_err(|error| unavailable(&error))?;
        deploy.map(|deploy| Response::new(convert::deploy(deploy))).ok_or_else(|| unknown(&id))
    }

    async fn list_deploys(
        &self,
        request: Request<v1::ListDeploysRequest>,
    ) -> Result<Response<v1::ListDeploysResponse>, Status> {
        let request = request.into_inner();
        if request.limit > api::LIMIT_MAX {
            let limit = request.limit;
            let most = api::LIMIT_MAX;
            return Err(Status::invalid_argument(format!("`limit` is {limit}: set it between 1 and {most}")));
        }
        let since = match &request.since {
            None => None,
            Some(since) => Some(
                convert::instant(since)
                    .ok_or_else(|| Status::invalid_argument("`since` must lie between 1970 and 2262"))?,
            ),
        };
        let filter = DeployFilter {
            service: optional(request.service),
            namespace: None,
            environment: optional(request.environment),
            version: optional(request.version),
            since,
            limit: request.limit,
        };
        let deploys = self.catalog.deploys(&filter).await.map_err(|error| unavailable(&error))?;
        Ok(Response::new(v1::ListDeploysResponse { deploys: deploys.into_iter().map(convert::deploy).collect() }))
    }

    async fn finish_deploy(&self, request: Request<v1::FinishDeployRequest>) -> Result<Response<v1::Deploy>, Status> {
        let request = request.into_inner();
        let status = match request.status() {
            v1::DeployStatus::Succeeded => DeployStatus::Succeeded,
            v1::DeployStatus::Failed => DeployStatus::Failed,
            v1::DeployStatus::Running | v1::DeployStatus::Unspecified => {
                return Err(Status::invalid_argument("`status` must be succeeded or failed"));
            }
        };
        let id = DeployId::from_text(&request.id);
        let at = match &request.finished_at {
            None => None,
            Some(at) => Some(
                convert::instant(at)
                    .ok_or_else(|| Status::invalid_argument("`finished_at` must lie between 1970 and 2262"))?,
            ),
        };
        if let Some(at) = at {
            let deploy = self.catalog.deploy(&id).await.map_err(|error| unavailable(&error))?;
            let deploy = deploy.ok_or_else(|| unknown(&request.id))?;
            api::ends_after_its_start(&deploy, at).map_err(Status::invalid_argument)?;
        }
        let finished = self.watcher.finish(&id, status, at).await;
        finished.map(|deploy| Response::new(convert::deploy(deploy))).map_err(|error| match error {
            FinishError::Unknown(id) => unknown(id.as_str()),
            FinishError::Invalid(_) => Status::invalid_argument(error.to_string()),
            FinishError::Catalog(error) => unavailable(&error),
        })
    }
}

#[tonic::async_trait]
impl v1::verdict_service_server::VerdictService for GrpcApi {
    type StreamRegressionsStream = Pin<Box<dyn Stream<Item = Result<v1::RegressionEvent, Status>> + Send>>;

    async fn get_verdict(&self, request: Request<v1::GetVerdictRequest>) -> Result<Response<v1::Verdict>, Status> {
        let request = request.into_inner();
        let wait = match request.wait {
            None => Duration::ZERO,
            Some(wait) => Duration::try_from(wait)
                .ok()
                .filter(|wait| *wait <= WAIT_MAX)
                .ok_or_else(|| Status::invalid_argument("`wait` must lie between zero and ten minutes"))?,
        };
        let id = DeployId::from_text(&request.deploy_id);
        let verdict = api::decided(&self.watcher, &id, wait, &self.stopping).await;
        let verdict = verdict.map_err(|error| unavailable(&error))?;
        verdict.map(|verdict| Response::new(convert::verdict(verdict))).ok_or_else(|| unknown(&request.deploy_id))
    }

    async fn stream_regressions(
        &self,
        request: Request<v1::StreamRegressionsRequest>,
    ) -> Result<Response<Self::StreamRegressionsStream>, Status> {
        let wanted = request.into_inner();
        let events = BroadcastStream::new(self.watcher.events()).filter_map(move |event| {
            let answer = match event {
                Ok(event) => {
                    let service = &event.data.deploy.service;
                    let fits = (wanted.service.is_empty() || wanted.service == service.service)
                        && (wanted.environment.is_empty() || wanted.environment == service.environment);
                    fits.then(|| Ok(convert::event(event)))
                }
                Err(BroadcastStreamRecvError::Lagged(missed)) => Some(Err(Status::data_loss(format!(
                    "{missed} events were missed because they were not read in time: read `/api/v1/regressions` and reconnect"
                )))),
            };
            std::future::ready(answer)
        });
        Ok(Response::new(Box::pin(events)))
    }
}
