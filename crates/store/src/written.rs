//! How much of the tail is written already, into segments that nobody can see yet.
//!
//! A flush takes its rows out of the tail all at once when its segments are shown. Whoever goes by what the tail weighs would have
//! to hold back while a flush runs and could let go when it ends, again and again. What is left to be written falls evenly: each
//! column counts for the time that it took the last time, since a few take nearly all of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_otlp::Table;

/// How much the last time weighs in what a column is taken to cost.
const LATEST: f64 = 0.5;

/// A column of fewer rows costs what such a column does whatever is in it.
const ROWS_MIN: f64 = 4_096.0;

/// What everybody may know of it.
#[derive(Debug, Default)]
pub(crate) struct Written(AtomicU64);

// Relaxed: nothing but a pace hangs on it.
impl Written {
    /// Returns what the written part of the rows weighs.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Says that the rows have left the tail, or that they will be written anew.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What columns cost, for the thread that flushes.
#[derive(Debug, Default)]
pub(crate) struct Costs(HashMap<(Table, usize), f64>);

impl Costs {
    /// Returns the nanoseconds that column `at` takes a row; the same for all that were never written.
    fn of(&self, table: Table, at: usize) -> f64 {
        self.0.get(&(table, at)).copied().unwrap_or(1.0)
    }

    /// Begins a flush of rows that weigh `bytes`, so many of each table.
    pub(crate) fn begin<'a>(
        &'a mut self,
        written: &'a Written,
        bytes: u64,
        tables: impl Iterator<Item = (Table, usize)>,
    ) -> Progress<'a> {
        let table = |(table, rows): (Table, usize)| {
            let columns = 0..table.schema().fields().len();
            columns.map(|at| self.of(table, at)).sum::<f64>() * rows as f64
        };
        let all = tables.map(table).sum();
        written.end();
        Progress { costs: self, written, bytes, all, done: 0.0 }
    }
}

/// A flush under way.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    costs: &'a mut Costs,
    written: &'a Written,
    bytes: u64,
    all: f64,
    done: f64,
}

impl Progress<'_> {
    /// Says that `rows` of column `at` are written, which took so long.
    pub(crate) fn column(&mut self, table: Table, at: usize, rows: usize, took: Duration) {
        self.advance(table, at, rows.max(1) as f64, took.as_nanos() as f64);
    }

    fn advance(&mut self, table: Table, at: usize, rows: f64, took_ns: f64) {
        let expected = self.costs.of(table, at);
        self.done += expected * rows;
        let latest = took_ns / rows.max(ROWS_MIN);
        let cost = self.costs.0.entry((table, at)).or_insert(latest);
        *cost += (latest - *cost) * LATEST;
        let share = (self.done / self.all.max(f64::MIN_POSITIVE)).min(1.0);
        self.written.0.store((self.bytes as f64 * share) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_for_the_time_they_took_before() {
        let (mut costs, written) = (Costs::default(), Written::default());
        let columns = Table::Signals.schema().fields().len();
        let mut flush = |took: &dyn Fn(usize) -> f64| {
            let mut progress = costs.begin(&written, 1_000, [(Table::Signals, 10_000)].into_iter());
            let grown: Vec<u64> = (0..columns)
                .map(|at| {
                    progress.advance(Table::Signals, at, 10_000.0, took(at));
                    written.bytes()
                })
                .collect();
            grown
        };
        let last_is_slow = |at: usize| if at + 1 == columns { 90_000.0 } else { 10_000.0 / (columns - 1) as f64 };
        let unknown = flush(&last_is_slow);
        assert!(unknown[columns - 2] > 800, "all count the same: {unknown:?}");
        let known = flush(&last_is_slow);
        assert!((95..=100).contains(&known[columns - 2]), "{known:?}");
        assert!((999..=1_000).contains(&known[columns - 1]), "{known:?}");
        written.end();
        assert_eq!(written.bytes(), 0);
    }
}
