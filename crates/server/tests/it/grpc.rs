//! `plimsoll.v1`: the same calls as REST over gRPC.

use plimsoll_server::grpc::v1;
use plimsoll_server::grpc::v1::deploy_service_client::DeployServiceClient;
use plimsoll_server::grpc::v1::verdict_service_client::VerdictServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::server::Running;

async fn channel(server: &Running) -> Channel {
    let address = server.server.as_ref().expect("runs").addresses().grpc_api;
    Channel::from_shared(format!("http://{address}")).expect("an address").connect().await.expect("connects")
}

#[tokio::test(flavor = "multi_thread")]
async fn deploys_and_verdicts_are_the_same_as_over_rest() {
    let server = Running::start().await;
    let channel = channel(&server).await;
    let mut deploys = DeployServiceClient::new(channel.clone());
    let request = v1::CreateDeployRequest {
        idempotency_key: "k".to_owned(),
        service: "cart".to_owned(),
        environment: "prod".to_owned(),
        version: "7".to_owned(),
        kind: v1::DeployKind::Rollback.into(),
        ..v1::CreateDeployRequest::default()
    };
    let first = deploys.create_deploy(request.clone()).await.expect("is recorded").into_inner();
    let again = deploys.create_deploy(request).await.expect("is found").into_inner();
    assert!(first.created && !again.created);
    assert_eq!(first.deploy, again.deploy);
    let deploy = first.deploy.expect("a deploy");
    assert_eq!(deploy.kind(), v1::DeployKind::Rollback);
    let (_, over_rest) = server.get(&format!("/api/v1/deploys/{}", deploy.id)).await;
    assert_eq!(over_rest["kind"], "rollback");

    let finish =
        v1::FinishDeployRequest { id: deploy.id.clone(), status: v1::DeployStatus::Failed.into(), finished_at: None };
    let finished = deploys.finish_deploy(finish).await.expect("is finished").into_inner();
    assert_eq!(finished.status(), v1::DeployStatus::Failed);
    let listed = deploys.list_deploys(v1::ListDeploysRequest::default()).await.expect("is listed").into_inner();
    assert_eq!(listed.deploys, [finished]);

    let mut verdicts = VerdictServiceClient::new(channel);
    let verdict = v1::GetVerdictRequest { deploy_id: deploy.id, wait: None };
    let verdict = verdicts.get_verdict(verdict).await.expect("a verdict").into_inner();
    assert_eq!(verdict.verdict(), v1::VerdictKind::Inconclusive);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_get_the_code_that_says_so() {
    let server = Running::start().await;
    let channel = channel(&server).await;
    let mut deploys = DeployServiceClient::new(channel.clone());
    let incomplete = deploys.create_deploy(v1::CreateDeployRequest::default()).await.expect_err("incomplete");
    assert_eq!(incomplete.code(), Code::InvalidArgument);
    assert!(incomplete.message().contains("`service` is required"), "{}", incomplete.message());
    let missing = deploys.get_deploy(v1::GetDeployRequest { id: "dep_none".to_owned() }).await.expect_err("missing");
    assert_eq!(missing.code(), Code::NotFound);
    let many = v1::ListDeploysRequest { limit: 5_000, ..v1::ListDeploysRequest::default() };
    let many = deploys.list_deploys(many).await.expect_err("more than are listed");
    assert_eq!(many.code(), Code::InvalidArgument);
    assert!(many.message().contains("`limit` is 5000: set it between 1 and 1000"), "{}", many.message());
    let before_all = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
    let nonsense = v1::ListDeploysRequest { since: before_all, ..v1::ListDeploysRequest::default() };
    let nonsense = deploys.list_deploys(nonsense).await.expect_err("no instant");
    assert_eq!(nonsense.code(), Code::InvalidArgument);
    assert!(nonsense.message().contains("`since` must lie between 1970 and 2262"), "{}", nonsense.message());
    let id = server.deploy("1").await["id"].as_str().expect("an id").to_owned();
    let finished_at = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let early = v1::FinishDeployRequest { id, status: v1::DeployStatus::Failed.into(), finished_at };
    let early = deploys.finish_deploy(early).await.expect_err("before it started");
    assert_eq!(early.code(), Code::InvalidArgument);
    assert!(early.message().contains("`finished_at`"), "{}", early.message());
    let mut verdicts = VerdictServiceClient::new(channel);
    let wait = Some(prost_types::Duration { seconds: 100_000, nanos: 0 });
    let too_long = v1::GetVerdictRequest { deploy_id: "dep_none".to_owned(), wait };
    assert_eq!(verdicts.get_verdict(too_long).await.expect_err("too long").code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_know_the_services() {
    let server = Running::start().await;
    let channel = channel(&server).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "plimsoll.v1.DeployService".to_owned() };
    let answer = health.check(request).await.expect("an answer").into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let mut reflection = ServerReflectionClient::new(channel);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([list])).await.expect("an answer").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one");
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else { panic!("a list") };
    let names: Vec<String> = services.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"plimsoll.v1.VerdictService".to_owned()), "{names:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_verdict_is_answered_when_the_server_stops() {
    use axum::body::{Body, to_bytes};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    let mut server = Running::start().await;
    let id = server.deploy("1").await["id"].as_str().expect("an id").to_owned();
    // One connection each: what was asked first on it has arrived once what was asked after it is answered.
    let rest = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let address = |path: &str| format!("{}{path}", server.api).parse::<axum::http::Uri>().expect("an address");
    let (live, waiting) = (address("/livez"), address(&format!("/api/v1/deploys/{id}/verdict?wait=10m")));
    rest.get(live.clone()).await.expect("connects");
    let mut over_rest = rest.get(waiting);
    tokio::select! {
        biased;
        early = &mut over_rest => panic!("it did not wait: {early:?}"),
        live = rest.get(live) => assert!(live.expect("answers").status().is_success()),
    }
    let channel = channel(&server).await;
    let (mut verdicts, mut deploys) = (VerdictServiceClient::new(channel.clone()), DeployServiceClient::new(channel));
    let wait = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let over_grpc = verdicts.get_verdict(v1::GetVerdictRequest { deploy_id: id.clone(), wait });
    tokio::pin!(over_grpc);
    tokio::select! {
        biased;
        early = &mut over_grpc => panic!("it did not wait: {early:?}"),
        known = deploys.get_deploy(v1::GetDeployRequest { id }) => assert!(known.is_ok()),
    }

    let stopped = server.server.take().expect("runs").stop();
    let (stopped, over_rest, over_grpc) = tokio::join!(stopped, over_rest, over_grpc);
    stopped.expect("the last flush succeeds");
    let over_rest = over_rest.expect("is answered");
    assert_eq!(over_rest.status(), 200);
    let body = to_bytes(Body::new(over_rest.into_body()), 1 << 20).await.expect("a whole body");
    let verdict: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&verdict["decided"], &verdict["verdict"]), (&false.into(), &"inconclusive".into()), "{verdict}");
    assert!(!over_grpc.expect("is answered").into_inner().decided);
}
