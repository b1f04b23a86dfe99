//! The bytes of a log file, as they are in every release that writes this format.

use super::{commit, log_file, open, read};

const GOLDEN: &str = "\
    504c494d534c4f47 01000000 0100000000000000 0000000000000000 956eeb2f2632d7bd 0000000000000000 b7bf1d1a \
    956eeb2f2632d7bd 05000000 f2e1d167 0100000000000000 00000000 6669727374 \
    956eeb2f2632d7bd 06000000 988be5cc 0200000000000000 00000000 7365636f6e64 \
    956eeb2f2632d7bd 00000000 024ca7cc 0300000000000000 01000000 \
    956eeb2f2632d7bd 00000000 127e2f30 0400000000000000 ffffffff";

#[test]
fn the_bytes_of_a_log_file_never_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    commit(&journal, &["first"]);
    commit(&journal, &["second", ""]);
    drop(journal);
    let path = log_file(dir.path());
    assert_eq!(path.file_name().expect("has one"), "00000000000000000001.log");
    let written: String = std::fs::read(&path).expect("reads").iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = GOLDEN.replace(' ', "");
    assert_eq!(written, golden);

    let bytes: Vec<u8> =
        (0..golden.len()).step_by(2).map(|at| u8::from_str_radix(&golden[at..at + 2], 16).expect("is hex")).collect();
    let other = tempfile::tempdir().expect("a directory");
    std::fs::write(other.path().join("00000000000000000001.log"), bytes).expect("writes");
    let (found, report) = read(&open(other.path()));
    assert_eq!(found, [(1, "first".to_owned()), (2, "second".to_owned()), (3, String::new())]);
    assert_eq!((report.torn_bytes, report.quarantined), (0, 0));
}
