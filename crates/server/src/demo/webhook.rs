//! A receiver of regression events, as an on-call tool would run one: it checks every signature before it believes an event.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use plimsoll_model::RegressionEvent;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A running receiver.
pub(super) struct Receiver {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The secret to sign with, in the form of the configuration.
    pub(super) secret: String,
    inbox: Arc<Inbox>,
}

struct Inbox {
    key: Vec<u8>,
    events: Mutex<Vec<RegressionEvent>>,
    arrived: Notify,
}

impl Receiver {
    /// Starts listening on a port that the system chooses.
    pub(super) async fn start() -> Result<Self, String> {
        let mut key = [0_u8; 24];
        getrandom::fill(&mut key).map_err(|error| format!("no randomness for the webhook's secret: {error}"))?;
        let secret = format!("whsec_{}", BASE64_STANDARD.encode(key));
        let inbox = Arc::new(Inbox { key: key.to_vec(), events: Mutex::default(), arrived: Notify::new() });
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| format!("webhook receiver: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("webhook receiver: {error}"))?;
        let router = Router::new().route("/plimsoll", post(receive)).with_state(inbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, secret, inbox })
    }

    /// Waits for the first event about `deploy`.
    pub(super) async fn event_about(&self, deploy: &str) -> RegressionEvent {
        loop {
            let arrived = self.inbox.arrived.notified();
            let found = self.inbox.events.lock().iter().find(|event| event.data.deploy.id.as_str() == deploy).cloned();
            if let Some(event) = found {
                return event;
            }
            arrived.await;
        }
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !signed(&inbox.key, &headers, &body) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice(&body) else { return StatusCode::BAD_REQUEST };
    inbox.events.lock().push(event);
    inbox.arrived.notify_waiters();
    StatusCode::NO_CONTENT
}

/// Checks a Standard Webhooks signature.
fn signed(key: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    mac.update(body);
    header("webhook-signature")
        .split(' ')
        .filter_map(|signature| BASE64_STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|signature| mac.clone().verify_slice(&signature).is_ok())
}
