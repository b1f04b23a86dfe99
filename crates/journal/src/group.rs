//! The bytes of one group, ready to be written in few calls.
//!
//! *Cost.* One pass over the bytes for the checksum; short parts are copied once into a buffer that is kept between groups,
//! long ones are written from where they are. One allocation a group, for the list of slices; none a frame.

use std::io::IoSlice;
use std::ops::Range;

use crate::format::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, Marker};
use crate::port::{CommitError, Frame};

/// Shorter parts are copied next to each other: cheaper than one more slice in the system call.
const COPY_BELOW: usize = 8 << 10;

/// A buffer that grew beyond this is given back after the group.
const KEEP_BYTES: usize = 8 << 20;

/// Returns the bytes that the group takes in a log file.
pub(crate) fn group_bytes(frames: &[Frame<'_>]) -> Result<u64, CommitError> {
    let mut total = 0;
    for frame in frames {
        let bytes = frame.header.len() + frame.body.len();
        if bytes > FRAME_BYTES_MAX {
            return Err(CommitError::TooLarge { bytes: bytes as u64, limit: FRAME_BYTES_MAX as u64 });
        }
        total += (FRAME_HEADER_BYTES + bytes) as u64;
    }
    Ok(total)
}

enum Piece<'a> {
    Copied(Range<usize>),
    Borrowed(&'a [u8]),
}

/// The bytes of one group.
pub(crate) struct Group<'a> {
    buffer: &'a mut Vec<u8>,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Group<'a> {
    /// Lays out `frames`, which [`group_bytes`] has measured, numbered from `first`.
    pub(crate) fn new(buffer: &'a mut Vec<u8>, marker: Marker, first: u64, frames: &[Frame<'a>]) -> Self {
        buffer.clear();
        buffer.shrink_to(KEEP_BYTES);
        let mut group = Self { buffer, pieces: Vec::with_capacity(1) };
        for (index, frame) in (0_u32..).zip(frames) {
            let length = u32::try_from(frame.header.len() + frame.body.len()).expect("the group was measured");
            let number = first + u64::from(index);
            let header = FrameHeader::new(marker, number, index, length, [frame.header, frame.body]);
            group.copy(&header.encode());
            group.push(frame.header);
            group.push(frame.body);
        }
        group
    }

    fn push(&mut self, part: &'a [u8]) {
        if part.len() < COPY_BELOW { self.copy(part) } else { self.pieces.push(Piece::Borrowed(part)) }
    }

    fn copy(&mut self, part: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(part);
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) => range.end = self.buffer.len(),
            _ => self.pieces.push(Piece::Copied(start..self.buffer.len())),
        }
    }

    /// Returns the slices to write.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Copied(range) => IoSlice::new(&self.buffer[range.clone()]),
                Piece::Borrowed(part) => IoSlice::new(part),
            })
            .collect()
    }
}
