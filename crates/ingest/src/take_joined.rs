//! Requests that share columns with others: decoded behind those that wait already, on the thread that read them.

use plimsoll_model::UnixNanos;
use plimsoll_otlp::{Pushed, Rejected, RowBuilder};
use tokio::sync::oneshot;

use crate::bundle::{Entry, Waiting};
use crate::counters::Protocol;
use crate::expansion::BATCH_BYTES;
use crate::fingerprints::{Claim, Claimed};
use crate::frame::FrameHeader;
use crate::pipeline::{Arrival, Inflated, Pipeline};
use crate::refusal::Refusal;
use crate::take_alone::{Fresh, kept, protobuf};

/// A request of which so many times what is reserved is expected has its rows to itself.
const SWELLS: usize = 2;

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
        let Inflated { body, wire, encoding, mut reservation, at } = inflated;
        let request = match protocol {
            Protocol::HttpJson => self.compute_here(|| protobuf(signal, protocol, body))?,
            _ => body,
        };
        let mut claim = match self.tell(arrival, &request, at).await? {
            Told::Fresh(claim) => claim,
            Told::Repeated(rejected) => return Ok(self.repeated(arrival, rejected)),
        };
        // What came to be known since its room was reserved: columns that are shared have no room for what becomes so much more.
        let swells = self.expansion.needed(signal, request.len()) / SWELLS > reservation.bytes();
        let turn = if swells { Some(self.inline.turn(peer).await) } else { None };
        let Some(opened) = (!swells).then(|| self.joined.open(peer.number, signal)).flatten() else {
            let decode = || plimsoll_otlp::decode(signal, &request, at).map_err(Refusal::undecodable);
            let decoded = self.compute_here(decode)?;
            let fresh = Fresh { request, decoded, claim, turn };
            return self.store_alone(arrival, fresh, wire, encoding, reservation, at).await;
        };
        let (done, committed) = oneshot::channel();
        let mut left_out = Rejected::default();
        let decode = |builder: &mut RowBuilder| {
            let Pushed { rows, bytes, rejected } = builder.push(&request, at).map_err(Refusal::undecodable)?;
            if rejected.count > 0
                && let Some(claim) = &mut claim
            {
                claim.incomplete();
            }
            left_out = rejected;
            if rows == 0 {
                // Nothing to make durable.
                return Ok(None);
            }
            // Columns that grow have up to twice the room that they need.
            let rows_bytes = 2 * bytes;
            self.expansion.learn(signal, request.len(), rows_bytes.saturating_add(BATCH_BYTES));
            let (packed, request) = kept(protocol, encoding, request, wire);
            reservation.raise(request.len().saturating_add(rows_bytes));
            let header = FrameHeader { signal, received: at, packed }.encode();
            Ok(Some(Entry { header, request, protocol, rows, waiting: Waiting { reservation, claim, done } }))
        };
        let queued = self.compute_here(|| opened.add(decode))?;
        if queued {
            self.lanes.ring();
            self.stored(committed).await?;
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
