//! Accepting connections and speaking HTTP on them, until told to stop.
//!
//! *Shutdown.* `stop` ends the accepting and asks every connection to finish what it began; `abort` ends those that are left.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use crate::connection::{Peer, Prompt, Windows};
use crate::counters::Counters;
use crate::grpc::GrpcFace;
use crate::http::HttpFace;
use crate::options::IngestOptions;
use crate::seat::{Seat, Seated, Seats};

/// HTTP/1 read buffer of a connection.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// How long accepting rests after the system refused: it is out of file descriptors, and trying harder frees none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener serves.
#[derive(Clone)]
pub(crate) enum Face {
    Grpc(Arc<GrpcFace>),
    Http(Arc<HttpFace>),
}

impl Face {
    async fn handle(&self, peer: Peer, seat: &Seat, request: Request<Incoming>) -> Response<Body> {
        match self {
            Self::Grpc(face) => face.handle(peer, seat, request).await,
            Self::Http(face) => face.handle(peer, seat, request).await,
        }
    }
}

/// What both listeners share.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) options: Arc<IngestOptions>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) windows: Arc<Windows>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) connections: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) abort: CancellationToken,
}

impl Acceptor {
    /// Accepts until stopped.
    pub(crate) async fn run(self, listener: TcpListener, face: Face) {
        // Odd ones for one protocol, even ones for the other, so that no two connections share a number.
        let mut number = usize::from(matches!(face, Face::Http(_)));
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let taken = match self.seats.take().await {
                        Seated::Free(taken) => taken,
                        Seated::MadeRoom(taken) => {
                            self.counters.connections_closed_for_others.add(1);
                            taken
                        }
                        Seated::None => {
                            self.counters.connections_refused.add(1);
                            continue;
                        }
                    };
                    number = number.wrapping_add(2);
                    self.counters.connections.add(1);
                    self.counters.connections_total.add(1);
                    let this = self.clone();
                    let face = face.clone();
                    self.connections.spawn(async move {
                        this.serve(stream, face, number, &taken.seat).await;
                        this.counters.connections.sub(1);
                        drop(taken);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, stream: TcpStream, face: Face, number: usize, seat: &Arc<Seat>) {
        // An ack is small and somebody waits for it.
        let _ = stream.set_nodelay(true);
        let options = &self.options;
        let mut builder = Builder::new(TokioExecutor::new());
        let window = match face {
            Face::Grpc(_) => {
                builder = builder.http2_only();
                self.windows.grant(options.http2.connection_window_bytes)
            }
            Face::Http(_) => self.windows.least(),
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(READ_BUFFER_BYTES)
            .http2()
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_connection_window_size(window.bytes())
            .initial_stream_window_size(window.stream_bytes(options.http2.stream_window_bytes))
            .max_concurrent_streams(window.streams(options.http2.stream_window_bytes))
            .max_pending_accept_reset_streams(options.http2.pending_resets_max)
            .max_header_list_size(options.http2.header_list_bytes_max)
            .keep_alive_interval(options.http2.keepalive_interval)
            .keep_alive_timeout(options.http2.keepalive_timeout);
        let peer = window.peer(number, options.http2.stream_window_bytes);
        let io = TokioIo::new(Prompt::new(stream, Arc::clone(seat), options.handshake_timeout));
        let at = Arc::clone(seat);
        let service = service_fn(move |request: Request<Incoming>| {
            let (face, seat) = (face.clone(), Arc::clone(&at));
            let peer = if request.version() < Version::HTTP_2 { peer.without_window() } else { peer };
            async move {
                let _under_way = seat.begin();
                Ok::<_, Infallible>(face.handle(peer, &seat, request).await)
            }
        });
        let connection = builder.serve_connection(io, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = seat.wanted() => {
                connection.as_mut().graceful_shutdown();
                // Once, so that the client is told where the protocol has a word for it.
                poll_fn(|cx| {
                    let _ = connection.as_mut().poll(cx);
                    Poll::Ready(())
                })
                .await;
                return;
            }
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.abort.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            match why(error.as_ref()) {
                Some(Why::Protocol) => self.counters.connections_broken.add(1),
                Some(Why::Time) => self.counters.connections_timed_out.add(1),
                // Clients go as they please.
                None => {}
            }
            tracing::debug!(error, "a connection ended early");
        }
    }
}

/// Why a connection was ended from this side.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    /// The client did not speak the protocol.
    Protocol,
    /// It took too long.
    Time,
}

/// Says why a connection was ended; `None` where its client ended it.
fn why(error: &(dyn Error + 'static)) -> Option<Why> {
    let late = |error: &io::Error| (error.kind() == io::ErrorKind::TimedOut).then_some(Why::Time);
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                return Some(Why::Protocol);
            }
            if error.is_timeout() {
                return Some(Why::Time);
            }
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return match error.get_io() {
                Some(error) => late(error),
                None => error.is_library().then_some(Why::Protocol),
            };
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return late(error);
        }
        next = error.source();
    }
    None
}
