//! The directory: who has it, and what happens when it cannot be used.

use std::fs;

use plimsoll_journal::{JournalOptions, LocalJournal, ReplayError};
use plimsoll_model::SequenceNumber;

use super::{commit, open, options, read};
use plimsoll_journal::Journal;

fn error(result: Result<LocalJournal, ReplayError>) -> ReplayError {
    match result {
        Ok(_) => panic!("the directory cannot be used"),
        Err(error) => error,
    }
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path());
    let refused = error(LocalJournal::open(options(dir.path())));
    assert!(matches!(refused, ReplayError::InUse { .. }));
    let text = refused.to_string();
    assert!(text.contains(&format!("`{}`", dir.path().display())) && text.contains("`data_dir`"), "{text}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_closed_journal_gives_its_directory_up_and_leaves_it_alone_whoever_still_holds_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path());
    commit(&first, &["a", "b"]);
    first.close();
    let second = open(dir.path());
    commit(&second, &["c"]);
    let frame = [plimsoll_journal::Frame { header: b"", body: b"lost" }];
    let refused = first.commit(&frame).expect_err("the directory is another's").to_string();
    assert!(refused.contains("closed"), "{refused}");
    first.trim(SequenceNumber(2)).expect("does nothing");
    drop(first);
    assert!(second.is_intact());
    assert!(matches!(error(LocalJournal::open(options(dir.path()))), ReplayError::InUse { .. }));
    let (found, report) = read(&second);
    assert_eq!(found.iter().map(|(n, text)| format!("{n}{text}")).collect::<String>(), "1a2b3c");
    assert_eq!((report.torn_bytes, report.quarantined), (0, 0), "the first was marked as closed");
}

#[test]
fn missing_directories_are_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("a/b/journal");
    commit(&open(&deep), &["kept"]);
    assert_eq!(read(&open(&deep)).0, [(1, "kept".to_owned())]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_the_setting() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").expect("writes");
    for bad in [file.join("journal"), file, "/proc/plimsoll/journal".into()] {
        let refused = error(LocalJournal::open(JournalOptions::new(&bad)));
        assert!(matches!(refused, ReplayError::Unusable { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains(&format!("`{}`", bad.display())) && text.contains("`data_dir`"), "{text}");
    }
}

#[test]
fn numbers_that_are_taken_are_not_given_again_when_the_directory_was_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    commit(&open(dir.path()), &["a", "b"]);
    let taken = |n| JournalOptions { numbers_taken: SequenceNumber(n), ..options(dir.path()) };
    let journal = LocalJournal::open(taken(1)).expect("opens");
    assert_eq!(journal.status().next, SequenceNumber(3), "fewer than are there change nothing");
    drop(journal);
    let journal = LocalJournal::open(taken(100)).expect("opens");
    commit(&journal, &["c"]);
    let (found, report) = read(&journal);
    assert_eq!(found, [(1, "a".to_owned()), (2, "b".to_owned()), (101, "c".to_owned())]);
    assert_eq!(report.quarantined, 0, "numbers that were skipped are no damage");
}

#[test]
fn a_file_of_a_later_release_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    commit(&open(dir.path()), &["a"]);
    let path = super::log_file(dir.path());
    let mut bytes = fs::read(&path).expect("reads");
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..44]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).expect("writes");
    let refused = error(LocalJournal::open(options(dir.path())));
    assert!(matches!(refused, ReplayError::TooNew { found: 9, known: 1, .. }), "{refused:?}");
    assert_eq!(fs::read(&path).expect("reads"), bytes);
}

#[test]
fn a_log_that_was_not_closed_goes_on_after_its_last_frame() {
    let dir = tempfile::tempdir().expect("a directory");
    let copy = tempfile::tempdir().expect("a directory");
    let journal =
        LocalJournal::open(JournalOptions { preallocate: true, file_bytes_max: 1 << 20, ..options(dir.path()) });
    let journal = journal.expect("opens");
    commit(&journal, &["a"]);
    commit(&journal, &["b", "c"]);
    // What a killed process leaves: no close mark, and zeros to the end.
    let log = super::log_file(dir.path());
    assert_eq!(fs::metadata(&log).expect("is there").len(), 1 << 20);
    fs::copy(&log, copy.path().join(log.file_name().expect("has one"))).expect("copies");
    let journal = open(copy.path());
    commit(&journal, &["d"]);
    let (found, report) = read(&journal);
    assert_eq!(found.iter().map(|(n, text)| format!("{n}{text}")).collect::<String>(), "1a2b3c4d");
    assert_eq!((report.torn_bytes, report.quarantined), (0, 0));
}

#[test]
fn a_directory_that_is_removed_stops_the_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    commit(&journal, &["kept"]);
    assert!(journal.is_intact());
    fs::remove_dir_all(dir.path()).expect("removes");
    assert!(!journal.is_intact());
    let frame = [plimsoll_journal::Frame { header: b"", body: b"lost" }];
    let refused = journal.commit(&frame).expect_err("what is written now has no name");
    assert!(matches!(refused, plimsoll_journal::CommitError::Poisoned { .. }), "{refused}");
    assert!(refused.to_string().contains("removed"), "{refused}");
    assert!(journal.status().poisoned);
}
