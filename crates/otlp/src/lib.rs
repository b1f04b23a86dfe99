//! OTLP wire bytes to Arrow batches and back, and the table schemas.
//!
//! [`decode`] reads a protobuf export request in one pass straight into Arrow builders; [`schema`] fixes the tables.

mod decode;
//ENC mod encode;
mod json;
mod proto;
pub mod schema;
mod signal;
pub mod value;
mod wire;

pub use decode::{DecodeError, Decoded, REQUEST_BYTES_MAX, Rejected, decode};
//ENC pub use encode::{EncodeError, encode};
//ENC pub use json::{JsonError, json_to_protobuf};
pub use schema::Table;
pub use signal::Signal;
