//! The protobuf wire format: a reader over request bytes and a writer of new ones.

mod read;
mod write;

pub(crate) use read::{Reader, Result};
pub(crate) use write::Writer;
