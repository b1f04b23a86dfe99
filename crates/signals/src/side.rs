//! Cells of the aggregates beside operations: one map a sort, bounded, with what awaits a checkpoint kept apart.
//!
//! *Cost.* One hash of a small key for each row, or for each run of rows that share it.

use std::collections::BTreeMap;
use std::hash::Hash;

use plimsoll_model::aggregates::{ActionCell, HistoryCell, PathCell};
use plimsoll_model::log::LogCell;
use plimsoll_model::metric::MetricCell;
use plimsoll_model::presence::PresenceCell;

use crate::cell::Cell;
use crate::intern::FixedMap;

/// Something that adds up.
pub(crate) trait Additive: Default + Clone {
    fn add(&mut self, other: &Self);
}

macro_rules! additive {
    ($($cell:ty),*) => {$(
        impl Additive for $cell {
            fn add(&mut self, other: &Self) {
                self.merge(other);
            }
        }
    )*};
}
additive!(PresenceCell, LogCell, MetricCell, ActionCell, PathCell, HistoryCell, Cell);

/// One series: what awaits a checkpoint, ascending, and what is looked back on.
#[derive(Default)]
pub(crate) struct SideSeries<C> {
    pub(crate) pending: Vec<(u64, C)>,
    pub(crate) rolling: BTreeMap<u64, C>,
}

/// How much one sort may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SideLimits {
    pub(crate) series: usize,
    pub(crate) cells: usize,
}

/// All series of one sort.
pub(crate) struct Side<K, C> {
    series: FixedMap<K, SideSeries<C>>,
    pending: usize,
    rolling: usize,
}

impl<K, C> Default for Side<K, C> {
    fn default() -> Self {
        Self { series: FixedMap::default(), pending: 0, rolling: 0 }
    }
}

impl<K: Hash + Eq + Clone, C: Additive> Side<K, C> {
    pub(crate) fn cells(&self) -> usize {
        self.pending + self.rolling
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.series.contains_key(key)
    }

    /// Says whether another series would still fit.
    pub(crate) fn has_room(&self, limits: SideLimits) -> bool {
        self.series.len() < limits.series
    }

    /// Returns the pending cell of a bucket; `None` where it would be new and there is no room.
    pub(crate) fn cell(&mut self, key: &K, bucket: u64, limits: SideLimits) -> Option<&mut C> {
        if !self.series.contains_key(key) {
            if self.series.len() >= limits.series {
                return None;
            }
            self.series.insert(key.clone(), SideSeries { pending: Vec::new(), rolling: BTreeMap::new() });
        }
        let cells = &mut self.series.get_mut(key)?.pending;
        let at = match cells.last() {
            Some((last, _)) if *last == bucket => cells.len() - 1,
            _ => match cells.binary_search_by_key(&bucket, |(b, _)| *b) {
                Ok(at) => at,
                Err(_) if self.pending >= limits.cells => return None,
                Err(at) => {
                    self.pending += 1;
                    cells.insert(at, (bucket, C::default()));
                    at
                }
            },
        };
        Some(&mut cells[at].1)
    }

    /// Adds to what is looked back on, without anything becoming pending.
    pub(crate) fn settle(&mut self, key: K, bucket: u64, cell: &C) {
        let rolling = &mut self
            .series
            .entry(key)
            .or_insert_with(|| SideSeries { pending: Vec::new(), rolling: BTreeMap::new() })
            .rolling;
        match rolling.get_mut(&bucket) {
            Some(mine) => mine.add(cell),
            None => {
                self.rolling += 1;
                rolling.insert(bucket, cell.clone());
            }
        }
    }

    /// Moves everything pending to what is looked back on.
    pub(crate) fn settle_pending(&mut self) {
        for series in self.series.values_mut() {
            for (bucket, cell) in series.pending.drain(..) {
                self.pending -= 1;
                match series.rolling.get_mut(&bucket) {
                    Some(mine) => mine.add(&cell),
                    None => {
                        self.rolling += 1;
                        series.rolling.insert(bucket, cell);
                    }
                }
            }
        }
    }

    pub(crate) fn each_pending(&self) -> impl Iterator<Item = (&K, u64, &C)> {
        self.series
            .iter()
            .flat_map(|(key, series)| series.pending.iter().map(move |(bucket, cell)| (key, *bucket, cell)))
    }

    /// Calls `visit` with every cell.
    pub(crate) fn each_cell(&self, visit: &mut impl FnMut(&C)) {
        for series in self.series.values() {
            series.pending.iter().map(|(_, cell)| cell).chain(series.rolling.values()).for_each(&mut *visit);
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.series.keys()
    }

    /// Returns the series whose key fits, cells of `buckets` only, pending and settled added up. In no order.
    pub(crate) fn within(
        &self,
        buckets: &std::ops::Range<u64>,
        fits: impl Fn(&K) -> bool,
    ) -> Vec<(K, BTreeMap<u64, C>)> {
        let mut found = Vec::new();
        for (key, series) in self.series.iter().filter(|(key, _)| fits(key)) {
            let mut cells: BTreeMap<u64, C> =
                series.rolling.range(buckets.clone()).map(|(bucket, cell)| (*bucket, cell.clone())).collect();
            for (bucket, cell) in series.pending.iter().filter(|(bucket, _)| buckets.contains(bucket)) {
                cells.entry(*bucket).or_default().add(cell);
            }
            if !cells.is_empty() {
                found.push((key.clone(), cells));
            }
        }
        found
    }

    /// Drops the series whose key does not fit.
    pub(crate) fn retain(&mut self, fits: impl Fn(&K) -> bool) {
        let (pending, rolling) = (&mut self.pending, &mut self.rolling);
        self.series.retain(|key, series| {
            let fits = fits(key);
            if !fits {
                *pending -= series.pending.len();
                *rolling -= series.rolling.len();
            }
            fits
        });
    }

    /// Drops settled cells of buckets before `bucket`, and series that have none left; returns how many cells went.
    pub(crate) fn retire(&mut self, bucket: u64) -> usize {
        let before = self.rolling;
        let rolling = &mut self.rolling;
        self.series.retain(|_, series| {
            while series.rolling.first_key_value().is_some_and(|(first, _)| *first < bucket) {
                series.rolling.pop_first();
                *rolling -= 1;
            }
            !(series.rolling.is_empty() && series.pending.is_empty())
        });
        before - self.rolling
    }

    /// Drops the oldest buckets until at most `max` settled cells are left; returns how many cells went.
    pub(crate) fn shrink(&mut self, max: usize) -> usize {
        if self.rolling <= max {
            return 0;
        }
        // A tenth more than needed, so that this is rare.
        let mut excess = self.rolling - (max - max / 10);
        let mut by_bucket: BTreeMap<u64, usize> = BTreeMap::new();
        for bucket in self.series.values().flat_map(|series| series.rolling.keys()) {
            *by_bucket.entry(*bucket).or_default() += 1;
        }
        let mut cut = 0;
        for (bucket, cells) in by_bucket {
            cut = bucket + 1;
            excess = excess.saturating_sub(cells);
            if excess == 0 {
                break;
            }
        }
        self.retire(cut)
    }
}
