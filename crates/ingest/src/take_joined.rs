//! Requests that share columns with others: decoded behind those that wait already, on the thread that read them.

use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Pushed, Rejected, RowBuilder, decode_within};
use tokio::sync::oneshot;

use crate::bundle::{Entry, Waiting};
use crate::counters::Protocol;
use crate::expansion::BATCH_BYTES;
use crate::fingerprints::{Claim, Claimed};
use crate::frame::FrameHeader;
use crate::pipeline::{Arrival, Inflated, Pipeline};
use crate::refusal::Refusal;
use crate::take_alone::{Fresh, kept, protobuf, within};

/// Whether a request is to be stored.
enum Told {
    /// Yes; with the claim on it where repeats are told.
    Fresh(Option<Claim>),
    /// It is; what was left out of it.
    Repeated(Rejected),
}

impl Pipeline {
    /// Makes a request durable and visible; returns what was left out of it.
    pub(crate) async fn take_joined(&self, arrival: Arrival<'_>, inflated: Inflated) -> Result<Rejected, Refusal> {
        let Arrival { signal, protocol, peer, .. } = arrival;
        let Inflated { body, wire, encoding, reservation, at } = inflated;
        let request = match protocol {
            Protocol::HttpJson => self.compute_here(|| protobuf(signal, protocol, body))?,
            _ => body,
        };
        let claim = match self.tell(arrival, &request, at).await? {
            Told::Fresh(claim) => claim,
            Told::Repeated(rejected) => return Ok(self.repeated(arrival, rejected)),
        };
        let most = Self::may_become(&reservation);
        let Some(opened) = self.joined.open(peer.number, signal) else {
            let decoded = self.compute_here(|| within(decode_within(signal, &request, at, most)))?;
            let fresh = Fresh { request, decoded, claim, turn: None };
            return self.store_alone(arrival, fresh, wire, encoding, reservation, at).await;
        };
        let (done, committed) = oneshot::channel();
        let mut left_out = Rejected::default();
        let mut swells = false;
        let mut held = Some((reservation, claim));
        let decode = |builder: &mut RowBuilder| {
            let Some(Pushed { rows, bytes, rejected }) = within(builder.push_within(&request, at, most))? else {
                swells = true;
                return Ok(None);
            };
            let incomplete = rejected.count > 0;
            left_out = rejected;
            if rows == 0 {
                // Nothing to make durable.
                return Ok(None);
            }
            let Some((mut reservation, mut claim)) = held.take() else { return Ok(None) };
            if incomplete && let Some(claim) = &mut claim {
                claim.incomplete();
            }
            // Columns that grow have up to twice the room that they need.
            let rows_bytes = 2 * bytes;
            self.expansion.learn(signal, request.len(), wire.len(), rows_bytes.saturating_add(BATCH_BYTES));
            let (packed, request) = kept(protocol, encoding, request.clone(), wire.clone());
            reservation.raise(request.len().saturating_add(rows_bytes));
            let header = FrameHeader { signal, received: at, packed }.encode();
            Ok(Some(Entry { header, request, protocol, rows, waiting: Waiting { reservation, claim, done } }))
        };
        let queued = self.compute_here(|| opened.add(decode))?;
        if queued {
            drop((request, wire));
            self.lanes.ring();
            self.stored(committed).await?;
        } else if swells && let Some((reservation, claim)) = held {
            let fresh = Fresh { request, decoded: None, claim, turn: None };
            return self.store_alone(arrival, fresh, wire, encoding, reservation, at).await;
        }
        Ok(left_out)
    }

    /// Says whether a request is stored already, waiting for its like where that is on its way.
    async fn tell(&self, arrival: Arrival<'_>, request: &[u8], at: UnixNanos) -> Result<Told, Refusal> {
        if !self.fingerprints.is_on() {
            return Ok(Told::Fresh(None));
        }
        let fingerprint = self.fingerprints.of(arrival.signal, request);
        loop {
            match self.fingerprints.claim(fingerprint) {
                Claimed::New(claim) => return Ok(Told::Fresh(Some(claim))),
                Claimed::Stored { again: false } => return Ok(Told::Repeated(Rejected::default())),
                Claimed::Stored { again: true } => {
                    let decode = || plimsoll_otlp::decode(arrival.signal, request, at).map_err(Refusal::undecodable);
                    return Ok(Told::Repeated(self.compute_here(decode)?.rejected));
                }
                // Never granted: it is closed once the first is stored or given up.
                Claimed::Pending(decided) => drop(decided.acquire().await),
            }
        }
    }
}
