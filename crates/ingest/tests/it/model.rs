//! The committer's sleep, played through in every order by loom.
//!
//! *What is modelled.* The file that the server runs, `src/doorbell.rs`, against loom's atomics and threads; lanes are counters, which
//! is what their rings are to the one that sleeps. A wake-up that is lost leaves the consumer parked for ever, which loom reports as a deadlock.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
    pub(super) use loom::thread::{Thread, current, park};
}

#[path = "../../src/doorbell.rs"]
mod doorbell;

use doorbell::Doorbell;

/// One lane, and whether it is closed.
struct Lane {
    queued: AtomicUsize,
    closed: AtomicUsize,
    bell: Doorbell,
}

impl Lane {
    fn new() -> Arc<Self> {
        Arc::new(Self { queued: AtomicUsize::new(0), closed: AtomicUsize::new(0), bell: Doorbell::new() })
    }

    fn push(&self) {
        self.queued.fetch_add(1, Ordering::Release);
        self.bell.ring();
    }

    fn close(&self) {
        self.closed.store(1, Ordering::Release);
        self.bell.ring();
    }

    /// Takes everything until the lane is closed and empty; returns how much it was.
    fn consume(&self) -> usize {
        let mut taken = 0;
        loop {
            taken += self.queued.swap(0, Ordering::Acquire);
            if self.closed.load(Ordering::Acquire) == 1 {
                return taken + self.queued.swap(0, Ordering::Acquire);
            }
            self.bell
                .sleep_unless(|| self.queued.load(Ordering::Relaxed) > 0 || self.closed.load(Ordering::Relaxed) == 1);
        }
    }
}

#[test]
fn no_order_of_pushes_and_sleeps_loses_a_wake_up_or_an_item() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let lane = Lane::new();
        let consumer = {
            let lane = Arc::clone(&lane);
            thread::spawn(move || lane.consume())
        };
        lane.push();
        lane.push();
        lane.close();
        assert_eq!(consumer.join().expect("does not panic"), 2);
    });
}

#[test]
fn two_that_push_at_once_are_both_served() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let lane = Lane::new();
        let spawn = |work: fn(&Lane) -> usize| {
            let lane = Arc::clone(&lane);
            thread::spawn(move || work(&lane))
        };
        let consumer = spawn(Lane::consume);
        let other = spawn(|lane| {
            lane.push();
            0
        });
        lane.push();
        // As a drain does: only once every request has its answer.
        other.join().expect("does not panic");
        lane.close();
        assert_eq!(consumer.join().expect("does not panic"), 2);
    });
}

/// A request's answer: what the committer made visible before it answers is there for whoever reads the answer.
#[test]
fn whoever_is_answered_sees_what_was_committed() {
    loom::model(|| {
        let lane = Lane::new();
        let rows = Arc::new(AtomicUsize::new(0));
        let (answer, answered) = loom::sync::mpsc::channel();
        let committer = {
            let (lane, rows) = (Arc::clone(&lane), Arc::clone(&rows));
            thread::spawn(move || {
                while lane.queued.swap(0, Ordering::Acquire) == 0 {
                    lane.bell.sleep_unless(|| lane.queued.load(Ordering::Relaxed) > 0);
                }
                rows.store(7, Ordering::Relaxed);
                answer.send(()).expect("somebody waits");
            })
        };
        lane.push();
        answered.recv().expect("an answer comes");
        assert_eq!(rows.load(Ordering::Relaxed), 7, "published before it was acknowledged");
        committer.join().expect("does not panic");
    });
}
