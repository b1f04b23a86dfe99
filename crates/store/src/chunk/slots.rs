//! Rows on the way down into lists, maps and structs: which values a leaf has, and its levels.
//!
//! A *slot* is what Parquet counts as a value of a leaf: an item, or the place of one where a list is empty or something is
//! null. An *item* is a slot that is there. The *place* of an item is its number among all items of its level, batches laid
//! end to end, whether they are written or not.
//!
//! *Cost.* Levels that are all equal are one number. A list costs two bytes a slot, four a list and eight a run of its items;
//! something that is null here and there two bytes and four a slot.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::{BooleanBuffer, NullBuffer};
use parquet::errors::{ParquetError, Result};

use super::bits::{hybrid, run, width};

/// Items that follow one another both in their batches and in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Run {
    fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// Appends a run, or makes the last one longer.
pub(crate) fn push(runs: &mut Vec<Run>, start: u32, len: u32) {
    match runs.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.start + last.len == start => last.len += len,
        _ => runs.push(Run { start, len }),
    }
}

/// The places of items, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) enum Places<'a> {
    /// One by one, as a sort leaves rows.
    Each(Cow<'a, [u32]>),
    /// Neighbours together.
    Runs(Cow<'a, [Run]>),
}

impl Places<'_> {
    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Each(places) => places.len(),
            Self::Runs(runs) => runs.iter().map(|run| run.len as usize).sum(),
        }
    }

    /// Visits each.
    #[inline(always)]
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize)) {
        match self {
            Self::Each(places) => places.iter().for_each(|at| visit(*at as usize)),
            Self::Runs(runs) => runs.iter().for_each(|run| run.range().for_each(&mut visit)),
        }
    }

    /// Appends the values at these places.
    pub(super) fn gather<T: Copy>(&self, from: &[T], to: &mut Vec<T>) {
        match self {
            Self::Each(places) => to.extend(places.iter().map(|at| from[*at as usize])),
            Self::Runs(runs) => runs.iter().for_each(|run| to.extend_from_slice(&from[run.range()])),
        }
    }

    fn borrowed(&self) -> Places<'_> {
        match self {
            Self::Each(places) => Places::Each(Cow::Borrowed(places)),
            Self::Runs(runs) => Places::Runs(Cow::Borrowed(runs)),
        }
    }
}

/// The levels of all slots.
#[derive(Clone)]
enum Levels {
    All(u8),
    Each(Arc<Vec<u8>>),
}

impl Levels {
    fn get(&self, slot: usize) -> u8 {
        match self {
            Self::All(level) => *level,
            Self::Each(levels) => levels[slot],
        }
    }
}

/// Where a page may begin: as many slots and items stand before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) slot: usize,
    pub(super) item: usize,
}

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) from: Cut,
    pub(super) to: Cut,
    pub(super) rows: usize,
}

impl Page {
    pub(super) fn slots(self) -> usize {
        self.to.slot - self.from.slot
    }

    pub(super) fn items(self) -> Range<usize> {
        self.from.item..self.to.item
    }

    /// Slots, rows and slots that are no items.
    pub(super) fn counts(self) -> (usize, usize, usize) {
        (self.slots(), self.rows, self.slots() - self.items().len())
    }
}

/// What a descent has come to.
pub(super) struct Slots<'a> {
    pub(super) places: Places<'a>,
    pub(super) items: usize,
    pub(super) slots: usize,
    rows: usize,
    repetition: Levels,
    definition: Levels,
    max_repetition: u8,
    max_definition: u8,
    /// Every so many rows, the beginning and the end included.
    cuts: Vec<Cut>,
}

/// Rows between two places where pages may begin.
const CUT_ROWS: usize = 8_192;
/// A page whose slots take so many bytes on average is cut at every opportunity.
const WIDE: usize = 64;
/// A page of more bytes is cut between any two rows.
const PAGE_BYTES: usize = 1 << 20;

impl<'a> Slots<'a> {
    pub(super) fn rows(places: &'a Places<'_>) -> Self {
        let rows = places.len();
        let cuts = (0..rows).step_by(CUT_ROWS).chain([rows]).map(|row| Cut { slot: row, item: row });
        Slots {
            places: places.borrowed(),
            items: rows,
            slots: rows,
            rows,
            repetition: Levels::All(0),
            definition: Levels::All(0),
            max_repetition: 0,
            max_definition: 0,
            cuts: cuts.collect(),
        }
    }

    /// Says that a chunk is to be compressed whatever its first page says: most of its items come later.
    pub(super) fn late(&self) -> Option<bool> {
        let first = self.cuts[2.min(self.cuts.len() - 1)];
        (first.item * 8 < first.slot && first.item < self.items).then_some(true)
    }

    /// Says whether slots are rows.
    pub(super) fn is_flat(&self) -> bool {
        self.max_repetition == 0
    }

    /// Says whether slots are the rows themselves.
    pub(super) fn are_rows(&self) -> bool {
        self.max_repetition == 0 && self.max_definition == 0
    }

    /// Descends into something that may be null and is nowhere or everywhere; `nulls` are the length and the nulls of each batch. None
    /// where it is null here and there.
    pub(super) fn all_or_none(&self, nulls: &[(usize, Option<NullBuffer>)]) -> Option<Slots<'_>> {
        let below = |places, items, definition, cuts| Slots {
            places,
            items,
            slots: self.slots,
            rows: self.rows,
            repetition: self.repetition.clone(),
            definition,
            max_repetition: self.max_repetition,
            max_definition: self.max_definition + 1,
            cuts,
        };
        let missing: usize = nulls.iter().map(|(_, nulls)| nulls.as_ref().map_or(0, NullBuffer::null_count)).sum();
        if self.items == 0 || missing == 0 {
            let definition = match &self.definition {
                // Where nothing is an item, as in lists that are all empty, nothing is deeper.
                Levels::All(level) => Levels::All(level + u8::from(*level == self.max_definition)),
                Levels::Each(levels) => {
                    let deeper = |level: &u8| level + u8::from(*level == self.max_definition);
                    Levels::Each(Arc::new(levels.iter().map(deeper).collect()))
                }
            };
            return Some(below(self.places.borrowed(), self.items, definition, self.cuts.clone()));
        }
        (missing == nulls.iter().map(|(length, _)| length).sum::<usize>()).then(|| {
            let cuts = self.cuts.iter().map(|cut| Cut { slot: cut.slot, item: 0 });
            below(Places::Runs(Cow::Owned(Vec::new())), 0, self.definition.clone(), cuts.collect())
        })
    }

    /// Descends into something that is null here and there.
    pub(super) fn optional(&self, nulls: &[(usize, Option<NullBuffer>)], valid: &mut Vec<u8>) -> Slots<'static> {
        valid.clear();
        for (length, nulls) in nulls {
            match nulls {
                Some(nulls) if nulls.null_count() > 0 => spread(nulls.inner(), valid),
                _ => valid.resize(valid.len() + length, 1),
            }
        }
        // For each item whether it is there; those that are move up.
        let mut there = Vec::with_capacity(self.items);
        self.places.gather(valid, &mut there);
        let mut places = vec![0_u32; self.items];
        let mut kept = 0;
        let mut item = 0;
        self.places.for_each(|at| {
            places[kept] = at as u32;
            kept += there[item] as usize;
            item += 1;
        });
        places.truncate(kept);
        let mut cuts = Vec::with_capacity(self.cuts.len());
        let (mut before, mut at) = (0, 0);
        for cut in &self.cuts {
            before += there[at..cut.item].iter().map(|there| *there as usize).sum::<usize>();
            at = cut.item;
            cuts.push(Cut { slot: cut.slot, item: before });
        }
        let definition = match &self.definition {
            Levels::All(level) => {
                there.iter_mut().for_each(|there| *there += level);
                there
            }
            Levels::Each(levels) => {
                let mut there = there.into_iter();
                let deeper = |level: &u8| match *level == self.max_definition {
                    true => level + there.next().unwrap_or(0),
                    false => *level,
                };
                levels.iter().map(deeper).collect()
            }
        };
        Slots {
            places: Places::Each(Cow::Owned(places)),
            items: kept,
            slots: self.slots,
            rows: self.rows,
            repetition: self.repetition.clone(),
            definition: Levels::Each(Arc::new(definition)),
            max_repetition: self.max_repetition,
            max_definition: self.max_definition + 1,
            cuts,
        }
    }

    /// Descends into lists; `offsets` are those of each batch.
    ///
    /// # Errors
    /// There are more items than numbers of 32 bits.
    pub(super) fn repeated(&self, offsets: &[&[i32]]) -> Result<Slots<'static>> {
        let (max_repetition, max_definition) = (self.max_repetition + 1, self.max_definition + 1);
        let lists: usize = offsets.iter().map(|offsets| offsets.len().saturating_sub(1)).sum();
        // Where the items of each list begin: all but the last number; and where they end: all but the first.
        let mut ends: Vec<u32> = Vec::with_capacity(lists + 1);
        ends.push(0);
        for offsets in offsets {
            let (base, first) = (ends[ends.len() - 1], offsets.first().copied().unwrap_or(0));
            let all = offsets.last().map_or(0, |last| (last - first) as u32);
            base.checked_add(all).ok_or_else(|| ParquetError::General("lists have too many items".to_owned()))?;
            ends.extend(offsets.iter().skip(1).map(|offset| base + (offset - first) as u32));
        }
        let mut runs = Vec::new();
        let (mut items, mut filled) = (0, 0);
        if ends[ends.len() - 1] > 0 {
            self.places.for_each(|at| {
                let (from, to) = (ends[at], ends[at + 1]);
                push(&mut runs, from, to - from);
                items += (to - from) as usize;
                filled += usize::from(to > from);
            });
        }
        let places = Places::Runs(Cow::Owned(runs));
        if items == 0 {
            return Ok(Slots {
                places,
                items,
                slots: self.slots,
                rows: self.rows,
                repetition: self.repetition.clone(),
                definition: self.definition.clone(),
                max_repetition,
                max_definition,
                cuts: self.cuts.iter().map(|cut| Cut { slot: cut.slot, item: 0 }).collect(),
            });
        }

        // Most slots are items behind the first of a list: only others are written one by one.
        let slots = self.slots - filled + items;
        let mut levels = Lists {
            repetition: vec![max_repetition; slots],
            definition: vec![max_definition; slots],
            there: self.max_definition,
            at: Cut { slot: 0, item: 0 },
        };
        let mut lengths = Vec::with_capacity(self.items);
        self.places.for_each(|at| lengths.push(ends[at + 1] - ends[at]));
        let mut lengths = lengths.as_slice();
        let mut cuts = Vec::with_capacity(self.cuts.len());
        let mut from = 0;
        for cut in &self.cuts {
            let range = from..cut.slot;
            match (&self.repetition, &self.definition) {
                (Levels::All(first), Levels::All(level)) => levels.fill(range, |_| *first, |_| *level, &mut lengths),
                (Levels::All(first), Levels::Each(each)) => levels.fill(range, |_| *first, |at| each[at], &mut lengths),
                (first, each) => levels.fill(range, |at| first.get(at), |at| each.get(at), &mut lengths),
            }
            from = cut.slot;
            cuts.push(levels.at);
        }
        Ok(Slots {
            places,
            items,
            slots,
            rows: self.rows,
            repetition: Levels::Each(Arc::new(levels.repetition)),
            definition: Levels::Each(Arc::new(levels.definition)),
            max_repetition,
            max_definition,
            cuts,
        })
    }

    /// Says whether every slot is an item, so that levels take no room to speak of.
    pub(super) fn is_plain(&self) -> bool {
        matches!((&self.repetition, &self.definition), (Levels::All(_), Levels::All(_)))
    }

    /// Returns the pages of a leaf whose items take `bytes` together and `size` each, by their number in the file: at the same rows in
    /// every column, but for pages that would be too large.
    pub(super) fn pages(&self, bytes: usize, size: impl Fn(usize) -> usize) -> Vec<Page> {
        let step = if bytes / self.slots.max(1) > WIDE { 1 } else { 2 };
        let last = self.cuts.len() - 1;
        let row = |cut: usize| self.rows.min(cut * CUT_ROWS);
        let mut pages = Vec::with_capacity(last.div_ceil(step));
        for at in (0..last).step_by(step) {
            let end = (at + step).min(last);
            let page = Page { from: self.cuts[at], to: self.cuts[end], rows: row(end) - row(at) };
            if bytes > PAGE_BYTES && page.items().map(&size).sum::<usize>() > PAGE_BYTES {
                self.split(page, &size, &mut pages);
            } else {
                pages.push(page);
            }
        }
        pages
    }

    /// Cuts a page where a row begins, as soon as enough stands before it.
    fn split(&self, page: Page, size: impl Fn(usize) -> usize, pages: &mut Vec<Page>) {
        let (mut from, mut item, mut rows, mut bytes) = (page.from, page.from.item, 0, 0);
        for slot in page.from.slot..page.to.slot {
            if self.repetition.get(slot) == 0 {
                if bytes >= PAGE_BYTES {
                    let to = Cut { slot, item };
                    pages.push(Page { from, to, rows });
                    (from, rows, bytes) = (to, 0, 0);
                }
                rows += 1;
            }
            if self.definition.get(slot) == self.max_definition {
                bytes += size(item);
                item += 1;
            }
        }
        pages.push(Page { from, to: page.to, rows });
    }

    /// Appends both kinds of levels of the slots of a page, as a data page of the first version has them.
    pub(super) fn levels(&self, page: Page, out: &mut Vec<u8>) {
        for (levels, max) in [(&self.repetition, self.max_repetition), (&self.definition, self.max_definition)] {
            if max == 0 {
                continue;
            }
            let begin = out.len();
            out.extend_from_slice(&[0; 4]);
            let width = width(u32::from(max));
            match levels {
                Levels::All(level) => run(u32::from(*level), page.slots(), width, out),
                Levels::Each(levels) => hybrid(&levels[page.from.slot..page.to.slot], width, out),
            }
            let length = (out.len() - begin - 4) as u32;
            out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// The levels of lists while they are written: those of items that do not begin a list stand already.
struct Lists {
    repetition: Vec<u8>,
    definition: Vec<u8>,
    /// The definition level of a list that is there.
    there: u8,
    at: Cut,
}

impl Lists {
    /// Writes the lists that are in some slots, which have the levels `first` and `level`; `lengths` are those of lists that are there.
    #[inline(always)]
    fn fill(
        &mut self,
        slots: Range<usize>,
        first: impl Fn(usize) -> u8,
        level: impl Fn(usize) -> u8,
        lengths: &mut &[u32],
    ) {
        for slot in slots {
            self.repetition[self.at.slot] = first(slot);
            let mut length = 0;
            if level(slot) == self.there
                && let Some((next, rest)) = lengths.split_first()
            {
                (length, *lengths) = (*next as usize, rest);
            }
            if length == 0 {
                self.definition[self.at.slot] = level(slot);
            }
            self.at = Cut { slot: self.at.slot + length.max(1), item: self.at.item + length };
        }
    }
}

/// Appends bits, each as a byte.
pub(super) fn spread(bits: &BooleanBuffer, out: &mut Vec<u8>) {
    /// The bits of every byte as bytes, the lowest first.
    const BYTES: [u64; 256] = {
        let mut bytes = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut bit = 0;
            while bit < 8 {
                bytes[byte] |= ((byte >> bit & 1) as u64) << (8 * bit);
                bit += 1;
            }
            byte += 1;
        }
        bytes
    };
    let chunks = bits.bit_chunks();
    for word in chunks.iter() {
        word.to_le_bytes().iter().for_each(|byte| out.extend_from_slice(&BYTES[*byte as usize].to_le_bytes()));
    }
    let rest = chunks.remainder_bits();
    out.extend((0..chunks.remainder_len()).map(|bit| (rest >> bit & 1) as u8));
}
