//! A durable, ordered log of opaque frames, and the [`Journal`] port.
//!
//! | file | owns |
//! |---|---|
//! | [`port`] | the [`Journal`] trait, its frames, errors and reports |
//! | [`local`] | [`LocalJournal`]: own log files on a local disk |
//! | [`options`] | where those files are and how large they grow |
//! | [`format`] | the bytes of a log file; `docs/formats/journal.md` says the same in prose |
//! | `writer` | one group into the active log file: write, sync, change files, step back |
//! | `group` | the bytes of one group |
//! | `blocks` | whole blocks, past the page cache |
//! | `ahead` | the next log file, made before it is needed |
//! | `files` | which log files there are |
//! | `reader` | one log file as a stream of frames and damaged stretches |
//! | `recovery` | what is on disk when the log is opened: the end is found, a torn tail is cut |
//! | `quarantine` | copies of damaged stretches |
//! | `disk` | the few file operations that the log needs |
//! | [`conformance`] | what every [`Journal`] must do, as a test that any of them can run |
//!
//! *Invariants.* A group is in one log file, and a log file is begun only when every group before it is durable. So
//! damage in any file but the last is never a write that did not finish. Numbers ascend and are never given twice.

mod ahead;
mod blocks;
pub mod conformance;
mod disk;
mod files;
pub mod format;
mod group;
pub mod local;
pub mod options;
pub mod port;
mod quarantine;
mod reader;
mod recovery;
#[cfg(test)]
mod simulation;
mod writer;

pub use format::FRAME_BYTES_MAX;
pub use local::LocalJournal;
pub use options::JournalOptions;
pub use port::{CommitError, Frame, Journal, JournalStatus, LogFileStatus, ReplayError, ReplayReport};
pub use reader::read_image;
