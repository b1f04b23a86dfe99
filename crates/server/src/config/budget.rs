//! How `memory_limit` is divided: every part is declared, and the sum is checked before anything starts.
//!
//! *Invariants.* `process + in_flight + tail + encoder + signals + query <= memory_limit`. Parts that are not set share what the
//! limit leaves in fixed proportions; parts that are set are kept, or the configuration is refused with the sum.

use super::reader::Section;
use super::units::{SIZE, format_size, parse_size};

/// Bytes that each part of the process may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The whole: `memory_limit`.
    pub limit: u64,
    /// Code, stacks, connections, the catalog's cache: what an idle process needs.
    pub process: u64,
    /// Requests between the first byte and the ack.
    pub in_flight: u64,
    /// Rows that are not in segments yet.
    pub tail: u64,
    /// Sorting and encoding of one segment.
    pub encoder: u64,
    /// Aggregates and open traces.
    pub signals: u64,
    /// All queries together.
    pub query: u64,
}

const PROCESS: u64 = 64 << 20;
const LIMIT: u64 = 512 << 20;
const LIMIT_MIN: u64 = 192 << 20;
/// Shares of what `process` leaves, in percent: in-flight, tail, encoder, signals, query.
const SHARES: [u64; 5] = [20, 30, 15, 15, 20];
const NAMES: [&str; 5] = ["in_flight", "tail", "encoder", "signals", "query"];

pub(super) fn read(root: &mut Section<'_>, problems: &mut Vec<String>) -> MemoryBudget {
    let mut limit = root.take("memory_limit", SIZE, parse_size, problems).unwrap_or(LIMIT);
    if limit < LIMIT_MIN {
        problems.push(format!("`memory_limit` is {}, the least is {}", format_size(limit), format_size(LIMIT_MIN)));
        limit = LIMIT_MIN;
    }
    let mut section = root.section("memory", problems);
    let set = NAMES.map(|name| section.take(name, SIZE, parse_size, problems));
    section.finish(problems);

    let spoken_for: u64 = set.iter().flatten().sum();
    let open: u64 = SHARES.iter().zip(&set).filter(|(_, set)| set.is_none()).map(|(share, _)| share).sum();
    let left = limit.saturating_sub(PROCESS + spoken_for);
    let mut parts = [0; 5];
    for i in 0..parts.len() {
        parts[i] = set[i].unwrap_or_else(|| left * SHARES[i] / open.max(1));
    }
    let sum = PROCESS + parts.iter().sum::<u64>();
    if sum > limit {
        problems.push(format!(
            "the parts of `memory` and the process itself ({}) add up to {}, more than `memory_limit` ({}): lower a part or raise the limit",
            format_size(PROCESS),
            format_size(sum),
            format_size(limit),
        ));
    }
    for (name, part) in NAMES.iter().zip(parts) {
        if part < 8 << 20 {
            problems.push(format!("`memory.{name}` is {}, the least is 8MiB", format_size(part)));
        }
    }
    let [in_flight, tail, encoder, signals, query] = parts;
    MemoryBudget { limit, process: PROCESS, in_flight, tail, encoder, signals, query }
}
