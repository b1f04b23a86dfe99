//! The Postgres protocol, version 3.0: the listener `--postgres`.
//!
//! ```text
//! listener -> startup (password) -> session: message -> command | query engine -> rows -> column (text, binary) -> socket
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `wire.rs`, `reply.rs` | messages of clients and of the server, as bytes |
//! | `connection.rs` | a socket with its buffers and their limits |
//! | `startup.rs`, `scram.rs` | how a session begins, and its password |
//! | `session.rs` | messages in their order, statements, cursors, transactions |
//! | `extended.rs`, `prepared.rs` | the extended protocol, and what it keeps: prepared statements, portals |
//! | `lexer.rs`, `command.rs`, `settings.rs`, `local.rs` | statements about the session |
//! | `values.rs`, `decimal.rs`, `time.rs` | parameters, and forms of single values |
//! | `rows.rs`, `column.rs` | answers |
//! | `cancel.rs` | cancel requests |
//! | `sqlstate.rs` | errors |
//!
//! *Invariants.* Every query goes through the engine's port, with its slots, memory, rows and time. Bytes from outside are
//! checked before they are believed, and what one client or all of them can make the server hold is bounded.

mod cancel;
mod column;
mod command;
mod connection;
mod copy;
mod decimal;
mod declared;
mod extended;
mod introspection;
mod lexer;
mod local;
mod prepared;
mod reply;
mod rows;
mod scram;
mod session;
mod settings;
mod sqlstate;
mod startup;
mod time;
mod values;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_query::SqlEngine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::faces::FaceCounters;
use connection::{Connection, Gone};
use prepared::Kept;
use scram::Verifier;
use session::Session;
use startup::Started;

/// Connections beyond those of sessions, for cancel requests and for being told that there are too many.
const SPARE: usize = 32;
/// KiB that long messages of all connections may hold while they come in.
const ROOM_KIB: usize = 16 << 10;
/// How long statements that are under way may take once the server stops.
const FAREWELL: Duration = Duration::from_secs(4);

/// How the listener behaves.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Sessions at once.
    pub connections_max: usize,
    /// A session that asks nothing for this long is ended.
    pub idle_timeout: Duration,
}

/// Says what keeps the server from answering, in words, where something does.
pub type Starting = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What all sessions share.
struct Shared {
    engine: Arc<dyn SqlEngine>,
    options: PostgresOptions,
    verifier: Option<Verifier>,
    counters: Arc<FaceCounters>,
    starting: Starting,
    sessions: Arc<cancel::Sessions>,
    kept: Arc<Kept>,
    sockets: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// The listener and everything behind it.
pub struct Postgres {
    shared: Arc<Shared>,
}

impl Postgres {
    /// Prepares the face; `token` is the password, where one is asked for.
    pub fn new(
        engine: Arc<dyn SqlEngine>,
        token: Option<&str>,
        options: PostgresOptions,
        counters: Arc<FaceCounters>,
        starting: Starting,
    ) -> Self {
        let shared = Shared {
            engine,
            verifier: token.map(|token| Verifier::new(token, random())),
            counters,
            starting,
            sessions: Arc::default(),
            kept: Arc::default(),
            sockets: Arc::new(Semaphore::new(options.connections_max.saturating_add(SPARE))),
            slots: Arc::new(Semaphore::new(options.connections_max)),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            options,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves until `stop`; statements under way then have a few seconds to end.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let abort = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: others must close first.
                    tracing::warn!(%error, "a connection of the Postgres listener could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(socket) = Arc::clone(&self.shared.sockets).try_acquire_owned() else {
                self.shared.counters.refused.add(1);
                continue;
            };
            let (shared, stop, abort) = (Arc::clone(&self.shared), stop.clone(), abort.clone());
            tasks.spawn(async move {
                abort.run_until_cancelled(serve_one(shared, stream, socket, stop)).await;
            });
        }
        tasks.close();
        if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_err() {
            abort.cancel();
            tasks.wait().await;
        }
    }
}

async fn serve_one(shared: Arc<Shared>, stream: TcpStream, _socket: OwnedSemaphorePermit, stop: CancellationToken) {
    // Answers are written whole: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream, Arc::clone(&shared.room));
    let gone = match startup::start(&shared, &mut connection).await {
        Ok(None) => return,
        Err(gone) => {
            shared.counters.refused.add(1);
            gone
        }
        Ok(Some(Started { entered, settings, slot: _slot })) => {
            let _open = shared.counters.connection();
            let session = Session::new(Arc::clone(&shared), entered, settings);
            Box::pin(session.run(&mut connection, &stop)).await
        }
    };
    if let Gone::Told(problem) = gone {
        tracing::debug!(code = problem.code, message = problem.message, "a connection of the Postgres listener ends");
        connection.farewell(&problem).await;
    }
}

/// Random bytes of the system; zeros, with an error in the log, where it has none.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "no randomness from the system");
    }
    bytes
}
