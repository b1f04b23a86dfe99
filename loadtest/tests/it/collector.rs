//! A real SDK to Plimsoll, straight and through a real Collector with its queue on disk.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_loadtest::Server;

use crate::peers;
use crate::stage::{PATIENCE, Stage, run_name};

const SPANS: u64 = 1200;
const LOGS: u64 = 700;
const POINTS: u64 = 90;

/// A running Collector; killed when dropped.
struct Collector {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Collector {
    /// Starts it with a configuration of this repository, and waits until it takes connections.
    async fn start(config: &Path, stage: &Stage, compression: &str) -> Option<Self> {
        let program = peers::collector()?;
        let (grpc, http) = (free(), free());
        let queue = stage.dir().join("queue");
        std::fs::create_dir_all(&queue).expect("the queue's directory can be made");
        let log = File::create(stage.dir().join("collector.log")).expect("a log can be made");
        let plimsoll = stage.server.addresses();
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            .env("OTELCOL_GRPC", grpc.to_string())
            .env("OTELCOL_HTTP", http.to_string())
            .env("OTELCOL_STORAGE", &queue)
            .env("OTELCOL_METRICS_LEVEL", "none")
            .env("PLIMSOLL_OTLP_GRPC", plimsoll.otlp_grpc.to_string())
            .env("PLIMSOLL_OTLP_HTTP", format!("http://{}", plimsoll.otlp_http))
            .env("PLIMSOLL_COMPRESSION", compression)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the Collector can be started");
        let mut collector = Self { child, grpc, http };
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(http).await.is_err() || tokio::net::TcpStream::connect(grpc).await.is_err()
        {
            let ended = collector.child.try_wait().expect("a child can be asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the Collector does not listen ({ended:?}): {}",
                std::fs::read_to_string(stage.dir().join("collector.log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(collector)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has free ports");
    listener.local_addr().expect("it is bound")
}

/// Sends with the Python SDK. False where there is no Python.
async fn send(protocol: &'static str, to: SocketAddr, compression: &'static str, run: &str) -> bool {
    let Some(python) = peers::python() else {
        return false;
    };
    let run = run.to_owned();
    let sending = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .arg(peers::repository().join("loadtest/peers/sdk_send.py"))
            .args(["--protocol", protocol, "--endpoint", &format!("http://{to}"), "--compression", compression])
            .args(["--run", &run, "--spans", &SPANS.to_string()])
            .args(["--logs", &LOGS.to_string(), "--points", &POINTS.to_string()])
            .output()
            .expect("Python can be started")
    });
    let output = sending.await.expect("waiting does not panic");
    assert!(output.status.success(), "the SDK reports problems: {output:?}");
    true
}

async fn expect_all(stage: &Stage, run: &str) {
    assert_eq!(stage.count("spans", run, SPANS).await, SPANS, "spans");
    assert_eq!(stage.count("logs", run, LOGS).await, LOGS, "logs");
    assert_eq!(stage.count("metrics", run, POINTS).await, POINTS, "points");
    // Not just rows: each record once, and what the SDK said of it.
    let one =
        |query: String| async move { stage.sql.number(&query).await.unwrap_or_else(|problem| panic!("{problem}")) };
    let spans = format!("FROM spans WHERE service_namespace = '{run}'");
    assert_eq!(one(format!("SELECT count(DISTINCT span_id) {spans}")).await, SPANS);
    assert_eq!(one(format!("SELECT count(DISTINCT attributes['order.number']) {spans}")).await, SPANS);
    assert_eq!(one(format!("SELECT count(*) {spans} AND http_response_status_code = 500")).await, SPANS / 10);
    let exceptions = format!("SELECT count(*) FROM exceptions WHERE service_namespace = '{run}'");
    assert_eq!(one(exceptions).await, SPANS / 10);
    let bodies = format!("SELECT count(DISTINCT body) FROM logs WHERE service_namespace = '{run}'");
    assert_eq!(one(bodies).await, LOGS);
    let sum = format!(
        "SELECT CAST(sum(value) AS BIGINT) FROM metrics WHERE service_namespace = '{run}' AND metric_name = 'orders'"
    );
    assert_eq!(one(sum).await, (0..POINTS).filter(|at| at % 2 == 0).map(|at| at + 1).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_python_sdk_sends_is_what_sql_counts_over_grpc_and_http_plain_and_gzip() {
    let stage = Stage::start().await;
    for protocol in ["grpc", "http"] {
        for compression in ["none", "gzip"] {
            let run = run_name("sdk");
            let at = stage.server.addresses();
            let to = if protocol == "grpc" { at.otlp_grpc } else { at.otlp_http };
            if !send(protocol, to, compression, &run).await {
                return;
            }
            expect_all(&stage, &run).await;
        }
    }
}

/// The SDK to a Collector that is configured by `config`, to Plimsoll.
async fn through_a_collector(config: &Path) {
    for compression in ["none", "gzip", "zstd"] {
        let stage = Stage::start().await;
        let Some(collector) = Collector::start(config, &stage, compression).await else {
            return;
        };
        for (protocol, to) in [("grpc", collector.grpc), ("http", collector.http)] {
            let run = run_name("collector");
            if !send(protocol, to, "gzip", &run).await {
                return;
            }
            expect_all(&stage, &run).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_the_defaults_of_otlp_grpc_delivers_every_record_once() {
    through_a_collector(&peers::repository().join("loadtest/tests/it/collector-grpc.yaml")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_the_defaults_of_otlp_http_delivers_every_record_once() {
    through_a_collector(&peers::repository().join("loadtest/tests/it/collector-http.yaml")).await;
}

/// Plimsoll is killed, the Collector goes on taking records, Plimsoll comes back.
async fn over_an_outage(config: &str) {
    let mut stage = Stage::start().await;
    let Some(collector) = Collector::start(&peers::repository().join(config), &stage, "gzip").await else {
        return;
    };
    let before = run_name("before");
    if !send("grpc", collector.grpc, "none", &before).await {
        return;
    }
    expect_all(&stage, &before).await;
    stage.server.kill();
    let during = run_name("during");
    send("http", collector.http, "none", &during).await;
    stage.server = Server::start(stage.server.options(), PATIENCE).await.unwrap_or_else(|problem| panic!("{problem}"));
    expect_all(&stage, &during).await;
    expect_all(&stage, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_for_grpc_carries_records_over_an_outage_of_the_server() {
    over_an_outage("deploy/collector/plimsoll-grpc.yaml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_for_http_carries_records_over_an_outage_of_the_server() {
    over_an_outage("deploy/collector/plimsoll-http.yaml").await;
}
