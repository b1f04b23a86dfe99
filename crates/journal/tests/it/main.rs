//! The journal through its public face, on real files.

mod damage;
mod directory;
mod golden;
mod image;

use std::path::Path;

use plimsoll_journal::{Frame, Journal, JournalOptions, LocalJournal, ReplayReport, conformance};
use plimsoll_model::SequenceNumber;

fn options(dir: &Path) -> JournalOptions {
    JournalOptions { entropy: 42, preallocate: false, ..JournalOptions::new(dir) }
}

fn open(dir: &Path) -> LocalJournal {
    LocalJournal::open(options(dir)).expect("the log opens")
}

fn commit(journal: &LocalJournal, bodies: &[&str]) {
    let frames: Vec<Frame<'_>> = bodies.iter().map(|body| Frame { header: &[], body: body.as_bytes() }).collect();
    journal.commit(&frames).expect("there is space");
}

fn read(journal: &LocalJournal) -> (Vec<(u64, String)>, ReplayReport) {
    let mut found = Vec::new();
    let report = journal
        .replay(SequenceNumber::ZERO, &mut |number, payload| {
            found.push((number.0, String::from_utf8_lossy(payload).into_owned()));
            Ok(())
        })
        .expect("the log can be read");
    (found, report)
}

/// Returns the only log file of a directory.
fn log_file(dir: &Path) -> std::path::PathBuf {
    let mut logs = std::fs::read_dir(dir)
        .expect("is a directory")
        .map(|entry| entry.expect("has entries").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let log = logs.next().expect("there is a log file");
    assert!(logs.next().is_none(), "and no second one");
    log
}

#[test]
fn the_local_journal_is_a_journal() {
    for (file_bytes_max, preallocate) in [(1, false), (2_000, false), (2_000, true), (128 << 20, true)] {
        let dir = tempfile::tempdir().expect("a directory");
        conformance::check(&mut || {
            let options = JournalOptions { file_bytes_max, preallocate, ..JournalOptions::new(dir.path()) };
            LocalJournal::open(options).expect("opens")
        });
    }
}

#[test]
fn a_frame_longer_than_the_limit_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    let body = vec![0; plimsoll_journal::FRAME_BYTES_MAX];
    let error = journal.commit(&[Frame { header: b"x", body: &body }]).expect_err("one byte too long").to_string();
    assert!(error.contains("268435457 bytes is longer than the 268435456 bytes"), "{error}");
    commit(&journal, &["a"]);
    assert_eq!(read(&journal).0, [(1, "a".to_owned())]);
}

#[test]
fn trimming_gives_space_back_and_keeps_the_last_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let small = JournalOptions { file_bytes_max: 200, ..options(dir.path()) };
    let journal = LocalJournal::open(small).expect("opens");
    for n in 0..30 {
        commit(&journal, &[&format!("{n:060}")]);
    }
    let before = journal.status();
    assert_eq!((before.oldest.0, before.next.0), (1, 31));
    journal.trim(SequenceNumber(15)).expect("trims");
    let after = journal.status();
    assert!(after.files < before.files && after.bytes < before.bytes, "{after:?}");
    assert!(after.oldest.0 <= 16 && after.oldest.0 > 10, "{after:?}");
    journal.trim(SequenceNumber(u64::MAX)).expect("trims");
    assert_eq!(journal.status().files, 1);
    assert!(log_file(dir.path()).exists());
}
