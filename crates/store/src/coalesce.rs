//! Which small batches of the tail become one.
//!
//! A scan pays for every batch, and a server with many small clients publishes thousands a second. Neighbours of less than
//! [`LARGE`] rows become one when there are [`BATCHES`] of them or they have [`ROWS`] rows, so that a row is copied once at the most. What
//! comes in batches of a thousand rows stays as it is: copying it would cost more than the scans of a tail that lives for seconds.
//!
//! *Cost.* About [`AT_ONCE`] rows are in memory twice at a time.

use std::ops::Range;
use std::sync::Arc;

use crate::error::StoreError;
use crate::fold::Published;
use crate::gather::{concat_batches, memory_size};
use crate::shared::Shared;
use crate::tail::{TailBatch, TailList};

const ROWS: usize = 8_192;
const BATCHES: usize = 64;
/// A batch of at least so many rows is left as it is.
const LARGE: usize = 512;
/// So many rows are copied before they take the place of their batches.
const AT_ONCE: usize = 65_536;

/// Returns the runs of adjacent batches to merge. `sizes` are the rows of each batch.
pub(crate) fn plan(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut rows = 0;
    for (at, size) in sizes.iter().enumerate() {
        if *size >= LARGE {
            if at - start >= BATCHES / 2 {
                runs.push(start..at);
            }
            (start, rows) = (at + 1, 0);
            continue;
        }
        rows += size;
        if rows >= ROWS || at + 1 - start >= BATCHES {
            runs.push(start..at + 1);
            (start, rows) = (at + 1, 0);
        }
    }
    runs
}

/// Merges small batches of every tail. Only what is folded is touched, and only the maintenance thread takes batches away, so
/// what was planned is still there when it is swapped.
pub(crate) fn coalesce(shared: &Shared) -> Result<(), StoreError> {
    let (folded, cuts) = shared.folding.cuts();
    let view = shared.view.load_full();
    for (table, tail) in view.tails() {
        let batches: Vec<&Arc<TailBatch>> = tail.iter().take_while(|batch| batch.rows.last <= folded).collect();
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.rows.batch.num_rows()).collect();
        // A batch across a cut would be in neither part of the flush.
        let mut runs = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([folded]) {
            let part = batches[from..].iter().take_while(|batch| batch.rows.last <= cut).count();
            let planned = plan(&sizes[from..from + part]).into_iter();
            runs.extend(planned.map(|run| run.start + from..run.end + from));
            from += part;
        }
        // From the last to the first, so that what is yet to be merged stays where it was.
        while !runs.is_empty() {
            let mut merged = Vec::new();
            let mut rows = 0;
            while rows < AT_ONCE
                && let Some(run) = runs.pop()
            {
                rows += sizes[run.clone()].iter().sum::<usize>();
                merged.push((run.clone(), merge(&batches[run])?));
            }
            shared.change(|view| {
                let Some(tail) = view.tail_mut(table) else { return };
                *tail = replaced(tail, merged);
            });
        }
    }
    Ok(())
}

/// Returns the tail with some runs of its batches each replaced by one batch; the runs come from the last to the first.
fn replaced(tail: &TailList, mut merged: Vec<(Range<usize>, Arc<TailBatch>)>) -> TailList {
    let batches = tail.iter().enumerate().filter_map(|(at, batch)| match merged.last() {
        Some((run, _)) if at + 1 == run.end => merged.pop().map(|(_, batch)| batch),
        Some((run, _)) if run.contains(&at) => None,
        _ => Some(Arc::clone(batch)),
    });
    batches.collect()
}

fn merge(run: &[&Arc<TailBatch>]) -> Result<Arc<TailBatch>, StoreError> {
    let (first, last) = (run[0], run[run.len() - 1]);
    let rows: Vec<_> = run.iter().map(|batch| &batch.rows.batch).collect();
    let batch = concat_batches(&first.rows.batch.schema(), &rows)
        .map_err(|e| StoreError::Segment { path: "tail".to_owned(), problem: e.to_string() })?;
    Ok(Arc::new(TailBatch {
        bytes: memory_size(&batch),
        at: first.at,
        rows: Published { sequence: first.rows.sequence, last: last.rows.last, signal: first.rows.signal, batch },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_few_small_batches_are_left_until_there_are_more() {
        assert!(plan(&[10; BATCHES - 1]).is_empty());
        assert_eq!(plan(&[10; BATCHES]).first(), Some(&(0..BATCHES)));
        assert!(plan(&[LARGE; 100]).is_empty());
        assert_eq!(plan(&[LARGE - 1; 40]).first(), Some(&(0..17)), "some thousand rows are enough");
    }

    proptest! {
        #[test]
        fn runs_ascend_and_hold_small_batches_only(sizes in prop::collection::vec(0_usize..800, 0..300)) {
            let mut end = 0;
            for run in plan(&sizes) {
                prop_assert!(run.start >= end && run.len() >= 2 && run.end <= sizes.len());
                prop_assert!(sizes[run.clone()].iter().all(|size| *size < LARGE));
                prop_assert!(sizes[run.start..run.end - 1].iter().sum::<usize>() < ROWS);
                end = run.end;
            }
        }
    }
}
