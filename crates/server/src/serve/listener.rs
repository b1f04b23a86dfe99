//! The API's listener: HTTP/1.1 and h2c, with limits on what clients may hold open without saying anything.
//!
//! *Bounds.* Connections; the time to a connection's first request and between requests; the size of headers; what a client may
//! have reset before it was accepted. A request itself is bounded where it is served.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::prompt::Prompt;

/// What a client may hold open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Open connections; those beyond are closed at once.
    pub(super) connections: usize,
    /// The time for a request's headers, the wait for the request included; HTTP/2 connections are pinged as often.
    pub(super) headers: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, headers: Duration::from_secs(60) }
    }
}

/// Read buffer of a connection.
const BUFFER_BYTES: usize = 64 << 10;

/// Headers of a request, uncompressed.
const HEADER_LIST_BYTES: u32 = 16 << 10;

/// How long accepting rests after the system refused.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until stopped; then waits for the requests that are under way.
pub(super) async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    // Whoever does not wait for them to end takes them along.
    let abort = CancellationToken::new();
    let _dropped = abort.clone().drop_guard();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::debug!("a connection to the API was closed: there are {} of them", limits.connections);
                    continue;
                };
                let (router, stop, abort) = (router.clone(), stop.clone(), abort.clone());
                connections.spawn(async move {
                    abort.run_until_cancelled(connection(stream, router, limits, stop)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the API could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(BUFFER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_concurrent_streams(64)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(limits.headers)
        .keep_alive_timeout(limits.headers);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let Ok(response) = router.oneshot(request).await;
            Ok::<_, Infallible>(response)
        }
    });
    // Which protocol it speaks is read before any of the above applies; a client that says nothing, or a part of it, has that long for it.
    let mut first = [0; 1];
    let spoken = tokio::time::timeout(limits.headers, stream.peek(&mut first));
    match stop.run_until_cancelled(spoken).await {
        Some(Ok(Ok(read))) if read > 0 => {}
        _ => return,
    }
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(Prompt::new(stream, limits.headers, ())), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection to the API ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn serving(limits: Limits) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(serve(listener, router, limits, stop.clone()));
        (address, stop)
    }

    async fn ask(to: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(to).await.expect("connects");
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut answer = String::new();
        // One that is turned away may find the connection closed before it has asked.
        if stream.write_all(request).await.is_ok() {
            let _ = stream.read_to_string(&mut answer).await;
        }
        answer
    }

    #[tokio::test]
    async fn clients_that_say_nothing_or_half_a_header_are_shown_out_and_make_room() {
        let limits = Limits { connections: 2, headers: Duration::from_millis(100) };
        let (to, _stop) = serving(limits).await;
        let mut silent = TcpStream::connect(to).await.expect("connects");
        let mut slow = TcpStream::connect(to).await.expect("connects");
        slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.expect("writes");
        let mut rest = Vec::new();
        assert_eq!(silent.read_to_end(&mut rest).await.expect("is closed in order"), 0);
        let _ = slow.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
        let served = async {
            while !ask(to).await.ends_with("here") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), served).await.expect("there is room again");
    }

    #[tokio::test]
    async fn clients_that_send_a_part_of_the_preface_are_shown_out_and_make_room() {
        let limits = Limits { connections: 1, headers: Duration::from_millis(100) };
        let (to, _stop) = serving(limits).await;
        let mut partly = TcpStream::connect(to).await.expect("connects");
        partly.write_all(b"PRI * HTTP").await.expect("writes");
        let served = async {
            while !ask(to).await.ends_with("here") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), served).await.expect("there is room again");
    }

    #[tokio::test]
    async fn no_more_connections_are_held_than_allowed() {
        let limits = Limits { connections: 1, headers: Duration::from_secs(3_600) };
        let (to, stop) = serving(limits).await;
        let mut held = TcpStream::connect(to).await.expect("connects");
        held.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
        let mut first = [0; 15];
        held.read_exact(&mut first).await.expect("is answered");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        assert_eq!(ask(to).await, "", "there is one already");
        stop.cancel();
        let mut rest = Vec::new();
        held.read_to_end(&mut rest).await.expect("an idle connection is closed when the server stops");
    }
    #[tokio::test]
    async fn a_connection_that_never_asked_does_not_hold_the_listener_back_when_it_stops() {
        let limits = Limits { connections: 1, headers: Duration::from_secs(3_600) };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let to = listener.local_addr().expect("is bound");
        let stop = CancellationToken::new();
        let held = Arc::new(());
        let state = held.clone();
        let router = Router::new().route("/", get(|| async { "here" })).layer(axum::Extension(state));
        let serving = tokio::spawn(serve(listener, router, limits, stop.clone()));
        let mut silent = TcpStream::connect(to).await.expect("connects");
        // It was taken in: the only place is gone.
        while !ask(to).await.is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), serving).await.expect("ends").expect("does not panic");
        assert_eq!(silent.read(&mut [0; 1]).await.expect("is closed in order"), 0);
        assert_eq!(Arc::strong_count(&held), 1, "nothing of the service is held any more");
    }
}
