//! One run: a server of its own, every scenario in an environment of its own, one clock for all.
//!
//! Time runs on one line. What lies before the present is sent as fast as it is taken, the rest as it happens; `Past` puts
//! the whole scenario before the present, so that a run takes a minute instead of a quarter of an hour, at the price that
//! the verdict is asked for once, at the end, and that every deploy is marked.

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::api::Api;
use super::now;
use super::receiver::Receiver;
use super::scenario::{Deploy, Scenario};
use super::scenarios;
use super::score::{self, MeshReport, Run};
use super::world::{SECOND, World};
use crate::client::GRPC_PREFIX_BYTES;
use crate::{Addresses, Compression, Connection, Endpoint, Error, Protocol, Reply, Server, ServerOptions, Signal};

/// Seconds of the past that one request holds.
const CHUNK: u64 = 30 * SECOND;
/// Exporters send what is so old.
const LAG: u64 = SECOND;
/// Seconds from the end of a run to its verdicts: traces close, buckets end, the watcher looks.
const TAIL_S: u64 = 32;
/// Connections that telemetry goes over.
const CONNECTIONS: usize = 4;
/// A request that was refused for so many seconds fails the run.
const PATIENCE_S: u64 = 120;

/// When the deploys of a run happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Time {
    /// As one watches, on the real clock.
    Live,
    /// Before the present: everything is sent as history, then marked.
    Past,
}

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// The `plimsoll` program.
    pub binary: PathBuf,
    /// Where data directories are made.
    pub work_dir: PathBuf,
    /// When deploys happen.
    pub time: Time,
    /// How long after the start of a scenario verdicts are read.
    pub phase: Duration,
    /// Time to send the history in, before scenarios start.
    pub settle: Duration,
    /// Only scenarios whose name holds one of these; all where empty.
    pub only: Vec<String>,
    /// Only those of the short form.
    pub short: bool,
    /// What all that is random comes from.
    pub seeds: Vec<u64>,
    /// Keeps data directories.
    pub keep: bool,
    /// More arguments of `plimsoll serve`.
    pub arguments: Vec<String>,
}

impl Mesh {
    /// Lists the names of the scenarios that are chosen.
    pub fn names(&self) -> Vec<&'static str> {
        self.chosen().iter().map(|scenario| scenario.name).collect()
    }

    fn chosen(&self) -> Vec<Scenario> {
        let mut found = scenarios::all();
        found.retain(|scenario| !self.short || scenario.short);
        found.retain(|scenario| self.only.is_empty() || self.only.iter().any(|part| scenario.name.contains(&**part)));
        found
    }

    /// Runs all seeds, one after another.
    ///
    /// # Errors
    /// The server cannot be started or reached, or nothing is chosen.
    pub async fn run(&self, mut progress: impl FnMut(&str)) -> Result<MeshReport, Error> {
        let scenarios = self.chosen();
        if scenarios.is_empty() {
            return Err(Error::Usage("no scenario's name holds what `--only` says".into()));
        }
        let mut outcomes = Vec::new();
        let mut refused = 0;
        for seed in &self.seeds {
            progress(&format!("seed {seed}: {} scenarios", scenarios.len()));
            let run = self.run_seed(*seed, &scenarios, &mut progress).await?;
            refused += run.refused;
            outcomes.extend(run.outcomes);
        }
        Ok(MeshReport::new(self.time, self.phase.as_secs(), self.seeds.clone(), outcomes, refused))
    }

    async fn run_seed(&self, seed: u64, scenarios: &[Scenario], progress: &mut impl FnMut(&str)) -> Result<Run, Error> {
        let mut key = [0; 24];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut key);
        let receiver = Receiver::start(key).await?;
        let dir = self.work_dir.join(format!("mesh-{seed}-{:08x}", rand::random::<u32>()));
        let mut server = self.server(&dir, &receiver).await?;
        let api = Api::new(server.addresses().api_url());

        let phase = self.phase.as_secs() * SECOND;
        let start = match self.time {
            Time::Live => now() + self.settle.as_secs() * SECOND,
            Time::Past => now() - phase,
        };
        let mut worlds: Vec<World> = scenarios
            .iter()
            .enumerate()
            .map(|(at, scenario)| {
                let seed = seed.wrapping_mul(1_000_003).wrapping_add(at as u64);
                World::new(scenario.clone(), format!("mesh-{at}"), start, seed)
            })
            .collect();
        let mut markers: Vec<(u64, usize, Deploy)> = Vec::new();
        for (at, scenario) in scenarios.iter().enumerate() {
            for deploy in &scenario.deploys {
                let marked = if self.time == Time::Past { deploy.marked_s.or(Some(0.0)) } else { deploy.marked_s };
                if let Some(marked_s) = marked {
                    let due = start + ((deploy.at_s + marked_s) * SECOND as f64) as u64;
                    markers.push((due, at, *deploy));
                }
            }
        }
        markers.sort_by_key(|(due, at, _)| (*due, *at));

        let mut sender = Sender::open(server.addresses()).await?;
        let mut caught_up = None;
        loop {
            let due = now() - LAG;
            if worlds.iter().any(|world| world.now + 2 * SECOND < due) {
                self.catch_up(&mut worlds, due, &mut sender).await?;
                continue;
            }
            if caught_up.is_none() {
                let spans: u64 = worlds.iter().map(|world| world.spans).sum();
                progress(&format!("caught up with the present: {spans} spans sent, {:.0} s to the start", {
                    (start as f64 - now() as f64) / SECOND as f64
                }));
                caught_up = Some(now());
            }
            sender.send(worlds.iter_mut().map(|world| world.run(due)).collect()).await?;
            let mark_from = match self.time {
                Time::Live => start,
                // What was sent last has been folded, and its traces are closed.
                Time::Past => caught_up.unwrap_or(start) + 15 * SECOND,
            };
            while let Some((due, at, deploy)) = markers.first().copied()
                && now() >= due.max(mark_from)
            {
                markers.remove(0);
                let told = deploy.marked_s == Some(0.0) || self.time == Time::Past;
                let started_at = start + (deploy.at_s * SECOND as f64) as u64;
                api.mark(&worlds[at].environment, &deploy, told.then_some(started_at)).await?;
            }
            let end = (start + phase).max(caught_up.unwrap_or(start)) + TAIL_S * SECOND;
            if now() >= end && markers.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let run = score::read(&api, &worlds, &receiver.take(), seed, self.time == Time::Past).await?;
        server.stop(Duration::from_secs(60)).await?;
        if !self.keep {
            // Nothing but room is lost where it stays.
            let _ = std::fs::remove_dir_all(&dir);
        }
        Ok(run)
    }

    /// Sends a chunk of the past of every mesh.
    async fn catch_up(&self, worlds: &mut [World], due: u64, sender: &mut Sender) -> Result<(), Error> {
        for group in worlds.chunks_mut(CONNECTIONS) {
            let requests = group.iter_mut().map(|world| {
                let until = (world.now + CHUNK).min(due);
                if world.now < until { world.run(until) } else { Vec::new() }
            });
            sender.send(requests.collect()).await?;
        }
        Ok(())
    }

    async fn server(&self, dir: &std::path::Path, receiver: &Receiver) -> Result<Server, Error> {
        std::fs::create_dir_all(dir).map_err(Error::file(dir))?;
        let config = dir.join("plimsoll.yaml");
        let text = format!(
            "memory_limit: 4GiB\nmemory:\n  signals: 1536MiB\nwatch:\n  infer_deploys: {}\nalerts:\n  sinks:\n    \
             - name: mesh\n      type: webhook\n      url: http://{}/events\n      secret: {}\n      allow_private: true\n",
            self.time == Time::Live,
            receiver.address,
            receiver.secret,
        );
        std::fs::write(&config, text).map_err(Error::file(&config))?;
        let mut arguments = vec!["--config".to_owned(), config.display().to_string()];
        arguments.extend(self.arguments.iter().cloned());
        let options = ServerOptions {
            binary: self.binary.clone(),
            data_dir: dir.join("data"),
            addresses: Addresses::free()?,
            cpu: None,
            arguments,
        };
        Server::start(options, Duration::from_secs(60)).await
    }
}

/// Connections to the receiver. Requests of one mesh go one after another, in order; meshes go side by side.
struct Sender {
    connections: Vec<Connection>,
}

impl Sender {
    async fn open(addresses: Addresses) -> Result<Self, Error> {
        let endpoint = Endpoint {
            address: addresses.otlp_grpc,
            protocol: Protocol::Grpc,
            compression: Compression::None,
            timeout: Duration::from_secs(60),
        };
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(endpoint).await.map_err(|problem| Error::Unreachable {
                address: endpoint.address.to_string(),
                problem: problem.to_string(),
            })?);
        }
        Ok(Self { connections })
    }

    async fn send(&mut self, meshes: Vec<Vec<(Signal, Vec<u8>)>>) -> Result<(), Error> {
        let count = self.connections.len();
        let mut dealt: Vec<Vec<(Signal, Vec<u8>)>> = (0..count).map(|_| Vec::new()).collect();
        for (at, requests) in meshes.into_iter().enumerate() {
            dealt[at % count].extend(requests);
        }
        let mut sending: FuturesUnordered<_> = self
            .connections
            .iter_mut()
            .zip(dealt)
            .map(|(connection, requests)| send_until_taken(connection, requests))
            .collect();
        while let Some(sent) = sending.next().await {
            sent?;
        }
        Ok(())
    }
}

/// Sends requests one after another, each until it is taken whole.
///
/// # Errors
/// One is refused for good, or for now during two minutes, or has no answer.
pub(crate) async fn send_until_taken(
    connection: &mut Connection,
    requests: Vec<(Signal, Vec<u8>)>,
) -> Result<(), Error> {
    for (signal, message) in requests {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(PATIENCE_S);
        loop {
            let mut body = BytesMut::zeroed(GRPC_PREFIX_BYTES);
            body.extend_from_slice(&message);
            match connection.send(signal, body).await {
                Ok(Reply::Accepted { rejected: 0 }) => break,
                Ok(Reply::Refused { retryable: true, retry_after, .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(retry_after.unwrap_or(Duration::from_millis(100))).await;
                }
                Ok(Reply::Accepted { rejected }) => {
                    return Err(Error::Refused { signal, problem: format!("{rejected} records rejected") });
                }
                Ok(Reply::Refused { problem, .. }) => return Err(Error::Refused { signal, problem }),
                Err(problem) => return Err(Error::Refused { signal, problem: problem.to_string() }),
            }
        }
    }
    Ok(())
}
