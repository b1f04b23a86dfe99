//! One group into the active log file: write, sync, change files, step back.
//!
//! *Invariants.* A sync that failed is never tried again: the kernel may have dropped the bytes and forgotten the failure. A
//! group for which there is no space, no descriptor or no room under the process's limit on files leaves nothing behind. A group in a file that was removed meanwhile is not durable. A log
//! file has its name once its header and its first group are durable.
//!
//! *Cost.* A group: one write for each MiB (one, as a rule) and one `fdatasync`, and one `fstat`, which costs nothing beside them. The
//! first group of a file: a rename and an `fsync` of the directory more, and the making of the file where none was made ahead.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use crate::ahead::{Ahead, Full, Ready};
use crate::blocks::Blocks;
use crate::disk::{Directory, Disk, DiskFile, is_full, is_scarce, is_too_long, remedy};
use crate::files::{Files, LogFile};
use crate::format::{FileHeader, FrameHeader, Marker, file_name, marker};
use crate::group::{self, group_bytes};
use crate::options::JournalOptions;
use crate::port::{CommitError, Frame};
use crate::recovery::Recovered;

/// The log file being written.
struct Active {
    file: Box<dyn DiskFile>,
    first: u64,
    marker: Marker,
    /// What the block holds that the log ends in.
    partial: Vec<u8>,
    end: u64,
    bytes: u64,
    /// Whether all that it was given when it was made is durable.
    durable: bool,
}

/// The one committer's state.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    files: Arc<Files>,
    ahead: Ahead,
    blocks: Blocks,
    /// The log's directory, open from the first group on: a file whose name cannot be made durable must not be begun.
    dir: Option<Box<dyn Directory>>,
    active: Option<Active>,
    last: u64,
    next: u64,
    /// The marker of the last log file of the process before.
    before: Marker,
    poison: Option<String>,
}

/// A group that is durable.
pub(crate) struct Appended {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) sync: Duration,
}

/// What failed, and how.
struct Failed(&'static str, io::Error);

impl Failed {
    fn is_full(&self) -> bool {
        self.0 == WRITE && is_full(&self.1)
    }

    fn is_too_long(&self) -> bool {
        self.0 == WRITE && is_too_long(&self.1)
    }
}

const WRITE: &str = "write";
const NEW_FILE: &str = "new log file";

impl Active {
    /// Writes a group whose first frame is `number`, behind the header where nothing is there yet, and makes it durable.
    fn append(
        &mut self,
        blocks: &mut Blocks,
        header: &FileHeader,
        number: u64,
        frames: &[Frame<'_>],
    ) -> Result<Duration, Failed> {
        let file = self.file.as_ref();
        let begun = self.end - self.partial.len() as u64;
        let mut appending = blocks.after(file, begun, &self.partial);
        let mut write = || {
            if self.end == 0 {
                appending.put(&header.encode())?;
            }
            group::append(&mut appending, self.marker, number, frames)
        };
        let written = write().and_then(|()| appending.finish(&mut self.partial));
        let end = written.map_err(|error| Failed(WRITE, error))?;
        let start = Instant::now();
        // What was set aside a moment ago is no more durable than the bytes.
        let synced = if self.durable { file.sync_data() } else { file.sync_all() };
        synced.map_err(|error| Failed("sync", error))?;
        let sync = start.elapsed();
        match file.is_linked() {
            Ok(true) => {}
            Ok(false) => return Err(Failed("log file", io::Error::new(ErrorKind::NotFound, "it was removed"))),
            Err(error) => return Err(Failed("log file", error)),
        }
        self.durable = true;
        self.end = end;
        self.bytes = self.bytes.max(end.next_multiple_of(file.block_bytes() as u64));
        Ok(sync)
    }
}

impl Writer {
    /// Goes on after what was there. No file is touched before the first group.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        files: Arc<Files>,
        ahead: Ahead,
        Recovered { last, next, marker: before, .. }: &Recovered,
    ) -> Self {
        let (last, next, before) = (*last, *next, *before);
        Self {
            disk,
            options,
            files,
            ahead,
            blocks: Blocks::default(),
            dir: None,
            active: None,
            last,
            next,
            before,
            poison: None,
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn append(&mut self, frames: &[Frame<'_>]) -> Result<Appended, CommitError> {
        let bytes = group_bytes(frames)?;
        if let Some(problem) = &self.poison {
            return Err(CommitError::Poisoned { path: self.path(), problem: problem.clone() });
        }
        let header = FileHeader {
            first: self.next,
            previous: self.last,
            marker: marker(self.options.entropy, self.next),
            before: self.active.as_ref().map_or(self.before, |active| active.marker),
        };
        let room = self.options.file_bytes_max;
        let sync = match self.active.as_mut().filter(|active| active.end + bytes <= room) {
            Some(active) => match active.append(&mut self.blocks, &header, self.next, frames) {
                Ok(sync) => {
                    let (end, bytes) = (active.end, active.bytes);
                    self.files.update_last(|file| (file.end, file.bytes) = (end, bytes));
                    sync
                }
                Err(failed) if failed.is_full() => {
                    self.step_back()?;
                    return Err(CommitError::Full { path: self.path() });
                }
                Err(failed) if failed.is_too_long() => {
                    self.step_back()?;
                    self.begin(&header, frames)?
                }
                Err(Failed(what, error)) => return Err(self.poison(what, &error)),
            },
            None => self.begin(&header, frames)?,
        };
        if let Some(active) = &self.active {
            self.ahead.follow(active.end);
        }
        let first = self.next;
        self.last = first + (frames.len() as u64 - 1);
        self.next = self.last + 1;
        Ok(Appended { first, last: self.last, sync })
    }

    /// Removes what was written of a group that found no space.
    fn step_back(&mut self) -> Result<(), CommitError> {
        let active = self.active.as_mut().expect("a group was being written to it");
        // Durably, so that no part of this group can turn up behind a later, shorter one.
        if let Err(error) = active.file.set_len(active.end).and_then(|()| active.file.sync_all()) {
            return Err(self.poison("cut", &error));
        }
        active.bytes = active.end;
        let end = active.end;
        self.files.update_last(|file| file.bytes = end);
        Ok(())
    }

    /// Begins a new log file with a group; the one before stays active until that is durable.
    fn begin(&mut self, header: &FileHeader, frames: &[Frame<'_>]) -> Result<Duration, CommitError> {
        let full = |this: &Self| CommitError::Full { path: this.path() };
        let (mut active, part) = match self.fresh(header) {
            Ok(fresh) => fresh,
            Err(error) if is_full(&error) => return Err(full(self)),
            // The log has not been touched.
            Err(error) if is_scarce(&error) || is_too_long(&error) => return Err(self.unavailable(NEW_FILE, &error)),
            Err(error) => return Err(self.poison(NEW_FILE, &error)),
        };
        let sync = match active.append(&mut self.blocks, header, self.next, frames) {
            Ok(sync) => sync,
            Err(failed) if failed.is_full() || failed.is_too_long() => {
                drop(active);
                self.remove(&part);
                return Err(if failed.is_full() { full(self) } else { self.unavailable(NEW_FILE, &failed.1) });
            }
            Err(Failed(what, error)) => return Err(self.poison(what, &error)),
        };
        let path = self.options.dir.join(file_name(self.next));
        let dir = self.dir.as_deref().expect("it was opened before the file was made");
        let named = self.disk.rename(&part, &path).and_then(|()| dir.sync());
        named.map_err(|error| self.poison(NEW_FILE, &error))?;
        self.files.push(LogFile { first: active.first, end: active.end, bytes: active.bytes, frames: true });
        if let Some(Active { file, first, end, .. }) = self.active.replace(active).filter(|full| full.bytes > full.end)
        {
            self.ahead.cut(Full { file, first, end });
        }
        Ok(sync)
    }

    /// Returns a file that has no frames yet, and where it is until it has some.
    fn fresh(&mut self, header: &FileHeader) -> io::Result<(Active, PathBuf)> {
        let FileHeader { first, marker, .. } = *header;
        if self.dir.is_none() {
            self.dir = Some(self.disk.open_dir(&self.options.dir)?);
        }
        let partial = Vec::new();
        if let Some(Ready { file, path }) = self.ahead.take() {
            let bytes = self.options.file_bytes_max;
            return Ok((Active { file, first, marker, partial, end: 0, bytes, durable: true }, path));
        }
        let path = self.options.dir.join(file_name(first)).with_extension("log.tmp");
        let make = || {
            let file = self.disk.create_log(&path)?;
            let mut bytes = 0;
            if self.options.preallocate {
                match file.allocate(self.options.file_bytes_max) {
                    Ok(()) => bytes = self.options.file_bytes_max,
                    Err(error) => {
                        debug!(%error, "no space could be set aside for a log file");
                        file.set_len(0)?;
                    }
                }
            }
            Ok(Active { file, first, marker, partial, end: 0, bytes, durable: false })
        };
        match make() {
            Ok(active) => Ok((active, path)),
            Err(error) => {
                self.remove(&path);
                Err(error)
            }
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path) {
            debug!(path = %path.display(), %error, "an unfinished log file could not be removed");
        }
    }

    /// Marks the end of the log, so that whatever is damaged later is known to have been durable. Takes nothing after that.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.ahead.stop();
        let failed = self.poison.is_some();
        self.poison.get_or_insert_with(|| "it is closed".to_owned());
        let Some(mut active) = self.active.take().filter(|_| !failed) else { return Ok(()) };
        let mark = FrameHeader::close(active.marker, self.next).encode();
        let begun = active.end - active.partial.len() as u64;
        let mut appending = self.blocks.after(active.file.as_ref(), begun, &active.partial);
        appending.put(&mark)?;
        let end = appending.finish(&mut active.partial)?;
        active.file.set_len(end)?;
        active.file.sync_all()
    }

    fn poison(&mut self, what: &str, error: &io::Error) -> CommitError {
        let problem = format!("{what}: {error}");
        self.poison = Some(problem.clone());
        CommitError::Poisoned { path: self.path(), problem }
    }

    fn unavailable(&self, what: &str, error: &io::Error) -> CommitError {
        CommitError::Unavailable { path: self.path(), problem: format!("{what}: {error}; {}", remedy(error)) }
    }

    fn path(&self) -> String {
        self.options.dir.display().to_string()
    }
}
