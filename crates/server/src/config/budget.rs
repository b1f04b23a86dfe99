//! How `memory_limit` is divided: every part is declared, and the sum is checked before anything starts.
//!
//! *Invariants.* `process + connections + retries + in_flight + tail + encoder + signals + verdicts + query <= memory_limit`. Parts that are not set share
//! what the limit leaves in fixed proportions; parts that are set are kept, or the configuration is refused with the sum.

use super::reader::Section;
use super::units::{SIZE, format_size, parse_size};

/// Bytes that each part of the process may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The whole: `memory_limit`.
    pub limit: u64,
    /// Code, stacks, connections, the catalog's cache: what an idle process needs.
    pub process: u64,
    /// The least that each connection may have sent before anyone read it.
    pub connections: u64,
    /// Fingerprints of requests that are stored already; zero where repeats are not told.
    pub retries: u64,
    /// Requests between the first byte and the ack; a quarter of it is what connections share beyond their least.
    pub in_flight: u64,
    /// Rows that are not in segments yet.
    pub tail: u64,
    /// For sorting and encoding one part of a flush, which has rows of as many bytes; and for one column of a merge.
    pub encoder: u64,
    /// Aggregates and open traces.
    pub signals: u64,
    /// What is kept of deploys between two looks at them.
    pub verdicts: u64,
    /// All queries together.
    pub query: u64,
}

impl MemoryBudget {
    /// Returns what requests may hold of `in_flight`.
    pub fn requests(&self) -> u64 {
        self.in_flight - self.transport()
    }

    /// Returns what connections share of `in_flight` beyond their least.
    pub fn transport(&self) -> u64 {
        self.in_flight / 4
    }
}

const PROCESS: u64 = 64 << 20;
const LIMIT: u64 = 512 << 20;
const LIMIT_MIN: u64 = 224 << 20;
/// What a part cannot do with less of; what is kept of deploys can be nothing.
const PART_MIN: u64 = 8 << 20;
const LEAST: [u64; 6] = [PART_MIN, PART_MIN, PART_MIN, PART_MIN, 0, PART_MIN];
/// What a connection's window takes at the least.
const CONNECTION: u64 = 64 << 10;
/// What fingerprints may take where nothing else is said: some 220,000 of them.
const RETRIES: u64 = 10 << 20;
/// Some 20,000 of them.
const RETRIES_MIN: u64 = 1 << 20;
/// Shares of what process, connections and fingerprints leave, in percent: in-flight, tail, encoder, signals, verdicts, query.
const SHARES: [u64; 6] = [24, 29, 10, 15, 4, 18];
const NAMES: [&str; 6] = ["in_flight", "tail", "encoder", "signals", "verdicts", "query"];

pub(super) fn read(
    root: &mut Section<'_>,
    connections_max: usize,
    retries_told: bool,
    problems: &mut Vec<String>,
) -> MemoryBudget {
    let connections = CONNECTION.saturating_mul(connections_max as u64);
    let mut limit = root.take("memory_limit", SIZE, parse_size, problems).unwrap_or(LIMIT);
    if limit < LIMIT_MIN {
        problems.push(format!("`memory_limit` is {}, the least is {}", exactly(limit), exactly(LIMIT_MIN)));
        // The parts are checked against what is left of the default: they may be wrong too.
        limit = LIMIT;
    }
    let mut section = root.section("memory", problems);
    let retries = section.take("retries", SIZE, parse_size, problems).unwrap_or(RETRIES);
    if retries_told && retries < RETRIES_MIN {
        problems.push(format!(
            "`memory.retries` is {}, the least is {}: with less repeats would hardly be told; `ingest.retry_window: 0s` turns that off",
            exactly(retries),
            exactly(RETRIES_MIN)
        ));
    }
    let retries = if retries_told { retries } else { 0 };
    let fixed = PROCESS.saturating_add(connections).saturating_add(retries);
    let set = NAMES.map(|name| section.take(name, SIZE, parse_size, problems));
    section.finish(problems);

    let spoken_for = set.iter().flatten().fold(0, |sum: u64, part| sum.saturating_add(*part));
    let parts = shared_out(set, limit.saturating_sub(fixed.saturating_add(spoken_for)));
    let sum = parts.iter().fold(fixed, |sum, part| sum.saturating_add(*part));
    if sum > limit {
        problems.push(format!(
            "the parts of `memory`, the process itself ({}), `ingest.connections_max` and `postgres.connections_max` windows ({}) and `memory.retries` ({}) add up to {}, more than `memory_limit` ({}): lower a part or raise the limit",
            format_size(PROCESS),
            format_size(connections),
            format_size(retries),
            format_size(sum),
            format_size(limit),
        ));
    }
    for ((name, part), least) in NAMES.iter().zip(parts).zip(LEAST) {
        if part < least {
            problems.push(format!("`memory.{name}` is {}, the least is {}", exactly(part), exactly(PART_MIN)));
        }
    }
    let [in_flight, tail, encoder, signals, verdicts, query] = parts;
    MemoryBudget { limit, process: PROCESS, connections, retries, in_flight, tail, encoder, signals, verdicts, query }
}

/// Gives the parts that are not set what is `left`, by their shares. Where a share is less than a part can do with, the part gets
/// that least and the others share the rest; where even that is not left, the sum says so.
fn shared_out(set: [Option<u64>; 6], left: u64) -> [u64; 6] {
    let (mut parts, mut left) = (set, left);
    loop {
        let open: u64 = SHARES.iter().zip(&parts).filter(|(_, part)| part.is_none()).map(|(share, _)| share).sum();
        let share = |i: usize| left * SHARES[i] / open.max(1);
        let Some(small) = (0..parts.len()).find(|i| parts[*i].is_none() && share(*i) < LEAST[*i]) else {
            return std::array::from_fn(|i| parts[i].unwrap_or_else(|| share(i)));
        };
        parts[small] = Some(LEAST[small]);
        left = left.saturating_sub(LEAST[small]);
    }
}

/// Writes a size so that it reads back as the same number: beside a bound it must not look like the bound.
fn exactly(bytes: u64) -> String {
    let short = format_size(bytes);
    if parse_size(&short) == Some(bytes) { short } else { format!("{bytes}B") }
}
