//! Connections of the gRPC listener, counted and bounded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
                let stream = Prompt::new(stream, PREFACE_TIME);
                let connection = Connection { stream, _slot: slot, _open: connections.counters.connection() };
                return Some((Ok(connection), connections));
            }
        })
    }
}

/// One connection.
pub(super) struct Connection {
    stream: Prompt,
    _slot: OwnedSemaphorePermit,
    _open: OpenConnection,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.stream().connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
