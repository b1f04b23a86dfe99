//! Summing a file up while it is written.

use std::io::{self, Write};

use crc32fast::Hasher;

use super::{BLOCK, END, MAGIC};

/// Passes bytes on and puts their checksums before the footer.
///
/// *Cost.* A pass over the bytes, and from [`Self::hold`] on a copy of them: what Parquet writes when a file is closed.
pub(crate) struct Summed<W> {
    out: W,
    /// Bytes passed on.
    passed: u64,
    block: Hasher,
    /// Bytes in `block`.
    filled: usize,
    sums: Vec<u8>,
    held: Option<Vec<u8>>,
}

impl<W: Write> Summed<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, passed: 0, block: Hasher::new(), filled: 0, sums: Vec::new(), held: None }
    }

    /// Keeps back what is written from now on: the footer is in it.
    pub(crate) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Writes what was kept back, the checksums before the footer.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let held = self.held.take().unwrap_or_default();
        let incomplete = || io::Error::new(io::ErrorKind::InvalidInput, "a file without a footer cannot be summed up");
        let at = footer_at(&held).ok_or_else(incomplete)?;
        let (guarded, footer) = held.split_at(at);
        self.pass(guarded)?;
        if self.filled > 0 {
            self.end_block();
        }
        let mut sums = std::mem::take(&mut self.sums);
        sums.extend_from_slice(&self.passed.to_le_bytes());
        sums.extend_from_slice(&(BLOCK as u32).to_le_bytes());
        sums.extend_from_slice(&crc32fast::hash(footer).to_le_bytes());
        sums.extend_from_slice(&crc32fast::hash(&sums).to_le_bytes());
        sums.extend_from_slice(MAGIC);
        sums.extend_from_slice(footer);
        self.out.write_all(&sums)?;
        self.out.flush()
    }

    fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.passed += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.block.update(now);
            self.filled += now.len();
            if self.filled == BLOCK {
                self.end_block();
            }
            bytes = later;
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let sum = std::mem::take(&mut self.block).finalize();
        self.sums.extend_from_slice(&sum.to_le_bytes());
        self.filled = 0;
    }
}

/// Returns where the footer begins in the last bytes of a file.
fn footer_at(end: &[u8]) -> Option<usize> {
    let last = end.len().checked_sub(END)?;
    let length = u32::from_le_bytes(end.get(last..last + 4)?.try_into().ok()?);
    last.checked_sub(usize::try_from(length).ok()?)
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.held {
            Some(held) => held.extend_from_slice(bytes),
            None => self.pass(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
