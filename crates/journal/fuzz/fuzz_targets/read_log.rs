//! Any bytes as a log file: the reader neither panics nor gives frames out of order.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_model::SequenceNumber;

fuzz_target!(|image: &[u8]| {
    let mut last = 0;
    let damaged = plimsoll_journal::read_image(image, SequenceNumber(1), &mut |number, payload| {
        assert!(number.0 > last);
        assert!(payload.len() <= image.len());
        last = number.0;
    });
    assert!(damaged <= image.len() as u64);
});
