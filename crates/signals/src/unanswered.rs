//! Failed calls that nobody answered, whom they were meant for, and what came of the requests that made them.
//!
//! A request may fail of such a call, or get over it: it calls again, or does without.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use crate::assembly::{Assembly, NONE};
use crate::attributes::Attributes;
use crate::columns::{SchemaError, Texts};
use crate::registry::NO_NAME;
use crate::shape::Node;
use crate::traces::Role;

/// Statuses of HTTP that are given in the place of whoever was called: by a gateway or a proxy.
const IN_ITS_PLACE: [i32; 3] = [502, 503, 504];
/// `DEADLINE_EXCEEDED` and `UNAVAILABLE`, which a client says of itself.
const OF_ITSELF: [&str; 2] = ["4", "14"];

/// What spans of a batch tell of whom they call.
pub(crate) struct Calls<'a> {
    address: Texts<'a>,
    database: Texts<'a>,
    messaging: Texts<'a>,
}

impl<'a> Calls<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        Ok(Self {
            address: Texts::of(batch, "server_address")?,
            database: Texts::of(batch, "db_system_name")?,
            messaging: Texts::of(batch, "messaging_system")?,
        })
    }

    /// Returns whom a failed call was meant for, as the caller names it, where nothing says that it was answered: `peer.service`,
    /// else the server's address. Empty where that is not known, and for calls to databases and queues, which emit no spans
    /// however well they are.
    pub(crate) fn unanswered(&self, attributes: &Attributes<'a>, row: usize, http: i32) -> &'a str {
        let answered = http > 0 && !IN_ITS_PLACE.contains(&http);
        if answered || !self.database.get(row).is_empty() || !self.messaging.get(row).is_empty() {
            return "";
        }
        let mut target = self.address.get(row);
        for (key, value) in attributes.each(row) {
            match key {
                "peer.service" if !value.is_empty() => target = value,
                "rpc.grpc.status_code" if !OF_ITSELF.contains(&value) => return "",
                _ => {}
            }
        }
        target
    }
}

impl Assembly {
    /// Returns the call in which the failure of a request began, where the request made it itself and nobody answered in time.
    fn failed_call(&self, request: u32) -> Option<u32> {
        let mut at = self.origin_of(request);
        if at == NONE || self.request_of(at) != request {
            return None;
        }
        // What fails below a call, as a connection does, is part of it.
        while self.nodes[at as usize].span.role != Role::Client {
            at = self.nodes[at as usize].parent;
            if at == NONE || at == request {
                return None;
            }
        }
        self.is_unanswered(at).then_some(at)
    }

    /// Says whether nobody answered a call, or only when it had been given up: whoever serves it took longer than it lasted, which the
    /// clocks of both tell however much they disagree.
    fn is_unanswered(&self, call: u32) -> bool {
        let node = &self.nodes[call as usize];
        let lasted = node.end.saturating_sub(node.start);
        self.below(call).iter().all(|child| {
            let Node { request, start, end, span, .. } = self.nodes[*child as usize];
            let own = request == node.request && !span.role.serves();
            own || (span.role != Role::Consumer && end.saturating_sub(start) > lasted)
        })
    }

    /// Says whether a request's failure began in calls that it gave up, and `call` is one of them.
    pub(crate) fn gave_up(&self, call: u32, request: u32) -> bool {
        if !self.any_failed || request == NONE {
            return false;
        }
        let span = &self.nodes[call as usize].span;
        // Where it is not known whom it was meant for, it may have been answered.
        let failed = span.failed && span.role == Role::Client && span.what > NO_NAME;
        failed
            && self.nodes[request as usize].span.failed
            && self.is_unanswered(call)
            && self.failed_call(request).is_some_and(|at| self.nodes[at as usize].span.what > NO_NAME)
    }

    /// Returns the call in which the failure of a request began, where the request made it itself and nobody answered in time; who
    /// served it nevertheless, else [`NONE`]; and the time from the first attempt on.
    pub(crate) fn unanswered_call(&self, request: u32) -> Option<(u32, u32, u64)> {
        let at = self.failed_call(request)?;
        let node = &self.nodes[at as usize];
        let attempts = if node.parent == NONE { &[][..] } else { self.below(node.parent) };
        let same = attempts.iter().filter(|other| {
            let span = &self.nodes[**other as usize].span;
            span.role == Role::Client && span.failed && self.is_unanswered(**other)
        });
        let first = same.map(|other| self.nodes[*other as usize].start).fold(node.start, u64::min);
        let served = self
            .below(at)
            .iter()
            .copied()
            .filter(|child| self.request_of(*child) == *child)
            .min_by_key(|child| self.nodes[*child as usize].span.id);
        Some((at, served.unwrap_or(NONE), node.end.saturating_sub(first)))
    }

    /// Lists the calls that nobody answered of requests that did not fail of them, each with its request and the time that passed until the
    /// next call or, without one, its end.
    pub(crate) fn overcome_calls(&self) -> Vec<(u32, u32, u64)> {
        if !self.any_failed {
            return Vec::new();
        }
        let is_call = |at: u32| self.nodes[at as usize].span.role == Role::Client;
        let calls = (0..self.nodes.len() as u32).filter(|at| is_call(*at));
        // When calls of one span begin.
        let mut begins: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let in_vain = calls.filter_map(|call| {
            let Node { request, start, end, parent, span, .. } = self.nodes[call as usize];
            let named = span.failed && span.what > NO_NAME && request != NONE;
            if !named || !self.is_unanswered(call) || self.is_served(call) || self.failed_call(request).is_some() {
                return None;
            }
            let begins = begins.entry(parent).or_insert_with(|| {
                let siblings = if parent == NONE { &[][..] } else { self.below(parent) };
                let calls = siblings.iter().filter(|other| is_call(**other));
                let mut begins: Vec<u64> = calls.map(|other| self.nodes[*other as usize].start).collect();
                begins.sort_unstable();
                begins
            });
            let next = begins.partition_point(|begin| *begin < end || *begin <= start);
            let until = begins.get(next).copied().unwrap_or(end);
            Some((request, call, until.saturating_sub(start)))
        });
        // The order of arrival is not to show.
        let mut found: Vec<(u32, u32, u64)> = in_vain.collect();
        found.sort_unstable_by_key(|(_, call, _)| self.nodes[*call as usize].span.id);
        found
    }

    /// Says whether whoever was called tells of it.
    fn is_served(&self, call: u32) -> bool {
        self.below(call).iter().any(|child| self.request_of(*child) == *child)
    }
}
