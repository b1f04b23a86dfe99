//! Where small requests share columns: for every lane and signal one set of builders, with the requests whose rows are in it.
//!
//! *Why.* A request of a dozen records costs less to decode than the forty columns of a batch of its own cost to make, to weigh, to fold,
//! to put behind others and to free again.
//!
//! *How.* A request is decoded into the builders of its connection's lane, under their lock, or into those of another lane where that is taken
//! at the moment. The committer exchanges builders that hold something for empty ones and makes a batch of them, so that what is
//! decoded while a group is committed is the next group's.
//!
//! *Invariants.*
//! - A row is in the builders only together with the request it belongs to: both come and go under one lock.
//! - What waits is bounded by [`Limits`]; where there is no room, a request takes its own way through the lanes.
//!
//! *Cost.* A lock a request that nobody else wants as a rule, since there are as many lanes as threads; a store and, where the
//! committer sleeps, a system call to wake it. The committer: a load a lane and signal, a lock where something waits.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};
use plimsoll_otlp::{RowBuilder, Signal};

use crate::bundle::{Bundle, Entry};

/// How much may wait in one set of builders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) requests: usize,
    /// Bytes of requests, and bytes of rows.
    pub(crate) bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Joined {
    /// By lane, then by signal.
    places: Box<[CachePadded<Place>]>,
    limits: Limits,
    /// What builders keep of their room.
    room_bytes: usize,
    /// Where [`Self::take`] begins: behind the last place that it took from, so that a full lane does not keep others waiting.
    next: AtomicUsize,
}

/// Builders that are empty, by signal.
pub(crate) type Spare = [RowBuilder; Signal::ALL.len()];

/// Room of all builders together, those that are empty included.
pub(crate) const ROOM_BYTES: usize = 4 << 20;

#[derive(Debug)]
struct Place {
    signal: Signal,
    /// Requests that wait: written under the lock, read without.
    waiting: AtomicUsize,
    sheaf: Mutex<Sheaf>,
}

#[derive(Debug)]
struct Sheaf {
    rows: RowBuilder,
    entries: Vec<Entry>,
    /// Bytes of their frames.
    bytes: usize,
}

/// Builders that a request may be decoded into.
pub(crate) struct Opened<'a> {
    place: &'a Place,
    sheaf: MutexGuard<'a, Sheaf>,
}

impl Joined {
    pub(crate) fn new(lanes: usize, limits: Limits) -> Self {
        let lanes = lanes.max(1);
        let room_bytes = ROOM_BYTES / Signal::ALL.len() / (lanes + 1);
        let place = |signal| {
            let rows = RowBuilder::new(signal).with_room(room_bytes);
            let sheaf = Sheaf { rows, entries: Vec::new(), bytes: 0 };
            CachePadded::new(Place { signal, waiting: AtomicUsize::new(0), sheaf: Mutex::new(sheaf) })
        };
        Self {
            places: (0..lanes).flat_map(|_| Signal::ALL.map(place)).collect(),
            limits,
            room_bytes,
            next: AtomicUsize::new(0),
        }
    }

    /// Opens builders of this signal, of lane `preferred` if nobody has them; `None` where they are full.
    pub(crate) fn open(&self, preferred: usize, signal: Signal) -> Option<Opened<'_>> {
        let signals = Signal::ALL.len();
        let lanes = self.places.len() / signals;
        let place = |lane: usize| &*self.places[lane % lanes * signals + signal as usize];
        let mut free = (0..lanes).map(|offset| place(preferred.wrapping_add(offset)));
        let taken = free.find_map(|place| Some((place, place.sheaf.try_lock()?)));
        let (place, sheaf) = taken.unwrap_or_else(|| {
            let place = place(preferred);
            (place, place.sheaf.lock())
        });
        let full = sheaf.entries.len() >= self.limits.requests
            || sheaf.bytes >= self.limits.bytes
            || sheaf.rows.bytes() >= self.limits.bytes;
        (!full).then_some(Opened { place, sheaf })
    }

    /// Makes empty builders for [`Self::take`].
    pub(crate) fn spare(&self) -> Spare {
        Signal::ALL.map(|signal| RowBuilder::new(signal).with_room(self.room_bytes))
    }

    /// Says whether a request waits.
    pub(crate) fn waits(&self) -> bool {
        // Relaxed: whoever rings the bell afterwards has a fence between, and so has who is about to sleep.
        self.places.iter().any(|place| place.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Returns how many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.places.iter().map(|place| place.waiting.load(Ordering::Relaxed)).sum()
    }

    /// Takes everything that waits, of which the committer makes a bundle a place, until they have `full` bytes. `spare` holds empty
    /// builders before and after.
    pub(crate) fn take(&self, spare: &mut Spare, full: usize, bundles: &mut Vec<Bundle>) -> usize {
        let mut taken = 0;
        // Relaxed: only the committer reads and writes it.
        let first = self.next.load(Ordering::Relaxed);
        let turn = (0..self.places.len()).map(|offset| (first + offset) % self.places.len());
        for number in turn {
            let place = &self.places[number];
            if place.waiting.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let spare = &mut spare[place.signal as usize];
            let (entries, bytes) = {
                let mut sheaf = place.sheaf.lock();
                std::mem::swap(&mut sheaf.rows, spare);
                place.waiting.store(0, Ordering::Relaxed);
                let room = Vec::with_capacity(sheaf.entries.len());
                (std::mem::replace(&mut sheaf.entries, room), std::mem::take(&mut sheaf.bytes))
            };
            let batch = spare.take();
            debug_assert_eq!(batch.num_rows(), entries.iter().map(|entry| entry.rows).sum::<usize>());
            bundles.push(Bundle { signal: place.signal, batch, entries });
            taken += bytes;
            if taken >= full {
                self.next.store((number + 1) % self.places.len(), Ordering::Relaxed);
                break;
            }
        }
        taken
    }
}

impl Opened<'_> {
    /// Decodes by `decode`, which returns the request with as many rows as it pushed, or `None` where it pushed none. The caller wakes the
    /// committer.
    pub(crate) fn add<E>(
        mut self,
        decode: impl FnOnce(&mut RowBuilder) -> Result<Option<Entry>, E>,
    ) -> Result<bool, E> {
        let Some(entry) = decode(&mut self.sheaf.rows)? else { return Ok(false) };
        self.sheaf.bytes += entry.len();
        self.sheaf.entries.push(entry);
        self.place.waiting.store(self.sheaf.entries.len(), Ordering::Relaxed);
        Ok(true)
    }
}
