//! Any bytes as any signal: an answer, and rows that encode and decode to as many rows again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Signal, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    for signal in Signal::ALL {
        let Ok(decoded) = decode(signal, bytes, UnixNanos(1)) else { continue };
        let rows = decoded.batch.num_rows();
        let request = encode(signal, &[decoded.batch]).expect("decoded rows encode");
        let again = decode(signal, &request, UnixNanos(1)).expect("what is encoded decodes");
        assert_eq!(again.batch.num_rows(), rows);
        assert_eq!(again.rejected.count, 0);
    }
});
