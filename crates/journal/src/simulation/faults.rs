//! One fault at a time, and what the caller is told.

use std::sync::Arc;

use plimsoll_model::SequenceNumber;

use super::disk::{Fault, SimDisk};
use crate::ahead::By;
use crate::local::LocalJournal;
use crate::options::JournalOptions;
use crate::port::{CommitError, Frame, Journal, ReplayError};

fn open(disk: &SimDisk, preallocate: bool) -> Result<LocalJournal, ReplayError> {
    open_with(disk, preallocate, false)
}

fn open_with(disk: &SimDisk, preallocate: bool, ahead: bool) -> Result<LocalJournal, ReplayError> {
    let options = JournalOptions { preallocate, ahead, file_bytes_max: 4096, ..JournalOptions::new("/log") };
    LocalJournal::open_on(Arc::new(disk.clone()), options, By::Caller)
}

fn frame(body: &[u8]) -> [Frame<'_>; 1] {
    [Frame { header: b"h", body }]
}

fn payloads(journal: &LocalJournal) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    journal
        .replay(SequenceNumber::ZERO, &mut |_, payload| {
            found.push(payload.to_vec());
            Ok(())
        })
        .expect("can be read");
    found
}

#[test]
fn a_group_that_finds_no_space_leaves_nothing_and_the_next_one_succeeds() {
    let disk = SimDisk::new(1);
    let journal = open(&disk, false).expect("opens");
    journal.commit(&frame(b"first")).expect("there is space");
    disk.schedule(0, Fault::Full);
    let error = journal.commit(&frame(&[7; 300])).expect_err("the disk is full");
    assert!(matches!(error, CommitError::Full { .. }), "{error}");
    assert!(error.to_string().contains("`/log`") && error.to_string().contains("`store.retention`"), "{error}");
    assert!(!journal.status().poisoned);
    disk.give_space_back();
    let range = journal.commit(&frame(b"second")).expect("there is space again");
    assert_eq!(*range.start(), SequenceNumber(2));
    drop(journal);
    disk.lose_power();
    assert_eq!(payloads(&open(&disk, false).expect("opens")), [b"hfirst".to_vec(), b"hsecond".to_vec()]);
}

#[test]
fn a_log_file_that_cannot_be_opened_for_want_of_descriptors_costs_that_group_and_not_the_log() {
    for ahead in [false, true] {
        let disk = SimDisk::new(9);
        let journal = open_with(&disk, true, ahead).expect("opens");
        disk.schedule(0, Fault::Descriptors);
        let error = journal.commit(&frame(b"first")).expect_err("there is no descriptor");
        assert!(matches!(error, CommitError::Unavailable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("`/log`") && text.contains("`ulimit -n`"), "{text}");
        disk.give_space_back();
        journal.commit(&frame(&[1; 1_000])).expect("there is one again");
        // Frames go into the file that is open, and the log fills it without opening anything.
        disk.schedule(0, Fault::Descriptors);
        let refused = (0..20).filter(|_| journal.commit(&frame(&[1; 1_000])).is_err()).count();
        assert!((1..20).contains(&refused), "{refused}");
        assert!(!journal.status().poisoned);
        disk.give_space_back();
        journal.commit(&frame(b"last")).expect("there is one again");
        drop(journal);
        disk.lose_power();
        let found = payloads(&open(&disk, false).expect("opens"));
        assert_eq!(found.len(), 22 - refused);
        assert_eq!(found.last().map(Vec::as_slice), Some(&b"hlast"[..]));
    }
}

#[test]
fn a_limit_on_the_length_of_files_makes_shorter_log_files_and_refuses_what_fits_none() {
    let disk = SimDisk::new(10);
    let journal = open(&disk, false).expect("opens");
    journal.commit(&frame(&[1; 1_000])).expect("works");
    disk.schedule(0, Fault::FileLength);
    for _ in 0..3 {
        journal.commit(&frame(&[1; 900])).expect("goes into a file of its own");
    }
    assert_eq!(journal.status().files, 4);
    let error = journal.commit(&frame(&[1; 1_500])).expect_err("it is longer than files may be");
    assert!(matches!(error, CommitError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("`ulimit -f`"), "{error}");
    journal.commit(&frame(b"short")).expect("what fits is taken");
    drop(journal);
    disk.lose_power();
    assert_eq!(payloads(&open(&disk, false).expect("opens")).len(), 5);
}

#[test]
fn a_full_disk_does_not_keep_the_log_from_being_opened_and_trimmed() {
    let disk = SimDisk::new(2);
    let journal = open(&disk, true).expect("opens");
    for _ in 0..40 {
        journal.commit(&frame(&[7; 300])).expect("there is space");
    }
    drop(journal);
    disk.schedule(0, Fault::Full);
    let journal = open(&disk, true).expect("opens all the same");
    assert!(matches!(journal.commit(&frame(b"more")), Err(CommitError::Full { .. })));
    let files = journal.status().files;
    journal.trim(SequenceNumber(40)).expect("trims");
    assert!(journal.status().files < files);
    disk.give_space_back();
    assert_eq!(*journal.commit(&frame(b"more")).expect("there is space").start(), SequenceNumber(41));
}

#[test]
fn after_a_failed_sync_nothing_is_committed_and_the_sync_is_not_tried_again() {
    let disk = SimDisk::new(3);
    let journal = open(&disk, true).expect("opens");
    journal.commit(&frame(b"first")).expect("works");
    disk.schedule(1, Fault::SyncFails);
    let error = journal.commit(&frame(b"second")).expect_err("the sync fails");
    assert!(matches!(&error, CommitError::Poisoned { path, .. } if path == "/log"), "{error}");
    let syncs = disk.syncs();
    for _ in 0..3 {
        assert!(matches!(journal.commit(&frame(b"third")), Err(CommitError::Poisoned { .. })));
    }
    assert!(journal.status().poisoned);
    drop(journal);
    assert_eq!(disk.syncs(), syncs, "nothing was synced after the failure");
}

#[test]
fn a_frame_that_was_read_after_a_failed_sync_is_durable_from_then_on() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let journal = open(&disk, seed % 2 == 0).expect("opens");
        journal.commit(&frame(b"first")).expect("works");
        disk.schedule(1, Fault::SyncFails);
        journal.commit(&frame(b"second")).expect_err("the sync fails");
        drop(journal);
        disk.restart_process();
        let seen = payloads(&open(&disk, true).expect("opens"));
        assert_eq!(seen.len(), 2, "the page cache still has it");
        disk.lose_power();
        assert_eq!(payloads(&open(&disk, true).expect("opens")), seen, "seed {seed}");
    }
}

#[test]
fn a_failed_write_poisons_the_log() {
    let disk = SimDisk::new(4);
    let journal = open(&disk, true).expect("opens");
    journal.commit(&frame(b"first")).expect("works");
    disk.schedule(0, Fault::Broken);
    assert!(matches!(journal.commit(&frame(b"second")), Err(CommitError::Poisoned { .. })));
    assert!(journal.status().poisoned);
}

#[test]
fn a_short_write_is_finished() {
    let disk = SimDisk::new(5);
    let journal = open(&disk, true).expect("opens");
    journal.commit(&frame(b"first")).expect("works");
    for _ in 0..20 {
        disk.schedule(0, Fault::ShortWrite);
        journal.commit(&frame(&[9; 100])).expect("the rest is written too");
    }
    assert_eq!(payloads(&journal).len(), 21);
}

#[test]
fn a_group_costs_one_sync() {
    let disk = SimDisk::new(6);
    let journal = open(&disk, true).expect("opens");
    journal.commit(&frame(b"first")).expect("works");
    let syncs = disk.syncs();
    let body = [1; 10];
    journal.commit(&[Frame { header: b"", body: &body }; 50]).expect("works");
    assert_eq!(disk.syncs(), syncs + 1);
    assert_eq!(disk.names().len(), 1, "{:?}", disk.names());
}

#[test]
fn a_change_to_a_file_that_was_made_ahead_costs_one_sync_of_it_and_one_of_the_directory() {
    let disk = SimDisk::new(7);
    let journal = open_with(&disk, true, true).expect("opens");
    let body = [1; 1_000];
    for _ in 0..3 {
        journal.commit(&frame(&body)).expect("works");
    }
    assert!(disk.names().iter().any(|name| name.contains("next-")), "{:?}", disk.names());
    let syncs = disk.syncs();
    journal.commit(&frame(&body)).expect("goes into the next file");
    assert_eq!((journal.status().files, disk.syncs()), (2, syncs + 2));
    drop(journal);
    assert!(disk.names().iter().all(|name| name.ends_with(".log")), "{:?}", disk.names());
}

#[test]
fn a_failure_to_make_the_next_file_ahead_is_no_failure_of_a_commit() {
    for fault in [Fault::SyncFails, Fault::Full] {
        for after in 2..6 {
            let disk = SimDisk::new(8);
            let journal = open_with(&disk, true, true).expect("opens");
            for _ in 0..2 {
                journal.commit(&frame(&[1; 1_000])).expect("works");
            }
            // The third one writes, syncs, and then makes, sets aside, fills and syncs the next file.
            disk.schedule(after, fault);
            journal.commit(&frame(&[1; 1_000])).expect("its own file is there");
            disk.give_space_back();
            for _ in 0..3 {
                journal.commit(&frame(&[1; 1_000])).expect("a file is made when it is needed");
            }
            assert_eq!(payloads(&journal).len(), 6, "{fault:?} after {after}");
        }
    }
}
