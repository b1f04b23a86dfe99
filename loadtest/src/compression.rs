//! Compression of request bodies, whole or sealed: a body compressed once to which a small uncompressed part is added.
//!
//! *Layout of a sealed gzip body* (RFC 1951, 1952): header, deflate blocks of the head ended by a sync flush (which ends on a
//! byte boundary), one stored block marked last that holds the tail, CRC-32 and length of both.
//! *Of a sealed zstd body* (RFC 8878): frame header, blocks of the head ended by a flush, one raw block marked last.

use std::io::{Read, Write};

use bytes::{BufMut, BytesMut};
use clap::ValueEnum;
use flate2::{Compress, Crc, FlushCompress};

use crate::client::GRPC_PREFIX_BYTES;

/// How bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// `gzip`, as Collectors do by default.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.encoding().unwrap_or("none"))
    }
}

const IN_MEMORY: &str = "writing to memory does not fail";

impl Compression {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// Returns the name used in `content-encoding` and `grpc-encoding`, where there is one.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// Returns the form that [`Self::encoding`] gives this name.
    pub(crate) fn named(encoding: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.encoding().unwrap_or("identity") == encoding)
    }

    /// Compresses a whole body.
    pub fn compress(self, body: &[u8]) -> Vec<u8> {
        match self {
            Self::None => body.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(body).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY)
            }
            Self::Zstd => zstd::encode_all(body, 3).expect(IN_MEMORY),
        }
    }

    /// Opens a whole body.
    ///
    /// # Errors
    /// The bytes are not what they should be.
    pub fn decompress(self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(body.to_vec()),
            Self::Gzip => {
                let mut out = Vec::new();
                flate2::read::GzDecoder::new(body).read_to_end(&mut out)?;
                Ok(out)
            }
            Self::Zstd => zstd::decode_all(body),
        }
    }
}

/// A head compressed once, to which each send adds a tail.
pub(crate) struct Sealed {
    compression: Compression,
    head: Vec<u8>,
    crc: Crc,
}

impl Sealed {
    /// Compresses `head`, which holds a byte at least: zstd writes no frame before its first.
    pub(crate) fn new(compression: Compression, head: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(head);
        let head = match compression {
            Compression::None => head.to_vec(),
            Compression::Gzip => {
                // No name, no time, unknown system.
                let mut out = Vec::with_capacity(head.len() + head.len() / 8 + 1_024);
                out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
                let mut deflate = Compress::new(flate2::Compression::new(6), false);
                // One call with room for all of it: a flush that runs out of room is not one that can be taken up again.
                deflate.compress_vec(head, &mut out, FlushCompress::Sync).expect("deflate takes any bytes");
                assert!(
                    deflate.total_in() == head.len() as u64 && out.len() < out.capacity(),
                    "the head was flushed whole"
                );
                out
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("level 3 exists");
                encoder.include_checksum(false).expect("a known parameter");
                encoder.write_all(head).expect(IN_MEMORY);
                encoder.flush().expect(IN_MEMORY);
                encoder.get_ref().clone()
            }
        };
        Self { compression, head, crc }
    }

    /// Returns how many bytes the head takes.
    pub(crate) fn len(&self) -> usize {
        self.head.len()
    }

    /// Returns room for the gRPC prefix, the head and `tail`, as one compressed body.
    ///
    /// # Panics
    /// `tail` is longer than 65,535 bytes, which one stored block cannot hold.
    pub(crate) fn with_tail(&self, tail: &[u8]) -> BytesMut {
        let mut out = BytesMut::with_capacity(GRPC_PREFIX_BYTES + self.head.len() + tail.len() + 16);
        out.put_bytes(0, GRPC_PREFIX_BYTES);
        out.put_slice(&self.head);
        let length = u16::try_from(tail.len()).expect("a tail is one record");
        match self.compression {
            Compression::None => out.put_slice(tail),
            Compression::Gzip => {
                out.put_u8(1);
                out.put_u16_le(length);
                out.put_u16_le(!length);
                out.put_slice(tail);
                let mut whole = Crc::new();
                whole.combine(&self.crc);
                let mut rest = Crc::new();
                rest.update(tail);
                whole.combine(&rest);
                out.put_u32_le(whole.sum());
                out.put_u32_le(whole.amount());
            }
            Compression::Zstd => {
                let header = 1 | u32::from(length) << 3;
                out.put_slice(&header.to_le_bytes()[..3]);
                out.put_slice(tail);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_body_of_any_size_opens_to_head_and_tail() {
        let mut state = 1_u32;
        for length in [1, 1_000, 40_000, 300_000, 3_000_000] {
            // Half noise, half repetition: what telemetry is to a compressor.
            let head: Vec<u8> = (0..length)
                .map(|n| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if n / 16 % 2 == 0 { (state >> 24) as u8 } else { b'a' + (n % 16) as u8 }
                })
                .collect();
            for compression in Compression::ALL {
                let sealed = Sealed::new(compression, &head);
                for tail in [&b"tail"[..], &[7; 65_535]] {
                    let body = sealed.with_tail(tail);
                    let opened = compression.decompress(&body[GRPC_PREFIX_BYTES..]).expect("is well formed");
                    assert!(opened == [&head, tail].concat(), "{compression} of {length} bytes");
                }
            }
        }
    }
}
