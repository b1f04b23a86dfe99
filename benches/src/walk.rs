//! The least that reading a request can cost: every field of every message found, nothing kept.
//!
//! It takes lengths at their word and stops at the first that does not fit; it is a measure, not a reader.

/// A message by its fields that are messages again.
pub struct Message(&'static [(u64, &'static Message)]);

/// `ExportTraceServiceRequest`.
pub const TRACES: Message = Message(&[(1, &RESOURCE_SPANS)]);
/// `ExportLogsServiceRequest`.
pub const LOGS: Message = Message(&[(1, &RESOURCE_LOGS)]);
/// `ExportMetricsServiceRequest`.
pub const METRICS: Message = Message(&[(1, &RESOURCE_METRICS)]);

const RESOURCE_SPANS: Message = Message(&[(1, &RESOURCE), (2, &SCOPE_SPANS)]);
const RESOURCE_LOGS: Message = Message(&[(1, &RESOURCE), (2, &SCOPE_LOGS)]);
const RESOURCE_METRICS: Message = Message(&[(1, &RESOURCE), (2, &SCOPE_METRICS)]);
const RESOURCE: Message = Message(&[(1, &KEY_VALUE)]);
const SCOPE_SPANS: Message = Message(&[(1, &SCOPE), (2, &SPAN)]);
const SCOPE_LOGS: Message = Message(&[(1, &SCOPE), (2, &LOG)]);
const SCOPE_METRICS: Message = Message(&[(1, &SCOPE), (2, &METRIC)]);
const SCOPE: Message = Message(&[(3, &KEY_VALUE)]);
const SPAN: Message = Message(&[(9, &KEY_VALUE), (15, &LEAF)]);
const LOG: Message = Message(&[(5, &LEAF), (6, &KEY_VALUE)]);
const METRIC: Message = Message(&[(5, &NUMBERS), (7, &NUMBERS), (9, &HISTOGRAMS), (10, &EXPONENTIALS), (11, &NUMBERS)]);
const NUMBERS: Message = Message(&[(1, &Message(&[(7, &KEY_VALUE)]))]);
const HISTOGRAMS: Message = Message(&[(1, &Message(&[(9, &KEY_VALUE)]))]);
const EXPONENTIALS: Message = Message(&[(1, &Message(&[(1, &KEY_VALUE), (8, &LEAF)]))]);
const KEY_VALUE: Message = Message(&[(2, &LEAF)]);
const LEAF: Message = Message(&[]);

/// Counts the fields of `bytes`, read as `message`.
pub fn fields(message: &Message, mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(tag) = varint(&mut bytes) {
        count += 1;
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes);
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes).unwrap_or(0) as usize,
            _ => 4,
        };
        let Some((field, rest)) = bytes.split_at_checked(length) else {
            return count;
        };
        bytes = rest;
        if tag & 7 == 2
            && let Some((_, inner)) = message.0.iter().find(|(number, _)| *number == tag >> 3)
        {
            count += fields(inner, field);
        }
    }
    count
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{KINDS, RECORDS};

    #[test]
    fn every_field_of_a_request_of_spans_is_found() {
        let request = &KINDS[0].requests(1)[0];
        // Seven of its own, a parent but for roots, a status, and ten attributes: each a field with a key, a value and what is in it.
        let each = fields(&TRACES, request) / RECORDS as u64;
        assert!((47..=49).contains(&each), "{each} fields a span");
    }
}
