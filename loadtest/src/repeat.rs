//! Requests sent again, byte for byte, as clients do that saw no answer: for the torture by kills.
//!
//! *Invariants.* A repeat has the bytes of the first send, whatever round it is sent in and however it is compressed. Each is sent
//! twice at about the same time, so that repeats meet each other as well as what is stored.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;
use rand::seq::IteratorRandom;
use tokio::task::JoinSet;

use crate::client::{Connection, Endpoint, Reply};
use crate::kill::{Ledger, Sent};
use crate::records::Signal;
use crate::template::{self, Template};

/// Acked requests of a round that are sent again all the same, as if the ack had been lost.
const ACKED_AGAIN: usize = 100;

/// How many of the last rounds' acked requests are.
const ROUNDS_AGAIN: usize = 3;

/// The templates of one round.
pub(crate) type Templates = Arc<Vec<Template>>;

/// One request to send again.
#[derive(Debug, Clone, Copy)]
struct Repeat {
    round: usize,
    signal: Signal,
    batch: u64,
    at_ns: u64,
}

/// What is due to be sent again.
pub(crate) struct Repeats {
    due: Arc<Mutex<VecDeque<Repeat>>>,
    templates: Arc<Vec<Templates>>,
}

impl Repeats {
    /// Collects what has no ack in any round, and some of what has.
    pub(crate) fn due(ledgers: &[Ledger], templates: &[Templates], rng: &mut impl Rng) -> Self {
        let mut due = VecDeque::new();
        for (round, ledger) in ledgers.iter().enumerate() {
            let repeat = |((signal, batch), sent): (&(Signal, u64), &Sent)| Repeat {
                round,
                signal: *signal,
                batch: *batch,
                at_ns: sent.at_ns,
            };
            due.extend(ledger.iter().filter(|(_, sent)| !sent.acked).map(repeat));
            if round + ROUNDS_AGAIN >= ledgers.len() {
                due.extend(ledger.iter().filter(|(_, sent)| sent.acked).map(repeat).choose_multiple(rng, ACKED_AGAIN));
            }
        }
        Self {
            due: Arc::new(Mutex::new(due.into_iter().flat_map(|one| [one, one]).collect())),
            templates: Arc::new(templates.to_vec()),
        }
    }

    /// Starts sending, over all `endpoints`.
    pub(crate) fn start(&self, endpoints: &[Endpoint]) -> Repeating {
        let mut tasks = JoinSet::new();
        for endpoint in endpoints {
            tasks.spawn(send(*endpoint, Arc::clone(&self.due), Arc::clone(&self.templates)));
        }
        Repeating(tasks)
    }
}

/// Repeats on their way.
pub(crate) struct Repeating(JoinSet<(u64, Vec<Repeat>)>);

impl Repeating {
    /// Waits until all were tried or the server is gone, notes what was acked, and returns how many were sent.
    pub(crate) async fn end(mut self, ledgers: &mut [Ledger]) -> u64 {
        let mut all = 0;
        while let Some(done) = self.0.join_next().await {
            let (sent, acked) = done.expect("a repeater does not panic");
            all += sent;
            for one in acked {
                if let Some(sent) = ledgers[one.round].get_mut(&(one.signal, one.batch)) {
                    sent.acked = true;
                }
            }
        }
        all
    }
}

async fn send(
    endpoint: Endpoint,
    due: Arc<Mutex<VecDeque<Repeat>>>,
    templates: Arc<Vec<Templates>>,
) -> (u64, Vec<Repeat>) {
    let (mut sent, mut acked) = (0, Vec::new());
    let Ok(mut connection) = Connection::open(endpoint).await else { return (sent, acked) };
    loop {
        let Some(one) = due.lock().pop_front() else { break };
        let Some(template) = templates[one.round].iter().find(|template| template.signal == one.signal) else {
            continue;
        };
        let body = template::whole(template.render(one.batch, one.at_ns), endpoint.compression);
        sent += 1;
        match connection.send(one.signal, body).await {
            Ok(Reply::Accepted { rejected: 0 }) => acked.push(one),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    (sent, acked)
}
