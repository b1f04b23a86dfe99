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
//! *Cost.* Nothing is allocated once there was a trace as large. One pass from the roots down does all that hangs on who is above
//! whom. What no span of a trace calls for is left out: circles where all hang below roots, failures where nothing failed, the critical
//! path where no request is below another.

use crate::shape::{Node, Places, last_first};
use crate::traces::{OpenSpan, Role};

/// Stands for no span.
pub(crate) const NONE: u32 = u32::MAX;

/// Clocks that disagree by more are said to.
const SKEW_NS: u64 = 1_000_000_000;

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
    /// In the order given, each id once.
    pub(crate) nodes: Vec<Node>,
    /// In order of their ids.
    pub(crate) requests: Vec<u32>,
    pub(crate) calls: Vec<Call>,
    /// Versions of all spans, ascending.
    pub(crate) versions: Vec<u32>,
    /// Services of spans that came twice, of spans whose own process had their parent and never sent it, and of calls
    /// whose clocks disagree.
    pub(crate) duplicated: Vec<u32>,
    pub(crate) orphaned: Vec<u32>,
    pub(crate) skewed: Vec<u32>,
    pub(crate) duplicates: u64,
    pub(crate) cycles: u64,
    /// Spans with none above them.
    pub(crate) roots: usize,
    /// Some span failed.
    pub(crate) any_failed: bool,
    ids: Places,
    /// Parents before their children, the children of one side by side.
    order: Vec<u32>,
    stack: Vec<(u32, u64, u64)>,
    /// None while all are zero.
    shifts: Vec<i64>,
    /// Which spans lead down to a request, as far up as the request that they are part of.
    leads: Vec<bool>,
}

impl Assembly {
    /// Assembles `count` spans, of which `span` tells each by its place, and `service` of a version whose it is and whether that
    /// service has shown a span that serves.
    pub(crate) fn run<'s>(
        &mut self,
        count: usize,
        span: impl Fn(usize) -> &'s OpenSpan,
        service: impl Fn(u32) -> (u32, bool),
    ) {
        self.take(count, span, service);
        self.orphaned.clear();
        self.cycles = 0;
        self.find_parents();
        self.hang_together();
        if self.order.len() < self.nodes.len() {
            // What no root leads to runs in circles.
            self.cut_circles();
            self.nodes.iter_mut().for_each(|node| node.children_from = NONE);
            self.hang_together();
        }
        // The order of arrival is not to show.
        let nodes = &self.nodes;
        self.requests.sort_unstable_by_key(|at| nodes[*at as usize].span.id);
        if self.any_failed {
            self.find_origins();
        }
        self.find_times();
    }

    /// Makes the nodes, each id once.
    fn take<'s>(&mut self, count: usize, span: impl Fn(usize) -> &'s OpenSpan, service: impl Fn(u32) -> (u32, bool)) {
        self.duplicated.clear();
        self.duplicates = 0;
        self.versions.clear();
        let (mut any_failed, mut met) = (false, NONE);
        let versions = &mut self.versions;
        self.nodes.resize(count, Node::EMPTY);
        for (node, at) in self.nodes.iter_mut().zip(0..) {
            let span = span(at);
            any_failed |= span.failed;
            if span.version != met {
                met = span.version;
                if let Err(at) = versions.binary_search(&met) {
                    versions.insert(at, met);
                }
            }
            let (service, serves) = service(span.version);
            node.begin(span, service);
            if span.role == Role::MayRoot && serves {
                node.span.role = Role::Other;
            }
        }
        self.any_failed = any_failed;
        if self.ids.set(self.nodes.iter().map(|node| node.span.id)) {
            self.drop_duplicates();
        }
    }

    fn drop_duplicates(&mut self) {
        let before = self.nodes.len();
        let duplicated = &mut self.duplicated;
        self.nodes.sort_unstable_by(|one, other| one.precedence().cmp(&other.precedence()));
        self.nodes.dedup_by(|again, node| {
            let same = again.span.id == node.span.id;
            if same {
                duplicated.push(again.service);
            }
            same
        });
        self.duplicates = (before - self.nodes.len()) as u64;
        self.ids.set(self.nodes.iter().map(|node| node.span.id));
        self.any_failed = self.nodes.iter().any(|node| node.span.failed);
    }

    /// Finds the span with this id.
    pub(crate) fn find(&self, id: u64) -> Option<u32> {
        self.ids.find(id)
    }

    fn find_parents(&mut self) {
        // Spans side by side often have one parent.
        let mut met = (0, NONE);
        for (node, at) in self.nodes.iter_mut().zip(0_u32..) {
            let parent = node.span.parent;
            if parent == 0 {
                continue;
            }
            if parent != met.0 {
                met = (parent, self.ids.find(parent).unwrap_or(NONE));
            }
            if met.1 == NONE {
                if !node.span.role.serves() {
                    self.orphaned.push(node.service);
                }
            } else if met.1 != at {
                node.parent = met.1;
            }
        }
    }

    /// Makes a root of one span of each circle of parents.
    fn cut_circles(&mut self) {
        let n = self.nodes.len();
        // 0: not seen, otherwise the number of the walk that saw it: meeting one's own walk again is a circle.
        let mut walk = vec![0_u32; n];
        let mut by_id: Vec<usize> = (0..n).collect();
        by_id.sort_unstable_by_key(|at| self.nodes[*at].span.id);
        for first in by_id {
            let (mut at, mine) = (first, first as u32 + 1);
            while walk[at] == 0 {
                walk[at] = mine;
                let up = self.nodes[at].parent;
                if up == NONE {
                    break;
                }
                if walk[up as usize] == mine {
                    // Cut where the walk, which starts at the smallest id, closes the circle.
                    let mut around = up as usize;
                    while around != at {
                        self.orphaned.push(self.nodes[around].service);
                        around = self.nodes[around].parent as usize;
                    }
                    self.nodes[at].parent = NONE;
                    self.orphaned.push(self.nodes[at].service);
                    self.cycles += 1;
                    break;
                }
                at = up as usize;
            }
        }
    }

    /// Goes from the roots down: lists the children of each, finds which request and which root each span
    /// belongs to, and moves callees that lie outside the call that waited for them, with all that is below them.
    fn hang_together(&mut self) {
        let nodes = self.nodes.as_mut_slice();
        let n = nodes.len();
        self.skewed.clear();
        self.requests.clear();
        self.order.resize(n, NONE);
        self.shifts.clear();
        let (order, shifts) = (&mut self.order[..n], &mut self.shifts);
        let mut listed = 0;
        for at in 0..n {
            let node = &mut nodes[at];
            match node.parent {
                NONE => {
                    if node.span.role.serves() || node.span.role == Role::MayRoot {
                        node.request = at as u32;
                        self.requests.push(at as u32);
                    }
                    node.root = at as u32;
                    order[listed] = at as u32;
                    listed += 1;
                }
                up => {
                    let next = std::mem::replace(&mut nodes[up as usize].children_from, at as u32);
                    nodes[at].next = next;
                }
            }
        }
        self.roots = listed;
        let mut at = 0;
        while at < listed {
            let up = order[at] as usize;
            at += 1;
            let from = listed;
            let Node { mut children_from, start, end, service, request, root, .. } = nodes[up];
            if children_from == NONE {
                (nodes[up].children_from, nodes[up].children_to) = (from as u32, from as u32);
                continue;
            }
            let calls = nodes[up].span.role == Role::Client;
            let shift = shifts.get(up).copied().unwrap_or(0);
            while let Some(node) = nodes.get_mut(children_from as usize) {
                let child = std::mem::replace(&mut children_from, node.next);
                order[listed] = child;
                listed += 1;
                node.root = root;
                let own = node.service == service;
                node.request = if node.span.role.serves() || (!own && node.span.role == Role::MayRoot) {
                    self.requests.push(child);
                    child
                } else if own {
                    request
                } else {
                    NONE
                };
                let (mut by, mut times) = (shift, node.moved_by(shift));
                let inside = times.0 >= start && times.1 <= end;
                if !inside && calls && !own && !node.consumes() {
                    let (took, room) = (times.1.saturating_sub(times.0), end.saturating_sub(start));
                    if took <= room {
                        let more = (start + (room - took) / 2) as i64 - times.0 as i64;
                        if more.unsigned_abs() > SKEW_NS {
                            self.skewed.extend([node.service, service]);
                        }
                        by += more;
                        times = node.moved_by(by);
                    }
                }
                if by != 0 {
                    shifts.resize(n, 0);
                    shifts[child as usize] = by;
                }
                (node.start, node.end) = (times.0, times.1.max(times.0));
            }
            (nodes[up].children_from, nodes[up].children_to) = (from as u32, listed as u32);
        }
        self.order.truncate(listed);
    }

    /// Lists the spans right below one.
    pub(crate) fn below(&self, at: u32) -> &[u32] {
        &self.order[self.nodes[at as usize].children()]
    }

    /// Returns the request that a span belongs to.
    pub(crate) fn request_of(&self, at: u32) -> u32 {
        self.nodes[at as usize].request
    }

    /// Says whether no other request is above this one.
    pub(crate) fn is_topmost(&self, request: u32) -> bool {
        let up = self.nodes[request as usize].parent;
        up == NONE || self.request_of(up) == NONE
    }

    fn find_origins(&mut self) {
        for &at in self.order.iter().rev() {
            let node = &self.nodes[at as usize];
            let answered_well = node.request == at && !node.span.failed;
            if answered_well {
                continue;
            }
            let siblings = &self.order[node.children()];
            let below = siblings
                .iter()
                .copied()
                .filter(|child| self.nodes[*child as usize].origin != NONE && !self.was_retried(*child, siblings))
                .max_by_key(|child| (self.nodes[*child as usize].end, self.nodes[*child as usize].span.id));
            self.nodes[at as usize].origin = match below {
                Some(child) => self.nodes[child as usize].origin,
                None if node.span.failed => at,
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
            self.nodes[*other as usize].origin == NONE
                && self.nodes[*other as usize].start >= end
                && self.callee_of(*other) == Some(callee)
        })
    }

    /// Who answers a call: the span itself where it serves, or of its children that do the one with the smallest id.
    fn callee_of(&self, at: u32) -> Option<(u32, u32)> {
        let serves = |at: &u32| self.nodes[*at as usize].span.role.serves();
        let serving = if serves(&at) {
            Some(at)
        } else {
            let children = self.order[self.nodes[at as usize].children()].iter().copied();
            children.filter(serves).min_by_key(|child| self.nodes[*child as usize].span.id)
        };
        serving.map(|s| (self.nodes[s as usize].service, self.nodes[s as usize].span.what))
    }

    /// Finds the time that each request took itself, and that each call took of its caller's.
    fn find_times(&mut self) {
        self.calls.clear();
        let mut any_below = false;
        for &callee in &self.requests {
            let node = &mut self.nodes[callee as usize];
            // All of it where no request is below.
            node.self_ns = node.end.saturating_sub(node.start);
            if node.parent == NONE {
                continue;
            }
            any_below = true;
            let up = node.parent;
            let caller = self.nodes[up as usize].request;
            if caller != NONE && !self.gave_up(up, caller) {
                self.calls.push(Call { caller, callee, critical_ns: 0 });
            }
        }
        if !any_below {
            return;
        }
        self.leads.clear();
        self.leads.resize(self.nodes.len(), false);
        for &callee in &self.requests {
            let mut at = self.nodes[callee as usize].parent;
            if at != NONE && self.gave_up(at, self.nodes[at as usize].request) {
                // Its caller waited for nobody.
                continue;
            }
            while at != NONE && !std::mem::replace(&mut self.leads[at as usize], true) {
                let node = &self.nodes[at as usize];
                at = if node.request == at { NONE } else { node.parent };
            }
        }
        for at in 0..self.requests.len() {
            let request = self.requests[at];
            if !self.leads[request as usize] {
                continue;
            }
            let node = &self.nodes[request as usize];
            let (start, end) = (node.start, node.end.max(node.start));
            let mut own = self.walk(request, start, end);
            while let Some((span, start, end)) = self.stack.pop() {
                own += self.walk(span, start, end);
            }
            self.nodes[request as usize].self_ns = own;
        }
        for call in &mut self.calls {
            call.critical_ns = self.nodes[call.callee as usize].critical_ns;
        }
    }

    /// Walks one span's children backwards from `end` and returns the time that none of them accounts for.
    fn walk(&mut self, span: u32, start: u64, end: u64) -> u64 {
        let (mut own, mut at) = (0, end);
        let children = &mut self.order[self.nodes[span as usize].children()];
        if children.len() > 1 {
            last_first(&self.nodes, children);
        }
        for &child in &*children {
            let node = &mut self.nodes[child as usize];
            let (child_start, child_end) = (node.start.max(start), node.end.min(end));
            if node.consumes() || child_end > at || child_start >= child_end {
                continue;
            }
            own += at - child_end;
            at = child_start;
            if node.request == child {
                node.critical_ns = child_end - child_start;
            } else if self.leads[child as usize] {
                self.stack.push((child, child_start, child_end));
            } else {
                // No request below it takes any of its time.
                own += child_end - child_start;
            }
        }
        own + (at - start)
    }

    /// Says whether a failure began in a span, or below it, and where.
    pub(crate) fn origin_of(&self, at: u32) -> u32 {
        self.nodes[at as usize].origin
    }
}
