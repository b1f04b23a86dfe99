//! The cells: those folded since the last checkpoint, and those the watcher looks back on.
//!
//! *Invariants.* A cell is in one place only, pending or rolling, until the same bucket is folded into again; what the
//! watcher sees is the sum of both.

use std::collections::BTreeMap;

use crate::cell::Cell;
use crate::need::{Cuts, Need, RANKS};
use crate::packed::Packed;

/// The cells of one series, by number of the bucket.
#[derive(Default)]
pub(crate) struct SeriesCells {
    /// Ascending.
    pub(crate) pending: Vec<(u64, Cell)>,
    pub(crate) rolling: BTreeMap<u64, Packed>,
}

#[derive(Default)]
pub(crate) struct CellStore {
    series: Vec<SeriesCells>,
    pending: usize,
    rolling: usize,
    /// Room for the bytes of the cell at hand.
    bytes: Vec<u8>,
}

impl CellStore {
    pub(crate) fn pending_len(&self) -> usize {
        self.pending
    }

    pub(crate) fn rolling_len(&self) -> usize {
        self.rolling
    }

    pub(crate) fn series(&self, id: u32) -> Option<&SeriesCells> {
        self.series.get(id as usize)
    }

    /// Returns the pending cell of a bucket; `None` where it would be new and there is no room.
    #[inline(always)]
    pub(crate) fn pending_cell(&mut self, series: u32, bucket: u64, max: usize) -> Option<&mut Cell> {
        let at = match self.series.get(series as usize).map(|cells| cells.pending.as_slice()) {
            Some([.., (last, _)]) if *last == bucket => 1,
            // What a trace tells comes after it was idle for a while.
            Some([.., (before, _), _]) if *before == bucket => 2,
            _ => return self.find_pending(series, bucket, max),
        };
        let cells = &mut self.series[series as usize].pending;
        let at = cells.len() - at;
        Some(&mut cells[at].1)
    }

    #[inline(never)]
    fn find_pending(&mut self, series: u32, bucket: u64, max: usize) -> Option<&mut Cell> {
        if self.series.len() <= series as usize {
            self.series.resize_with(series as usize + 1, SeriesCells::default);
        }
        let cells = &mut self.series[series as usize].pending;
        let at = match cells.binary_search_by_key(&bucket, |(b, _)| *b) {
            Ok(at) => at,
            Err(_) if self.pending >= max => return None,
            Err(at) => {
                self.pending += 1;
                cells.insert(at, (bucket, Cell::default()));
                at
            }
        };
        Some(&mut cells[at].1)
    }

    /// Adds to what the watcher sees, without anything becoming pending.
    pub(crate) fn settle(&mut self, series: u32, bucket: u64, cell: &Cell) {
        if self.series.len() <= series as usize {
            self.series.resize_with(series as usize + 1, SeriesCells::default);
        }
        match self.series[series as usize].rolling.entry(bucket) {
            std::collections::btree_map::Entry::Occupied(mut mine) => {
                let mut merged = mine.get().cell();
                merged.merge(cell);
                mine.insert(Packed::of(&merged, &mut self.bytes));
            }
            std::collections::btree_map::Entry::Vacant(slot) => {
                self.rolling += 1;
                slot.insert(Packed::of(cell, &mut self.bytes));
            }
        }
    }

    /// Moves everything pending to what the watcher sees.
    pub(crate) fn settle_pending(&mut self) {
        for id in 0..self.series.len() {
            for (bucket, cell) in std::mem::take(&mut self.series[id].pending) {
                self.pending -= 1;
                self.settle(id as u32, bucket, &cell);
            }
        }
    }

    /// Returns the series that have pending cells, with these in order of their buckets.
    pub(crate) fn pending_series(&self) -> impl Iterator<Item = (u32, &[(u64, Cell)])> {
        let all = (0..).zip(self.series.iter().map(|cells| cells.pending.as_slice()));
        all.filter(|(_, pending)| !pending.is_empty())
    }

    pub(crate) fn each_pending(&self) -> impl Iterator<Item = (u32, u64, &Cell)> {
        self.series
            .iter()
            .enumerate()
            .flat_map(|(id, cells)| cells.pending.iter().map(move |(bucket, cell)| (id as u32, *bucket, cell)))
    }

    /// Calls `visit` with every cell of every series that has any.
    pub(crate) fn each_cell(&self, mut visit: impl FnMut(u32, &Cell)) {
        let mut room = Cell::default();
        for (id, cells) in (0..).zip(&self.series) {
            cells.pending.iter().for_each(|(_, cell)| visit(id, cell));
            for packed in cells.rolling.values() {
                packed.put_into(&mut room);
                visit(id, &room);
            }
        }
    }

    /// Drops the rolling cells of one series within some buckets.
    pub(crate) fn drop_within(&mut self, series: u32, buckets: &std::ops::Range<u64>) {
        let Some(cells) = self.series.get_mut(series as usize) else { return };
        let before = cells.rolling.len();
        cells.rolling.retain(|bucket, _| !buckets.contains(bucket));
        self.rolling -= before - cells.rolling.len();
    }

    /// Drops rolling cells of each series before the bucket that `floor` tells; returns how many.
    pub(crate) fn retire(&mut self, floor: impl Fn(u32) -> u64) -> usize {
        let mut gone = 0;
        for (id, cells) in (0..).zip(&mut self.series) {
            let Some((first, _)) = cells.rolling.first_key_value() else { continue };
            let floor = floor(id);
            if *first >= floor {
                continue;
            }
            while cells.rolling.first_key_value().is_some_and(|(first, _)| *first < floor) {
                cells.rolling.pop_first();
                gone += 1;
            }
        }
        self.rolling -= gone;
        gone
    }

    /// Drops what is needed least, and of that the oldest, until at most `max` rolling cells are left; tells of each series of
    /// which any went the last bucket that did. Returns how many cells went.
    pub(crate) fn shrink(&mut self, max: usize, need: impl Fn(u32) -> Need, mut gone: impl FnMut(u32, u64)) -> usize {
        if self.rolling <= max {
            return 0;
        }
        let mut counted: [BTreeMap<u64, usize>; RANKS] = Default::default();
        for (id, cells) in (0..).zip(&self.series) {
            if cells.rolling.is_empty() {
                continue;
            }
            let need = need(id);
            for bucket in cells.rolling.keys() {
                *counted[need.rank(*bucket)].entry(*bucket).or_default() += 1;
            }
        }
        let cuts = Cuts::of(counted, self.rolling - max);
        let before = self.rolling;
        for (id, cells) in (0..).zip(&mut self.series) {
            let need = if cells.rolling.is_empty() { continue } else { need(id) };
            let mut last = None;
            cells.rolling.retain(|bucket, _| {
                let goes = cuts.take(need, *bucket);
                last = if goes { Some(*bucket) } else { last };
                self.rolling -= usize::from(goes);
                !goes
            });
            if let Some(last) = last {
                gone(id, last);
            }
        }
        before - self.rolling
    }
}
