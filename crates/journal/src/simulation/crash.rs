//! Life after life on a failing disk: every committed frame survives exactly once and in order, uncommitted ones may or may
//! not, and none is ever altered.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_model::SequenceNumber;

use super::Random;
use super::disk::{Fault, SimDisk};
use crate::ahead::By;
use crate::local::LocalJournal;
use crate::options::JournalOptions;
use crate::port::{CommitError, Frame, Journal};

/// What must, and what may, be found.
#[derive(Default)]
struct Expected {
    committed: BTreeMap<u64, Vec<u8>>,
    /// Frames of groups of which nobody knows.
    possible: BTreeMap<u64, Vec<Vec<u8>>>,
    trimmed: u64,
    highest: u64,
}

fn options(random: &mut Random, seed: u64) -> JournalOptions {
    JournalOptions {
        file_bytes_max: 200 + random.below(3000),
        preallocate: random.one_in(2),
        ahead: random.one_in(2),
        entropy: seed,
        ..JournalOptions::new("/log")
    }
}

fn read(journal: &LocalJournal, after: u64, trimmed: u64, seed: u64) -> BTreeMap<u64, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut last = after;
    let report = journal
        .replay(SequenceNumber(after), &mut |number, payload| {
            assert!(number.0 > last, "seed {seed}: frame {number} came after {last}");
            last = number.0;
            found.insert(number.0, payload.to_vec());
            Ok(())
        })
        .expect("an unharmed disk can be read");
    let damage = if after < trimmed { report.quarantined_bytes } else { report.quarantined };
    assert_eq!(damage, 0, "seed {seed}: a crash is not damage: {report:?}");
    found
}

impl Expected {
    /// Compares what a new life finds; all of it counts as committed from then on.
    fn check(&mut self, journal: &LocalJournal, seed: u64) {
        let found = read(journal, 0, self.trimmed, seed);
        let wanted = found.range(self.trimmed + 1..).map(|(number, payload)| (*number, payload.clone()));
        assert_eq!(
            read(journal, self.trimmed, self.trimmed, seed),
            wanted.collect(),
            "seed {seed}: replay after a number"
        );
        for (number, payload) in &self.committed {
            if *number > self.trimmed {
                assert_eq!(found.get(number), Some(payload), "seed {seed}: committed frame {number}");
            }
        }
        for (number, payload) in &found {
            let committed = self.committed.get(number) == Some(payload);
            let possible = self.possible.get(number).is_some_and(|all| all.contains(payload));
            assert!(committed || possible, "seed {seed}: frame {number} was never written like that");
        }
        self.highest = self.highest.max(found.keys().next_back().copied().unwrap_or(0));
        assert!(journal.status().next.0 > self.highest, "seed {seed}: numbers do not restart");
        self.committed.extend(found);
        self.possible.clear();
    }

    /// Commits one group; returns whether the journal can go on.
    fn commit(&mut self, journal: &LocalJournal, disk: &SimDisk, random: &mut Random, seed: u64) -> bool {
        let payloads: Vec<Vec<u8>> = (0..1 + random.below(6))
            .map(|_| {
                let long = if random.one_in(10) { 700 } else { 90 };
                (0..random.below(long)).map(|_| random.next() as u8).collect()
            })
            .collect();
        let frames: Vec<Frame<'_>> = payloads
            .iter()
            .map(|payload| {
                let (header, body) = payload.split_at(payload.len() / 3);
                Frame { header, body }
            })
            .collect();
        let next = journal.status().next.0;
        match journal.commit(&frames) {
            Ok(range) => {
                assert_eq!(range.start().0, next, "seed {seed}");
                self.highest = range.end().0;
                self.committed.extend((next..).zip(payloads));
                assert_eq!(self.committed.keys().next_back(), Some(&self.highest), "seed {seed}");
                true
            }
            Err(CommitError::Full { .. } | CommitError::Unavailable { .. }) => {
                assert_eq!(journal.status().next.0, next, "seed {seed}: nothing was appended");
                if random.one_in(3) {
                    disk.give_space_back();
                }
                true
            }
            Err(CommitError::Poisoned { .. }) => {
                assert!(journal.status().poisoned, "seed {seed}");
                for (number, payload) in (next..).zip(payloads) {
                    self.possible.entry(number).or_default().push(payload);
                }
                false
            }
            Err(error @ CommitError::TooLarge { .. }) => panic!("seed {seed}: {error}"),
        }
    }
}

/// Runs one seed; returns what it met, so that the test can see that it met everything.
fn run(seed: u64) -> (u64, u64, u64) {
    let mut random = Random(seed);
    let disk = SimDisk::new(random.next());
    let mut expected = Expected::default();
    let (mut lives, mut full, mut poisoned) = (0, 0, 0);
    for _ in 0..8 {
        let faults = [
            Fault::ShortWrite,
            Fault::Interrupted,
            Fault::Full,
            Fault::Descriptors,
            Fault::FileLength,
            Fault::Broken,
            Fault::SyncFails,
            Fault::Power,
            Fault::Power,
        ];
        let fault = faults[random.below(faults.len() as u64) as usize];
        if !random.one_in(5) {
            disk.schedule(random.below(60), fault);
        }
        let opened = LocalJournal::open_on(Arc::new(disk.clone()), options(&mut random, seed), By::Caller);
        if let Ok(journal) = opened {
            lives += 1;
            expected.check(&journal, seed);
            for _ in 0..random.below(40) {
                if random.one_in(12) {
                    let through =
                        expected.trimmed + random.below(expected.highest.saturating_sub(expected.trimmed) + 1);
                    expected.trimmed = through;
                    let _ = journal.trim(SequenceNumber(through));
                } else if random.one_in(20) {
                    let after = expected.trimmed;
                    let wanted: BTreeMap<u64, Vec<u8>> =
                        expected.committed.range(after + 1..).map(|(n, p)| (*n, p.clone())).collect();
                    assert_eq!(
                        read(&journal, after, after, seed),
                        wanted,
                        "seed {seed}: a reader sees what is durable"
                    );
                } else {
                    let next = journal.status().next;
                    if !expected.commit(&journal, &disk, &mut random, seed) {
                        poisoned += 1;
                        break;
                    }
                    full += u64::from(journal.status().next == next);
                }
            }
            if random.one_in(3) {
                disk.kill();
            }
        }
        if disk.is_dead() || random.one_in(3) {
            disk.lose_power();
        } else {
            disk.restart_process();
        }
    }
    let journal = LocalJournal::open_on(Arc::new(disk.clone()), options(&mut random, seed), By::Caller)
        .expect("the disk works again");
    expected.check(&journal, seed);
    (lives, full, poisoned)
}

#[test]
fn every_committed_frame_survives_any_crash_exactly_once_and_in_order() {
    let seeds = std::env::var("PLIMSOLL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let (mut lives, mut full, mut poisoned) = (0, 0, 0);
    for seed in 0..seeds {
        let met = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("failed with seed {seed}"));
        (lives, full, poisoned) = (lives + met.0, full + met.1, poisoned + met.2);
    }
    assert!(
        lives > seeds * 6 && full > seeds / 10 && poisoned > seeds / 2,
        "{lives} lives, {full} full, {poisoned} poisoned"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(11), run(11));
}
