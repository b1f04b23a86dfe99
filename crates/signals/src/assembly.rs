//! One whole trace: which request each span belongs to, where failures began, and where the time went.
//!
//! A request is an operation span and those spans below it that are not operation spans themselves. A failure passes up
//! through spans that serve no request, even where they do not call it one, and stops at a request that was answered
//! well or at a later call to the same callee that went well. Critical path: from a request's end backwards, always into
//! the child that finished last (CRISP, ATC'22). Clocks that disagree are met in two ways: a callee that lies outside the
//! call that waited for it is moved to that call's middle, and whatever still sticks out is cut off.
//!
//! *Invariants.* Any order of the same spans gives the same result. No recursion; time is O(n log n).
//!
//! *Cost.* Nothing is allocated once there was a trace as large. What no span of a trace calls for is left out: circles
//! where all hang below roots, clocks where there is one, failures where nothing failed.

use crate::shape::{Link, Order};

/// Stands for no span.
pub(crate) const NONE: u32 = u32::MAX;

/// Clocks that disagree by more are said to.
const SKEW_NS: u64 = 1_000_000_000;

/// What assembly needs to know of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// 0 where it has none.
    pub(crate) parent: u64,
    pub(crate) service: u32,
    /// Tells callees of one service apart; any number.
    pub(crate) operation: u32,
    pub(crate) failed: bool,
    /// Answers a request or handles a message.
    pub(crate) serves: bool,
    /// Handles a message: nobody waits for it.
    pub(crate) consumes: bool,
    /// Waits for a callee.
    pub(crate) calls: bool,
    /// May be an operation of its own where no span of its service is above it.
    pub(crate) may_root: bool,
    /// Where the caller keeps the rest.
    pub(crate) source: u32,
}

/// One call from a request to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) caller: u32,
    pub(crate) callee: u32,
    pub(crate) critical_ns: u64,
}

/// The result, and the room it takes; made once and used for every trace.
#[derive(Default)]
pub(crate) struct Assembly {
    /// In order of their ids.
    pub(crate) nodes: Vec<Node>,
    /// How they hang together, and what was found of each.
    pub(crate) links: Vec<Link>,
    pub(crate) requests: Vec<u32>,
    pub(crate) calls: Vec<Call>,
    /// Services of spans that came twice, of spans whose own process had their parent and never sent it, and of calls
    /// whose clocks disagree.
    pub(crate) duplicated: Vec<u32>,
    pub(crate) orphaned: Vec<u32>,
    pub(crate) skewed: Vec<u32>,
    pub(crate) duplicates: u64,
    pub(crate) cycles: u64,
    /// Some span failed.
    pub(crate) any_failed: bool,
    one_service: bool,
    ids: Order,
    /// Parents before their children.
    order: Vec<u32>,
    children: Vec<u32>,
    stack: Vec<(u32, u64, u64)>,
    shifts: Vec<i64>,
}

impl Assembly {
    /// Assembles spans with these ids, of which `node` tells the rest by their place.
    pub(crate) fn run(&mut self, ids: impl ExactSizeIterator<Item = u64>, node: impl Fn(u32) -> Node) {
        self.put_in_order(ids, node);
        self.orphaned.clear();
        self.skewed.clear();
        self.cycles = 0;
        self.find_parents();
        self.list_children();
        if self.order.len() < self.nodes.len() {
            // What no root leads to runs in circles.
            self.cut_circles();
            self.list_children();
        }
        self.find_requests();
        self.align_clocks();
        if self.any_failed {
            self.find_origins();
        }
        self.find_times();
    }

    /// Makes the nodes in order of their ids, each id once.
    fn put_in_order(&mut self, ids: impl ExactSizeIterator<Item = u64>, node: impl Fn(u32) -> Node) {
        self.duplicated.clear();
        self.duplicates = 0;
        let twice = self.ids.sort(ids);
        self.nodes.clear();
        let (mut any_failed, mut one_service, mut first) = (false, true, None);
        self.nodes.extend(self.ids.sources().iter().map(|at| {
            let node = node(*at);
            any_failed |= node.failed;
            one_service &= *first.get_or_insert(node.service) == node.service;
            node
        }));
        (self.any_failed, self.one_service) = (any_failed, one_service);
        if !twice {
            return;
        }
        let before = self.nodes.len();
        let duplicated = &mut self.duplicated;
        self.nodes.sort_unstable();
        self.nodes.dedup_by(|again, node| {
            let same = again.id == node.id;
            if same {
                duplicated.push(again.service);
            }
            same
        });
        self.duplicates = (before - self.nodes.len()) as u64;
        self.ids.set(self.nodes.iter().map(|node| node.id));
        self.any_failed = self.nodes.iter().any(|node| node.failed);
        self.one_service = self.nodes.windows(2).all(|pair| pair[0].service == pair[1].service);
    }

    /// Finds the span with this id.
    pub(crate) fn find(&self, id: u64) -> Option<u32> {
        self.ids.find(id)
    }

    fn find_parents(&mut self) {
        self.links.clear();
        // Spans side by side often have one parent.
        let mut met = (0, NONE);
        for (node, at) in self.nodes.iter().zip(0_u32..) {
            let mut link = Link::NEW;
            if node.parent != 0 {
                if node.parent != met.0 {
                    met = (node.parent, self.ids.find(node.parent).unwrap_or(NONE));
                }
                if met.1 == NONE {
                    if !node.serves && !node.consumes {
                        self.orphaned.push(node.service);
                    }
                } else if met.1 != at {
                    link.parent = met.1;
                }
            }
            self.links.push(link);
        }
    }

    /// Makes a root of one span of each circle of parents.
    fn cut_circles(&mut self) {
        let n = self.nodes.len();
        // 0: not seen, otherwise the number of the walk that saw it: meeting one's own walk again is a circle.
        let mut walk = vec![0_u32; n];
        for first in 0..n {
            let (mut at, mine) = (first, first as u32 + 1);
            while walk[at] == 0 {
                walk[at] = mine;
                let up = self.links[at].parent;
                if up == NONE {
                    break;
                }
                if walk[up as usize] == mine {
                    // Cut where the walk, which starts at the smallest id, closes the circle.
                    let mut around = up as usize;
                    while around != at {
                        self.orphaned.push(self.nodes[around].service);
                        around = self.links[around].parent as usize;
                    }
                    self.links[at].parent = NONE;
                    self.orphaned.push(self.nodes[at].service);
                    self.cycles += 1;
                    break;
                }
                at = up as usize;
            }
        }
    }

    /// Lists the children of each in order of their ids, and all in an order in which parents come first.
    fn list_children(&mut self) {
        let n = self.links.len();
        let links = self.links.as_mut_slice();
        links.iter_mut().for_each(|link| link.children_to = 0);
        self.order.clear();
        for at in 0..n {
            match links[at].parent {
                NONE => self.order.push(at as u32),
                parent => links[parent as usize].children_to += 1,
            }
        }
        let mut from = 0;
        for link in &mut *links {
            let many = link.children_to;
            (link.children_from, link.children_to) = (from, from);
            from += many;
        }
        if self.children.len() < n {
            self.children.resize(n, 0);
        }
        for at in 0..n {
            let parent = links[at].parent;
            if parent != NONE {
                let parent = &mut links[parent as usize];
                self.children[parent.children_to as usize] = at as u32;
                parent.children_to += 1;
            }
        }
        let mut at = 0;
        while let Some(node) = self.order.get(at) {
            let link = &links[*node as usize];
            if link.children_from < link.children_to {
                self.order.extend(&self.children[link.children()]);
            }
            at += 1;
        }
    }

    /// Finds the span above all of each; returns how many there are.
    pub(crate) fn find_roots(&mut self) -> usize {
        let mut roots = 0;
        for &at in &self.order {
            let up = self.links[at as usize].parent;
            roots += usize::from(up == NONE);
            self.links[at as usize].root = if up == NONE { at } else { self.links[up as usize].root };
        }
        roots
    }

    fn find_requests(&mut self) {
        self.requests.clear();
        for &at in &self.order {
            let node = &self.nodes[at as usize];
            let up = self.links[at as usize].parent;
            let below_own = up != NONE && self.nodes[up as usize].service == node.service;
            self.links[at as usize].request = if node.serves || (!below_own && node.may_root) {
                self.requests.push(at);
                at
            } else if below_own {
                self.links[up as usize].request
            } else {
                NONE
            };
        }
        self.requests.sort_unstable();
    }

    /// Returns the request that a span belongs to.
    pub(crate) fn request_of(&self, at: u32) -> u32 {
        self.links[at as usize].request
    }

    /// Says whether no other request is above this one.
    pub(crate) fn is_topmost(&self, request: u32) -> bool {
        let up = self.links[request as usize].parent;
        up == NONE || self.request_of(up) == NONE
    }

    /// Moves callees that lie outside the call that waited for them, with all that is below them.
    fn align_clocks(&mut self) {
        if self.one_service {
            // One service has one clock.
            for (node, link) in self.nodes.iter_mut().zip(&self.links) {
                node.end = if link.parent == NONE { node.end } else { node.end.max(node.start) };
            }
            return;
        }
        self.shifts.clear();
        self.shifts.resize(self.nodes.len(), 0_i64);
        for &at in &self.order {
            let up = self.links[at as usize].parent;
            if up == NONE {
                continue;
            }
            let Node { start: above_start, end: above_end, service, calls, .. } = self.nodes[up as usize];
            let node = &mut self.nodes[at as usize];
            let mut by = self.shifts[up as usize];
            let (start, end) = (node.start.saturating_add_signed(by), node.end.saturating_add_signed(by));
            let (took, room) = (end.saturating_sub(start), above_end.saturating_sub(above_start));
            let inside = start >= above_start && end <= above_end;
            if !inside && calls && !node.consumes && service != node.service && took <= room {
                let moved = (above_start + (room - took) / 2) as i64 - start as i64;
                if moved.unsigned_abs() > SKEW_NS {
                    self.skewed.extend([node.service, service]);
                }
                by += moved;
            }
            self.shifts[at as usize] = by;
            node.start = node.start.saturating_add_signed(by);
            node.end = node.end.saturating_add_signed(by).max(node.start);
        }
    }

    fn find_origins(&mut self) {
        for &at in self.order.iter().rev() {
            let (node, link) = (&self.nodes[at as usize], self.links[at as usize]);
            let answered_well = link.request == at && !node.failed;
            if answered_well {
                continue;
            }
            let siblings = &self.children[link.children()];
            let below = siblings
                .iter()
                .copied()
                .filter(|child| self.links[*child as usize].origin != NONE && !self.was_retried(*child, siblings))
                .max_by_key(|child| (self.nodes[*child as usize].end, self.nodes[*child as usize].id));
            self.links[at as usize].origin = match below {
                Some(child) => self.links[child as usize].origin,
                None if node.failed => at,
                None => NONE,
            };
        }
    }

    /// Says whether a later sibling called the same callee and went well.
    fn was_retried(&self, failed: u32, siblings: &[u32]) -> bool {
        /// Beyond so many siblings nobody looks: the search is quadratic.
        const SIBLINGS_MAX: usize = 64;
        if siblings.len() > SIBLINGS_MAX {
            return false;
        }
        let Some(callee) = self.callee_of(failed) else { return false };
        let end = self.nodes[failed as usize].end;
        siblings.iter().any(|other| {
            self.links[*other as usize].origin == NONE
                && self.nodes[*other as usize].start >= end
                && self.callee_of(*other) == Some(callee)
        })
    }

    /// Who answers a call: the span itself where it serves, or the first of its children that does.
    fn callee_of(&self, at: u32) -> Option<(u32, u32)> {
        let serving = if self.nodes[at as usize].serves {
            Some(at)
        } else {
            let children = &self.children[self.links[at as usize].children()];
            children.iter().copied().find(|child| self.nodes[*child as usize].serves)
        };
        serving.map(|s| (self.nodes[s as usize].service, self.nodes[s as usize].operation))
    }

    fn find_times(&mut self) {
        let nodes = &self.nodes;
        let last = |child: u32| {
            let child = &nodes[child as usize];
            std::cmp::Reverse((child.end, child.start, child.id))
        };
        for link in &self.links {
            match &mut self.children[link.children()] {
                [] | [_] => {}
                [one, other] => {
                    if last(*one) > last(*other) {
                        std::mem::swap(one, other);
                    }
                }
                many => many.sort_unstable_by_key(|child| last(*child)),
            }
        }
        self.calls.clear();
        for at in 0..self.requests.len() {
            let request = self.requests[at];
            let node = &self.nodes[request as usize];
            let (start, end) = (node.start, node.end.max(node.start));
            let mut own = self.walk(request, start, end);
            while let Some((span, start, end)) = self.stack.pop() {
                own += self.walk(span, start, end);
            }
            self.links[request as usize].self_ns = own;
        }
        for &callee in &self.requests {
            let Link { parent, critical_ns, .. } = self.links[callee as usize];
            let caller = if parent == NONE { NONE } else { self.links[parent as usize].request };
            if caller != NONE {
                self.calls.push(Call { caller, callee, critical_ns });
            }
        }
    }

    /// Walks one span's children backwards from `end` and returns the time that none of them accounts for.
    fn walk(&mut self, span: u32, start: u64, end: u64) -> u64 {
        let (mut own, mut at) = (0, end);
        for child in self.links[span as usize].children() {
            let child = self.children[child];
            let node = &self.nodes[child as usize];
            let (child_start, child_end) = (node.start.max(start), node.end.min(end));
            if node.consumes || child_end > at || child_start >= child_end {
                continue;
            }
            own += at - child_end;
            at = child_start;
            let link = &mut self.links[child as usize];
            if link.request == child {
                link.critical_ns = child_end - child_start;
            } else if link.children_from == link.children_to {
                // Nothing below it takes any of its time.
                own += child_end - child_start;
            } else {
                self.stack.push((child, child_start, child_end));
            }
        }
        own + (at - start)
    }

    /// Returns the call in which the failure of a request began, where the request made it itself and nobody answered, and the time
    /// from the first attempt on.
    pub(crate) fn unanswered_call(&self, request: u32) -> Option<(u32, u64)> {
        let mut at = self.origin_of(request);
        if at == NONE || self.request_of(at) != request {
            return None;
        }
        // What fails below a call, as a connection does, is part of it.
        while !self.nodes[at as usize].calls {
            at = self.links[at as usize].parent;
            if at == NONE || at == request {
                return None;
            }
        }
        let below = |at: u32| &self.children[self.links[at as usize].children()];
        let is_unanswered = |at: u32| {
            below(at).iter().all(|child| self.request_of(*child) == request && !self.nodes[*child as usize].serves)
        };
        if !is_unanswered(at) {
            return None;
        }
        let node = &self.nodes[at as usize];
        let up = self.links[at as usize].parent;
        let attempts = if up == NONE { &[][..] } else { below(up) };
        let same = attempts.iter().filter(|other| {
            let node = &self.nodes[**other as usize];
            node.calls && node.failed && is_unanswered(**other)
        });
        let first = same.map(|other| self.nodes[*other as usize].start).fold(node.start, u64::min);
        Some((at, node.end.saturating_sub(first)))
    }

    /// Says whether a failure began in a span, or below it, and where.
    pub(crate) fn origin_of(&self, at: u32) -> u32 {
        self.links[at as usize].origin
    }
}
