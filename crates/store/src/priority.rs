//! Whose turn it is on a core: receivers, then folding and flushing, then queries (which see to it themselves), then merges.
//!
//! *Why flushing comes before queries.* Rows that cannot be written stay in the tail, and a full tail holds requests up: queries that
//! took the core from a flush would take it from the receivers.
//!
//! *Why two steps.* While rows of the journal are replayed nobody is served, and what is being waited for is the flush: it has the
//! priority of the process. From then on nobody waits for it as long as there is room in the tail; where that is full, ingest stops, and the core
//! is its own.

use parking_lot::Mutex;
use rustix::process::{Pid, getpriority_process, setpriority_process};

/// What is waited for in the end: the receivers get three quarters of a core that both want.
const SOON: i32 = 5;
/// The lowest there is: all others get all but a fiftieth of a core that they want too.
const LOWEST: i32 = 19;

/// Runs work that never has to be waited for.
pub(crate) fn background(work: impl FnOnce()) {
    lower(None, LOWEST);
    work();
}

/// Threads that have not given way yet; none once they were told to.
#[derive(Debug)]
pub(crate) struct Eager(Mutex<Option<Vec<Pid>>>);

impl Eager {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Runs work that is waited for until [`Self::give_way`].
    pub(crate) fn run(&self, work: impl FnOnce()) {
        {
            let mut threads = self.0.lock();
            match (&mut *threads, own_thread()) {
                (Some(threads), Some(thread)) => threads.push(thread),
                // A thread that could not be found again must not stay in the way for good.
                _ => lower(None, SOON),
            }
        }
        work();
    }

    /// Lowers the priority of every thread that runs, and of those that are started later.
    pub(crate) fn give_way(&self) {
        for thread in self.0.lock().take().into_iter().flatten() {
            lower(Some(thread), SOON);
        }
    }
}

/// On Linux a number names one thread, and none the calling one.
fn lower(thread: Option<Pid>, nice: i32) {
    // Never above the others of a process that was given a low priority itself.
    let lowered = getpriority_process(thread).and_then(|now| setpriority_process(thread, nice.max(now)));
    if let Err(error) = lowered {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

fn own_thread() -> Option<Pid> {
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    Pid::from_raw(link.file_name()?.to_str()?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn threads_give_way_when_they_are_told_and_later_ones_at_once() {
        let eager = Arc::new(Eager::new());
        let start = getpriority_process(None).expect("is known");
        let (met, told) = (Barrier::new(2), Barrier::new(2));
        let own = || getpriority_process(None).expect("is known");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                eager.run(|| {
                    assert_eq!(own(), start);
                    met.wait();
                    told.wait();
                    assert_eq!(own(), SOON);
                });
            });
            met.wait();
            eager.give_way();
            told.wait();
            scope.spawn(|| eager.run(|| assert_eq!(own(), SOON)));
        });
        assert_eq!(own(), start, "and nobody else");
    }
}
