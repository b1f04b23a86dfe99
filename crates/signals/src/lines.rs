//! Which template a log line is counted under: what skeletons were found to be, the bound of templates, and what becomes
//! of templates beyond it.
//!
//! *Invariants.* What is remembered is never needed: a line is counted under the same template whether its skeleton is
//! remembered or not. Lines of `{other}` are not remembered, because they may find a template later.
//!
//! *Cost.* 160 KiB. A line beyond the bound costs one sum for each word, and for each pair of words where it has up to
//! [`GENERAL_WORDS_MAX`] of them.

use plimsoll_model::UnixNanos;
use plimsoll_model::log::Level;
use plimsoll_model::template::{VARIABLE, append_spelt, group, join};
use xxhash_rust::xxh3::xxh3_64;

use crate::intern::FixedMap;
use crate::limits::OTHER;
use crate::quality::Word;
use crate::registry::Service;
use crate::resources::Emitter;
use crate::sides::LogId;
use crate::state::SignalState;

/// Hash that stands for the template `{other}`.
pub(crate) const OTHER_TEMPLATE: u64 = 0;

/// Templates of a service are not put together more often than this, in nanoseconds of the watermark.
const CONSOLIDATE_NS: u64 = 60_000_000_000;
/// Longer templates are not looked for among those with more varying words.
const GENERAL_WORDS_MAX: usize = 24;

/// One record, as far as its template goes.
pub(crate) struct Line<'a> {
    pub(crate) emitter: Emitter,
    pub(crate) level: Level,
    pub(crate) text: &'a str,
    pub(crate) bucket: u64,
    pub(crate) at: u64,
    pub(crate) received: u64,
    pub(crate) trace: Option<u128>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Hash of the skeleton, of the version and of the level.
    key: u128,
    /// When the template was first seen: an earlier line has to say so.
    first: u64,
    /// Of the series among logs.
    place: u32,
}

/// Skeletons met of late: one place a key, the newest stays.
pub(crate) struct KnownLines {
    slots: Vec<Slot>,
    epoch: u64,
}

impl KnownLines {
    const SLOTS: usize = 4_096;
    /// Matches no line, because none is early enough.
    const FREE: Slot = Slot { key: 0, first: u64::MAX, place: 0 };

    pub(crate) fn new() -> Self {
        Self { slots: vec![Self::FREE; Self::SLOTS], epoch: 0 }
    }

    /// Returns where a line of this skeleton is counted.
    pub(crate) fn get(&self, key: u128, at: u64) -> Option<u32> {
        let slot = &self.slots[key as usize % Self::SLOTS];
        (slot.key == key && at >= slot.first).then_some(slot.place)
    }

    fn put(&mut self, key: u128, first: u64, place: u32) {
        self.slots[key as usize % Self::SLOTS] = Slot { key, first, place };
    }

    pub(crate) fn forget(&mut self) {
        self.slots.fill(Self::FREE);
    }

    /// Forgets everything where places were given up since the last call.
    pub(crate) fn keep_up_with(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.forget();
        }
    }
}

/// The number of a template.
pub(crate) fn template_hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes()).max(1)
}

/// Templates by the sum of what their words are worth at their positions: with a word taken for varying the sum changes by
/// that word alone.
#[derive(Default)]
pub(crate) struct BySum(FixedMap<u64, u64>);

/// What a word, known by its hash, is worth at a position.
fn worth(at: usize, word: u64) -> u64 {
    let mixed = (word ^ (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}

fn word_hash(word: &str) -> u64 {
    xxh3_64(word.as_bytes())
}

impl BySum {
    pub(crate) fn insert(&mut self, text: &str, template: u64) {
        let sum =
            text.split(' ').enumerate().fold(0_u64, |sum, (at, word)| sum.wrapping_add(worth(at, word_hash(word))));
        self.0.insert(sum, template);
    }

    /// Finds a known template that this one is an instance of, with one or two more words varying.
    fn generalised(&self, text: &str, known: impl Fn(u64) -> bool) -> Option<(String, u64)> {
        let words: Vec<&str> = text.split(' ').collect();
        if self.0.is_empty() || words.len() > GENERAL_WORDS_MAX {
            return None;
        }
        let variable = word_hash(VARIABLE);
        let hashes: Vec<u64> = words.iter().map(|word| word_hash(word)).collect();
        let sum = hashes.iter().enumerate().fold(0_u64, |sum, (at, word)| sum.wrapping_add(worth(at, *word)));
        let gain: Vec<u64> =
            hashes.iter().enumerate().map(|(at, word)| worth(at, variable).wrapping_sub(worth(at, *word))).collect();
        let varies = |at: usize| hashes.get(at) == Some(&variable);
        // Beside a variable a varying word becomes one with it, and what follows moves up.
        let merges = |at: usize| varies(at) || varies(at + 1) || (at > 0 && varies(at - 1));
        let with = |one: usize, two: usize| {
            let general = || {
                let mut general = words.clone();
                general[one] = VARIABLE;
                general[two] = VARIABLE;
                general
            };
            let sum = if merges(one) || merges(two) || two == one + 1 {
                let mut before = false;
                let mut at = 0;
                hashes.iter().enumerate().fold(0_u64, |sum, (place, word)| {
                    let word = if place == one || place == two { variable } else { *word };
                    if std::mem::replace(&mut before, word == variable) && before {
                        return sum;
                    }
                    at += 1;
                    sum.wrapping_add(worth(at - 1, word))
                })
            } else {
                sum.wrapping_add(gain[one]).wrapping_add(if one == two { 0 } else { gain[two] })
            };
            let template = *self.0.get(&sum)?;
            if !known(template) {
                return None;
            }
            let text = join(&general());
            // Sums of different texts may be equal.
            (template_hash(&text) == template).then_some((text, template))
        };
        let singles = (0..words.len()).find_map(|at| with(at, at));
        singles.or_else(|| (0..words.len()).find_map(|one| (one + 1..words.len()).find_map(|two| with(one, two))))
    }
}

impl SignalState {
    /// Finds where a line is counted, and remembers it; `None` where there is no room.
    pub(crate) fn find_line(&mut self, key: u128, line: &Line<'_>, skeleton: &[u8]) -> Option<u32> {
        let mut text = std::mem::take(&mut self.template_at_hand);
        text.clear();
        append_spelt(skeleton, &mut text);
        let (template, first) = self.template_id(line, &mut text);
        let id = LogId { version: line.emitter.version, level: line.level as u8, template };
        let place = self.sides.logs.place(&id, self.side_limits());
        if let Some(place) = place {
            let spelt = if template == OTHER_TEMPLATE { OTHER } else { &text };
            self.sides.templates.entry(template).or_insert_with(|| spelt.into());
            if template != OTHER_TEMPLATE {
                self.lines.put(key, first.0, place);
            }
        }
        self.template_at_hand = text;
        place
    }

    /// Returns the number of a template and its first sight in the line's version, which is remembered. One that no longer fits is counted under
    /// a template of which it is an instance, where there is one.
    fn template_id(&mut self, line: &Line<'_>, text: &mut String) -> (u64, UnixNanos) {
        // As exact as stored rows are, so that a restart changes nothing.
        let first = UnixNanos(line.at).bucket().start();
        let (id, max) = (line.emitter.service as usize, self.registry.limits.templates_per_service_max);
        let template = template_hash(text);
        let version = self.registry.version_name(line.emitter.version);
        let service = &mut self.registry.service[id];
        if let Some(known) = service.templates.get_mut(&template) {
            return (template, known.note(&version, first));
        }
        if service.templates.len() >= max && self.watermark >= service.consolidated_at + CONSOLIDATE_NS {
            service.consolidated_at = self.watermark;
            self.consolidate(id);
        }
        let service = &mut self.registry.service[id];
        if service.consolidated_at > 0
            && let Some((general, known)) =
                service.by_sum.generalised(text, |hash| service.templates.contains_key(&hash))
        {
            *text = general;
            return (known, service.templates.entry(known).or_default().note(&version, first));
        }
        if service.templates.len() < max {
            service.templates.entry(template).or_default().note(&version, first);
            if service.consolidated_at > 0 {
                service.by_sum.insert(text, template);
            }
            return (template, first);
        }
        service.quality.say(Word::CollapsedLogs, line.received);
        self.registry.counters.other_sides += 1;
        self.registry.crowded = true;
        (OTHER_TEMPLATE, first)
    }

    /// Puts those templates of a service together that differ only in words which turn out to vary.
    fn consolidate(&mut self, service: usize) {
        self.lines.forget();
        let templates = &self.sides.templates;
        let Service { templates: known, by_sum, .. } = &mut self.registry.service[service];
        let mut texts: Vec<(u64, &str)> =
            known.keys().filter_map(|hash| Some((*hash, templates.get(hash)?.as_ref()))).collect();
        texts.sort_unstable_by_key(|(_, text)| *text);
        let groups = group(&texts.iter().map(|(_, text)| *text).collect::<Vec<_>>());
        *by_sum = BySum::default();
        for ((hash, text), general) in texts.into_iter().zip(&groups) {
            let template = if text == general { hash } else { template_hash(general) };
            by_sum.insert(general, template);
            if text != general
                && let Some(firsts) = known.remove(&hash)
            {
                known.entry(template).or_default().merge(&firsts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_under_a_template_with_one_or_two_more_words_varying() {
        let mut known = BySum::default();
        for text in ["user <*> logged in from <*>", "lost <*> of queue main", "<*> is full", "a b c"] {
            known.insert(text, template_hash(text));
        }
        for (line, found) in [
            ("user ann logged in from <*>", Some("user <*> logged in from <*>")),
            ("user ann logged in from home", Some("user <*> logged in from <*>")),
            ("lost contact <*> of queue main", Some("lost <*> of queue main")),
            ("lost all contact of queue main", Some("lost <*> of queue main")),
            ("disk is full", Some("<*> is full")),
            ("a b d", None),
            ("user ann went home", None),
        ] {
            assert_eq!(known.generalised(line, |_| true).map(|(text, _)| text).as_deref(), found, "{line}");
        }
        assert!(known.generalised("disk is full", |_| false).is_none());
    }
}
