//! What assembly keeps of each span of a trace beside the span, and the order in which it does.
//!
//! *Cost.* A few ids are looked through from end to end, and a few times put in order by counting for each how many are later: no
//! branch hangs on what they are, and they are random.

use std::cmp::Reverse;

use crate::assembly::NONE;
use crate::traces::{OpenSpan, Role};

/// Up to so many are few.
const FEW: usize = 16;

/// One span of the trace at hand, how it hangs together with others, and what was found of it. Two cache lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// As it was kept, but for what became of it.
    pub(crate) span: OpenSpan,
    /// When it started and ended by the clock of whoever called it.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Time on the critical path in the request itself, for spans that are one.
    pub(crate) self_ns: u64,
    /// Time on the critical path of the request that called it.
    pub(crate) critical_ns: u64,
    pub(crate) service: u32,
    pub(crate) parent: u32,
    /// The request that it belongs to.
    pub(crate) request: u32,
    /// Where its failure began; [`NONE`] where it hands none on.
    pub(crate) origin: u32,
    /// The span above all.
    pub(crate) root: u32,
    /// Where its children are listed; before they are, the first of them.
    pub(crate) children_from: u32,
    pub(crate) children_to: u32,
    /// The next child of its parent.
    pub(crate) next: u32,
}

impl Node {
    /// Room for one.
    pub(crate) const EMPTY: Self = Self {
        span: OpenSpan::EMPTY,
        start: 0,
        end: 0,
        self_ns: 0,
        critical_ns: 0,
        service: 0,
        parent: NONE,
        request: NONE,
        origin: NONE,
        root: NONE,
        children_from: NONE,
        children_to: NONE,
        next: NONE,
    };

    /// Makes it a span of which nothing was found yet. Written where it stands: it is too large to be made elsewhere and moved.
    #[inline(always)]
    pub(crate) fn begin(&mut self, span: &OpenSpan, service: u32) {
        self.span = *span;
        (self.start, self.end) = (span.start, span.end);
        (self.self_ns, self.critical_ns) = (0, 0);
        self.service = service;
        (self.parent, self.request, self.origin, self.root) = (NONE, NONE, NONE, NONE);
        (self.children_from, self.children_to, self.next) = (NONE, NONE, NONE);
    }

    /// Returns when it started and ended by a clock that differs by so much.
    #[inline(always)]
    pub(crate) fn moved_by(&self, by: i64) -> (u64, u64) {
        match by {
            0 => (self.span.start, self.span.end),
            by => (self.span.start.saturating_add_signed(by), self.span.end.saturating_add_signed(by)),
        }
    }

    /// Returns where its children are listed.
    pub(crate) fn children(&self) -> std::ops::Range<usize> {
        self.children_from as usize..self.children_to as usize
    }

    /// Handles a message: nobody waits for it.
    pub(crate) fn consumes(&self) -> bool {
        self.span.role == Role::Consumer
    }

    /// What decides which of several spans with one id stays.
    pub(crate) fn precedence(&self) -> impl Ord {
        let OpenSpan { id, start, end, parent, what, failed, role, .. } = self.span;
        let is = |one: Role| role == one;
        let roles = [role.serves(), is(Role::Consumer), is(Role::Client), is(Role::MayRoot)];
        let OpenSpan { version, bucket, class, weight, age, .. } = self.span;
        ((id, start, end, parent, self.service, what, failed, roles), (version, bucket, class, weight, age))
    }
}

/// Lists children from the one that finished last: of two that finished together first the one that started later, then the one with
/// the larger id.
pub(crate) fn last_first(nodes: &[Node], children: &mut [u32]) {
    let times = |child: u32| {
        let node = &nodes[child as usize];
        u128::from(node.end) << 64 | u128::from(node.start)
    };
    let n = children.len();
    if let [one, other] = children
        && times(*one) != times(*other)
    {
        if times(*one) < times(*other) {
            std::mem::swap(one, other);
        }
        return;
    }
    if n <= FEW {
        // For each, how many come before it.
        let (mut given, mut keys, mut before) = ([0; FEW], [0; FEW], [0_u8; FEW]);
        for (at, child) in children.iter().enumerate() {
            (given[at], keys[at]) = (*child, times(*child));
        }
        for i in 1..n {
            let mut mine = 0;
            for j in 0..i {
                let later = u8::from(keys[j] >= keys[i]);
                mine += later;
                before[j] += 1 - later;
            }
            before[i] = mine;
        }
        for (child, before) in given.iter().zip(before).take(n) {
            children[usize::from(before)] = *child;
        }
        if children.windows(2).all(|pair| times(pair[0]) != times(pair[1])) {
            return;
        }
    }
    children.sort_unstable_by_key(|child| Reverse((times(*child), nodes[*child as usize].span.id)));
}

/// Finds spans of a trace by id.
#[derive(Default)]
pub(crate) struct Places {
    /// As they came, where they are few; else in order.
    ids: Vec<u64>,
    /// Where each is, where they are many.
    sorted: Vec<(u64, u32)>,
}

impl Places {
    /// Takes the ids of a trace; says whether one came twice.
    pub(crate) fn set(&mut self, ids: impl ExactSizeIterator<Item = u64>) -> bool {
        self.ids.clear();
        self.ids.extend(ids);
        self.sorted.clear();
        if self.ids.len() > FEW {
            self.sorted.extend(self.ids.iter().copied().zip(0..));
            self.sorted.sort_unstable();
            return self.sorted.windows(2).any(|pair| pair[0].0 == pair[1].0);
        }
        let mut twice = false;
        for (at, id) in self.ids.iter().enumerate() {
            self.ids[..at].iter().for_each(|other| twice |= other == id);
        }
        twice
    }

    /// Finds an id.
    pub(crate) fn find(&self, id: u64) -> Option<u32> {
        if self.ids.len() > FEW {
            let at = self.sorted.binary_search_by_key(&id, |(id, _)| *id).ok()?;
            return Some(self.sorted[at].1);
        }
        // To the end: where it is nobody can guess.
        let mut found = NONE;
        for (known, at) in self.ids.iter().zip(0..) {
            found = if *known == id { at } else { found };
        }
        (found != NONE).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(id: u64, start: u64, end: u64) -> Node {
        let mut node = Node::EMPTY;
        node.begin(&OpenSpan { id, start, end, ..OpenSpan::EMPTY }, 0);
        node
    }

    proptest! {
        #[test]
        fn few_and_many_ids_are_found_where_they_are(ids in prop::collection::vec(0..60_u64, 0..40)) {
            let mut places = Places::default();
            let twice = places.set(ids.iter().copied());
            let different: std::collections::BTreeSet<u64> = ids.iter().copied().collect();
            prop_assert_eq!(twice, different.len() < ids.len());
            for id in 0..61 {
                prop_assert_eq!(places.find(id).map(|at| ids[at as usize]), ids.contains(&id).then_some(id));
            }
        }

        #[test]
        fn children_stand_from_the_last_to_the_first(times in prop::collection::vec((0..4_u64, 0..4_u64), 0..40)) {
            let nodes: Vec<Node> = times.iter().zip(0..).map(|((start, end), at)| node(at * 7 % 41, *start, *end)).collect();
            let mut children: Vec<u32> = (0..nodes.len() as u32).collect();
            last_first(&nodes, &mut children);
            let keys = children.iter().map(|at| &nodes[*at as usize]).map(|node| (node.end, node.start, node.span.id));
            prop_assert!(keys.clone().zip(keys.skip(1)).all(|(before, after)| before > after));
        }
    }
}
