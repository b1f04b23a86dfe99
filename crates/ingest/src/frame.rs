//! The payload of a journal frame: one export request, with what is needed to decode it to the same rows again.
//!
//! *Layout.* `docs/formats/frames.md`; integers are little-endian.
//!
//! ```text
//! 0       1        2       3                    11
//! | version | signal | flags | received, u64 ns  | protobuf export request ...
//!                    = 0
//! 0       1        2       3                    11                 15
//! | version | signal | flags | received, u64 ns  | inflated, u32    | the request, compressed as it came ...
//!                    = 1 gzip, 2 deflate, 3 zstd
//! ```
//!
//! *Cost.* No allocation, no copy of the request; a compressed one is inflated by whoever reads it.

use std::borrow::Cow;

use bytes::Bytes;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{REQUEST_BYTES_MAX, Signal};

use crate::inflate::{Encoding, Inflater, Progress};

/// Version of the layout that is written.
pub const VERSION: u8 = 1;

/// Length of what stands before a request that is not compressed.
pub const HEADER_LEN: usize = 11;

/// Length of what stands before one that is.
const PACKED_HEADER_LEN: usize = HEADER_LEN + 4;

/// What stands before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Which kind of export request follows.
    pub signal: Signal,
    /// When the request was received: decoding depends on it.
    pub received: UnixNanos,
    /// How it is compressed, where it is.
    pub packed: Option<Packed>,
}

/// How a request in a frame is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    pub(crate) encoding: Encoding,
    /// Length of the request, which inflating it must come to.
    pub(crate) inflated: u32,
}

/// A header as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderBytes {
    bytes: [u8; PACKED_HEADER_LEN],
    length: usize,
}

impl std::ops::Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Why a payload is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header has.
    #[error("frame of {0} bytes is shorter than its header")]
    Short(usize),
    /// Written by another release.
    #[error("frame version {0} is not known to this release, which reads {VERSION}")]
    Version(u8),
    /// No such signal.
    #[error("frame signal {0} is not known")]
    Signal(u8),
    /// A flag that changes the meaning of what follows.
    #[error("frame flags {0:#04x} are not known to this release")]
    Flags(u8),
    /// The request in it does not come out as it went in.
    #[error("frame cannot be inflated: {0}")]
    Damaged(String),
}

impl FrameHeader {
    /// Writes the header.
    pub fn encode(self) -> HeaderBytes {
        let mut bytes = [0; PACKED_HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = match self.signal {
            Signal::Traces => 1,
            Signal::Logs => 2,
            Signal::Metrics => 3,
        };
        bytes[3..HEADER_LEN].copy_from_slice(&self.received.0.to_le_bytes());
        let Some(Packed { encoding, inflated }) = self.packed else { return HeaderBytes { bytes, length: HEADER_LEN } };
        bytes[2] = match encoding {
            Encoding::Identity => 0,
            Encoding::Gzip => 1,
            Encoding::Deflate => 2,
            Encoding::Zstd => 3,
        };
        bytes[HEADER_LEN..].copy_from_slice(&inflated.to_le_bytes());
        HeaderBytes { bytes, length: PACKED_HEADER_LEN }
    }

    /// Reads the header and returns it with what follows.
    ///
    /// # Errors
    /// The payload was not written by a release that this one understands.
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let Some((header, rest)) = payload.split_first_chunk::<HEADER_LEN>() else {
            return Err(FrameError::Short(payload.len()));
        };
        let [version, signal, flags, received @ ..] = *header;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let signal = match signal {
            1 => Signal::Traces,
            2 => Signal::Logs,
            3 => Signal::Metrics,
            other => return Err(FrameError::Signal(other)),
        };
        let received = UnixNanos(u64::from_le_bytes(received));
        let encoding = match flags {
            0 => return Ok((Self { signal, received, packed: None }, rest)),
            1 => Encoding::Gzip,
            2 => Encoding::Deflate,
            3 => Encoding::Zstd,
            other => return Err(FrameError::Flags(other)),
        };
        let Some((inflated, rest)) = rest.split_first_chunk::<4>() else {
            return Err(FrameError::Short(payload.len()));
        };
        let packed = Packed { encoding, inflated: u32::from_le_bytes(*inflated) };
        Ok((Self { signal, received, packed: Some(packed) }, rest))
    }

    /// Returns the request of a frame with this header, of which `rest` is what follows it.
    ///
    /// # Errors
    /// It is compressed and damaged, or comes to another length than it had.
    pub fn request<'a>(&self, rest: &'a [u8]) -> Result<Cow<'a, [u8]>, FrameError> {
        let Some(Packed { encoding, inflated }) = self.packed else { return Ok(Cow::Borrowed(rest)) };
        let length = inflated as usize;
        if length > REQUEST_BYTES_MAX {
            return Err(FrameError::Damaged(format!("{length} bytes are more than any request has")));
        }
        let damaged = |error: std::io::Error| FrameError::Damaged(error.to_string());
        let mut inflater = Inflater::new(encoding, Bytes::copy_from_slice(rest), length).map_err(damaged)?;
        match inflater.run(length).map_err(damaged)? {
            Progress::Done(request) if request.len() == length => Ok(Cow::Owned(request)),
            Progress::Done(short) => {
                Err(FrameError::Damaged(format!("{} bytes came out where {length} went in", short.len())))
            }
            Progress::More => Err(FrameError::Damaged(format!("more than the {length} bytes that went in came out"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_never_change_between_releases() {
        let header = FrameHeader { signal: Signal::Logs, received: UnixNanos(0x0102_0304_0506_0708), packed: None };
        assert_eq!(header.encode()[..], [1, 2, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        for (encoding, flags) in [(Encoding::Gzip, 1), (Encoding::Deflate, 2), (Encoding::Zstd, 3)] {
            let packed = FrameHeader { packed: Some(Packed { encoding, inflated: 0x0a0b_0c0d }), ..header };
            assert_eq!(packed.encode()[..], [1, 2, flags, 8, 7, 6, 5, 4, 3, 2, 1, 0xd, 0xc, 0xb, 0xa]);
        }
    }

    #[test]
    fn what_another_release_wrote_is_refused_by_name() {
        let good = FrameHeader { signal: Signal::Traces, received: UnixNanos(1), packed: None }.encode();
        let with = |at: usize, value: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = value;
            FrameHeader::decode(&bytes).map(|_| ())
        };
        assert_eq!(with(0, 2), Err(FrameError::Version(2)));
        assert_eq!(with(1, 0), Err(FrameError::Signal(0)));
        assert_eq!(with(2, 4), Err(FrameError::Flags(4)));
        assert_eq!(with(2, 1), Err(FrameError::Short(11)), "the length is missing");
        assert_eq!(FrameHeader::decode(&good[..10]).map(|_| ()), Err(FrameError::Short(10)));
    }

    #[test]
    fn a_compressed_request_comes_out_as_it_went_in_or_not_at_all() {
        let request = b"one request of many words, many words".repeat(20);
        let packed = zstd::encode_all(&request[..], 1).expect("compresses");
        let header = |inflated| FrameHeader {
            signal: Signal::Logs,
            received: UnixNanos(1),
            packed: Some(Packed { encoding: Encoding::Zstd, inflated }),
        };
        let length = u32::try_from(request.len()).expect("is short");
        assert_eq!(header(length).request(&packed).expect("inflates")[..], request[..]);
        for wrong in [0, length - 1, length + 1, u32::MAX] {
            assert!(matches!(header(wrong).request(&packed), Err(FrameError::Damaged(_))), "{wrong}");
        }
        assert!(matches!(header(length).request(&packed[..9]), Err(FrameError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn every_header_comes_back(signal in 0..3_usize, received: u64, how in 0..4_usize, inflated: u32, request: Vec<u8>) {
            let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd][how];
            let packed = (encoding != Encoding::Identity).then_some(Packed { encoding, inflated });
            let header = FrameHeader { signal: Signal::ALL[signal], received: UnixNanos(received), packed };
            let payload = [&header.encode()[..], &request].concat();
            prop_assert_eq!(FrameHeader::decode(&payload), Ok((header, &request[..])));
        }

        #[test]
        fn arbitrary_bytes_never_panic(payload: Vec<u8>, flags in 0..5_u8) {
            if let Ok((header, rest)) = FrameHeader::decode(&payload) {
                let _ = header.request(rest);
            }
            let framed = [&[VERSION, 1, flags][..], &[0; 8], &500_u32.to_le_bytes(), &payload].concat();
            if let Ok((header, rest)) = FrameHeader::decode(&framed) {
                let _ = header.request(rest);
            }
        }
    }
}
