//! Requests with a batch of their own: decoded as a whole, and queued as a whole.
//!
//! *What swells.* A request may become twice what is reserved for it, or a little. Where decoding finds it to become more, that ends there, its rows are
//! dropped and it waits for the one turn to decode what swells. With that in hand what such requests became before is covered, then it is decoded.
//!
//! *Invariants.* Rows that no budget covers are held by a thread at work or by whoever has a turn to decode, and by nobody else; how many have a turn
//! is bounded, and so is what they hold: as much again as is reserved, and what one request that swells became. A turn is kept until the rows are
//! covered, and no longer: nothing but the committer and the flush is waited for with one in hand, and neither waits for a request. Who waits for the turn
//! to decode what swells has no other. So what has a turn never waits for what waits for a turn.

use std::sync::Arc;

use bytes::Bytes;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::{DecodeError, Decoded, Rejected, Signal, decode_within};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::budget::Reservation;
use crate::bundle::{Bundle, Entry, Waiting};
use crate::connection::Peer;
use crate::counters::Protocol;
use crate::fingerprints::{Claim, Claimed, Fingerprint};
use crate::frame::{FrameHeader, Packed};
use crate::inflate::Encoding;
use crate::pipeline::{Arrival, Inflated, Pipeline};
use crate::refusal::{Reason, Refusal};
use crate::turnstile::Turn;

/// A request that becomes more than so many times what is reserved for it swells.
const SWELLS: usize = 2;

/// What becomes less does not.
const SWELLS_MIN: usize = 1 << 20;

/// A request that nobody has stored yet, ready to be queued.
pub(crate) struct Fresh {
    pub(crate) request: Bytes,
    /// `None` where it swells.
    pub(crate) decoded: Option<Decoded>,
    /// Where repeats are told at all.
    pub(crate) claim: Option<Claim>,
    /// Kept until the rows are covered.
    pub(crate) turn: Option<Turn>,
}

/// How far a request got.
enum Step {
    Fresh(Fresh),
    /// Stored before; what was left out of it then.
    Repeated(Rejected),
    /// The same of one that swells, and has to be decoded for that.
    RepeatedSwells(Bytes),
    /// Its like is on its way: to be looked at again once the semaphore is closed.
    Pending(Bytes, Fingerprint, Arc<Semaphore>),
}

impl Pipeline {
    /// Makes a request durable and visible; returns what was left out of it.
    pub(crate) async fn take_alone(&self, arrival: Arrival<'_>, inflated: Inflated) -> Result<Rejected, Refusal> {
        let Inflated { body, wire, encoding, mut reservation, at } = inflated;
        match self.read(arrival, body, at, &mut reservation).await? {
            Ok(fresh) => self.store_alone(arrival, fresh, wire, encoding, reservation, at).await,
            Err(rejected) => Ok(self.repeated(arrival, rejected)),
        }
    }

    /// Makes a decoded request durable and visible.
    pub(crate) async fn store_alone(
        &self,
        arrival: Arrival<'_>,
        fresh: Fresh,
        wire: Bytes,
        encoding: Encoding,
        mut reservation: Reservation,
        at: UnixNanos,
    ) -> Result<Rejected, Refusal> {
        let Arrival { signal, protocol, peer, .. } = arrival;
        let Fresh { request, decoded, mut claim, turn } = fresh;
        let swells = decoded.is_none();
        let (Decoded { mut batch, rejected, .. }, turn) = match decoded {
            Some(decoded) => (decoded, turn),
            None => {
                // Those that have one need not wait for what swells.
                drop(turn);
                let (decoded, turn) = self.decode_swelling(arrival, request.clone(), at, &mut reservation).await?;
                (decoded, Some(turn))
            }
        };
        if batch.num_rows() == 0 {
            // Nothing to make durable.
            return Ok(rejected);
        }
        if rejected.count > 0
            && let Some(claim) = &mut claim
        {
            claim.incomplete();
        }
        let rows_bytes = batch.get_array_memory_size();
        self.expansion.learn(signal, request.len(), wire.len(), rows_bytes);
        if swells {
            self.expansion.learn_swollen(signal, request.len(), rows_bytes);
        }
        let (packed, stored) = kept(protocol, encoding, request.clone(), wire);
        let bytes = stored.len().saturating_add(rows_bytes);
        if reservation.try_cover(bytes, !self.gate.holds_up(peer.quiet)) {
            drop(turn);
        } else {
            let _turn = match turn {
                Some(turn) => turn,
                None => {
                    // Rows that wait without a turn would be bounded by nothing: they are made again.
                    drop(batch);
                    let turn = self.inline.turn(peer).await;
                    let decode = || plimsoll_otlp::decode(signal, &request, at).map_err(Refusal::undecodable);
                    batch = self.compute_here(decode)?.batch;
                    turn
                }
            };
            self.cover(peer, bytes, &mut reservation, Instant::now() + self.limits.park).await?;
        }
        drop(request);
        let (done, committed) = oneshot::channel();
        let header = FrameHeader { signal, received: at, packed }.encode();
        let rows = batch.num_rows();
        let entry = Entry { header, request: stored, protocol, rows, waiting: Waiting { reservation, claim, done } };
        self.queue(peer.number, Bundle::alone(signal, batch, entry)).await?;
        self.stored(committed).await?;
        Ok(rejected)
    }

    /// Has rows that turned out larger than reserved covered, parking if need be: they also go to the tail, which was asked before anybody knew.
    async fn cover(
        &self,
        peer: Peer,
        bytes: usize,
        reservation: &mut Reservation,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let covered = async {
            if self.gate.holds_up(peer.quiet) {
                self.gate.pass(peer.quiet, deadline).await?;
            }
            Ok::<_, Refusal>(reservation.cover(bytes, deadline).await)
        };
        if self.parked(covered).await? { Ok(()) } else { Err(Refusal::overloaded(Reason::InFlight)) }
    }

    /// Returns how many bytes of rows a request may become beside others.
    pub(crate) fn may_become(reservation: &Reservation) -> usize {
        if reservation.is_all() {
            return usize::MAX;
        }
        reservation.bytes().saturating_mul(SWELLS).max(SWELLS_MIN)
    }

    /// Decodes a request that swells, once what such requests became before is covered; returns the turn to do so, for as long as its rows are not. The
    /// caller has no other.
    async fn decode_swelling(
        &self,
        arrival: Arrival<'_>,
        request: Bytes,
        at: UnixNanos,
        reservation: &mut Reservation,
    ) -> Result<(Decoded, Turn), Refusal> {
        let Arrival { signal, peer, .. } = arrival;
        let deadline = Instant::now() + self.limits.park;
        let turn = self.parked(timeout_at(deadline, self.swelling.turn(peer))).await;
        let turn = turn.map_err(|_| Refusal::overloaded(Reason::InFlight))?;
        let expected = self.expansion.swollen(signal, request.len()).max(reservation.bytes());
        if !reservation.try_cover(expected, !self.gate.holds_up(peer.quiet)) {
            self.cover(peer, expected, reservation, deadline).await?;
        }
        let bytes = request.len();
        let decode = move || plimsoll_otlp::decode(signal, &request, at).map_err(Refusal::undecodable);
        self.compute_in(turn, bytes, reservation, decode).await
    }

    /// Converts and decodes a request, unless it is stored already: then returns what was left out of it.
    async fn read(
        &self,
        arrival: Arrival<'_>,
        body: Bytes,
        at: UnixNanos,
        reservation: &mut Reservation,
    ) -> Result<Result<Fresh, Rejected>, Refusal> {
        let Arrival { signal, protocol, .. } = arrival;
        let most = Self::may_become(reservation);
        let decode = move |request: &Bytes| within(decode_within(signal, request, at, most));
        let fingerprints = Arc::clone(&self.fingerprints);
        let look = move |request: Bytes, fingerprint: Option<Fingerprint>| {
            if !fingerprints.is_on() {
                let decoded = decode(&request)?;
                return Ok(Step::Fresh(Fresh { request, decoded, claim: None, turn: None }));
            }
            let fingerprint = fingerprint.unwrap_or_else(|| fingerprints.of(signal, &request));
            Ok(match fingerprints.claim(fingerprint) {
                Claimed::New(claim) => {
                    let decoded = decode(&request)?;
                    Step::Fresh(Fresh { request, decoded, claim: Some(claim), turn: None })
                }
                Claimed::Stored { again: false } => Step::Repeated(Rejected::default()),
                Claimed::Stored { again: true } => match decode(&request)? {
                    Some(decoded) => Step::Repeated(decoded.rejected),
                    None => Step::RepeatedSwells(request),
                },
                Claimed::Pending(decided) => Step::Pending(request, fingerprint, decided),
            })
        };
        let first = look.clone();
        let (mut step, mut turn) =
            self.compute(body.len(), reservation, move || first(protobuf(signal, protocol, body)?, None)).await?;
        loop {
            match step {
                Step::Fresh(fresh) => return Ok(Ok(Fresh { turn, ..fresh })),
                Step::Repeated(rejected) => return Ok(Err(rejected)),
                Step::RepeatedSwells(request) => {
                    drop(turn);
                    let (decoded, _turn) = self.decode_swelling(arrival, request, at, reservation).await?;
                    return Ok(Err(decoded.rejected));
                }
                Step::Pending(request, fingerprint, decided) => {
                    // The first may need one.
                    drop(turn);
                    // Never granted: it is closed once the first is stored or given up.
                    let _ = decided.acquire().await;
                    let (look, bytes) = (look.clone(), request.len());
                    (step, turn) = self.compute(bytes, reservation, move || look(request, Some(fingerprint))).await?;
                }
            }
        }
    }
}

/// Returns `None` for a request that swells.
pub(crate) fn within<T>(decoded: Result<T, DecodeError>) -> Result<Option<T>, Refusal> {
    match decoded {
        Ok(decoded) => Ok(Some(decoded)),
        Err(error) if error.is_beyond => Ok(None),
        Err(error) => Err(Refusal::undecodable(error)),
    }
}

/// Returns a body as protobuf.
pub(crate) fn protobuf(signal: Signal, protocol: Protocol, body: Bytes) -> Result<Bytes, Refusal> {
    match protocol {
        Protocol::Grpc | Protocol::HttpProtobuf => Ok(body),
        Protocol::HttpJson if body.is_empty() => Ok(body),
        Protocol::HttpJson => {
            plimsoll_otlp::json_to_protobuf(signal, &body).map(Bytes::from).map_err(Refusal::malformed)
        }
    }
}

/// Returns what the journal takes, and how that is compressed: a body as it came, unless it was converted. The other one goes now, and not with the
/// acknowledgement.
pub(crate) fn kept(protocol: Protocol, encoding: Encoding, request: Bytes, wire: Bytes) -> (Option<Packed>, Bytes) {
    match u32::try_from(request.len()) {
        Ok(inflated)
            if encoding != Encoding::Identity && protocol != Protocol::HttpJson && wire.len() < request.len() =>
        {
            (Some(Packed { encoding, inflated }), wire)
        }
        _ => (None, request),
    }
}
