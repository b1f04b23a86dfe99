//! Rows on the way down into lists, maps and structs: which values a leaf has, and its levels.
//!
//! A *slot* is what Parquet counts as a value of a leaf: an item, or the place of one where a list is empty or something is
//! null. An *item* is a slot that is there. Items are named by runs, so that neighbours in a batch stay neighbours and are
//! copied as one.
//!
//! *Cost.* Levels that are all equal are one number. A list costs two bytes a slot, its values twelve bytes a run.

use std::borrow::Cow;
use std::rc::Rc;

use arrow::buffer::NullBuffer;

use super::bits::{hybrid, run, width};

/// Rows or items of one batch that follow each other there and in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) batch: u32,
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// Appends a run, or makes the last one longer.
pub(crate) fn push(runs: &mut Vec<Run>, batch: u32, start: u32, len: u32) {
    match runs.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.batch == batch && last.start + last.len == start => last.len += len,
        _ => runs.push(Run { batch, start, len }),
    }
}

/// The levels of all slots.
#[derive(Clone)]
enum Levels {
    All(u8),
    Each(Rc<Vec<u8>>),
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

/// What a descent has come to.
pub(super) struct Slots<'a> {
    pub(super) runs: Cow<'a, [Run]>,
    pub(super) items: usize,
    pub(super) slots: usize,
    rows: usize,
    repetition: Levels,
    definition: Levels,
    max_repetition: u8,
    max_definition: u8,
    /// Every so many rows, the beginning and the end included.
    pub(super) cuts: Vec<Cut>,
}

/// Rows between two places where pages may begin.
pub(super) const CUT_ROWS: usize = 8_192;

impl<'a> Slots<'a> {
    pub(super) fn rows(runs: &'a [Run]) -> Self {
        let rows = runs.iter().map(|run| run.len as usize).sum();
        let cuts = (0..rows).step_by(CUT_ROWS).chain([rows]).map(|row| Cut { slot: row, item: row });
        Slots {
            runs: Cow::Borrowed(runs),
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

    /// Returns how many rows stand before a cut.
    pub(super) fn row_of(&self, cut: usize) -> usize {
        self.rows.min(cut * CUT_ROWS)
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

    /// Descends into something that may be null; `nulls` are those of each batch.
    pub(super) fn optional(&self, nulls: &[Option<NullBuffer>]) -> Slots<'_> {
        let present = |run: &Run| nulls[run.batch as usize].as_ref().is_none_or(|nulls| nulls.null_count() == 0);
        let absent = |run: &Run| nulls[run.batch as usize].as_ref().is_some_and(|n| n.null_count() == n.len());
        let below = |runs, items, definition, cuts| Slots {
            runs,
            items,
            slots: self.slots,
            rows: self.rows,
            repetition: self.repetition.clone(),
            definition,
            max_repetition: self.max_repetition,
            max_definition: self.max_definition + 1,
            cuts,
        };
        if self.runs.iter().all(present) {
            let definition = match &self.definition {
                // Where nothing is an item, as in lists that are all empty, nothing is deeper.
                Levels::All(level) => Levels::All(level + u8::from(*level == self.max_definition)),
                Levels::Each(levels) => {
                    let deeper = |level: &u8| level + u8::from(*level == self.max_definition);
                    Levels::Each(Rc::new(levels.iter().map(deeper).collect()))
                }
            };
            return below(Cow::Borrowed(&self.runs), self.items, definition, self.cuts.clone());
        }
        if self.runs.iter().all(absent) {
            let cuts = self.cuts.iter().map(|cut| Cut { slot: cut.slot, item: 0 });
            return below(Cow::Owned(Vec::new()), 0, self.definition.clone(), cuts.collect());
        }

        let mut valid = Vec::with_capacity(self.items);
        let mut runs = Vec::new();
        for run in self.runs.iter() {
            let (from, to) = (run.start as usize, (run.start + run.len) as usize);
            match &nulls[run.batch as usize] {
                Some(nulls) if nulls.null_count() > 0 => {
                    for at in from..to {
                        let is_valid = nulls.is_valid(at);
                        valid.push(u8::from(is_valid));
                        push(&mut runs, run.batch, at as u32, u32::from(is_valid));
                    }
                }
                _ => {
                    valid.resize(valid.len() + run.len as usize, 1);
                    push(&mut runs, run.batch, run.start, run.len);
                }
            }
        }
        let mut cuts = Vec::with_capacity(self.cuts.len());
        let (mut item, mut kept) = (0, 0);
        for cut in &self.cuts {
            kept += valid[item..cut.item].iter().map(|valid| usize::from(*valid)).sum::<usize>();
            item = cut.item;
            cuts.push(Cut { slot: cut.slot, item: kept });
        }
        let definition = match &self.definition {
            Levels::All(level) if *level == self.max_definition => {
                valid.iter_mut().for_each(|valid| *valid += level);
                valid
            }
            Levels::All(level) => vec![*level; self.slots],
            Levels::Each(levels) => {
                let mut valid = valid.into_iter();
                let deeper = |level: &u8| match *level == self.max_definition {
                    true => level + valid.next().expect("every item was looked at"),
                    false => *level,
                };
                levels.iter().map(deeper).collect()
            }
        };
        below(Cow::Owned(runs), kept, Levels::Each(Rc::new(definition)), cuts)
    }

    /// Descends into lists; `offsets` are those of each batch.
    pub(super) fn repeated(&self, offsets: &[&[i32]]) -> Slots<'static> {
        let (max_repetition, max_definition) = (self.max_repetition + 1, self.max_definition + 1);
        let mut runs = Vec::new();
        let mut items = 0;
        for run in self.runs.iter() {
            let offsets = offsets[run.batch as usize];
            let (from, to) = (offsets[run.start as usize], offsets[(run.start + run.len) as usize]);
            push(&mut runs, run.batch, from as u32, (to - from) as u32);
            items += (to - from) as usize;
        }
        if items == 0 {
            return Slots {
                runs: Cow::Owned(runs),
                items,
                slots: self.slots,
                rows: self.rows,
                repetition: self.repetition.clone(),
                definition: self.definition.clone(),
                max_repetition,
                max_definition,
                cuts: self.cuts.iter().map(|cut| Cut { slot: cut.slot, item: 0 }).collect(),
            };
        }

        let mut repetition = Vec::with_capacity(self.slots + items);
        let mut definition = Vec::with_capacity(self.slots + items);
        let mut cuts = Vec::with_capacity(self.cuts.len());
        let mut lengths = self.runs.iter().flat_map(|run| {
            let from = run.start as usize;
            offsets[run.batch as usize][from..=from + run.len as usize]
                .windows(2)
                .map(|pair| (pair[1] - pair[0]) as usize)
        });
        let mut begun = 0;
        let mut pages = self.cuts.iter().peekable();
        for slot in 0..self.slots {
            if pages.next_if(|cut| cut.slot == slot).is_some() {
                cuts.push(Cut { slot: repetition.len(), item: begun });
            }
            let (first, level) = (self.repetition.get(slot), self.definition.get(slot));
            let length = if level == self.max_definition { lengths.next().unwrap_or(0) } else { 0 };
            repetition.push(first);
            if length == 0 {
                definition.push(level);
                continue;
            }
            begun += length;
            repetition.resize(repetition.len() + length - 1, max_repetition);
            definition.resize(definition.len() + length, max_definition);
        }
        let slots = repetition.len();
        cuts.extend(pages.map(|_| Cut { slot: slots, item: begun }));
        Slots {
            runs: Cow::Owned(runs),
            items,
            slots,
            rows: self.rows,
            repetition: Levels::Each(Rc::new(repetition)),
            definition: Levels::Each(Rc::new(definition)),
            max_repetition,
            max_definition,
            cuts,
        }
    }

    /// Says whether every slot is an item, so that levels take no room to speak of.
    pub(super) fn is_plain(&self) -> bool {
        matches!((&self.repetition, &self.definition), (Levels::All(_), Levels::All(_)))
    }

    /// Appends both kinds of levels of the slots between two cuts, as a data page of the first version has them.
    pub(super) fn levels(&self, from: Cut, to: Cut, out: &mut Vec<u8>) {
        for (levels, max) in [(&self.repetition, self.max_repetition), (&self.definition, self.max_definition)] {
            if max == 0 {
                continue;
            }
            let begin = out.len();
            out.extend_from_slice(&[0; 4]);
            let width = width(u32::from(max));
            match levels {
                Levels::All(level) => run(u32::from(*level), to.slot - from.slot, width, out),
                Levels::Each(levels) => hybrid(&levels[from.slot..to.slot], width, out),
            }
            let length = (out.len() - begin - 4) as u32;
            out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        }
    }
}
