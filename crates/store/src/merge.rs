//! Which small segments become one, and how.
//!
//! A quiet server seals a few rows a minute: thousands of files a day, each with a footer to read. Neighbours of one day are
//! merged in steps, so that a row is written again a few times at most, and the memory a merge takes is bounded by [`ROWS`].
//!
//! *Invariants.* Rows, frames and the latest time of receipt are those of the inputs. Inputs and output change places in one
//! catalog transaction and one swap; a crash before it leaves a file that nothing names, one after it files that nothing names.

use std::ops::Range;

use arrow::array::RecordBatch;
use plimsoll_catalog::{SegmentChange, SegmentRecord};
use plimsoll_model::SegmentId;
use plimsoll_otlp::Table;

use crate::error::StoreError;
use crate::flush::{SegmentCount, segment_id, write_segment};
use crate::reading::read;
use crate::shared::Shared;

/// Rows of a merged segment, at most: what a merge holds in memory.
const ROWS: u64 = 65_536;
/// A segment of more rows is left as it is.
const SMALL: u64 = ROWS / 4;
/// So many neighbours make a merge worth its while.
const NEIGHBOURS: usize = 8;

/// A segment as far as the plan is concerned: its rows, and the day it was sealed on.
pub(crate) type Candidate = (u64, u64);

/// Returns the first run of neighbours to merge.
pub(crate) fn plan(segments: &[Candidate]) -> Option<Range<usize>> {
    let mut start = 0;
    let mut rows = 0;
    for (at, (size, day)) in segments.iter().enumerate() {
        let fits = *size <= SMALL && rows + size <= ROWS && (at == start || segments[start].1 == *day);
        if !fits {
            if at - start >= NEIGHBOURS {
                return Some(start..at);
            }
            (start, rows) = if *size <= SMALL { (at, 0) } else { (at + 1, 0) };
        }
        if *size <= SMALL {
            rows += size;
        }
    }
    (segments.len() - start.min(segments.len()) >= NEIGHBOURS).then_some(start..segments.len())
}

/// Returns what a plan needs to know of a segment.
pub(crate) fn candidate(record: &SegmentRecord) -> Candidate {
    (record.rows, record.created_at.0 / 86_400_000_000_000)
}

/// Writes the merged segment; it becomes part of the store with the change that is returned.
///
/// # Errors
/// The segment that could not be read, and why; or the output could not be written.
pub(crate) fn merge(
    shared: &Shared,
    table: Table,
    inputs: &[&SegmentRecord],
    count: &mut SegmentCount,
) -> Result<SegmentChange, (Option<SegmentId>, StoreError)> {
    let mut batches = Vec::new();
    for record in inputs {
        read(shared, record, &mut batches).map_err(|problem| (Some(record.id.clone()), problem))?;
    }
    let first = inputs.iter().map(|record| record.frames.0).min().unwrap_or_default();
    let last = inputs.iter().map(|record| record.frames.1).max().unwrap_or_default();
    let replaces: Vec<&str> = inputs.iter().map(|record| record.id.as_str()).collect();
    let id = segment_id(shared, table, last, count);
    let rows: Vec<&RecordBatch> = batches.iter().collect();
    let facts = [("plimsoll.replaces", replaces.join(","))];
    let received = inputs.iter().map(|record| record.received_to).max().unwrap_or_default();
    let merged =
        write_segment(shared, table, id, &rows, (first, last), received, &facts).map_err(|problem| (None, problem))?;
    Ok(SegmentChange {
        add: vec![merged],
        remove: inputs.iter().map(|record| record.id.clone()).collect(),
        checkpoint: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_of_one_day_are_merged_and_large_ones_left() {
        assert_eq!(plan(&[(10, 1); NEIGHBOURS - 1]), None);
        assert_eq!(plan(&[(10, 1); NEIGHBOURS + 3]), Some(0..NEIGHBOURS + 3));
        assert_eq!(plan(&[(SMALL + 1, 1); 50]), None);
        let days: Vec<Candidate> = (0..14).map(|n| (10, n / 7)).collect();
        assert_eq!(plan(&days), None, "seven a day are left");
    }

    proptest! {
        #[test]
        fn a_plan_is_bounded_and_every_run_that_is_long_enough_is_found(
            segments in prop::collection::vec((0..SMALL * 2, 0_u64..3), 0..60)
        ) {
            let fits = |run: &[Candidate]| {
                run.iter().all(|s| s.0 <= SMALL && s.1 == run[0].1) && run.iter().map(|s| s.0).sum::<u64>() <= ROWS
            };
            match plan(&segments) {
                Some(run) => {
                    prop_assert!(run.len() >= NEIGHBOURS && run.end <= segments.len());
                    prop_assert!(fits(&segments[run]));
                }
                // Greedy runs begin where the last one had to end, so a run of twice the length cannot be missed.
                None => prop_assert!(!segments.windows(NEIGHBOURS * 2).any(fits)),
            }
        }
    }
}
