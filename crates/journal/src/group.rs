//! The bytes of one group, laid out one frame after the other.
//!
//! *Cost.* Two passes over the bytes, one for the checksum and one to copy, the second out of the cache that the first filled.

use std::io;

use crate::blocks::Appending;
use crate::format::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, Marker};
use crate::port::{CommitError, Frame};

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

/// Lays out `frames`, which [`group_bytes`] has measured, numbered from `first`.
pub(crate) fn append(to: &mut Appending<'_>, marker: Marker, first: u64, frames: &[Frame<'_>]) -> io::Result<()> {
    for (index, frame) in (0_u32..).zip(frames) {
        let length = u32::try_from(frame.header.len() + frame.body.len()).expect("the group was measured");
        let number = first + u64::from(index);
        let header = FrameHeader::new(marker, number, index, length, [frame.header, frame.body]);
        to.put(&header.encode())?;
        to.put(frame.header)?;
        to.put(frame.body)?;
    }
    Ok(())
}
