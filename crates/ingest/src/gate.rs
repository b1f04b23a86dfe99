//! Whether requests may come in at all right now, and if not, why.
//!
//! *Invariants.* `Poisoned` is final; `Draining` ends only in `Poisoned`. The rest follows the store and the journal.
//!
//! *Pace.* Rows come in faster than they can be written to segments for a while, not for ever. A gate that is open until the
//! tail is full and then shut until a flush is done makes everybody wait for half a second now and then. So requests are held
//! up a little as soon as the tail is half full, and longer the fuller it is: the core that they leave alone is what a flush needs.
//! What a flush under way has written counts as gone for that, or requests would be held up the longest right before it ends. What
//! counts is the mean of the last moments ([`SMOOTHED`]): a flush writes in steps, and whoever came at the top of one would wait for
//! several times as long as whoever came at its foot.
//!
//! *Who.* A connection that sends far less than its share ([`crate::share`]) is not held up: what it sends does not fill the tail. The last
//! sixteenth of the tail is for such ones alone, or the flood that fills it would make them wait as well; and since all that was let in before
//! still comes, a quarter more than the tail's limit.
//!
//! *Pressure.* Where the process takes more memory than it should, the tail's limit is lowered by as much, down to half: less comes in
//! until what is there is written. Half is above the size at which the store flushes, so that it is never waited for in vain.
//!
//! *Cost.* An atomic load or two a request while open; the lock and the wake-ups are paid on changes only.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::refusal::{Reason, Refusal};
use crate::sink::SinkLoad;

/// How long a request is held up where the tail is about to be full.
const PACE_MAX: Duration = Duration::from_millis(100);

/// How far the mean of what is left to be written reaches back: over a few flushes at full load, and far less than the time
/// in which the tail fills.
const SMOOTHED: Duration = Duration::from_millis(150);

/// Whether requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Requests are taken.
    Ready,
    /// The journal is being read after a start.
    Replaying,
    /// The store's tail is over its budget: for a moment, requests wait.
    TailFull,
    /// The disk is full.
    DiskFull,
    /// The process is going down.
    Draining,
    /// The journal failed: only a restart helps.
    Poisoned,
}

impl Readiness {
    const ALL: [Self; 6] =
        [Self::Ready, Self::Replaying, Self::TailFull, Self::DiskFull, Self::Draining, Self::Poisoned];

    /// Says whether the instance should be sent requests. A full tail is passing and does not count against it.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::TailFull)
    }

    /// Returns why not, in words fit for `/readyz`; empty where ready.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ready | Self::TailFull => "",
            Self::Replaying => "the journal is being replayed",
            Self::DiskFull => "the disk is full: free some space, or set `store.retention` lower",
            Self::Draining => "shutting down",
            Self::Poisoned => "the journal failed and takes no more writes: restart to recover",
        }
    }

    fn refusal(self) -> Option<Reason> {
        match self {
            Self::Ready => None,
            Self::Replaying => Some(Reason::Replaying),
            Self::TailFull => Some(Reason::Tail),
            Self::DiskFull => Some(Reason::DiskFull),
            Self::Draining => Some(Reason::Draining),
            Self::Poisoned => Some(Reason::Poisoned),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    fast: AtomicU8,
    /// How long a request is held up, in microseconds.
    pace_us: AtomicU32,
    /// Bytes that are left to be written, of late.
    unwritten: Mutex<Smoothed>,
    /// Bytes that the process takes and should not.
    pressure: AtomicU64,
    state: watch::Sender<Readiness>,
    held_up: watch::Sender<HeldUp>,
}

/// Who waits for room in the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldUp {
    Nobody,
    /// What is left is for quiet connections.
    Floods,
    Everybody,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            fast: AtomicU8::new(Readiness::Replaying as u8),
            pace_us: AtomicU32::new(0),
            unwritten: Mutex::new(Smoothed { bytes: 0.0, at: Instant::now() }),
            pressure: AtomicU64::new(0),
            state: watch::Sender::new(Readiness::Replaying),
            held_up: watch::Sender::new(HeldUp::Nobody),
        }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        // Relaxed: a request that slips through as the gate closes is one that came just before.
        Readiness::ALL[usize::from(self.fast.load(Ordering::Relaxed))]
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Readiness> {
        self.state.subscribe()
    }

    /// Moves to `next` where `allowed` says that the present state may be left for it.
    fn move_to(&self, next: Readiness, allowed: impl Fn(Readiness) -> bool) -> bool {
        self.state.send_if_modified(|now| {
            let moves = *now != next && allowed(*now);
            if moves {
                *now = next;
                self.fast.store(next as u8, Ordering::Relaxed);
            }
            moves
        })
    }

    pub(crate) fn replayed(&self) {
        self.move_to(Readiness::Ready, |now| now == Readiness::Replaying);
    }

    /// Returns how long a request is to be held up before it is let in.
    pub(crate) fn pace(&self) -> Duration {
        Duration::from_micros(u64::from(self.pace_us.load(Ordering::Relaxed)))
    }

    /// Sets how long requests are held up, until the next look at the store.
    #[cfg(test)]
    pub(crate) fn pace_at(&self, pace: Duration) {
        self.pace_us.store(u32::try_from(pace.as_micros()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Lowers the tail's limit by `bytes` from the next look at the store on, until called again.
    pub(crate) fn press(&self, bytes: u64) {
        // Relaxed: the number stands for itself.
        self.pressure.store(bytes, Ordering::Relaxed);
    }

    /// Follows what the store says, of which `tail_bytes_max` is the limit; true where that changed something.
    pub(crate) fn load(&self, load: SinkLoad, tail_bytes_max: u64) -> bool {
        let tail_bytes_max = tail_bytes_max - self.pressure.load(Ordering::Relaxed).min(tail_bytes_max / 2);
        let unwritten = self.unwritten.lock().after(load.unwritten_bytes, Instant::now());
        self.pace_us.store(pace_us(unwritten, tail_bytes_max), Ordering::Relaxed);
        self.hold_up(match load.tail_bytes {
            // That has a word of its own.
            _ if load.disk_full => HeldUp::Nobody,
            bytes if bytes > tail_bytes_max + tail_bytes_max / 4 => HeldUp::Everybody,
            bytes if bytes > tail_bytes_max - tail_bytes_max / 16 => HeldUp::Floods,
            _ => HeldUp::Nobody,
        });
        let next = match (load.disk_full, load.tail_bytes > tail_bytes_max) {
            (true, _) => Readiness::DiskFull,
            (false, true) => Readiness::TailFull,
            (false, false) => Readiness::Ready,
        };
        self.move_to(next, |now| matches!(now, Readiness::Ready | Readiness::TailFull | Readiness::DiskFull))
    }

    fn hold_up(&self, who: HeldUp) {
        self.held_up.send_if_modified(|now| std::mem::replace(now, who) != who);
    }

    pub(crate) fn drain(&self) {
        self.move_to(Readiness::Draining, |now| now != Readiness::Poisoned);
    }

    /// True the first time.
    pub(crate) fn poison(&self) -> bool {
        self.move_to(Readiness::Poisoned, |_| true)
    }

    /// Says whether a request would have to wait for room in the tail.
    pub(crate) fn holds_up(&self, quiet: bool) -> bool {
        matches!(self.readiness(), Readiness::Ready | Readiness::TailFull)
            && match *self.held_up.borrow() {
                HeldUp::Nobody => false,
                HeldUp::Floods => !quiet,
                HeldUp::Everybody => true,
            }
    }

    /// Returns once a request may pass, on a quiet connection or not. Waits for room in the tail, until `deadline`; nothing else passes
    /// soon enough to wait for.
    pub(crate) async fn pass(&self, quiet: bool, deadline: Instant) -> Result<(), Refusal> {
        if self.holds_up(quiet) {
            let (mut state, mut held_up) = (self.state.subscribe(), self.held_up.subscribe());
            while self.holds_up(quiet) {
                let changed = async {
                    tokio::select! {
                        changed = state.changed() => changed,
                        changed = held_up.changed() => changed,
                    }
                };
                if timeout_at(deadline, changed).await.is_err() {
                    break;
                }
            }
            if self.holds_up(quiet) {
                return Err(Refusal::overloaded(Reason::Tail));
            }
        }
        match self.readiness() {
            // Whoever had to wait for that did.
            Readiness::TailFull => Ok(()),
            readiness => readiness.refusal().map_or(Ok(()), |reason| Err(Refusal::overloaded(reason))),
        }
    }
}

/// A mean in which what was seen counts the less the longer ago that is.
#[derive(Debug)]
struct Smoothed {
    bytes: f64,
    at: Instant,
}

impl Smoothed {
    /// Takes in what is seen `now`, and returns the mean. After a pause it is what is seen.
    fn after(&mut self, bytes: u64, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.bytes += (bytes as f64 - self.bytes) * passed / (passed + SMOOTHED.as_secs_f64());
        self.at = self.at.max(now);
        self.bytes as u64
    }
}

/// Nothing up to half of the limit, from there on in proportion.
fn pace_us(unwritten_bytes: u64, tail_bytes_max: u64) -> u32 {
    let half = tail_bytes_max / 2;
    let above = unwritten_bytes.saturating_sub(half).min(half);
    let longest = PACE_MAX.as_micros() as u64;
    u32::try_from(u128::from(above) * u128::from(longest) / u128::from(half.max(1))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(tail_bytes: u64, disk_full: bool) -> SinkLoad {
        SinkLoad { tail_bytes, unwritten_bytes: tail_bytes, disk_full }
    }

    #[test]
    fn requests_are_held_up_longer_the_fuller_the_tail_is() {
        let paces = [0, 50, 51, 75, 100, 1_000, u64::MAX].map(|bytes| pace_us(bytes, 100));
        assert_eq!(paces, [0, 0, 2_000, 50_000, 100_000, 100_000, 100_000]);
        assert_eq!(pace_us(5, 0), 0);
    }

    #[test]
    fn steps_of_a_flush_are_smoothed_and_what_stays_is_reached() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut unwritten = Smoothed { bytes: 0.0, at: begun };
        assert_eq!(unwritten.after(1_000, at(0)), 0, "a moment is nothing");
        assert_eq!(unwritten.after(1_000, at(150)), 500);
        let mut seen: Vec<u64> =
            (1..200).map(|step| unwritten.after(600 + 400 * (step % 2), at(150 + 50 * step))).collect();
        assert!(seen.split_off(150).iter().all(|bytes| (650..950).contains(bytes)), "between the two");
        assert!(unwritten.after(0, at(600_000)) < 5, "gone after a pause");
        assert!(unwritten.after(70, at(1)) < 5, "a clock that goes back changes nothing");
    }

    #[test]
    fn pressure_lowers_the_limit_of_the_tail_down_to_half() {
        let gate = Gate::new();
        gate.replayed();
        let full = |tail_bytes| {
            gate.load(load(tail_bytes, false), 100);
            gate.readiness() == Readiness::TailFull
        };
        assert!(!full(100));
        gate.press(30);
        assert!(full(71) && !full(70));
        gate.press(u64::MAX);
        assert!(full(51) && !full(50));
        gate.press(0);
        assert!(!full(100));
    }

    #[tokio::test]
    async fn quiet_connections_pass_a_tail_that_others_filled_until_it_is_a_quarter_too_full() {
        let gate = Gate::new();
        gate.replayed();
        let held_up = |tail_bytes| {
            gate.load(load(tail_bytes, false), 160);
            (gate.holds_up(true), gate.holds_up(false))
        };
        assert_eq!(held_up(150), (false, false));
        assert_eq!(held_up(151), (false, true));
        assert_eq!(held_up(200), (false, true));
        assert_eq!(gate.readiness(), Readiness::TailFull);
        assert!(gate.pass(true, Instant::now()).await.is_ok());
        assert_eq!(gate.pass(false, Instant::now()).await.expect_err("has to wait").reason, Reason::Tail);
        assert_eq!(held_up(201), (true, true));
        assert_eq!(gate.pass(true, Instant::now()).await.expect_err("has to wait").reason, Reason::Tail);
        gate.load(load(201, true), 160);
        assert_eq!(gate.pass(true, Instant::now()).await.expect_err("nothing is taken").reason, Reason::DiskFull);
    }

    #[test]
    fn poison_is_final_and_draining_is_not_undone_by_a_store_that_recovers() {
        let gate = Gate::new();
        assert!(!gate.load(load(0, true), 9), "replay goes on whatever the store says");
        gate.replayed();
        assert_eq!(gate.readiness(), Readiness::Ready);
        assert!(gate.load(load(10, true), 9));
        assert_eq!(gate.readiness(), Readiness::DiskFull);
        gate.drain();
        assert!(!gate.load(load(0, false), 9));
        assert_eq!(gate.readiness(), Readiness::Draining);
        assert!(gate.poison());
        assert!(!gate.poison());
        gate.drain();
        assert_eq!(gate.readiness(), Readiness::Poisoned);
    }

    #[test]
    fn the_fast_word_reads_back_every_state() {
        for (index, state) in Readiness::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index);
        }
    }
}
