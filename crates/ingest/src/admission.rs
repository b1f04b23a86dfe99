//! What a request waits for before it is taken: that requests may come in, its body, and room for it.
//!
//! *Parking before refusing.* Each wait has a limit of its own, and only what is still missing then is refused; the ones that waited
//! are counted, so that `park` can be set by what it saves.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::budget::Reservation;
use crate::connection::Peer;
use crate::haste::Haste;
use crate::pipeline::{Arrival, Pipeline, nanos};
use crate::refusal::{Reason, Refusal};
use crate::seat::Seat;

/// How often it is looked whether anybody waits for what a late body holds.
const LOOK: Duration = Duration::from_millis(50);

impl Pipeline {
    /// Returns once a request may come in. One on a quiet connection is not held up for the sake of the pace, and is first in the lines for memory.
    pub(crate) async fn admit<'a>(&self, arrival: Arrival<'a>) -> Result<Arrival<'a>, Refusal> {
        let quiet = self.shares.is_quiet(&arrival.seat.share);
        let pace = if quiet { Duration::ZERO } else { self.gate.pace().min(self.limits.park) };
        if !pace.is_zero() {
            self.counters.paced_ns.add(nanos(pace));
            tokio::time::sleep(pace).await;
        }
        if self.gate.holds_up(quiet) {
            self.parked(self.gate.pass(quiet, Instant::now() + self.limits.park)).await?;
        } else {
            self.gate.pass(quiet, Instant::now()).await?;
        }
        Ok(Arrival { peer: Peer { quiet, ..arrival.peer }, ..arrival })
    }

    /// Reads a whole body by `read`, within the time that it may take.
    pub(crate) async fn body<T>(&self, read: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        tokio::select! {
            // Most bodies are there already.
            biased;
            read = timeout(self.limits.body_timeout, read) => read.unwrap_or_else(|_| {
                Err(Refusal::new(Reason::BodyTimeout, "the body took too long to arrive: send smaller batches, or again later"))
            }),
            () = self.hurry.cancelled() => Err(Refusal::overloaded(Reason::Draining)),
        }
    }

    /// Waits for the next piece of a body.
    pub(crate) async fn piece<T>(
        &self,
        next: impl Future<Output = T>,
        haste: &Haste,
        seat: &Seat,
    ) -> Result<T, Refusal> {
        let _waits = seat.waits();
        let mut next = pin!(next);
        let begun = Instant::now();
        let stalled = begun + self.limits.stall_timeout;
        let mut look = haste.due().max(begun).min(stalled);
        loop {
            if let Ok(piece) = timeout_at(look, next.as_mut()).await {
                return Ok(piece);
            }
            let now = Instant::now();
            if now >= stalled {
                return Err(Refusal::new(Reason::BodyTimeout, "the client stopped sending its body: send again later"));
            }
            self.hurry_up(haste, now)?;
            look = (now + LOOK).min(stalled);
        }
    }

    /// Refuses a body that is late while others wait for memory, for a connection or for a request to end.
    pub(crate) fn hurry_up(&self, haste: &Haste, now: Instant) -> Result<(), Refusal> {
        if now <= haste.due() || !(self.budget.is_crowded() || self.seats.is_short()) {
            return Ok(());
        }
        let message = format!(
            "the body came slower than {} KiB/s while others waited: send again later, or in smaller batches",
            haste.rate() >> 10
        );
        Err(Refusal::new(Reason::SlowBody, message))
    }

    /// Takes `bytes` of the budget for a request of `peer` with a body of `wire` bytes that announces to need `announced` where that is much,
    /// parking if need be.
    pub(crate) async fn reserve(
        &self,
        peer: Peer,
        bytes: usize,
        announced: usize,
        wire: usize,
    ) -> Result<Reservation, Refusal> {
        if let Some(taken) = self.budget.try_reserve_announced(peer, bytes, announced) {
            return Ok(taken);
        }
        let deadline = Instant::now() + self.limits.park;
        let taken = self.parked(self.budget.reserve_announced(peer, bytes, announced, wire, deadline)).await;
        taken.ok_or_else(|| Refusal::overloaded(Reason::InFlight))
    }

    /// Takes `more` of the budget, parking if need be; of the body `unread` bytes are not read meanwhile.
    pub(crate) async fn grow(&self, reservation: &mut Reservation, more: usize, unread: usize) -> Result<(), Refusal> {
        if reservation.try_grow(more)
            || self.parked(reservation.grow(more, unread, Instant::now() + self.limits.park)).await
        {
            return Ok(());
        }
        Err(Refusal::overloaded(Reason::InFlight))
    }

    /// The same for a body that is on its way, did not say how long it is and is taken to announce `announced` by now: it waits with others that announce much.
    pub(crate) async fn grow_underway(
        &self,
        reservation: &mut Reservation,
        more: usize,
        announced: usize,
        unread: usize,
    ) -> Result<(), Refusal> {
        let deadline = Instant::now() + self.limits.park;
        if reservation.try_grow_underway(more, announced)
            || self.parked(reservation.grow_underway(more, announced, unread, deadline)).await
        {
            return Ok(());
        }
        Err(Refusal::overloaded(Reason::InFlight))
    }

    pub(crate) async fn parked<T>(&self, wait: impl Future<Output = T>) -> T {
        self.counters.parked_total.add(1);
        let _parked = self.counters.parked.hold();
        wait.await
    }
}
