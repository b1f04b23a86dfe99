//! Connections of the gRPC listener, counted and bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::faces::{FaceCounters, OpenConnection};
use crate::prompt::Prompt;

/// Connections at once: each carries up to 128 calls.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// The time for a connection's preface.
const PREFACE_TIME: Duration = Duration::from_secs(10);

/// Accepts connections while there are not too many.
pub(super) struct Connections {
    listener: TcpListener,
    counters: Arc<FaceCounters>,
    slots: Arc<Semaphore>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, counters: Arc<FaceCounters>) -> Self {
        Self { listener, counters, slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// Returns connections as they come; one too many is closed at once.
    pub(super) fn stream(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |connections| async move {
            loop {
                let stream = match connections.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, most likely: others must close first.
                        tracing::warn!(%error, "a connection of the gRPC listener could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let Ok(slot) = Arc::clone(&connections.slots).try_acquire_owned() else {
                    connections.counters.refused.add(1);
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let connection = Prompt::new(stream, PREFACE_TIME, (slot, connections.counters.connection()));
                return Some((Ok(connection), connections));
            }
        })
    }
}

/// One connection, with its place.
pub(super) type Connection = Prompt<(OwnedSemaphorePermit, OpenConnection)>;

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream().connect_info()
    }
}
