//! OTLP/JSON into the protobuf form.
//!
//! *Rules.* lowerCamelCase names, and snake_case ones too; ids in hexadecimal; enumerations as numbers or names; integers as
//! numbers or strings; bytes in base64 of either alphabet; `null` leaves a field out; unknown fields are ignored.
//!
//! *Messages.* Of a value or a name they tell the beginning: either may be as long as the request.
//!
//! *Cost.* One pass, from text to wire: fields are written in the order they come in, which protobuf leaves free, and no
//! tree is built.
//!
//! *Source.* OTLP 1.11, "JSON Protobuf Encoding"; protobuf.dev, "ProtoJSON Format".

pub(crate) mod lexer;
mod scalar;
mod transcode;

use std::fmt;

use crate::Signal;
use crate::proto::{logs_request, metrics_request, trace_request};
use crate::wire::Writer;

use lexer::Lexer;

/// Why a JSON request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct JsonError {
    /// The field, for instance `resourceSpans[0].scopeSpans[0].spans[3].traceId`; empty where it is the text as a whole.
    pub path: String,
    /// What is wrong, in words.
    pub problem: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "malformed OTLP/JSON: {}", self.problem),
            path => write!(f, "malformed OTLP/JSON at `{path}`: {}", self.problem),
        }
    }
}

impl From<String> for JsonError {
    fn from(problem: String) -> Self {
        Self { path: String::new(), problem }
    }
}

impl JsonError {
    /// Puts the name or the index of what encloses the field in front of its path.
    fn within(mut self, outer: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path.insert_str(0, dot);
        self.path.insert_str(0, outer);
        self
    }
}

/// How much of a value or of a name a message tells, in bytes.
const QUOTED_BYTES_MAX: usize = 64;

/// Returns as much of `text` as a message tells.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(QUOTED_BYTES_MAX)]
}

/// A value in a message: the beginning, and how long the whole is where that is not all.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match beginning(self.0) {
            all if all.len() == self.0.len() => write!(f, "`{all}`"),
            some => write!(f, "`{some}..` of {} bytes", self.0.len()),
        }
    }
}

/// Turns an OTLP/JSON export request into the protobuf form of the same request, ready for [`decode`](crate::decode()).
///
/// # Errors
/// The text is not JSON, or a field's value is not one that the field can have.
pub fn json_to_protobuf(signal: Signal, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let message = match signal {
        Signal::Traces => &trace_request::MESSAGE,
        Signal::Logs => &logs_request::MESSAGE,
        Signal::Metrics => &metrics_request::MESSAGE,
    };
    let text = simdutf8::compat::from_utf8(json)
        .map_err(|error| format!("the text is not valid UTF-8 from byte {} on", error.valid_up_to()))?;
    let mut lexer = Lexer::new(text);
    // Names of fields and digits in hexadecimal take more room than the wire does.
    let mut writer = Writer::with_capacity(json.len() / 2);
    transcode::message(&mut lexer, &mut writer, message)?;
    lexer.end()?;
    Ok(writer.into_bytes())
}
