//! Spans of recent traces, kept small until the trace is closed.
//!
//! *Layout.* Spans of all traces lie in blocks that never move and are chained from their trace, one cache line each; traces
//! are one line each as well and are chained by last arrival, the longest idle first: those that are kept until they are
//! whole, and those that make room for them. Nothing is allocated per span once the blocks are there, and growing copies
//! nothing.
//!
//! *Cost.* A span that follows another of its trace costs no look-up. Closing takes several traces at once and follows their
//! chains side by side: what one waits for from memory, the others do meanwhile.

use plimsoll_model::signal::{AgeClass, ExceptionCount, Fingerprint};

use crate::blocks::Blocks;
use crate::fetch::fetch;
use crate::intern::FixedMap;
use crate::keeping::{Keeping, OfBoth};
use crate::trace_ids::{OpenIds, RecentIds, hash_of};

const NONE: u32 = u32::MAX;
/// Closed traces remembered, twice over, so that a straggler is not taken for a trace of its own.
const CLOSED_MAX: usize = 32_768;

/// One span of an open trace.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct OpenSpan {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) version: u32,
    /// The operation where it serves, whom it was meant for where it is a call that failed, else the name it would have as an operation.
    pub(crate) what: u32,
    /// The series it was counted in; none before it was.
    pub(crate) series: u32,
    /// Number of the bucket of ten seconds, which is enough until the year 3331.
    pub(crate) bucket: u32,
    pub(crate) class: u32,
    /// How many spans it stands for.
    pub(crate) weight: u32,
    /// The span of its trace that came before it.
    pub(crate) before: u32,
    pub(crate) role: Role,
    pub(crate) age: AgeClass,
    pub(crate) failed: bool,
}

impl OpenSpan {
    /// Stands for no series.
    pub(crate) const NONE: u32 = NONE;

    /// Room for one.
    pub(crate) const EMPTY: Self = Self {
        id: 0,
        parent: 0,
        start: 0,
        end: 0,
        version: 0,
        what: 0,
        series: NONE,
        bucket: 0,
        class: 0,
        weight: 0,
        before: NONE,
        role: Role::Other,
        age: AgeClass::Warm,
        failed: false,
    };
}

/// What a span is in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Consumer,
    Client,
    /// Internal, and may be an operation where nothing of its service is above it.
    MayRoot,
    Other,
}

impl Role {
    /// Says whether it answers a request or handles a message.
    pub(crate) fn serves(self) -> bool {
        matches!(self, Self::Server | Self::Consumer)
    }
}

/// An exception that waits for its trace.
#[derive(Debug, Clone)]
pub(crate) struct OpenException {
    pub(crate) span: u64,
    pub(crate) version: u32,
    pub(crate) age: AgeClass,
    pub(crate) bucket: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) seen: ExceptionCount,
    /// It was counted when its span was folded: here only so that it is not counted again.
    pub(crate) counted: bool,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Trace {
    id: u128,
    first: u64,
    last: u64,
    head: u32,
    spans: u32,
    older: u32,
    newer: u32,
    partial: bool,
    /// There are exceptions of it.
    throws: bool,
    /// Which chain it is in.
    chain: u8,
}

impl Trace {
    /// Room for one.
    const EMPTY: Self = Self {
        id: 0,
        first: 0,
        last: 0,
        head: NONE,
        spans: 0,
        older: NONE,
        newer: NONE,
        partial: false,
        throws: false,
        chain: YIELDING,
    };
}

/// The chain of traces that make room for others where there is too little, and of those that are kept.
const YIELDING: u8 = 0;
const KEPT: u8 = 1;

/// The ends of a chain of traces.
#[derive(Clone, Copy)]
struct Chain {
    oldest: u32,
    newest: u32,
}

/// One trace taken out.
#[derive(Default)]
pub(crate) struct ClosedTrace {
    pub(crate) id: u128,
    /// Where its spans are, the last to arrive first.
    pub(crate) spans: Vec<u32>,
    pub(crate) exceptions: Vec<OpenException>,
    /// Some of it is known to be missing.
    pub(crate) partial: bool,
    /// It made room for others, or is among those that do.
    pub(crate) yielded: bool,
}

/// Traces that are taken out together.
const AT_ONCE: usize = 16;

/// Traces taken out together.
pub(crate) struct TakenOut {
    traces: [ClosedTrace; AT_ONCE],
    /// Of each the next span to be found.
    heads: [u32; AT_ONCE],
    taken: usize,
    /// There may be spans to be found.
    unread: bool,
}

impl Default for TakenOut {
    fn default() -> Self {
        Self { traces: Default::default(), heads: [NONE; AT_ONCE], taken: 0, unread: false }
    }
}

impl TakenOut {
    pub(crate) fn traces(&mut self) -> &mut [ClosedTrace] {
        &mut self.traces[..self.taken]
    }
}

pub(crate) struct OpenTraces {
    by_id: OpenIds,
    traces: Blocks<Trace>,
    spans: Blocks<OpenSpan>,
    /// By place of the trace.
    exceptions: FixedMap<u32, Vec<OpenException>>,
    chains: [Chain; 2],
    pub(crate) keeping: Keeping,
    open_spans: usize,
    open_exceptions: usize,
    /// Of both, what is of traces that make room for others.
    yielding: OfBoth,
    /// Spans and exceptions whose traces were taken out.
    taken_out: OfBoth,
    /// When a trace was last closed to make room; zero for never.
    evicted_at: u64,
    closed: [RecentIds; 2],
    /// The trace met last: its spans often come together.
    met: (u128, u32),
}

impl OpenTraces {
    pub(crate) fn new() -> Self {
        Self {
            by_id: OpenIds::default(),
            traces: Blocks::new(Trace::EMPTY),
            spans: Blocks::new(OpenSpan::EMPTY),
            exceptions: FixedMap::default(),
            chains: [Chain { oldest: NONE, newest: NONE }; 2],
            keeping: Keeping::default(),
            open_spans: 0,
            open_exceptions: 0,
            yielding: [0; 2],
            taken_out: [0; 2],
            evicted_at: 0,
            closed: Default::default(),
            met: (0, NONE),
        }
    }

    pub(crate) fn open_spans(&self) -> usize {
        self.open_spans
    }

    pub(crate) fn open_exceptions(&self) -> usize {
        self.open_exceptions
    }

    /// Returns how many spans and exceptions ever took room.
    pub(crate) fn took_room(&self) -> OfBoth {
        let [spans, exceptions] = self.taken_out;
        [spans + self.open_spans as u64, exceptions + self.open_exceptions as u64]
    }

    /// Returns how many of both are of open traces that are kept until they are whole.
    pub(crate) fn kept(&self) -> OfBoth {
        let [spans, exceptions] = self.yielding;
        [self.open_spans as u64 - spans, self.open_exceptions as u64 - exceptions]
    }

    /// Takes note that a trace is closed at `now` to make room.
    pub(crate) fn makes_room(&mut self, now: u64) {
        self.evicted_at = now;
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns where a span of a trace is to be written, and what stands for the one before it; `None` where its trace has no room.
    #[inline(always)]
    pub(crate) fn room(&mut self, trace: u128, arrival: u64, life: u64, max: usize) -> Option<(&mut OpenSpan, u32)> {
        let at = self.touch(trace, arrival, life);
        let trace = &mut self.traces[at];
        if trace.spans as usize >= max {
            trace.partial = true;
            return None;
        }
        let slot = self.spans.take();
        let before = std::mem::replace(&mut trace.head, slot);
        trace.spans += 1;
        self.open_spans += 1;
        if trace.chain == YIELDING {
            self.yielding[0] += 1;
        }
        Some((&mut self.spans[slot], before))
    }

    pub(crate) fn push_exception(&mut self, trace: u128, arrival: u64, life: u64, exception: OpenException) {
        let at = self.touch(trace, arrival, life);
        let trace = &mut self.traces[at];
        trace.throws = true;
        self.yielding[1] += u64::from(trace.chain == YIELDING);
        self.exceptions.entry(at).or_default().push(exception);
        self.open_exceptions += 1;
    }

    /// Has memory bring what is needed to find traces soon.
    pub(crate) fn fetch(&self, ids: impl Iterator<Item = u128>) {
        let mut last = 0;
        for id in ids {
            if id != last {
                let hash = hash_of(id);
                self.by_id.fetch(hash);
                self.closed.iter().for_each(|closed| closed.fetch(hash));
                last = id;
            }
        }
    }

    /// Finds a trace, or opens it, and says that something of it arrived.
    #[inline(always)]
    fn touch(&mut self, id: u128, arrival: u64, life: u64) -> u32 {
        // Of a trace that was taken out nothing is remembered here.
        let at = if self.met.0 == id && self.met.1 != NONE { self.met.1 } else { self.look_up(id, arrival, life) };
        let trace = &mut self.traces[at];
        if arrival > trace.last && arrival - trace.first <= life {
            trace.last = arrival;
            self.make_newest(at);
        }
        at
    }

    #[inline(never)]
    fn look_up(&mut self, id: u128, arrival: u64, life: u64) -> u32 {
        let hash = hash_of(id);
        if let Some(at) = self.by_id.find(hash, |at| self.traces[at].id == id) {
            self.met = (id, at);
            return at;
        }
        let kept = self.keeping.keeps(hash);
        // Of what makes room some may be gone already, longer ago than closed traces are remembered.
        let evicts = self.evicted_at > 0 && arrival.saturating_sub(self.evicted_at) <= life;
        let partial = (!kept && evicts) || self.closed.iter().any(|closed| closed.contains(hash));
        let chain = if kept { KEPT } else { YIELDING };
        let trace = Trace { id, first: arrival, last: arrival, partial, chain, ..Trace::EMPTY };
        let at = self.traces.take();
        self.traces[at] = trace;
        self.met = (id, at);
        self.by_id.insert(hash, at);
        self.link_newest(at);
        at
    }

    #[inline(never)]
    fn make_newest(&mut self, at: u32) {
        self.unlink(at);
        self.link_newest(at);
    }

    fn unlink(&mut self, at: u32) {
        let Trace { older, newer, chain, .. } = self.traces[at];
        let chain = &mut self.chains[usize::from(chain)];
        match older {
            NONE => chain.oldest = newer,
            older => self.traces[older].newer = newer,
        }
        match newer {
            NONE => chain.newest = older,
            newer => self.traces[newer].older = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let chain = &mut self.chains[usize::from(self.traces[at].chain)];
        let newest = std::mem::replace(&mut chain.newest, at);
        if newest == NONE {
            chain.oldest = at;
        } else {
            self.traces[newest].newer = at;
        }
        self.traces[at].older = newest;
        self.traces[at].newer = NONE;
    }

    /// Takes out traces whose last arrival is not after `before`.
    pub(crate) fn take_idle(&mut self, before: u64, into: &mut TakenOut) {
        self.take_while(into, |trace, _| trace.last <= before);
    }

    /// Takes out traces while more spans or exceptions wait than there is room for.
    pub(crate) fn take_over(&mut self, room: [usize; 2], into: &mut TakenOut) {
        let mut left = [self.open_spans, self.open_exceptions];
        self.take_while(into, |trace, exceptions| {
            let over = (0..2).any(|which| left[which] > room[which]);
            left = [left[0] - trace.spans as usize, left[1] - exceptions];
            over
        });
    }

    /// Takes out the traces that have been idle longest, as many as there is room for in `into`, while `goes` says so of one and how many
    /// exceptions it has, first of those that make room for others. Their spans are yet to be [found](Self::find_spans).
    fn take_while(&mut self, into: &mut TakenOut, mut goes: impl FnMut(&Trace, usize) -> bool) {
        let mut taken = 0;
        for chain in &self.chains {
            let mut at = chain.oldest;
            while taken < AT_ONCE && at != NONE {
                let trace = &self.traces[at];
                let exceptions = if trace.throws { self.exceptions.get(&at).map_or(0, Vec::len) } else { 0 };
                if !goes(trace, exceptions) {
                    break;
                }
                into.heads[taken] = at;
                at = trace.newer;
                taken += 1;
            }
            if taken == AT_ONCE {
                self.fetch_from(at);
            }
            if taken > 0 {
                break;
            }
        }
        for (closed, head) in into.traces.iter_mut().zip(&mut into.heads[..taken]) {
            *head = self.take_out(*head, closed);
        }
        (into.taken, into.unread) = (taken, true);
    }

    /// Has memory bring what is needed to take out the traces from one on.
    fn fetch_from(&self, mut at: u32) {
        for _ in 0..AT_ONCE {
            if at == NONE {
                break;
            }
            let trace = &self.traces[at];
            let hash = hash_of(trace.id);
            self.by_id.fetch(hash);
            self.closed[0].fetch(hash);
            if trace.head != NONE {
                fetch(&self.spans[trace.head]);
            }
            at = trace.newer;
        }
    }

    /// Finds one more span of each trace that was taken out; says whether there are others. The spans stay where they are until
    /// another is added.
    pub(crate) fn find_spans(&mut self, of: &mut TakenOut) -> bool {
        if !of.unread {
            return false;
        }
        of.unread = false;
        for (head, closed) in of.heads[..of.taken].iter_mut().zip(&mut of.traces) {
            if *head == NONE {
                continue;
            }
            closed.spans.push(*head);
            self.spans.give_back(*head);
            *head = self.spans[*head].before;
            if *head != NONE {
                fetch(&self.spans[*head]);
                of.unread = true;
            }
        }
        of.unread
    }

    /// Returns a span of an open trace, or of one that was taken out last.
    #[inline]
    pub(crate) fn span(&self, at: u32) -> &OpenSpan {
        &self.spans[at]
    }

    /// Takes out a trace but for its spans; returns where these begin.
    fn take_out(&mut self, at: u32, into: &mut ClosedTrace) -> u32 {
        self.unlink(at);
        self.traces.give_back(at);
        if self.met.1 == at {
            self.met = (0, NONE);
        }
        let Trace { id, head, spans, partial, throws, chain, .. } = self.traces[at];
        let hash = hash_of(id);
        self.by_id.remove(hash, at);
        into.id = id;
        into.partial = partial;
        into.yielded = partial && chain == YIELDING;
        into.exceptions.clear();
        if throws {
            into.exceptions = self.exceptions.remove(&at).unwrap_or_default();
            self.open_exceptions -= into.exceptions.len();
        }
        let gone = [u64::from(spans), into.exceptions.len() as u64];
        for (which, gone) in gone.into_iter().enumerate() {
            self.taken_out[which] += gone;
            self.yielding[which] -= if chain == YIELDING { gone } else { 0 };
        }
        self.open_spans -= spans as usize;
        into.spans.clear();
        if self.closed[0].len() >= CLOSED_MAX {
            self.closed.swap(0, 1);
            self.closed[0].clear();
        }
        self.closed[0].insert(hash);
        head
    }

    /// Calls `visit` with every span of an open trace.
    pub(crate) fn each_span(&self, mut visit: impl FnMut(&OpenSpan)) {
        for at in self.by_id.places() {
            let mut next = self.traces[at].head;
            while next != NONE {
                visit(&self.spans[next]);
                next = self.spans[next].before;
            }
        }
    }

    /// Calls `visit` with every exception that waits.
    pub(crate) fn each_exception(&self, visit: impl FnMut(&OpenException)) {
        self.exceptions.values().flatten().for_each(visit);
    }
}
