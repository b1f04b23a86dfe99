//! `plimsoll demo`: a running shop, a good deploy, a bad deploy, the verdicts.
//!
//! Everything is real: the server with all its stages, six services with the OpenTelemetry SDK exporting over OTLP/gRPC, deploys
//! marked over REST, verdicts read over REST, and a webhook receiver that checks signatures. Only the shop's work is pretended.

mod instance;
mod report;
mod shop;
mod traffic;
mod webhook;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{Deploy, Verdict, VerdictKind};
use reqwest::Client;
use serde_json::{Value, json};

use crate::cli::{DemoArgs, Failure, Outcome};
use crate::config::{Config, Overrides};
use crate::serve::{Server, shutdown};
use crate::telemetry;
use report::Progress;
use shop::Shop;
use traffic::Traffic;
use webhook::Receiver;

/// Traffic before the first deploy, so that there is something to compare with.
const WARM_UP: Duration = Duration::from_secs(20);
/// How long each verdict may take at the usual rate, before the demonstration gives up on it.
const PATIENCE: Duration = Duration::from_secs(100);
/// The rate at which that is enough. What a verdict takes is requests, so fewer a second take longer.
const USUAL_RATE: f64 = 200.0;

/// Runs the demonstration.
///
/// # Errors
/// Something could not be started, for instance because a port is in use.
pub fn run(args: DemoArgs) -> Outcome {
    if !(args.rate.is_finite() && (20.0..=2_000.0).contains(&args.rate)) {
        return Err(Failure::usage(
            "`--rate` must lie between 20 and 2000 requests a second: with fewer, verdicts take too long to be shown",
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("plimsoll-demo")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(demonstrate(args));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn demonstrate(args: DemoArgs) -> Outcome {
    let receiver = Receiver::start().await.map_err(Failure::failed)?;
    let scratch = Scratch::new(args.data_dir.clone()).map_err(Failure::failed)?;
    let config = configure(&args, &scratch, &receiver)?;
    let telemetry = telemetry::init(&config.telemetry).map_err(Failure::failed)?;
    let server = Server::start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
    let addresses = server.addresses();
    let progress = Progress::new();
    progress.say(&format!("server listens: OTLP/gRPC {}, API http://{}", addresses.otlp_grpc, addresses.api));

    let shop = Arc::new(Shop::open(&format!("http://{}", addresses.otlp_grpc)).map_err(Failure::failed)?);
    progress
        .say(&format!("shop opens: {}", shop::SERVICES.map(|(name, version)| format!("{name} {version}")).join(", ")));
    let traffic = Traffic::start(shop.clone(), args.rate);
    let api = Api { base: format!("http://{}", addresses.api), client: Client::new() };

    let interrupted = shutdown::requested();
    tokio::pin!(interrupted);
    let patience = PATIENCE.mul_f64((USUAL_RATE / args.rate).max(1.0));
    let story = tell(&shop, &traffic, &api, &receiver, &progress, patience);
    let told = tokio::select! {
        told = story => Some(told),
        () = &mut interrupted => None,
    };
    let right = match told {
        None => false,
        Some(Err(problem)) => {
            progress.complain(&problem);
            false
        }
        Some(Ok(story)) => {
            let right = story.right();
            report::print(&api, &story, &addresses).await;
            if !args.exit {
                report::invite(&addresses);
                interrupted.await;
            }
            right
        }
    };
    shutdown::exit_on_second_request();
    traffic.stop();
    let _ = tokio::task::spawn_blocking(move || shop.close()).await;
    server.stop().await.map_err(|error| Failure::failed(error.to_string()))?;
    telemetry.shutdown().await;
    drop(scratch);
    if right || !args.exit {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::failed("the verdicts were not the right ones"))
    }
}

/// What happened.
pub(crate) struct Story {
    pub(crate) good: (Deploy, Verdict),
    pub(crate) bad: (Deploy, Verdict),
    pub(crate) event: Option<plimsoll_model::RegressionEvent>,
    pub(crate) visits: u64,
}

impl Story {
    /// Says whether both verdicts, the culprit and the event were what they should be.
    fn right(&self) -> bool {
        let culprit = self.bad.1.findings.iter().find(|finding| !finding.symptom).map(|finding| &finding.culprit);
        self.good.1.verdict == VerdictKind::Pass
            && self.bad.1.verdict == VerdictKind::Regressed
            && culprit.is_some_and(|culprit| culprit.service == "payment" && culprit.version == "2.0.0")
            && self.event.is_some()
    }
}

async fn tell(
    shop: &Shop,
    traffic: &Traffic,
    api: &Api,
    receiver: &Receiver,
    progress: &Progress,
    patience: Duration,
) -> Result<Story, String> {
    progress.wait("ordinary traffic, to compare with", WARM_UP, traffic).await;

    let good = api.deploy("checkout", "2.2.0", "2.1.0").await?;
    shop.canary("checkout", "2.1.0", "2.2.0")?;
    progress.say("deploy 1: checkout 2.2.0 takes half of the traffic (a harmless change)");
    let good_verdict = progress.follow(api, &good, patience, traffic).await?;
    shop.settle("checkout", "2.2.0");
    api.finish(&good).await?;

    let bad = api.deploy("payment", "2.0.0", "1.9.3").await?;
    shop.canary("payment", "1.9.3", "2.0.0")?;
    progress.say("deploy 2: payment 2.0.0 takes half of the traffic (some charges fail, others are slow)");
    let mut bad_verdict = progress.follow(api, &bad, patience, traffic).await?;
    let event = if bad_verdict.verdict == VerdictKind::Regressed {
        tokio::time::timeout(Duration::from_secs(20), receiver.event_about(bad.id.as_str())).await.ok()
    } else {
        None
    };
    if bad_verdict.verdict == VerdictKind::Regressed {
        // What the gate recommended is done and recorded, as a pipeline would.
        bad_verdict = api.verdict(&bad, Duration::ZERO).await?;
        shop.settle("payment", "1.9.3");
        api.decide(&bad, "rollback", &bad_verdict.summary).await?;
        progress.say("rolled back: payment 1.9.3 takes all of the traffic again, and the decision is recorded");
    }
    Ok(Story { good: (good, good_verdict), bad: (bad, bad_verdict), event, visits: traffic.visits() })
}

fn configure(args: &DemoArgs, scratch: &Scratch, receiver: &Receiver) -> Result<Config, Failure> {
    let any = || args.any_port.then(|| "127.0.0.1:0".to_owned());
    let overrides = Overrides {
        data_dir: Some(scratch.path.clone()),
        otlp_grpc: any(),
        otlp_http: any(),
        api: any(),
        grpc_api: any(),
        postgres: any(),
    };
    let mut config = Config::load(None, &overrides, &|name| std::env::var(name).ok())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let sink = json!({
        "name": "demo", "type": "webhook", "url": format!("http://{}/plimsoll", receiver.address),
        "secret": receiver.secret, "allow_private": true,
    });
    // A small shop at a steady pace shows within a minute what a real rollout is given two for.
    config.watch.tolerances.usual.watch_min_s = 40;
    config.sinks = vec![serde_json::from_value(sink).map_err(|error| Failure::failed(error.to_string()))?];
    if std::env::var_os("PLIMSOLL_TELEMETRY_LOG").is_none() {
        // The demonstration speaks for itself; only what is wrong is worth a line more.
        "warn,opentelemetry=error,opentelemetry_sdk=error".clone_into(&mut config.telemetry.log_filter);
    }
    Ok(config)
}

/// Where the demonstration keeps its data: a directory of its own that it removes, or one that was asked for and stays.
struct Scratch {
    path: std::path::PathBuf,
    remove: bool,
}

impl Scratch {
    fn new(wanted: Option<std::path::PathBuf>) -> Result<Self, String> {
        if let Some(path) = wanted {
            return Ok(Self { path, remove: false });
        }
        let path = std::env::temp_dir().join(format!("plimsoll-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(Self { path, remove: true })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.remove {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The server's REST interface, as a pipeline uses it.
pub(crate) struct Api {
    base: String,
    client: Client,
}

impl Api {
    async fn deploy(&self, service: &str, version: &str, previous: &str) -> Result<Deploy, String> {
        let body = json!({
            "service": service, "namespace": "shop", "environment": "demo", "version": version,
            "previous_version": previous, "strategy": "canary", "actor": "demo",
        });
        self.post("/api/v1/deploys", &body).await
    }

    async fn finish(&self, deploy: &Deploy) -> Result<Deploy, String> {
        self.post(&format!("/api/v1/deploys/{}/finish", deploy.id), &json!({ "status": "succeeded" })).await
    }

    async fn decide(&self, deploy: &Deploy, decision: &str, reason: &str) -> Result<Value, String> {
        let body = json!({ "decision": decision, "actor": "demo", "reason": reason });
        self.post(&format!("/api/v1/deploys/{}/decisions", deploy.id), &body).await
    }

    async fn verdict(&self, deploy: &Deploy, wait: Duration) -> Result<Verdict, String> {
        let url = format!("{}/api/v1/deploys/{}/verdict?wait={}ms", self.base, deploy.id, wait.as_millis());
        let request = self.client.get(url).timeout(wait + Duration::from_secs(10));
        Self::read(request).await
    }

    pub(crate) async fn sql(&self, query: &str) -> Result<Value, String> {
        self.post("/api/v1/sql", &json!({ "query": query })).await
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, String> {
        Self::read(self.client.post(format!("{}{path}", self.base)).json(body)).await
    }

    async fn read<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, String> {
        let response = request.send().await.map_err(|error| format!("the API did not answer: {error}"))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| format!("the API's answer broke off: {error}"))?;
        if !status.is_success() {
            return Err(format!("the API answered {status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("the API's answer was not understood: {error}: {text}"))
    }
}
