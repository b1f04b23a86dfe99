//! Stretches of the journal that are read, decoded and published as one: small frames of one signal behind one another, or one frame.
//!
//! *Why.* Frames of requests that shared columns stand together in the journal. A batch for each of them would cost a start what sharing
//! columns saves while requests come in.
//!
//! *Invariants.* A stretch holds every frame between its first and its last. A frame that cannot be read leaves no row, and costs no other
//! frame of its stretch anything.

use std::panic::{AssertUnwindSafe, catch_unwind};

use plimsoll_model::{SequenceNumber, UnixNanos};
use plimsoll_otlp::{REQUEST_BYTES_MAX, RowBuilder, Signal};
use plimsoll_store::Published;

use crate::fingerprints::{Fingerprint, Fingerprints};
use crate::frame::{FrameHeader, Packed};

/// A frame of more than this, or of what comes to more, stands alone.
const SMALL_BYTES: usize = 128 << 10;

/// A stretch of small frames ends at so many bytes.
const STRETCH_BYTES: usize = 512 << 10;

/// And at so many frames.
const STRETCH_FRAMES: usize = 512;

/// Frames to be decoded.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    frames: Vec<(SequenceNumber, Vec<u8>)>,
    signal: Option<Signal>,
    pub(crate) weight: usize,
}

/// What one frame was found to be.
pub(crate) struct Looked {
    pub(crate) sequence: SequenceNumber,
    /// Length of the payload.
    pub(crate) bytes: usize,
    pub(crate) told: Option<Told>,
    pub(crate) came: Came,
}

/// What repeats of a request are told by.
pub(crate) struct Told {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) received: UnixNanos,
    pub(crate) complete: bool,
}

/// What came of a frame.
pub(crate) enum Came {
    /// It is in segments already.
    Stored,
    /// So many rows.
    Rows(usize),
    Undecodable(String),
}

/// Returns what a frame takes while it is decoded: itself, the request where that is compressed, and rows, as long as the request.
pub(crate) fn weight(payload: &[u8]) -> usize {
    let comes_out = match FrameHeader::decode(payload) {
        // What claims to be longer than any request is not inflated.
        Ok((FrameHeader { packed: Some(Packed { inflated, .. }), .. }, _)) => {
            2 * (inflated as usize).min(REQUEST_BYTES_MAX)
        }
        Ok((_, request)) => request.len(),
        Err(_) => 0,
    };
    payload.len() + comes_out
}

impl Stretch {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Says whether a frame belongs into it.
    fn takes(&self, signal: Option<Signal>, weight: usize) -> bool {
        self.is_empty()
            || signal.is_some()
                && self.signal == signal
                && weight <= SMALL_BYTES
                && self.weight + weight <= STRETCH_BYTES
                && self.frames.len() < STRETCH_FRAMES
    }

    /// Puts the next frame into it; where it does not belong there, into the next one, and returns this one, which is whole.
    pub(crate) fn push(&mut self, sequence: SequenceNumber, payload: &[u8]) -> Option<Self> {
        let weight = weight(payload);
        let header = FrameHeader::decode(payload).ok().map(|(header, _)| header.signal);
        let signal = header.filter(|_| weight <= SMALL_BYTES);
        let whole = (!self.takes(signal, weight)).then(|| std::mem::take(self));
        self.signal = signal;
        self.weight += weight;
        self.frames.push((sequence, payload.to_vec()));
        whole
    }
}

/// Decodes stretches, one after another.
pub(crate) struct Decoder<'a> {
    fingerprints: &'a Fingerprints,
    /// Frames up to this one are in segments.
    checkpoint: SequenceNumber,
    builders: [RowBuilder; Signal::ALL.len()],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(fingerprints: &'a Fingerprints, checkpoint: SequenceNumber) -> Self {
        Self { fingerprints, checkpoint, builders: Signal::ALL.map(RowBuilder::new) }
    }

    /// Returns what each frame was found to be, and the rows of all.
    pub(crate) fn decode(&mut self, stretch: Stretch) -> (Vec<Looked>, Option<Published>) {
        let alone = stretch.frames.len() == 1;
        let mut rows: Option<Published> = None;
        let mut looked = Vec::with_capacity(stretch.frames.len());
        // Of those that gave rows.
        let mut within: Option<(SequenceNumber, SequenceNumber)> = None;
        for (sequence, payload) in stretch.frames {
            // A defect in the decoder must not become a crash loop.
            let look = catch_unwind(AssertUnwindSafe(|| self.look(sequence, &payload, alone)));
            let (told, came, batch) =
                look.unwrap_or_else(|_| (None, Came::Undecodable("the decoder failed on it".to_owned()), None));
            if let Came::Rows(1..) = came {
                within = Some((within.map_or(sequence, |(first, _)| first), sequence));
            }
            rows = rows.or(batch);
            looked.push(Looked { sequence, bytes: payload.len(), told, came });
        }
        if rows.is_none()
            && let (Some(signal), Some((sequence, last))) = (stretch.signal, within)
        {
            rows = Some(Published { sequence, last, signal, batch: self.builders[signal as usize].take() });
        }
        (looked, rows)
    }

    fn look(
        &mut self,
        sequence: SequenceNumber,
        payload: &[u8],
        alone: bool,
    ) -> (Option<Told>, Came, Option<Published>) {
        let problem = |text: String| (None, Came::Undecodable(text), None);
        let (header, rest) = match FrameHeader::decode(payload) {
            Ok(parts) => parts,
            Err(error) => return problem(error.to_string()),
        };
        let FrameHeader { signal, received, .. } = header;
        let request = match header.request(rest) {
            Ok(request) => request,
            Err(error) => return problem(error.to_string()),
        };
        let told = |complete| {
            let fingerprint = || self.fingerprints.of(signal, &request);
            self.fingerprints.is_on().then(|| Told { fingerprint: fingerprint(), received, complete })
        };
        if sequence <= self.checkpoint {
            return (told(false), Came::Stored, None);
        }
        if alone {
            return match plimsoll_otlp::decode(signal, &request, received) {
                Ok(decoded) => {
                    let told = told(decoded.rejected.count == 0);
                    let batch = decoded.batch;
                    let rows = batch.num_rows();
                    (told, Came::Rows(rows), Some(Published { sequence, last: sequence, signal, batch }))
                }
                Err(error) => problem(error.to_string()),
            };
        }
        match self.builders[signal as usize].push(&request, received) {
            Ok(pushed) => (told(pushed.rejected.count == 0), Came::Rows(pushed.rows), None),
            Err(error) => problem(error.to_string()),
        }
    }
}
