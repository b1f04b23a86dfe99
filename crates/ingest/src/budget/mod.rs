//! The in-flight budget: how many bytes requests and their rows may take between the first body byte and the ack.
//!
//! *Invariants.*
//! - Reserved bytes never exceed the capacity by new requests, and by [`Reservation::grow`] only in a ring, by half of it at the most. What is
//!   already held may pass it, and then nothing is granted until it is paid back: rows that share columns ([`Reservation::raise`]), and rows
//!   that turned out larger than reserved, by an eighth or by one request's ([`excess`]).
//! - Connections that wait take turns, each with its first request in line, so that a flood on one of them cannot starve
//!   another. Reservations that grow come before new ones: what was begun is finished first.
//! - Bodies that are announced and have not come in whole count three quarters together at the most, and one of them half: whoever announces
//!   more leaves the rest to others. They wait in a line of their own: whoever announces much and sends little is in the way of those who do so as
//!   well, not of small requests. What grows as it comes waits in the same line ([`Reservation::grow_underway`]), and the one that holds most
//!   goes on where all of it waits there. While it waits for memory that others hold, those who announce nothing are served from what is free.
//!   Where all of it waits, it does not wait for one that has not begun, has its turn and needs more than is free.
//! - A small request of a quiet connection passes everybody, where what it needs is free.
//! - A reservation is given back when it is dropped, whatever ended the request.
//! - Nobody waits for those who wait: not more requests of a connection than leave room for the bodies of its others
//!   ([`Peer::unread_max`]). Where everybody who holds a part waits for more, in a ring, one of them is passed in front and has it beyond what is
//!   free: the first in line, by an eighth at the most, else whoever holds most, by half. It needs nobody who waits to come to its end. Where that
//!   is too much for all of them, they wait for the first to give up.
//! - Compressed bodies that are announced and have not grown hold three eighths at the most ([`Budget::announces`]), so that in a ring of theirs
//!   there is always one to pass.
//! - A need above the whole capacity waits until it can have all of it, or all but what those hold who wait, and then runs alone.
//! - [`Budget::withhold`] takes a part out of use, never more than three quarters: some always goes through.
//!
//! *Cost.* One uncontended lock a call, a few calls a request, none a record.

mod excess;
mod reservation;

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::connection::Peer;
use crate::turns::Turns;

use excess::Over;

/// Little is no more than one part in so many of the capacity.
const LITTLE: i64 = 8;

/// The part of the capacity that one in a ring may be passed beyond it by.
const RING: i64 = 2;

/// The part of the capacity that a request of a quiet connection may need to pass those who wait for more than is free.
const SWIFT: i64 = 64;

/// The part of the capacity that may be at work beside a ring, where it would be of no use to whoever is first in line.
const BESIDE: i64 = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    capacity: i64,
    state: CachePadded<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Below zero where reservations turned out larger than they were taken for.
    free: i64,
    /// Taken out of use, and not in `free`.
    withheld: i64,
    /// Taken for bodies that are announced and have not come in whole.
    underway: i64,
    /// Held beyond what was free, by decoded requests.
    excess: i64,
    /// Decoded requests that wait to be over.
    over: VecDeque<Over>,
    growing: Turns<Waiter>,
    arriving: Turns<Waiter>,
    announced: Turns<Waiter>,
    /// How many wait among the announced ones who hold a part already.
    announced_growing: usize,
    /// Where both kinds of new ones wait, they take turns.
    announced_next: bool,
}

/// One of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Growing,
    Arriving,
    Announced,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
struct Ask {
    peer: Peer,
    /// What was sent of it and stays unread while it waits.
    unread: usize,
    need: i64,
    /// What it has already, where it grows.
    held: i64,
    grows: bool,
    /// Its body is much, and on its way: it waits in line for others like that.
    announces: bool,
    /// What it announced already, where it grows.
    own: i64,
    /// What it announces besides.
    underway: i64,
}

impl Ask {
    fn line(&self) -> Line {
        match () {
            () if self.announces => Line::Announced,
            () if self.grows => Line::Growing,
            () => Line::Arriving,
        }
    }
}

#[derive(Debug)]
struct Waiter {
    ask: Ask,
    /// Dropped by a waiter that gave up.
    granted: oneshot::Sender<Reservation>,
}

/// Bytes taken from a [`Budget`], until dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    peer: Peer,
    bytes: i64,
    /// Counted as on its way.
    underway: i64,
    /// Counted as held beyond what was free.
    excess: i64,
}

impl State {
    fn line(&mut self, line: Line) -> &mut Turns<Waiter> {
        match line {
            Line::Growing => &mut self.growing,
            Line::Arriving => &mut self.arriving,
            Line::Announced => &mut self.announced,
        }
    }

    /// Returns what those hold who wait in line to grow.
    fn held_waiting(&self) -> i64 {
        let announced = (self.announced_growing > 0).then(|| self.announced.iter());
        let waiting = self.growing.iter().chain(announced.into_iter().flatten());
        waiting.filter(|waiter| !waiter.granted.is_closed()).map(|waiter| waiter.ask.held).sum()
    }

    /// Says whether all that is on its way waits for more of what may be.
    fn underway_waits(&self) -> bool {
        if self.announced_growing == 0 {
            return false;
        }
        let waiting = self.announced.iter().filter(|waiter| !waiter.granted.is_closed());
        waiting.map(|waiter| waiter.ask.own).sum::<i64>() >= self.underway
    }

    /// Returns what requests of `peer` that wait leave unread.
    fn unread(&self, peer: Peer) -> usize {
        let lines = [&self.arriving, &self.announced, &self.growing];
        let waiting = lines.into_iter().flat_map(|line| line.of(peer.number));
        waiting.filter(|waiter| !waiter.granted.is_closed()).map(|waiter| waiter.ask.unread).sum()
    }
}

impl Budget {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        let state = State {
            free: capacity,
            withheld: 0,
            underway: 0,
            excess: 0,
            over: VecDeque::new(),
            growing: Turns::default(),
            arriving: Turns::default(),
            announced: Turns::default(),
            announced_growing: 0,
            announced_next: false,
        };
        Arc::new(Self { capacity, state: CachePadded::new(Mutex::new(state)) })
    }

    /// Returns the bytes taken now.
    pub(crate) fn used(&self) -> u64 {
        let state = self.state.lock();
        u64::try_from(self.capacity - state.withheld - state.free).unwrap_or(0)
    }

    /// Returns the bytes that are out of use now.
    pub(crate) fn withheld(&self) -> u64 {
        u64::try_from(self.state.lock().withheld).unwrap_or(0)
    }

    /// Takes `bytes` out of use, or as many as may be; they are missing from what is free as soon as it is. Calling it again with
    /// fewer puts the rest back.
    pub(crate) fn withhold(self: &Arc<Self>, bytes: usize) {
        let withheld = i64::try_from(bytes).unwrap_or(i64::MAX).min(self.capacity / 4 * 3);
        let back = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.withheld, withheld);
            before - withheld
        };
        if back != 0 {
            self.give_back(back, 0);
        }
    }

    /// Takes `bytes` for a request of `peer`, at once or not at all.
    #[cfg(test)]
    pub(crate) fn try_reserve(self: &Arc<Self>, peer: Peer, bytes: usize) -> Option<Reservation> {
        self.take_now(self.arrives(peer, bytes, 0, 0))
    }

    /// Takes `bytes` for a request of `peer` that announces to need `announced` at once or not at all. As long as the announced is on its way
    /// ([`Reservation::arrived`]), others that announce much may have to wait.
    pub(crate) fn try_reserve_announced(
        self: &Arc<Self>,
        peer: Peer,
        bytes: usize,
        announced: usize,
    ) -> Option<Reservation> {
        self.take_now(self.arrives(peer, bytes, announced, 0))
    }

    /// Takes `bytes` for a request of `peer`; waits in line for them until `deadline`,
    /// unless too many of `peer` do so already. Of its body of `wire` bytes nothing is read meanwhile.
    #[cfg(test)]
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        peer: Peer,
        bytes: usize,
        wire: usize,
        deadline: Instant,
    ) -> Option<Reservation> {
        self.reserve_announced(peer, bytes, 0, wire, deadline).await
    }

    /// The same for a request that announces to need `announced`: see [`Budget::try_reserve_announced`].
    pub(crate) async fn reserve_announced(
        self: &Arc<Self>,
        peer: Peer,
        bytes: usize,
        announced: usize,
        wire: usize,
        deadline: Instant,
    ) -> Option<Reservation> {
        let ask = self.arrives(peer, bytes, announced, peer.unread(wire));
        match self.take_now(ask) {
            Some(taken) => Some(taken),
            None => self.wait(ask, deadline).await,
        }
    }

    fn arrives(&self, peer: Peer, bytes: usize, announced: usize, unread: usize) -> Ask {
        let (need, underway) = (self.need(bytes), self.need(announced));
        Ask { peer, unread, need, held: 0, grows: false, announces: underway > 0, own: 0, underway }
    }

    /// Returns what a body of which `needed` bytes are reserved as it comes is taken to announce. A compressed one counts twice, and until it has
    /// grown ([`Reservation::arrived`]): it waits for more when all of it is there.
    pub(crate) fn announces(needed: usize, compressed: bool) -> usize {
        if compressed { needed.saturating_mul(2) } else { needed }
    }

    /// Says whether anybody waits.
    pub(crate) fn is_crowded(&self) -> bool {
        let state = self.state.lock();
        let lines = [&state.growing, &state.arriving, &state.announced];
        lines.into_iter().flat_map(Turns::iter).any(|waiter| !waiter.granted.is_closed())
    }

    /// Returns how much of what is announced may be on its way.
    fn underway_max(&self, state: &State) -> i64 {
        (self.capacity - state.withheld) / 4 * 3
    }

    /// Returns what is to count as on its way besides what does so already. One counts for two thirds of what may be at the most: however much it
    /// announces, it is alone among its like, and leaves a third to ordinary ones.
    fn counts(&self, state: &State, ask: &Ask) -> i64 {
        ask.underway.min(self.underway_max(state) / 3 * 2 - ask.own).max(0)
    }

    /// Says whether one may send what it announces.
    fn may_send(&self, state: &State, ask: &Ask) -> bool {
        let more = self.counts(state, ask);
        more == 0 || state.underway <= ask.own || more <= self.underway_max(state) - state.underway
    }

    /// Says whether a request is passed in front of all who wait: it needs next to nothing, and that is free.
    fn passes(&self, state: &State, ask: &Ask) -> bool {
        let swift = ask.line() == Line::Arriving && ask.peer.quiet && ask.need <= self.capacity / SWIFT;
        swift && ask.need <= state.free
    }

    /// Returns the line that is served next.
    fn next_line(&self, state: &State) -> Option<Line> {
        if state.arriving.front().is_some_and(|it| it.granted.is_closed() || self.passes(state, &it.ask)) {
            return Some(Line::Arriving);
        }
        if !state.growing.is_empty() {
            return Some(Line::Growing);
        }
        let first = state.announced.front();
        let announced =
            first.is_some_and(|it| it.granted.is_closed() || self.may_send(state, &it.ask)) || state.underway_waits();
        match (announced, !state.arriving.is_empty()) {
            (true, arriving) if !arriving || state.announced_next => Some(Line::Announced),
            (_, true) => Some(Line::Arriving),
            _ => None,
        }
    }

    fn need(&self, bytes: usize) -> i64 {
        i64::try_from(bytes).unwrap_or(i64::MAX).min(self.capacity)
    }

    /// Returns how many of the bytes that are needed by one who has `held` already, and perhaps waits in line with it, can be taken now; `None`
    /// where it has to wait. Nothing more would come free once everybody else who holds something waits in line to grow: then it gets what it
    /// needs, or as much as there can be, where that is alone or little beyond what is free.
    fn grant(&self, state: &State, need: i64, held: i64, in_line: bool) -> Option<i64> {
        if need <= state.free {
            return Some(need);
        }
        let waiting = state.held_waiting() - if in_line { held } else { 0 };
        let usable = self.capacity - state.withheld;
        let need = need.min(usable - held).max(0);
        if !self.is_ring(state, waiting + held, need, held) {
            return None;
        }
        (waiting <= 0 || need - state.free <= usable / LITTLE).then_some(need)
    }

    /// Says whether nothing comes free any more for one who is first in line, holds `held` and needs `need`: all that is held, those hold who wait,
    /// `waiting` together, or all but a little that would not be enough. Those who hold that little may be followed by others like them without end.
    fn is_ring(&self, state: &State, waiting: i64, need: i64, held: i64) -> bool {
        let usable = self.capacity - state.withheld;
        let others = usable - state.free - waiting;
        others <= 0 || held > 0 && others <= usable / BESIDE && need >= state.free + others
    }

    /// Takes the one out of a line that is served next, if there is one, with what it is given; `None` with one that left the line.
    fn next(&self, state: &mut State, line: Line) -> Option<(Waiter, Option<i64>)> {
        let first = state.line(line).front()?;
        let (ask, gone) = (first.ask, first.granted.is_closed());
        let waits = gone || line == Line::Announced && !self.may_send(state, &ask);
        // Looked at anew each time: what is withheld meanwhile must not keep one in front of the others for ever.
        let granted = if waits { None } else { self.grant(state, ask.need, ask.held, ask.grows) };
        if gone || granted.is_some() {
            let (_, waiter) = state.line(line).pop()?;
            return Some((waiter, granted));
        }
        match line {
            Line::Growing => self.break_ring(state, ask),
            Line::Announced => self.break_underway(state),
            Line::Arriving => None,
        }
    }

    /// Takes the one out of the line of announced bodies that may send more than may be on its way, where all that is on its way waits: whoever
    /// holds most, or where nothing comes free any more, one that is passed beyond what is free.
    fn break_underway(&self, state: &mut State) -> Option<(Waiter, Option<i64>)> {
        if !state.underway_waits() {
            return None;
        }
        let grows = |waiter: &Waiter| waiter.ask.grows && !waiter.granted.is_closed();
        let rank = |waiter: &Waiter| (waiter.ask.held, -waiter.ask.need);
        let best = state.announced.iter().filter(|waiter| grows(waiter)).max_by_key(|waiter| rank(waiter))?;
        let (ask, best) = (best.ask, rank(best));
        let Some(granted) = self.grant(state, ask.need, ask.held, true) else { return self.break_ring(state, ask) };
        let (_, waiter) = state.announced.pop_first(|waiter| grows(waiter) && rank(waiter) == best)?;
        Some((waiter, Some(granted)))
    }

    /// Takes the one out of its line that is passed in front, where all that hold anything wait to grow: of those that it is not too much for,
    /// whoever holds most, and so what was begun is finished first. Whose body is there goes before whose body still comes.
    fn break_ring(&self, state: &mut State, first: Ask) -> Option<(Waiter, Option<i64>)> {
        let (usable, free) = (self.capacity - state.withheld, state.free);
        let need = |ask: &Ask| ask.need.min(usable - ask.held).max(0);
        if !self.is_ring(state, state.held_waiting(), need(&first), first.held) {
            return None;
        }
        let grows = |waiter: &Waiter| waiter.ask.grows && !waiter.granted.is_closed();
        let passes = |waiter: &Waiter| grows(waiter) && need(&waiter.ask) - free <= usable / RING;
        let rank = |waiter: &Waiter| (waiter.ask.held, -need(&waiter.ask));
        [Line::Growing, Line::Announced].into_iter().find_map(|line| {
            let line = state.line(line);
            let best = line.iter().filter(|waiter| passes(waiter)).map(rank).max()?;
            let (_, waiter) = line.pop_first(|waiter| passes(waiter) && rank(waiter) == best)?;
            let need = need(&waiter.ask);
            Some((waiter, Some(need)))
        })
    }

    fn take_now(self: &Arc<Self>, ask: Ask) -> Option<Reservation> {
        let mut state = self.state.lock();
        let in_line = match ask.line() {
            Line::Growing => !state.growing.is_empty(),
            Line::Announced => {
                self.next_line(&state).is_some() || !state.announced.is_empty() || !self.may_send(&state, &ask)
            }
            Line::Arriving => !self.passes(&state, &ask) && self.next_line(&state).is_some(),
        };
        if in_line {
            return None;
        }
        let need = self.grant(&state, ask.need, ask.held, false)?;
        Some(self.taken(&mut state, &ask, need))
    }

    fn taken(self: &Arc<Self>, state: &mut State, ask: &Ask, bytes: i64) -> Reservation {
        let underway = self.counts(state, ask);
        state.free -= bytes;
        state.underway += underway;
        Reservation { budget: Arc::clone(self), peer: ask.peer, bytes, underway, excess: 0 }
    }

    async fn wait(self: &Arc<Self>, ask: Ask, deadline: Instant) -> Option<Reservation> {
        let (granted, wait) = oneshot::channel();
        {
            let mut state = self.state.lock();
            let Ask { peer, unread, .. } = ask;
            if unread > 0 && state.unread(peer).saturating_add(unread) > peer.unread_max {
                return None;
            }
            if ask.announces && ask.grows {
                // What was begun is finished first.
                state.announced_growing += 1;
                state.announced.push_first(peer.number, Waiter { ask, granted });
            } else {
                state.line(ask.line()).push_for(peer, Waiter { ask, granted });
            }
        }
        // Whoever gives up, cancelled or late, lets those behind have what it stood in front of.
        let _left_the_line = OnLeave(self);
        // Between the failed attempt and the queueing room may have come free, and this one may close a ring; nobody else would look.
        self.give_back(0, 0);
        let granted = timeout_at(deadline, wait).await;
        granted.ok()?.ok()
    }

    /// Returns `bytes`, and `underway` of what is on its way, and serves those in line, in order, as far as it goes.
    fn give_back(self: &Arc<Self>, bytes: i64, underway: i64) {
        let mut state = self.state.lock();
        state.free += bytes;
        state.underway -= underway;
        self.serve_over(&mut state);
        while let Some(line) = self.next_line(&state) {
            let mut served = (line, self.next(&mut state, line));
            if served.1.is_none() {
                served = match line {
                    // What grows as it comes waits for memory that others hold, and nobody waits for it.
                    Line::Announced if state.announced_growing > 0 => {
                        (Line::Arriving, self.next(&mut state, Line::Arriving))
                    }
                    // Nor does all that is on its way wait for one that has not begun and needs more than is free.
                    Line::Arriving => (Line::Announced, self.break_underway(&mut state)),
                    Line::Announced | Line::Growing => return,
                };
            }
            let (line, Some((Waiter { ask, granted }, need))) = served else { return };
            state.announced_growing -= usize::from(ask.announces && ask.grows);
            let Some(need) = need else { continue };
            state.announced_next = line == Line::Arriving;
            let reservation = self.taken(&mut state, &ask, need);
            if let Err(mut unclaimed) = granted.send(reservation) {
                // It gave up this very moment. Dropping would lock again: account for it here.
                state.free += std::mem::take(&mut unclaimed.bytes);
                state.underway -= std::mem::take(&mut unclaimed.underway);
            }
        }
    }
}

struct OnLeave<'a>(&'a Arc<Budget>);

impl Drop for OnLeave<'_> {
    fn drop(&mut self) {
        self.0.give_back(0, 0);
    }
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod underway;
