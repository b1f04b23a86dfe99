//! A server in this process, on ports that the system chooses, and how to talk to it.

use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use plimsoll_server::config::{Config, Overrides};
use plimsoll_server::serve::Server;
use prost::Message;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Running {
    pub(crate) server: Option<Server>,
    pub(crate) directory: TempDir,
    pub(crate) client: Client,
    pub(crate) api: String,
}

pub(crate) fn overrides(data_dir: &Path) -> Overrides {
    let any = Some("127.0.0.1:0".to_owned());
    Overrides {
        data_dir: Some(data_dir.to_owned()),
        otlp_grpc: any.clone(),
        otlp_http: any.clone(),
        api: any.clone(),
        grpc_api: any.clone(),
        postgres: any,
    }
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(tempfile::tempdir().expect("a temporary directory"), |_| {}).await
    }

    pub(crate) async fn start_with(directory: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::load(None, &overrides(directory.path()), &|_| None).expect("the defaults are valid");
        change(&mut config);
        let server = Server::start(config).await.expect("the server starts");
        let api = format!("http://{}", server.addresses().api);
        Self { server: Some(server), directory, client: Client::new(), api }
    }

    /// Stops in good order and gives the directory back.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.server.take().expect("runs").stop().await.expect("the last flush succeeds");
        self.directory
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api)).timeout(Duration::from_secs(60))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path).send().await.expect("answers")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(body).send().await.expect("answers")).await
    }

    pub(crate) async fn deploy(&self, version: &str) -> Value {
        let body = json!({ "service": "payment", "environment": "prod", "version": version });
        let (status, deploy) = self.post("/api/v1/deploys", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{deploy}");
        deploy
    }

    /// Runs a query that has one value.
    pub(crate) async fn value(&self, query: &str) -> Value {
        let (status, answer) = self.post("/api/v1/sql", &json!({ "query": query })).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["rows"][0][0].clone()
    }

    /// Sends `count` server spans of `payment` that ended just now, and waits for the ack.
    pub(crate) async fn send_spans(&self, version: &str, first: u64, count: u64) {
        self.send_spans_at(version, first, count, Duration::ZERO).await;
    }

    /// The same, for spans that ended `ago`.
    pub(crate) async fn send_spans_at(&self, version: &str, first: u64, count: u64, ago: Duration) {
        let http = self.server.as_ref().expect("runs").addresses().otlp_http;
        let sent = self
            .client
            .post(format!("http://{http}/v1/traces"))
            .header("content-type", "application/x-protobuf")
            .body(spans(version, first, count, ago).encode_to_vec())
            .send()
            .await
            .expect("answers");
        assert_eq!(sent.status(), StatusCode::OK);
    }
}

async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(AnyValueKind::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn spans(version: &str, first: u64, count: u64, ago: Duration) -> ExportTraceServiceRequest {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let now = (now - ago).as_nanos() as u64;
    let span = |n: u64| Span {
        trace_id: u128::from(n + 1).to_be_bytes().to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: "POST /charge".to_owned(),
        kind: 2,
        start_time_unix_nano: now - 20_000_000,
        end_time_unix_nano: now,
        ..Span::default()
    };
    let resource = Resource {
        attributes: vec![
            attribute("service.name", "payment"),
            attribute("service.version", version),
            attribute("deployment.environment.name", "prod"),
        ],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (first..first + count).map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}
