//! The payload of a journal frame: one export request, with what is needed to decode it to the same rows again.
//!
//! *Layout.* `docs/formats/frames.md`; integers are little-endian.
//!
//! ```text
//! 0       1        2       3                    11
//! | version | signal | flags | received, u64 ns  | protobuf export request ...
//! ```
//!
//! *Cost.* No allocation, no copy of the request.

use plimsoll_model::UnixNanos;
use plimsoll_otlp::Signal;

/// Version of the layout that is written.
pub const VERSION: u8 = 1;

/// Length of what stands before the request.
pub const HEADER_LEN: usize = 11;

/// What stands before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Which kind of export request follows.
    pub signal: Signal,
    /// When the request was received: decoding depends on it.
    pub received: UnixNanos,
}

/// Why a payload is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header has.
    #[error("frame of {0} bytes is shorter than its header of {HEADER_LEN}")]
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
}

impl FrameHeader {
    /// Writes the header.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = match self.signal {
            Signal::Traces => 1,
            Signal::Logs => 2,
            Signal::Metrics => 3,
        };
        bytes[3..].copy_from_slice(&self.received.0.to_le_bytes());
        bytes
    }

    /// Reads the header and returns it with the request that follows.
    ///
    /// # Errors
    /// The payload was not written by a release that this one understands.
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let Some((header, request)) = payload.split_first_chunk::<HEADER_LEN>() else {
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
        if flags != 0 {
            return Err(FrameError::Flags(flags));
        }
        Ok((Self { signal, received: UnixNanos(u64::from_le_bytes(received)) }, request))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_never_change_between_releases() {
        let header = FrameHeader { signal: Signal::Logs, received: UnixNanos(0x0102_0304_0506_0708) };
        assert_eq!(header.encode(), [1, 2, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn what_another_release_wrote_is_refused_by_name() {
        let good = FrameHeader { signal: Signal::Traces, received: UnixNanos(1) }.encode();
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            FrameHeader::decode(&bytes).map(|_| ())
        };
        assert_eq!(with(0, 2), Err(FrameError::Version(2)));
        assert_eq!(with(1, 0), Err(FrameError::Signal(0)));
        assert_eq!(with(2, 1), Err(FrameError::Flags(1)));
        assert_eq!(FrameHeader::decode(&good[..10]).map(|_| ()), Err(FrameError::Short(10)));
    }

    proptest! {
        #[test]
        fn every_header_comes_back(signal in 0..3_usize, received: u64, request: Vec<u8>) {
            let header = FrameHeader { signal: Signal::ALL[signal], received: UnixNanos(received) };
            let payload = [&header.encode()[..], &request].concat();
            prop_assert_eq!(FrameHeader::decode(&payload), Ok((header, &request[..])));
        }

        #[test]
        fn arbitrary_bytes_never_panic(payload: Vec<u8>) {
            let _ = FrameHeader::decode(&payload);
        }
    }
}
