//! `grpc.health.v1` and server reflection, beside the export services.
//!
//! *Invariants.* What these requests hold is in no budget. So their messages are short, and all that a client sends in one call has to be
//! there in the time that a body has. What is told to a client that watches goes on for as long as it likes.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::util::BoxCloneSyncService;

use crate::descriptors;
use crate::gate::Gate;
use crate::grpc::{SERVICES, SideService};

/// A message to these services is a name or two.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// The body of a request to these services, which fails where it has not ended in time.
pub(crate) struct InTime {
    body: Incoming,
    over: Pin<Box<Sleep>>,
}

impl InTime {
    pub(crate) fn new(body: Incoming, time: Duration) -> Self {
        Self { body, over: Box::pin(tokio::time::sleep(time)) }
    }
}

impl Body for InTime {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // Before what comes: a client that never stops sending is late as well.
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(
                Status::deadline_exceeded("the client did not end its request in time").into()
            )));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Makes the health and reflection services.
pub(crate) fn side_services(reporter: HealthReporter) -> Vec<(&'static str, SideService)> {
    let health =
        HealthServer::new(HealthService::from_health_reporter(reporter)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(descriptors::otlp())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the descriptors are fixed and tested";
    let v1 = described().build_v1().expect(valid).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let v1alpha = described().build_v1alpha().expect(valid).max_decoding_message_size(MESSAGE_BYTES_MAX);
    vec![
        ("grpc.health.v1.Health", BoxCloneSyncService::new(health)),
        ("grpc.reflection.v1.ServerReflection", BoxCloneSyncService::new(v1)),
        ("grpc.reflection.v1alpha.ServerReflection", BoxCloneSyncService::new(v1alpha)),
    ]
}

/// Keeps the health statuses in step with the gate, as long as the runtime lives.
pub(crate) async fn follow(gate: &Gate, reporter: HealthReporter) {
    let mut watch = gate.watch();
    loop {
        let ready = watch.borrow_and_update().is_ready();
        report(&reporter, ready).await;
        if watch.changed().await.is_err() {
            return;
        }
    }
}

/// Sets the status of every service, and of the server as a whole.
pub(crate) async fn report(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in SERVICES.iter().map(|(_, name)| *name).chain([""]) {
        reporter.set_service_status(name, status).await;
    }
}
