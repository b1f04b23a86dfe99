//! The listener `--grpc-api`: `plimsoll.v1`, with the same calls as REST and a stream of regression events, and beside it
//! Flight SQL ([`crate::flight`]).

mod connections;
mod convert;
mod service;

/// The generated messages and services.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("plimsoll.v1");
}

/// The compiled `.proto`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plimsoll.v1.bin"));

pub(crate) use connections::CONNECTIONS_MAX;
pub use service::{GrpcApi, serve};
