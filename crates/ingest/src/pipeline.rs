//! From a body that was read to an ack: inflate, convert, decode, queue, wait for the commit. Both protocols come through here.
//!
//! *Invariants.* Nothing is acknowledged that is not durable and visible. Malformed input is refused before anything is queued.
//! Whatever ends a request, dropping its future included, gives back what it reserved and is counted. Work on a blocking thread
//! outlives the future: until it is done it keeps its turn and the request's reservation, or clients that leave again and again
//! would pile up memory that nobody counts.
//!
//! *Where decoding runs.* Bodies up to `inline_bytes_max` are inflated and decoded by the thread that read them: that takes less
//! than a hand-over. Larger ones go to blocking threads, as many at a time as there are lanes, so that a batch of megabytes
//! does not hold up the acks of others on its thread. Either way requests take turns ([`crate::turnstile`]), but for compressed bodies below
//! 16 KiB, 64 KiB of a quiet connection, and the decoding of requests up to `joined_bytes_max`.
//!
//! *Who floods.* A connection answers for what it sends as it comes, and for what is made of it on the way, whatever becomes of the request:
//! what is damaged, too large or empty takes as long as what is stored.
//!
//! *How rows are made.* Requests up to `joined_bytes_max` share columns (`take_joined`); longer ones have a batch of their own
//! (`take_alone`), and so have those that find no room among the others.
//!
//! *Counted once.* Before it is decoded, a request claims its fingerprint. One that is stored already is acknowledged again; one
//! whose like is on its way waits for that one's commit, and takes its own turn where that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant as WallInstant};

use bytes::Bytes;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Rejected, Signal};
use plimsoll_store::Clock;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Reservation};
use crate::bundle::Bundle;
use crate::connection::Peer;
use crate::counters::{Counters, Protocol, RequestCounters};
use crate::expansion::Expansion;
use crate::fingerprints::Fingerprints;
use crate::gate::Gate;
use crate::inflate::{Encoding, Inflater, Progress};
use crate::joined::Joined;
use crate::lanes::Lanes;
use crate::refusal::{Reason, Refusal};
use crate::seat::{Seat, Seats};
use crate::share::Shares;
use crate::turnstile::{Turn, Turnstile};

/// What is smaller is inflated as it comes: that takes less than a few dozen microseconds.
const TURN_BYTES_MIN: usize = 16 << 10;

/// The same of a quiet connection: that takes some hundred microseconds at the most, however little comes of it.
const QUIET_TURN_BYTES_MIN: usize = 64 << 10;

/// What every request needs; one a process.
pub(crate) struct Pipeline {
    pub(crate) counters: Arc<Counters>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) lanes: Arc<Lanes<Bundle>>,
    pub(crate) joined: Arc<Joined>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) expansion: Expansion,
    pub(crate) shares: Arc<Shares>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) fingerprints: Arc<Fingerprints>,
    /// Cancelled when bodies are waited for no longer.
    pub(crate) hurry: CancellationToken,
    /// Who may decode on the threads that read.
    pub(crate) inline: Arc<Turnstile>,
    /// Who may decode on blocking threads.
    pub(crate) large: Arc<Turnstile>,
    /// Who may decode what swells: one at a time.
    pub(crate) swelling: Arc<Turnstile>,
}

/// The options that a request meets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) request_bytes_max: usize,
    /// Requests under way, of all connections together.
    pub(crate) requests_max: u64,
    pub(crate) inline_bytes_max: usize,
    /// Requests up to this share columns with others.
    pub(crate) joined_bytes_max: usize,
    pub(crate) park: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    /// How long a body that holds memory may be late while others wait for it.
    pub(crate) body_grace: Duration,
    /// Bytes of an announced body that are reserved for before they come.
    pub(crate) ahead_bytes: usize,
}

/// Which request this is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) signal: Signal,
    pub(crate) protocol: Protocol,
    /// Who sends it; says in which lane it is queued.
    pub(crate) peer: Peer,
    /// The connection's place among the others.
    pub(crate) seat: &'a Seat,
}

/// A body that was read in full.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) reservation: Reservation,
}

/// A request that was inflated.
pub(crate) struct Inflated {
    pub(crate) body: Bytes,
    /// As it came.
    pub(crate) wire: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) reservation: Reservation,
    pub(crate) at: UnixNanos,
}

impl Pipeline {
    pub(crate) fn request_bytes_max(&self) -> usize {
        self.limits.request_bytes_max
    }

    /// Runs one request to its answer and counts how it ended.
    pub(crate) async fn answer(
        &self,
        arrival: Arrival<'_>,
        request: impl Future<Output = Result<Rejected, Refusal>>,
    ) -> Result<Rejected, Refusal> {
        let counters = self.counters.of(arrival.signal, arrival.protocol);
        counters.requests.add(1);
        let _in_progress = self.counters.in_progress.hold();
        let unanswered = Unanswered(Some(counters));
        let begun = WallInstant::now();
        let answer = if self.counters.in_progress.get() > self.limits.requests_max {
            // What a request takes before its body does is nobody's else to count.
            self.seats.ran_short();
            Err(Refusal::new(Reason::InFlight, "too many requests are under way: send again later"))
        } else {
            request.await
        };
        unanswered.answered();
        match &answer {
            Ok(rejected) => {
                counters.accepted.add(1);
                counters.rejected_records.add(rejected.count);
                counters.records_without_id.add(rejected.without_id);
                self.counters.ack_ns.record(nanos(begun.elapsed()));
            }
            Err(refusal) => counters.refuse(refusal.reason),
        }
        answer
    }

    /// Makes a request durable and visible; returns what was left out of it.
    pub(crate) async fn take(&self, arrival: Arrival<'_>, received: Received) -> Result<Rejected, Refusal> {
        let counters = self.counters.of(arrival.signal, arrival.protocol);
        let Received { body: wire, encoding, mut reservation } = received;
        counters.wire_bytes.add(wire.len() as u64);
        let mut made = 0;
        let inflated = self.inflate(arrival.signal, wire.clone(), encoding, &mut reservation, &mut made).await;
        self.shares.add(&arrival.seat.share, made.saturating_sub(wire.len()));
        let body = inflated?;
        counters.body_bytes.add(body.len() as u64);

        let inflated = Inflated { body, wire, encoding, reservation, at: (self.clock)() };
        if inflated.body.len() <= self.limits.joined_bytes_max {
            self.take_joined(arrival, inflated).await
        } else {
            self.take_alone(arrival, inflated).await
        }
    }

    /// Counts a request that is stored already.
    pub(crate) fn repeated(&self, arrival: Arrival<'_>, rejected: Rejected) -> Rejected {
        self.counters.of(arrival.signal, arrival.protocol).repeated.add(1);
        rejected
    }

    /// Waits until a request that was queued is stored.
    pub(crate) async fn stored(&self, committed: oneshot::Receiver<Result<(), Reason>>) -> Result<(), Refusal> {
        match committed.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Reason::TooLarge)) => Err(Refusal::too_large(self.limits.request_bytes_max, true)),
            Ok(Err(reason)) => Err(Refusal::overloaded(reason)),
            Err(_) => Err(Refusal::overloaded(Reason::Poisoned)),
        }
    }

    pub(crate) async fn queue(&self, lane: usize, bundle: Bundle) -> Result<(), Refusal> {
        let Err(bundle) = self.lanes.push(lane, bundle) else { return Ok(()) };
        let deadline = Instant::now() + self.limits.park;
        let queued = self.parked(timeout_at(deadline, self.lanes.push_wait(lane, bundle))).await;
        queued.map_err(|_| Refusal::overloaded(Reason::Lanes))
    }

    /// Inflates a body; `made` is how many bytes came of it, or at most did where it cannot be inflated.
    async fn inflate(
        &self,
        signal: Signal,
        body: Bytes,
        encoding: Encoding,
        reservation: &mut Reservation,
        made: &mut usize,
    ) -> Result<Bytes, Refusal> {
        if encoding == Encoding::Identity || body.is_empty() {
            reservation.arrived();
            return Ok(body);
        }
        let limit = self.limits.request_bytes_max;
        let damaged = move |error| Refusal::malformed(format_args!("body is not {encoding:?} data: {error}"));
        let mut allowance = encoding.guess(&body).min(limit);
        let needed = |size| self.expansion.needed(signal, size);
        // Given back with what was too much, when the decoder is gone.
        self.grow(reservation, needed(allowance).saturating_add(encoding.decoder_bytes(&body)), 0).await?;
        reservation.arrived();
        let held = body.len();
        let mut inflater = Inflater::new(encoding, body, allowance).map_err(damaged)?;
        loop {
            *made = allowance;
            // Input takes time as well where nothing comes of it. The turn goes at once: with one in hand nobody may wait to grow.
            let (same, progress) = self
                .compute(allowance.max(held), reservation, move || {
                    let progress = inflater.run(allowance).map_err(damaged)?;
                    Ok((inflater, progress))
                })
                .await?
                .0;
            match progress {
                Progress::Done(inflated) => {
                    *made = inflated.len();
                    // The body as it came is kept: it may be what the journal takes.
                    reservation.lower(needed(inflated.len()).saturating_add(held));
                    return Ok(Bytes::from(inflated));
                }
                Progress::More if allowance >= limit => return Err(Refusal::too_large(limit, true)),
                Progress::More => {
                    let next = allowance.max(1 << 10).saturating_mul(2).min(limit);
                    self.grow(reservation, needed(next).saturating_sub(needed(allowance)), 0).await?;
                    allowance = next;
                    inflater = same;
                }
            }
        }
    }

    /// Runs `work` on about `bytes` where it disturbs least; returns the turn that it took beside what came of it, where it took one.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        reservation: &mut Reservation,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(T, Option<Turn>), Refusal> {
        let peer = reservation.peer();
        let turn = if bytes <= self.limits.inline_bytes_max {
            let own_turn = if peer.quiet { QUIET_TURN_BYTES_MIN } else { TURN_BYTES_MIN };
            if bytes < own_turn {
                return Ok((self.compute_here(work)?, None));
            }
            self.inline.turn(peer).await
        } else {
            self.large.turn(peer).await
        };
        let (done, turn) = self.compute_in(turn, bytes, reservation, work).await?;
        Ok((done, Some(turn)))
    }

    /// The same with a turn in hand, which is returned.
    pub(crate) async fn compute_in<T: Send + 'static>(
        &self,
        turn: Turn,
        bytes: usize,
        reservation: &mut Reservation,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(T, Turn), Refusal> {
        if bytes <= self.limits.inline_bytes_max {
            // What else the thread has to do comes before.
            tokio::task::yield_now().await;
            return Ok((self.compute_here(work)?, turn));
        }
        // Both go with the work, which nobody can stop once it runs.
        let lent = reservation.lend();
        let done = tokio::task::spawn_blocking(move || (guarded(work), lent, turn)).await;
        // Not run at all: the runtime is going down.
        let ((done, took), lent, turn) = done.map_err(|_| Refusal::overloaded(Reason::Draining))?;
        *reservation = lent;
        self.counters.decode_ns.add(took);
        Ok((done?, turn))
    }

    /// Runs `work` here and now.
    pub(crate) fn compute_here<T>(&self, work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
        let (done, took) = guarded(work);
        self.counters.decode_ns.add(took);
        done
    }
}

/// Runs `work`, and says how many nanoseconds it took. A defect must not take a connection's other requests with it, and must not be retried
/// for ever.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> (Result<T, Refusal>, u64) {
    let begun = WallInstant::now();
    let done = catch_unwind(AssertUnwindSafe(work));
    let failed = |_| Err(Refusal::malformed("the decoder failed on this request, which is a defect of it"));
    (done.unwrap_or_else(failed), nanos(begun.elapsed()))
}

/// Counts a request whose future was dropped: its client is gone.
struct Unanswered<'a>(Option<&'a RequestCounters>);

impl Unanswered<'_> {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.refuse(Reason::ClientGone);
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
