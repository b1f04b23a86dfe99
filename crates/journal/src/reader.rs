//! One log file as a stream of frames and damaged stretches.
//!
//! *Invariants.* A frame is given out only if its marker, length, number and checksum agree; numbers ascend. After damage
//! the search for the next whole frame goes on, byte by byte. Nothing here fails: what the disk refuses to read is damage.
//!
//! *Cost.* Memory: one buffer of 256 KiB, and the frame where it is longer. A longer frame is checked before memory is set
//! aside for it, so a damaged length costs time and no memory.

use std::io::ErrorKind;

use crc32c::crc32c_append;
use plimsoll_model::SequenceNumber;
use tracing::warn;

use crate::disk::DiskFile;
use crate::format::{
    FILE_HEADER_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FileHeader, FrameHeader, HeaderProblem, Marker,
};

const BUFFER_BYTES: usize = 256 << 10;

/// What a disk cannot read is passed over in pieces of this size.
const UNREADABLE_BYTES: u64 = 4096;

/// What comes next in a log file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A whole frame, up to `end`.
    Frame { number: u64, group_first: u64, end: u64, payload: &'a [u8] },
    /// A close mark, up to `end`; the next frame has the number `next`.
    Close { next: u64, end: u64 },
    /// Bytes that are no frame.
    Damage { offset: u64, bytes: u64 },
    /// Nothing but zeros follow.
    End,
}

/// Part of a file in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    limit: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Returns `length` bytes from `offset`; `None` where the file ends before.
    fn get(&mut self, offset: u64, length: usize) -> Option<&[u8]> {
        let end = offset.checked_add(length as u64)?;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            if end > self.limit {
                return None;
            }
            self.load(offset, length);
        }
        let from = usize::try_from(offset - self.start).ok()?;
        self.bytes.get(from..from + length)
    }

    fn load(&mut self, offset: u64, length: usize) {
        let want = (self.limit - offset).min(length.max(BUFFER_BYTES) as u64);
        let want = usize::try_from(want).unwrap_or(length);
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_BYTES);
        self.bytes.resize(want, 0);
        self.start = offset;
        let mut filled = 0;
        while filled < want {
            let at = offset + filled as u64;
            match self.file.read_at(&mut self.bytes[filled..], at) {
                Ok(0) => {
                    self.limit = at;
                    self.bytes.truncate(filled);
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    warn!(offset = at, %error, "a part of a log file cannot be read");
                    let skip = UNREADABLE_BYTES - at % UNREADABLE_BYTES;
                    let end = want.min(filled + skip as usize);
                    self.bytes[filled..end].fill(0xff);
                    filled = end;
                }
            }
            if self.bytes.len() < want {
                break;
            }
        }
    }

    /// Returns the first offset from `from` on where `marker` stands.
    fn find(&mut self, marker: Marker, from: u64) -> Option<u64> {
        if marker.contains(&0) {
            return None;
        }
        let mut offset = from;
        loop {
            let left = self.limit.checked_sub(offset).filter(|left| *left >= marker.len() as u64)?;
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let Some(bytes) = self.get(offset, length) else { continue };
            if let Some(at) = bytes.windows(marker.len()).position(|window| window == marker) {
                return Some(offset + at as u64);
            }
            offset += (length - (marker.len() - 1)) as u64;
        }
    }

    /// Returns the end of what is not zero from `from` on; `None` where all of it is zero.
    fn end_of_data(&mut self, from: u64) -> Option<u64> {
        let mut found = None;
        let mut offset = from;
        while offset < self.limit {
            let length = usize::try_from(self.limit - offset).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let Some(bytes) = self.get(offset, length) else { continue };
            if let Some(at) = bytes.iter().rposition(|byte| *byte != 0) {
                found = Some(offset + at as u64 + 1);
            }
            offset += length as u64;
        }
        found
    }
}

/// Reads one log file from its start.
pub(crate) struct Reader<'a> {
    window: Window<'a>,
    first: u64,
    header: Option<FileHeader>,
    marker: Marker,
    position: u64,
    last: u64,
    ended: bool,
}

impl<'a> Reader<'a> {
    /// Starts with the file named after `first`, of which the bytes up to `limit` are read. Fails where the file is of a
    /// later version, which it then names.
    pub(crate) fn new(file: &'a dyn DiskFile, first: u64, limit: u64) -> Result<Self, u32> {
        let mut window = Window { file, limit, start: 0, bytes: Vec::new() };
        let header = match window.get(0, FILE_HEADER_BYTES).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => match FileHeader::decode(bytes) {
                Ok(header) if header.first == first => Some(header),
                Ok(_) | Err(HeaderProblem::Damaged) => None,
                Err(HeaderProblem::TooNew(version)) => return Err(version),
            },
            None => None,
        };
        // With the header gone, the first frame still begins with the marker.
        let marker = match header {
            Some(header) => header.marker,
            None => {
                let bytes = window.get(FILE_HEADER_BYTES as u64, 8);
                bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 8])
            }
        };
        let position = if header.is_some() { FILE_HEADER_BYTES as u64 } else { 0 };
        Ok(Self { window, first, header, marker, position, last: first.saturating_sub(1), ended: false })
    }

    /// Takes the marker from elsewhere, where the file's own header is lost.
    pub(crate) fn marker_is(&mut self, marker: Marker) {
        self.marker = marker;
    }

    /// Returns what every frame begins with; zero where that is not known.
    pub(crate) fn marker(&self) -> Marker {
        self.marker
    }

    /// Returns the file's header, where it is whole.
    pub(crate) fn header(&self) -> Option<FileHeader> {
        self.header
    }

    /// Returns where the next item begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of the last frame given out, or the one before the file's first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Returns the next item; after [`Item::End`] always that.
    pub(crate) fn next(&mut self) -> Item<'_> {
        if self.ended {
            return Item::End;
        }
        let start = self.position;
        if let Some(frame) = self.frame_at(start) {
            return self.take(start, frame);
        }
        let Some(data_end) = self.window.end_of_data(start) else {
            self.ended = true;
            return Item::End;
        };
        let mut from = start + 1;
        let next = loop {
            match self.window.find(self.marker, from) {
                Some(at) if self.frame_at(at).is_some() => break at,
                Some(at) => from = at + 1,
                None => {
                    self.ended = true;
                    break data_end;
                }
            }
        };
        self.position = next;
        Item::Damage { offset: start, bytes: next.saturating_sub(start) }
    }

    fn take(&mut self, start: u64, frame: FrameHeader) -> Item<'_> {
        let body = start + FRAME_HEADER_BYTES as u64;
        let end = body + u64::from(frame.length);
        self.position = end;
        if frame.is_close() {
            self.last = frame.number - 1;
            return Item::Close { next: frame.number, end };
        }
        self.last = frame.number;
        let group_first = frame.group_first().unwrap_or(self.first);
        let payload = self.window.get(body, frame.length as usize).unwrap_or_default();
        Item::Frame { number: frame.number, group_first, end, payload }
    }

    /// Returns the header of the frame at `offset`, where there is a whole one.
    fn frame_at(&mut self, offset: u64) -> Option<FrameHeader> {
        let header = FrameHeader::decode(self.window.get(offset, FRAME_HEADER_BYTES)?.try_into().ok()?);
        let length = header.length as usize;
        let body = offset + FRAME_HEADER_BYTES as u64;
        let plausible = header.marker == self.marker
            && length <= FRAME_BYTES_MAX
            && body + length as u64 <= self.window.limit
            && header.number > self.last
            && header.group_first().is_some_and(|first| first >= self.first)
            && (!header.is_close() || length == 0);
        if !plausible {
            return None;
        }
        let mut crc = header.crc_seed();
        if length <= BUFFER_BYTES - FRAME_HEADER_BYTES {
            let whole = self.window.get(offset, FRAME_HEADER_BYTES + length)?;
            crc = crc32c_append(crc, &whole[FRAME_HEADER_BYTES..]);
        } else {
            let mut done = 0;
            while done < length {
                let part = self.window.get(body + done as u64, BUFFER_BYTES.min(length - done))?;
                crc = crc32c_append(crc, part);
                done += part.len();
            }
        }
        (crc == header.crc).then_some(header)
    }
}

/// Visits every whole frame of a log file that is held in memory, and returns the bytes passed over as damaged. `first` is the
/// number in the file's name.
///
/// For tools and tests: any bytes will do, and a damaged image costs no more memory than its own size.
pub fn read_image(image: &[u8], first: SequenceNumber, visit: &mut dyn FnMut(SequenceNumber, &[u8])) -> u64 {
    let image = Image(image.to_vec());
    let Ok(mut reader) = Reader::new(&image, first.0.max(1), image.0.len() as u64) else {
        return image.0.len() as u64;
    };
    let mut damaged = 0;
    loop {
        match reader.next() {
            Item::Frame { number, payload, .. } => visit(SequenceNumber(number), payload),
            Item::Close { .. } => {}
            Item::Damage { bytes, .. } => damaged += bytes,
            Item::End => return damaged,
        }
    }
}

struct Image(Vec<u8>);

impl DiskFile for Image {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, _slices: &[std::io::IoSlice<'_>], _offset: u64) -> std::io::Result<usize> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _length: u64) -> std::io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _length: u64) -> std::io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn is_linked(&self) -> std::io::Result<bool> {
        Ok(true)
    }
}
