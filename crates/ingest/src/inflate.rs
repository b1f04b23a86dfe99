//! Decompression under a hard limit.
//!
//! *Invariants.* Never more than the allowance is written to the output, whatever the input claims: a bomb stops at the limit, and
//! what was reserved for it bounds it before.
//!
//! *Cost.* One decoder a request; its window is at most 32 KiB (gzip, deflate) or 8 MiB (zstd, the most that RFC 9659 allows as a
//! content coding; a frame that asks for more is refused).

use std::io::{self, BufReader, Cursor, Read};

use bytes::Bytes;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

/// log2 of the largest zstd window.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What zstd calls a larger one.
const ZSTD_WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// What a decoder of gzip or deflate takes: the window and the tables of two codes.
const DEFLATE_BYTES: usize = 64 << 10;

/// What a decoder of zstd takes beside its window: tables and two blocks.
const ZSTD_BYTES: usize = 512 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(unreachable_pub, reason = "part of a public type, and no more than that")]
pub enum Encoding {
    Identity,
    Gzip,
    /// The zlib format, as HTTP means it.
    Deflate,
    Zstd,
}

/// What to say in `accept-encoding` and `grpc-accept-encoding`.
pub(crate) const ACCEPTED: &str = "identity,gzip,deflate,zstd";

impl Encoding {
    /// Reads a header's value; `None` where it is not spoken here.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        match () {
            () if value.is_empty() || is("identity") || is("none") => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") || is("zlib") => Some(Self::Deflate),
            () if is("zstd") => Some(Self::Zstd),
            () => None,
        }
    }

    /// Guesses the inflated size of `body`: what it says itself where it does, else eight times its size.
    pub(crate) fn guess(self, body: &[u8]) -> usize {
        let said = match self {
            Self::Identity => Some(body.len()),
            // The last four bytes of a gzip member are its size, modulo 2^32.
            Self::Gzip => body.last_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize),
            Self::Deflate => None,
            Self::Zstd => {
                zstd::zstd_safe::get_frame_content_size(body).ok().flatten().and_then(|size| usize::try_from(size).ok())
            }
        };
        // No format that is spoken here shrinks telemetry by more than this; a larger claim is not taken at its word.
        let most = body.len().saturating_mul(64);
        said.unwrap_or_else(|| body.len().saturating_mul(8)).clamp(body.len().min(64), most.max(64))
    }
}

impl Encoding {
    /// Returns what a decoder of `body` takes beside input and output: its window and its tables.
    pub(crate) fn decoder_bytes(self, body: &[u8]) -> usize {
        match self {
            Self::Identity => 0,
            Self::Gzip | Self::Deflate => DEFLATE_BYTES,
            Self::Zstd => ZSTD_BYTES + zstd_window(body).min(1 << ZSTD_WINDOW_LOG_MAX),
        }
    }
}

/// Reads the window of the first frame (RFC 8878, 3.1.1.1); the largest where that is not a frame.
fn zstd_window(body: &[u8]) -> usize {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, window, ..] = *body else { return 1 << ZSTD_WINDOW_LOG_MAX };
    let single_segment = descriptor & 0x20 != 0;
    if single_segment {
        // The window is the content.
        return Encoding::Zstd.guess(body);
    }
    let base = 1_usize << (10 + (window >> 3));
    base + base / 8 * usize::from(window & 7)
}

/// One body on its way out of compression.
pub(crate) struct Inflater {
    input: Input,
    /// What came out so far.
    output: Vec<u8>,
}

enum Input {
    Gzip(Box<MultiGzDecoder<Cursor<Bytes>>>),
    Deflate(Box<ZlibDecoder<Cursor<Bytes>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Cursor<Bytes>>>>),
}

/// How far an inflater got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Everything came out.
    Done(Vec<u8>),
    /// The allowance is used up and there is more.
    More,
}

impl Inflater {
    /// Begins; `expected` bytes are made room for.
    ///
    /// # Errors
    /// The decoder could not be set up.
    pub(crate) fn new(encoding: Encoding, body: Bytes, expected: usize) -> io::Result<Self> {
        let body = Cursor::new(body);
        let input = match encoding {
            // Nobody asks for identity; as deflate it would be refused as malformed.
            Encoding::Deflate | Encoding::Identity => Input::Deflate(Box::new(ZlibDecoder::new(body))),
            Encoding::Gzip => Input::Gzip(Box::new(MultiGzDecoder::new(body))),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(body)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Input::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { input, output: Vec::with_capacity(expected) })
    }

    /// Inflates until everything is out or `allowance` bytes are, all calls together.
    ///
    /// # Errors
    /// The input is damaged or ends early, or asks for a window that is too large.
    pub(crate) fn run(&mut self, allowance: usize) -> io::Result<Progress> {
        let input: &mut dyn Read = match &mut self.input {
            Input::Gzip(decoder) => decoder.as_mut(),
            Input::Deflate(decoder) => decoder.as_mut(),
            Input::Zstd(decoder) => decoder.as_mut(),
        };
        let room = allowance.saturating_sub(self.output.len());
        let read = input.take(room as u64).read_to_end(&mut self.output).map_err(named)?;
        if read < room {
            return self.done();
        }
        // The allowance is met exactly: one byte more tells the end from the middle.
        let mut probe = [0_u8; 1];
        if input.read(&mut probe).map_err(named)? == 0 {
            return self.done();
        }
        self.output.push(probe[0]);
        Ok(Progress::More)
    }

    /// Returns what came out, unless something follows. The other decoders look for another member or frame there and refuse what is none.
    fn done(&mut self) -> io::Result<Progress> {
        if let Input::Deflate(decoder) = &self.input {
            let body = decoder.get_ref();
            if body.position() < body.get_ref().len() as u64 {
                let problem =
                    format!("{} bytes follow the end of the data", body.get_ref().len() as u64 - body.position());
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
        Ok(Progress::Done(std::mem::take(&mut self.output)))
    }
}

/// Says what to change where the decoder's words do not.
fn named(problem: io::Error) -> io::Error {
    if problem.to_string() != ZSTD_WINDOW_TOO_LARGE {
        return problem;
    }
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a frame asks for a window of more than 8 MiB, the most that RFC 9659 allows: compress at level 19 or lower, and not with `--long`",
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("writes to memory");
        encoder.finish().expect("writes to memory")
    }

    fn compress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => bytes.to_vec(),
            Encoding::Gzip => gzip(bytes),
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).expect("writes to memory");
                encoder.finish().expect("writes to memory")
            }
            Encoding::Zstd => zstd::encode_all(bytes, 1).expect("writes to memory"),
        }
    }

    fn inflate(encoding: Encoding, body: Vec<u8>, step: usize, limit: usize) -> io::Result<Progress> {
        let mut inflater = Inflater::new(encoding, Bytes::from(body), 0)?;
        let mut allowance = step;
        loop {
            match inflater.run(allowance.min(limit))? {
                Progress::More if allowance < limit => allowance += step,
                end => return Ok(end),
            }
        }
    }

    const COMPRESSED: [Encoding; 3] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    #[test]
    fn gzip_members_and_zstd_frames_that_follow_one_another_are_all_read() {
        let body = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(inflate(Encoding::Gzip, body, 99, 99).expect("reads"), Progress::Done(b"one two".to_vec()));
        let body = [compress(Encoding::Zstd, b"one "), compress(Encoding::Zstd, b"two")].concat();
        assert_eq!(inflate(Encoding::Zstd, body, 99, 99).expect("reads"), Progress::Done(b"one two".to_vec()));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for encoding in COMPRESSED {
            let bomb = compress(encoding, &vec![0; 1 << 20]);
            let mut inflater = Inflater::new(encoding, Bytes::from(bomb), 0).expect("begins");
            assert_eq!(inflater.run(1_000).expect("is well-formed"), Progress::More, "{encoding:?}");
            assert!(inflater.output.capacity() < 4_096, "{encoding:?} holds {}", inflater.output.capacity());
        }
    }

    #[test]
    fn a_zstd_frame_that_asks_for_a_huge_window_is_refused_in_words_that_say_what_to_change() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("begins");
        encoder.window_log(27).expect("is allowed");
        encoder.write_all(&[7; 1_000]).expect("writes to memory");
        let body = encoder.finish().expect("writes to memory");
        let problem = inflate(Encoding::Zstd, body, 10_000, 10_000).expect_err("is refused").to_string();
        assert!(problem.contains("8 MiB") && problem.contains("level 19"), "{problem}");
    }

    #[test]
    fn a_decoder_is_taken_to_need_what_the_frame_says() {
        let framed = |log: u32| {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("begins");
            encoder.window_log(log).expect("is allowed");
            encoder.write_all(&[7; 1_000]).expect("writes to memory");
            encoder.finish().expect("writes to memory")
        };
        assert_eq!(Encoding::Zstd.decoder_bytes(&framed(20)), ZSTD_BYTES + (1 << 20));
        assert_eq!(Encoding::Zstd.decoder_bytes(&framed(27)), ZSTD_BYTES + (8 << 20), "more is refused");
        let known = zstd::bulk::compress(&[7; 1_000], 1).expect("compresses");
        assert!(Encoding::Zstd.decoder_bytes(&known) <= ZSTD_BYTES + 4_096, "{}", Encoding::Zstd.decoder_bytes(&known));
        assert_eq!(Encoding::Zstd.decoder_bytes(b"junk"), ZSTD_BYTES + (8 << 20));
        assert_eq!(Encoding::Gzip.decoder_bytes(b""), DEFLATE_BYTES);
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_in_steps_of_any_size(bytes: Vec<u8>, which in 0..3_usize, step in 1..64_usize) {
            let encoding = COMPRESSED[which];
            let progress = inflate(encoding, compress(encoding, &bytes), step, bytes.len().max(1)).expect("reads");
            prop_assert_eq!(progress, Progress::Done(bytes));
        }

        #[test]
        fn a_body_cut_short_is_an_error(bytes in prop::collection::vec(any::<u8>(), 1..200), which in 0..3_usize, cut in 1..8_usize) {
            let encoding = COMPRESSED[which];
            let mut body = compress(encoding, &bytes);
            body.truncate(body.len() - cut);
            prop_assert!(inflate(encoding, body, 4_096, 4_096).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>, which in 0..3_usize) {
            let _ = inflate(COMPRESSED[which], body.clone(), 512, 4_096);
            let _ = COMPRESSED[which].guess(&body);
            let _ = COMPRESSED[which].decoder_bytes(&[&[0x28, 0xb5, 0x2f, 0xfd][..], &body].concat());
        }
    }

    #[test]
    fn what_follows_the_end_of_the_data_is_refused() {
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            let whole = compress(encoding, b"some text");
            let longer = [&whole[..], b"and more"].concat();
            let run = |body: Vec<u8>| Inflater::new(encoding, Bytes::from(body), 9).and_then(|mut it| it.run(1_000));
            assert_eq!(run(whole).expect("is whole"), Progress::Done(b"some text".to_vec()), "{encoding:?}");
            assert!(run(longer).is_err(), "{encoding:?}");
        }
    }
}
