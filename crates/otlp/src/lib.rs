//! OTLP wire bytes to Arrow batches and back, and the table schemas.
//!
//! [`decode`] reads a protobuf export request in one pass straight into Arrow builders, and a [`RowBuilder`] many of them; [`encode()`] makes requests of rows
//! again; [`json_to_protobuf`] turns OTLP/JSON into the protobuf form, so that whatever keeps requests keeps one form only.

mod decode;
mod encode;
mod json;
mod nested;
mod proto;
pub mod schema;
mod signal;
pub mod value;
mod wire;

pub use decode::{
    DecodeError, Decoded, MESSAGE_PARTS_MAX, Pushed, REQUEST_BYTES_MAX, REQUEST_PARTS_MAX, REQUEST_ROWS_MAX, Rejected,
    RowBuilder, decode, decode_within,
};
pub use encode::{EncodeError, encode};
pub use json::{JsonError, json_to_protobuf};
pub use schema::Table;
pub use signal::Signal;
