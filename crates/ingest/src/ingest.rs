//! The whole of ingest: started, watched and drained as one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_journal::Journal;
use plimsoll_store::Clock;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::server::HealthReporter;

use crate::answers::answers;
use crate::budget::Budget;
use crate::bundle::Bundle;
use crate::committer::{Committer, OnFatal};
use crate::connection::Windows;
use crate::counters::Counters;
use crate::expansion::Expansion;
use crate::gate::{Gate, Readiness};
use crate::grpc::GrpcFace;
use crate::health;
use crate::http::HttpFace;
use crate::joined::{self, Joined};
use crate::lanes::Lanes;
use crate::listener::{Acceptor, Face};
use crate::options::IngestOptions;
use crate::pipeline::{Limits, Pipeline};
use crate::replay::ReplaySummary;
use crate::seat::Seats;
use crate::share::Shares;
use crate::sink::Sink;
use crate::turnstile::Turnstile;

/// How often the store is asked how full it is when no commit asks.
const LOAD_INTERVAL: Duration = Duration::from_millis(50);

/// How long bodies that are on their way may take once ingest drains.
const BODY_FAREWELL: Duration = Duration::from_secs(1);

/// How long connections may take to send their last answers once every request has one.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why ingest could not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The options contradict themselves.
    #[error("{}", .0.join("; "))]
    Options(Vec<String>),
    /// An address could not be listened on.
    #[error("cannot listen on `{address}`: {source}; stop what listens there, or choose another address with `{flag}`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Where ingest listens: what was asked for, with the port that a zero became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddrs {
    /// OTLP/gRPC.
    pub otlp_grpc: SocketAddr,
    /// OTLP/HTTP.
    pub otlp_http: SocketAddr,
}

/// Gauges of ingest right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestStatus {
    /// Whether requests are taken, and if not, why.
    pub readiness: Readiness,
    /// Bytes of the in-flight budget that are taken.
    pub in_flight_bytes: u64,
    /// Bytes of it that are out of use: see [`Ingest::withhold`].
    pub withheld_bytes: u64,
    /// True while, and for ten seconds after, all connections that may be open were and another one came.
    pub connections_short: bool,
    /// Requests that wait for the committer.
    pub queued: usize,
    /// How long each request of a connection that sends much is held up, because rows come in faster than they are written.
    pub pace: Duration,
}

/// The receivers, the lanes and the committer. Listeners run on the runtime that [`Ingest::start`] was called on.
pub struct Ingest {
    addrs: LocalAddrs,
    counters: Arc<Counters>,
    gate: Arc<Gate>,
    budget: Arc<Budget>,
    lanes: Arc<Lanes<Bundle>>,
    joined: Arc<Joined>,
    replayed: watch::Receiver<Option<Result<ReplaySummary, String>>>,
    acceptor: Acceptor,
    /// Ends the reading of bodies.
    hurry: CancellationToken,
    background: TaskTracker,
    committer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Ingest {
    /// Opens the listeners and starts to replay what `journal` holds after the sink's checkpoint; until that is done, requests
    /// are refused retryably. `on_fatal` is called once, from any thread, when nothing can be acknowledged any more.
    ///
    /// # Errors
    /// The options contradict themselves, an address is taken, or a thread cannot be started.
    pub async fn start(
        options: IngestOptions,
        journal: Arc<dyn Journal>,
        sink: impl Sink,
        clock: Clock,
        on_fatal: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, IngestError> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(IngestError::Options(problems));
        }
        let (grpc, otlp_grpc) = bind(options.otlp_grpc, "--otlp-grpc").await?;
        let (http, otlp_http) = bind(options.otlp_http, "--otlp-http").await?;

        let sink: Arc<dyn Sink> = Arc::new(sink);
        let counters = Arc::new(Counters::default());
        let gate = Arc::new(Gate::new());
        let budget = Budget::new(options.in_flight_bytes);
        let lanes = Arc::new(Lanes::new(options.lanes, options.lane_depth));
        let bytes = options.joined_bytes.min(options.group_bytes_max);
        let joined = Arc::new(Joined::new(options.lanes, joined::Limits { requests: options.lane_depth, bytes }));
        let (answers, answering) = answers();
        let (replayed_sender, replayed) = watch::channel(None);
        let on_fatal: OnFatal = Arc::new(on_fatal);
        let tail_bytes_max = options.tail_bytes_max as u64;
        let committer = Committer {
            journal: Arc::clone(&journal),
            sink: Arc::clone(&sink),
            lanes: Arc::clone(&lanes),
            joined: Arc::clone(&joined),
            answers,
            gate: Arc::clone(&gate),
            counters: Arc::clone(&counters),
            fingerprints: Arc::clone(&options.fingerprints),
            group_bytes_max: options.group_bytes_max,
            tail_bytes_max,
            replayed: Arc::new(replayed_sender),
            on_fatal: Arc::clone(&on_fatal),
        };
        let committer = std::thread::Builder::new()
            .name("plimsoll-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(IngestError::Thread)?;

        let hurry = CancellationToken::new();
        let shares = Arc::new(Shares::new());
        let seats = Seats::new(options.connections_max, Arc::clone(&shares));
        let pipeline = Arc::new(Pipeline {
            shares,
            seats: Arc::clone(&seats),
            counters: Arc::clone(&counters),
            gate: Arc::clone(&gate),
            budget: Arc::clone(&budget),
            lanes: Arc::clone(&lanes),
            joined: Arc::clone(&joined),
            clock,
            limits: Limits {
                request_bytes_max: options.request_bytes_max,
                requests_max: options.requests_max as u64,
                inline_bytes_max: options.inline_bytes_max,
                joined_bytes_max: options.joined_bytes_max,
                park: options.park,
                body_timeout: options.body_timeout,
                stall_timeout: options.stall_timeout,
                body_grace: options.body_grace,
                ahead_bytes: options.ahead_bytes(),
            },
            hurry: hurry.clone(),
            expansion: Expansion::new(),
            fingerprints: Arc::clone(&options.fingerprints),
            inline: Turnstile::new(options.lanes),
            large: Turnstile::new(options.lanes),
            swelling: Turnstile::new(1),
        });
        let reporter = HealthReporter::new();
        // Before the first connection: nothing is served while the replay runs.
        health::report(&reporter, gate.readiness().is_ready()).await;
        let acceptor = Acceptor {
            windows: Windows::new(options.transport_bytes),
            seats,
            options: Arc::new(options),
            counters: Arc::clone(&counters),
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        let background = TaskTracker::new();
        background.spawn(answering.run());
        let side = health::side_services(reporter.clone());
        let grpc_face = Face::Grpc(Arc::new(GrpcFace { pipeline: Arc::clone(&pipeline), side }));
        background.spawn(acceptor.clone().run(grpc, grpc_face));
        background.spawn(acceptor.clone().run(http, Face::Http(Arc::new(HttpFace { pipeline }))));
        {
            let (gate, abort) = (Arc::clone(&gate), acceptor.abort.clone());
            background.spawn(async move {
                tokio::select! {
                    () = abort.cancelled() => {}
                    () = health::follow(&gate, reporter) => {}
                }
            });
        }
        {
            let (gate, abort) = (Arc::clone(&gate), acceptor.abort.clone());
            background.spawn(async move {
                let mut tick = tokio::time::interval(LOAD_INTERVAL);
                while abort.run_until_cancelled(tick.tick()).await.is_some() {
                    gate.load(sink.load(), tail_bytes_max);
                    let problem = match () {
                        () if journal.status().poisoned => "the journal failed and takes no more writes",
                        () if !journal.is_intact() => "the journal was removed from under the process",
                        () => continue,
                    };
                    if gate.poison() {
                        on_fatal(problem);
                    }
                }
            });
        }
        let addrs = LocalAddrs { otlp_grpc, otlp_http };
        let committer = Mutex::new(Some(committer));
        Ok(Self { addrs, counters, gate, budget, lanes, joined, replayed, acceptor, hurry, background, committer })
    }

    /// Returns where the listeners are.
    pub fn local_addrs(&self) -> LocalAddrs {
        self.addrs
    }

    /// Returns what is counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Returns the gauges.
    pub fn status(&self) -> IngestStatus {
        IngestStatus {
            readiness: self.gate.readiness(),
            in_flight_bytes: self.budget.used(),
            withheld_bytes: self.budget.withheld(),
            connections_short: self.acceptor.seats.was_short(),
            queued: self.lanes.len() + self.joined.len(),
            pace: self.gate.pace(),
        }
    }

    /// Takes `bytes` of the in-flight budget out of use, three quarters of it at the most, and lowers the tail's limit by as much, to half at
    /// the least, until called again with fewer: for when the process takes more memory than it should.
    pub fn withhold(&self, bytes: usize) {
        self.gate.press(bytes as u64);
        self.budget.withhold(bytes);
    }

    /// Returns what every change of readiness can be awaited on.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.gate.watch()
    }

    /// Waits until the journal has been replayed: from then on requests are taken.
    ///
    /// # Errors
    /// What went wrong, in words; `on_fatal` was called with the same.
    pub async fn replayed(&self) -> Result<ReplaySummary, String> {
        let mut replayed = self.replayed.clone();
        match replayed.wait_for(Option::is_some).await {
            Ok(done) => done.clone().unwrap_or_else(|| Err("the replay did not finish".to_owned())),
            Err(_) => Err("the committer stopped unexpectedly".to_owned()),
        }
    }

    /// Takes nothing new, answers everything that was begun, and stops. The journal and the sink are left open. Calling it again
    /// changes nothing.
    ///
    /// Bodies that are still arriving have a second left; then they are refused retryably.
    pub async fn drain(&self) {
        let mut committer = self.committer.lock().await;
        self.gate.drain();
        self.acceptor.stop.cancel();
        self.acceptor.connections.close();
        // Requests first: a health watch or an idle connection must not hold up the rest. Bodies that do not arrive must not either.
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let answered = async {
            while self.counters.in_progress.get() > 0 {
                tick.tick().await;
            }
        };
        tokio::pin!(answered);
        if tokio::time::timeout(BODY_FAREWELL, answered.as_mut()).await.is_err() {
            self.hurry.cancel();
            answered.await;
        }
        let _ = tokio::time::timeout(FAREWELL, self.acceptor.connections.wait()).await;
        self.acceptor.abort.cancel();
        self.acceptor.connections.wait().await;
        self.lanes.close();
        if let Some(committer) = committer.take() {
            let joined = tokio::task::spawn_blocking(move || committer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the committer did not stop in order");
            }
        }
        self.background.close();
        self.background.wait().await;
    }
}

impl Drop for Ingest {
    /// Without [`Ingest::drain`], everything stops at once; what was acknowledged is durable.
    fn drop(&mut self) {
        self.gate.drain();
        self.hurry.cancel();
        self.acceptor.stop.cancel();
        self.acceptor.abort.cancel();
        self.lanes.close();
    }
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), IngestError> {
    let fail = |source| IngestError::Bind { address, flag, source };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}
