//! OTLP clients over bare hyper connections: one message, one answer, nothing retried behind the caller's back.

mod answer;
mod grpc;
mod http1;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use clap::ValueEnum;

pub use answer::{Reply, SendError};

use crate::compression::Compression;
use crate::records::Signal;

/// Room that every body is given in front: the length-prefixed-message header of gRPC.
pub(crate) const GRPC_PREFIX_BYTES: usize = 5;

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf bodies.
    Http,
    /// OTLP/HTTP with JSON bodies; for replay.
    HttpJson,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::HttpJson => "http-json",
        })
    }
}

/// Where to send, and how.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// The listener.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// How bodies are compressed.
    pub compression: Compression,
    /// A request without an answer after this long has failed.
    pub timeout: Duration,
}

/// One connection. Clones of a gRPC one share it; an HTTP/1.1 one carries one request at a time.
pub struct Connection {
    endpoint: Endpoint,
    transport: Transport,
}

enum Transport {
    Grpc(grpc::Channel),
    Http(http1::Channel),
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or it does not speak the protocol.
    pub async fn open(endpoint: Endpoint) -> Result<Self, SendError> {
        let transport = match endpoint.protocol {
            Protocol::Grpc => Transport::Grpc(grpc::Channel::open(endpoint.address).await?),
            Protocol::Http | Protocol::HttpJson => Transport::Http(http1::Channel::open(endpoint.address).await?),
        };
        Ok(Self { endpoint, transport })
    }

    /// Returns one more handle for requests at the same time: the same connection for gRPC, a new one for HTTP/1.1.
    ///
    /// # Errors
    /// The new connection cannot be made.
    pub async fn another(&self) -> Result<Self, SendError> {
        match &self.transport {
            Transport::Grpc(channel) => {
                Ok(Self { endpoint: self.endpoint, transport: Transport::Grpc(channel.clone()) })
            }
            Transport::Http(_) => Self::open(self.endpoint).await,
        }
    }

    /// Sends one export request, `body` being five bytes of room and then the message, already compressed.
    ///
    /// # Errors
    /// No answer came: whether the request was taken is unknown, and the connection may be gone.
    pub async fn send(&mut self, signal: Signal, body: BytesMut) -> Result<Reply, SendError> {
        let encoding = self.endpoint.compression.encoding();
        let exchange = async {
            match &mut self.transport {
                Transport::Grpc(channel) => channel.send(signal, encoding, body).await,
                Transport::Http(channel) => {
                    channel.send(signal, encoding, self.endpoint.protocol == Protocol::HttpJson, body).await
                }
            }
        };
        tokio::time::timeout(self.endpoint.timeout, exchange)
            .await
            .map_err(|_| SendError(format!("no answer within {:?}", self.endpoint.timeout)))?
    }

    /// Compresses `message` as the endpoint wants it and sends it.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub async fn send_message(&mut self, signal: Signal, message: &[u8]) -> Result<Reply, SendError> {
        let mut body = BytesMut::zeroed(GRPC_PREFIX_BYTES);
        body.extend_from_slice(&self.endpoint.compression.compress(message));
        self.send(signal, body).await
    }
}
