//! Recordings read ahead: a thread of its own decodes while the rows before are folded and judged.
//!
//! *Invariants.* One thread reads all files in the order of their events and hands rows over in that order, so that nothing
//! depends on which thread is faster. [`AHEAD`] lines are held at most.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::recording::{Recordings, Rows};

/// Lines that are decoded and not folded yet.
const AHEAD: usize = 8;

/// Rows on their way.
pub(super) struct Feed {
    rows: Receiver<Rows>,
    reader: JoinHandle<Result<Recordings, String>>,
}

impl Feed {
    /// Opens files, and all recordings of directories, and begins to read.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, String> {
        let mut recordings = Recordings::open(paths)?;
        let (sender, rows) = sync_channel(AHEAD);
        let reader = std::thread::Builder::new().name("backtest-read".to_owned()).spawn(move || {
            while let Some(rows) = recordings.next()? {
                if sender.send(rows).is_err() {
                    break;
                }
            }
            Ok(recordings)
        });
        Ok(Self { rows, reader: reader.map_err(|error| format!("cannot start a thread: {error}"))? })
    }

    /// Returns the earliest rows that have not been returned yet; `None` at the end, and where reading failed.
    pub(super) fn next(&self) -> Option<Rows> {
        self.rows.recv().ok()
    }

    /// Says how reading went.
    pub(super) fn finish(self) -> Result<Recordings, String> {
        drop(self.rows);
        self.reader.join().map_err(|_| "reading the recordings failed".to_owned())?
    }
}
