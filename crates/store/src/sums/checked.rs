//! Reading a file and comparing what is read with its checksums.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{BLOCK, END, KEY, MAGIC, TRAILER};
use crate::files::SegmentRead;

/// Where the footer's keys are, in a file whose trailer is not found.
const KEYS: u64 = 64 << 10;

/// A file whose bytes are compared with their checksums before anybody sees them.
///
/// *Cost.* What is read is widened to whole blocks; of the footer, to the whole of it. The checksums are read with the first bytes.
pub(crate) struct Checked {
    file: Arc<dyn SegmentRead>,
    bytes: u64,
    sums: OnceLock<Option<Sums>>,
}

/// The checksums of a file.
struct Sums {
    /// Bytes that have them.
    guarded: u64,
    block: u64,
    of_blocks: Bytes,
    footer_at: u64,
    of_footer: u32,
}

impl Checked {
    /// Reads `file`, which has `bytes` bytes.
    pub(crate) fn new(file: Arc<dyn SegmentRead>, bytes: u64) -> Self {
        Self { file, bytes, sums: OnceLock::new() }
    }

    fn sums(&self) -> io::Result<Option<&Sums>> {
        if let Some(sums) = self.sums.get() {
            return Ok(sums.as_ref());
        }
        let read = self.read_sums()?;
        Ok(self.sums.get_or_init(|| read).as_ref())
    }

    fn read_sums(&self) -> io::Result<Option<Sums>> {
        let Some(last) = self.bytes.checked_sub(END as u64) else { return Ok(None) };
        let end = self.file.read_at(last, END)?;
        let length = end.first_chunk().map_or(u64::MAX, |length| u64::from(u32::from_le_bytes(*length)));
        let found = last.checked_sub(length).and_then(|footer_at| {
            let trailer_at = footer_at.checked_sub(TRAILER as u64)?;
            Some((footer_at, trailer_at, self.file.read_at(trailer_at, TRAILER)))
        });
        let found = match found {
            Some((footer_at, trailer_at, trailer)) => Some((footer_at, trailer_at, trailer?)),
            None => None,
        };
        let Some((footer_at, trailer_at, trailer)) = found.filter(|(_, _, trailer)| trailer.ends_with(MAGIC)) else {
            return self.unsummed();
        };
        self.of_trailer(trailer_at, footer_at, &trailer).map(Some)
    }

    /// Reads the checksums that a trailer at `trailer_at` is of.
    fn of_trailer(&self, trailer_at: u64, footer_at: u64, trailer: &[u8]) -> io::Result<Sums> {
        let number = |at: usize| trailer[at..].first_chunk().map_or(0, |number| u32::from_le_bytes(*number));
        let guarded = trailer.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        let (block, of_footer, of_sums) = (u64::from(number(8)), number(12), number(16));
        let known = trailer_at.checked_sub(guarded).and_then(|length| usize::try_from(length).ok());
        let Some(known) = known.filter(|known| block > 0 && guarded.div_ceil(block) * 4 == *known as u64) else {
            return Err(damaged(guarded..trailer_at));
        };
        let of_blocks = self.file.read_at(guarded, known)?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&of_blocks);
        sum.update(&trailer[..16]);
        if sum.finalize() != of_sums {
            return Err(damaged(guarded..footer_at));
        }
        Ok(Sums { guarded, block, of_blocks, footer_at, of_footer })
    }

    /// Takes a file without checksums as it is, unless it should have them.
    fn unsummed(&self) -> io::Result<Option<Sums>> {
        let from = self.bytes.saturating_sub(KEYS);
        let end = self.file.read_at(from, (self.bytes - from) as usize)?;
        // In the footer, where one can tell how long it is: a value of a row may be the same text.
        let length =
            end.strip_suffix(b"PAR1").and_then(|rest| rest.last_chunk()).map(|n| u32::from_le_bytes(*n) as usize);
        let footer = length.and_then(|length| end.len().checked_sub(length.checked_add(8)?)).unwrap_or(0);
        let tells = |some: &[u8]| some.windows(KEY.len()).any(|some| some == KEY.as_bytes());
        let should_have = tells(&end.slice(footer..)) || tells(&end) && self.has_trailer()?;
        if should_have { Err(damaged(from..self.bytes)) } else { Ok(None) }
    }

    /// Says whether there is a trailer anywhere: then it is the footer's length that is not what it was. Reads the whole file, some bytes
    /// at a time.
    fn has_trailer(&self) -> io::Result<bool> {
        let step = 128 * BLOCK as u64;
        for at in (0..self.bytes).step_by(step as usize) {
            // Those that begin in this step.
            let length = (step + TRAILER as u64 - 1).min(self.bytes - at);
            let bytes = self.file.read_at(at, usize::try_from(length).unwrap_or(usize::MAX))?;
            for (trailer, trailer_at) in bytes.windows(TRAILER).zip(at..) {
                if !trailer.ends_with(MAGIC) {
                    continue;
                }
                match self.of_trailer(trailer_at, trailer_at + TRAILER as u64, trailer) {
                    Ok(_) => return Ok(true),
                    // The same eight letters in a row.
                    Err(problem) if problem.kind() == io::ErrorKind::InvalidData => {}
                    Err(problem) => return Err(problem),
                }
            }
        }
        Ok(false)
    }
}

impl SegmentRead for Checked {
    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let Some(sums) = self.sums()? else { return self.file.read_at(start, length) };
        let beyond = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = start.checked_add(length as u64).filter(|end| *end <= self.bytes).ok_or_else(beyond)?;
        let wide = sums.widened(start..end, self.bytes);
        let bytes = self.file.read_at(wide.start, usize::try_from(wide.end - wide.start).map_err(|_| beyond())?)?;
        sums.compare(&bytes, &wide)?;
        let from = (start - wide.start) as usize;
        Ok(bytes.slice(from..from + length))
    }
}

impl Sums {
    /// Returns the range that `wanted` has to be read with to be compared.
    fn widened(&self, wanted: Range<u64>, bytes: u64) -> Range<u64> {
        let Range { mut start, mut end } = wanted;
        if end > self.footer_at {
            (start, end) = (start.min(self.footer_at), bytes);
        }
        if start < self.guarded {
            start -= start % self.block;
            if end < self.guarded {
                end = end.next_multiple_of(self.block).min(self.guarded);
            }
        }
        start..end
    }

    /// Compares `bytes`, which are those at `at`: whole blocks, and the whole footer or nothing of it.
    fn compare(&self, bytes: &[u8], at: &Range<u64>) -> io::Result<()> {
        if at.start < self.guarded {
            let guarded = (self.guarded.min(at.end) - at.start) as usize;
            let first = (at.start / self.block) as usize;
            for (number, block) in bytes[..guarded].chunks(self.block as usize).enumerate() {
                let sum = self.of_blocks[(first + number) * 4..].first_chunk().map(|sum| u32::from_le_bytes(*sum));
                if sum != Some(crc32fast::hash(block)) {
                    let from = at.start + number as u64 * self.block;
                    return Err(damaged(from..from + block.len() as u64));
                }
            }
        }
        if at.end > self.footer_at {
            let footer = &bytes[(self.footer_at - at.start) as usize..];
            if crc32fast::hash(footer) != self.of_footer {
                return Err(damaged(self.footer_at..at.end));
            }
        }
        Ok(())
    }
}

fn damaged(at: Range<u64>) -> io::Error {
    let problem = format!("bytes {} to {} are not those that were written", at.start, at.end);
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Compares a whole file with its checksums, some bytes at a time.
pub(crate) fn check(file: Arc<dyn SegmentRead>, bytes: u64) -> io::Result<()> {
    let file = Checked::new(file, bytes);
    let step = 128 * BLOCK as u64;
    let mut at = 0;
    while at < bytes {
        let length = step.min(bytes - at);
        file.read_at(at, length as usize)?;
        at += length;
    }
    Ok(())
}

/// A file in memory.
impl SegmentRead for Bytes {
    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let beyond = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(start).map_err(|_| beyond())?;
        let end = start.checked_add(length).filter(|end| *end <= self.len()).ok_or_else(beyond)?;
        Ok(self.slice(start..end))
    }
}
