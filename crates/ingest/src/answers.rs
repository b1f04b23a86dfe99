//! How those who wait are told that their requests are stored.
//!
//! *Why a task.* To wake the task of a request from another thread takes a lock and, where the runtime's threads sleep, a system call; the thread
//! that is woken first runs at once and leaves the next one to be woken again. A group of fifty requests would take the processor away
//! from the committer fifty times. So the committer wakes one task, and that one, which is on the runtime already, wakes the others.
//!
//! *Invariants.* Everything handed over is answered, in order: by the task, or here where the task has no room or is gone.

use tokio::sync::mpsc;

use crate::bundle::Waiting;

/// Groups that may wait for the task; beyond that the committer answers itself.
const GROUPS: usize = 64;

/// Groups below this are answered at once: one wake-up is not saved by another.
const FEW: usize = 2;

/// The committer's side.
#[derive(Debug)]
pub(crate) struct Answers {
    groups: mpsc::Sender<Vec<Waiting>>,
}

/// Makes both sides.
pub(crate) fn answers() -> (Answers, Answering) {
    let (sender, groups) = mpsc::channel(GROUPS);
    (Answers { groups: sender }, Answering { groups })
}

impl Answers {
    /// Says that requests are stored and visible.
    pub(crate) fn stored(&self, waiting: Vec<Waiting>) {
        if waiting.len() < FEW {
            return tell(waiting);
        }
        if let Err(mpsc::error::TrySendError::Full(waiting) | mpsc::error::TrySendError::Closed(waiting)) =
            self.groups.try_send(waiting)
        {
            tell(waiting);
        }
    }
}

/// The task's side.
#[derive(Debug)]
pub(crate) struct Answering {
    groups: mpsc::Receiver<Vec<Waiting>>,
}

impl Answering {
    /// Answers until the committer has ended.
    pub(crate) async fn run(mut self) {
        while let Some(waiting) = self.groups.recv().await {
            tell(waiting);
        }
    }
}

fn tell(waiting: Vec<Waiting>) {
    waiting.into_iter().for_each(|one| one.answer(Ok(())));
}
