//! One whole trace: which request each span belongs to, where failures began, and where the time went.
//!
//! A request is an operation span and those spans below it that are not operation spans themselves. A failure passes up
//! through spans that serve no request, even where they do not call it one, and stops at a request that was answered
//! well or at a later call to the same callee that went well. Critical path: from a request's end backwards, always into
//! the child that finished last (CRISP, ATC'22). Clocks that disagree are met in two ways: a callee that lies outside the
//! call that waited for it is moved to that call's middle, and whatever still sticks out is cut off.
//!
//! *Invariants.* Any order of the same spans gives the same result. No recursion; time is O(n log n).

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
    pub(crate) nodes: Vec<Node>,
    /// The request that each span belongs to.
    pub(crate) request: Vec<u32>,
    /// Where each span's failure began; `NONE` where it hands none on.
    pub(crate) origin: Vec<u32>,
    /// Time on the critical path in the request itself, for spans that are one.
    pub(crate) self_ns: Vec<u64>,
    pub(crate) requests: Vec<u32>,
    pub(crate) calls: Vec<Call>,
    /// Services of spans that came twice, of spans whose own process had their parent and never sent it, and of calls
    /// whose clocks disagree.
    pub(crate) duplicated: Vec<u32>,
    pub(crate) orphaned: Vec<u32>,
    pub(crate) skewed: Vec<u32>,
    pub(crate) duplicates: u64,
    pub(crate) cycles: u64,
    parent: Vec<u32>,
    order: Vec<u32>,
    child_from: Vec<u32>,
    children: Vec<u32>,
    critical: Vec<u64>,
    stack: Vec<(u32, u64, u64)>,
    next: Vec<u32>,
    shifts: Vec<i64>,
    keys: Vec<(u64, u32)>,
    ids: Vec<u64>,
    spare: Vec<Node>,
}

impl Assembly {
    /// Assembles `self.nodes`, which it puts in order.
    pub(crate) fn run(&mut self) {
        self.put_in_order();
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
        self.find_origins();
        self.find_times();
    }

    /// Puts the nodes in order of their ids, each id once.
    fn put_in_order(&mut self) {
        self.duplicated.clear();
        self.keys.clear();
        self.keys.extend(self.nodes.iter().zip(0..).map(|(node, at)| (node.id, at)));
        self.keys.sort_unstable();
        let before = self.nodes.len();
        if self.keys.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            let duplicated = &mut self.duplicated;
            self.nodes.sort_unstable();
            self.nodes.dedup_by(|again, node| {
                let same = again.id == node.id;
                if same {
                    duplicated.push(again.service);
                }
                same
            });
        } else {
            self.spare.clear();
            self.spare.extend(self.keys.iter().map(|(_, at)| self.nodes[*at as usize]));
            std::mem::swap(&mut self.nodes, &mut self.spare);
        }
        self.duplicates = (before - self.nodes.len()) as u64;
        self.ids.clear();
        self.ids.extend(self.nodes.iter().map(|node| node.id));
    }

    /// Finds the span with this id.
    pub(crate) fn find(&self, id: u64) -> Option<u32> {
        self.ids.binary_search(&id).ok().map(|at| at as u32)
    }

    fn find_parents(&mut self) {
        self.parent.clear();
        // Spans side by side often have one parent.
        let mut met = (0, NONE);
        for at in 0..self.nodes.len() {
            let Node { parent, service, serves, consumes, .. } = self.nodes[at];
            if parent != met.0 {
                met = (parent, if parent == 0 { NONE } else { self.find(parent).unwrap_or(NONE) });
            }
            let up = met.1;
            if parent != 0 && up == NONE && !serves && !consumes {
                self.orphaned.push(service);
            }
            self.parent.push(if up as usize == at { NONE } else { up });
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
                let up = self.parent[at];
                if up == NONE {
                    break;
                }
                if walk[up as usize] == mine {
                    // Cut where the walk, which starts at the smallest id, closes the circle.
                    let mut around = up as usize;
                    while around != at {
                        self.orphaned.push(self.nodes[around].service);
                        around = self.parent[around] as usize;
                    }
                    self.parent[at] = NONE;
                    self.orphaned.push(self.nodes[at].service);
                    self.cycles += 1;
                    break;
                }
                at = up as usize;
            }
        }
    }

    fn list_children(&mut self) {
        let n = self.nodes.len();
        self.child_from.clear();
        self.child_from.resize(n + 1, 0);
        for parent in self.parent.iter().filter(|p| **p != NONE) {
            self.child_from[*parent as usize + 1] += 1;
        }
        for at in 0..n {
            self.child_from[at + 1] += self.child_from[at];
        }
        self.children.clear();
        self.children.resize(self.child_from[n] as usize, 0);
        self.next.clear();
        self.next.extend_from_slice(&self.child_from);
        for (node, parent) in self.parent.iter().enumerate().filter(|(_, p)| **p != NONE) {
            self.children[self.next[*parent as usize] as usize] = node as u32;
            self.next[*parent as usize] += 1;
        }
        self.order.clear();
        self.order.extend((0..n as u32).filter(|node| self.parent[*node as usize] == NONE));
        let mut at = 0;
        while at < self.order.len() {
            let (from, to) = self.child_range(self.order[at]);
            self.order.extend_from_slice(&self.children[from..to]);
            at += 1;
        }
    }

    /// Returns the span above all of each.
    pub(crate) fn roots(&self) -> Vec<u32> {
        let mut root = vec![NONE; self.nodes.len()];
        for &at in &self.order {
            let up = self.parent[at as usize];
            root[at as usize] = if up == NONE { at } else { root[up as usize] };
        }
        root
    }

    fn child_range(&self, node: u32) -> (usize, usize) {
        (self.child_from[node as usize] as usize, self.child_from[node as usize + 1] as usize)
    }

    fn find_requests(&mut self) {
        self.request.clear();
        self.request.resize(self.nodes.len(), NONE);
        self.requests.clear();
        for &at in &self.order {
            let (node, up) = (self.nodes[at as usize], self.parent[at as usize]);
            let below_own = up != NONE && self.nodes[up as usize].service == node.service;
            self.request[at as usize] = if node.serves || (!below_own && node.may_root) {
                self.requests.push(at);
                at
            } else if below_own {
                self.request[up as usize]
            } else {
                NONE
            };
        }
        self.requests.sort_unstable();
    }

    /// Says whether no other request is above this one.
    pub(crate) fn is_topmost(&self, request: u32) -> bool {
        let up = self.parent[request as usize];
        up == NONE || self.request[up as usize] == NONE
    }

    fn is_request(&self, at: u32) -> bool {
        self.request[at as usize] == at
    }

    /// Moves callees that lie outside the call that waited for them, with all that is below them.
    fn align_clocks(&mut self) {
        let Some(first) = self.nodes.first() else { return };
        if self.nodes.iter().all(|node| node.service == first.service) {
            // One service has one clock.
            for (node, up) in self.nodes.iter_mut().zip(&self.parent) {
                node.end = if *up == NONE { node.end } else { node.end.max(node.start) };
            }
            return;
        }
        let mut shift = std::mem::take(&mut self.shifts);
        shift.clear();
        shift.resize(self.nodes.len(), 0_i64);
        for &at in &self.order {
            let up = self.parent[at as usize];
            if up == NONE {
                continue;
            }
            let above = self.nodes[up as usize];
            let node = &mut self.nodes[at as usize];
            let mut by = shift[up as usize];
            let (start, end) = (node.start.saturating_add_signed(by), node.end.saturating_add_signed(by));
            let (took, room) = (end.saturating_sub(start), above.end.saturating_sub(above.start));
            let inside = start >= above.start && end <= above.end;
            if !inside && above.calls && !node.consumes && above.service != node.service && took <= room {
                let moved = (above.start + (room - took) / 2) as i64 - start as i64;
                if moved.unsigned_abs() > SKEW_NS {
                    self.skewed.extend([node.service, above.service]);
                }
                by += moved;
            }
            shift[at as usize] = by;
            node.start = node.start.saturating_add_signed(by);
            node.end = node.end.saturating_add_signed(by).max(node.start);
        }
        self.shifts = shift;
    }

    fn find_origins(&mut self) {
        self.origin.clear();
        self.origin.resize(self.nodes.len(), NONE);
        if !self.nodes.iter().any(|node| node.failed) {
            return;
        }
        for &at in self.order.iter().rev() {
            let node = self.nodes[at as usize];
            let answered_well = self.is_request(at) && !node.failed;
            if answered_well {
                continue;
            }
            let (from, to) = self.child_range(at);
            let below = self.children[from..to]
                .iter()
                .copied()
                .filter(|child| {
                    self.origin[*child as usize] != NONE && !self.was_retried(*child, &self.children[from..to])
                })
                .max_by_key(|child| (self.nodes[*child as usize].end, self.nodes[*child as usize].id));
            self.origin[at as usize] = match below {
                Some(child) => self.origin[child as usize],
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
            self.origin[*other as usize] == NONE
                && self.nodes[*other as usize].start >= end
                && self.callee_of(*other) == Some(callee)
        })
    }

    /// Who answers a call: the span itself where it serves, or the first of its children that does.
    fn callee_of(&self, at: u32) -> Option<(u32, u32)> {
        let (from, to) = self.child_range(at);
        let serving = if self.nodes[at as usize].serves {
            Some(at)
        } else {
            self.children[from..to].iter().copied().find(|child| self.nodes[*child as usize].serves)
        };
        serving.map(|s| (self.nodes[s as usize].service, self.nodes[s as usize].operation))
    }

    fn find_times(&mut self) {
        let n = self.nodes.len();
        self.self_ns.clear();
        self.self_ns.resize(n, 0);
        self.critical.clear();
        self.critical.resize(n, 0);
        for node in 0..n {
            let (from, to) = (self.child_from[node] as usize, self.child_from[node + 1] as usize);
            if to - from < 2 {
                continue;
            }
            let nodes = &self.nodes;
            self.children[from..to].sort_unstable_by_key(|child| {
                let child = nodes[*child as usize];
                std::cmp::Reverse((child.end, child.start, child.id))
            });
        }
        for at in 0..self.requests.len() {
            let request = self.requests[at];
            let node = self.nodes[request as usize];
            self.stack.push((request, node.start, node.end.max(node.start)));
            let mut own = 0;
            while let Some((span, start, end)) = self.stack.pop() {
                own += self.walk(span, start, end);
            }
            self.self_ns[request as usize] = own;
        }
        self.calls.clear();
        for at in 0..self.requests.len() {
            let callee = self.requests[at];
            let up = self.parent[callee as usize];
            let caller = if up == NONE { NONE } else { self.request[up as usize] };
            if caller != NONE {
                self.calls.push(Call { caller, callee, critical_ns: self.critical[callee as usize] });
            }
        }
    }

    /// Walks one span's children backwards from `end` and returns the time that none of them accounts for.
    fn walk(&mut self, span: u32, start: u64, end: u64) -> u64 {
        let (from, to) = self.child_range(span);
        let (mut own, mut at) = (0, end);
        for &child in &self.children[from..to] {
            let node = self.nodes[child as usize];
            let (child_start, child_end) = (node.start.max(start), node.end.min(end));
            if node.consumes || child_end > at || child_start >= child_end {
                continue;
            }
            own += at - child_end;
            at = child_start;
            if self.is_request(child) {
                self.critical[child as usize] = child_end - child_start;
            } else {
                self.stack.push((child, child_start, child_end));
            }
        }
        own + (at - start)
    }
}
