//! Any bytes whatever in place of a log file: nothing panics, and what is read out was put in.

use std::collections::BTreeMap;

use plimsoll_journal::{Frame, Journal, read_image};
use plimsoll_model::SequenceNumber;
use proptest::prelude::*;

use super::{log_file, open, read};

fn log(payloads: &[Vec<u8>]) -> (std::ffi::OsString, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    for group in payloads.chunks(3) {
        let frames: Vec<Frame<'_>> = group.iter().map(|body| Frame { header: &[], body }).collect();
        journal.commit(&frames).expect("there is space");
    }
    drop(journal);
    let path = log_file(dir.path());
    (path.file_name().expect("has one").to_owned(), std::fs::read(path).expect("reads"))
}

#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Zero(usize, usize),
    Noise(usize, Vec<u8>),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Double(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<usize>(), 1..80_usize).prop_map(|(at, length)| Change::Zero(at, length)),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..60)).prop_map(|(at, bytes)| Change::Noise(at, bytes)),
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..60)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<usize>(), 1..200_usize).prop_map(|(at, length)| Change::Double(at, length)),
    ]
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        let length = image.len().max(1);
        match self {
            Self::Flip(at, bit) => {
                if let Some(byte) = image.get_mut(at % length) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Zero(at, count) => image.iter_mut().skip(at % length).take(*count).for_each(|byte| *byte = 0),
            Self::Noise(at, bytes) => {
                image.iter_mut().skip(at % length).zip(bytes).for_each(|(byte, noise)| *byte = *noise);
            }
            Self::Cut(at) => image.truncate(at % length),
            Self::Insert(at, bytes) => {
                let at = (at % length).min(image.len());
                image.splice(at..at, bytes.iter().copied());
            }
            Self::Double(at, count) => {
                let at = (at % length).min(image.len());
                let part: Vec<u8> = image[at..].iter().take(*count).copied().collect();
                image.splice(at..at, part);
            }
        }
    }
}

/// How many mutations are tried: 192, times `PLIMSOLL_MUTATIONS`.
fn cases() -> u32 {
    let times = std::env::var("PLIMSOLL_MUTATIONS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    192_u32.saturating_mul(times)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_changed_log_gives_only_frames_that_were_written_in_order_and_opens_again(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..20),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let (name, mut image) = log(&payloads);
        changes.iter().for_each(|change| change.apply(&mut image));
        let written: BTreeMap<u64, &Vec<u8>> = (1..).zip(&payloads).collect();
        let mut last = 0;
        read_image(&image, SequenceNumber(1), &mut |number, payload| {
            assert!(number.0 > last, "frame {number} came after {last}");
            last = number.0;
            assert_eq!(written.get(&last).map(|written| written.as_slice()), Some(payload));
        });

        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(name), &image).expect("writes");
        let journal = open(dir.path());
        journal.commit(&[Frame { header: b"new", body: b"frame" }]).expect("there is space");
        let (found, _) = read(&journal);
        prop_assert_eq!(found.last().map(|(_, text)| text.as_str()), Some("newframe"));
        drop(journal);
        prop_assert_eq!(read(&open(dir.path())).0, found, "opening it again changes nothing");
    }

    #[test]
    fn noise_is_no_log(image in prop::collection::vec(any::<u8>(), 0..400)) {
        let damaged = read_image(&image, SequenceNumber(1), &mut |_, _| panic!("there is no frame in noise"));
        prop_assert!(damaged <= image.len() as u64);
    }
}

#[test]
fn a_frame_that_claims_more_than_there_is_costs_no_memory() {
    let (_, mut image) = log(&[vec![1; 100]]);
    image[56..60].copy_from_slice(&(200_u32 << 20).to_le_bytes());
    assert_eq!(read_image(&image, SequenceNumber(1), &mut |_, _| panic!("it is damaged")), 128);
}
