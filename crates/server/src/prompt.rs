//! A connection that has to say in time which protocol it speaks.
//!
//! Whoever serves HTTP reads the first bytes to tell HTTP/2's preface from a request, and has no limit for that: a client that sends a
//! part of the preface and no more would hold its place for good.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail once its beginning takes too long, and what is held for as long as it is there.
#[derive(Debug)]
pub(crate) struct Prompt<K = ()> {
    stream: TcpStream,
    _keeps: K,
    /// How much of the preface came, and the time that is left for the rest of it; nothing once it is there, or something else is.
    waits: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<K> Prompt<K> {
    /// Gives the beginning of `stream` so much time.
    pub(crate) fn new(stream: TcpStream, limit: Duration, keeps: K) -> Self {
        Self { stream, _keeps: keeps, waits: Some((0, Box::pin(sleep(limit)))) }
    }

    /// The stream itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl<K: Unpin> AsyncRead for Prompt<K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some((came, patience)) = &mut self.waits else { return polled };
        if polled.is_pending() {
            return match patience.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            };
        }
        let fresh = &buffer.filled()[before..];
        if PREFACE[*came..].starts_with(fresh) && *came + fresh.len() < PREFACE.len() {
            *came += fresh.len();
        } else {
            self.waits = None;
        }
        polled
    }
}

impl<K: Unpin> AsyncWrite for Prompt<K> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_part_of_the_preface_is_waited_for_so_long_and_all_else_as_long_as_it_likes() {
        for (said, ends) in
            [("", true), ("PRI * HTTP", true), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false), ("G", false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
            let mut client = TcpStream::connect(listener.local_addr().expect("is bound")).await.expect("connects");
            client.write_all(said.as_bytes()).await.expect("writes");
            let (stream, _) = listener.accept().await.expect("accepts");
            let mut prompt = Prompt::new(stream, Duration::from_millis(50), ());
            let mut read = vec![0; said.len()];
            prompt.read_exact(&mut read).await.expect("came at once");
            assert_eq!(read, said.as_bytes());
            if ends {
                let error = prompt.read(&mut [0; 1]).await.expect_err("it says no more");
                assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said}");
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                client.write_all(b"x").await.expect("writes");
                assert_eq!(prompt.read(&mut [0; 1]).await.expect("is read"), 1, "{said}");
            }
        }
    }
}
