//! Messages that come in parts: each part is noted until the message around it has ended.

use plimsoll_otlp::{MESSAGE_PARTS_MAX, RowBuilder, Signal, decode};

use crate::malformed::nest;
use crate::rows::RECEIVED;

/// Where parts may stand.
#[derive(Debug, Clone, Copy)]
enum Of {
    Resource,
    Scope,
    Data,
    Metadata,
}

/// A request of one record with `count` parts, all but one of them empty: two bytes each.
fn request(of: Of, count: usize) -> (Signal, Vec<u8>) {
    let record = nest(2, &[]);
    let point = nest(5, &nest(1, &[]));
    match of {
        Of::Resource => (Signal::Logs, nest(1, &[nest(1, &[]).repeat(count), nest(2, &record)].concat())),
        Of::Scope => (Signal::Logs, nest(1, &nest(2, &[nest(1, &[]).repeat(count), record].concat()))),
        Of::Data => {
            let metric = [point, nest(5, &[]).repeat(count - 1)].concat();
            (Signal::Metrics, nest(1, &nest(2, &nest(2, &metric))))
        }
        Of::Metadata => {
            let metric = [point, nest(12, &[]).repeat(count)].concat();
            (Signal::Metrics, nest(1, &nest(2, &nest(2, &metric))))
        }
    }
}

#[test]
fn messages_in_millions_of_parts_are_refused_before_the_parts_fill_memory() {
    for of in [Of::Resource, Of::Scope, Of::Data, Of::Metadata] {
        let (signal, most) = request(of, MESSAGE_PARTS_MAX);
        assert_eq!(decode(signal, &most, RECEIVED).expect("no more than may be").batch.num_rows(), 1, "{of:?}");
        for count in [MESSAGE_PARTS_MAX + 1, 1 << 22] {
            let (signal, bytes) = request(of, count);
            let error = decode(signal, &bytes, RECEIVED).map(|decoded| decoded.batch.num_rows()).expect_err("too many");
            assert!(error.is_too_large && error.problem.contains("holds more than 4096"), "{of:?}: {error}");
            assert!(error.offset < 5 * MESSAGE_PARTS_MAX, "{of:?}: nothing behind is read: {error}");
            let mut joined = RowBuilder::new(signal);
            joined.push(&bytes, RECEIVED).expect_err("shared columns know the same bound");
            assert_eq!((joined.rows(), joined.bytes()), (0, 0), "{of:?}");
        }
    }
}
