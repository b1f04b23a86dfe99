//! One client's socket: messages in, bytes out, both bounded.
//!
//! *Invariants.* What has come and was not looked at stays below [`AHEAD_BYTES_MAX`], or below one message where that is longer;
//! long messages hold a share of what all connections have together. A client that neither reads nor goes away is cut off after
//! [`WRITE_TIMEOUT`].

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::sqlstate::Problem;
use super::wire::{self, First, Malformed, Message};

/// What is read ahead of a running statement, to notice that its client went away.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// Answers leave in pieces of about this size.
pub(super) const PIECE_BYTES: usize = 32 << 10;
/// Buffers above this size are given back once they are empty.
const KEEP_BYTES: usize = 128 << 10;
/// How long a client may leave what it was sent unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a long message waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Gone {
    /// The client closed it, or the network did.
    Closed,
    /// It is told why.
    Told(Problem),
}

impl From<Malformed> for Gone {
    fn from(malformed: Malformed) -> Self {
        Self::Told(Problem::fatal("08P01", malformed.0))
    }
}

/// One client's socket.
pub(super) struct Connection {
    stream: TcpStream,
    inbox: BytesMut,
    /// What is to be sent.
    pub(super) out: BytesMut,
    room: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Takes a socket; `room` has a permit for each KiB that long messages of all connections may hold.
    pub(super) fn new(stream: TcpStream, room: Arc<Semaphore>) -> Self {
        Self { stream, inbox: BytesMut::new(), out: BytesMut::new(), room, held: None }
    }

    /// Waits for the first message.
    pub(super) async fn first(&mut self) -> Result<First, Gone> {
        loop {
            if let Some(first) = wire::first(&mut self.inbox)? {
                return Ok(first);
            }
            self.fill().await?;
        }
    }

    /// Waits for the next message.
    pub(super) async fn message(&mut self) -> Result<Message, Gone> {
        self.held = None;
        if self.inbox.is_empty() && self.inbox.capacity() > KEEP_BYTES {
            self.inbox = BytesMut::new();
        }
        loop {
            if let Some(message) = wire::next(&mut self.inbox)? {
                return Ok(message);
            }
            if let Some(length) = wire::announced(&self.inbox).filter(|length| *length > AHEAD_BYTES_MAX)
                && self.held.is_none()
            {
                let share = u32::try_from(length.div_ceil(1_024)).unwrap_or(u32::MAX);
                let room = timeout(ROOM_TIMEOUT, Arc::clone(&self.room).acquire_many_owned(share)).await;
                self.held = match room {
                    Ok(Ok(permit)) => Some(permit),
                    _ => {
                        let problem = Problem::fatal("53200", "too many long statements are being received")
                            .hint("try again later");
                        return Err(Gone::Told(problem));
                    }
                };
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Gone> {
        self.inbox.reserve(4 << 10);
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(0) | Err(_) => Err(Gone::Closed),
            Ok(_) => Ok(()),
        }
    }

    /// Waits until the client goes away. Meanwhile what it sends is kept, up to a limit beyond which it is not looked at.
    pub(super) async fn closed(&mut self) {
        while self.inbox.len() < AHEAD_BYTES_MAX {
            if self.fill().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Sends what was written.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = timeout(WRITE_TIMEOUT, self.stream.write_all(&self.out)).await;
        if self.out.capacity() > KEEP_BYTES {
            self.out = BytesMut::new();
        } else {
            self.out.clear();
        }
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone::Closed),
        }
    }

    /// Says why the connection ends, and ends it. What the client sent meanwhile is read, so that its system does not throw
    /// the words away unread.
    pub(super) async fn farewell(mut self, problem: &Problem) {
        super::reply::error(&mut self.out, problem);
        let _ = timeout(Duration::from_secs(1), async {
            self.flush().await?;
            let _ = self.stream.shutdown().await;
            loop {
                self.inbox.clear();
                self.fill().await?;
            }
            #[allow(unreachable_code)]
            Ok::<(), Gone>(())
        })
        .await;
    }
}
