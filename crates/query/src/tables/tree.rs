//! The shape of one trace: who called whom, how deep, and how much time was a span's own.
//!
//! *Invariants.* Every span comes out once, whatever its ids say: one whose parent is not there starts a tree of its own, and so
//! does the earliest span of a cycle. Nothing recurses.
//!
//! *Cost.* Sorts the spans by start once; a walk over them; for each, its children's times merged in order.

use std::collections::{HashMap, HashSet};

/// Ancestors that a path names, at most.
const PATH_MAX: usize = 32;
/// What separates them.
const ARROW: &str = " > ";

/// One span, as far as its place in the tree depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) id: &'a str,
    pub(super) parent: Option<&'a str>,
    pub(super) service: &'a str,
    pub(super) name: &'a str,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Where a span stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its row in the input.
    pub(super) row: usize,
    /// 0 at a root.
    pub(super) depth: u32,
    /// The root's name first, its own last.
    pub(super) path: String,
    /// Nanoseconds after the trace's first start.
    pub(super) offset: i64,
    /// Its duration without the time in which a child ran.
    pub(super) self_time: i64,
    /// How many spans name it as their parent.
    pub(super) children: u32,
    /// What is wrong with its ids.
    pub(super) problem: Option<&'static str>,
}

/// Returns every span in the order of the tree: parents before children, siblings by start.
pub(super) fn places(nodes: &[Node<'_>]) -> Vec<Place> {
    let mut by_start: Vec<usize> = (0..nodes.len()).collect();
    by_start.sort_unstable_by(|a, b| {
        let key = |at: usize| nodes.get(at).map(|node| (node.start, std::cmp::Reverse(node.end), node.id));
        key(*a).cmp(&key(*b)).then(a.cmp(b))
    });
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(nodes.len());
    let mut problems: Vec<Option<&'static str>> = vec![None; nodes.len()];
    for at in &by_start {
        if *first.entry(nodes[*at].id).or_insert(*at) != *at {
            problems[*at] = Some("duplicate id");
        }
    }
    let mut parents: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut roots = Vec::new();
    for at in &by_start {
        match nodes[*at].parent.map(|parent| first.get(parent)) {
            None => roots.push(*at),
            Some(None) => {
                problems[*at] = problems[*at].or(Some("parent missing"));
                roots.push(*at);
            }
            // A span that is its own parent is found below, as every cycle is.
            Some(Some(parent)) => {
                parents[*at] = Some(*parent);
                children[*parent].push(*at);
            }
        }
    }

    let began = by_start.first().map_or(0, |at| nodes[*at].start);
    let mut walk =
        Walk { nodes, parents, children, problems, began, seen: vec![false; nodes.len()], places: Vec::new() };
    for root in roots {
        walk.from(root);
    }
    for at in by_start {
        if !walk.seen[at] {
            // Whatever is left hangs on a cycle, which is cut before its earliest span.
            let top = walk.cycle(at);
            walk.problems[top] = Some("cycle");
            if let Some(parent) = walk.parents[top].take() {
                walk.children[parent].retain(|child| *child != top);
            }
            walk.from(top);
        }
    }
    walk.places
}

struct Walk<'a> {
    nodes: &'a [Node<'a>],
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    problems: Vec<Option<&'static str>>,
    began: i64,
    seen: Vec<bool>,
    places: Vec<Place>,
}

impl Walk<'_> {
    /// Returns the earliest span of the cycle above `at`.
    fn cycle(&self, at: usize) -> usize {
        let up = |at: usize| self.parents[at].unwrap_or(at);
        let mut passed = HashSet::new();
        let mut inside = at;
        while passed.insert(inside) {
            inside = up(inside);
        }
        let (mut earliest, mut next) = (inside, up(inside));
        while next != inside {
            let key = |at: usize| (self.nodes[at].start, self.nodes[at].id);
            if key(next) < key(earliest) {
                earliest = next;
            }
            next = up(next);
        }
        earliest
    }

    fn from(&mut self, root: usize) {
        let mut open = vec![(root, 0_u32)];
        while let Some((at, depth)) = open.pop() {
            if std::mem::replace(&mut self.seen[at], true) {
                continue;
            }
            self.places.push(Place {
                row: at,
                depth,
                path: self.path(at, depth),
                offset: self.nodes[at].start.saturating_sub(self.began),
                self_time: self.self_time(at),
                children: u32::try_from(self.children[at].len()).unwrap_or(u32::MAX),
                problem: self.problems[at],
            });
            open.extend(self.children[at].iter().rev().map(|child| (*child, depth.saturating_add(1))));
        }
    }

    fn path(&self, at: usize, depth: u32) -> String {
        let mut names = Vec::new();
        let mut next = Some(at);
        while let Some(at) = next.filter(|_| names.len() < PATH_MAX) {
            names.push(at);
            next = self.parents[at];
        }
        let mut path = if depth as usize >= PATH_MAX { format!("..{ARROW}") } else { String::new() };
        for (number, at) in names.iter().rev().enumerate() {
            if number > 0 {
                path.push_str(ARROW);
            }
            path.push_str(self.nodes[*at].service);
            path.push(' ');
            path.push_str(self.nodes[*at].name);
        }
        path
    }

    fn self_time(&self, at: usize) -> i64 {
        let Node { start, end, .. } = self.nodes[at];
        let mut covered = 0_i64;
        let mut until = start;
        // Children come by start.
        for child in &self.children[at] {
            let (from, to) = (self.nodes[*child].start.max(until), self.nodes[*child].end.min(end));
            if to > from {
                covered = covered.saturating_add(to - from);
                until = to;
            }
        }
        end.saturating_sub(start).max(0).saturating_sub(covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node<'a>(id: &'a str, parent: Option<&'a str>, start: i64, end: i64) -> Node<'a> {
        Node { id, parent, service: "s", name: id, start, end }
    }

    fn shape(nodes: &[Node<'_>]) -> Vec<(String, u32, i64, Option<&'static str>)> {
        places(nodes).into_iter().map(|p| (nodes[p.row].id.to_owned(), p.depth, p.self_time, p.problem)).collect()
    }

    #[test]
    fn children_follow_their_parent_and_their_time_is_not_its_own() {
        let nodes = [
            node("c", Some("a"), 6, 9),
            node("a", None, 0, 10),
            node("b", Some("a"), 1, 7),
            node("d", Some("b"), 2, 3),
            node("e", Some("a"), 9, 30),
        ];
        let expected = [("a", 0, 1), ("b", 1, 5), ("d", 2, 1), ("c", 1, 3), ("e", 1, 21)];
        let expected: Vec<_> = expected.into_iter().map(|(id, depth, own)| (id.to_owned(), depth, own, None)).collect();
        assert_eq!(shape(&nodes), expected);
        assert_eq!(places(&nodes)[2].path, "s a > s b > s d");
    }

    #[test]
    fn broken_parents_duplicates_and_cycles_lose_no_span() {
        let nodes = [
            node("orphan", Some("gone"), 5, 6),
            node("self", Some("self"), 7, 8),
            node("x", Some("z"), 1, 9),
            node("y", Some("x"), 2, 9),
            node("z", Some("y"), 3, 9),
            node("leaf", Some("z"), 4, 5),
            node("x", Some("z"), 10, 11),
        ];
        let shape = shape(&nodes);
        assert_eq!(shape.len(), nodes.len());
        let problem = |id: &str| shape.iter().filter(|s| s.0 == id).map(|s| s.3).collect::<Vec<_>>();
        assert_eq!(problem("orphan"), [Some("parent missing")]);
        assert_eq!(problem("self"), [Some("cycle")]);
        assert_eq!(problem("x"), [Some("cycle"), Some("duplicate id")]);
        assert_eq!(problem("leaf"), [None]);
    }

    #[test]
    fn a_trace_as_deep_as_it_is_long_is_walked() {
        let ids: Vec<String> = (0..50_000).map(|n| n.to_string()).collect();
        let nodes: Vec<Node<'_>> = ids
            .iter()
            .enumerate()
            .map(|(at, id)| node(id, at.checked_sub(1).map(|at| ids[at].as_str()), at as i64, 60_000))
            .collect();
        let places = places(&nodes);
        assert_eq!(places.last().map(|place| place.depth), Some(49_999));
        assert!(places.iter().all(|place| place.path.len() < 1_000));
    }

    proptest! {
        #[test]
        fn every_span_comes_out_once(parents in prop::collection::vec(0_usize..12, 1..12)) {
            let ids: Vec<String> = (0..12).map(|n| n.to_string()).collect();
            let nodes: Vec<Node<'_>> = parents
                .iter()
                .enumerate()
                .map(|(at, parent)| node(&ids[at], Some(&ids[*parent]), at as i64, 20))
                .collect();
            let mut rows: Vec<usize> = places(&nodes).iter().map(|place| place.row).collect();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..nodes.len()).collect::<Vec<_>>());
        }
    }
}
