//! Damaged files: what was whole is read, what was not is counted, and nothing is made up.

use std::fs;
use std::path::Path;

use plimsoll_journal::{Journal, JournalOptions, LocalJournal};

use super::{commit, log_file, open, options, read};

/// What is in the quarantine of a directory.
fn quarantined(dir: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(dir.join("quarantine")) else { return Vec::new() };
    entries.map(|entry| fs::read(entry.expect("has entries").path()).expect("reads")).collect()
}

/// Makes a log of groups of three frames, closed unless `killed`, in one file; returns its name and bytes.
fn log_of_groups(groups: usize, killed: bool) -> (std::ffi::OsString, Vec<u8>, Vec<(u64, String)>) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    for group in 0..groups {
        let bodies: Vec<String> = (0..3).map(|n| format!("group {group} frame {n}")).collect();
        commit(&journal, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let frames = read(&journal).0;
    let log = log_file(dir.path());
    let bytes = if killed { fs::read(&log).expect("reads") } else { Vec::new() };
    drop(journal);
    let bytes = if killed { bytes } else { fs::read(&log).expect("reads") };
    (log.file_name().expect("has one").to_owned(), bytes, frames)
}

#[test]
fn a_log_cut_at_any_byte_keeps_every_frame_before_the_cut_and_takes_new_ones() {
    let (name, bytes, frames) = log_of_groups(3, true);
    for cut in 0..=bytes.len() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(&name), &bytes[..cut]).expect("writes");
        let journal = open(dir.path());
        commit(&journal, &["after the cut"]);
        let (mut found, report) = read(&journal);
        let (number, text) = found.pop().expect("the new frame");
        assert_eq!((number, text.as_str()), (found.len() as u64 + 1, "after the cut"), "cut at {cut}");
        assert_eq!(found, frames[..found.len()], "cut at {cut}");
        let whole = (cut.saturating_sub(48) / 43).min(9);
        assert_eq!(found.len(), whole, "cut at {cut}: a frame of 15 bytes takes 43");
        if cut >= 48 {
            let left = &bytes[48 + 43 * whole..cut];
            // Zeros at the end are not told from space that was set aside.
            let torn = left.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
            assert_eq!((report.torn_bytes, report.quarantined), (torn, 0), "cut at {cut}");
        }
        assert_eq!(journal.status().next.0, number + 1);
        assert_eq!(log_lengths(dir.path(), &name), 48 + 43 * whole as u64, "cut at {cut}: the torn part is gone");
    }
}

fn log_lengths(dir: &Path, name: &std::ffi::OsStr) -> u64 {
    let length = fs::metadata(dir.join(name)).expect("is there").len();
    // A file without frames was replaced by the one that the new frame is in.
    if length > 48 && fs::read_dir(dir).expect("is there").filter(is_log).count() == 1 { 48 } else { length }
}

fn is_log(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
}

#[test]
fn a_flipped_bit_anywhere_in_a_closed_log_costs_at_most_one_frame_which_is_quarantined_and_counted() {
    let (name, bytes, frames) = log_of_groups(2, false);
    let close_mark = bytes.len() - 28;
    for bit in (0..bytes.len()).map(|at| at * 8 + at % 8) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(dir.path().join(&name), &damaged).expect("writes");
        let journal = open(dir.path());
        assert_eq!(journal.status().next.0, 7, "bit {bit}");
        let (found, report) = read(&journal);
        if bit / 8 >= close_mark {
            assert_eq!(
                (found.len(), report.torn_bytes, report.quarantined),
                (6, 28, 0),
                "bit {bit} is in the close mark"
            );
            continue;
        }
        assert_eq!((report.torn_bytes, report.quarantined), (0, 1), "bit {bit}");
        let hit = (bit / 8).checked_sub(48).map(|at| at / 43);
        let expected: Vec<_> =
            frames.iter().filter(|(n, _)| hit.map(|at| at as u64 + 1) != Some(*n)).cloned().collect();
        assert_eq!(found, expected, "bit {bit}");
        let range = hit.map_or(0..48, |at| 48 + 43 * at..48 + 43 * (at + 1));
        assert_eq!(quarantined(dir.path()), [damaged[range.clone()].to_vec()], "bit {bit}");
        assert_eq!(report.quarantined_bytes, range.len() as u64);
    }
}

#[test]
fn damage_before_the_last_group_is_quarantined_even_if_the_log_was_not_closed() {
    let (name, mut bytes, frames) = log_of_groups(3, true);
    bytes[48 + 43 * 4 + 30] ^= 0x10;
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(&name), &bytes).expect("writes");
    let journal = open(dir.path());
    for _ in 0..2 {
        let (found, report) = read(&journal);
        assert_eq!(found, [&frames[..4], &frames[5..]].concat());
        assert_eq!((report.torn_bytes, report.quarantined, report.quarantined_bytes), (0, 1, 43));
    }
    assert_eq!(quarantined(dir.path()).len(), 1, "copied once, however often it is met");
}

#[test]
fn a_hole_in_the_last_group_of_a_killed_process_is_a_torn_tail_of_which_a_copy_is_kept() {
    let (name, mut bytes, frames) = log_of_groups(3, true);
    bytes[48 + 43 * 7 + 30] ^= 0x10;
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(&name), &bytes).expect("writes");
    let journal = open(dir.path());
    let (found, report) = read(&journal);
    assert_eq!(found, frames[..7]);
    assert_eq!((report.torn_bytes, report.quarantined), (86, 0));
    assert_eq!(quarantined(dir.path()), [bytes[48 + 43 * 7..48 + 43 * 9].to_vec()]);
}

#[test]
fn a_length_of_gigabytes_in_a_damaged_file_costs_one_frame() {
    let (name, mut bytes, frames) = log_of_groups(2, false);
    bytes[48 + 43 + 8..48 + 43 + 12].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(&name), &bytes).expect("writes");
    let (found, report) = read(&open(dir.path()));
    assert_eq!(found, [&frames[..1], &frames[2..]].concat());
    assert_eq!(report.quarantined_bytes, 43);
}

#[test]
fn a_log_file_that_lost_its_end_or_is_missing_is_counted() {
    for remove in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let small = JournalOptions { file_bytes_max: 150, ..options(dir.path()) };
        let journal = LocalJournal::open(small).expect("opens");
        for n in 0..9 {
            commit(&journal, &[&n.to_string(), "x"]);
        }
        drop(journal);
        let victim = dir.path().join("00000000000000000005.log");
        let length = fs::metadata(&victim).expect("is there").len();
        if remove {
            fs::remove_file(&victim).expect("removes");
        } else {
            fs::write(&victim, &fs::read(&victim).expect("reads")[..length as usize - 29]).expect("writes");
        }
        let (found, report) = read(&open(dir.path()));
        assert_eq!(report.quarantined, 1, "{report:?}");
        assert_eq!(found.len(), if remove { 16 } else { 17 });
        assert_eq!(found.last().map(|(n, _)| *n), Some(18));
    }
}

/// A killed log of nine files of two frames each, in a directory.
fn log_of_files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = LocalJournal::open(JournalOptions { file_bytes_max: 150, ..options(dir.path()) }).expect("opens");
    for n in 0..9 {
        commit(&journal, &[&n.to_string(), "x"]);
    }
    drop(journal);
    dir
}

fn open_after(dir: &Path, checkpoint: u64) -> LocalJournal {
    let numbers_taken = plimsoll_model::SequenceNumber(checkpoint);
    LocalJournal::open(JournalOptions { numbers_taken, ..options(dir) }).expect("opens")
}

#[test]
fn a_first_log_file_that_is_missing_is_counted_where_the_checkpoint_has_not_passed_it() {
    for (checkpoint, missing) in [(0, 1), (1, 1), (2, 0), (5, 0)] {
        let dir = log_of_files();
        fs::remove_file(dir.path().join("00000000000000000001.log")).expect("removes");
        let (found, report) = read(&open_after(dir.path(), checkpoint));
        assert_eq!((found.len(), report.quarantined, report.quarantined_bytes), (16, missing, 0), "{checkpoint}");
    }
}

#[test]
fn frames_that_were_given_back_are_not_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = LocalJournal::open(JournalOptions { file_bytes_max: 150, ..options(dir.path()) }).expect("opens");
    for n in 0..9 {
        commit(&journal, &[&n.to_string(), "x"]);
    }
    journal.trim(plimsoll_model::SequenceNumber(7)).expect("trims");
    assert_eq!(read(&journal).1.quarantined, 0);
    drop(journal);
    assert_eq!(read(&open_after(dir.path(), 7)).1.quarantined, 0);
}

#[test]
fn a_log_file_that_is_empty_or_full_of_zeros_is_counted() {
    for name in ["00000000000000000005.log", "00000000000000000017.log"] {
        for zeros in [0, 4_096] {
            let dir = log_of_files();
            fs::write(dir.path().join(name), vec![0; zeros]).expect("writes");
            let journal = open(dir.path());
            // Where it was the last one its place is taken again, and it is counted all the same.
            commit(&journal, &["next"]);
            let (found, report) = read(&journal);
            assert_eq!((found.len(), report.quarantined), (17, 1), "{name} of {zeros} zeros");
        }
    }
}

#[test]
fn the_first_block_of_a_log_file_may_be_lost_and_the_frames_behind_it_are_read() {
    // The second file is made by the same process, or by the next one.
    for restart in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let small = JournalOptions { file_bytes_max: 20_000, ..options(dir.path()) };
        let mut journal = LocalJournal::open(small.clone()).expect("opens");
        let body = "x".repeat(1_000);
        for n in 0..25 {
            commit(&journal, &[&format!("{n} {body}")]);
            if restart && n == 15 {
                drop(journal);
                journal = LocalJournal::open(JournalOptions { entropy: 43, ..small.clone() }).expect("opens");
            }
        }
        assert_eq!(journal.status().files, 2);
        drop(journal);
        let path = dir.path().join("00000000000000000001.log");
        let mut bytes = fs::read(&path).expect("reads");
        bytes[..4_096].fill(0);
        fs::write(&path, bytes).expect("writes");
        let (found, report) = read(&LocalJournal::open(small).expect("opens"));
        assert_eq!(found.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (5..=25).collect::<Vec<_>>(), "{restart}");
        assert_eq!(report.quarantined, 1, "{report:?}");
    }
}

#[test]
fn a_log_without_files_is_counted_where_there_was_one() {
    for (checkpoint, lost) in [(0, 0), (7, 1)] {
        let dir = tempfile::tempdir().expect("a directory");
        let (found, report) = read(&open_after(dir.path(), checkpoint));
        assert_eq!((found.len(), report.quarantined), (0, lost));
    }
}

#[test]
fn bytes_in_a_payload_that_look_like_a_frame_are_not_read_as_one() {
    let (_, forged, _) = log_of_groups(2, false);
    let dir = tempfile::tempdir().expect("a directory");
    let other = JournalOptions { entropy: 43, ..options(dir.path()) };
    let journal = LocalJournal::open(other.clone()).expect("opens");
    let body = [&forged[48..], &forged[48..]].concat();
    journal.commit(&[plimsoll_journal::Frame { header: &[], body: &body }]).expect("there is space");
    commit(&journal, &["honest"]);
    drop(journal);
    let path = log_file(dir.path());
    let mut bytes = fs::read(&path).expect("reads");
    bytes[48 + 9] ^= 1;
    fs::write(&path, bytes).expect("writes");
    let (found, report) = read(&LocalJournal::open(other).expect("opens"));
    assert_eq!(found, [(2, "honest".to_owned())]);
    assert_eq!(report.quarantined, 1);
}
