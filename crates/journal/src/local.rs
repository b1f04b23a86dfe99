//! [`LocalJournal`]: own log files on a local disk.
//!
//! *Invariants.* What a commit has answered for is synced. One process has the directory. Readers see only what is durable.

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use plimsoll_model::SequenceNumber;
use tracing::warn;

use crate::ahead::{Ahead, By};
use crate::disk::{DirLock, Disk, LocalDisk};
use crate::files::{Files, LogFile};
use crate::format::{Marker, VERSION, file_name};
use crate::options::JournalOptions;
use crate::port::{CommitError, Frame, Journal, JournalStatus, LogFileStatus, ReplayError, ReplayReport};
use crate::quarantine;
use crate::reader::{Item, Reader};
use crate::recovery::{Recovered, recover};
use crate::writer::Writer;

type Visit<'a> = dyn FnMut(SequenceNumber, &[u8]) -> Result<(), ReplayError> + 'a;

/// The log of one directory. Closing or dropping it marks the log as closed and lets another process have it.
///
/// Frames may be as long as [`FRAME_BYTES_MAX`](crate::FRAME_BYTES_MAX). A log file that was begun is kept until a later one
/// holds every frame that is still wanted, so up to `file_bytes_max` of trimmed frames stay on disk.
pub struct LocalJournal {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    files: Arc<Files>,
    writer: Mutex<Writer>,
    torn_bytes: u64,
    lost: u64,
    /// Frames up to this one may be gone: nobody wants them any more.
    given_back: AtomicU64,
    // Figures for `status`, written by the committer: each stands alone, so relaxed is enough.
    next: AtomicU64,
    poisoned: AtomicBool,
    commits: AtomicU64,
    sync_ns: AtomicU64,
    /// `None` once it is closed.
    lock: Mutex<Option<Box<dyn DirLock>>>,
}

impl LocalJournal {
    /// Opens the log, or begins one: takes the directory, finds the end of the log and cuts a torn tail.
    ///
    /// # Errors
    /// `InUse`: another process has the directory. `Unusable`: it cannot be made, read or written. `TooNew`: a later release
    /// wrote it. Damage is no error: it is met, copied aside and counted by [`Journal::replay`].
    pub fn open(options: JournalOptions) -> Result<Self, ReplayError> {
        Self::open_on(Arc::new(LocalDisk), options, By::Thread)
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, options: JournalOptions, by: By) -> Result<Self, ReplayError> {
        let path = options.dir.display().to_string();
        let unusable = |source| ReplayError::Unusable { path: path.clone(), source };
        disk.create_dirs(&options.dir).map_err(unusable)?;
        let lock = match disk.lock(&options.dir) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ReplayError::InUse { path }),
            lock => lock.map_err(unusable)?,
        };
        let recovered = recover(disk.as_ref(), &options)?;
        let Recovered { next, torn_bytes, lost, .. } = recovered;
        if torn_bytes > 0 {
            warn!(%path, torn_bytes, "cut off what was being written to the journal when it last stopped");
        }
        let given_back = options.numbers_taken.0;
        let files = Arc::new(Files::new(recovered.files.clone()));
        let ahead = Ahead::new(by, disk.clone(), &options, files.clone());
        let writer = Writer::new(disk.clone(), options.clone(), files.clone(), ahead, &recovered);
        Ok(Self {
            disk,
            options,
            files,
            writer: Mutex::new(writer),
            torn_bytes,
            lost,
            given_back: AtomicU64::new(given_back),
            next: AtomicU64::new(next),
            poisoned: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            sync_ns: AtomicU64::new(0),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Marks the log as closed and lets another process have the directory, whoever still holds this value. What is committed
    /// later is refused, and nothing is trimmed: the directory may be somebody else's by then.
    pub fn close(&self) {
        let Some(lock) = self.lock.lock().take() else { return };
        if let Err(error) = self.writer.lock().close() {
            warn!(path = %self.options.dir.display(), %error, "the end of the journal could not be marked");
        }
        drop(lock);
    }

    /// Says whether [`Journal::trim`] up to this frame would give anything back.
    pub fn would_trim(&self, through: SequenceNumber) -> bool {
        self.files.would_take(through.0)
    }

    /// Lists the log files, oldest first.
    pub fn log_files(&self) -> Vec<LogFileStatus> {
        let files = self.files.snapshot();
        let next = self.next.load(Ordering::Relaxed);
        let ends = files.iter().skip(1).map(|file| file.first).chain([next]).collect::<Vec<_>>();
        files
            .iter()
            .zip(ends)
            .map(|(file, end)| LogFileStatus {
                name: file_name(file.first),
                first: SequenceNumber(file.first),
                end: SequenceNumber(end.max(file.first)),
                bytes: file.bytes,
            })
            .collect()
    }

    /// Returns what a log file says of the marker of the one before it.
    fn marker_before(&self, log: LogFile) -> Option<Marker> {
        let file = self.disk.open(&log.path(&self.options.dir)).ok()?;
        let before = Reader::new(file.as_ref(), log.first, log.end).ok()?.header()?.before;
        (before != Marker::default()).then_some(before)
    }

    /// Reads one log file, which `next` follows; returns the last number in it, where it ends with a whole frame.
    fn replay_file(
        &self,
        log: LogFile,
        next: Option<LogFile>,
        before: Option<u64>,
        last: &mut u64,
        report: &mut ReplayReport,
        visit: &mut Visit<'_>,
    ) -> Result<Option<u64>, ReplayError> {
        let path = log.path(&self.options.dir);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            // Trimmed in the meantime.
            Err(error) if error.kind() == ErrorKind::NotFound && !self.files.contains(log.first) => return Ok(None),
            Err(source) => return Err(ReplayError::Io { path: path.display().to_string(), source }),
        };
        let mut reader = Reader::new(file.as_ref(), log.first, log.end).map_err(|found| ReplayError::TooNew {
            path: path.display().to_string(),
            found,
            known: VERSION,
        })?;
        if reader.header().is_none()
            && let Some(marker) = next.and_then(|next| self.marker_before(next))
        {
            reader.marker_is(marker);
        }
        if let (Some(before), Some(header)) = (before, reader.header())
            && header.previous > before.max(*last)
        {
            report.quarantined += 1;
            warn!(path = %path.display(), after = before, until = log.first, "frames are missing from the journal");
        }
        let mut ends_damaged = false;
        loop {
            match reader.next() {
                Item::Frame { number, payload, .. } => {
                    ends_damaged = false;
                    if number > *last {
                        *last = number;
                        report.frames += 1;
                        report.bytes += payload.len() as u64;
                        visit(SequenceNumber(number), payload)?;
                    }
                }
                Item::Close { .. } => {}
                Item::Damage { offset, bytes } => {
                    ends_damaged = true;
                    report.quarantined += 1;
                    report.quarantined_bytes += bytes;
                    quarantine::keep(self.disk.as_ref(), &self.options.dir, file.as_ref(), log.first, offset, bytes);
                }
                Item::End => return Ok((!ends_damaged).then_some(reader.last())),
            }
        }
    }
}

impl Journal for LocalJournal {
    fn commit(&self, frames: &[Frame<'_>]) -> Result<RangeInclusive<SequenceNumber>, CommitError> {
        let mut writer = self.writer.lock();
        if frames.is_empty() {
            let next = writer.next();
            return Ok(SequenceNumber(next)..=SequenceNumber(next - 1));
        }
        match writer.append(frames) {
            Ok(appended) => {
                self.next.store(writer.next(), Ordering::Relaxed);
                self.commits.fetch_add(1, Ordering::Relaxed);
                let sync_ns = u64::try_from(appended.sync.as_nanos()).unwrap_or(u64::MAX);
                self.sync_ns.fetch_add(sync_ns, Ordering::Relaxed);
                Ok(SequenceNumber(appended.first)..=SequenceNumber(appended.last))
            }
            Err(error) => {
                if matches!(error, CommitError::Poisoned { .. }) {
                    self.poisoned.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    fn replay(
        &self,
        after: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> Result<(), ReplayError>,
    ) -> Result<ReplayReport, ReplayError> {
        let files = self.files.snapshot();
        let mut report =
            ReplayReport { torn_bytes: self.torn_bytes, quarantined: self.lost, ..ReplayReport::default() };
        let mut last = after.0;
        // Also the first file says what was before it. Relaxed: who replays while frames are given back may see either.
        let mut before = Some(self.given_back.load(Ordering::Relaxed));
        for (at, log) in files.iter().enumerate() {
            if files.get(at + 1).is_some_and(|next| next.first <= after.0.saturating_add(1)) {
                continue;
            }
            before = self.replay_file(*log, files.get(at + 1).copied(), before, &mut last, &mut report, visit)?;
        }
        Ok(report)
    }

    fn trim(&self, through: SequenceNumber) -> Result<(), ReplayError> {
        // Held until the end: files are removed from a directory that is this journal's only.
        let lock = self.lock.lock();
        if lock.is_none() {
            return Ok(());
        }
        self.given_back.fetch_max(through.0, Ordering::Relaxed);
        let files = self.files.take_through(through.0);
        // Oldest first; a crash may still leave an older one and not a later one, which replay does not mind as long as it
        // is asked for nothing that was trimmed.
        for (at, log) in files.iter().enumerate() {
            let path = log.path(&self.options.dir);
            match self.disk.remove(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => {
                    self.files.put_back(&files[at..]);
                    return Err(ReplayError::Io { path: path.display().to_string(), source });
                }
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        let dir = &self.options.dir;
        self.disk.sync_dir(dir).map_err(|source| ReplayError::Io { path: dir.display().to_string(), source })
    }

    fn is_intact(&self) -> bool {
        // During a trim it is ours as it must be; nobody waits here for the disk.
        self.lock.try_lock().is_none_or(|lock| lock.as_ref().is_none_or(|lock| lock.is_held()))
    }

    fn status(&self) -> JournalStatus {
        let next = self.next.load(Ordering::Relaxed);
        JournalStatus {
            next: SequenceNumber(next),
            oldest: SequenceNumber(self.files.oldest().min(next)),
            bytes: self.files.bytes(),
            files: self.files.count(),
            poisoned: self.poisoned.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            sync_ns: self.sync_ns.load(Ordering::Relaxed),
        }
    }
}

impl Drop for LocalJournal {
    fn drop(&mut self) {
        self.close();
    }
}
