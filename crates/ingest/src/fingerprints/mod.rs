//! Counted once: which requests are stored already, told by a fingerprint of their bytes.
//!
//! | file | owns |
//! |---|---|
//! | `ring` | what is remembered, in bounded memory |
//! | `file` | what outlives the journal's frames |
//!
//! *How.* A request claims its fingerprint before it is decoded. Whoever comes with the same one meanwhile waits for the
//! outcome: if it was stored, the second is acknowledged too; if not, the second takes its own turn. Once stored, a fingerprint
//! is remembered for the window, or until memory is needed for later ones: then the oldest is forgotten first, and counted.
//!
//! *Invariants.*
//! - A repeat is acknowledged only after the frame of the first is durable and its rows are visible.
//! - Frames the journal still has are fingerprinted when it is replayed; those it gives back are in `file` before
//!   ([`Fingerprints::save`]). So what was acknowledged is known after any restart.
//! - A claim that is dropped unfulfilled, whatever ended the request, lets the next one through.
//! - Ages are what the machine counted since the start, so that nobody who sets the clock has a retry stored again. The files hold the
//!   clock's times; what they say is of the future was received just now.
//!
//! *What a fingerprint is.* XXH3 of 128 bits over the protobuf request, seeded with a random number that the directory keeps and
//! with the signal. Among a billion requests within a window two that differ share one with a probability of 10⁻²¹. It is no
//! defence against somebody who can read the seed from the disk.
//!
//! *Cost.* One pass over the bytes; one short lock to claim, one a group to record, one to release. No allocation but for a
//! claim's place in a map.

mod file;
mod ring;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use plimsoll_model::{SequenceNumber, UnixNanos};
use plimsoll_otlp::Signal;
use plimsoll_store::Clock;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::counters::Counter;
use crate::pipeline::nanos;
use file::Files;
use ring::{AGAIN, Ring, Stored};

/// How repeated requests are told.
#[derive(Clone)]
pub struct FingerprintOptions {
    /// Directory of what outlives a restart; made where it is missing.
    pub dir: PathBuf,
    /// How long a request is remembered.
    pub window: Duration,
    /// Memory for what is remembered.
    pub bytes: usize,
    /// Any value that outsiders cannot guess: seeds a directory that has no seed yet.
    pub entropy: u64,
    /// Tells the time.
    pub clock: Clock,
}

/// The requests that are stored already. One a process, shared by the receivers and whoever trims the journal.
pub struct Fingerprints {
    /// Nanoseconds; 0 where nothing is remembered.
    window: u64,
    seed: u64,
    clock: Option<Clock>,
    /// Nanoseconds that go on as the machine counts them, from what the clock said at the start.
    steady: Box<dyn Fn() -> u64 + Send + Sync>,
    table: Mutex<Table>,
    files: Option<Mutex<Files>>,
    /// Requests that were forgotten within the window, because there was no room.
    pub forgotten: Counter,
    /// Times that fingerprints could not be written before frames were given back.
    pub save_failures: Counter,
}

struct Table {
    ring: Ring,
    /// Claimed and not decided; with what others wait on, where others do.
    claimed: HashMap<u128, Option<Arc<Semaphore>>>,
    /// Every frame up to this one is in the files.
    saved: u64,
}

/// What a request is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u128);

/// What became of an attempt to claim a fingerprint.
pub(crate) enum Claimed {
    /// Nobody has it: go on, and fulfil the claim.
    New(Claim),
    /// It is stored. With `again`, records may have been left out of it, and decoding tells.
    Stored { again: bool },
    /// Somebody is about to store it: try again once this is closed.
    Pending(Arc<Semaphore>),
}

/// A fingerprint that a request holds until it is stored or given up.
pub(crate) struct Claim {
    owner: Option<Arc<Fingerprints>>,
    fingerprint: u128,
    received: u64,
}

impl Fingerprints {
    /// Remembers nothing: every request is stored.
    pub fn off() -> Arc<Self> {
        Arc::new(Self::new(0, 0, None, 0, None))
    }

    /// Reads what is known from before. A window of zero is [`Self::off`].
    ///
    /// # Errors
    /// The directory cannot be made or read. Damage in it is logged, and costs what was in it.
    pub fn open(options: FingerprintOptions) -> std::io::Result<Arc<Self>> {
        let (begun, at) = (Instant::now(), (options.clock)().0);
        Self::open_by(options, Box::new(move || at.saturating_add(nanos(begun.elapsed()))))
    }

    fn open_by(options: FingerprintOptions, steady: Box<dyn Fn() -> u64 + Send + Sync>) -> std::io::Result<Arc<Self>> {
        let window = u64::try_from(options.window.as_nanos()).unwrap_or(u64::MAX);
        if window == 0 {
            return Ok(Self::off());
        }
        let mut ring = Ring::new(options.bytes);
        let (files, found) = Files::open(&options.dir, options.entropy, ring.capacity())?;
        let now = steady();
        let recent = found.stored.into_iter().filter(|one| one.received_ns() >= now.saturating_sub(window));
        for one in recent {
            ring.push(one.received_at(one.received_ns().min(now)));
        }
        let seed = files.seed();
        let this = Self { steady, ..Self::new(window, seed, Some(options.clock), 0, Some(files)) };
        *this.table.lock() = Table { ring, claimed: HashMap::new(), saved: found.through };
        Ok(Arc::new(this))
    }

    fn new(window: u64, seed: u64, clock: Option<Clock>, bytes: usize, files: Option<Files>) -> Self {
        Self {
            window,
            seed,
            clock,
            steady: Box::new(|| 0),
            table: Mutex::new(Table { ring: Ring::new(bytes), claimed: HashMap::new(), saved: 0 }),
            files: files.map(Mutex::new),
            forgotten: Counter::default(),
            save_failures: Counter::default(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.window > 0
    }

    /// Returns how many requests are remembered.
    pub fn len(&self) -> usize {
        self.table.lock().ring.len()
    }

    /// Says whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns up to which frame everything is on disk; those behind it are looked for in the journal.
    pub(crate) fn saved(&self) -> SequenceNumber {
        SequenceNumber(self.table.lock().saved)
    }

    pub(crate) fn of(&self, signal: Signal, request: &[u8]) -> Fingerprint {
        // An odd factor moves every bit of the small number far from the seed's neighbours.
        let seed = self.seed ^ (signal as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Fingerprint(xxh3_128_with_seed(request, seed))
    }

    /// Claims a fingerprint for a request that was just received.
    pub(crate) fn claim(self: &Arc<Self>, Fingerprint(fingerprint): Fingerprint) -> Claimed {
        let now = (self.steady)();
        let mut table = self.table.lock();
        if let Some(stored) = table.ring.get(fingerprint)
            && now.saturating_sub(stored.received_ns()) <= self.window
            && !table.claimed.contains_key(&fingerprint)
        {
            return Claimed::Stored { again: stored.again() };
        }
        match table.claimed.entry(fingerprint) {
            Entry::Occupied(mut held) => {
                Claimed::Pending(Arc::clone(held.get_mut().get_or_insert_with(|| Arc::new(Semaphore::new(0)))))
            }
            Entry::Vacant(free) => {
                free.insert(None);
                Claimed::New(Claim { owner: Some(Arc::clone(self)), fingerprint, received: now & !AGAIN })
            }
        }
    }

    /// Remembers requests that became durable, in the order of their frames, before anybody can give the frames back.
    pub(crate) fn record<'a>(&self, stored: impl Iterator<Item = (SequenceNumber, &'a Claim)>) {
        let mut table = None;
        for (sequence, claim) in stored {
            let table = table.get_or_insert_with(|| self.table.lock());
            let Claim { fingerprint, received, .. } = *claim;
            self.push(table, Stored { fingerprint, received, sequence: sequence.0 }, received & !AGAIN);
        }
    }

    /// Remembers a frame that was read again. `complete` is false where records were left out of it, or may have been.
    pub(crate) fn replayed(
        &self,
        sequence: SequenceNumber,
        fingerprint: Fingerprint,
        received: UnixNanos,
        complete: bool,
    ) {
        let now = (self.steady)();
        let received_ns = (received.0 & !AGAIN).min(now);
        if now.saturating_sub(received_ns) > self.window {
            return;
        }
        let received = if complete { received_ns } else { received_ns | AGAIN };
        self.push(&mut self.table.lock(), Stored { fingerprint: fingerprint.0, received, sequence: sequence.0 }, now);
    }

    fn push(&self, table: &mut Table, stored: Stored, now: u64) {
        if let Some(oldest) = table.ring.push(stored)
            && now.saturating_sub(oldest.received_ns()) <= self.window
        {
            self.forgotten.add(1);
        }
    }

    /// Makes what is known of frames up to `through` durable. To be called before the journal gives them back.
    ///
    /// A failure is counted and logged: keeping frames for it would fill a disk that is full already. Until the window has
    /// passed, repeats of those requests are stored again after a restart.
    pub fn save(&self, through: SequenceNumber) {
        let Some(files) = &self.files else { return };
        let mut files = files.lock();
        let (now, wall) = ((self.steady)(), self.clock.as_ref().map_or(0, |clock| clock().0));
        let since = now.saturating_sub(self.window);
        let on_the_clock = |one: &Stored| one.received_at(wall.saturating_sub(now.saturating_sub(one.received_ns())));
        let (mut stored, capacity) = {
            let table = self.table.lock();
            if through.0 <= table.saved {
                return;
            }
            let unsaved = table.ring.newest_first().take_while(|one| one.sequence > table.saved);
            let due = unsaved.filter(|one| one.sequence <= through.0 && one.received_ns() >= since);
            (due.map(on_the_clock).collect::<Vec<_>>(), table.ring.capacity())
        };
        stored.reverse();
        match files.append(&stored, through.0, wall.saturating_sub(self.window), capacity) {
            Ok(()) => {
                let mut table = self.table.lock();
                table.saved = table.saved.max(through.0);
            }
            Err(error) => {
                self.save_failures.add(1);
                tracing::warn!(%error, "fingerprints of requests could not be saved: repeats may be stored again after a restart");
            }
        }
    }
}

impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fingerprints").field("window", &self.window).field("held", &self.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FingerprintOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dir, window, bytes, .. } = self;
        let dir: &Path = dir;
        f.debug_struct("FingerprintOptions").field("dir", &dir).field("window", window).field("bytes", bytes).finish()
    }
}

impl Claim {
    /// States that records were left out, so that the answer to a repeat is worked out again.
    pub(crate) fn incomplete(&mut self) {
        self.received |= AGAIN;
    }
}

impl Drop for Claim {
    /// Fulfilled or not: whoever waits looks again, and finds the request stored or free to be claimed.
    fn drop(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        let waiting = owner.table.lock().claimed.remove(&self.fingerprint).flatten();
        if let Some(waiting) = waiting {
            waiting.close();
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({:032x})", self.fingerprint)
    }
}

#[cfg(test)]
mod tests;
