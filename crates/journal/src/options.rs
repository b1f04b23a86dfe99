//! Where the log files are and how large they grow.

use std::path::PathBuf;

use plimsoll_model::SequenceNumber;

/// How a [`LocalJournal`](crate::LocalJournal) is laid out.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Directory of the log files; made, with its parents, where it is missing. Nothing else should live in it.
    pub dir: PathBuf,
    /// A log file that a group would take past this size is followed by a new one. A larger group gets a file of its own.
    pub file_bytes_max: u64,
    /// Sets the space of a log file aside when it is made, so that a sync need not record that the file grew.
    pub preallocate: bool,
    /// Makes the next log file, full of zeros, while one is being written to, so that a change of files holds up nobody. Only where
    /// space is set aside at all.
    pub ahead: bool,
    /// Numbers up to this one are taken, whatever the directory holds: the checkpoint of what was made of the frames. A
    /// directory that was lost then cannot give a number a second time.
    pub numbers_taken: SequenceNumber,
    /// Any value that outsiders cannot guess: bytes inside a payload then cannot pass for a frame when a damaged file is read.
    pub entropy: u64,
}

impl JournalOptions {
    /// Size of a log file where nothing else is said.
    pub const FILE_BYTES_MAX: u64 = 128 << 20;

    /// Makes options with the usual sizes.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            file_bytes_max: Self::FILE_BYTES_MAX,
            preallocate: true,
            ahead: true,
            numbers_taken: SequenceNumber::ZERO,
            entropy: 0,
        }
    }
}
