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
/// What is read of a message that is not taken, so that its client has written it all when it hears so.
const REFUSED_BYTES_MAX: usize = 64 << 20;
/// How long it is read.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// What is still to come of a message that is not taken.
    refused: usize,
}

impl Connection {
    /// Takes a socket; `room` has a permit for each KiB that long messages of all connections may hold.
    pub(super) fn new(stream: TcpStream, room: Arc<Semaphore>) -> Self {
        Self { stream, inbox: BytesMut::new(), out: BytesMut::new(), room, held: None, refused: 0 }
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
            match wire::next(&mut self.inbox) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(malformed) => {
                    self.refused =
                        wire::too_long(&self.inbox).map_or(0, |length| length.saturating_sub(self.inbox.len()));
                    return Err(malformed.into());
                }
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
    /// the words away unread: first the rest of a message that had begun, for a client that finds the connection ended while it
    /// still writes says that, and not why.
    pub(super) async fn farewell(mut self, problem: &Problem) {
        super::reply::error(&mut self.out, problem);
        let mut rest = self.refused.min(REFUSED_BYTES_MAX);
        if rest > 0 {
            let _ = timeout(REFUSED_TIMEOUT, async {
                self.flush().await?;
                while rest > 0 {
                    self.inbox.clear();
                    self.fill().await?;
                    rest = rest.saturating_sub(self.inbox.len());
                }
                Ok::<(), Gone>(())
            })
            .await;
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_message_that_is_too_long_is_read_to_its_end_before_the_connection_closes() {
        const LENGTH: u32 = 5 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepts");
            let mut connection = Connection::new(stream, Arc::new(Semaphore::new(1 << 20)));
            let Err(Gone::Told(problem)) = connection.message().await else { panic!("the message was taken") };
            connection.farewell(&problem).await;
        });
        let (mut reader, mut writer) = TcpStream::connect(address).await.expect("connects").into_split();
        writer.write_all(b"Q").await.expect("written");
        writer.write_all(&LENGTH.to_be_bytes()).await.expect("written");
        let ended = Arc::new(AtomicBool::new(false));
        let told = tokio::spawn({
            let ended = Arc::clone(&ended);
            async move {
                let mut told = Vec::new();
                reader.read_to_end(&mut told).await.expect("read");
                ended.store(true, Ordering::SeqCst);
                told
            }
        });
        let piece = vec![b'x'; 64 << 10];
        let mut left = LENGTH as usize - 4;
        while left > 0 {
            assert!(!ended.load(Ordering::SeqCst), "closed with {left} bytes to come");
            let next = left.min(piece.len());
            writer.write_all(&piece[..next]).await.expect("written");
            left -= next;
            tokio::task::yield_now().await;
        }
        drop(writer);
        let told = String::from_utf8_lossy(&told.await.expect("ends")).into_owned();
        assert!(told.contains("FATAL") && told.contains("at most 2097152 are taken"), "{told}");
        server.await.expect("ends");
    }
}
