//! One group into the active log file: write, sync, rotate, step back.
//!
//! *Invariants.* A sync that failed is never tried again: the kernel may have dropped the bytes and forgotten the failure. A
//! group for which there is no space leaves nothing behind. A group in a file that was removed meanwhile is not durable.
//!
//! *Cost.* A group: one vectored write for each 1024 slices (one, as a rule) and one `fdatasync`, and one
//! `fstat`, which costs nothing beside them. A new file: its making, one
//! `fsync` of it and one of the directory.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::disk::{Disk, DiskFile, is_full, write_all_at};
use crate::files::{Files, LogFile};
use crate::format::{FILE_HEADER_BYTES, FileHeader, FrameHeader, Marker, file_name, marker};
use crate::group::{Group, group_bytes};
use crate::options::JournalOptions;
use crate::port::{CommitError, Frame};

/// The log file being written.
struct Active {
    file: Box<dyn DiskFile>,
    marker: Marker,
    end: u64,
    bytes: u64,
}

/// The one committer's state.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    files: Arc<Files>,
    active: Option<Active>,
    last: u64,
    next: u64,
    poison: Option<String>,
    buffer: Vec<u8>,
}

/// A group that is durable.
pub(crate) struct Appended {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) sync: Duration,
}

impl Writer {
    /// Goes on after `last`; the next frame is `next`. No file is touched before the first group.
    pub(crate) fn new(disk: Arc<dyn Disk>, options: JournalOptions, files: Arc<Files>, last: u64, next: u64) -> Self {
        Self { disk, options, files, active: None, last, next, poison: None, buffer: Vec::new() }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn append(&mut self, frames: &[Frame<'_>]) -> Result<Appended, CommitError> {
        let bytes = group_bytes(frames)?;
        if let Some(problem) = &self.poison {
            return Err(CommitError::Poisoned { path: self.path(), problem: problem.clone() });
        }
        let has_room = |active: &Active| {
            active.end == FILE_HEADER_BYTES as u64 || active.end + bytes <= self.options.file_bytes_max
        };
        if !self.active.as_ref().is_some_and(has_room) {
            self.rotate()?;
        }
        let active = self.active.as_mut().expect("rotation just made one");
        let mut buffer = std::mem::take(&mut self.buffer);
        let group = Group::new(&mut buffer, active.marker, self.next, frames);
        let written = write_all_at(active.file.as_ref(), &mut group.slices(), active.end);
        self.buffer = buffer;
        if let Err(error) = written {
            return Err(if is_full(&error) { self.step_back() } else { self.poison("write", &error) });
        }
        let start = Instant::now();
        if let Err(error) = active.file.sync_data() {
            return Err(self.poison("sync", &error));
        }
        let sync = start.elapsed();
        match active.file.is_linked() {
            Ok(true) => {}
            Ok(false) => {
                return Err(self.poison("log file", &io::Error::new(ErrorKind::NotFound, "it was removed")));
            }
            Err(error) => return Err(self.poison("log file", &error)),
        }
        active.end += bytes;
        active.bytes = active.bytes.max(active.end);
        let (end, bytes) = (active.end, active.bytes);
        self.files.update_last(|file| (file.end, file.bytes, file.frames) = (end, bytes, true));
        let first = self.next;
        self.last = first + (frames.len() as u64 - 1);
        self.next = self.last + 1;
        Ok(Appended { first, last: self.last, sync })
    }

    /// Removes what was written of a group that found no space.
    fn step_back(&mut self) -> CommitError {
        let active = self.active.as_mut().expect("a group was being written to it");
        // Durably, so that no part of this group can turn up behind a later, shorter one.
        if let Err(error) = active.file.set_len(active.end).and_then(|()| active.file.sync_all()) {
            return self.poison("cut", &error);
        }
        active.bytes = active.end;
        let end = active.end;
        self.files.update_last(|file| file.bytes = end);
        CommitError::Full { path: self.path() }
    }

    /// Begins a new log file; the one before stays active until the new one is durable.
    fn rotate(&mut self) -> Result<(), CommitError> {
        let path = self.options.dir.join(file_name(self.next));
        let part = path.with_extension("log.tmp");
        let active = match self.create(&part) {
            Ok(active) => active,
            Err(error) => {
                if let Err(error) = self.disk.remove(&part) {
                    debug!(path = %part.display(), %error, "an unfinished log file could not be removed");
                }
                return Err(if is_full(&error) {
                    CommitError::Full { path: self.path() }
                } else {
                    self.poison("new log file", &error)
                });
            }
        };
        self.publish(&part, &path).map_err(|error| self.poison("new log file", &error))?;
        if let Some(full) = self.active.take().filter(|full| full.bytes > full.end) {
            // Gives back what was set aside; zeros at the end are as good, so nothing depends on it.
            match full.file.set_len(full.end) {
                Ok(()) => self.files.update_last(|file| file.bytes = full.end),
                Err(error) => warn!(%error, "space set aside for a log file could not be given back"),
            }
        }
        self.files.push(LogFile { first: self.next, end: active.end, bytes: active.bytes, frames: false });
        self.active = Some(active);
        Ok(())
    }

    fn create(&self, part: &Path) -> io::Result<Active> {
        let header =
            FileHeader { first: self.next, previous: self.last, marker: marker(self.options.entropy, self.next) };
        let file = self.disk.create(part)?;
        let end = FILE_HEADER_BYTES as u64;
        let mut bytes = end;
        if self.options.preallocate && self.options.file_bytes_max > end {
            match file.allocate(self.options.file_bytes_max) {
                Ok(()) => bytes = self.options.file_bytes_max,
                Err(error) => {
                    debug!(%error, "no space could be set aside for a log file");
                    file.set_len(0)?;
                }
            }
        }
        write_all_at(file.as_ref(), &mut [IoSlice::new(&header.encode())], 0)?;
        file.sync_all()?;
        Ok(Active { file, marker: header.marker, end, bytes })
    }

    fn publish(&self, part: &Path, path: &Path) -> io::Result<()> {
        self.disk.rename(part, path)?;
        self.disk.sync_dir(&self.options.dir)
    }

    /// Marks the end of the log, so that whatever is damaged later is known to have been durable.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        let Some(active) = self.active.take().filter(|_| self.poison.is_none()) else { return Ok(()) };
        let mark = FrameHeader::close(active.marker, self.next).encode();
        let end = active.end + mark.len() as u64;
        write_all_at(active.file.as_ref(), &mut [IoSlice::new(&mark)], active.end)?;
        active.file.set_len(end)?;
        active.file.sync_all()
    }

    fn poison(&mut self, what: &str, error: &io::Error) -> CommitError {
        let problem = format!("{what}: {error}");
        self.poison = Some(problem.clone());
        CommitError::Poisoned { path: self.path(), problem }
    }

    fn path(&self) -> String {
        self.options.dir.display().to_string()
    }
}
