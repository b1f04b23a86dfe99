//! Spans of recent traces, kept small until the trace is closed.
//!
//! *Layout.* Spans of all traces lie in one slab and are chained from their trace; traces are chained by last arrival,
//! the longest idle first. Nothing is allocated per span once the slab has grown.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use plimsoll_model::signal::{AgeClass, ExceptionCount, Fingerprint};

use crate::intern::{FixedMap, Mix};

const NONE: u32 = u32::MAX;
/// Closed traces remembered, twice over, so that a straggler is not taken for a trace of its own.
const CLOSED_MAX: usize = 32_768;

/// One span of an open trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenSpan {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) version: u32,
    /// The operation where it serves, else the name it would have as one.
    pub(crate) what: u32,
    /// Number of the bucket of ten seconds, which is enough until the year 3331.
    pub(crate) bucket: u32,
    pub(crate) class: u32,
    /// How many spans it stands for.
    pub(crate) weight: u32,
    pub(crate) role: Role,
    pub(crate) age: AgeClass,
    pub(crate) failed: bool,
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

#[derive(Default)]
struct Trace {
    id: u128,
    head: u32,
    spans: usize,
    first: u64,
    last: u64,
    older: u32,
    newer: u32,
    partial: bool,
    exceptions: Vec<OpenException>,
}

/// One trace taken out.
#[derive(Default)]
pub(crate) struct ClosedTrace {
    pub(crate) id: u128,
    pub(crate) spans: Vec<OpenSpan>,
    pub(crate) exceptions: Vec<OpenException>,
    /// Some of it is known to be missing.
    pub(crate) partial: bool,
}

pub(crate) struct OpenTraces {
    by_id: FixedMap<u128, u32>,
    traces: Vec<Trace>,
    free_traces: Vec<u32>,
    spans: Vec<(OpenSpan, u32)>,
    free_spans: Vec<u32>,
    oldest: u32,
    newest: u32,
    open_spans: usize,
    open_exceptions: usize,
    closed: [HashSet<u128, BuildHasherDefault<Mix>>; 2],
    /// The trace met last: its spans often come together.
    met: (u128, u32),
}

impl OpenTraces {
    pub(crate) fn new() -> Self {
        Self {
            by_id: FixedMap::default(),
            traces: Vec::new(),
            free_traces: Vec::new(),
            spans: Vec::new(),
            free_spans: Vec::new(),
            oldest: NONE,
            newest: NONE,
            open_spans: 0,
            open_exceptions: 0,
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

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Adds a span; says whether there was room for it in its trace.
    pub(crate) fn push_span(&mut self, trace: u128, arrival: u64, life: u64, max: usize, span: OpenSpan) -> bool {
        let at = self.touch(trace, arrival, life);
        let trace = &mut self.traces[at as usize];
        if trace.spans >= max {
            trace.partial = true;
            return false;
        }
        let slot = if let Some(slot) = self.free_spans.pop() {
            self.spans[slot as usize] = (span, trace.head);
            slot
        } else {
            self.spans.push((span, trace.head));
            self.spans.len() as u32 - 1
        };
        trace.head = slot;
        trace.spans += 1;
        self.open_spans += 1;
        true
    }

    pub(crate) fn push_exception(&mut self, trace: u128, arrival: u64, life: u64, exception: OpenException) {
        let at = self.touch(trace, arrival, life);
        self.traces[at as usize].exceptions.push(exception);
        self.open_exceptions += 1;
    }

    fn touch(&mut self, id: u128, arrival: u64, life: u64) -> u32 {
        let (met, at) = self.met;
        let at = match self.traces.get(at as usize) {
            // A trace that was taken out has no id any more.
            Some(trace) if met == id && trace.id == id && id != 0 => Some(at),
            _ => self.by_id.get(&id).copied(),
        };
        if let Some(at) = at {
            self.met = (id, at);
            let trace = &mut self.traces[at as usize];
            if arrival > trace.last && arrival - trace.first <= life {
                trace.last = arrival;
                self.unlink(at);
                self.link_newest(at);
            }
            return at;
        }
        let partial = self.closed.iter().any(|closed| closed.contains(&id));
        let trace = Trace { id, head: NONE, first: arrival, last: arrival, partial, ..Trace::default() };
        let at = if let Some(at) = self.free_traces.pop() {
            self.traces[at as usize] = trace;
            at
        } else {
            self.traces.push(trace);
            self.traces.len() as u32 - 1
        };
        self.met = (id, at);
        self.by_id.insert(id, at);
        self.link_newest(at);
        at
    }

    fn unlink(&mut self, at: u32) {
        let (older, newer) = (self.traces[at as usize].older, self.traces[at as usize].newer);
        match older {
            NONE => self.oldest = newer,
            older => self.traces[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.traces[newer as usize].older = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let newest = self.newest;
        self.traces[at as usize].older = newest;
        self.traces[at as usize].newer = NONE;
        match newest {
            NONE => self.oldest = at,
            newest => self.traces[newest as usize].newer = at,
        }
        self.newest = at;
    }

    /// Takes out the trace that has been idle longest, where its last arrival is not after `before`.
    pub(crate) fn take_oldest(&mut self, before: u64, into: &mut ClosedTrace) -> bool {
        let at = self.oldest;
        if at == NONE || self.traces[at as usize].last > before {
            return false;
        }
        self.unlink(at);
        self.free_traces.push(at);
        let trace = std::mem::take(&mut self.traces[at as usize]);
        self.by_id.remove(&trace.id);
        self.open_exceptions -= trace.exceptions.len();
        self.open_spans -= trace.spans;
        into.id = trace.id;
        into.partial = trace.partial;
        into.exceptions = trace.exceptions;
        into.spans.clear();
        let mut next = trace.head;
        while next != NONE {
            let (span, after) = self.spans[next as usize];
            into.spans.push(span);
            self.free_spans.push(next);
            next = after;
        }
        if self.closed[0].len() >= CLOSED_MAX {
            self.closed.swap(0, 1);
            self.closed[0].clear();
        }
        self.closed[0].insert(trace.id);
        true
    }

    /// Calls `visit` with every span of an open trace.
    pub(crate) fn each_span(&self, mut visit: impl FnMut(&OpenSpan)) {
        for at in self.by_id.values() {
            let mut next = self.traces[*at as usize].head;
            while next != NONE {
                visit(&self.spans[next as usize].0);
                next = self.spans[next as usize].1;
            }
        }
    }

    /// Calls `visit` with every exception that waits.
    pub(crate) fn each_exception(&self, mut visit: impl FnMut(&OpenException)) {
        for at in self.by_id.values() {
            self.traces[*at as usize].exceptions.iter().for_each(&mut visit);
        }
    }
}
