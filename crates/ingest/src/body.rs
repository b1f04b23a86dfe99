//! Reading a request's body under the size limit and the budget.
//!
//! *Invariants.* No byte is kept before it is reserved. The size announced is reserved at once, so that a request never holds a
//! part while it waits for the rest, up to an eighth of the budget; what is beyond that, and a size that nobody announced, is reserved in
//! doubling steps as it comes, of an eighth of the budget at the most, and its rows once it is whole. Who announces more than a little, or sends it without a word, waits for others
//! that do so as well ([`crate::budget`]), and who sends slower than it must while others wait is broken off ([`crate::haste`]).
//!
//! *Cost.* A body that arrives in one piece is not copied.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::budget::{Budget, Reservation};
use crate::haste::Haste;
use crate::pipeline::{Arrival, Pipeline};
use crate::refusal::Refusal;

/// Reserved first where the size is unknown; whoever announces no more than this is not taken to announce much.
pub(crate) const FIRST_STEP: usize = 64 << 10;

/// A body being read.
pub(crate) struct Gather<'a> {
    pipeline: &'a Pipeline,
    arrival: Arrival<'a>,
    /// Compressed bodies reserve themselves; what becomes of them is reserved when they are inflated.
    compressed: bool,
    reservation: Reservation,
    /// Bytes reserved for.
    room: usize,
    /// The size of a body whose rows are reserved as well.
    with_rows: usize,
    /// True where nobody said how much comes.
    silent: bool,
    /// No more than this comes.
    most: usize,
    /// True where `room` was announced: one allocation holds it.
    announced: bool,
    haste: Haste,
    first: Bytes,
    rest: BytesMut,
}

impl<'a> Gather<'a> {
    /// Reserves for a body of `announced` bytes, parking if need be.
    pub(crate) async fn begin(
        pipeline: &'a Pipeline,
        arrival: Arrival<'a>,
        announced: Option<usize>,
        compressed: bool,
    ) -> Result<Self, Refusal> {
        let limit = pipeline.request_bytes_max();
        if announced.is_some_and(|size| size > limit) {
            return Err(Refusal::too_large(limit, false));
        }
        let room = announced.map_or(FIRST_STEP.min(limit), |size| size.min(pipeline.limits.ahead_bytes));
        // Who does not say how much comes may send all that a stream may.
        let wire = announced.unwrap_or(usize::MAX);
        let need = |size| need(pipeline, arrival, size, compressed);
        let much =
            announced.filter(|size| *size > FIRST_STEP).map_or(0, |size| Budget::announces(need(size), compressed));
        let reservation = pipeline.reserve(arrival.peer, need(room), much, wire).await?;
        let promised = announced.unwrap_or(room);
        Ok(Self {
            pipeline,
            arrival,
            compressed,
            reservation,
            room,
            with_rows: room,
            silent: announced.is_none(),
            most: announced.unwrap_or(limit),
            announced: announced.is_some(),
            haste: Haste::new(
                promised,
                arrival.peer.stream_bytes,
                pipeline.limits.body_timeout,
                pipeline.limits.body_grace,
                Instant::now(),
            ),
            first: Bytes::new(),
            rest: BytesMut::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    pub(crate) fn haste(&self) -> &Haste {
        &self.haste
    }

    /// Waits for the next piece.
    pub(crate) async fn wait<T>(&self, next: impl Future<Output = T>) -> Result<T, Refusal> {
        self.pipeline.piece(next, &self.haste, self.arrival.seat).await
    }

    /// Takes the next piece.
    pub(crate) async fn push(&mut self, piece: Bytes) -> Result<(), Refusal> {
        // Whatever becomes of it.
        self.pipeline.shares.add(&self.arrival.seat.share, piece.len());
        if piece.is_empty() {
            // As often as a client likes, and it is none the faster for it.
            return self.pipeline.hurry_up(&self.haste, Instant::now());
        }
        let len = self.len() + piece.len();
        if len > self.room {
            let limit = self.pipeline.request_bytes_max();
            if len > limit {
                return Err(Refusal::too_large(limit, false));
            }
            // No larger steps than that: what is reserved and has not come is of use to nobody.
            let step = self.room.min(self.pipeline.limits.ahead_bytes);
            let next = len.max(self.room + step).min(self.most.max(len));
            // The body alone: no row is made before all of it is there.
            let more = next.saturating_sub(self.reservation.bytes());
            let unread = self.arrival.peer.stream_bytes;
            // Of a silent one nothing more is taken as long as the first step's rows make room for it.
            if more > 0 && self.silent {
                let announced = Budget::announces(next, true);
                self.pipeline.grow_underway(&mut self.reservation, more, announced, unread).await?;
            } else if more > 0 {
                self.pipeline.grow(&mut self.reservation, more, unread).await?;
            }
            self.room = next;
            self.announced = false;
            if self.silent {
                self.haste.promised(next);
            }
            self.haste.rested(Instant::now());
        }
        if len < self.most {
            let now = Instant::now();
            self.haste.came(piece.len(), now);
            self.pipeline.hurry_up(&self.haste, now)?;
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

    /// Returns the body and what is reserved for it, parking if need be. A compressed one is still on its way: to what becomes of it.
    pub(crate) async fn finish(mut self) -> Result<(Bytes, Reservation), Refusal> {
        if !self.compressed {
            if self.len() > self.with_rows {
                let need = need(self.pipeline, self.arrival, self.len(), false);
                let more = need.saturating_sub(self.reservation.bytes());
                self.pipeline.grow(&mut self.reservation, more, 0).await?;
                self.reservation.lower(need);
            }
            self.reservation.arrived();
        }
        let body = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        Ok((body, self.reservation))
    }
}

fn need(pipeline: &Pipeline, arrival: Arrival<'_>, body: usize, compressed: bool) -> usize {
    if compressed { body } else { pipeline.expansion.needed(arrival.signal, body) }
}
