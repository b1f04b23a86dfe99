//! OTLP/JSON.

pub(crate) mod lexer;
