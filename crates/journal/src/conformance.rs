//! What every [`Journal`] must do, as a test that any of them can run.

use std::thread;

use plimsoll_model::SequenceNumber;

use crate::port::{Frame, Journal, ReplayError};

/// Checks a journal through its port. `open` opens the same, at first empty, journal each time; the one before was dropped.
///
/// # Panics
/// The journal does something that it must not, which the message names.
pub fn check<J: Journal>(open: &mut dyn FnMut() -> J) {
    let body = |n: u64| format!("body {n} ").repeat(usize::try_from(n % 40).expect("small")).into_bytes();
    let payload = |n: u64| [n.to_le_bytes().as_slice(), &body(n)].concat();
    let mut journal = open();
    let mut expected: Vec<(SequenceNumber, Vec<u8>)> = Vec::new();
    let mut made = 0;
    for group in 0..60_u64 {
        let numbers: Vec<u64> = (made..=made + group % 7).collect();
        made += group % 7 + 1;
        let parts: Vec<([u8; 8], Vec<u8>)> = numbers.iter().map(|n| (n.to_le_bytes(), body(*n))).collect();
        let frames: Vec<Frame<'_>> = parts.iter().map(|(header, body)| Frame { header, body }).collect();
        let before = journal.status();
        let range = journal.commit(&frames).expect("there is space");
        assert_eq!(*range.start(), before.next, "a group begins with the number that was announced");
        assert_eq!(range.end().0 - range.start().0 + 1, frames.len() as u64, "each frame has its own number");
        assert_eq!(journal.status().next, range.end().next(), "the next number follows the group");
        assert_eq!(journal.status().commits, before.commits + 1, "a group is counted as one commit");
        expected.extend((range.start().0..).map(SequenceNumber).zip(numbers.iter().map(|n| payload(*n))));
        if group % 20 == 19 {
            let next = journal.status().next;
            drop(journal);
            journal = open();
            assert_eq!(journal.status().next, next, "numbers go on where they were");
        }
    }
    assert!(expected[0].0 > SequenceNumber::ZERO, "zero comes before every frame");
    assert_eq!(replay(&journal, SequenceNumber::ZERO), expected, "every frame comes back once, whole and in order");
    for (at, (number, _)) in expected.iter().enumerate() {
        assert!(replay(&journal, *number) == expected[at + 1..], "replay starts after the number asked for: {number}");
    }

    let empty = journal.commit(&[]).expect("an empty group asks for nothing");
    assert!(empty.is_empty(), "an empty group has no numbers");
    let range = journal.commit(&[Frame { header: &[], body: &[] }]).expect("an empty frame is a frame");
    expected.push((*range.start(), Vec::new()));
    let long = vec![0x5a; 3 << 20];
    let range = journal.commit(&[Frame { header: b"long", body: &long }]).expect("there is space");
    expected.push((*range.start(), [b"long", long.as_slice()].concat()));
    assert_eq!(replay(&journal, SequenceNumber::ZERO), expected, "frames of no bytes and of many are kept");

    let mut visited = 0;
    let stopped = journal.replay(SequenceNumber::ZERO, &mut |at, _| {
        visited += 1;
        if visited == 3 { Err(ReplayError::Visitor { at, problem: "enough".to_owned() }) } else { Ok(()) }
    });
    assert!(
        matches!(stopped, Err(ReplayError::Visitor { at, .. }) if at == expected[2].0),
        "a refusal ends the replay"
    );
    assert_eq!(visited, 3, "and nothing is visited after it");

    let middle = expected[expected.len() / 2].0;
    thread::scope(|scope| {
        let trimming =
            scope.spawn(|| (0..=middle.0).for_each(|through| journal.trim(SequenceNumber(through)).expect("trims")));
        let watching =
            scope.spawn(|| (0..1000).for_each(|_| assert!(journal.status().oldest <= journal.status().next)));
        for n in 0..50_u64 {
            let number =
                *journal.commit(&[Frame { header: &n.to_le_bytes(), body: b"later" }]).expect("there is space").start();
            expected.push((number, [n.to_le_bytes().as_slice(), b"later"].concat()));
        }
        trimming.join().expect("trimming does not fail");
        watching.join().expect("watching does not fail");
    });
    expected.retain(|(number, _)| *number > middle);
    assert_eq!(replay(&journal, middle), expected, "trimming takes nothing that was not named");

    let next = journal.status().next;
    journal.trim(SequenceNumber(next.0 - 1)).expect("trims");
    drop(journal);
    let journal = open();
    assert_eq!(journal.status().next, next, "numbers do not restart when everything was trimmed");
    let range = journal.commit(&[Frame { header: b"a", body: b"b" }]).expect("there is space");
    assert_eq!(
        replay(&journal, SequenceNumber(next.0 - 1)),
        [(*range.start(), b"ab".to_vec())],
        "and new frames follow"
    );
}

fn replay(journal: &impl Journal, after: SequenceNumber) -> Vec<(SequenceNumber, Vec<u8>)> {
    let mut frames = Vec::new();
    let report = journal
        .replay(after, &mut |number, payload| {
            frames.push((number, payload.to_vec()));
            Ok(())
        })
        .expect("the log can be read");
    assert_eq!(report.frames, frames.len() as u64, "a replay counts what it visits");
    assert_eq!(report.bytes, frames.iter().map(|(_, payload)| payload.len() as u64).sum::<u64>(), "and its bytes");
    assert_eq!(report.quarantined, 0, "an unharmed log has no damage");
    frames
}
