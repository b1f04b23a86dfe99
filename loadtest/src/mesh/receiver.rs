//! The receiver of webhooks: takes events, checks their signatures, and counts what is paged.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;

use crate::Error;

/// Largest event that is read.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// One event, as it was received first.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// Nanoseconds since 1970.
    pub(super) received: u64,
    /// `detected`, `updated` or `resolved`.
    pub(super) kind: String,
    pub(super) deploy: String,
}

/// What came in so far.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// By `webhook-id`.
    pub(super) pages: BTreeMap<String, Page>,
    /// Events whose signature was wrong, or that could not be read.
    pub(super) refused: u64,
}

/// A running receiver.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    pub(super) secret: String,
    received: Arc<Mutex<Received>>,
}

impl Receiver {
    /// Listens on a free port of this machine, with a key drawn from `key`.
    pub(super) async fn start(key: [u8; 24]) -> Result<Self, Error> {
        let unreachable = |problem: std::io::Error| Error::Unreachable {
            address: "127.0.0.1:0".into(),
            problem: problem.to_string(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unreachable)?;
        let address = listener.local_addr().map_err(unreachable)?;
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let serve = service_fn(move |request| take(Arc::clone(&shared), key, request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        Ok(Self { address, secret: format!("whsec_{}", STANDARD.encode(key)), received })
    }

    /// Takes what came in.
    pub(super) fn take(&self) -> Received {
        std::mem::take(&mut *self.received.lock())
    }
}

async fn take(
    received: Arc<Mutex<Received>>,
    key: [u8; 24],
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let (id, timestamp, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let body = Limited::new(request.into_body(), EVENT_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let page = page(&body).filter(|_| is_signed(&key, &id, &timestamp, &body, &signature));
    let mut response = Response::new(Full::default());
    let mut received = received.lock();
    match page {
        Some(page) => drop(received.pages.entry(id).or_insert(page)),
        None => {
            received.refused += 1;
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
    }
    Ok(response)
}

/// Says whether one of the signatures is that of the key.
fn is_signed(key: &[u8], id: &str, timestamp: &str, body: &[u8], signatures: &str) -> bool {
    signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(|signature| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        STANDARD.decode(signature).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
    })
}

fn page(body: &[u8]) -> Option<Page> {
    let event: Value = serde_json::from_slice(body).ok()?;
    let kind = event["type"].as_str()?.rsplit('.').next()?.to_owned();
    let deploy = event["data"]["deploy"]["id"].as_str()?.to_owned();
    Some(Page { received: super::now(), kind, deploy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_signed_counts() {
        let key = *b"0123456789abcdef01234567";
        // Reference: Python 3 `hmac.new(key, b"evt_1.1700000000.{}", "sha256")`.
        let signature = "v1,AAAA v1,NNE7l8yBGUIZix+ZWhuw1i0d7yHV58dTPlowMVgdMTA=";
        assert!(is_signed(&key, "evt_1", "1700000000", b"{}", signature));
        assert!(!is_signed(&key, "evt_2", "1700000000", b"{}", signature));
        assert!(!is_signed(&key, "evt_1", "1700000000", b"{} ", signature));
        assert!(!is_signed(&key, "evt_1", "1700000000", b"{}", ""));
    }
}
