//! Cells of the aggregates beside operations: one table a sort, bounded, with what awaits a checkpoint kept apart.
//!
//! *Invariants.* A series keeps its place until it is dropped, and [`Side::epoch`] grows whenever one is: whoever remembers
//! places forgets them then.
//!
//! *Cost.* One hash of a small key for each run of rows that share it; none for whoever remembers the place.

use std::collections::BTreeMap;
use std::hash::Hash;

use plimsoll_model::aggregates::{ActionCell, HistoryCell, MetricHistoryCell};
use plimsoll_model::log::LogCell;
use plimsoll_model::presence::PresenceCell;

use crate::cell::Cell;
use crate::intern::FixedMap;
use crate::need::{Cuts, Need, RANKS};
use crate::paths::PathSums;
use crate::points::PointCell;

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
additive!(PresenceCell, LogCell, PointCell, ActionCell, PathSums, HistoryCell, MetricHistoryCell, Cell);

/// One series: what awaits a checkpoint, ascending, and what is looked back on.
pub(crate) struct SideSeries<C> {
    pub(crate) pending: Vec<(u64, C)>,
    pub(crate) rolling: BTreeMap<u64, C>,
}

impl<C> Default for SideSeries<C> {
    fn default() -> Self {
        Self { pending: Vec::new(), rolling: BTreeMap::new() }
    }
}

/// Which cells become rows.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    /// Those that await a checkpoint.
    Pending,
    /// All of some services, from a bucket on.
    Since {
        /// Number of the first bucket.
        bucket: u64,
        /// Numbers of the services.
        services: &'a [u32],
    },
}

impl Part<'_> {
    /// Says whether cells of a service belong to it.
    pub(crate) fn wants(self, service: u32) -> bool {
        match self {
            Self::Pending => true,
            Self::Since { services, .. } => services.contains(&service),
        }
    }
}

/// How much one sort may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SideLimits {
    pub(crate) series: usize,
    pub(crate) cells: usize,
}

/// All series of one sort.
pub(crate) struct Side<K, C> {
    ids: FixedMap<K, u32>,
    /// Free places have no key.
    places: Vec<(Option<K>, SideSeries<C>)>,
    free: Vec<u32>,
    epoch: u64,
    pending: usize,
    rolling: usize,
}

impl<K, C> Default for Side<K, C> {
    fn default() -> Self {
        Self { ids: FixedMap::default(), places: Vec::new(), free: Vec::new(), epoch: 0, pending: 0, rolling: 0 }
    }
}

impl<K: Hash + Eq + Clone, C: Additive> Side<K, C> {
    pub(crate) fn cells(&self) -> usize {
        self.pending + self.rolling
    }

    /// Grows whenever a series is dropped.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.ids.contains_key(key)
    }

    /// Says whether another series would still fit.
    pub(crate) fn has_room(&self, limits: SideLimits) -> bool {
        self.ids.len() < limits.series
    }

    /// Returns the place of a series; `None` where it would be new and there is no room.
    pub(crate) fn place(&mut self, key: &K, limits: SideLimits) -> Option<u32> {
        match self.ids.get(key) {
            Some(place) => Some(*place),
            None if !self.has_room(limits) => None,
            None => Some(self.make(key.clone())),
        }
    }

    fn make(&mut self, key: K) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((None, SideSeries::default()));
            u32::try_from(self.places.len() - 1).expect("bounds are far below four billion")
        });
        self.places[place as usize].0 = Some(key.clone());
        self.ids.insert(key, place);
        place
    }

    /// Returns the pending cell of a bucket, of the series at `place`; `None` where it would be new and there is no room.
    pub(crate) fn cell_at(&mut self, place: u32, bucket: u64, limits: SideLimits) -> Option<&mut C> {
        let cells = &mut self.places[place as usize].1.pending;
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

    /// Returns the pending cell of a bucket; `None` where it would be new and there is no room.
    pub(crate) fn cell(&mut self, key: &K, bucket: u64, limits: SideLimits) -> Option<&mut C> {
        let place = self.place(key, limits)?;
        self.cell_at(place, bucket, limits)
    }

    /// Adds to what is looked back on, without anything becoming pending.
    pub(crate) fn settle(&mut self, key: K, bucket: u64, cell: &C) {
        let place = self.ids.get(&key).copied().unwrap_or_else(|| self.make(key));
        let rolling = &mut self.places[place as usize].1.rolling;
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
        for (_, series) in &mut self.places {
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

    fn each(&self) -> impl Iterator<Item = (&K, &SideSeries<C>)> {
        self.places.iter().filter_map(|(key, series)| Some((key.as_ref()?, series)))
    }

    /// Returns the cells of a part, those that await a checkpoint and those that do not apart.
    pub(crate) fn cells_of(&self, part: Part<'_>) -> impl Iterator<Item = (&K, u64, &C)> {
        let (from, settled) = match part {
            Part::Pending => (0, false),
            Part::Since { bucket, .. } => (bucket, true),
        };
        self.each().flat_map(move |(key, series)| {
            let pending = series.pending.iter().map(|(bucket, cell)| (*bucket, cell)).filter(move |(b, _)| *b >= from);
            let rolling = settled.then(|| series.rolling.range(from..)).into_iter().flatten();
            pending.chain(rolling.map(|(bucket, cell)| (*bucket, cell))).map(move |(bucket, cell)| (key, bucket, cell))
        })
    }

    /// Calls `visit` with every cell.
    pub(crate) fn each_cell(&self, visit: &mut impl FnMut(&C)) {
        for (_, series) in self.each() {
            series.pending.iter().map(|(_, cell)| cell).chain(series.rolling.values()).for_each(&mut *visit);
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.ids.keys()
    }

    /// Returns the series whose key fits, cells of `buckets` only, pending and settled added up. In no order.
    pub(crate) fn within(
        &self,
        buckets: &std::ops::Range<u64>,
        fits: impl Fn(&K) -> bool,
    ) -> Vec<(K, BTreeMap<u64, C>)> {
        let mut found = Vec::new();
        for (key, series) in self.each().filter(|(key, _)| fits(key)) {
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

    /// Drops the series for which `fits` says no, of its key and of what it holds.
    fn drop_unless(&mut self, fits: impl Fn(&K, &SideSeries<C>) -> bool) {
        for (place, (key, series)) in self.places.iter_mut().enumerate() {
            if key.as_ref().is_none_or(|key| fits(key, series)) {
                continue;
            }
            self.pending -= series.pending.len();
            self.rolling -= series.rolling.len();
            self.epoch += 1;
            self.free.push(place as u32);
            *series = SideSeries::default();
            if let Some(key) = key.take() {
                self.ids.remove(&key);
            }
        }
    }

    /// Drops the series whose key does not fit.
    pub(crate) fn retain(&mut self, fits: impl Fn(&K) -> bool) {
        self.drop_unless(|key, _| fits(key));
    }

    /// Drops settled cells of each series before the bucket that `floor` tells, and series that have none left; returns how
    /// many cells went.
    pub(crate) fn retire(&mut self, floor: impl Fn(&K) -> u64) -> usize {
        let before = self.rolling;
        for (key, series) in &mut self.places {
            let Some(key) = key.as_ref().filter(|_| !series.rolling.is_empty()) else { continue };
            let floor = floor(key);
            while series.rolling.first_key_value().is_some_and(|(first, _)| *first < floor) {
                series.rolling.pop_first();
                self.rolling -= 1;
            }
        }
        self.drop_empty();
        before - self.rolling
    }

    fn drop_empty(&mut self) {
        self.drop_unless(|_, series| !(series.rolling.is_empty() && series.pending.is_empty()));
    }

    /// Drops what is needed least, and of that the oldest, until at most `max` settled cells are left; returns how many went.
    pub(crate) fn shrink(&mut self, max: usize, need: impl Fn(&K) -> Need) -> usize {
        if self.rolling <= max {
            return 0;
        }
        let mut counted: [BTreeMap<u64, usize>; RANKS] = Default::default();
        for (key, series) in self.each().filter(|(_, series)| !series.rolling.is_empty()) {
            let need = need(key);
            for bucket in series.rolling.keys() {
                *counted[need.rank(*bucket)].entry(*bucket).or_default() += 1;
            }
        }
        // A tenth more than needed, so that this is rare.
        let cuts = Cuts::of(counted, self.rolling - (max - max / 10));
        let before = self.rolling;
        for (key, series) in &mut self.places {
            let Some(key) = key.as_ref().filter(|_| !series.rolling.is_empty()) else { continue };
            let need = need(key);
            let held = series.rolling.len();
            series.rolling.retain(|bucket, _| !cuts.take(need, *bucket));
            self.rolling -= held - series.rolling.len();
        }
        self.drop_empty();
        before - self.rolling
    }
}
