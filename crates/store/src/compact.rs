//! The thread that merges and trims, so that flushing never waits for it.
//!
//! *Lifecycle.* One job at a time; its outcome is fetched by the maintenance thread, which alone commits. Dropping the
//! compactor tells the job to stop and waits for it: at most the time of a few thousand rows.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use plimsoll_catalog::SegmentChange;
use plimsoll_model::SegmentId;

use crate::error::StoreError;
use crate::merge::{self, Failed, merge};
use crate::priority::background;
use crate::shared::Shared;
use crate::trim::{self, trim};

/// What the thread is asked for.
pub(crate) enum Job {
    Merge(merge::Job),
    Trim(trim::Job),
}

impl Job {
    fn panicked(&self) -> Failed {
        let inputs = match self {
            Self::Merge(job) => job.inputs.as_slice(),
            Self::Trim(job) => std::slice::from_ref(&job.input),
        };
        let path = inputs.first().map(|record| record.path.clone()).unwrap_or_default();
        let problem =
            format!("writing it and {} others again failed, which is a defect", inputs.len().saturating_sub(1));
        let damaged: Vec<SegmentId> = inputs.iter().map(|record| record.id.clone()).collect();
        Failed { damaged, problem: StoreError::Segment { path, problem } }
    }
}

/// What became of a job.
pub(crate) type Outcome = Result<Option<SegmentChange>, Failed>;

pub(crate) struct Compactor {
    jobs: Option<SyncSender<Job>>,
    outcomes: Receiver<Outcome>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
}

impl Compactor {
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (jobs, todo) = sync_channel::<Job>(1);
        let (done, outcomes) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            while let Ok(job) = todo.recv() {
                let work = || match &job {
                    Job::Merge(job) => merge(&shared, job, &stopped),
                    Job::Trim(job) => trim(&shared, job, &stopped),
                };
                // What a defect left half done is a file that nothing names.
                let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                    shared.counters.lock().merge_failures += 1;
                    Err(job.panicked())
                });
                if done.send(outcome).is_err() {
                    return;
                }
                shared.wake.notify_one();
            }
        };
        let thread = std::thread::Builder::new().name("store-merge".to_owned()).spawn(|| background(work))?;
        Ok(Self { jobs: Some(jobs), outcomes, stop, thread: Some(thread), busy: false })
    }

    /// Says whether a job is under way.
    pub(crate) fn busy(&self) -> bool {
        self.busy
    }

    /// Starts a job; none may be under way.
    pub(crate) fn begin(&mut self, job: Job) {
        // An error means that the thread is gone: nothing is merged any more, and nothing else suffers.
        self.busy = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
    }

    /// Tells the job under way to stop; one that is nearly done may still end well.
    pub(crate) fn interrupt(&self) {
        // Relaxed: the flag carries nothing but itself, and outcomes come through a channel.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Returns the outcome of the job under way: if it has ended, or after waiting for that.
    pub(crate) fn outcome(&mut self, wait: bool) -> Option<Outcome> {
        if !self.busy {
            return None;
        }
        let outcome = if wait {
            self.outcomes.recv().map_err(|RecvError| TryRecvError::Disconnected)
        } else {
            self.outcomes.try_recv()
        };
        match outcome {
            Ok(outcome) => {
                self.busy = false;
                Some(outcome)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                tracing::error!("the thread that merges segments has ended; restart to merge again");
                self.busy = false;
                self.jobs = None;
                None
            }
        }
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.interrupt();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
