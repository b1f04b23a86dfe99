//! Any bytes as any signal: an answer, and rows that encode and decode to as many rows again; the same behind others in shared columns.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{RowBuilder, Signal, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    for signal in Signal::ALL {
        let alone = decode(signal, bytes, UnixNanos(1));
        let mut builder = RowBuilder::new(signal);
        let first = builder.push(bytes, UnixNanos(1));
        let second = builder.push(bytes, UnixNanos(1));
        assert_eq!(first, second, "what came before changes nothing");
        let joined = builder.take();
        let Ok(decoded) = alone else {
            assert!(first.is_err());
            assert_eq!(joined.num_rows(), 0);
            continue;
        };
        let rows = decoded.batch.num_rows();
        assert_eq!(joined.slice(0, rows), decoded.batch);
        assert_eq!(joined.slice(rows, rows), decoded.batch);
        let request = encode(signal, &[decoded.batch]).expect("decoded rows encode");
        let again = decode(signal, &request, UnixNanos(1)).expect("what is encoded decodes");
        assert_eq!(again.batch.num_rows(), rows);
        assert_eq!(again.rejected.count, 0);
    }
});
