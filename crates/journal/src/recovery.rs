//! What is on disk when the log is opened.
//!
//! Only the last log file is read: the others were complete before it was begun. Its end is found, and a torn tail is cut: the
//! rest of a group that was being written when the process or the machine stopped, and so was never acknowledged.
//!
//! *Invariants.* Damage is a torn tail only if nothing after it belongs to a later group; a later group or a close mark
//! proves that what is damaged was durable, and then it stays for replay to quarantine. Frames that are kept are durable when
//! this returns: the last group, or the close mark, is written once more, because after a failed sync the page cache can hold, as clean, what
//! the disk never got.

use std::io::{self, IoSlice};

use plimsoll_model::SequenceNumber;
use tracing::warn;

use crate::disk::{Disk, DiskFile, is_full, write_all_at};
use crate::files::LogFile;
use crate::format::{FILE_HEADER_BYTES, Marker, VERSION, parse_file_name};
use crate::options::JournalOptions;
use crate::port::ReplayError;
use crate::quarantine;
use crate::reader::{Item, Reader};

/// The log as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) files: Vec<LogFile>,
    /// The last frame that is there.
    pub(crate) last: u64,
    /// The number that the next frame gets.
    pub(crate) next: u64,
    /// What was cut off.
    pub(crate) torn_bytes: u64,
    /// One where the last log file has nothing in it, or where there is none and there should be: whatever was there is lost.
    pub(crate) lost: u64,
    /// The marker of the last file with frames, where it is known.
    pub(crate) marker: Marker,
}

/// Finds the log files and makes the last one end where its last whole frame does.
pub(crate) fn recover(disk: &dyn Disk, options: &JournalOptions) -> Result<Recovered, ReplayError> {
    let dir = &options.dir;
    let unusable = |source| ReplayError::Unusable { path: dir.display().to_string(), source };
    let names = disk.list(dir).map_err(unusable)?;
    for name in names.iter().filter(|name| name.ends_with(".log.tmp")) {
        disk.remove(&dir.join(name)).map_err(unusable)?;
    }
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    firsts.sort_unstable();
    let mut recovered = Recovered {
        files: Vec::with_capacity(firsts.len()),
        last: 0,
        next: 1.max(options.numbers_taken.0.saturating_add(1)),
        torn_bytes: 0,
        lost: 0,
        marker: Marker::default(),
    };
    if firsts.is_empty() && options.numbers_taken > SequenceNumber::ZERO {
        // The last one is never given up.
        warn!(dir = %dir.display(), checkpoint = %options.numbers_taken, "the journal has no log files: what was only in them is lost");
        recovered.lost = 1;
    }
    for (at, first) in firsts.iter().copied().enumerate() {
        let mut log = LogFile { first, end: 0, bytes: 0, frames: true };
        let path = log.path(dir);
        let failed = |source| ReplayError::Unusable { path: path.display().to_string(), source };
        let too_new = |found| ReplayError::TooNew { path: path.display().to_string(), found, known: VERSION };
        if at + 1 < firsts.len() {
            let file = disk.open(&path).map_err(failed)?;
            log.end = file.len().map_err(failed)?;
            Reader::new(file.as_ref(), first, log.end.min(2 * FILE_HEADER_BYTES as u64)).map_err(too_new)?;
        } else {
            let file = disk.open_mut(&path).map_err(failed)?;
            let length = file.len().map_err(failed)?;
            let tail = Tail::find(file.as_ref(), first, length).map_err(too_new)?;
            // It has its name only since its header and first group were durable. Of any other the next one says what is missing.
            if tail.end == 0 {
                recovered.lost += 1;
                warn!(path = %path.display(), "the last log file has nothing in it: what was there is lost");
            }
            if let Some((offset, bytes)) = tail.copy {
                quarantine::keep(disk, dir, file.as_ref(), first, offset, bytes);
            }
            tail.settle(file.as_ref(), length).map_err(failed)?;
            log.end = tail.end;
            log.frames = tail.frames;
            recovered.last = tail.last;
            recovered.marker = tail.marker;
            recovered.next = recovered.next.max(tail.next);
            recovered.torn_bytes = tail.torn_bytes;
        }
        log.bytes = log.end;
        recovered.files.push(log);
    }
    if !recovered.files.is_empty() {
        // The last one may have got its name in the very moment in which the process ended.
        disk.sync_dir(dir).map_err(unusable)?;
    }
    Ok(recovered)
}

/// How the last log file ends.
struct Tail {
    /// Where it is cut.
    end: u64,
    torn_bytes: u64,
    /// What is copied aside now, because nothing of it will be there for replay, and because it is more than an unfinished
    /// write: offset and length of a torn part with whole frames in it, or of a file without its header and without frames.
    copy: Option<(u64, u64)>,
    frames: bool,
    /// Of this file; of the one before where this one has no frames, and gives its place up.
    marker: Marker,
    last: u64,
    next: u64,
    /// Where the last group, or the close mark after it, begins.
    group: u64,
}

impl Tail {
    fn find(file: &dyn DiskFile, first: u64, length: u64) -> Result<Self, u32> {
        let mut reader = Reader::new(file, first, length)?;
        let (header, marker) = (reader.header(), reader.marker());
        let mut tail = Self {
            end: reader.position(),
            torn_bytes: 0,
            copy: None,
            frames: false,
            marker: header.map_or_else(Marker::default, |header| header.before),
            last: header.map_or(first - 1, |header| header.previous),
            next: first,
            group: reader.position(),
        };
        let mut group_first = 0;
        // Where the first damage is of which nothing yet says that it was durable, and how far it and what follows go.
        let mut torn: Option<u64> = None;
        let mut data_end = tail.end;
        let mut whole_after = false;
        loop {
            let start = reader.position();
            match reader.next() {
                Item::Frame { group_first: of, .. } if torn.is_some() && of <= tail.next => whole_after = true,
                Item::Frame { number, group_first: of, end, .. } => {
                    if of != group_first {
                        (group_first, tail.group) = (of, start);
                    }
                    (torn, whole_after) = (None, false);
                    (tail.frames, tail.last, tail.next) = (true, number, number.saturating_add(1));
                    (tail.end, tail.copy) = (end, None);
                    tail.marker = marker;
                }
                Item::Close { next, end } => {
                    (torn, whole_after) = (None, false);
                    (tail.next, tail.end, tail.group) = (next, end, start);
                }
                // A file has its whole header before its first frame is written.
                Item::Damage { offset: 0, bytes } => {
                    tail.end = bytes;
                    tail.group = bytes;
                    tail.copy = Some((0, bytes));
                }
                Item::Damage { offset, .. } => torn = torn.or(Some(offset)),
                Item::End => break,
            }
            data_end = reader.position();
        }
        if let Some(offset) = torn {
            tail.end = offset;
            tail.torn_bytes = data_end - offset;
            if whole_after {
                tail.copy = Some((offset, tail.torn_bytes));
            }
        }
        Ok(tail)
    }

    /// Cuts the file and makes what is left durable.
    fn settle(&self, file: &dyn DiskFile, length: u64) -> io::Result<()> {
        if length != self.end {
            file.set_len(self.end)?;
        }
        match write_again(file, self.group, self.end) {
            Err(error) if is_full(&error) => {
                warn!(%error, "the end of the journal could not be written again: no space left");
            }
            written => written?,
        }
        file.sync_all()
    }
}

fn write_again(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut offset = from;
    while offset < to {
        let length = usize::try_from(to - offset).unwrap_or(usize::MAX).min(buffer.len());
        let read = file.read_at(&mut buffer[..length], offset)?;
        if read == 0 {
            break;
        }
        write_all_at(file, &mut [IoSlice::new(&buffer[..read])], offset)?;
        offset += read as u64;
    }
    Ok(())
}
