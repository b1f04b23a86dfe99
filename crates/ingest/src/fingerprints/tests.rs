//! What is remembered, for how long, and across restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Fingerprints on a directory, their clock in seconds, and what the machine counts.
struct World {
    dir: tempfile::TempDir,
    seconds: Arc<AtomicU64>,
    counted: Arc<AtomicU64>,
    bytes: usize,
}

impl World {
    fn new(bytes: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir, seconds: Arc::new(AtomicU64::new(1_000_000)), counted: Arc::default(), bytes }
    }

    fn open(&self) -> Arc<Fingerprints> {
        let (seconds, counted) = (Arc::clone(&self.seconds), Arc::clone(&self.counted));
        let now = || seconds.load(Ordering::Relaxed);
        let (at, from) = (now(), counted.load(Ordering::Relaxed));
        let options = FingerprintOptions {
            dir: self.dir.path().join("fingerprints"),
            window: Duration::from_secs(600),
            bytes: self.bytes,
            entropy: now(),
            clock: Arc::new(move || UnixNanos(seconds.load(Ordering::Relaxed) * 1_000_000_000)),
        };
        let steady = move || (at + counted.load(Ordering::Relaxed) - from) * 1_000_000_000;
        Fingerprints::open_by(options, Box::new(steady)).expect("opens")
    }

    fn now(&self) -> UnixNanos {
        UnixNanos(self.seconds.load(Ordering::Relaxed) * 1_000_000_000)
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
        self.counted.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sets the clock back, or ahead.
    fn set(&self, by: i64) {
        self.seconds.fetch_add(by as u64, Ordering::Relaxed);
    }

    fn claim(&self, on: &Arc<Fingerprints>, request: &[u8]) -> Claimed {
        on.claim(on.of(Signal::Logs, request))
    }

    /// Stores a request as frame `sequence`.
    fn store(&self, on: &Arc<Fingerprints>, request: &[u8], sequence: u64) {
        let Claimed::New(claim) = self.claim(on, request) else { panic!("{request:?} is known") };
        on.record([(SequenceNumber(sequence), &claim)].into_iter());
    }

    fn knows(&self, on: &Arc<Fingerprints>, request: &[u8]) -> bool {
        matches!(self.claim(on, request), Claimed::Stored { .. })
    }
}

#[test]
fn a_request_is_known_for_the_window_and_no_longer() {
    let world = World::new(1 << 20);
    let known = world.open();
    world.store(&known, b"one", 1);
    world.pass(600);
    assert!(world.knows(&known, b"one"));
    assert!(!world.knows(&known, b"two"));
    world.pass(1);
    assert!(!world.knows(&known, b"one"));
    world.store(&known, b"one", 2);
    world.pass(600);
    assert!(world.knows(&known, b"one"), "it counts from the last time that it was stored");
}

#[test]
fn a_clock_that_is_set_has_no_retry_stored_again_and_no_request_known_for_longer() {
    for by in [-3_600, 3_600, 86_400_000] {
        let world = World::new(1 << 20);
        let known = world.open();
        world.pass(10_000);
        world.store(&known, b"one", 1);
        world.set(by);
        world.pass(300);
        assert!(world.knows(&known, b"one"), "{by}: a retry as the clock was corrected");
        // What is saved has the time that the next start has.
        known.save(SequenceNumber(1));
        let again = world.open();
        assert!(world.knows(&again, b"one"), "{by}");
        world.pass(301);
        assert!(!world.knows(&known, b"one") && !world.knows(&again, b"one"), "{by}: the window has passed");
    }
}

#[test]
fn what_was_received_in_the_future_by_the_clock_of_a_start_is_known_for_a_window() {
    let world = World::new(1 << 20);
    let known = world.open();
    world.store(&known, b"one", 1);
    known.save(SequenceNumber(1));
    drop(known);
    world.set(-3_600);
    let known = world.open();
    known.replayed(
        SequenceNumber(2),
        known.of(Signal::Logs, b"two"),
        UnixNanos(world.now().0 + 5_000_000_000_000),
        true,
    );
    assert!(world.knows(&known, b"one") && world.knows(&known, b"two"));
    world.pass(601);
    assert!(!world.knows(&known, b"one") && !world.knows(&known, b"two"));
}

#[test]
fn the_same_bytes_of_another_signal_are_another_request() {
    let world = World::new(1 << 20);
    let known = world.open();
    assert_ne!(known.of(Signal::Logs, b""), known.of(Signal::Traces, b""));
    assert_ne!(known.of(Signal::Logs, b"x"), known.of(Signal::Metrics, b"x"));
    let other = World::new(1 << 20);
    other.pass(1);
    assert_ne!(known.of(Signal::Logs, b"x"), other.open().of(Signal::Logs, b"x"), "another directory, another seed");
}

#[tokio::test]
async fn the_second_waits_for_the_first_and_goes_on_itself_where_that_gave_up() {
    let world = World::new(1 << 20);
    let known = world.open();
    let Claimed::New(first) = world.claim(&known, b"one") else { panic!("nobody came before") };
    let waiting: Vec<_> = (0..3)
        .map(|_| match world.claim(&known, b"one") {
            Claimed::Pending(decided) => decided,
            _ => panic!("the first is not decided"),
        })
        .collect();
    drop(first);
    for decided in waiting {
        assert!(decided.acquire().await.is_err(), "is closed");
    }
    let Claimed::New(second) = world.claim(&known, b"one") else { panic!("the first gave up") };
    let Claimed::Pending(decided) = world.claim(&known, b"one") else { panic!("the second is not decided") };
    known.record([(SequenceNumber(1), &second)].into_iter());
    assert!(matches!(world.claim(&known, b"one"), Claimed::Pending(_)), "durable, and not visible yet");
    drop(second);
    assert!(decided.acquire().await.is_err());
    assert!(world.knows(&known, b"one"));
}

#[test]
fn what_is_saved_is_known_after_a_restart_and_what_is_not_is_asked_of_the_journal() {
    let world = World::new(1 << 20);
    let known = world.open();
    for n in 1..=5_u64 {
        world.store(&known, &n.to_le_bytes(), n);
    }
    known.save(SequenceNumber(3));
    known.save(SequenceNumber(2));
    world.store(&known, b"six", 6);
    drop(known);

    let known = world.open();
    assert_eq!(known.saved(), SequenceNumber(3));
    let knows = |n: u64| world.knows(&known, &n.to_le_bytes());
    assert_eq!((1..=5).map(knows).collect::<Vec<_>>(), [true, true, true, false, false]);
    known.replayed(SequenceNumber(4), known.of(Signal::Logs, &4_u64.to_le_bytes()), world.now(), true);
    assert!(world.knows(&known, &4_u64.to_le_bytes()));
    known.save(SequenceNumber(4));
    drop(known);
    assert!(world.knows(&world.open(), &4_u64.to_le_bytes()));
    world.pass(601);
    let known = world.open();
    assert!(known.is_empty(), "they are older than the window");
    assert_eq!(known.saved(), SequenceNumber(4));
}

#[test]
fn whether_something_was_left_out_is_known_after_a_restart() {
    let world = World::new(1 << 20);
    let known = world.open();
    let Claimed::New(mut claim) = world.claim(&known, b"one") else { panic!("nobody came before") };
    claim.incomplete();
    known.record([(SequenceNumber(1), &claim)].into_iter());
    drop(claim);
    world.store(&known, b"two", 2);
    known.save(SequenceNumber(2));
    for known in [known, world.open()] {
        assert!(matches!(world.claim(&known, b"one"), Claimed::Stored { again: true }));
        assert!(matches!(world.claim(&known, b"two"), Claimed::Stored { again: false }));
    }
}

#[test]
fn the_oldest_is_forgotten_where_there_is_no_room_and_counted_if_it_mattered() {
    let world = World::new(0);
    let known = world.open();
    for n in 1..=20_u64 {
        world.store(&known, &n.to_le_bytes(), n);
    }
    assert_eq!((known.len(), known.forgotten.get()), (16, 4));
    assert!(!world.knows(&known, &4_u64.to_le_bytes()));
    assert!(world.knows(&known, &5_u64.to_le_bytes()));
    world.pass(601);
    world.store(&known, b"later", 21);
    assert_eq!(known.forgotten.get(), 4, "nobody could have repeated what was given up now");
}

#[test]
fn a_directory_that_cannot_be_written_is_counted_and_stops_nothing() {
    let world = World::new(1 << 20);
    let known = world.open();
    std::fs::remove_dir_all(world.dir.path()).expect("removes");
    world.store(&known, b"one", 1);
    known.save(SequenceNumber(1));
    assert_eq!((known.save_failures.get(), known.saved()), (1, SequenceNumber(0)));
    assert!(world.knows(&known, b"one"));
}

#[test]
fn nothing_is_remembered_where_it_is_turned_off() {
    let world = World::new(1 << 20);
    let options = FingerprintOptions {
        dir: world.dir.path().join("none"),
        window: Duration::ZERO,
        bytes: 1 << 20,
        entropy: 1,
        clock: Arc::new(|| UnixNanos(0)),
    };
    let off = Fingerprints::open(options).expect("opens");
    assert!(!off.is_on());
    off.save(SequenceNumber(9));
    assert!(!world.dir.path().join("none").exists());
}
