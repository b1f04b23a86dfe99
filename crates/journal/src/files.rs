//! Which log files there are.
//!
//! *Invariants.* Files are in order of their first number. The last one is never given up, so that numbers never restart.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::format::file_name;

/// One log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogFile {
    /// Number of its first frame, or of the frame it waits for.
    pub(crate) first: u64,
    /// Where its readable bytes end.
    pub(crate) end: u64,
    /// What it takes on disk.
    pub(crate) bytes: u64,
    /// Says whether there may be frames in it.
    pub(crate) frames: bool,
}

impl LogFile {
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(file_name(self.first))
    }
}

/// The list, shared by the committer and everyone else. Its lock is never held across a system call.
#[derive(Debug, Default)]
pub(crate) struct Files {
    list: Mutex<Vec<LogFile>>,
    // Figures for `status`: each stands alone, so relaxed is enough.
    bytes: AtomicU64,
    /// What the file takes that is made ahead of time.
    spare: AtomicU64,
    count: AtomicU64,
    oldest: AtomicU64,
}

impl Files {
    pub(crate) fn new(list: Vec<LogFile>) -> Self {
        let files = Self::default();
        files.change(|now| *now = list);
        files
    }

    fn change<T>(&self, edit: impl FnOnce(&mut Vec<LogFile>) -> T) -> T {
        let mut list = self.list.lock();
        let result = edit(&mut list);
        self.bytes.store(list.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
        self.count.store(list.len() as u64, Ordering::Relaxed);
        let oldest = list.iter().find(|file| file.frames).map_or(u64::MAX, |file| file.first);
        self.oldest.store(oldest, Ordering::Relaxed);
        result
    }

    /// Adds a file at the end, in place of one that waited for the same frame.
    pub(crate) fn push(&self, file: LogFile) {
        self.change(|list| {
            if list.last().is_some_and(|last| last.first == file.first) {
                list.pop();
            }
            list.push(file);
        });
    }

    /// Records what became of the last file.
    pub(crate) fn update_last(&self, edit: impl FnOnce(&mut LogFile)) {
        self.change(|list| list.last_mut().map(edit));
    }

    /// Records what became of the file that begins with `first`, if it is still there.
    pub(crate) fn update(&self, first: u64, edit: impl FnOnce(&mut LogFile)) {
        self.change(|list| list.iter_mut().find(|file| file.first == first).map(edit));
    }

    /// Records what a file takes that is no log file yet.
    pub(crate) fn set_spare(&self, bytes: u64) {
        self.spare.store(bytes, Ordering::Relaxed);
    }

    /// Says whether [`Self::take_through`] would take any.
    pub(crate) fn would_take(&self, through: u64) -> bool {
        let list = self.list.lock();
        list.get(1).is_some_and(|second| second.first <= through.saturating_add(1))
    }

    /// Takes out the files of which every frame is at most `through`.
    pub(crate) fn take_through(&self, through: u64) -> Vec<LogFile> {
        self.change(|list| {
            let keep = list.windows(2).take_while(|pair| pair[1].first <= through.saturating_add(1)).count();
            list.drain(..keep).collect()
        })
    }

    /// Puts back files that were taken out and could not be removed.
    pub(crate) fn put_back(&self, files: &[LogFile]) {
        self.change(|list| {
            list.extend_from_slice(files);
            list.sort_unstable_by_key(|file| file.first);
        });
    }

    pub(crate) fn snapshot(&self) -> Vec<LogFile> {
        self.list.lock().clone()
    }

    pub(crate) fn contains(&self, first: u64) -> bool {
        self.list.lock().iter().any(|file| file.first == first)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + self.spare.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the number of the first frame of the first file with frames; `u64::MAX` where there is none.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Relaxed)
    }
}
