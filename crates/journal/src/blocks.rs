//! Whole blocks for a log file: every byte of the log passes through one aligned buffer.
//!
//! *Why.* A file that was opened past the page cache takes whole blocks from aligned memory only. In return the kernel copies
//! nothing: at 100 MB/s that copy, into pages that are in no cache, was six parts in a hundred of a core.
//!
//! *Layout.* The block that the log ends in is kept in memory and written again, with more in it, by the next group. What was in it
//! stays what it was byte by byte, so that a write that does not finish cannot harm it. Zeros fill the last block, as they do the rest
//! of the file.
//!
//! *Cost.* One copy of each byte, into memory that stays in the processor's caches. No allocation.

use std::io::{self, ErrorKind, IoSlice};

use crate::disk::DiskFile;

/// What memory, offsets and lengths are multiples of, on every disk that is in use.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// What is written at once: small enough to stay in a cache, large enough for most groups.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes that the system may cut to less than one block, one after the other, before that is an error.
const SHORT_MAX: u32 = 16;

/// Memory that begins at a multiple of [`BLOCK_BYTES`].
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// Makes `length` zeros.
    pub(crate) fn zeroed(length: usize) -> Self {
        // Never grown, so it stays where it is.
        let bytes = vec![0; length + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { bytes, start }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.bytes.len() - BLOCK_BYTES + self.start]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        let end = self.bytes.len() - BLOCK_BYTES + self.start;
        &mut self.bytes[self.start..end]
    }
}

/// The buffer; made when it is first needed.
#[derive(Default)]
pub(crate) struct Blocks(Option<Aligned>);

impl Blocks {
    /// Begins to write to `file` after `partial`, which is what its last block holds already and begins at `at`.
    pub(crate) fn after<'a>(&'a mut self, file: &'a dyn DiskFile, at: u64, partial: &[u8]) -> Appending<'a> {
        let buffer = self.0.get_or_insert_with(|| Aligned::zeroed(BUFFER_BYTES)).as_mut_slice();
        buffer[..partial.len()].copy_from_slice(partial);
        Appending { file, buffer, filled: partial.len(), at }
    }
}

/// Bytes on their way into a file.
pub(crate) struct Appending<'a> {
    file: &'a dyn DiskFile,
    buffer: &'a mut [u8],
    filled: usize,
    /// Where in the file the buffer begins.
    at: u64,
}

impl Appending<'_> {
    /// Takes `bytes`; writes where the buffer is full.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.buffer.len() - self.filled));
            self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.buffer.len() {
                write_blocks(self.file, self.buffer, self.at)?;
                self.at += self.filled as u64;
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// Writes what is left, puts into `partial` what the last block holds, and returns where it ends.
    pub(crate) fn finish(self, partial: &mut Vec<u8>) -> io::Result<u64> {
        let block = self.file.block_bytes();
        let whole = self.filled - self.filled % block;
        let padded = self.filled.next_multiple_of(block);
        self.buffer[self.filled..padded].fill(0);
        write_blocks(self.file, &self.buffer[..padded], self.at)?;
        partial.clear();
        partial.extend_from_slice(&self.buffer[whole..self.filled]);
        Ok(self.at + self.filled as u64)
    }
}

/// Writes all of `bytes` at `offset`, both of whole blocks.
pub(crate) fn write_blocks(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    let block = file.block_bytes();
    let mut short = 0;
    while !bytes.is_empty() {
        let written = match file.write_at(&[IoSlice::new(bytes)], offset) {
            Ok(0) => return Err(io::Error::new(ErrorKind::WriteZero, "the system wrote nothing")),
            // What was written of a block is written again with the rest of it.
            Ok(written) => written - written % block,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        short = if written == 0 { short + 1 } else { 0 };
        if short > SHORT_MAX {
            return Err(io::Error::new(ErrorKind::WriteZero, "the system writes less than a block at a time"));
        }
        offset += written as u64;
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_at_a_block_and_is_as_long_as_asked() {
        for length in [BLOCK_BYTES, 3 * BLOCK_BYTES, BUFFER_BYTES] {
            let mut aligned = Aligned::zeroed(length);
            assert_eq!(aligned.as_slice().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!((aligned.as_slice().len(), aligned.as_mut_slice().len()), (length, length));
        }
    }
}
