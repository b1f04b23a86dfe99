//! One accepted connection: its share of the transport's memory, and a limit on how long it may take to say what it wants.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::options::WINDOW_BYTES_MIN;
use crate::seat::Seat;

/// What an HTTP/2 client sends before anything else.
const PREFACE_LEN: usize = 24;

/// How many streams fit a connection's window, each with all that it may send unread: so many of a wide one, and two at the least.
const STREAMS_BEGUN: u32 = 8;

/// What a stream may send unread if two of them fit: a distant client gets no more than this through in a round trip.
const STREAM_BYTES: u32 = 256 << 10;

/// The receive windows of all connections together.
///
/// *Invariant.* The windows granted never exceed the capacity by more than the smallest window a connection.
#[derive(Debug)]
pub(crate) struct Windows {
    free: AtomicUsize,
}

impl Windows {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(capacity) })
    }

    /// Grants a connection a quarter of what is left, `most` at the most: the first few connections are given all they can use, and
    /// a thousand of them cannot buffer gigabytes.
    pub(crate) fn grant(self: &Arc<Self>, most: u32) -> Window {
        // Relaxed: the number stands for itself.
        let free = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| Some(free - share(free, most)));
        let taken = share(free.unwrap_or(0), most);
        Window { windows: Arc::clone(self), taken }
    }
}

fn share(free: usize, most: u32) -> usize {
    (free / 4).min(most as usize)
}

/// The concurrent streams of all connections together.
///
/// *Why.* A stream takes memory from its headers on, and a client that reads no answers keeps it. A thousand connections of a hundred
/// streams each would take hundreds of megabytes that nobody reserved.
#[derive(Debug)]
pub(crate) struct Streams {
    free: AtomicUsize,
}

/// Streams that a connection may have at the least.
pub const STREAMS_MIN: u32 = 16;

/// The part of the streams left that a connection is granted.
const STREAMS_PART: usize = 32;

impl Streams {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(capacity) })
    }

    /// Grants a connection a part of what is left, `most` at the most.
    pub(crate) fn grant(self: &Arc<Self>, most: u32) -> StreamGrant {
        let part = |free: usize| (free / STREAMS_PART).min(most as usize);
        // Relaxed: the number stands for itself.
        let free = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| Some(free - part(free)));
        let taken = part(free.unwrap_or(0));
        StreamGrant { streams: Arc::clone(self), taken, least: STREAMS_MIN.min(most) }
    }
}

/// One connection's streams, until dropped.
#[derive(Debug)]
pub(crate) struct StreamGrant {
    streams: Arc<Streams>,
    taken: usize,
    least: u32,
}

impl StreamGrant {
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.taken).unwrap_or(u32::MAX).max(self.least)
    }
}

impl Drop for StreamGrant {
    fn drop(&mut self) {
        self.streams.free.fetch_add(self.taken, Ordering::Relaxed);
    }
}

/// One connection's window, until dropped.
#[derive(Debug)]
pub(crate) struct Window {
    windows: Arc<Windows>,
    taken: usize,
}

impl Window {
    pub(crate) fn bytes(&self) -> u32 {
        u32::try_from(self.taken).unwrap_or(u32::MAX).clamp(WINDOW_BYTES_MIN, i32::MAX as u32)
    }

    /// Returns what one stream may have sent before anyone read it, `most` at the most: a part of the connection's window.
    pub(crate) fn stream_bytes(&self, most: u32) -> u32 {
        let whole = self.bytes();
        (whole / STREAMS_BEGUN).max((whole / 2).min(STREAM_BYTES)).min(most)
    }

    /// Returns the peer `number`, which speaks on this connection.
    pub(crate) fn peer(&self, number: usize, stream_bytes_most: u32) -> Peer {
        let stream_bytes = self.stream_bytes(stream_bytes_most);
        let unread_max = self.bytes().saturating_sub(stream_bytes).max(stream_bytes);
        Peer { number, stream_bytes: stream_bytes as usize, unread_max: unread_max as usize, quiet: false }
    }
}

/// Who sends a request: a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// A number that no other connection has, as a rule.
    pub(crate) number: usize,
    /// What one of its requests may have sent before anyone read it.
    pub(crate) stream_bytes: usize,
    /// The same for all of its requests that wait for room.
    ///
    /// What was sent of a request that waits stays unread, in the connection's window. Were the window full of such requests,
    /// those that were given room could not send the rest of theirs, and would keep the room from the ones that wait: everybody
    /// would wait for everybody. So some of the window is left, and the next request that would have to wait is refused at once.
    pub(crate) unread_max: usize,
    /// Sends far less than its share: its turn comes first.
    pub(crate) quiet: bool,
}

impl Peer {
    /// Returns how much of a body of `wire` bytes stays unread while it waits.
    pub(crate) fn unread(&self, wire: usize) -> usize {
        wire.min(self.stream_bytes)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.windows.free.fetch_add(self.taken, Ordering::Relaxed);
    }
}

/// A stream that fails if an HTTP/2 preface or the headers of an HTTP/1 request take too long from their first byte, and if that takes too
/// long to come on a new connection. hyper has one limit for the headers and for the wait for them, which is a long one, and none for the preface.
#[derive(Debug)]
pub(crate) struct Prompt {
    stream: TcpStream,
    seat: Arc<Seat>,
    read: usize,
    /// The first bytes, which tell the protocols apart.
    head: [u8; PREFACE_BEGINS.len()],
    limit: Duration,
    patience: Pin<Box<Sleep>>,
    /// While it is waited for something: how many requests there were when that began.
    waits: Option<usize>,
}

/// No method of HTTP/1 begins like this.
const PREFACE_BEGINS: &[u8; 4] = b"PRI ";

impl Prompt {
    pub(crate) fn new(stream: TcpStream, seat: Arc<Seat>, limit: Duration) -> Self {
        let patience = Box::pin(tokio::time::sleep(limit));
        Self { stream, seat, read: 0, head: [0; PREFACE_BEGINS.len()], limit, patience, waits: Some(0) }
    }

    /// Takes note of bytes that came.
    fn came(&mut self, bytes: &[u8]) {
        if let Some(head) = self.head.get_mut(self.read..) {
            head.iter_mut().zip(bytes).for_each(|(head, byte)| *head = *byte);
        }
        self.read += bytes.len();
        if &self.head == PREFACE_BEGINS {
            if self.read >= PREFACE_LEN {
                self.waits = None;
            }
        } else if self.waits.is_none() && !self.seat.is_busy() {
            // The next request begins.
            self.waits = Some(self.seat.requests_total());
            self.patience.as_mut().reset(Instant::now() + self.limit);
        }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.waits.is_some_and(|requests| this.seat.requests_total() != requests) {
            this.waits = None;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        match polled {
            Poll::Ready(_) => this.came(&buf.filled()[before..]),
            Poll::Pending if this.waits.is_some() && this.patience.as_mut().poll(cx).is_ready() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => {}
        }
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_as_connections_come_and_are_given_back() {
        let windows = Windows::new(64 << 20);
        let granted: Vec<_> = (0..1_000).map(|_| windows.grant(24 << 20)).collect();
        assert_eq!(granted[0].bytes(), 16 << 20);
        assert_eq!(granted[999].bytes(), WINDOW_BYTES_MIN);
        assert!(granted.iter().map(|window| window.taken).sum::<usize>() <= 64 << 20);
        drop(granted);
        assert_eq!(windows.grant(8 << 20).bytes(), 8 << 20);
    }

    #[test]
    fn a_few_connections_may_have_many_streams_each_and_a_thousand_only_a_few() {
        let streams = Streams::new(8_192);
        let granted: Vec<_> = (0..1_024).map(|_| streams.grant(128)).collect();
        assert!(granted[..32].iter().all(|one| one.count() == 128));
        assert_eq!(granted[1_023].count(), STREAMS_MIN);
        assert!(granted.iter().map(StreamGrant::count).sum::<u32>() <= 8_192 + 1_024 * STREAMS_MIN);
        drop(granted);
        assert_eq!(streams.grant(128).count(), 128);
        assert_eq!(Streams::new(0).grant(4).count(), 4, "no more than was asked for");
    }
}
