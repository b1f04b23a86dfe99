//! Wiring: opens the stages in the order in which they depend on each other, and closes them in reverse.
//!
//! ```text
//! catalog -> journal -> store (folds into signals) -> watcher, query engine, alerts -> API -> receivers (replay, then open)
//! ```
//!
//! *Invariants.* The receivers open last and close first: whatever they acked is drained through every stage behind them.

mod descriptors;
mod fatal;
mod listener;
mod memory;
mod opening;
mod options;
mod recalling;
pub mod shutdown;
mod signals;
mod stages;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use plimsoll_alert::{AlertOptions, Deliverer};
use plimsoll_catalog::{Catalog, CatalogError, SqliteCatalog};
use plimsoll_ingest::{FingerprintOptions, Fingerprints, Ingest, IngestError};
use plimsoll_journal::{Journal, JournalOptions, LocalJournal, ReplayError};
use plimsoll_model::{SequenceNumber, UnixNanos};
use plimsoll_query::{DataFusionEngine, QueryError, SqlEngine};
use plimsoll_store::{Clock, Store, StoreError};
use plimsoll_watch::{WatchOptions, Watcher};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::allocator;
use crate::api::{self, ApiState, BrokenOff, Health, Reason};
use crate::config::Config;
use crate::faces::Faces;
use crate::flight::FlightFace;
use crate::grpc;
use crate::postgres::{Postgres, PostgresOptions};
use fatal::Fatal;
pub use memory::Resident;
use opening::Opening;
pub use stages::Stages;

/// How long calls that are under way may take once the server stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where the server listens: what was asked for, with the port that a zero became.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// OTLP/gRPC.
    pub otlp_grpc: SocketAddr,
    /// OTLP/HTTP.
    pub otlp_http: SocketAddr,
    /// REST, SQL, metrics, web page.
    pub api: SocketAddr,
    /// `plimsoll.v1`, Flight SQL.
    pub grpc_api: SocketAddr,
    /// The Postgres protocol, where it is on.
    pub postgres: Option<SocketAddr>,
}

/// A running server.
pub struct Server {
    addresses: Addresses,
    stages: Arc<Stages>,
    health: Arc<Health>,
    fatal: Arc<Fatal>,
    /// Has who waits for something answered; first of all.
    stopping: CancellationToken,
    /// Stops watcher and alerts.
    stop_work: CancellationToken,
    /// Stops the API, last.
    stop_faces: CancellationToken,
    work: Vec<JoinHandle<()>>,
    faces: Vec<JoinHandle<()>>,
}

/// Why the server could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be used.
    #[error("data directory `{path}`: {source}; make it writable, or choose another with `--data-dir`")]
    DataDir {
        /// The directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`: {source}; stop what listens there, or choose another address with `{flag}`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// See the message.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// See the message.
    #[error(transparent)]
    Journal(#[from] ReplayError),
    /// See the message.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See the message.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// See the message.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The process may not have enough files open.
    #[error(
        "the process may have {limit} files open, and needs {least} at the least: raise `ulimit -n`, or set `postgres.connections_max` ({postgres}) lower"
    )]
    Descriptors {
        /// How many it may.
        limit: u64,
        /// How many it needs.
        least: u64,
        /// Sessions of the Postgres protocol among them.
        postgres: usize,
    },
    /// The alert sinks make no sense.
    #[error("{0}")]
    Alerts(String),
    /// The journal could not be replayed.
    #[error("the journal could not be replayed: {0}")]
    Replay(String),
}

impl Server {
    /// Opens every stage and starts listening. Returns once telemetry is taken.
    ///
    /// # Errors
    /// A stage cannot be opened; the message says what to change. Nothing is left running.
    pub async fn start(mut config: Config) -> Result<Self, ServeError> {
        descriptors::fit(&mut config)?;
        let clock: Clock = Arc::new(now);
        let data_dir = config.data_dir.clone();
        std::fs::create_dir_all(&data_dir).map_err(|source| data_dir_error(&data_dir, source))?;
        // First of all, so that a port in use is said before anything is replayed.
        let api_listener = bind(config.listen.api, "--api").await?;
        let grpc_listener = bind(config.listen.grpc_api, "--grpc-api").await?;
        let postgres_listener = match config.listen.postgres {
            Some(address) => Some(bind(address, "--postgres").await?),
            None => None,
        };
        let postgres_address = postgres_listener.as_ref().zip(config.listen.postgres).map(|(l, asked)| local(l, asked));
        let api_address = local(&api_listener, config.listen.api);
        let grpc_address = local(&grpc_listener, config.listen.grpc_api);

        let (journal, catalog) = open_durable(&config).await?;
        let aggregates = signals::state(config.memory.signals, &config.watch);
        let fingerprints = open_fingerprints(&config, &clock)?;
        let (trimmed, remembered) = (journal.clone(), fingerprints.clone());
        let store = Store::open(
            options::store(&config),
            catalog.clone(),
            Box::new(signals::Folding(aggregates.clone())),
            Box::new(move |through: SequenceNumber| {
                // On the thread that has just sorted and encoded a whole tail.
                allocator::let_go();
                // Frames that stay in the journal are looked for there, so only those about to go have to be saved.
                // Nothing to trim now is left for the next checkpoint: a file that becomes one to trim this very moment must not go unsaved.
                if !trimmed.would_trim(through) {
                    return;
                }
                remembered.save(through);
                if let Err(error) = trimmed.trim(through) {
                    tracing::warn!(%error, "the journal could not be trimmed; it is tried again at the next checkpoint");
                }
            }),
            clock.clone(),
        )
        .await?;
        signals::recover(&aggregates, &store, now()).await?;

        let embedded = Arc::new(DataFusionEngine::with_journal(
            store.clone(),
            catalog.clone(),
            options::query(&config),
            Some(options::journal(&journal)),
        )?);
        let engine: Arc<dyn SqlEngine> = embedded.clone();
        let ui_base = config.public_url.clone().unwrap_or_else(|| format!("http://{api_address}"));
        let sinks = config.sinks.clone();
        let watcher = Watcher::start(
            WatchOptions {
                interval: config.watch.interval,
                infer_deploys: config.watch.infer_deploys,
                tolerances: config.watch.tolerances.clone(),
                audience: Some(Arc::new(move |service| {
                    sinks.iter().filter(|sink| sink.hears_of(service)).map(|sink| sink.name.clone()).collect()
                })),
                ui_base,
                judged_per_tick: 256,
                sessions_bytes_max: options::usize_of(config.memory.verdicts),
                keep_evidence: Some(options::evidence(&config)),
            },
            catalog.clone(),
            Arc::new(recalling::Recalling::new(aggregates.clone(), store.clone())),
            clock.clone(),
            Arc::new(entropy),
        )
        .await?;
        let watcher = Arc::new(watcher);
        let alerts = Deliverer::new(
            AlertOptions { sinks: config.sinks.clone(), ..AlertOptions::default() },
            catalog.clone(),
            clock.clone(),
        )
        .map_err(|error| ServeError::Alerts(error.to_string()))?;
        let stages = Arc::new(Stages {
            ingest: OnceLock::new(),
            alerts: Arc::new(alerts),
            fingerprints,
            resident: Arc::default(),
            faces: Faces::default(),
            journal: journal.clone(),
            store: store.clone(),
            watcher: watcher.clone(),
            aggregates: aggregates.clone(),
            replayed: OnceLock::new(),
        });

        let health = Arc::new(Health::default());
        health.set(Reason::Starting, Some("the server is starting".to_owned()));
        let engine: Arc<dyn SqlEngine> = Arc::new(Opening { engine, health: health.clone() });
        let (stopping, stop_faces) = (CancellationToken::new(), CancellationToken::new());
        let token: Option<Arc<str>> = config.api_token.as_deref().map(Arc::from);
        let state = ApiState {
            catalog: catalog.clone(),
            watcher: watcher.clone(),
            engine: engine.clone(),
            health: health.clone(),
            stages: stages.clone(),
            tolerances: config.watch.tolerances.clone(),
            past: Arc::new(signals::past_room(embedded, config.memory.query)),
            broken_off: Arc::new(BrokenOff::default()),
            stopping: stopping.clone(),
            token: token.clone(),
        };
        let flight = FlightFace::new(engine.clone(), token.clone(), stages.faces.grpc.clone());
        let grpc_api =
            grpc::GrpcApi { catalog, watcher, flight, counters: stages.faces.grpc.clone(), stopping: stopping.clone() };
        let mut faces = vec![
            spawn_api(api_listener, api::router(state), stop_faces.clone()),
            spawn_grpc(grpc_listener, grpc_api, token, stop_faces.clone()),
        ];
        if let Some(listener) = postgres_listener {
            let health = health.clone();
            let postgres = Postgres::new(
                engine,
                config.api_token.as_deref(),
                PostgresOptions {
                    connections_max: config.postgres.connections_max,
                    idle_timeout: config.postgres.idle_timeout,
                },
                stages.faces.postgres.clone(),
                Arc::new(move || health.starting()),
            );
            faces.push(tokio::spawn(postgres.serve(listener, stop_faces.clone())));
        }

        let stop_work = CancellationToken::new();
        let fatal = Arc::new(Fatal::default());
        let mut server = Self {
            addresses: Addresses {
                otlp_grpc: config.listen.otlp_grpc,
                otlp_http: config.listen.otlp_http,
                api: api_address,
                grpc_api: grpc_address,
                postgres: postgres_address,
            },
            stages,
            health,
            fatal,
            stopping,
            stop_work,
            stop_faces,
            work: Vec::new(),
            faces,
        };
        if let Err(error) = server.open_receivers(&config, clock).await {
            let _ = server.stop().await;
            return Err(error);
        }
        Ok(server)
    }

    /// Replays the journal, then lets telemetry in and the work behind it begin.
    async fn open_receivers(&mut self, config: &Config, clock: Clock) -> Result<(), ServeError> {
        self.health.set(Reason::Replaying, Some("the journal is being replayed".to_owned()));
        let fatal = self.fatal.clone();
        let journal: Arc<dyn Journal> = self.stages.journal.clone();
        let options = options::ingest(config, self.stages.fingerprints.clone());
        let ingest =
            Ingest::start(options, journal, self.stages.store.clone(), clock, move |reason| fatal.set(reason)).await?;
        let ingest = Arc::new(ingest);
        let _ = self.stages.ingest.set(ingest.clone());
        let addresses = ingest.local_addrs();
        self.addresses.otlp_grpc = addresses.otlp_grpc;
        self.addresses.otlp_http = addresses.otlp_http;
        let (resident, stop) = (self.stages.resident.clone(), self.stop_work.clone());
        self.work.push(tokio::spawn(memory::watch(config.memory.limit, resident, ingest.clone(), stop)));
        let replayed = ingest.replayed().await.map_err(ServeError::Replay)?;
        let _ = self.stages.replayed.set(replayed);
        self.stages.store.folded().await;
        self.stages.store.give_way();
        self.health.set(Reason::Replaying, None);

        let (watcher, stop) = (self.stages.watcher.clone(), self.stop_work.clone());
        self.work.push(tokio::spawn(async move { watcher.run(stop.cancelled()).await }));
        let (alerts, stop) = (self.stages.alerts.clone(), self.stop_work.clone());
        self.work.push(tokio::spawn(async move { alerts.run(stop.cancelled()).await }));
        let (alerts, mut changes, stop) =
            (self.stages.alerts.clone(), self.stages.watcher.changes(), self.stop_work.clone());
        self.work.push(tokio::spawn(async move {
            // An event that was just stored is delivered at once instead of at the next look.
            while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
                alerts.notify();
            }
        }));
        self.health.set(Reason::Starting, None);
        let postgres = self.addresses.postgres.map_or_else(|| "off".to_owned(), |address| address.to_string());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), data_dir = %config.data_dir.display(), otlp_grpc = %self.addresses.otlp_grpc, otlp_http = %self.addresses.otlp_http, api = %self.addresses.api,
            grpc_api = %self.addresses.grpc_api, %postgres, replayed_frames = replayed.journal.frames, "ready"
        );
        Ok(())
    }

    /// Returns where the server listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Returns the stages.
    pub fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Waits for a failure after which nothing can be acked any more, and returns its reason.
    pub async fn fatal(&self) -> String {
        self.fatal.wait().await
    }

    /// Stops in order: receivers drain, the work behind them finishes, the tail is flushed, the API closes. The data directory
    /// is free for the next server then.
    ///
    /// # Errors
    /// The last flush failed; the journal holds what it would have written.
    pub async fn stop(self) -> Result<(), ServeError> {
        self.health.set(Reason::Draining, Some("the server is stopping".to_owned()));
        self.stopping.cancel();
        if let Some(ingest) = self.stages.ingest() {
            ingest.drain().await;
        }
        self.stop_work.cancel();
        for task in self.work {
            let _ = task.await;
        }
        let flushed = self.stages.store.close().await;
        // So that the next start need not look for them in the journal; only what a replay has looked at can be said to be saved.
        if self.stages.replayed.get().is_some() {
            self.stages.fingerprints.save(self.stages.store.checkpoint());
        }
        self.stop_faces.cancel();
        // All at once: those with an open stream take all the time there is.
        let deadline = tokio::time::Instant::now() + FAREWELL;
        for mut task in self.faces {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
        // Whoever still reads a counter somewhere must not hold the directory.
        self.stages.journal.close();
        tracing::info!("stopped");
        Ok(flushed?)
    }
}

async fn open_durable(config: &Config) -> Result<(Arc<LocalJournal>, Arc<dyn Catalog>), ServeError> {
    let catalog = SqliteCatalog::open(config.data_dir.join("catalog.db")).await?;
    let options = JournalOptions {
        file_bytes_max: config.store.journal_file,
        numbers_taken: catalog.checkpoint().await?,
        entropy: entropy() as u64,
        ..JournalOptions::new(config.data_dir.join("journal"))
    };
    // Reading a large log takes a while, and the listeners answer meanwhile.
    let journal = tokio::task::spawn_blocking(move || LocalJournal::open(options)).await;
    let journal = journal.map_err(|error| ServeError::Replay(error.to_string()))??;
    Ok((Arc::new(journal), Arc::new(catalog)))
}

fn open_fingerprints(config: &Config, clock: &Clock) -> Result<Arc<Fingerprints>, ServeError> {
    let dir = config.data_dir.join("fingerprints");
    let options = FingerprintOptions {
        dir: dir.clone(),
        window: config.ingest.retry_window,
        bytes: options::usize_of(config.memory.retries),
        entropy: entropy() as u64,
        clock: clock.clone(),
    };
    Fingerprints::open(options).map_err(|source| data_dir_error(&dir, source))
}

fn spawn_api(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(listener::serve(listener, router, listener::Limits::default(), stop))
}

fn spawn_grpc(
    listener: TcpListener,
    api: grpc::GrpcApi,
    token: Option<Arc<str>>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = grpc::serve(api, token, listener, stop.cancelled_owned()).await {
            tracing::error!(%error, "the gRPC API stopped listening");
        }
    })
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, flag, source })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

fn data_dir_error(path: &Path, source: std::io::Error) -> ServeError {
    ServeError::DataDir { path: path.display().to_string(), source }
}

fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn entropy() -> u128 {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // Ids stay unique within the process through their time part.
        tracing::error!(%error, "no randomness from the system");
    }
    u128::from_le_bytes(bytes)
}
