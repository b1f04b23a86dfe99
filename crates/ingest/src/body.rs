//! Reading a request's body under the size limit and the budget.
//!
//! *Invariants.* No byte is kept before it is reserved. The size announced is reserved at once, so that a request never holds a
//! part while it waits for the rest; a size that nobody announced is reserved in doubling steps.
//!
//! *Cost.* A body that arrives in one piece is not copied.

use bytes::{Bytes, BytesMut};

use crate::budget::Reservation;
use crate::pipeline::{Arrival, Pipeline};
use crate::refusal::Refusal;

/// Reserved first where the size is unknown.
const FIRST_STEP: usize = 64 << 10;

/// A body being read.
pub(crate) struct Gather<'a> {
    pipeline: &'a Pipeline,
    arrival: Arrival,
    /// Compressed bodies reserve themselves; what becomes of them is reserved when they are inflated.
    compressed: bool,
    reservation: Reservation,
    /// Bytes reserved for.
    room: usize,
    /// True where `room` is the size announced: one allocation holds it all.
    announced: bool,
    first: Bytes,
    rest: BytesMut,
}

impl<'a> Gather<'a> {
    /// Reserves for a body of `announced` bytes, parking if need be.
    pub(crate) async fn begin(
        pipeline: &'a Pipeline,
        arrival: Arrival,
        announced: Option<usize>,
        compressed: bool,
    ) -> Result<Self, Refusal> {
        let limit = pipeline.request_bytes_max();
        if announced.is_some_and(|size| size > limit) {
            return Err(Refusal::too_large(limit, false));
        }
        let room = announced.unwrap_or(FIRST_STEP.min(limit));
        // Who does not say how much comes may send all that a stream may.
        let wire = announced.unwrap_or(usize::MAX);
        let reservation = pipeline.reserve(arrival.peer, need(pipeline, arrival, room, compressed), wire).await?;
        Ok(Self {
            pipeline,
            arrival,
            compressed,
            reservation,
            room,
            announced: announced.is_some(),
            first: Bytes::new(),
            rest: BytesMut::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Takes the next piece.
    pub(crate) async fn push(&mut self, piece: Bytes) -> Result<(), Refusal> {
        if piece.is_empty() {
            return Ok(());
        }
        let len = self.len() + piece.len();
        if len > self.room {
            let limit = self.pipeline.request_bytes_max();
            if len > limit {
                return Err(Refusal::too_large(limit, false));
            }
            let next = len.max(self.room * 2).min(limit);
            let need = |size| need(self.pipeline, self.arrival, size, self.compressed);
            let more = need(next).saturating_sub(need(self.room));
            self.pipeline.grow(&mut self.reservation, more, self.arrival.peer.stream_bytes).await?;
            self.room = next;
            self.announced = false;
        }
        if self.len() == 0 {
            self.first = piece;
            return Ok(());
        }
        if self.rest.is_empty() {
            self.rest.reserve(if self.announced { self.room } else { len.next_power_of_two().min(self.room) });
            self.rest.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.rest.extend_from_slice(&piece);
        Ok(())
    }

    /// Returns the body and what is reserved for it.
    pub(crate) fn finish(self) -> (Bytes, Reservation) {
        let body = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        (body, self.reservation)
    }
}

fn need(pipeline: &Pipeline, arrival: Arrival, body: usize, compressed: bool) -> usize {
    if compressed { body } else { pipeline.expansion.needed(arrival.signal, body) }
}
