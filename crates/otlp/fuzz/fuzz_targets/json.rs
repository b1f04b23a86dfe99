//! Any bytes as OTLP/JSON of any signal: an answer, and protobuf that is well-formed but for what JSON cannot tell.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, decode, json_to_protobuf};

fuzz_target!(|bytes: &[u8]| {
    for signal in Signal::ALL {
        if let Ok(request) = json_to_protobuf(signal, bytes) {
            if let Err(error) = decode(signal, &request, UnixNanos(1)) {
                assert!(error.problem.contains("nest deeper"), "{error}");
            }
        }
    }
});
