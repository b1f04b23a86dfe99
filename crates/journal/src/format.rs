//! The bytes of a log file.
//!
//! *Layout.* Integers are little-endian.
//!
//! ```text
//! file    0  magic       8  "PLIMSLOG"
//!         8  version     4  1
//!        12  first       8  number of the first frame; also the stem of the file name, as 20 digits
//!        20  previous    8  number of the last frame before this file when it was made; 0 where there was none
//!        28  marker      8  begins every frame of this file; no byte of it is zero
//!        36  before      8  the marker of the file before; zero where that is not known
//!        44  crc32c      4  of bytes 0..44
//!        48  frames
//!
//! frame   0  marker      8
//!         8  length      4  of the payload
//!        12  crc32c      4  of length, number, index, payload
//!        16  number      8
//!        24  index       4  position within its group; 0xffff_ffff: close mark
//!        28  payload
//! ```
//!
//! Zeros follow the last frame, up to the end of the file. A close mark has no payload and the number that the next frame
//! would have had: it is written when the log is closed and says that everything before it was durable.
//!
//! *Invariants.* The index tells which frames were synced together: where a frame is unreadable and a later group is there,
//! the group of the unreadable frame was durable, because a group is written only after the one before it was synced.

use crc32c::{crc32c, crc32c_append};

/// The longest frame, header and body together: four times the largest export request that is taken by default.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// The version written, and the latest one read.
pub const VERSION: u32 = 1;

/// Length of a file's header.
pub const FILE_HEADER_BYTES: usize = 48;

/// Length of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 28;

const MAGIC: [u8; 8] = *b"PLIMSLOG";
const CLOSE: u32 = u32::MAX;
const SUFFIX: &str = ".log";
const DIGITS: usize = 20;

/// Begins every frame of one file.
pub(crate) type Marker = [u8; 8];

/// Returns the name of the log file whose first frame has this number.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:0DIGITS$}{SUFFIX}")
}

/// Reads a log file's name; `None` where it is not one.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|first| *first > 0)
}

/// Derives a file's marker, without a zero byte in it, so that the zeros after the last frame never look like one.
pub(crate) fn marker(entropy: u64, first: u64) -> Marker {
    // The finaliser of splitmix64: every bit of the input moves every bit of the output.
    let mut z = entropy ^ first.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes().map(|byte| if byte == 0 { 0xa5 } else { byte })
}

/// What stands at the start of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) first: u64,
    pub(crate) previous: u64,
    pub(crate) marker: Marker,
    /// The marker of the file before, for when that one's own is lost; zero where it is not known.
    pub(crate) before: Marker,
}

/// Why a file's header is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderProblem {
    Damaged,
    TooNew(u32),
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.first.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.previous.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.marker);
        bytes[36..44].copy_from_slice(&self.before);
        let crc = crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<Self, HeaderProblem> {
        if bytes[..8] != MAGIC || crc32c(&bytes[..44]) != u32_at(bytes, 44) {
            return Err(HeaderProblem::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            later if later > VERSION => return Err(HeaderProblem::TooNew(later)),
            _ => return Err(HeaderProblem::Damaged),
        }
        let marker = |at: usize| u64_at(bytes, at).to_le_bytes();
        Ok(Self { first: u64_at(bytes, 12), previous: u64_at(bytes, 20), marker: marker(28), before: marker(36) })
    }
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) marker: Marker,
    pub(crate) length: u32,
    pub(crate) crc: u32,
    pub(crate) number: u64,
    pub(crate) index: u32,
}

impl FrameHeader {
    /// Makes the header of a frame whose payload is the two parts, one after the other.
    pub(crate) fn new(marker: Marker, number: u64, index: u32, length: u32, parts: [&[u8]; 2]) -> Self {
        let mut header = Self { marker, length, crc: 0, number, index };
        header.crc = parts.iter().fold(header.crc_seed(), |crc, part| crc32c_append(crc, part));
        header
    }

    /// Makes a close mark; `next` is the number that the next frame will have.
    pub(crate) fn close(marker: Marker, next: u64) -> Self {
        Self::new(marker, next, CLOSE, 0, [&[], &[]])
    }

    pub(crate) fn is_close(&self) -> bool {
        self.index == CLOSE
    }

    /// Returns the number of the first frame of this frame's group, wherever the index allows one.
    pub(crate) fn group_first(&self) -> Option<u64> {
        if self.is_close() { Some(self.number) } else { self.number.checked_sub(u64::from(self.index)) }
    }

    /// Returns the checksum of everything before the payload; the payload is appended to it.
    pub(crate) fn crc_seed(&self) -> u32 {
        let bytes = self.encode();
        crc32c_append(crc32c(&bytes[8..12]), &bytes[16..])
    }

    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.marker);
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        let mut marker = [0; 8];
        marker.copy_from_slice(&bytes[..8]);
        Self {
            marker,
            length: u32_at(bytes, 8),
            crc: u32_at(bytes, 12),
            number: u64_at(bytes, 16),
            index: u32_at(bytes, 24),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut part = [0; 4];
    part.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(part)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_names_that_were_written_are_names_of_log_files() {
        assert_eq!(parse_file_name(&file_name(1)), Some(1));
        assert_eq!(parse_file_name(&file_name(u64::MAX)), Some(u64::MAX));
        for name in
            ["1.log", "00000000000000000000.log", "99999999999999999999.log", "+0000000000000000001.log", "lock"]
        {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_of_a_later_release_is_told_from_a_damaged_one() {
        let mut bytes = FileHeader { first: 1, previous: 0, marker: [1; 8], before: [0; 8] }.encode();
        bytes[8] = 2;
        assert_eq!(FileHeader::decode(&bytes), Err(HeaderProblem::Damaged));
        let crc = crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FileHeader::decode(&bytes), Err(HeaderProblem::TooNew(2)));
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(first: u64, previous: u64, entropy: u64, number: u64, index: u32, length: u32, crc: u32) {
            let marker = marker(entropy, first);
            prop_assert!(!marker.contains(&0));
            let file = FileHeader { first, previous, marker, before: entropy.to_le_bytes() };
            prop_assert_eq!(FileHeader::decode(&file.encode()), Ok(file));
            let frame = FrameHeader { marker, length, crc, number, index };
            prop_assert_eq!(FrameHeader::decode(&frame.encode()), frame);
        }

        #[test]
        fn one_flipped_bit_of_a_file_header_is_noticed(first: u64, bit in 0..FILE_HEADER_BYTES * 8) {
            let mut bytes = FileHeader { first, previous: 7, marker: marker(3, first), before: [5; 8] }.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(FileHeader::decode(&bytes).is_err());
        }
    }
}
