//! The port: frames in, durable; frames out, in order. A frame is bytes, and nothing here knows what they mean.

use std::ops::RangeInclusive;

use plimsoll_model::SequenceNumber;

/// The port: where frames become durable before anything is acknowledged.
///
/// One committer calls [`Journal::commit`]; any thread may call the rest. All calls block.
pub trait Journal: Send + Sync + 'static {
    /// Appends `frames` in order and returns once all of them are durable: one `fdatasync` (or its like) for the group.
    ///
    /// # Errors
    /// `Full`, `Unavailable`: nothing was appended, a later call may succeed. `TooLarge`: nothing was appended. `Poisoned`: a sync failed; what is on disk is
    /// unknown, no later call will succeed and the process must stop acknowledging.
    fn commit(&self, frames: &[Frame<'_>]) -> Result<RangeInclusive<SequenceNumber>, CommitError>;

    /// Calls `visit` with every frame after `after`, in order. Damaged stretches are quarantined, counted and passed over.
    ///
    /// # Errors
    /// The log cannot be read at all, or `visit` failed.
    #[expect(
        clippy::type_complexity,
        reason = "a name for the visitor would fix its lifetime for every implementation"
    )]
    fn replay(
        &self,
        after: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> Result<(), ReplayError>,
    ) -> Result<ReplayReport, ReplayError>;

    /// Gives back the space of frames up to and including `through`; may keep some of them a while longer.
    ///
    /// # Errors
    /// A log file cannot be removed; trying again later is safe.
    fn trim(&self, through: SequenceNumber) -> Result<(), ReplayError>;

    /// Says whether the log is still where it was opened: one that was removed from under the process keeps nothing. Costs a system call.
    fn is_intact(&self) -> bool {
        true
    }

    /// Returns what is known of the log right now, without I/O.
    fn status(&self) -> JournalStatus;
}

/// One frame to append: parts that are written one after the other, so that a header needs no copy of its body.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Small, made by the caller.
    pub header: &'a [u8],
    /// As it came.
    pub body: &'a [u8],
}

/// Why a group was not made durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No space is left; nothing was appended and a later call may succeed.
    #[error("no space left for the journal in `{path}`: free some, or set `store.retention` or `store.disk_max` lower")]
    Full {
        /// Directory of the log.
        path: String,
    },
    /// The system lets no new log file be made right now; nothing was appended and a later call may succeed.
    #[error("journal `{path}` takes nothing right now: {problem}")]
    Unavailable {
        /// Directory of the log.
        path: String,
        /// What the system said, and what helps.
        problem: String,
    },
    /// A frame is longer than any journal takes; nothing was appended and the same frame will never be taken.
    #[error("a frame of {bytes} bytes is longer than the {limit} bytes that the journal takes: send smaller requests")]
    TooLarge {
        /// Length of the frame.
        bytes: u64,
        /// The longest that is taken.
        limit: u64,
    },
    /// A write or sync failed and the log can no longer be trusted.
    #[error("journal `{path}` failed and takes no more writes: {problem}; restart to recover what is on disk")]
    Poisoned {
        /// Directory of the log.
        path: String,
        /// What the system said.
        problem: String,
    },
}

/// Why the log could not be opened, read or trimmed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A system call failed.
    #[error("journal `{path}`: {source}")]
    Io {
        /// File or directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory cannot be made, written or read.
    #[error("journal directory `{path}` cannot be used: {source}; make it writable, or choose another `data_dir`")]
    Unusable {
        /// File or directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Written by a later release.
    #[error("journal `{path}` has format {found}, this release reads up to {known}: use the later release")]
    TooNew {
        /// The log file.
        path: String,
        /// Its format.
        found: u32,
        /// The latest known here.
        known: u32,
    },
    /// Another process holds the directory.
    #[error("journal directory `{path}` is in use by another process: stop it, or choose another `data_dir`")]
    InUse {
        /// The directory.
        path: String,
    },
    /// The visitor refused a frame.
    #[error("replay stopped at frame {at}: {problem}")]
    Visitor {
        /// The frame.
        at: SequenceNumber,
        /// Why.
        problem: String,
    },
}

/// What a replay met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Frames visited.
    pub frames: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Bytes cut off at the end of the log, from a write that never finished and so was never acknowledged.
    pub torn_bytes: u64,
    /// Damaged stretches moved aside, and places where frames or whole log files are missing.
    pub quarantined: u64,
    /// Bytes in them.
    pub quarantined_bytes: u64,
}

/// What is known of the log right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalStatus {
    /// The next frame's number.
    pub next: SequenceNumber,
    /// The oldest frame still held; equal to `next` where none is.
    pub oldest: SequenceNumber,
    /// Bytes on disk.
    pub bytes: u64,
    /// Log files on disk.
    pub files: u64,
    /// True after a failed sync.
    pub poisoned: bool,
    /// Groups committed since opening.
    pub commits: u64,
    /// Nanoseconds spent in `fdatasync` since opening.
    pub sync_ns: u64,
}

/// One file of a log on local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFileStatus {
    /// Its name within the directory.
    pub name: String,
    /// Number of its first frame, or of the frame that it waits for.
    pub first: SequenceNumber,
    /// The number behind its last frame; equal to `first` where it has none.
    pub end: SequenceNumber,
    /// Bytes on disk.
    pub bytes: u64,
}
