//! Which small batches of the tail become one.
//!
//! A scan pays for every batch, and a busy server publishes thousands a second. Rows are copied about once on their way:
//! runs are merged when they reach [`ROWS`] rows, or [`BATCHES`] batches where those are tiny.

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
const LARGE: usize = 4_096;

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
        if at > start && (rows >= ROWS || at + 1 - start >= BATCHES) {
            runs.push(start..at + 1);
            (start, rows) = (at + 1, 0);
        }
    }
    runs
}

/// Merges small batches of every tail, each table in one swap. Only what is folded is touched, and only the maintenance
/// thread takes batches away, so what was planned is still there when it is swapped.
pub(crate) fn coalesce(shared: &Shared) -> Result<(), StoreError> {
    let folded = shared.folding.folded();
    let view = shared.view.load_full();
    for (table, tail) in view.tails() {
        let batches: Vec<&Arc<TailBatch>> = tail.iter().take_while(|batch| batch.last <= folded).collect();
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.rows.batch.num_rows()).collect();
        let runs = plan(&sizes);
        if runs.is_empty() {
            continue;
        }
        let mut merged = Vec::with_capacity(runs.len());
        for run in runs {
            merged.push((run.clone(), merge(&batches[run])?));
        }
        shared.change(|view| {
            let Some(tail) = view.tail_mut(table) else { return };
            let mut old = tail.iter().cloned().enumerate();
            let mut new: Vec<Arc<TailBatch>> = Vec::new();
            for (run, batch) in merged {
                new.extend(old.by_ref().take_while(|(at, _)| *at < run.start).map(|(_, batch)| batch));
                // `take_while` took the first batch of the run.
                old.by_ref().take(run.len() - 1).for_each(drop);
                new.push(batch);
            }
            new.extend(old.map(|(_, batch)| batch));
            *tail = new.into_iter().collect::<TailList>();
        });
    }
    Ok(())
}

fn merge(run: &[&Arc<TailBatch>]) -> Result<Arc<TailBatch>, StoreError> {
    let (first, last) = (run[0], run[run.len() - 1]);
    let rows: Vec<_> = run.iter().map(|batch| &batch.rows.batch).collect();
    let batch = concat_batches(&first.rows.batch.schema(), &rows)
        .map_err(|e| StoreError::Segment { path: "tail".to_owned(), problem: e.to_string() })?;
    Ok(Arc::new(TailBatch {
        last: last.last,
        bytes: memory_size(&batch),
        at: first.at,
        rows: Published { sequence: first.rows.sequence, signal: first.rows.signal, batch },
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
    }

    proptest! {
        #[test]
        fn runs_ascend_and_hold_small_batches_only(sizes in prop::collection::vec(0_usize..6_000, 0..300)) {
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
