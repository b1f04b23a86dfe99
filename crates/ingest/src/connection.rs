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

/// A connection's part of what is left of all windows.
const WINDOW_PART: usize = 16;

/// How many streams share a connection's window in equal parts: one for each so many bytes, within bounds.
///
/// *Why.* A distant client gets a part through in a round trip. Two streams of 32 KiB carry as much together as eight of 8 KiB, and a single request
/// four times as much. Two, so that one that stays open (a health watch) leaves one for exports.
const STREAM_BYTES: u32 = 32 << 10;
const PARTS_MIN: u32 = 2;
const PARTS_MAX: u32 = 32;

/// Concurrent streams that a connection may have at the least.
pub const STREAMS_MIN: u32 = PARTS_MIN;

/// What a connection may read at a stretch, before all others on its thread had their turn.
///
/// *Why.* A flood keeps the socket of each of its connections full. Were each read until it is empty, whoever sends little would wait for
/// megabytes of every other one, and several times a request: for its headers, for its body, and for its ack.
const STRETCH_BYTES: usize = 128 << 10;

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

    /// Grants a connection a sixteenth of what is left, `most` at the most: a few dozen connections are given windows of the same kind, and
    /// a thousand of them cannot buffer gigabytes.
    pub(crate) fn grant(self: &Arc<Self>, most: u32) -> Window {
        // Relaxed: the number stands for itself.
        let free = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| Some(free - share(free, most)));
        let taken = share(free.unwrap_or(0), most);
        Window { windows: Arc::clone(self), taken }
    }

    /// Grants the smallest window, which leaves all others what they have: for a connection that hardly ever speaks HTTP/2.
    pub(crate) fn least(self: &Arc<Self>) -> Window {
        Window { windows: Arc::clone(self), taken: 0 }
    }
}

fn share(free: usize, most: u32) -> usize {
    (free / WINDOW_PART).min(most as usize)
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
        (whole / (whole / STREAM_BYTES).clamp(PARTS_MIN, PARTS_MAX)).min(most)
    }

    /// Returns how many streams may be open at once: each has its part of the window, whatever is unread in those of others. Whoever has more to
    /// send waits at the other end, and nobody has to be sent away for the window's sake.
    pub(crate) fn streams(&self, stream_bytes_most: u32) -> u32 {
        self.bytes() / self.stream_bytes(stream_bytes_most)
    }

    /// Returns the peer `number`, which speaks on this connection.
    pub(crate) fn peer(&self, number: usize, stream_bytes_most: u32) -> Peer {
        let (stream_bytes, unread_max) = (self.stream_bytes(stream_bytes_most), self.bytes());
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
    /// What was sent of a request that waits stays unread, in the connection's window. Were the parts of others in the window full of such
    /// requests, those that were given room could not send the rest of theirs, and would keep the room from the ones that wait:
    /// everybody would wait for everybody. So a request that would have to wait beyond the window is refused at once.
    pub(crate) unread_max: usize,
    /// Sends far less than its share: its turn comes first.
    pub(crate) quiet: bool,
}

impl Peer {
    /// Returns the same peer for a request that comes over HTTP/1: it has the connection to itself, and no window.
    pub(crate) fn without_window(self) -> Self {
        Self { stream_bytes: u32::MAX as usize, unread_max: usize::MAX, ..self }
    }

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

/// A stream that is read in stretches, and fails if an HTTP/2 preface or the headers of an HTTP/1 request take too long from their first byte,
/// and if that takes too long to come on a new connection. hyper has one limit for the headers and for the wait for them, which is a long one, and none for the preface.
#[derive(Debug)]
pub(crate) struct Prompt {
    stream: TcpStream,
    seat: Arc<Seat>,
    read: usize,
    /// Of that, since it was somebody else's turn.
    stretch: usize,
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
        Self { stream, seat, read: 0, stretch: 0, head: [0; PREFACE_BEGINS.len()], limit, patience, waits: Some(0) }
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
        if this.stretch >= STRETCH_BYTES {
            this.stretch = 0;
            // To the end of the thread's line.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        match polled {
            Poll::Ready(_) => {
                let bytes = &buf.filled()[before..];
                this.stretch += bytes.len();
                this.came(bytes);
            }
            Poll::Pending if this.waits.is_some() && this.patience.as_mut().poll(cx).is_ready() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => this.stretch = 0,
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
    use std::task::{Wake, Waker};

    use tokio::net::TcpListener;

    use super::*;
    use crate::seat::{Seated, Seats};
    use crate::share::Shares;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is left in the socket stays there until the task had its next turn, and the task is told to come for it.
    #[tokio::test]
    async fn a_full_socket_is_read_in_stretches() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
        let (stream, _) = listener.accept().await.expect("accepts");
        let Seated::Free(taken) = Seats::new(1, Arc::new(Shares::new())).take().await else { panic!("a seat is free") };
        let mut prompt = Prompt::new(stream, Arc::clone(&taken.seat), Duration::from_secs(60));
        client.writable().await.expect("is open");
        let mut sent = 0;
        while let Ok(n) = client.try_write(&[b'x'; 64 << 10]) {
            sent += n;
        }
        drop(client);
        assert!(sent > 2 * STRETCH_BYTES, "the socket holds {sent} bytes only");

        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (mut read, mut stretch, mut turns) = (0, 0, 0);
        let mut bytes = vec![0; 16 << 10];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut prompt).poll_read(&mut Context::from_waker(&waker), &mut buf) {
                Poll::Ready(polled) => {
                    polled.expect("nobody broke it off");
                    if buf.filled().is_empty() {
                        break;
                    }
                    read += buf.filled().len();
                    stretch += buf.filled().len();
                    assert!(stretch < STRETCH_BYTES + (16 << 10), "{stretch} bytes without a pause");
                }
                Poll::Pending => {
                    if stretch >= STRETCH_BYTES {
                        turns += 1;
                        assert!(woken.0.swap(0, Ordering::Relaxed) > 0, "nobody would come for the rest");
                    }
                    stretch = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert_eq!(read, sent);
        assert!(turns > 0);
    }

    #[test]
    fn windows_shrink_as_connections_come_and_are_given_back() {
        let windows = Windows::new(64 << 20);
        let granted: Vec<_> = (0..1_000).map(|_| windows.grant(24 << 20)).collect();
        assert_eq!(granted[0].bytes(), 4 << 20);
        assert!(granted[31].bytes() > 512 << 10, "dozens have room for many streams: {}", granted[31].bytes());
        assert_eq!(granted[999].bytes(), WINDOW_BYTES_MIN);
        assert!(granted.iter().map(|window| window.taken).sum::<usize>() <= 64 << 20);
        drop(granted);
        assert_eq!(windows.grant(2 << 20).bytes(), 2 << 20);
    }

    #[test]
    fn streams_of_a_narrow_window_have_32_kib() {
        let windows = Windows::new(24 << 20);
        for n in 0..1_000 {
            let window = windows.grant(24 << 20);
            assert!(window.stream_bytes(8 << 20) >= (32 << 10) - 1, "connection {n}: {window:?}");
            std::mem::forget(window);
        }
        assert_eq!(windows.grant(24 << 20).streams(8 << 20), STREAMS_MIN);
    }

    #[test]
    fn who_hardly_ever_speaks_http_2_takes_nothing_of_the_windows() {
        let windows = Windows::new(24 << 20);
        let least: Vec<_> = (0..1_000).map(|_| windows.least()).collect();
        assert!(least.iter().all(|window| window.bytes() == WINDOW_BYTES_MIN));
        assert_eq!(windows.grant(24 << 20).bytes(), 24 << 16);
    }

    #[test]
    fn all_streams_of_a_connection_may_wait_unread() {
        for capacity in [0, 1 << 20, 16 << 20, 64 << 20] {
            let windows = Windows::new(capacity);
            for _ in 0..100 {
                let window = windows.grant(24 << 20);
                let peer = window.peer(1, 8 << 20);
                let streams = window.streams(8 << 20) as usize;
                assert!((2..=32).contains(&streams), "{streams} streams of {window:?}");
                assert!(streams * peer.unread(64 << 20) <= peer.unread_max, "{peer:?}");
                std::mem::forget(window);
            }
        }
    }
}
